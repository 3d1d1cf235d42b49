//! The packet path alone: a worker and its send side, all neighbours known, no stack of its own.
//!
//! What [`Router`](crate::Router) is to scenarios, this is to fuzz targets, the model and the large
//! runs: it takes tens of microseconds to make, because what keeps no state (buffers, neighbours)
//! is made once per thread and goes from one router to the next.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;

use config::Config;
use forwarding::{ArpMachine, ArpMessage, ArpOperation, LinkConfig, Neighbours};
use ipnet::Ipv4Net;
use nat::{PortJournal, Room, SessionInfo, Sizes, Stats, Tables};
use packet::{
    Batch, DropReason, Instant, LinkId, MacAddr, Offload, Offloads, PacketBuf, Parsed,
    SMALL_FRAME_MAX, parse,
};
use pipeline::{
    Counters, Egress, EgressLink, Inject, LinkFacts, PolicyState, Rings, Runtime, Shapers,
    Snapshot, Verdict, WanAddress, Worker, configured_forwards,
};

use crate::WanWatch;

/// Links of every bare router: the WAN and two LANs.
pub const LINKS: u8 = 3;

/// Buffers to receive into; a frame at a time arrives.
const LARGE_BUFFERS: usize = 8;

/// Packets that may wait for fragments: so few that a run of a few dozen frames fills all places.
const PACKETS_WAITING_MAX: u8 = 8;

/// MTU of every link.
const MTU: u16 = 1500;

/// Upkeep comes round this often in [`Bare::expire_all`] before the router is as it will stay.
const ROUNDS_MIN: usize = 4;

/// After this long nothing waits for the rest of its fragments.
const FRAGMENTS_GIVEN_UP: std::time::Duration = std::time::Duration::from_mins(1);

thread_local! {
    /// The send side and neighbours of a router that is gone.
    static SPARE: RefCell<Option<Spare>> = const { RefCell::new(None) };
}

struct Spare {
    egress: Egress,
    rings: Arc<Rings>,
    /// Who is known: a router with other stations can't use it.
    stations: Vec<(LinkId, Ipv4Addr)>,
    neighbours: Arc<Neighbours>,
}

/// A router with one WAN and two LANs.
pub struct Bare {
    config: Config,
    runtime: Runtime,
    snapshot: Snapshot,
    worker: Worker,
    tables: Tables,
    counters: Arc<Counters>,
    /// Always there until the router is dropped.
    spare: Option<Spare>,
}

impl Bare {
    /// Makes a router with room for `sessions`, and with these stations as neighbours.
    ///
    /// # Panics
    /// If the configuration is not one with a static WAN, two LANs and good forwards.
    #[must_use]
    pub fn new(
        config: Config,
        stations: &[(LinkId, Ipv4Addr)],
        sessions: usize,
        now: Instant,
    ) -> Self {
        assert_eq!(config.lans.len() + 1, usize::from(LINKS), "two LANs");
        let links = (0..LINKS).map(|link| LinkFacts {
            name: format!("link{link}"),
            mac: Self::mac(LinkId(link)),
            mtu: MTU,
            address: None,
        });
        let wan = WanAddress::of_static(&config);
        let forwards = configured_forwards(&config);
        let policy = PolicyState::default();
        let runtime = Runtime { generation: 1, links: links.collect(), wan, forwards, policy };
        let snapshot = Snapshot::build(&config, &runtime).expect("forwards that agree");
        let spare = SPARE.take().filter(|spare| spare.stations == stations);
        let spare = spare.unwrap_or_else(|| Spare::new(&config, stations, now));
        // As small as the run: thousands of routers a second are made.
        let full = Sizes::new(sessions, 1);
        let (hosts, handshakes) = (sessions.min(full.hosts), sessions.min(full.handshakes));
        let sizes = Sizes { hosts, handshakes, ..full };
        let (tables, mut engines) = Tables::sized(sizes, 1, PortJournal::none(), 0x5eed);
        let engine = engines.pop().expect("one worker's engine");
        let (neighbours, rings) = (Arc::clone(&spare.neighbours), Arc::clone(&spare.rings));
        let worker = Worker::sized(engine, neighbours, rings, PACKETS_WAITING_MAX)
            .expect("the first participant");
        let counters = worker.counters();
        Self { config, runtime, snapshot, worker, tables, counters, spare: Some(spare) }
    }

