//! The control thread: the router's own stack, its events, signals, and the operator's requests.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use config::{Config, WeekMinute};
use crossbeam::channel::{Receiver, Sender};
use ctl_api::Requests;
use dhcp::Now;
use dhcp::client::ClientEvent;
use dhcp::server::ServerEvent;
use flow_table::Participant;
use link::{LinkState, prefer_large_pages};
use local_stack::{LocalStack, Settings, StackEvent, Transmit};
use packet::{Instant, LinkId};
use pipeline::{Inject, RuleMatch, Runtime, Snapshot, WanAddress};
use store::{Batch, Store};
use tracing::{error, info, warn};

use crate::boot::{self, Parts};
use crate::clock::Clock;
use crate::forwards::ForwardBook;
use crate::rates::Rates;
use crate::shared::{Command, LinkEvent, Shared};

/// Longest sleep: the rates of `status` are sampled this often.
const TICK: Duration = Duration::from_secs(1);

/// Looked up at random they touch far more pages of 4 KiB than a processor remembers the places of, 2,000 or so.
const SESSIONS_FOR_LARGE_PAGES: usize = 100_000;

/// Frames taken from the worker before the records of all of them are stored in one transaction.
const PUNTS_PER_ROUND: usize = 128;

/// Least MTU that a lease may ask for: every host takes packets of this size (RFC 791 §3.2).
const MTU_MIN: u16 = 576;

/// Set by signal handlers, read by the loop.
#[derive(Clone, Default)]
pub struct Signals {
    /// SIGTERM, SIGINT.
    pub stop: Arc<AtomicBool>,
    /// SIGHUP.
    pub reload: Arc<AtomicBool>,
}

/// Everything that the control thread owns.
pub struct Control {
    pub(crate) config: Config,
    pub(crate) path: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) started: Instant,
    pub(crate) stack: LocalStack,
    pub(crate) store: Store,
    pub(crate) forwards: ForwardBook,
    pub(crate) runtime: Runtime,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: Sender<Command>,
    pub(crate) observer: Participant,
    pub(crate) rates: Rates,
    /// Matches of rules known to be missing in the log.
    unlogged: u64,
    has_large_pages: bool,
    /// MTU of the WAN link itself; a lease may ask for less.
    wan_mtu: u16,
    events: Receiver<LinkEvent>,
    requests: Requests,
    signals: Signals,
}

impl Control {
    /// Takes over the parts that the worker does not.
    pub fn new(
        config: Config,
        path: PathBuf,
        clock: Clock,
        parts: ControlParts,
        requests: Requests,
        signals: Signals,
    ) -> Result<Self> {
        let ControlParts { shared, commands, events, stack, store, forwards, runtime } = parts;
        let wan_mtu = runtime.links[LinkId::WAN.index()].mtu;
        let observer = shared.tables.domain().participant().context("observe the flow table")?;
        Ok(Self {
            config,
            path,
            clock,
            started: clock.now(),
            stack,
            store,
            forwards,
            runtime,
            observer,
            rates: Rates::default(),
            unlogged: 0,
            has_large_pages: false,
            wan_mtu,
            commands,
            events,
            requests,
            signals,
            shared,
        })
    }

    /// Runs until told to stop.
    pub fn run(mut self) -> Result<()> {
        self.drain(self.clock.both());
        self.warn_of_shadows();
        loop {
            let now = self.clock.both();
            if self.signals.stop.load(Ordering::Acquire) {
                info!("stopping");
                return Ok(());
            }
            if self.signals.reload.swap(false, Ordering::AcqRel)
                && let Err(error) = self.reload()
            {
                error!("reload refused, the running configuration stays: {error:#}");
            }
            self.take_link_events(now)?;
            self.take_punts(now);
            self.answer_requests();
            self.log_matches();
            if self.runtime.policy.advance(&self.config, week_minute(&self.config, self.clock)) {
                info!("rules with a schedule come or go");
                self.publish();
            }
            if self.stack.poll_timeout(now.instant).is_some_and(|due| due <= now.instant) {
                self.stack.handle_timeout(now);
                self.drain(now);
            }
            self.rates.sample(now.instant, &self.shared.counters, self.runtime.links.len());
            self.enlarge_pages();
            self.wait(now.instant)?;
        }
    }

