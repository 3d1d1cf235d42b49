//! The DNS forwarder between clients and servers that say anything.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use dns::{
    Client, Disposition, Forwarder, ForwarderConfig, Framer, Name, Transport, UpstreamOrigin,
    UpstreamRequest,
};
use packet::{Endpoint, Instant, LinkId};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{Input, STEPS_MAX};

const SERVER: Endpoint = Endpoint::new(Ipv4Addr::new(203, 0, 113, 53), 53);

/// A query for the address of `www.example.com`.
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
    \x03www\x07example\x03com\x00\x00\x01\x00\x01";
const HEADER_LEN: usize = 12;

fn forwarder() -> Forwarder {
    let domain = Name::from_str("home.arpa").expect("a domain name");
    let mut config = ForwarderConfig::new(vec![SERVER], domain);
    config.local_networks = vec!["10.0.1.0/24".parse().expect("a prefix")];
    let mut dns = Forwarder::new(config, StdRng::seed_from_u64(7));
    let web = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 5));
    dns.insert_host("web", web, Duration::from_secs(60)).expect("room for a host");
    dns
}

fn client(token: u64) -> Client {
    Client { link: LinkId(1), address: Ipv4Addr::new(10, 0, 1, 9), token }
}

/// Asks a forwarder whatever the bytes are, and waits for all that it owes.
///
/// **Shape**: queries, each a byte for the transport and a chunk.
///
/// # Panics
/// If an accepted query is not answered exactly once with its id.
pub fn dns_query(data: &[u8]) {
    let mut dns = forwarder();
    let now = Instant::from_secs(1000);
    let mut input = Input(data);
    let mut owed = Vec::new();
    for token in 0..STEPS_MAX as u64 {
        if input.is_empty() {
            break;
        }
        let transport = if input.u8() & 1 == 0 { Transport::Udp } else { Transport::Tcp };
        let message = input.chunk();
        if dns.handle_query(client(token), transport, message, now) == Disposition::Accepted {
            owed.push((token, message[..2].to_vec()));
        }
        take_replies(&mut dns, &mut owed);
        while dns.poll_upstream().is_some() || dns.poll_port_released().is_some() {}
    }
    for second in 1..=30 {
        dns.handle_timeout(now + Duration::from_secs(second));
        take_replies(&mut dns, &mut owed);
        while dns.poll_upstream().is_some() || dns.poll_port_released().is_some() {}
    }
    assert!(owed.is_empty() && dns.outstanding() == 0, "{owed:?}");
}

fn take_replies(dns: &mut Forwarder, owed: &mut Vec<(u64, Vec<u8>)>) {
    while let Some(reply) = dns.poll_reply() {
        let index = owed.iter().position(|(token, _)| *token == reply.client.token);
        let (_, id) = owed.swap_remove(index.expect("a reply that nobody is owed"));
        assert_eq!(reply.message[..2], id);
    }
}

/// Answers a forwarder's questions with whatever the bytes are.
///
/// **Shape**: answers. Bits of a byte say whether the right id, question, port and server are filled in and whether
/// it comes by TCP; the rest is a chunk, which also goes through a [`Framer`].
///
/// # Panics
/// If a client is answered twice or never, or the framer loses octets.
pub fn dns_upstream(data: &[u8]) {
    let mut dns = forwarder();
    let mut now = Instant::from_secs(1000);
    let mut owed = Vec::new();
    let mut input = Input(data);
    for token in 0..STEPS_MAX as u64 {
        if input.is_empty() {
            break;
        }
        now += Duration::from_secs(u64::from(input.u8()));
        dns.handle_timeout(now);
        take_replies(&mut dns, &mut owed);
        if dns.handle_query(client(token), Transport::Tcp, QUERY, now) == Disposition::Accepted {
            owed.push((token, QUERY[..2].to_vec()));
        }
        let asked = std::iter::from_fn(|| dns.poll_upstream()).last();
        let (flags, chunk) = (input.u8(), input.chunk());
        unframe(chunk);
        if let Some(asked) = asked {
            let (origin, message) = answer(&asked, flags, chunk);
            dns.handle_upstream(origin, &message, now);
        }
        take_replies(&mut dns, &mut owed);
        while dns.poll_port_released().is_some() {}
    }
    for second in 1..=30 {
        dns.handle_timeout(now + Duration::from_secs(second));
        take_replies(&mut dns, &mut owed);
        while dns.poll_upstream().is_some() || dns.poll_port_released().is_some() {}
    }
    assert!(owed.is_empty() && dns.outstanding() == 0, "{owed:?}");
}

fn answer(asked: &UpstreamRequest, flags: u8, chunk: &[u8]) -> (UpstreamOrigin, Vec<u8>) {
    let (origin, query) = match asked {
        UpstreamRequest::Udp { source_port, server, message } => {
            let source_port = source_port.wrapping_add(u16::from(flags & 4 != 0));
            (UpstreamOrigin::Udp { source_port, server: *server }, message)
        }
        UpstreamRequest::Tcp { server, message } => {
            (UpstreamOrigin::Tcp { server: *server }, message)
        }
    };
    let origin = if flags & 8 != 0 { UpstreamOrigin::Tcp { server: SERVER } } else { origin };
    let mut message = chunk.to_vec();
    if flags & 1 != 0 && message.len() >= 2 {
        message[..2].copy_from_slice(&query[..2]);
    }
    if flags & 2 != 0 && message.len() >= HEADER_LEN {
        let question = QUERY.len() - HEADER_LEN;
        let rest = message.split_off(HEADER_LEN);
        message.extend_from_slice(&query[HEADER_LEN..HEADER_LEN + question]);
        message.extend(rest);
    }
    (origin, message)
}

/// A stream cut at its middle yields the same messages as in one piece.
fn unframe(stream: &[u8]) {
    let messages = |pieces: &[&[u8]]| {
        let mut framer = Framer::new();
        let mut messages = Vec::new();
        for piece in pieces {
            assert_eq!(framer.push(piece), piece.len());
            while let Some(message) = framer.pop() {
                messages.push(message.to_vec());
            }
        }
        messages
    };
    let (front, back) = stream.split_at(stream.len() / 2);
    assert_eq!(messages(&[stream]), messages(&[front, back]));
}
