//! DNS over TCP, as server and as client.

use std::net::Ipv4Addr;
use std::time::Duration;

use packet::{LinkId, PuntReason};
use smoltcp::socket::tcp::State;

use crate::frames::{A, address, answer, query, see, truncated, udp};
use crate::peer::Peer;
use crate::rig::{DNS, HOME, HOME_ADDRESS, HOST, Rig, STATIC, UPSTREAM};

const SITE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const PRINTER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 20);
/// Connections that the stack serves at a time.
const SERVED: usize = 16;

#[test]
fn queries_on_one_connection_are_each_answered() {
    let mut rig = Rig::new(STATIC);
    let mut host = Peer::new(HOST, HOME);
    let connection = host.connect(HOME_ADDRESS, 40_000);
    host.run(&mut rig);
    for id in 1..=3 {
        host.say(connection, &query(id, "printer.home.arpa", A));
    }
    host.run(&mut rig);
    for id in 1..=3u16 {
        let reply = host.hear(connection).unwrap();
        assert_eq!(reply[..2], id.to_be_bytes());
        assert_eq!(address(&reply), Some(PRINTER));
    }
    host.tcp(connection).close();
    host.run(&mut rig);
    assert_eq!(host.tcp(connection).state(), State::TimeWait, "both sides closed in order");
}

#[test]
fn a_truncated_answer_is_fetched_by_tcp_for_the_client_that_asked_by_tcp() {
    let mut rig = Rig::new(STATIC);
    let mut host = Peer::new(HOST, HOME);
    let mut server = Peer::new(UPSTREAM, LinkId::WAN);
    let listening = server.listen();
    let connection = host.connect(HOME_ADDRESS, 40_000);
    host.run(&mut rig);
    host.say(connection, &query(9, "big.example.com", A));
    host.run(&mut rig);
    if let [packet] = &rig.packets[..]
        && unframed_protocol(packet) == 17
    {
        let asked = see(&rig.packets.remove(0));
        let reply = udp((UPSTREAM, DNS), asked.source, &truncated(&asked.payload));
        rig.punt(PuntReason::Local, LinkId::WAN, &reply);
    }
    server.run(&mut rig);
    assert_eq!(server.tcp(listening).remote_endpoint().unwrap().addr, HOME_ADDRESS.into());
    let asked = server.hear(listening).unwrap();
    server.say(listening, &answer(&asked, SITE));
    server.run(&mut rig);
    host.run(&mut rig);
    assert_eq!(address(&host.hear(connection).unwrap()), Some(SITE));

    rig.advance(Duration::from_secs(11));
    server.run(&mut rig);
    assert_eq!(server.tcp(listening).state(), State::CloseWait, "closed when idle");
}

fn unframed_protocol(frame: &[u8]) -> u8 {
    frame[14 + 9]
}

#[test]
fn more_connections_than_are_served_are_refused_until_one_ends() {
    let mut rig = Rig::new(STATIC);
    let mut host = Peer::new(HOST, HOME);
    let connections: Vec<_> =
        (0..SERVED as u16 + 4).map(|n| host.connect(HOME_ADDRESS, 40_000 + n)).collect();
    host.run(&mut rig);
    let open = |host: &mut Peer| {
        let states = connections.iter().map(|c| host.tcp(*c).state());
        states.filter(|state| *state == State::Established).count()
    };
    assert_eq!(open(&mut host), SERVED);

    host.tcp(connections[0]).close();
    host.run(&mut rig);
    let late = host.connect(HOME_ADDRESS, 50_000);
    host.run(&mut rig);
    assert_eq!(host.tcp(late).state(), State::Established);
    host.say(late, &query(2, "printer.home.arpa", A));
    host.run(&mut rig);
    assert_eq!(address(&host.hear(late).unwrap()), Some(PRINTER));
}

#[test]
fn idle_connections_make_room() {
    let mut rig = Rig::new(STATIC);
    let mut host = Peer::new(HOST, HOME);
    for n in 0..SERVED as u16 {
        host.connect(HOME_ADDRESS, 40_000 + n);
    }
    host.run(&mut rig);
    // They hear that they are closed, and say nothing to that either.
    rig.advance(Duration::from_secs(13));
    let late = host.connect(HOME_ADDRESS, 50_000);
    host.run(&mut rig);
    assert_eq!(host.tcp(late).state(), State::Established);
}

#[test]
fn half_open_connections_make_room() {
    let mut rig = Rig::new(STATIC);
    // Hosts that say SYN and vanish: nobody hears the answers.
    for n in 0..SERVED as u8 {
        let gone = Ipv4Addr::new(10, 0, 1, 100 + n);
        let mut silent = Vec::new();
        etherparse::PacketBuilder::ethernet2([6, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1])
            .ipv4(gone.octets(), HOME_ADDRESS.octets(), 64)
            .tcp(40_000, DNS, 1, 1000)
            .syn()
            .write(&mut silent, &[])
            .unwrap();
        rig.punt(PuntReason::Local, HOME, &silent);
    }
    rig.advance(Duration::from_secs(60));
    rig.forget_outputs();
    let mut host = Peer::new(HOST, HOME);
    let late = host.connect(HOME_ADDRESS, 50_000);
    host.run(&mut rig);
    assert_eq!(host.tcp(late).state(), State::Established);
}