    /// The router's own station on a link.
    #[must_use]
    pub fn mac(link: LinkId) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, link.0])
    }

    /// The station with an address.
    #[must_use]
    pub fn station(address: Ipv4Addr) -> MacAddr {
        let [a, b, c, d] = address.octets();
        MacAddr([6, 0, a, b, c, d])
    }

    /// Puts a configuration with the same links in force.
    ///
    /// # Panics
    /// If its forwards contradict each other.
    pub fn reconfigure(&mut self, config: Config) {
        self.runtime.forwards = configured_forwards(&config);
        self.config = config;
        self.publish();
    }

    /// Gives the WAN another address of its subnet.
    ///
    /// # Panics
    /// If there is no WAN.
    pub fn set_wan(&mut self, address: Ipv4Addr) {
        let wan = self.runtime.wan.as_mut().expect("a WAN");
        wan.address = Ipv4Net::new(address, wan.address.prefix_len()).expect("the same length");
        self.publish();
    }

    fn publish(&mut self) {
        self.runtime.generation += 1;
        self.snapshot = Snapshot::build(&self.config, &self.runtime).expect("forwards that agree");
    }

    /// Takes a frame that arrived on a link, and calls `leave` for each that leaves. `None` if the
    /// frame is longer than any of a link.
    ///
    /// # Panics
    /// If the frame has not exactly one verdict, or a frame that leaves does not parse, or leaves on the WAN
    /// untranslated.
    pub fn receive(
        &mut self,
        link: LinkId,
        frame: &[u8],
        offload: Offload,
        now: Instant,
        leave: impl FnMut(LinkId, &[u8]),
    ) -> Option<Verdict> {
        let mut packet = self.egress().large_pool().take().expect("all buffers are home");
        if !packet.copy_from(frame) {
            self.egress().large_pool().put(packet);
            return None;
        }
        (packet.ingress, packet.offload) = (link, offload);
        let mut batch = Batch::new();
        batch.push(packet);
        let spare = self.spare.as_mut().expect("there until the drop");
        self.worker.receive(&mut batch, &mut spare.egress, &self.snapshot, now);
        assert_eq!((batch.len(), self.worker.verdicts().len()), (0, 1));
        let verdict = self.worker.verdicts().next().expect("one packet");
        self.flush(now, leave);
        Some(verdict)
    }

    /// Takes a frame of the router's own stack.
    ///
    /// # Panics
    /// As [`Self::receive`], and if the frame is longer than a small buffer.
    pub fn inject(&mut self, frame: &[u8], now: Instant, leave: impl FnMut(LinkId, &[u8])) {
        let spare = self.spare.as_mut().expect("there until the drop");
        let mut packet: PacketBuf = spare.rings.take().expect("all buffers are home");
        assert!(frame.len() <= SMALL_FRAME_MAX && packet.copy_from(frame));
        assert!(spare.rings.inject(Inject::Route(packet)));
        self.worker.take_injected(&mut spare.egress, &self.snapshot, now);
        self.flush(now, leave);
    }

    fn flush(&mut self, now: Instant, mut leave: impl FnMut(LinkId, &[u8])) {
        let spare = self.spare.as_mut().expect("there until the drop");
        let mut watch = WanWatch::default();
        spare.egress.dequeue(now, &self.counters);
        for link in (0..LINKS).map(LinkId) {
            spare.egress.flush(link, &self.counters, |packets| {
                for packet in packets.iter() {
                    let parsed = parse(packet.frame(), packet.offload);
                    assert!(
                        matches!(parsed, Ok(Parsed::Ipv4(_) | Parsed::Fragment(_))),
                        "{parsed:?}"
                    );
                    if link == LinkId::WAN {
                        watch.look(packet.frame(), self.snapshot.nat.external);
                    }
                    leave(link, packet.frame());
                }
                0
            });
        }
        assert_eq!(watch.strays(), [], "untranslated");
        while let Some(punted) = spare.rings.poll_punt() {
            spare.rings.put(punted.packet);
        }
    }

    fn egress(&mut self) -> &mut Egress {
        &mut self.spare.as_mut().expect("there until the drop").egress
    }

    /// One round of upkeep; whether more is due.
    pub fn expire(&mut self, now: Instant) -> bool {
        self.worker.expire(&self.snapshot, now)
    }

    /// Upkeep until it has come round for every entry. `now` is when it ends; it begins a few
    /// milliseconds before, or with a million entries half a minute, for upkeep does not hurry.
    pub fn expire_all(&mut self, now: Instant) {
        /// Long enough for a look at a few entries, which is what a round of upkeep does.
        const ROUND: std::time::Duration = std::time::Duration::from_millis(1);
        let stats = self.stats();
        let largest = stats.sessions.max(stats.mappings).max(stats.contacts);
        // A round looks at 64 entries, or stretches of 64 slots without one; what one entry brings to an end may
        // end another.
        let looks = 2 * (largest + stats.sessions_max / 64);
        let rounds = (looks / 64 + ROUNDS_MIN) as u32;
        for left in (0..rounds).rev() {
            self.expire(now - ROUND * left);
        }
    }

    /// How full the tables are.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.tables.stats()
    }

    /// Mappings counted against the quotas of hosts.
    #[must_use]
    pub fn mappings_counted(&self) -> u64 {
        self.tables.mappings_counted()
    }

    /// What the worker could still open.
    #[must_use]
    pub fn room(&self) -> Room {
        self.worker.room()
    }

    /// Calls `each` for every session.
    ///
    /// # Panics
    /// If more observers look at once than the tables admit.
    pub fn for_each_session(&self, now: Instant, each: impl FnMut(SessionInfo)) {
        let mut observer = self.tables.domain().participant().expect("one observer at a time");
        self.tables.for_each_session(&observer.pass(), now, &self.snapshot.nat.timeouts, each);
    }

    /// Packets dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.dropped(reason)
    }

    /// Lets the time of every fragment end that waits for others, then [`Self::check`].
    ///
    /// # Panics
    /// As [`Self::check`], and if one still waits.
    pub fn finish(&mut self, now: Instant) {
        self.expire(now + FRAGMENTS_GIVEN_UP);
        assert_eq!(self.worker.packets_waiting(), 0, "fragments");
        for link in (0..LINKS).map(LinkId).chain([LinkId::LOCAL]) {
            assert_eq!(self.counters.link(link).waiting(), 0, "{link:?}");
        }
        self.check();
    }

    /// Every frame has one verdict, and every buffer is at home.
    ///
    /// # Panics
    /// If not.
    pub fn check(&self) {
        let spare = self.spare.as_ref().expect("there until the drop");
        assert_eq!(spare.egress.buffers_out(), 0, "buffers of the worker");
        assert_eq!(spare.rings.buffers_out(), 0, "buffers of the rings");
        for link in (0..LINKS).map(LinkId).chain([LinkId::LOCAL]) {
            let counts = self.counters.link(link);
            assert_eq!(counts.rx_packets.load(), counts.verdicts(), "{link:?}");
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // What a failed check left out of place must not disturb the next.
        if !std::thread::panicking() {
            SPARE.set(self.spare.take());
        }
    }
}

