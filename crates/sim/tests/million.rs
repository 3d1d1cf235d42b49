//! A million sessions in virtual time: a table that is filled to its last slot, used, and empty again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::PacketBuilder;
use packet::header::{ethernet, ipv4, put_u16, put_u32, seal_ipv4};
use packet::{DropReason, Endpoint, Instant, LinkId, Offload, Parsed, Protocol, parse};
use sim::START;
use sim::bare::Bare;
use sim::model::{Filtering, Lifetimes, NatModel, Packet, Rules, Segment, Verdict};

/// Room in the table, which is filled.
const SESSIONS: usize = 1_000_000;
/// Hosts and ports, each of which speaks with as many remote endpoints as it takes.
const HOSTS: usize = 25;
const PORTS: usize = 800;
/// Of this many packets the model checks one, besides keeping account of all sessions.
const SAMPLE: usize = 997;

const LAN: LinkId = LinkId(1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

const LIFETIMES: Lifetimes = Lifetimes {
    udp: Duration::from_secs(300),
    tcp_established: Duration::from_secs(7440),
    tcp_transitory: Duration::from_secs(240),
    icmp: Duration::from_secs(60),
    rest: Duration::from_secs(120),
};

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
filtering = "address-dependent"
[[lan]]
name = "guest"
link = "lan2"
address = "10.0.2.1/24"
[nat]
icmp_refusals = "silent"
"#;

/// The `number`th session: who speaks with whom. All of a host's ports speak with one remote before the next.
fn endpoints(number: usize) -> (Endpoint, Endpoint) {
    let (pair, remote) = (number % (HOSTS * PORTS), number / (HOSTS * PORTS));
    let host = Ipv4Addr::new(10, 0, 1, 2 + (pair / PORTS) as u8);
    let internal = Endpoint::new(host, 10_000 + (pair % PORTS) as u16);
    (internal, Endpoint::new(Ipv4Addr::new(203, 0, 113, remote as u8), 9))
}

fn hosts() -> Vec<(LinkId, Ipv4Addr)> {
    let hosts = (0..HOSTS).map(|host| (LAN, Ipv4Addr::new(10, 0, 1, 2 + host as u8)));
    hosts.chain([(LinkId::WAN, GATEWAY)]).collect()
}

struct Pair {
    router: Bare,
    model: NatModel,
    now: Instant,
    /// A packet without checksum, of which only the header changes.
    frame: Vec<u8>,
    sent: usize,
}

impl Pair {
    fn new() -> Self {
        let config = config::parse("million", CONFIG).expect("the text above is right");
        let router = Bare::new(config, &hosts(), SESSIONS, START);
        let filtering = BTreeMap::from([
            (LAN, Filtering::AddressDependent),
            (LinkId(2), Filtering::AddressAndPortDependent),
        ]);
        let rules = Rules { external: WAN, filtering, forwards: Vec::new() };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([6, 0, 0, 0, 0, 1], Bare::mac(LAN).0)
            .ipv4([0; 4], [0; 4], 64)
            .udp(1, 1)
            .write(&mut frame, b"")
            .expect("a vector has room");
        let model = NatModel::new(LIFETIMES, rules);
        Self { router, model, now: START, frame, sent: 0 }
    }

    /// Opens sessions until the table is full; which.
    fn fill(&mut self, mut numbers: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut opened = Vec::new();
        while self.model.sessions() < SESSIONS {
            let number = numbers.next().expect("more sessions than there is room");
            self.send(number);
            opened.push(number);
        }
        opened
    }

    /// Sends a packet of a session outward, and sometimes one back and one from a stranger.
    fn send(&mut self, number: usize) {
        let (internal, remote) = endpoints(number);
        let packet = udp(internal, remote);
        let left = self.exchange(LAN, &packet);
        let (_, external, _) = left.unwrap_or_else(|| panic!("{internal} > {remote} is dropped"));
        let mut expected = self.model.receive(LAN, &packet, self.now);
        if expected == Verdict::NeedsPort {
            let opened = self.model.open_as(LAN, &packet, external.port, self.now);
            expected = opened.expect("a port as the model wants it");
        }
        assert_eq!(Verdict::Leaves(LinkId::WAN, external, remote), expected);
        self.sent += 1;
        if self.sent.is_multiple_of(SAMPLE) {
            let other_port = Endpoint::new(remote.address, 10);
            for (from, comes_in) in [(remote, true), (other_port, true), (STRANGER, false)] {
                // One that would open a session needs room, which a full table does not have.
                if from == other_port && self.model.sessions() >= SESSIONS / 2 {
                    continue;
                }
                let packet = udp(from, external);
                let left = self.exchange(LinkId::WAN, &packet);
                assert_eq!(left.is_some(), comes_in);
                match self.model.receive(LinkId::WAN, &packet, self.now) {
                    Verdict::Leaves(link, from, to) => assert_eq!(left, Some((link, from, to))),
                    other => assert_eq!((other, left), (REFUSED, None)),
                }
            }
        }
    }

    /// What leaves when a packet arrives.
    fn exchange(&mut self, link: LinkId, packet: &Packet) -> Option<(LinkId, Endpoint, Endpoint)> {
        const L4: usize = ethernet::LEN + ipv4::LEN_MIN;
        let frame = &mut self.frame;
        frame[..6].copy_from_slice(&Bare::mac(link).0);
        let addresses = [packet.source.address, packet.destination.address];
        put_u32(frame, ethernet::LEN + ipv4::SOURCE, addresses[0].to_bits());
        put_u32(frame, ethernet::LEN + ipv4::DESTINATION, addresses[1].to_bits());
        put_u16(frame, L4, packet.source.port);
        put_u16(frame, L4 + 2, packet.destination.port);
        put_u16(frame, L4 + 6, 0);
        seal_ipv4(frame, ethernet::LEN, ipv4::LEN_MIN);
        let mut left = None;
        self.router.receive(link, frame, Offload::NONE, self.now, |link, frame| {
            let Ok(Parsed::Ipv4(datagram)) = parse(frame, Offload::NONE) else { return };
            left = Some((link, datagram.source, datagram.destination));
        });
        left
    }

    /// Time passes, and upkeep comes round.
    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.router.expire_all(self.now);
        self.model.expire(self.now);
        self.compare();
    }

    fn compare(&self) {
        let stats = self.router.stats();
        assert_eq!(stats.sessions, self.model.sessions());
        assert_eq!(stats.mappings, self.model.mappings());
        assert_eq!(stats.contacts, self.model.contacts());
        assert_eq!(self.router.mappings_counted(), self.model.mappings_held() as u64);
    }
}

