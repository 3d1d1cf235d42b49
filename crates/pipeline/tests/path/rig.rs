//! A router without links or threads: a worker, its egress, and an ARP machine in virtual time.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, WanMode};
use etherparse::ArpOperation;
use forwarding::{ArpMachine, Released, Resolution, WaitingFrame};
use nat::{Forward, Hairpin, Tables};
use packet::{
    Batch, DropReason, Endpoint, Home, Instant, Internal, LinkId, MacAddr, Offload, Offloads,
    PacketBuf, Protocol, PuntReason,
};
use pipeline::{
    Counters, Egress, EgressLink, Inject, LinkFacts, PolicyState, Punted, Rings, Runtime, Shapers,
    Snapshot, Verdict, WanAddress, Worker, configured_forwards, lan_id,
};

use crate::frames::{ACK, SYN, Seen, Way, arp, joined, see};

pub const HOME: LinkId = LinkId(1);
/// Reaches nobody but the WAN.
pub const GUEST: LinkId = LinkId(2);
/// Reaches `HOME` as well.
pub const OFFICE: LinkId = LinkId(3);
const LINKS: u8 = 4;

pub const WAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const HOME_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);

/// Two hosts at home, one guest, one in the office.
pub const A: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
pub const B: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 3);
pub const G: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub const O: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 2);
/// Two remote hosts, and a router on the way to them.
pub const R: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
pub const R2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);
pub const HOP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 9);

pub const WEB: u16 = 8080;

const LARGE_BUFFERS: usize = 96;
const SESSIONS: usize = 1024;

/// The router's own station on a link.
pub fn router_mac(link: LinkId) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, link.0])
}

/// The station with an address.
pub fn mac(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([6, 0, a, b, c, d])
}

/// The way of a frame from a host on a link to the router.
pub fn from(address: Ipv4Addr) -> Way {
    let (station, link) = match address.octets() {
        [10, 0, lan, _] => (mac(address), LinkId(lan)),
        _ => (mac(GATEWAY), LinkId::WAN),
    };
    Way::new(station, router_mac(link))
}

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
[lan.dhcp]
pool = "10.0.1.100-10.0.1.199"

[[lan]]
name = "guest"
link = "lan2"
address = "10.0.2.1/24"

[[lan]]
name = "office"
link = "lan3"
address = "10.0.3.1/24"
reach = ["home"]
"#;

/// The configuration above with `lines` under `[wan]` and `tail` at the end.
pub fn config_of_wan(lines: &str, tail: &str) -> Config {
    let file = CONFIG.replace("gateway = ", &format!("{lines}\ngateway = "));
    config::parse("the test's", &format!("{file}{tail}")).expect("the test's additions are right")
}

pub fn config() -> Config {
    config::parse("the test's", CONFIG).expect("the configuration above is right")
}

/// The same house, with more behind it in the file.
pub fn config_with(tail: &str) -> Config {
    let text = format!("{CONFIG}\n{tail}");
    config::parse("the test's", &text).unwrap_or_else(|e| panic!("{}", e.lines().join("\n")))
}

/// A DHCP client on the WAN.
pub fn by_dhcp(mut config: Config) -> Config {
    config.wan.mode = WanMode::Dhcp(config::WanDhcp {
        hostname: None,
        client_id: config::ClientId::None,
        reject: Vec::new(),
    });
    config
}

/// TCP port `WEB` of the WAN address leads to port 80 of `B`.
pub fn web_forward() -> Forward {
    let to = Internal(Endpoint::new(B, 80));
    Forward {
        protocol: Protocol::Tcp,
        address: None,
        external: WEB..=WEB,
        to,
        id: 1,
        sources: None,
        hairpin: Hairpin::Allowed,
    }
}

/// What became of a frame.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Frames that left, by link, in order.
    pub sent: Vec<(LinkId, Vec<u8>)>,
    /// Frames for the router itself.
    pub punted: Vec<Punt>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Punt {
    pub reason: PuntReason,
    pub ingress: LinkId,
    pub wanted: Option<(LinkId, Ipv4Addr)>,
    pub frame: Vec<u8>,
}

