//! What the workers share.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use flow_table::{Domain, EntryId, Hit, Key, Owner, Pass, Table, mix};
use packet::{
    Datagram, DropReason, Endpoint, External, FlowKey, IcmpKind, Instant, Internal, L4, Protocol,
    Side,
};

use crate::esp::is_answer;
use crate::flow::{Direction, Flow};
use crate::handshake::{self, Handshakes};
use crate::hosts::{self, Hosts, Rates};
use crate::mapping::{Contact, ContactKey, Mapping, MappingKey};
use crate::plan::{first_query, first_segment};
use crate::sharing::Sharing;
use crate::state::{State, life};
use crate::sync::{AtomicI64, Ordering};
use crate::{Engine, Inbound, Policy, PortJournal, Timeouts};

/// Most mappings of one external address that can exist or rest at once: every port of every
/// protocol that has mappings.
const MAPPINGS_PER_ADDRESS: usize = MAPPED_PROTOCOLS * 65_536;

/// TCP, UDP, ICMP, UDP-Lite and SCTP.
const MAPPED_PROTOCOLS: usize = 5;

/// A [`FlowKey`] in the session table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionKey(pub FlowKey);

impl From<FlowKey> for SessionKey {
    #[inline]
    fn from(key: FlowKey) -> Self {
        Self(key)
    }
}

impl Key for SessionKey {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        mix(self.0.words(), seed)
    }
}

/// A session found by one of its directions. Side 0 is the direction of its first packet.
pub type SessionHit<'a> = Hit<'a, SessionKey, Flow>;

/// The shared state: sessions, mappings, contacts, the hosts' quotas, handshakes from outside.
#[derive(Clone)]
pub struct Tables {
    domain: Arc<Domain>,
    sessions: Arc<Table<SessionKey, Flow>>,
    pub(crate) mappings: Arc<Table<MappingKey, Mapping>>,
    pub(crate) contacts: Arc<Table<ContactKey, Contact>>,
    /// Mappings of each internal address.
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) journal: Arc<PortJournal>,
    /// Mappings at rest. A worker may count down before another has counted up, hence the sign.
    pub(crate) resting: Arc<AtomicI64>,
    /// Sessions of each internal address.
    pub(crate) sessions_of: Arc<Hosts>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) handshakes: Arc<Handshakes>,
}

/// What tables are made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Sessions.
    pub sessions: usize,
    /// External addresses whose ports may all be mapped; there is room for one more, for the time in
    /// which an old and a new one overlap.
    pub addresses: usize,
    /// Internal addresses that can be told apart at once; more than [`Self::new`] says is no more.
    pub hosts: usize,
    /// Handshakes from outside that can be under way at once.
    pub handshakes: usize,
}

impl Sizes {
    /// Those of a router for `sessions` sessions under `addresses` external addresses. Where thousands of tables
    /// are made, hosts and handshakes may be fewer: they are what takes time to make.
    #[must_use]
    pub const fn new(sessions: usize, addresses: usize) -> Self {
        Self { sessions, addresses, hosts: hosts::SLOTS, handshakes: handshake::NOTES }
    }
}

/// What one worker may write.
pub(crate) struct Owners {
    pub(crate) sessions: Owner<SessionKey, Flow>,
    pub(crate) mappings: Owner<MappingKey, Mapping>,
    pub(crate) contacts: Owner<ContactKey, Contact>,
}

impl Tables {
    /// Makes tables for `sessions` sessions under one external address, and an engine for each of
    /// `workers` workers, in order of [`packet::WorkerId`].
    ///
    /// # Panics
    /// As [`Self::sized`].
    #[must_use]
    pub fn new(sessions: usize, workers: usize, seed: u64) -> (Self, Vec<Engine>) {
        Self::with_journal(sessions, workers, PortJournal::none(), seed)
    }

    /// As [`Self::new`], with ports held that the journal says were taken before the start, and taken
    /// ones written into it.
    ///
    /// # Panics
    /// As [`Self::sized`].
    #[must_use]
    pub fn with_journal(
        sessions: usize,
        workers: usize,
        journal: PortJournal,
        seed: u64,
    ) -> (Self, Vec<Engine>) {
        Self::sized(Sizes::new(sessions, 1), workers, journal, seed)
    }

