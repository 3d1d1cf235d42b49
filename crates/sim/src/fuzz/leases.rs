//! The DHCP machines against a peer that says anything.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::Now;
use dhcp::client::{Client, ClientConfig, ConflictProbe};
use dhcp::frame::{self, Addressing, FRAME_MAX, MESSAGE_MAX};
use dhcp::server::{Reservation, Server, ServerConfig};
use packet::{Instant, MacAddr};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{Input, STEPS_MAX, router_mac};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const EPOCH: u64 = 1_700_000_000;

/// Deadlines that may be met in one span of time. More would mean a machine that never rests.
const DEADLINES_MAX: usize = 10_000;

/// Offsets of RFC 2131 §2, figure 1.
const XID: std::ops::Range<usize> = 4..8;
const CHADDR: std::ops::Range<usize> = 28..34;

fn at(instant: Instant) -> Now {
    Now::new(instant, EPOCH + instant.as_secs())
}

/// Sends messages, ARP sightings and time to a server.
///
/// **Shape**: steps. A byte says which: a frame, a message (both a chunk), a sighting, or time in seconds.
///
/// # Panics
/// If the server never rests, hands out what it may not, or sends what is no datagram.
pub fn dhcp_server(data: &[u8]) {
    let subnet = "10.0.1.0/28".parse().expect("a prefix");
    let (first, last) = (Ipv4Addr::new(10, 0, 1, 4), Ipv4Addr::new(10, 0, 1, 9));
    let config = ServerConfig {
        pools: vec![(first, last)],
        reservations: vec![Reservation {
            mac: MacAddr([6, 0, 0, 0, 0, 5]),
            address: Ipv4Addr::new(10, 0, 1, 12),
            name: Some("web".to_owned()),
        }],
        domain: Some("home.arpa".to_owned()),
        ..ServerConfig::new("home".to_owned(), router_mac(1), ROUTER, subnet)
    };
    let mut now = at(Instant::from_secs(1000));
    let mut server = Server::new(config, [], now);
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.u8() & 3 {
            0 => server.handle_frame(input.chunk(), now),
            1 => {
                let from = Ipv4Addr::new(10, 0, 1, input.u8() & 15);
                let source = if from.octets()[3] == 0 { Ipv4Addr::UNSPECIFIED } else { from };
                let frame = to_server(source, input.chunk());
                server.handle_frame(&frame, now);
            }
            2 => {
                let sender = Ipv4Addr::new(10, 0, 1, input.u8() & 15);
                server.handle_arp(sender, MacAddr([6, 0, 0, 0, 0, input.u8()]), now);
            }
            _ => {
                let end = now.instant + Duration::from_secs(input.u16().into());
                turn(&mut now, end, &mut server, Server::poll_timeout, Server::handle_timeout);
            }
        }
        while server.poll_store().is_some() || server.poll_event().is_some() {}
        drain(|buffer| server.poll_transmit(buffer));
        let assignable = |address| address == Ipv4Addr::new(10, 0, 1, 12) || address >= first;
        assert!(server.bindings().all(|binding| assignable(binding.address)));
    }
}

fn to_server(source: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let addressing = Addressing {
        src_mac: MacAddr([6, 0, 0, 0, 0, 5]),
        dst_mac: MacAddr::BROADCAST,
        src: source,
        dst: Ipv4Addr::BROADCAST,
        src_port: frame::CLIENT_PORT,
        dst_port: frame::SERVER_PORT,
    };
    datagram(&addressing, payload)
}

/// Sends messages, ARP sightings, commands and time to a client.
///
/// **Shape**: steps. A byte says which: a frame, an answer to the client's last message (both a chunk), a sighting,
/// time in seconds, or a command.
///
/// # Panics
/// If the client never rests or sends what is neither datagram nor ARP.
pub fn dhcp_client(data: &[u8]) {
    let mut now = at(Instant::from_secs(1000));
    let config = ClientConfig {
        hostname: Some("router".to_owned()),
        conflict_probe: ConflictProbe::FAST,
        ..ClientConfig::new(router_mac(0))
    };
    let mut client = Client::new(config, None, StdRng::seed_from_u64(7));
    client.handle_link_up(now);
    let mut last = Vec::new();
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        while client.poll_store().is_some() || client.poll_event().is_some() {}
        last = drain(|buffer| client.poll_transmit(buffer)).unwrap_or(last);
        if input.is_empty() {
            break;
        }
        match input.u8() & 7 {
            0 => client.handle_frame(input.chunk(), now),
            1 | 2 => client.handle_frame(&to_client(input.chunk(), &last), now),
            3 => {
                let sender = Ipv4Addr::new(198, 51, 100, input.u8());
                client.handle_arp(sender, MacAddr([6, 0, 0, 0, 0, 1]), now);
            }
            4 => client.renew(now),
            5 => client.release(now),
            6 => {
                client.handle_link_down(now);
                client.handle_link_up(now);
            }
            _ => {
                let end = now.instant + Duration::from_secs(input.u16().into());
                turn(&mut now, end, &mut client, Client::poll_timeout, Client::handle_timeout);
            }
        }
    }
}

/// A message with the transaction and the station of what the client said last.
fn to_client(payload: &[u8], last: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if let Some(asked) = frame::parse(last) {
        for field in [XID, CHADDR] {
            if let (Some(ours), Some(theirs)) =
                (payload.get_mut(field.clone()), asked.payload.get(field))
            {
                ours.copy_from_slice(theirs);
            }
        }
    }
    let addressing = Addressing {
        src_mac: MacAddr([6, 0, 0, 0, 0, 1]),
        dst_mac: router_mac(0),
        src: Ipv4Addr::new(198, 51, 100, 1),
        dst: Ipv4Addr::new(198, 51, 100, 2),
        src_port: frame::SERVER_PORT,
        dst_port: frame::CLIENT_PORT,
    };
    datagram(&addressing, &payload)
}

fn datagram(addressing: &Addressing, payload: &[u8]) -> Vec<u8> {
    const HEADERS: usize = FRAME_MAX - MESSAGE_MAX;
    let payload = &payload[..payload.len().min(1472)];
    let mut buffer = vec![0; HEADERS + payload.len()];
    frame::emit(&mut buffer, addressing, payload);
    buffer
}

/// Takes every frame, each of which is a datagram or ARP; returns the last datagram.
fn drain(mut poll: impl FnMut(&mut [u8]) -> Option<usize>) -> Option<Vec<u8>> {
    let mut buffer = [0; FRAME_MAX];
    let mut last = None;
    while let Some(len) = poll(&mut buffer) {
        let frame = &buffer[..len];
        if frame::parse(frame).is_some() {
            last = Some(frame.to_vec());
        } else {
            assert_eq!(frame[12..14], [8, 6], "neither datagram nor ARP");
        }
    }
    last
}

/// Turns the clock of a machine, stopping at every deadline.
fn turn<M>(
    now: &mut Now,
    end: Instant,
    machine: &mut M,
    due: fn(&M) -> Option<Instant>,
    handle: fn(&mut M, Now),
) {
    for _ in 0..DEADLINES_MAX {
        let Some(next) = due(machine).filter(|next| *next <= end) else {
            *now = at(end);
            return;
        };
        *now = at(next.max(now.instant));
        handle(machine, *now);
    }
    panic!("the machine never rests");
}