impl Outcome {
    /// The one frame that left, and by which link.
    #[track_caller]
    pub fn one(&self) -> (LinkId, Seen) {
        assert_eq!(self.sent.len(), 1, "{self:?}");
        assert!(self.punted.is_empty(), "{self:?}");
        (self.sent[0].0, see(&self.sent[0].1))
    }

    #[track_caller]
    pub fn forwarded_to(&self, link: LinkId) -> Seen {
        assert_eq!(self.verdict, Verdict::Forward(link));
        let (egress, seen) = self.one();
        assert_eq!(egress, link);
        seen
    }

    #[track_caller]
    pub fn punt(&self) -> &Punt {
        assert!(self.sent.is_empty() && self.punted.len() == 1, "{self:?}");
        &self.punted[0]
    }

    /// The packet that left in fragments, by which link, and in how many.
    #[track_caller]
    pub fn in_fragments(&self) -> (LinkId, Seen, usize) {
        let (link, count) = (self.sent[0].0, self.sent.len());
        assert!(count > 1 && self.sent.iter().all(|sent| sent.0 == link), "{self:?}");
        (link, see(&joined(self.sent.iter().map(|(_, frame)| frame.as_slice()))), count)
    }

    /// The fragment waits for others.
    #[track_caller]
    pub fn held(&self) {
        assert_eq!(self.verdict, Verdict::Hold);
        assert!(self.sent.is_empty() && self.punted.is_empty(), "{self:?}");
    }

    #[track_caller]
    pub fn dropped_for(&self, reason: DropReason) {
        assert_eq!(self.verdict, Verdict::Drop(reason));
        assert!(self.sent.is_empty() && self.punted.is_empty(), "{self:?}");
    }
}

pub struct Rig {
    pub config: Config,
    pub runtime: Runtime,
    pub snapshot: Snapshot,
    pub worker: Worker,
    pub egress: Egress,
    pub arp: ArpMachine,
    pub rings: Arc<Rings>,
    pub counters: Arc<Counters>,
    pub now: Instant,
    pub tables: Tables,
}

impl Rig {
    pub fn new() -> Self {
        Self::of(config(), Vec::new())
    }

    /// A router with these forwards; all hosts are known neighbours.
    pub fn of(config: Config, forwards: Vec<Forward>) -> Self {
        let mut rig = Self::without_neighbours(config, forwards, Offloads::ALL);
        rig.learn_all();
        rig
    }

    pub fn without_neighbours(config: Config, forwards: Vec<Forward>, offloads: Offloads) -> Self {
        let now = Instant::from_secs(1000);
        let links: Vec<LinkFacts> = (0..LINKS)
            .map(|link| LinkFacts {
                name: format!("link{link}"),
                mac: router_mac(LinkId(link)),
                mtu: 1500,
                address: None,
            })
            .collect();
        let wan = WanAddress::of_static(&config).unwrap_or_else(|| wan_at(WAN_ADDRESS, GATEWAY));
        let mut policy = PolicyState::default();
        policy.book.adopt(&config);
        let runtime = Runtime { generation: 1, links, wan: Some(wan), forwards, policy };
        let snapshot = Snapshot::build(&config, &runtime).unwrap();
        let arp = ArpMachine::new(arp_links(&config, &runtime), now);
        let rings = Arc::new(Rings::new());
        let (tables, mut engines) = Tables::new(SESSIONS, 1, 0x5eed);
        let engine = engines.pop().unwrap();
        let neighbours = arp.neighbours();
        let worker = Worker::new(engine, neighbours, Arc::clone(&rings)).unwrap();
        let egress_links = vec![EgressLink { offloads }; usize::from(LINKS)];
        let egress =
            Egress::new(egress_links, Shapers::default(), LARGE_BUFFERS, Arc::clone(&rings));
        let counters = worker.counters();
        Self { config, runtime, snapshot, worker, egress, arp, rings, counters, now, tables }
    }

    pub fn learn_all(&mut self) {
        for host in [A, B, G, O] {
            self.learn(LinkId(host.octets()[2]), host);
        }
        self.learn(LinkId::WAN, GATEWAY);
    }

    /// Lets a neighbour ask for the router's address, which makes it known.
    pub fn learn(&mut self, link: LinkId, address: Ipv4Addr) {
        let ours = self.snapshot.link(link).unwrap().address.unwrap();
        let sender = (mac(address), address);
        let request = arp(ArpOperation::REQUEST, sender, (MacAddr::ZERO, ours));
        self.arp.handle_arp(&request, link, self.now);
        assert!(self.arp.neighbours().lookup(link, address).is_some());
    }