const STRANGER: Endpoint = Endpoint::new(Ipv4Addr::new(192, 0, 2, 200), 9);
const REFUSED: Verdict = Verdict::Drop(DropReason::FilterDenied);

fn udp(source: Endpoint, destination: Endpoint) -> Packet {
    Packet { protocol: Protocol::Udp, source, destination, segment: Segment::Query }
}

#[test]
fn a_million_sessions_come_and_go_and_leave_nothing_behind() {
    let mut pair = Pair::new();
    let room = pair.router.room();
    let opened = pair.fill(0..);
    assert!(opened.len() > SESSIONS * 99 / 100, "the rest came from outside");
    pair.compare();
    assert_eq!((pair.router.stats().sessions, pair.router.room().sessions), (SESSIONS, 0));
    let (internal, _) = endpoints(0);
    let one_more = pair.exchange(LAN, &udp(internal, Endpoint::new(STRANGER.address, 1)));
    assert_eq!(one_more, None, "a full table refuses the new");
    assert_eq!(pair.router.dropped(DropReason::SessionTableFull), 1);

    // A part is refreshed and lives, the rest goes.
    pair.wait(200);
    assert_eq!(pair.router.stats().sessions, SESSIONS, "all live still");
    let (refreshed, silent): (Vec<usize>, Vec<usize>) = opened.iter().partition(|n| *n % 4 == 0);
    refreshed.iter().for_each(|number| pair.send(*number));
    pair.wait(150);
    assert_eq!(pair.router.stats().sessions, refreshed.len());

    // Every slot that became free is usable: not one was lost.
    pair.fill(silent.into_iter().chain(opened.len()..));
    assert_eq!(pair.router.stats().sessions, SESSIONS);

    pair.wait(340);
    assert_eq!(pair.router.stats().sessions, 0);
    assert_eq!(pair.router.stats().mappings, HOSTS * PORTS, "all rest");
    pair.wait(130);
    assert_eq!(pair.router.room(), room, "free is all that there was");
    assert_eq!(pair.router.mappings_counted(), 0);
    pair.router.check();
}