    /// Asks for large pages once there are so many sessions that small ones slow their look-up. Not before: the
    /// tables have room for far more than a house needs, and of a large page all is taken when any is touched.
    fn enlarge_pages(&mut self) {
        let sessions = self.shared.tables.sessions().len();
        if !self.has_large_pages && sessions >= SESSIONS_FOR_LARGE_PAGES {
            self.has_large_pages = true;
            let asked =
                self.shared.tables.memory().filter(|range| prefer_large_pages(range.clone()));
            info!(sessions, tables = asked.count(), "asked for large pages");
        }
    }

    fn wait(&mut self, now: Instant) -> Result<()> {
        if self.shared.rings.has_punts() {
            return Ok(());
        }
        let due = self.stack.poll_timeout(now).map(|due| due.saturating_since(now));
        let timeout = due.map_or(TICK, |due| due.min(TICK));
        self.shared.control.wait(&[], timeout).context("wait for work")?;
        Ok(())
    }

    fn take_punts(&mut self, now: Now) {
        let mut taken = 0;
        while taken < PUNTS_PER_ROUND
            && let Some(punted) = self.shared.rings.poll_punt()
        {
            let packet = punted.packet;
            self.stack.handle_punt(
                punted.reason,
                packet.ingress,
                punted.wanted,
                packet.frame(),
                now,
            );
            self.shared.rings.put(packet);
            taken += 1;
        }
        if taken > 0 {
            self.drain(now);
        }
    }

