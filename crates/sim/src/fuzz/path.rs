//! Frames through the whole packet path, and every one accounted for.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use etherparse::PacketBuilder;
use forwarding::{ArpMachine, ArpMessage, ArpOperation, LinkConfig};
use nat::Tables;
use packet::header::{ethernet, ipv4, seal_ipv4};
use packet::{
    Batch, Instant, LinkId, MacAddr, Offload, Offloads, PacketBuf, Parsed, Protocol,
    SMALL_FRAME_MAX, parse,
};
use pipeline::{
    Counters, Egress, EgressLink, Inject, LinkFacts, PolicyState, Rings, Runtime, Shapers,
    Snapshot, WanAddress, Worker,
};

use super::{Input, STEPS_MAX, router_mac, station, wire};
use crate::WanWatch;

const LINKS: u8 = 3;
const SESSIONS: usize = 64;
const LARGE_BUFFERS: usize = 8;

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
    let mut router = Router::new();
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let step = input.u8();
        router.wait(step >> 4);
        let link = LinkId((step & 3) % LINKS);
        match Way::of(step) {
            Way::Raw => {
                let offload = wire::offload(&mut input);
                router.receive(link, input.chunk(), offload);
            }
            Way::Sealed => {
                let frame = sealed(link, input.chunk());
                router.receive(link, &frame, Offload::NONE);
            }
            Way::Described => {
                if let Some(frame) = described(link, &mut input) {
                    router.receive(link, &frame, Offload::NONE);
                }
            }
            Way::Local => {
                if let Some(frame) = described(LinkId::WAN, &mut input) {
                    router.inject(&frame);
                }
            }
        }
    }
    router.finish();
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

pub(super) struct Router {
    snapshot: Snapshot,
    worker: Worker,
    egress: Egress,
    rings: Arc<Rings>,
    counters: Arc<Counters>,
    now: Instant,
}

impl Router {
    pub(super) fn new() -> Self {
        let now = Instant::from_secs(1000);
        let config = config::parse("fuzz", CONFIG).expect("the configuration above is right");
        let links = (0..LINKS).map(|link| LinkFacts {
            name: format!("link{link}"),
            mac: router_mac(link),
            mtu: 1500,
            address: None,
        });
        let wan = WanAddress::of_static(&config);
        let runtime = Runtime {
            generation: 1,
            links: links.collect(),
            wan,
            forwards: Vec::new(),
            policy: PolicyState::default(),
        };
        let snapshot = Snapshot::build(&config, &runtime).expect("a snapshot without forwards");
        let rings = Arc::new(Rings::new());
        let (tables, mut engines) = Tables::new(SESSIONS, 1, 0x5eed);
        let engine = engines.pop().expect("one worker's engine");
        let neighbours = known_neighbours(&config, now).neighbours();
        let worker = Worker::new(engine, tables, neighbours, Arc::clone(&rings))
            .expect("the first participant");
        let egress = Egress::new(
            vec![EgressLink { offloads: Offloads::NONE }; usize::from(LINKS)],
            Shapers::default(),
            LARGE_BUFFERS,
            Arc::clone(&rings),
        );
        let counters = worker.counters();
        Self { snapshot, worker, egress, rings, counters, now }
    }

    pub(super) fn wait(&mut self, quarter: u8) {
        let span = match quarter {
            15 => Duration::from_mins(6),
            millis => Duration::from_millis(millis.into()),
        };
        self.now += span;
        self.worker.expire(&self.snapshot, self.now);
    }

    /// Takes a frame in; returns what leaves.
    pub(super) fn receive(&mut self, link: LinkId, frame: &[u8], offload: Offload) -> Vec<Vec<u8>> {
        let mut packet = self.egress.large_pool().take().expect("all buffers are home");
        if !packet.copy_from(frame) {
            self.egress.large_pool().put(packet);
            return Vec::new();
        }
        (packet.ingress, packet.offload) = (link, offload);
        let mut batch = Batch::new();
        batch.push(packet);
        self.worker.receive(&mut batch, &mut self.egress, &self.snapshot, self.now);
        assert_eq!((batch.len(), self.worker.verdicts().len()), (0, 1));
        self.flush()
    }

    fn inject(&mut self, frame: &[u8]) {
        let mut packet: PacketBuf = self.rings.take().expect("all buffers are home");
        assert!(frame.len() <= SMALL_FRAME_MAX && packet.copy_from(frame));
        assert!(self.rings.inject(Inject::Route(packet)));
        self.worker.take_injected(&mut self.egress, &self.snapshot, self.now);
        self.flush();
    }

    /// Lets everything leave; what leaves is well formed, and translated if it leaves on the WAN.
    fn flush(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        self.egress.dequeue(self.now, &self.counters);
        let mut watch = WanWatch::default();
        for link in (0..LINKS).map(LinkId) {
            self.egress.flush(link, &self.counters, |packets| {
                for packet in packets.iter() {
                    let parsed = parse(packet.frame(), packet.offload);
                    assert!(matches!(parsed, Ok(Parsed::Ipv4(_) | Parsed::Fragment(_))));
                    sent.push(packet.frame().to_vec());
                    if link == LinkId::WAN {
                        watch.look(packet.frame(), self.snapshot.nat.external);
                    }
                }
                0
            });
        }
        assert_eq!(watch.strays(), [], "untranslated");
        while let Some(punted) = self.rings.poll_punt() {
            self.rings.put(punted.packet);
        }
        sent
    }

    /// Lets the time of everything end that waits; then all must be home and counted.
    pub(super) fn finish(&mut self) {
        self.wait(15);
        assert_eq!(self.worker.packets_waiting(), 0, "fragments");
        assert_eq!(self.egress.buffers_out(), 0, "buffers of the worker");
        assert_eq!(self.rings.buffers_out(), 0, "buffers of the rings");
        for link in (0..LINKS).map(LinkId).chain([LinkId::LOCAL]) {
            let counts = self.counters.link(link);
            assert_eq!(counts.rx_packets.load(), counts.verdicts(), "{link:?}");
            assert_eq!(counts.waiting(), 0, "{link:?}");
        }
    }
}

/// An ARP machine that has heard the hosts and the gateway.
fn known_neighbours(config: &Config, now: Instant) -> ArpMachine {
    let wan = ipnet::Ipv4Net::new(ADDRESSES[4], 24).expect("a prefix length within 32");
    let addresses = std::iter::once(wan).chain(config.lans.iter().map(|lan| lan.address));
    let links: Vec<LinkConfig> = addresses
        .zip(0..)
        .map(|(address, link)| LinkConfig {
            id: LinkId(link),
            mac: router_mac(link),
            addresses: vec![address],
        })
        .collect();
    let mut arp = ArpMachine::new(links.clone(), now);
    for (link, host) in [(1, ADDRESSES[0]), (2, ADDRESSES[1]), (0, ADDRESSES[3])] {
        let request = ArpMessage {
            operation: ArpOperation::Request,
            sender_mac: station(host),
            sender: host,
            target_mac: MacAddr::ZERO,
            target: links[link].addresses[0].addr(),
        };
        arp.handle_arp(&request.emit(MacAddr::BROADCAST), LinkId(link as u8), now);
    }
    arp
}
