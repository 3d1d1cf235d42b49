//! The real packet path against the plain model, under random operations.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use packet::{DropReason, Endpoint, Instant, LinkId, MacAddr, Offload, Parsed, parse};
use proptest::prelude::*;
use sim::{Filtering, NatModel, Router, START, Verdict};

const WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const LAN: LinkId = LinkId(1);
const TIMEOUT: Duration = Duration::from_secs(120);
/// RFC 6888 REQ-8, as `nat` has it.
const REST: Duration = Duration::from_secs(120);
/// Time goes on in such steps, so that no session is just about to expire when it is looked at.
const STEP: Duration = Duration::from_secs(10);
/// Upkeep comes round this often per step, far apart enough to be due.
const ROUNDS: u32 = 8;
const ROUND: Duration = Duration::from_millis(1);

const PORTS: [u16; 6] = [1000, 1001, 5000, 5001, 5002, 65535];
const REMOTE_PORTS: [u16; 2] = [7, 9000];

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// A host sends from one of its ports.
    Out { host: u8, port: usize, remote: u8, remote_port: usize },
    /// A remote host sends to a port that is mapped, or was, or just any.
    In { remote: u8, remote_port: usize, mapped: usize, any: Option<u16> },
    /// Nobody sends for so many steps.
    Wait(u32),
}

fn operation() -> impl Strategy<Value = Operation> {
    let remote = || (0u8..3, 0..REMOTE_PORTS.len());
    prop_oneof![
        5 => (0u8..4, 0..PORTS.len(), remote()).prop_map(|(host, port, (remote, remote_port))| {
            Operation::Out { host, port, remote, remote_port }
        }),
        5 => (remote(), any::<usize>(), prop::option::weighted(0.2, any::<u16>())).prop_map(
            |((remote, remote_port), mapped, any)| {
                Operation::In { remote, remote_port, mapped, any }
            },
        ),
        2 => (1u32..15).prop_map(Operation::Wait),
    ]
}

fn filtering() -> impl Strategy<Value = Filtering> {
    prop_oneof![
        Just(Filtering::EndpointIndependent),
        Just(Filtering::AddressDependent),
        Just(Filtering::AddressAndPortDependent),
    ]
}

fn config(filtering: Filtering) -> config::Config {
    let filtering = match filtering {
        Filtering::EndpointIndependent => "endpoint-independent",
        Filtering::AddressDependent => "address-dependent",
        Filtering::AddressAndPortDependent => "address-and-port-dependent",
    };
    let text = format!(
        r#"
[wan]
link = "wan0"
mode = "static"
address = "{WAN}/24"
gateway = "198.51.100.1"
[[lan]]
name = "home"
link = "lan0"
address = "10.0.1.1/24"
filtering = "{filtering}"
[nat.timeouts]
udp = "120s"
"#
    );
    config::parse("the test's", &text).unwrap()
}

/// Router and model side by side.
struct Pair {
    router: Router,
    model: NatModel,
    now: Instant,
    /// Ports that were mapped once.
    known: Vec<u16>,
}

impl Pair {
    fn new(filtering: Filtering) -> Self {
        let router = Router::new(config(filtering), 7, START).unwrap();
        let model = NatModel::new(filtering, TIMEOUT, REST);
        let mut pair = Self { router, model, now: START, known: Vec::new() };
        pair.answer_arp();
        pair
    }