    /// As [`Self::with_journal`], for several external addresses. All memory is reserved here, though
    /// the system only hands it out when it is used.
    ///
    /// `seed` must be secret and new with every start: it makes hashes and ports hard to guess (RFC
    /// 6056 §3.4).
    ///
    /// # Panics
    /// Unless 0 < `workers` ≤ `sessions`.
    #[must_use]
    pub fn sized(
        sizes: Sizes,
        workers: usize,
        journal: PortJournal,
        seed: u64,
    ) -> (Self, Vec<Engine>) {
        let domain = Domain::new();
        let seed_of = |purpose| mix([purpose, 0], seed);
        let Sizes { sessions, addresses, hosts, handshakes } = sizes;
        let mappings = sessions.min((addresses + 1) * MAPPINGS_PER_ADDRESS);
        let (session_table, session_owners) = Table::new(&domain, sessions, workers, seed_of(1));
        let (mapping_table, mapping_owners) = Table::new(&domain, mappings, workers, seed_of(2));
        let (contact_table, contact_owners) = Table::new(&domain, sessions, workers, seed_of(3));
        let tables = Self {
            domain,
            sessions: session_table,
            mappings: mapping_table,
            contacts: contact_table,
            hosts: Arc::new(Hosts::new(hosts, seed_of(4))),
            journal: Arc::new(journal),
            resting: Arc::new(AtomicI64::new(0)),
            sessions_of: Arc::new(Hosts::new(hosts, seed_of(5))),
            rates: Arc::new(Rates::new(hosts, seed_of(6))),
            handshakes: Arc::new(Handshakes::new(handshakes, seed_of(7))),
        };
        let owners = session_owners.into_iter().zip(mapping_owners).zip(contact_owners);
        let engines = owners.enumerate().map(|(worker, ((sessions, mappings), contacts))| {
            let owners = Owners { sessions, mappings, contacts };
            Engine::new(tables.clone(), owners, seed_of(8 + worker as u64))
        });
        let engines = engines.collect();
        (tables, engines)
    }

    /// The domain in which workers and observers take part.
    #[must_use]
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// The session table: look up [`SessionKey`]s made by [`packet::Datagram::key`].
    #[must_use]
    #[inline]
    pub fn sessions(&self) -> &Table<SessionKey, Flow> {
        &self.sessions
    }

    /// Where the tables are, for an edge that asks the system for large pages.
    pub fn memory(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let tables = [self.sessions.memory(), self.mappings.memory(), self.contacts.memory()];
        tables.into_iter().flatten()
    }

    /// Calls `each` for every session that stays during the call; for control threads.
    pub fn for_each_session(
        &self,
        pass: &Pass<'_>,
        now: Instant,
        timeouts: &Timeouts,
        mut each: impl FnMut(SessionInfo),
    ) {
        self.sessions.for_each(pass, |hit| each(self.info(pass, &hit, now, timeouts)));
    }

    /// What is known of one session, or `None` if it is gone.
    #[must_use]
    pub fn session(
        &self,
        pass: &Pass<'_>,
        id: SessionId,
        now: Instant,
        timeouts: &Timeouts,
    ) -> Option<SessionInfo> {
        let hit = id.find(self, pass)?;
        Some(self.info(pass, &hit, now, timeouts))
    }

    /// What is known of a session that was found.
    #[must_use]
    pub fn info(
        &self,
        pass: &Pass<'_>,
        hit: &SessionHit<'_>,
        now: Instant,
        timeouts: &Timeouts,
    ) -> SessionInfo {
        let mut info = SessionInfo::of(hit, now, timeouts);
        if info.protocol == Protocol::Esp {
            let keeper = self.keeper(pass, hit);
            info.expires =
                keeper.map_or(Duration::ZERO, |keeper| life(&keeper, now, timeouts).expires);
            if is_answer(hit) || self.is_answered(pass, hit) {
                info.state = State::Replied;
            }
        }
        info
    }