impl Spare {
    fn new(config: &Config, stations: &[(LinkId, Ipv4Addr)], now: Instant) -> Self {
        let rings = Arc::new(Rings::new());
        let links = vec![EgressLink { offloads: Offloads::NONE }; usize::from(LINKS)];
        let egress = Egress::new(links, Shapers::default(), LARGE_BUFFERS, Arc::clone(&rings));
        let neighbours = known(config, stations, now).neighbours();
        Self { egress, rings, stations: stations.to_vec(), neighbours }
    }
}

/// An ARP machine that has heard the stations.
fn known(config: &Config, stations: &[(LinkId, Ipv4Addr)], now: Instant) -> ArpMachine {
    let wan = WanAddress::of_static(config).expect("a static WAN").address;
    let addresses = std::iter::once(wan).chain(config.lans.iter().map(|lan| lan.address));
    let links: Vec<LinkConfig> = addresses
        .zip(0..)
        .map(|(address, link)| LinkConfig {
            id: LinkId(link),
            mac: Bare::mac(LinkId(link)),
            addresses: vec![address],
        })
        .collect();
    let mut arp = ArpMachine::new(links.clone(), now);
    for (link, host) in stations {
        let request = ArpMessage {
            operation: ArpOperation::Request,
            sender_mac: Bare::station(*host),
            sender: *host,
            target_mac: MacAddr::ZERO,
            target: links[link.index()].addresses[0].addr(),
        };
        arp.handle_arp(&request.emit(MacAddr::BROADCAST), *link, now);
    }
    arp
}