    fn apply(&mut self, operation: Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Out { host, port, remote, remote_port } => {
                let internal = Endpoint::new(Ipv4Addr::new(10, 0, 1, 2 + host), PORTS[port]);
                self.send_out(internal, remote_endpoint(remote, remote_port))?;
            }
            Operation::In { remote, remote_port, mapped, any } => {
                let known = self.known.get(mapped % self.known.len().max(1));
                // Ports of the router's own DHCP client are no model's business.
                let any = any.filter(|port| !(67..=68).contains(port) && *port != 0);
                let port = any.or(known.copied()).unwrap_or(4000);
                self.send_in(remote_endpoint(remote, remote_port), port)?;
            }
            Operation::Wait(steps) => {
                for _ in 0..steps {
                    self.settle();
                }
            }
        }
        prop_assert_eq!(self.router.sessions(self.now).len(), self.model.sessions());
        Ok(())
    }

    fn send_out(&mut self, internal: Endpoint, remote: Endpoint) -> Result<(), TestCaseError> {
        let frame = udp(LAN, internal, remote);
        let sent = self.exchange(LAN, &frame);
        prop_assert_eq!(sent.len(), 1, "{} > {}: {:?}", internal, remote, &sent);
        let (link, source, destination) = sent[0];
        prop_assert_eq!((link, source.address, destination), (LinkId::WAN, WAN, remote));
        match self.model.outbound(internal, remote, self.now) {
            Verdict::As(port) => prop_assert_eq!(source.port, port, "{}", internal),
            Verdict::AsNew => {
                let noted = self.model.note_port(internal, source.port);
                prop_assert_eq!(noted, Ok(()));
                self.known.push(source.port);
            }
            other => panic!("{other:?} is no verdict on what leaves"),
        }
        Ok(())
    }

    fn send_in(&mut self, remote: Endpoint, port: u16) -> Result<(), TestCaseError> {
        let dropped = |router: &Router| {
            [DropReason::NoMapping, DropReason::FilterDenied]
                .map(|reason| router.counters().dropped(reason))
        };
        let [unmapped, filtered] = dropped(&self.router);
        let sent = self.exchange(LinkId::WAN, &udp(LinkId::WAN, remote, Endpoint::new(WAN, port)));
        let (drops, none) = (dropped(&self.router), Vec::new());
        match self.model.inbound(remote, port, self.now) {
            Verdict::To(internal) => prop_assert_eq!(sent, [(LAN, remote, internal)]),
            Verdict::NoMapping => {
                prop_assert_eq!((sent, drops), (none, [unmapped + 1, filtered]));
            }
            Verdict::Filtered => {
                prop_assert_eq!((sent, drops), (none, [unmapped, filtered + 1]));
            }
            other => panic!("{other:?} is no verdict on what arrives"),
        }
        Ok(())
    }

    /// Lets a step pass, and upkeep come round at its end.
    fn settle(&mut self) {
        self.now += STEP - ROUND * ROUNDS;
        for _ in 0..ROUNDS {
            self.now += ROUND;
            self.router.handle_timeout(self.now);
            self.answer_arp();
        }
        self.model.expire(self.now);
    }

    /// Hands the router a frame; the UDP packets that leave.
    fn exchange(&mut self, link: LinkId, frame: &[u8]) -> Vec<(LinkId, Endpoint, Endpoint)> {
        self.router.receive(link, frame, self.now);
        self.answer_arp()
    }

    /// Answers what the router asks by ARP until it asks no more; the UDP packets that left meanwhile.
    fn answer_arp(&mut self) -> Vec<(LinkId, Endpoint, Endpoint)> {
        let mut packets = Vec::new();
        while let Some((link, frame)) = self.router.poll_transmit() {
            match parse(&frame, Offload::NONE).unwrap() {
                Parsed::Arp(asked) if asked.operation == 1 && asked.target != asked.sender => {
                    let answer = arp_reply((mac(asked.target), asked.target), &asked);
                    self.router.receive(link, &answer, self.now);
                }
                Parsed::Arp(_) | Parsed::Fragment(_) => {}
                Parsed::Ipv4(datagram) => {
                    check(&frame);
                    packets.push((link, datagram.source, datagram.destination));
                }
            }
        }
        packets
    }
}

fn remote_endpoint(remote: u8, port: usize) -> Endpoint {
    Endpoint::new(Ipv4Addr::new(203, 0, 113, 1 + remote), REMOTE_PORTS[port])
}

fn mac(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([6, 0, a, b, c, d])
}

fn udp(link: LinkId, source: Endpoint, destination: Endpoint) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac(source.address).0, Router::mac(link).0)
        .ipv4(source.address.octets(), destination.address.octets(), 64)
        .udp(source.port, destination.port)
        .write(&mut frame, b"model")
        .unwrap();
    frame
}

fn arp_reply(sender: (MacAddr, Ipv4Addr), asked: &packet::Arp) -> Vec<u8> {
    let packet = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        etherparse::ArpOperation::REPLY,
        &sender.0.0,
        &sender.1.octets(),
        &asked.sender_mac.0,
        &asked.sender.octets(),
    );
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(sender.0.0, asked.sender_mac.0);
    builder.arp(packet.unwrap()).write(&mut frame).unwrap();
    frame
}

/// The checksums of what leaves.
fn check(frame: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let ip = sliced.net.as_ref().unwrap().ipv4_ref().unwrap().header().to_header();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("{sliced:?}") };
    let header = udp.to_header();
    assert_eq!(header.checksum, header.calc_checksum_ipv4(&ip, udp.payload()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_translator_does_what_the_model_says(
        filtering in filtering(),
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let mut pair = Pair::new(filtering);
        for operation in operations {
            pair.apply(operation)?;
            pair.settle();
        }
        prop_assert_eq!(pair.router.violation(pair.now), None);
    }
}