    /// Finds the internal endpoint behind an external one, for a packet of [`Side::Outside`]
    /// subject to filtering (of [`Side::Inside`] a hairpin, which [`Engine::open`] filters). Creates
    /// nothing.
    ///
    /// # Errors
    /// [`DropReason::NoMapping`], [`DropReason::FilterDenied`], [`DropReason::ForwardSource`],
    /// [`DropReason::HairpinDisabled`], [`DropReason::TcpNoSession`], [`DropReason::SctpNoSession`] or
    /// [`DropReason::HairpinUnsupported`]. What a TCP segment from
    /// outside may do is for [`Self::entry`] to say.
    pub fn resolve_external(
        &self,
        pass: &Pass<'_>,
        datagram: &Datagram,
        side: Side,
        policy: &Policy,
    ) -> Result<Internal, DropReason> {
        let protocol = datagram.protocol();
        let external = External(datagram.destination);
        if let Some(forward) = policy.forward_at(protocol, external) {
            forward.admits(datagram.source.address, side)?;
            may_open(datagram, side)?;
            return policy.forward_to(protocol, external).ok_or(DropReason::NoMapping);
        }
        if let Some(bound) = policy.static_to(external) {
            return self.resolve_static(pass, datagram, side, bound);
        }
        match self.resolve_mapping(pass, datagram, side, policy) {
            Err(DropReason::NoMapping) if side == Side::Outside => {
                let internal = policy.dmz_to(protocol, external).ok_or(DropReason::NoMapping)?;
                first_query(datagram).map(|()| internal)
            }
            resolved => resolved,
        }
    }

    /// Whether [`Self::resolve_external`] could find somebody behind an external endpoint, for some sender.
    #[must_use]
    pub fn has_taker(
        &self,
        pass: &Pass<'_>,
        protocol: Protocol,
        external: External,
        policy: &Policy,
    ) -> bool {
        policy.forward_at(protocol, external).is_some()
            || policy.static_to(external).is_some()
            || policy.dmz_to(protocol, external).is_some()
            || self.mappings.lookup(pass, &MappingKey::external(protocol, external)).is_some()
    }

    /// What a packet to a 1:1 address reaches: its host, by any protocol.
    fn resolve_static(
        &self,
        pass: &Pass<'_>,
        datagram: &Datagram,
        side: Side,
        (internal, inbound): (Internal, Inbound),
    ) -> Result<Internal, DropReason> {
        if is_reply(datagram) {
            return Err(DropReason::FilterDenied);
        }
        match (side, inbound) {
            (Side::Inside, _) if !Sharing::of(datagram.protocol()).has_mappings() => {
                Err(DropReason::HairpinUnsupported)
            }
            (Side::Outside, _) if datagram.protocol() == Protocol::Esp => {
                match (self.resolve_esp(pass, datagram), inbound) {
                    (Err(DropReason::NoMapping), Inbound::Allowed) => Ok(internal),
                    (Err(DropReason::NoMapping), Inbound::Refused) => Err(DropReason::FilterDenied),
                    (asked, _) => asked,
                }
            }
            (Side::Inside, _) | (Side::Outside, Inbound::Allowed) => {
                may_open(datagram, side).map(|()| internal)
            }
            (Side::Outside, Inbound::Refused) => {
                first_segment(datagram)?;
                Err(DropReason::FilterDenied)
            }
        }
    }

    fn resolve_mapping(
        &self,
        pass: &Pass<'_>,
        datagram: &Datagram,
        side: Side,
        policy: &Policy,
    ) -> Result<Internal, DropReason> {
        let protocol = datagram.protocol();
        if protocol == Protocol::Icmp {
            return Err(DropReason::NoMapping);
        }
        if !Sharing::of(protocol).has_mappings() {
            return match (side, protocol) {
                (Side::Inside, _) => Err(DropReason::HairpinUnsupported),
                (Side::Outside, Protocol::Esp) => self.resolve_esp(pass, datagram),
                (Side::Outside, _) => Err(DropReason::NoMapping),
            };
        }
        let external = External(datagram.destination);
        let key = MappingKey::external(protocol, external);
        let hit = self.mappings.lookup(pass, &key).ok_or(DropReason::NoMapping)?;
        let mapping = hit.value_at(0);
        if !mapping.is_held() {
            return Err(DropReason::NoMapping);
        }
        let internal = Internal(hit.key_at(0).endpoint());
        let filtering = policy.filtering_of(mapping.lan(), internal.0.address);
        let remote = datagram.source.address;
        if side == Side::Inside {
            first_segment(datagram)?;
        } else if self.admits(pass, filtering, protocol, external, remote) {
            may_open(datagram, side)?;
        } else {
            first_segment(datagram)?;
            return Err(DropReason::FilterDenied);
        }
        Ok(internal)
    }

