//! ICMP errors with anything inside, against a router that has sessions.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use packet::header::{ipv4, put_u16, seal_ipv4};
use packet::icmp::embedded;
use packet::{Datagram, IcmpKind, Instant, L4, LinkId, Offload, Parsed, checksum, parse};

use super::{Input, STEPS_MAX};
use crate::bare::Bare;
use crate::lockstep::check;

const SESSIONS: usize = 64;
const HOME: LinkId = LinkId(1);
const GUEST: LinkId = LinkId(2);

const WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const A: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const REMOTE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const MIDDLE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 33);

const STATIONS: [(LinkId, Ipv4Addr); 3] = [(LinkId::WAN, GATEWAY), (HOME, A), (GUEST, B)];
const ADDRESSES: [Ipv4Addr; 6] = [REMOTE, WAN, A, B, MIDDLE, GATEWAY];
/// Those of the sessions, and one of none.
const PORTS: [u16; 5] = [5000, 53, 80, 8080, 77];

const CONFIG: &str = r#"
[wan]
link = "wan0"
mode = "static"
address = "198.51.100.2/24"
gateway = "198.51.100.1"
[[lan]]
name = "home"
link = "lan1"
address = "10.0.1.1/24"
reach = ["guest"]
[[lan]]
name = "guest"
link = "lan2"
address = "10.0.2.1/24"
[[forward]]
protocol = "both"
port = 8080
to = "10.0.2.2:80"
"#;

/// Sends ICMP errors through a router with sessions of every kind.
///
/// **Shape**: errors. Each is a byte (link in bits 0-1, how what is inside is made in bits 2-3, the type in bits 4-5,
/// the code in bits 6-7), source and destination address by index, and then what [`inside`] says.
///
/// # Panics
/// If a buffer is lost, or what leaves has a wrong checksum, opens or ends a session, or shows an inside address to
/// the outside.
pub fn icmp_error(data: &[u8]) {
    let now = Instant::from_secs(1000);
    let config = config::parse("fuzz", CONFIG).expect("the configuration above is right");
    let mut router = Bare::new(config, &STATIONS, SESSIONS, now);
    open_sessions(&mut router, now);
    let sessions = router.stats().sessions;
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let (link, frame) = error(&mut input);
        router.receive(link, &frame, Offload::NONE, now, check_left);
        assert_eq!(router.stats().sessions, sessions, "an error opened or ended a session");
    }
    router.finish(now);
}

/// UDP, TCP and ping outward, a forward from outside and from inside, and from LAN to LAN.
fn open_sessions(router: &mut Bare, now: Instant) {
    let ip = |link: LinkId, source: Ipv4Addr, destination: Ipv4Addr| {
        PacketBuilder::ethernet2(Bare::station(source).0, Bare::mac(link).0).ipv4(
            source.octets(),
            destination.octets(),
            64,
        )
    };
    let mut send = |link, write: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = Vec::new();
        write(&mut frame);
        router.receive(link, &frame, Offload::NONE, now, |_, _| {});
    };
    let whole = "a vector has room";
    send(HOME, &|f| ip(HOME, A, REMOTE).udp(5000, 53).write(f, b"x").expect(whole));
    send(HOME, &|f| ip(HOME, A, REMOTE).tcp(5000, 80, 1, 9).syn().write(f, b"").expect(whole));
    send(HOME, &|f| ip(HOME, A, REMOTE).icmpv4_echo_request(77, 1).write(f, b"").expect(whole));
    send(LinkId::WAN, &|f| {
        ip(LinkId::WAN, REMOTE, WAN).udp(5000, 8080).write(f, b"x").expect(whole);
    });
    send(HOME, &|f| ip(HOME, A, WAN).udp(5000, 8080).write(f, b"x").expect(whole));
    send(HOME, &|f| ip(HOME, A, B).udp(5000, 53).write(f, b"x").expect(whole));
    assert_eq!(router.stats().sessions, 6, "the sessions that errors are about");
}