    fn answer_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            self.answer(request);
            let now = self.clock.both();
            self.drain(now);
        }
    }

    /// Writes down the matches of rules that want it; the worker bounds their number.
    fn log_matches(&mut self) {
        while let Some(entry) = self.shared.rings.poll_log() {
            let RuleMatch { index, outcome, ingress, protocol, source, destination } = entry;
            let rule = self.config.policy.rules.get(index).and_then(|rule| rule.name.as_deref());
            let link = self.runtime.links.get(ingress.index()).map(|facts| facts.name.as_str());
            info!(
                rule = rule.unwrap_or_default(),
                number = index + 1,
                outcome = outcome.name(),
                link = link.unwrap_or("router"),
                protocol = %config::RuleProtocol::One(protocol),
                %source,
                %destination,
                "rule matched"
            );
        }
        let unlogged = self.shared.counters.unlogged.load();
        if unlogged > self.unlogged {
            warn!(count = unlogged - self.unlogged, "rules matched faster than they are logged");
            self.unlogged = unlogged;
        }
    }

    /// Empties the stack's outputs: first what must be durable, then what acknowledges it, then the events.
    pub(crate) fn drain(&mut self, now: Now) {
        self.store_records();
        self.transmit();
        let mut changed = false;
        while let Some(event) = self.stack.poll_event() {
            changed |= self.handle_event(&event, now);
        }
        if changed {
            self.publish();
        }
    }

    fn store_records(&mut self) {
        let mut batch = Batch::new();
        while let Some(record) = self.stack.poll_store() {
            boot::push_record(&mut batch, &self.config, &record);
        }
        if let Err(error) = self.store.commit(&batch) {
            error!(%error, "state can't be stored; what it would acknowledge is not sent");
            self.stack.discard_transmits();
        }
    }

    fn transmit(&mut self) {
        let rings = &self.shared.rings;
        let mut sent = false;
        let buffer = |space| rings.take_for(space).or_else(|| rings.take());
        while let Some(mut packet) = buffer(self.stack.transmit_space()) {
            let Some(transmit) = self.stack.poll_transmit(packet.space_mut()) else {
                rings.put(packet);
                break;
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
            // A full ring loses the frame, as a full link would; every peer asks again.
            sent |= rings.inject(inject);
        }
        if sent {
            self.shared.worker.wake();
        }
    }

    /// Acts on an event; says whether the snapshot must be built anew.
    fn handle_event(&mut self, event: &StackEvent, now: Now) -> bool {
        match event {
            StackEvent::Wan(event) => self.handle_wan_event(event, now),
            StackEvent::Lan(link, event) => {
                let lan = &self.config.lans[link.index() - 1].name;
                match event {
                    ServerEvent::HostAppeared(host) => {
                        info!(lan, address = %host.address, mac = %host.mac, name = host.name, "host appeared");
                    }
                    ServerEvent::HostLeft(host) => {
                        info!(lan, address = %host.address, mac = %host.mac, name = host.name, "host left");
                    }
                    ServerEvent::HostChanged { new, .. } => {
                        info!(lan, address = %new.address, mac = %new.mac, name = new.name, "host changed");
                    }
                    ServerEvent::PoolExhausted { .. }
                    | ServerEvent::Declined { .. }
                    | ServerEvent::AddressInUse { .. }
                    | ServerEvent::ForeignServer { .. } => {}
                }
                self.refresh_forwards()
            }
            StackEvent::Neighbour(event) => {
                if let forwarding::Event::AddressConflict { link, address, mac } = event {
                    warn!(?link, %address, %mac, "another station claims our address");
                }
                false
            }
        }
    }

    fn handle_wan_event(&mut self, event: &ClientEvent, _now: Now) -> bool {
        match event {
            ClientEvent::Obtained(lease) | ClientEvent::Changed { new: lease, .. } => {
                let wan = wan_address(lease);
                info!(address = %wan.address, server = %lease.server, "WAN lease obtained");
                if let Some(lan) = self.config.overlap_with_lan(wan.address) {
                    warn!(
                        lan = lan.name,
                        wan = %wan.address,
                        "the WAN lease overlaps this LAN; the LAN keeps its addresses, what lies behind them on the WAN is unreachable. Give the LAN another subnet"
                    );
                }
                self.runtime.wan = Some(wan);
                let asked = lease.settings.mtu.filter(|mtu| *mtu >= MTU_MIN).unwrap_or(u16::MAX);
                self.runtime.links[LinkId::WAN.index()].mtu = self.wan_mtu.min(asked);
                true
            }
            ClientEvent::Renewed(_) => {
                info!("WAN lease renewed");
                false
            }
            ClientEvent::Lost { reason, .. } => {
                warn!(?reason, "WAN lease lost");
                self.runtime.wan = None;
                true
            }
            ClientEvent::StateChanged(state) => {
                info!(?state, "WAN client");
                false
            }
            ClientEvent::Conflict { address, mac } => {
                warn!(%address, %mac, "the offered WAN address is in use; declined");
                false
            }
            ClientEvent::Rejected { server, address } => {
                warn!(%server, %address, "WAN offer rejected by configuration");
                false
            }
        }
    }

    /// Resolves the forwards anew; says whether a name leads elsewhere now.
    fn refresh_forwards(&mut self) -> bool {
        let resolved = self.forwards.resolved(&self.config, &self.stack);
        let changed = resolved != self.runtime.forwards;
        self.runtime.forwards = resolved;
        changed
    }

    /// Applies a change of the forwards.
    pub(crate) fn apply_forwards(&mut self) {
        if self.refresh_forwards() {
            self.publish();
        }
    }

    /// Builds a snapshot and hands it to the worker. What can't be built leaves the old one running.
    fn publish(&mut self) {
        self.runtime.generation = self.runtime.generation.wrapping_add(1);
        match Snapshot::build(&self.config, &self.runtime) {
            Ok(snapshot) => {
                self.shared.snapshot.store(Arc::new(snapshot));
                self.shared.worker.wake();
            }
            Err(error) => error!(%error, "the configuration can't be put in force"),
        }
    }

    fn take_link_events(&mut self, now: Now) -> Result<()> {
        while let Ok(event) = self.events.try_recv() {
            match event {
                LinkEvent::Failed(reason) => bail!("the packet worker stopped: {reason}"),
                LinkEvent::State(id, state) => {
                    let link = &self.runtime.links[id.index()].name;
                    match state {
                        LinkState::Up => info!(link, "link up"),
                        LinkState::Down => warn!(link, "link down"),
                        LinkState::Gone => warn!(link, "link vanished; it is looked for again"),
                    }
                    if id == LinkId::WAN {
                        self.stack.set_wan_link(boot::carrier(state), now);
                        self.drain(now);
                    }
                }
                LinkEvent::Reopened(id, mac, mtu) => {
                    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
                    if id == LinkId::WAN {
                        self.wan_mtu = self.config.wan.mtu.map_or(mtu, |limit| limit.min(mtu));
                    }
                    let facts = &mut self.runtime.links[id.index()];
                    facts.mtu = facts.mtu.min(mtu);
                    if facts.mac != mac {
                        bail!(
                            "link {} came back with MAC {mac} instead of {}; start the router again to use it",
                            facts.name,
                            facts.mac
                        );
                    }
                    self.publish();
                    if id == LinkId::WAN {
                        self.stack.set_wan_link(local_stack::LinkCarrier::Up, now);
                        self.drain(now);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the configuration again and puts it in force whole, or refuses it whole.
    pub(crate) fn reload(&mut self) -> Result<Vec<String>> {
        let config = boot::load(&self.path)
            .map_err(|error| anyhow::anyhow!("{}", error.lines().join("\n")))?;
        boot::check_reloadable(&self.config, &config)?;
        let macs = self.runtime.links.iter().map(|link| link.mac).collect();
        let mut settings = Settings::new(&config, macs)?;
        for (link, server) in &mut settings.servers {
            let lan = &config.lans[link.index() - 1];
            boot::add_reservations(&mut server.reservations, self.store.reservations(&lan.name)?);
        }
        let now = self.clock.both();
        let changes = changes(&self.config, &config);
        if config.wan.shaper != self.config.wan.shaper {
            let shapers = pipeline::Shapers::of(&config, now.instant);
            self.command(Command::Shape(shapers));
        }
        // They speak of rules by their places in the old file.
        self.log_matches();
        self.config = config;
        self.runtime.policy.book.adopt(&self.config);
        self.runtime.policy.advance(&self.config, week_minute(&self.config, self.clock));
        self.forwards.set_configured(&self.config);
        self.stack.reconfigure(settings, now);
        if let Some(wan) = WanAddress::of_static(&self.config) {
            self.runtime.wan = Some(wan);
        }
        self.refresh_forwards();
        self.publish();
        self.warn_of_shadows();
        self.drain(now);
        info!(generation = self.runtime.generation, ?changes, "configuration reloaded");
        Ok(changes)
    }

    /// Names the rules that can never match.
    fn warn_of_shadows(&self) {
        let snapshot = self.shared.snapshot.load();
        for (index, earlier) in snapshot.rules.shadows() {
            if let Some(earlier) = earlier {
                let (rule, by) = (index + 1, earlier + 1);
                warn!(
                    rule,
                    by, "this rule never matches: an earlier one takes everything before it"
                );
            }
        }
    }

    /// Hands a command to the worker.
    pub(crate) fn command(&self, command: Command) {
        if self.commands.send(command).is_err() {
            warn!("the packet worker is gone");
        }
        self.shared.worker.wake();
    }
}

/// The hour of the week where the router is.
pub fn week_minute(config: &Config, clock: Clock) -> WeekMinute {
    WeekMinute::at(clock.both().unix_secs, config.policy.utc_offset)
}

/// What [`Control`] takes of [`Parts`].
pub struct ControlParts {
    pub shared: Arc<Shared>,
    pub commands: Sender<Command>,
    pub events: Receiver<LinkEvent>,
    pub stack: LocalStack,
    pub store: Store,
    pub forwards: ForwardBook,
    pub runtime: Runtime,
}

impl Parts {
    /// Parts the worker from the rest.
    pub fn split(self) -> (crate::worker::WorkerThread, ControlParts) {
        let Self { worker, shared, mailbox, stack, store, forwards, runtime } = self;
        let commands = mailbox.commands.0;
        let events = mailbox.events.1;
        (worker, ControlParts { shared, commands, events, stack, store, forwards, runtime })
    }
}

fn wan_address(lease: &dhcp::Lease) -> WanAddress {
    let settings = &lease.settings;
    let prefix_len = settings.prefix.prefix_len();
    let address = ipnet::Ipv4Net::new(settings.address, prefix_len).unwrap_or(settings.prefix);
    let routes =
        settings.routes.iter().filter_map(|route| Some((route.destination, route.gateway?)));
    WanAddress { address, routes: routes.collect() }
}

/// The sections that differ, for the log and the operator.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let sections = [
        ("wan", old.wan != new.wan),
        ("lan", old.lans != new.lans),
        ("dns", old.dns != new.dns),
        ("nat", old.nat != new.nat),
        ("forward", old.forwards != new.forwards),
        ("policy", old.policy != new.policy),
        ("zone", old.zone != new.zone),
    ];
    sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}