    /// External ports that are held for those who had them before the start.
    #[must_use]
    pub fn held_ports(&self, now: Instant) -> usize {
        self.journal.held(now)
    }

    /// Mappings at rest, at about one time.
    pub(crate) fn resting(&self) -> u32 {
        // Relaxed: a limit that is met within a few.
        u32::try_from(self.resting.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Mappings counted against the quotas of hosts, of all together: those in use. Looks at every count.
    #[must_use]
    pub fn mappings_counted(&self) -> u64 {
        self.hosts.total()
    }

    /// How full the tables are.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            sessions: self.sessions.len(),
            sessions_max: self.sessions.capacity(),
            mappings: self.mappings.len(),
            mappings_max: self.mappings.capacity(),
            contacts: self.contacts.len(),
        }
    }
}

fn is_reply(datagram: &Datagram) -> bool {
    datagram.transport == L4::Icmp(IcmpKind::Reply)
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(f)
    }
}

/// Whether a packet may open a session as far as it alone can say; what TCP from outside may, its
/// handshake says.
fn may_open(datagram: &Datagram, side: Side) -> Result<(), DropReason> {
    match (side, datagram.protocol()) {
        (Side::Outside, Protocol::Tcp) => Ok(()),
        _ => first_segment(datagram),
    }
}

/// How full the tables are, at about one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Sessions.
    pub sessions: usize,
    /// Room for sessions.
    pub sessions_max: usize,
    /// Dynamic mappings, those at rest included.
    pub mappings: usize,
    /// Room for mappings.
    pub mappings_max: usize,
    /// Pairs of mapping and remote address, for address-dependent filtering.
    pub contacts: usize,
}

/// Names a session, for commands that arrive when it may be gone: the place that it left can belong
/// to another session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionId {
    pub(crate) entry: EntryId,
    key: SessionKey,
}

impl SessionId {
    /// The session, if it is there still.
    pub(crate) fn find<'a>(self, tables: &'a Tables, pass: &'a Pass<'_>) -> Option<SessionHit<'a>> {
        tables.sessions.by_id(pass, self.entry).filter(|hit| hit.key_at(0) == self.key)
    }
}

/// One session, as `flow list` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Its name, for [`Engine::kill`].
    pub id: SessionId,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The internal endpoint; of a hairpin or routed session the one that sent first.
    pub internal: Internal,
    /// What stands for it outside; of a routed session itself.
    pub external: External,
    /// The peer as the internal endpoint sees it; ICMP and what has no ports: port 0.
    pub remote: Endpoint,
    /// What its packets have shown.
    pub state: State,
    /// Who sent first.
    pub direction: Direction,
    /// Packets, of the first packet's direction and of the other.
    pub packets: [u64; 2],
    /// Bytes, likewise.
    pub bytes: [u64; 2],
    /// Since the last packet of either direction.
    pub idle: Duration,
    /// Until it may be removed, if nothing refreshes it.
    pub expires: Duration,
}

impl SessionInfo {
    fn of(hit: &SessionHit<'_>, now: Instant, timeouts: &Timeouts) -> Self {
        let key = hit.key_at(0).0;
        let sides = [hit.value_at(0), hit.value_at(1)];
        let direction = sides[0].direction();
        let (internal, external, remote) = match direction {
            Direction::Inbound => (sides[0].destination(), key.destination(), key.source()),
            Direction::Outbound | Direction::Hairpin | Direction::Routed => {
                (key.source(), sides[0].source(), key.destination())
            }
        };
        let life = life(hit, now, timeouts);
        let protocol = key.protocol();
        // The halves of an SPI would look like ports.
        let shown = |endpoint: Endpoint| match protocol {
            Protocol::Esp => Endpoint::new(endpoint.address, 0),
            _ => endpoint,
        };
        let [internal, external, remote] = [internal, external, remote].map(shown);
        Self {
            id: SessionId { entry: hit.id(), key: SessionKey(key) },
            protocol,
            internal: Internal(internal),
            external: External(external),
            remote,
            state: life.state,
            direction,
            packets: sides.map(Flow::packets),
            bytes: sides.map(Flow::bytes),
            idle: life.idle,
            expires: life.expires,
        }
    }
}