fn error(input: &mut Input<'_>) -> (LinkId, Vec<u8>) {
    let head = input.u8();
    let link = [LinkId::WAN, HOME, GUEST, LinkId::WAN][usize::from(head & 3)];
    let (source, destination) = (input.pick(&ADDRESSES), input.pick(&ADDRESSES));
    let kind = [3, 11, 12, 4][usize::from(head >> 4 & 3)];
    let code = [3, 4, 0, 13][usize::from(head >> 6)];
    let inside = inside(head >> 2 & 3, input);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(Bare::station(source).0, Bare::mac(link).0)
        .ipv4(source.octets(), destination.octets(), 64)
        .icmpv4_raw(kind, code, [0, 0, 5, 0])
        .write(&mut frame, &inside)
        .expect("a vector has room");
    (link, frame)
}

/// What an error embeds: any bytes; any bytes under a right header checksum; or a packet described by addresses,
/// ports and protocol (by index), header words of options, and bytes of what follows.
fn inside(how: u8, input: &mut Input<'_>) -> Vec<u8> {
    if how < 2 {
        let mut bytes = input.chunk().to_vec();
        let header_len = usize::from(bytes.first().map_or(0, |byte| byte & 15)) * 4;
        if how == 1 && header_len >= ipv4::LEN_MIN && bytes.len() >= header_len {
            seal_ipv4(&mut bytes, 0, header_len);
        }
        return bytes;
    }
    let (source, destination) = (input.pick(&ADDRESSES), input.pick(&ADDRESSES));
    let (ports, protocol) = ((input.pick(&PORTS), input.pick(&PORTS)), input.pick(&[17, 6, 1]));
    let options = usize::from(input.u8() % 11) * 4;
    let header_len = ipv4::LEN_MIN + options;
    let mut bytes = vec![0; header_len + 8];
    bytes[0] = 0x40 | (header_len / 4) as u8;
    put_u16(&mut bytes, 2, 200);
    bytes[8] = 61;
    bytes[ipv4::PROTOCOL] = protocol;
    bytes[ipv4::SOURCE..][..4].copy_from_slice(&source.octets());
    bytes[ipv4::DESTINATION..][..4].copy_from_slice(&destination.octets());
    if protocol == 1 {
        bytes[header_len] = 8;
        put_u16(&mut bytes, header_len + 4, 77);
    } else {
        put_u16(&mut bytes, header_len, ports.0);
        put_u16(&mut bytes, header_len + 2, ports.1);
    }
    bytes.extend_from_slice(input.chunk());
    seal_ipv4(&mut bytes, 0, header_len);
    bytes
}

/// What leaves has right checksums; outside, no address of the inside is to be seen, in the header or in what is
/// embedded.
fn check_left(link: LinkId, frame: &[u8]) {
    check(frame);
    let Ok(Parsed::Ipv4(outer)) = parse(frame, Offload::NONE) else { panic!("no datagram left") };
    assert_eq!(outer.transport, L4::Icmp(IcmpKind::Error), "nothing else was sent");
    let inner = embedded(frame, &outer).expect("what was embedded is still a packet");
    let header = &frame[inner.l3..inner.l4];
    assert_eq!(checksum::of(header), 0, "checksum of the embedded header");
    if link == LinkId::WAN {
        let shown = addresses(&outer).into_iter().chain(addresses_of(frame, inner.l3));
        for address in shown {
            assert_ne!(address.octets()[0], 10, "{address} is seen outside");
        }
    }
}

fn addresses(outer: &Datagram) -> [Ipv4Addr; 2] {
    [outer.source.address, outer.destination.address]
}

fn addresses_of(frame: &[u8], l3: usize) -> [Ipv4Addr; 2] {
    [ipv4::SOURCE, ipv4::DESTINATION].map(|at| {
        let at = l3 + at;
        Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3])
    })
}
