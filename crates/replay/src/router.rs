//! A router whose neighbours all answer.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use config::Config;
use flow_table::Participant;
use forwarding::{
    ARP_FRAME_LEN, ArpMachine, ArpMessage, ArpOperation, LinkConfig, Resolution, WaitingFrame,
};
use ipnet::Ipv4Net;
use nat::{SessionKey, Tables};
use packet::{
    BATCH_MAX, Batch, Endpoint, FlowKey, Instant, LinkId, MacAddr, Offload, Offloads, PacketBuf,
    Pool,
};
use pipeline::{
    Counters, Egress, EgressLink, Inject, LinkFacts, PolicyState, Punted, Rings, Runtime, Shapers,
    Snapshot, Verdict, WanAddress, Worker, configured_forwards, lan_id,
};

/// Receive buffers: one batch, and one that is being answered.
const LARGE_BUFFERS: usize = 2 * BATCH_MAX;

/// Sessions, unless the configuration says how many.
const SESSIONS_DEFAULT: usize = 16_384;

/// MTU of every link: that of Ethernet.
const MTU: u16 = 1500;

/// A lease for a WAN that would ask for one; the second where the first is on a LAN.
const LEASES: [(Ipv4Addr, Ipv4Addr); 2] = [
    (Ipv4Addr::new(198, 51, 100, 2), Ipv4Addr::new(198, 51, 100, 1)),
    (Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(203, 0, 113, 1)),
];

/// The buffers that are costly to make, handed from router to router.
pub(crate) struct Stock {
    egress: Egress,
    rings: Arc<Rings>,
}

impl Stock {
    /// Makes the buffers of a router with so many links, which take frames as they are.
    pub(crate) fn new(links: usize) -> Self {
        let rings = Arc::new(Rings::new());
        let links = vec![EgressLink { offloads: Offloads::ALL }; links];
        let egress = Egress::new(links, Shapers::default(), LARGE_BUFFERS, Arc::clone(&rings));
        Self { egress, rings }
    }
}

/// A worker with all that it needs.
pub(crate) struct Router {
    snapshot: Snapshot,
    worker: Worker,
    observer: Participant,
    stock: Stock,
    arp: ArpMachine,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tables: Tables,
    links: u8,
    /// Frames that waited for a neighbour and were taken again.
    pub(crate) again: u64,
}

