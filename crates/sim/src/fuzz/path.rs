//! Frames through the whole packet path, and every one accounted for.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::PacketBuilder;
use packet::header::{ethernet, ipv4, seal_ipv4};
use packet::{Instant, LinkId, Offload, Protocol};

use super::{Input, STEPS_MAX, router_mac, station, wire};
use crate::bare::{Bare, LINKS};

const SESSIONS: usize = 64;

/// Hosts of both LANs, the gateway, a remote host, the router, and addresses that are nobody's.
pub(super) const ADDRESSES: [Ipv4Addr; 10] = [
    Ipv4Addr::new(10, 0, 1, 2),
    Ipv4Addr::new(10, 0, 2, 2),
    Ipv4Addr::new(203, 0, 113, 7),
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(198, 51, 100, 2),
    Ipv4Addr::new(10, 0, 1, 1),
    Ipv4Addr::new(10, 0, 1, 255),
    Ipv4Addr::new(10, 0, 1, 77),
    Ipv4Addr::BROADCAST,
    Ipv4Addr::new(224, 0, 0, 1),
];
/// The hosts and the gateway.
const STATIONS: [(LinkId, Ipv4Addr); 3] =
    [(LinkId(1), ADDRESSES[0]), (LinkId(2), ADDRESSES[1]), (LinkId(0), ADDRESSES[3])];
const PORTS: [u16; 6] = [53, 67, 80, 1024, 5000, 8080];

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

[[lan]]
name = "guest"
link = "lan2"
address = "10.0.2.1/24"
"#;

/// Sends frames through a router with two LANs.
///
/// **Shape**: steps. Each is a byte (link in bits 0-1, how the frame is made in bits 2-3, time that passes before
/// in bits 4-7) and what [`Way`] says of that.
///
/// # Panics
/// If a frame has not one verdict, a buffer is lost, or a frame that leaves is not well formed.
pub fn packet_path(data: &[u8]) {
    let mut now = Instant::from_secs(1000);
    let mut router = router(now);
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let step = input.u8();
        now += wait(step >> 4);
        router.expire(now);
        let link = LinkId((step & 3) % LINKS);
        match Way::of(step) {
            Way::Raw => {
                let offload = wire::offload(&mut input);
                router.receive(link, input.chunk(), offload, now, |_, _| {});
            }
            Way::Sealed => {
                let frame = sealed(link, input.chunk());
                router.receive(link, &frame, Offload::NONE, now, |_, _| {});
            }
            Way::Described => {
                if let Some(frame) = described(link, &mut input) {
                    router.receive(link, &frame, Offload::NONE, now, |_, _| {});
                }
            }
            Way::Local => {
                if let Some(frame) = described(LinkId::WAN, &mut input) {
                    router.inject(&frame, now, |_, _| {});
                }
            }
        }
    }
    router.finish(now);
}

/// A router with two LANs whose hosts are known.
pub(super) fn router(now: Instant) -> Bare {
    let config = config::parse("fuzz", CONFIG).expect("the configuration above is right");
    Bare::new(config, &STATIONS, SESSIONS, now)
}

/// How long a quarter of a step's byte waits.
pub(super) fn wait(quarter: u8) -> Duration {
    match quarter {
        15 => Duration::from_mins(6),
        millis => Duration::from_millis(millis.into()),
    }
}

/// How a step makes its frame.
enum Way {
    /// Offload metadata and the frame.
    Raw,
    /// An IP packet, whose Ethernet header and header checksum are made right.
    Sealed,
    /// Addresses, ports, protocol, flags and length.
    Described,
    /// The same, from the router's own stack.
    Local,
}

impl Way {
    fn of(step: u8) -> Self {
        match step >> 2 & 3 {
            0 => Self::Raw,
            1 => Self::Sealed,
            2 => Self::Described,
            _ => Self::Local,
        }
    }
}

/// Behind an Ethernet header to the router, with a right header checksum if there is a header.
fn sealed(link: LinkId, packet: &[u8]) -> Vec<u8> {
    let mut frame = [&router_mac(link.0).0[..], &[6, 0, 0, 0, 0, 1], &[8, 0]].concat();
    frame.extend_from_slice(packet);
    let header_len = usize::from(packet.first().map_or(0, |byte| byte & 15)) * 4;
    if header_len >= ipv4::LEN_MIN && packet.len() >= header_len {
        seal_ipv4(&mut frame, ethernet::LEN, header_len);
    }
    frame
}

fn described(link: LinkId, input: &mut Input<'_>) -> Option<Vec<u8>> {
    let (source, destination) = (input.pick(&ADDRESSES), input.pick(&ADDRESSES));
    let ports = (input.pick(&PORTS), input.pick(&PORTS));
    let (kind, flags) = (input.u8(), input.u8());
    let payload = vec![0x5a; usize::from(input.u8()) * 6];
    let ttl = if kind & 0x80 == 0 { 64 } else { 1 };
    let builder = PacketBuilder::ethernet2(station(source).0, router_mac(link.0).0);
    let builder = builder.ipv4(source.octets(), destination.octets(), ttl);
    let mut frame = Vec::new();
    if kind & 0x40 != 0 {
        let protocol = Protocol::ALL[usize::from(kind & 0x3f) % Protocol::ALL.len()];
        let head = [ports.0, ports.1, u16::from(flags), 0].map(u16::to_be_bytes).concat();
        let segment = [&head, &payload[..]].concat();
        builder.write(&mut frame, etherparse::IpNumber(protocol as u8), &segment).ok()?;
        return Some(frame);
    }
    let written = match kind & 3 {
        0 => builder.udp(ports.0, ports.1).write(&mut frame, &payload),
        1 => builder.tcp(ports.0, ports.1, 1000, 4096).write(&mut frame, &payload),
        2 => builder.icmpv4_echo_request(ports.0, 1).write(&mut frame, &payload),
        _ => builder.icmpv4_echo_reply(ports.0, 1).write(&mut frame, &payload),
    };
    written.ok()?;
    if kind & 3 == 1 {
        const FLAGS: usize = ethernet::LEN + ipv4::LEN_MIN + packet::header::tcp::FLAGS;
        frame[FLAGS] = flags;
    }
    Some(frame)
}