    /// Publishes what changed in `config` and `runtime`.
    pub fn publish(&mut self) {
        self.runtime.generation += 1;
        self.runtime.policy.book.adopt(&self.config);
        self.snapshot = Snapshot::build(&self.config, &self.runtime).unwrap();
        for link in arp_links(&self.config, &self.runtime) {
            self.arp.set_addresses(link.id, link.addresses, self.now);
        }
    }

    pub fn advance(&mut self, span: Duration) {
        self.now += span;
    }

    pub fn push(&mut self, link: LinkId, frame: &[u8]) -> Outcome {
        self.push_with(link, frame, Offload::NONE)
    }

    /// Takes one frame in, and everything out that leaves at once.
    pub fn push_with(&mut self, link: LinkId, frame: &[u8], offload: Offload) -> Outcome {
        let mut packet = self.egress.large_pool().take().unwrap();
        assert!(packet.copy_from(frame));
        packet.offload = offload;
        packet.ingress = link;
        let mut batch = Batch::new();
        batch.push(packet);
        self.worker.receive(&mut batch, &mut self.egress, &self.snapshot, self.now);
        assert!(batch.is_empty());
        let verdict = self.worker.verdicts().next().expect("one packet");
        let (sent, punted) = (self.flush(), self.punts());
        Outcome { verdict, sent, punted }
    }

    /// Takes frames in one by one; all but the last are fragments that are held.
    pub fn push_pieces(&mut self, link: LinkId, frames: &[Vec<u8>]) -> Outcome {
        let (last, first) = frames.split_last().unwrap();
        for frame in first {
            self.push(link, frame).held();
        }
        self.push(link, last)
    }

    /// Fragments of a link dropped for a reason, at once or after they waited.
    pub fn dropped(&self, link: LinkId, reason: DropReason) -> u64 {
        self.counters.link(link).dropped_for(reason)
    }

    /// Puts the file with another tail in force.
    pub fn reload(&mut self, tail: &str) {
        self.config = config_with(tail);
        self.runtime.forwards = configured_forwards(&self.config);
        self.publish();
    }

    /// Takes a whole batch from one link in.
    pub fn push_batch(&mut self, link: LinkId, frames: &[Vec<u8>]) -> Vec<Verdict> {
        let mut batch = Batch::new();
        for frame in frames {
            let mut packet = self.egress.large_pool().take().unwrap();
            assert!(packet.copy_from(frame));
            packet.ingress = link;
            batch.push(packet);
        }
        self.worker.receive(&mut batch, &mut self.egress, &self.snapshot, self.now);
        self.worker.verdicts().collect()
    }

    /// Gives the worker something from the control thread, and takes everything out.
    pub fn inject(&mut self, inject: Inject) -> Outcome {
        assert!(self.rings.inject(inject));
        assert_eq!(self.worker.take_injected(&mut self.egress, &self.snapshot, self.now), 1);
        let verdict = self.worker.verdicts().next();
        let verdict = verdict.unwrap_or(Verdict::Forward(LinkId::LOCAL));
        let (sent, punted) = (self.flush(), self.punts());
        Outcome { verdict, sent, punted }
    }

    /// Lets the router's own stack send an IP packet.
    pub fn send_local(&mut self, frame: &[u8]) -> Outcome {
        let packet = self.ring_buffer(frame);
        self.inject(Inject::Route(packet))
    }

    /// Tells the control thread's ARP machine of a frame without neighbour, lets the neighbour answer (or
    /// not), and gives back what the worker is to take again.
    pub fn resolve(&mut self, punt: &Punt) -> Vec<Released> {
        let (link, address) = punt.wanted.unwrap();
        let frame = WaitingFrame {
            ingress: punt.ingress,
            offload: Offload::NONE,
            frame: punt.frame.clone(),
        };
        self.arp.handle_unresolved(link, address, frame, self.now);
        let ours = self.snapshot.link(link).unwrap();
        let answer =
            arp(ArpOperation::REPLY, (mac(address), address), (ours.mac, ours.address.unwrap()));
        self.arp.handle_arp(&answer, link, self.now);
        std::iter::from_fn(|| self.arp.poll_released()).collect()
    }