/// What happens to a frame.
pub(crate) enum Event<'a> {
    /// A verdict on one that waited for its neighbour, and how it arrived.
    Judged(LinkId, &'a [u8], Verdict),
    /// It leaves.
    Sent(&'a PacketBuf),
}

impl Router {
    /// Makes a router; `seed` is a secret in real life, and here what makes two replays equal.
    pub(crate) fn new(config: &Config, mut stock: Stock, seed: u64, now: Instant) -> Result<Self> {
        let names = std::iter::once(&config.wan.link).chain(config.lans.iter().map(|l| &l.link));
        let facts = names.enumerate().map(|(index, name)| LinkFacts {
            name: name.clone(),
            mac: station(LinkId(index as u8)),
            mtu: MTU,
            address: None,
        });
        let runtime = Runtime {
            generation: 1,
            links: facts.collect(),
            wan: WanAddress::of_static(config).or_else(|| lease(config)),
            forwards: configured_forwards(config),
            policy: PolicyState::default(),
        };
        let snapshot = Snapshot::build(config, &runtime).context("forwards")?;
        let arp = ArpMachine::new(arp_links(config, &runtime), now);
        let sessions = config.nat.sessions_max.unwrap_or(SESSIONS_DEFAULT);
        let (tables, engines) = Tables::new(sessions, 1, seed);
        let observer = tables.domain().participant()?;
        let engine = engines.into_iter().next().context("an engine")?;
        let rings = Arc::clone(&stock.rings);
        let worker = Worker::new(engine, arp.neighbours(), rings)?;
        stock.egress.replace_shapers(Shapers::of(config, now));
        let links = runtime.links.len() as u8;
        let counters = worker.counters();
        Ok(Self { snapshot, worker, observer, stock, arp, counters, tables, links, again: 0 })
    }

    /// The buffers, for the next router.
    pub(crate) fn into_stock(self) -> Stock {
        self.stock
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = LinkId> + use<> {
        (0..self.links).map(LinkId).chain([LinkId::LOCAL])
    }

    pub(crate) fn link_name(&self, link: LinkId) -> &str {
        self.snapshot.link(link).map_or("router", |link| link.name.as_str())
    }

    pub(crate) fn pool(&mut self) -> &mut Pool {
        self.stock.egress.large_pool()
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The external endpoint of a flow that began inside, if there is a session.
    pub(crate) fn external_of(&mut self, key: FlowKey) -> Option<Endpoint> {
        let pass = self.observer.pass();
        let hit = self.tables.sessions().lookup(&pass, &SessionKey(key))?;
        Some(hit.value().source())
    }

    /// Takes a batch from its link into the egress: the packet path itself.
    pub(crate) fn judge(&mut self, batch: &mut Batch, now: Instant) {
        self.worker.receive(batch, &mut self.stock.egress, &self.snapshot, now);
    }

    /// The verdicts on the batch judged last, in its order.
    pub(crate) fn verdicts(&self) -> impl ExactSizeIterator<Item = Verdict> + '_ {
        self.worker.verdicts()
    }

    /// Does what is to be done after a batch: neighbours answer, sessions expire, frames leave.
    pub(crate) fn settle(&mut self, now: Instant, see: &mut impl FnMut(&Self, Event<'_>)) {
        self.resolve(now, see);
        self.worker.expire(&self.snapshot, now);
        self.send(now, see);
    }

    /// Sends what a shaper releases before `end`, at the times when it is due.
    pub(crate) fn advance(
        &mut self,
        mut now: Instant,
        end: Instant,
        see: &mut impl FnMut(&Self, Instant, Event<'_>),
    ) {
        while let Some(due) = self.stock.egress.poll_timeout(now).filter(|due| *due < end) {
            now = due;
            self.send(now, &mut |router, event| see(router, due, event));
        }
    }

    /// Buffers that did not come home.
    pub(crate) fn buffers_out(&self) -> usize {
        self.stock.egress.buffers_out() + self.stock.rings.buffers_out()
    }

    /// Ends every punted frame but those that wait for a neighbour: they come back as soon as it answers, which it
    /// does at once, and may then wait for another.
    fn resolve(&mut self, now: Instant, see: &mut impl FnMut(&Self, Event<'_>)) {
        if self.arp.poll_timeout().is_some_and(|due| due <= now) {
            self.arp.handle_timeout(now);
            self.answer(now);
        }
        while let Some(Punted { packet, wanted, .. }) = self.stock.rings.poll_punt() {
            if let Some((egress, next_hop)) = wanted {
                let frame = WaitingFrame {
                    ingress: packet.ingress,
                    offload: Offload::NONE,
                    frame: packet.frame().to_vec(),
                };
                self.arp.handle_unresolved(egress, next_hop, frame, now);
                self.answer(now);
            }
            self.stock.rings.put(packet);
            self.take_released(now, see);
        }
        while self.arp.poll_event().is_some() {}
    }

    /// Lets every neighbour that is asked for answer.
    fn answer(&mut self, now: Instant) {
        let mut frame = [0; ARP_FRAME_LEN];
        while let Some((link, len)) = self.arp.poll_transmit(&mut frame) {
            let Some(asked) = ArpMessage::parse(&frame[..len]) else { continue };
            let is_question = asked.operation == ArpOperation::Request
                && asked.target != asked.sender
                && !asked.sender.is_unspecified();
            if is_question {
                let answer = ArpMessage {
                    operation: ArpOperation::Reply,
                    sender_mac: neighbour(asked.target),
                    sender: asked.target,
                    target_mac: asked.sender_mac,
                    target: asked.sender,
                };
                self.arp.handle_arp(&answer.emit(asked.sender_mac), link, now);
            }
        }
    }

    fn take_released(&mut self, now: Instant, see: &mut impl FnMut(&Self, Event<'_>)) {
        while let Some(released) = self.arp.poll_released() {
            if released.resolution != Resolution::Resolved {
                continue;
            }
            let WaitingFrame { ingress, frame, .. } = released.frame;
            let Some(mut packet) = self.stock.rings.take_for(frame.len()) else { continue };
            packet.ingress = ingress;
            let fits = packet.copy_from(&frame);
            debug_assert!(fits, "it came from a buffer of the rings");
            if self.stock.rings.inject(Inject::Receive(packet)) {
                self.again += 1;
            }
            // One by one: the worker only remembers the verdicts of its last batch.
            self.worker.take_injected(&mut self.stock.egress, &self.snapshot, now);
            let verdict = self.worker.verdicts().next();
            if let Some(verdict) = verdict {
                see(self, Event::Judged(ingress, &frame, verdict));
            }
        }
    }

    fn send(&mut self, now: Instant, see: &mut impl FnMut(&Self, Event<'_>)) {
        let counters = Arc::clone(&self.counters);
        self.stock.egress.dequeue(now, &counters);
        for link in (0..self.links).map(LinkId) {
            let mut frames = Vec::new();
            self.stock.egress.flush(link, &counters, |packets| {
                frames.extend(packets.iter().map(copy_of));
                0
            });
            frames.iter().for_each(|frame| see(self, Event::Sent(frame)));
        }
    }
}

fn copy_of(packet: &PacketBuf) -> PacketBuf {
    let small = packet.len() <= packet::SMALL_FRAME_MAX;
    let mut copy = if small { PacketBuf::small() } else { PacketBuf::large() };
    let fits = copy.copy_from(packet.frame());
    debug_assert!(fits, "a large buffer holds every frame");
    (copy.ingress, copy.egress) = (packet.ingress, packet.egress);
    copy
}

/// The router's station on a link.
pub(crate) fn station(link: LinkId) -> MacAddr {
    MacAddr([0x02, 0, 0x5e, 0x10, 0, link.0])
}

/// The station that answers for an address.
pub(crate) fn neighbour(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([0x06, 0, a, b, c, d])
}

fn lease(config: &Config) -> Option<WanAddress> {
    let leases = LEASES.iter().filter_map(|(address, gateway)| {
        let address = Ipv4Net::new(*address, 24).ok()?;
        Some(WanAddress { address, routes: vec![(Ipv4Net::default(), *gateway)] })
    });
    leases.into_iter().find(|lease| config.overlap_with_lan(lease.address).is_none())
}

fn arp_links(config: &Config, runtime: &Runtime) -> Vec<LinkConfig> {
    let wan = runtime.wan.iter().map(|wan| wan.address).collect();
    let wan = LinkConfig { id: LinkId::WAN, mac: station(LinkId::WAN), addresses: wan };
    let lans = config.lans.iter().enumerate().map(|(index, lan)| {
        let id = lan_id(index);
        LinkConfig { id, mac: station(id), addresses: vec![lan.address] }
    });
    std::iter::once(wan).chain(lans).collect()
}

/// Virtual time at which a replay begins; zero would hide what compares with "long ago".
pub(crate) const START: Instant = Instant::from_secs(3600);

/// Frames of a capture that are at most this far apart arrive in one batch, as they would from a link.
pub(crate) const BATCH_SPAN: Duration = Duration::from_micros(100);
