//! The router, put together without threads.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use config::{Config, WeekMinute};
use dhcp::client::ClientEvent;
use dhcp::server::StoredBinding;
use dhcp::{Lease, StoredLease};
use ipnet::Ipv4Net;
use local_stack::{LinkCarrier, LocalStack, Settings, StackEvent, StoreRecord, Transmit};
use nat::{JournalWords, PortJournal, SessionInfo, Tables};
use packet::{BATCH_MAX, Batch, Instant, LinkId, MacAddr, Offloads, PacketBuf};
use pipeline::{
    Counters, Egress, EgressLink, Inject, LinkFacts, PolicyState, Punted, Rings, Runtime, Shapers,
    Snapshot, WanAddress, Worker, configured_forwards,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::{WanWatch, now};

/// Receive buffers: a frame at a time arrives.
const LARGE_BUFFERS: usize = BATCH_MAX;

/// Sessions, unless the configuration says how many.
const SESSIONS_DEFAULT: usize = 4096;

/// MTU of every link.
const MTU: u16 = 1500;

/// External addresses in the port journal: enough for one that changes.
const JOURNAL_ADDRESSES: usize = 2;

/// What survives the router.
struct Storage {
    wan: Option<StoredLease>,
    bindings: BTreeMap<(LinkId, Ipv4Addr), StoredBinding>,
    ports: JournalWords,
}

impl Storage {
    fn empty() -> Self {
        let ports = PortJournal::in_memory(JOURNAL_ADDRESSES);
        Self { wan: None, bindings: BTreeMap::new(), ports }
    }
}

/// A whole router. One `receive` or `handle_timeout`, then [`Self::poll_transmit`] until `None`.
pub struct Router {
    config: Config,
    runtime: Runtime,
    snapshot: Snapshot,
    worker: Worker,
    egress: Egress,
    rings: Arc<Rings>,
    tables: Tables,
    counters: Arc<Counters>,
    storage: Storage,
    /// The router as a host, to look at and to command.
    pub stack: LocalStack,
    out: VecDeque<(LinkId, Vec<u8>)>,
    watch: WanWatch,
    seed: u64,
}

impl Router {
    /// Starts a router with empty storage.
    ///
    /// # Errors
    /// If the configuration can't be put in force.
    pub fn new(config: Config, seed: u64, instant: Instant) -> Result<Self> {
        Self::start(config, Storage::empty(), seed, instant)
    }

    /// Stops the router as a power cut would, and starts it again with what it had stored.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn restart(self, instant: Instant) -> Result<Self> {
        let seed = self.seed.wrapping_add(1);
        let mut next = Self::start(self.config, self.storage, seed, instant)?;
        next.watch.extend(self.watch);
        Ok(next)
    }

    fn start(config: Config, storage: Storage, seed: u64, instant: Instant) -> Result<Self> {
        let names = std::iter::once(&config.wan.link).chain(config.lans.iter().map(|l| &l.link));
        let links: Vec<LinkFacts> = names
            .enumerate()
            .map(|(index, name)| LinkFacts {
                name: name.clone(),
                mac: Self::mac(LinkId(index as u8)),
                mtu: MTU,
                address: None,
            })
            .collect();
        let wan = WanAddress::of_static(&config);
        let macs = links.iter().map(|link| link.mac).collect();
        let forwards = configured_forwards(&config);
        let mut policy = PolicyState::default();
        policy.book.adopt(&config);
        policy.advance(&config, week_minute(&config, instant));
        let runtime = Runtime { generation: 1, links, wan, forwards, policy };
        let snapshot = Snapshot::build(&config, &runtime).context("forwards")?;
        let stored = |link| {
            let bindings = storage.bindings.iter().filter(move |((l, _), _)| *l == link);
            bindings.map(|(_, binding)| binding.clone()).collect()
        };
        let settings = Settings::new(&config, macs)?;
        let rng = StdRng::seed_from_u64(seed);
        let stack = LocalStack::new(settings, storage.wan.clone(), stored, rng, now(instant));
        let sessions = config.nat.sessions_max.unwrap_or(SESSIONS_DEFAULT);
        let journal =
            PortJournal::resume(Arc::clone(&storage.ports), instant, config.nat.timeouts.port_rest);
        let (tables, engines) = Tables::with_journal(sessions, 1, journal, seed);
        let engine = engines.into_iter().next().context("an engine")?;
        let rings = Arc::new(Rings::new());
        let worker = Worker::new(engine, stack.neighbours(), Arc::clone(&rings))?;
        let egress_links = vec![EgressLink { offloads: Offloads::NONE }; runtime.links.len()];
        let shapers = Shapers::of(&config, instant);
        let egress = Egress::new(egress_links, shapers, LARGE_BUFFERS, Arc::clone(&rings));
        let counters = worker.counters();
        let out = VecDeque::new();
        let mut router = Self {
            config,
            runtime,
            snapshot,
            worker,
            egress,
            rings,
            tables,
            counters,
            storage,
            stack,
            out,
            watch: WanWatch::default(),
            seed,
        };
        router.settle(instant);
        Ok(router)
    }

    /// The router's station on a link.
    #[must_use]
    pub fn mac(link: LinkId) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, link.0])
    }

    /// The WAN address, if there is one.
    #[must_use]
    pub fn wan_address(&self) -> Option<Ipv4Addr> {
        self.snapshot.nat.external
    }

    /// The packet path's numbers.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// External ports that are held for those who had them before the last start.
    #[must_use]
    pub fn held_ports(&self, instant: Instant) -> usize {
        self.tables.held_ports(instant)
    }

    /// All sessions.
    ///
    /// # Panics
    /// If more observers look at once than the tables admit.
    #[must_use]
    pub fn sessions(&self, instant: Instant) -> Vec<SessionInfo> {
        let mut observer = self.tables.domain().participant().expect("one observer at a time");
        let mut sessions = Vec::new();
        let timeouts = &self.snapshot.nat.timeouts;
        self.tables
            .for_each_session(&observer.pass(), instant, timeouts, |info| sessions.push(info));
        sessions
    }

    /// Takes a frame that arrived on a link.
    ///
    /// # Panics
    /// If the frame is longer than any frame of a link can be.
    pub fn receive(&mut self, link: LinkId, frame: &[u8], instant: Instant) {
        let mut packet = self.egress.large_pool().take().expect("one frame at a time");
        assert!(packet.copy_from(frame), "no such frame on any link");
        packet.ingress = link;
        let mut batch = Batch::new();
        batch.push(packet);
        self.worker.receive(&mut batch, &mut self.egress, &self.snapshot, instant);
        self.settle(instant);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, instant: Instant) {
        self.worker.expire(&self.snapshot, instant);
        if self.runtime.policy.advance(&self.config, week_minute(&self.config, instant)) {
            self.publish();
        }
        self.worker.answer_unsolicited(&mut self.egress, &self.snapshot, instant);
        if self.stack.poll_timeout(instant).is_some_and(|due| due <= instant) {
            self.stack.handle_timeout(now(instant));
        }
        self.settle(instant);
    }

    /// When something is due.
    #[must_use]
    pub fn poll_timeout(&mut self, instant: Instant) -> Option<Instant> {
        let machines =
            Instant::earliest(self.stack.poll_timeout(instant), self.egress.poll_timeout(instant));
        let next_minute = self.config.policy.is_scheduled().then(|| {
            let unix = now(instant).unix_secs;
            instant + Duration::from_secs(60 - unix % 60)
        });
        Instant::earliest(machines, next_minute)
    }

    /// The next frame that leaves.
    pub fn poll_transmit(&mut self) -> Option<(LinkId, Vec<u8>)> {
        self.out.pop_front()
    }

    /// Tells the router that the WAN's cable was pulled or plugged in.
    pub fn set_wan_link(&mut self, carrier: LinkCarrier, instant: Instant) {
        self.stack.set_wan_link(carrier, now(instant));
        self.settle(instant);
    }

    /// Changes the configuration, its LANs and links excepted, as a reload does.
    ///
    /// # Errors
    /// If it can't be put in force; the old one then stays.
    pub fn reconfigure(&mut self, config: Config, instant: Instant) -> Result<()> {
        let macs = self.runtime.links.iter().map(|link| link.mac).collect();
        let settings = Settings::new(&config, macs)?;
        let forwards = configured_forwards(&config);
        let mut runtime = Runtime { forwards, ..self.runtime.clone() };
        runtime.policy.book.adopt(&config);
        runtime.policy.advance(&config, week_minute(&config, instant));
        Snapshot::build(&config, &runtime).context("forwards")?;
        self.runtime = runtime;
        self.config = config;
        self.egress.replace_shapers(Shapers::of(&self.config, instant));
        self.stack.reconfigure(settings, now(instant));
        self.publish();
        self.settle(instant);
        Ok(())
    }

    /// Says what does not add up: frames that left untranslated, frames without a verdict, buffers that did not come
    /// home. What waits in a shaper is not lost.
    #[must_use]
    pub fn violation(&mut self, instant: Instant) -> Option<String> {
        if let [first, ..] = self.watch.strays() {
            return Some(format!(
                "{} packets left the WAN untranslated: {first:?}",
                self.watch.strays().len()
            ));
        }
        for link in (0..self.runtime.links.len() as u8).map(LinkId).chain([LinkId::LOCAL]) {
            let counts = self.counters.link(link);
            let (received, verdicts) = (counts.rx_packets.load(), counts.verdicts());
            if received != verdicts {
                return Some(format!("{link:?}: {received} frames, {verdicts} verdicts"));
            }
        }
        let out = self.egress.buffers_out() + self.rings.buffers_out();
        let waits = self.egress.poll_timeout(instant).is_some();
        (out > 0 && !waits).then(|| format!("{out} buffers did not come home"))
    }

    /// Lets worker and stack exchange what they have for each other until both are done.
    fn settle(&mut self, instant: Instant) {
        loop {
            while let Some(Punted { reason, packet, wanted }) = self.rings.poll_punt() {
                let (ingress, frame) = (packet.ingress, packet.frame());
                self.stack.handle_punt(reason, ingress, wanted, frame, now(instant));
                self.rings.put(packet);
                self.drain_stack();
            }
            self.drain_stack();
            if self.worker.take_injected(&mut self.egress, &self.snapshot, instant) == 0 {
                break;
            }
        }
        self.egress.dequeue(instant, &self.counters);
        let wan = self.wan_address();
        self.watch.know(self.config.further_addresses());
        for link in (0..self.runtime.links.len() as u8).map(LinkId) {
            let Self { egress, counters, out, watch, .. } = self;
            egress.flush(link, counters, |packets| {
                for packet in packets.iter() {
                    if link == LinkId::WAN {
                        watch.look(packet.frame(), wan);
                    }
                    out.push_back((link, packet.frame().to_vec()));
                }
                0
            });
        }
    }

    /// Stores, then transmits, then acts on events, as the control thread does.
    fn drain_stack(&mut self) {
        while let Some(record) = self.stack.poll_store() {
            self.store(record);
        }
        while let Some(packet) = self.rings.take_for(self.stack.transmit_space()) {
            if !self.transmit(packet) {
                break;
            }
        }
        let mut changed = false;
        while let Some(event) = self.stack.poll_event() {
            changed |= self.handle_event(&event);
        }
        if changed {
            self.publish();
        }
    }

    fn store(&mut self, record: StoreRecord) {
        use dhcp::server::StoreRecord as Lan;
        match record {
            StoreRecord::Wan(dhcp::client::StoreRecord::Keep(lease)) => {
                self.storage.wan = Some(lease);
            }
            StoreRecord::Wan(dhcp::client::StoreRecord::Forget) => self.storage.wan = None,
            StoreRecord::Lan(link, Lan::Binding(binding)) => {
                self.storage.bindings.insert((link, binding.address), binding);
            }
            StoreRecord::Lan(link, Lan::Forget(address)) => {
                self.storage.bindings.remove(&(link, address));
            }
            // Reservations are made by command only, and nobody commands here.
            StoreRecord::Lan(_, Lan::Reservation(_) | Lan::Unreserve(_)) => {}
        }
    }

    fn transmit(&mut self, mut packet: PacketBuf) -> bool {
        let Some(transmit) = self.stack.poll_transmit(packet.space_mut()) else {
            self.rings.put(packet);
            return false;
        };
        let inject = match transmit {
            Transmit::Frame { egress, len } => {
                packet.set_len(len);
                Inject::Send(egress, packet)
            }
            Transmit::Packet { len } => {
                packet.set_len(len);
                Inject::Route(packet)
            }
            Transmit::Again { ingress, len } => {
                packet.set_len(len);
                packet.ingress = ingress;
                if ingress == LinkId::LOCAL {
                    Inject::Route(packet)
                } else {
                    Inject::Receive(packet)
                }
            }
        };
        self.rings.inject(inject)
    }

    fn handle_event(&mut self, event: &StackEvent) -> bool {
        match event {
            StackEvent::Wan(
                ClientEvent::Obtained(lease) | ClientEvent::Changed { new: lease, .. },
            ) => {
                self.runtime.wan = Some(wan_address(lease));
                true
            }
            StackEvent::Wan(ClientEvent::Lost { .. }) => {
                self.runtime.wan = None;
                true
            }
            StackEvent::Wan(_) | StackEvent::Lan(..) | StackEvent::Neighbour(_) => false,
        }
    }

    fn publish(&mut self) {
        self.runtime.generation += 1;
        self.snapshot = Snapshot::build(&self.config, &self.runtime)
            .expect("the forwards were accepted with the configuration");
    }
}

/// The hour of the week in the simulated place.
fn week_minute(config: &Config, instant: Instant) -> WeekMinute {
    WeekMinute::at(now(instant).unix_secs, config.policy.utc_offset)
}

fn wan_address(lease: &Lease) -> WanAddress {
    let settings = &lease.settings;
    let prefix_len = settings.prefix.prefix_len();
    let address = Ipv4Net::new(settings.address, prefix_len).unwrap_or(settings.prefix);
    let routes =
        settings.routes.iter().filter_map(|route| Some((route.destination, route.gateway?)));
    WanAddress { address, routes: routes.collect() }
}