    /// The worker takes a frame again that waited for its neighbour.
    pub fn take_again(&mut self, released: &Released) -> Outcome {
        assert_eq!(released.resolution, Resolution::Resolved);
        let mut packet = self.ring_buffer(&released.frame.frame);
        packet.ingress = released.frame.ingress;
        self.inject(Inject::Receive(packet))
    }

    fn ring_buffer(&self, frame: &[u8]) -> PacketBuf {
        let mut packet = self.rings.take_for(frame.len()).unwrap();
        assert_eq!(packet.home(), Home::Rings);
        assert!(packet.copy_from(frame));
        packet
    }

    /// Opens a connection from outside to the web server; its third segment, which opened it.
    pub fn accept(&mut self, client: Endpoint) -> Vec<u8> {
        let web = Endpoint::new(WAN_ADDRESS, WEB);
        self.push(LinkId::WAN, &from(client.address).tcp(client, web, SYN, b""));
        let answer = from(B).tcp_at(Endpoint::new(B, 80), client, SYN | ACK, (5000, 1001));
        self.push(HOME, &answer).forwarded_to(LinkId::WAN);
        let third = from(client.address).tcp_at(client, web, ACK, (1001, 5001));
        self.push(LinkId::WAN, &third).forwarded_to(HOME);
        third
    }

    /// Everything that leaves now.
    pub fn flush(&mut self) -> Vec<(LinkId, Vec<u8>)> {
        self.flush_with_offload().into_iter().map(|(link, frame, _)| (link, frame)).collect()
    }

    pub fn flush_with_offload(&mut self) -> Vec<(LinkId, Vec<u8>, Offload)> {
        self.egress.dequeue(self.now, &self.counters);
        let mut sent = Vec::new();
        for link in (0..LINKS).map(LinkId) {
            self.egress.flush(link, &self.counters, |packets| {
                let frames = packets.iter();
                sent.extend(frames.map(|p| (link, p.frame().to_vec(), p.offload)));
                0
            });
        }
        sent
    }

    /// Everything that was punted.
    pub fn punts(&mut self) -> Vec<Punt> {
        let punts = std::iter::from_fn(|| self.rings.poll_punt());
        let punts = punts.map(|Punted { reason, packet, wanted }| {
            assert_eq!(packet.offload, Offload::NONE);
            let (ingress, frame) = (packet.ingress, packet.frame().to_vec());
            self.rings.put(packet);
            Punt { reason, ingress, wanted, frame }
        });
        punts.collect()
    }

    /// Sessions that there are.
    pub fn sessions(&self) -> usize {
        self.tables.stats().sessions
    }
}

impl Drop for Rig {
    /// Whatever a test does: every frame has one verdict, and every buffer comes home.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.flush();
        while let Some(due) = self.egress.poll_timeout(self.now) {
            self.now = due;
            self.flush();
        }
        self.punts();
        assert_eq!(self.egress.buffers_out(), 0, "buffers of the worker");
        assert_eq!(self.rings.buffers_out(), 0, "buffers of the rings");
        for link in (0..LINKS).map(LinkId).chain([LinkId::LOCAL]) {
            let counts = self.counters.link(link);
            assert_eq!(counts.rx_packets.load(), counts.verdicts(), "{link:?}");
        }
    }
}

pub fn wan_at(address: Ipv4Addr, gateway: Ipv4Addr) -> WanAddress {
    WanAddress {
        address: ipnet::Ipv4Net::new(address, 24).unwrap(),
        routes: vec![(ipnet::Ipv4Net::default(), gateway)],
    }
}

fn arp_links(config: &Config, runtime: &Runtime) -> Vec<forwarding::LinkConfig> {
    let wan = runtime.wan.iter().map(|wan| wan.address).collect();
    let lans = config.lans.iter().map(|lan| vec![lan.address]);
    let links = std::iter::once(wan).chain(lans).enumerate();
    let links = links.map(|(index, addresses)| {
        let id = if index == 0 { LinkId::WAN } else { lan_id(index - 1) };
        forwarding::LinkConfig { id, mac: router_mac(id), addresses }
    });
    links.collect()
}
