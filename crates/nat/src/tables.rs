//! What the workers share.

use std::sync::Arc;
use std::time::Duration;

use flow_table::{Domain, EntryId, Hit, Key, Owner, Pass, Table, mix};
use packet::{
    Datagram, DropReason, Endpoint, External, FlowKey, IcmpKind, Instant, Internal, L4, Protocol,
    Side,
};

use crate::flow::{Direction, Flow};
use crate::hosts::Hosts;
use crate::mapping::{Contact, ContactKey, Mapping, MappingKey};
use crate::plan::first_segment;
use crate::state::{State, life};
use crate::{Engine, Inbound, Policy, Timeouts};

/// Most mappings of one external address that can exist or rest at once: every port of every
/// protocol.
const MAPPINGS_PER_ADDRESS: usize = Protocol::ALL.len() * 65_536;

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

/// The shared state: sessions, mappings, contacts, and the hosts' quotas.
#[derive(Clone)]
pub struct Tables {
    domain: Arc<Domain>,
    sessions: Arc<Table<SessionKey, Flow>>,
    pub(crate) mappings: Arc<Table<MappingKey, Mapping>>,
    pub(crate) contacts: Arc<Table<ContactKey, Contact>>,
    pub(crate) hosts: Arc<Hosts>,
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
    /// As [`Self::for_addresses`].
    #[must_use]
    pub fn new(sessions: usize, workers: usize, seed: u64) -> (Self, Vec<Engine>) {
        Self::for_addresses(sessions, 1, workers, seed)
    }

    /// Makes tables for `sessions` sessions and the mappings of so many external `addresses` and of
    /// one more, for the time in which an old and a new one overlap. All memory is reserved here, though the system only hands it out
    /// when it is used.
    ///
    /// `seed` must be secret and new with every start: it makes hashes and ports hard to guess (RFC
    /// 6056 §3.4).
    ///
    /// # Panics
    /// Unless 0 < `workers` ≤ `sessions`.
    #[must_use]
    pub fn for_addresses(
        sessions: usize,
        addresses: usize,
        workers: usize,
        seed: u64,
    ) -> (Self, Vec<Engine>) {
        let domain = Domain::new();
        let seed_of = |purpose| mix([purpose, 0], seed);
        let mappings = sessions.min((addresses + 1) * MAPPINGS_PER_ADDRESS);
        let (session_table, session_owners) = Table::new(&domain, sessions, workers, seed_of(1));
        let (mapping_table, mapping_owners) = Table::new(&domain, mappings, workers, seed_of(2));
        let (contact_table, contact_owners) = Table::new(&domain, sessions, workers, seed_of(3));
        let tables = Self {
            domain,
            sessions: session_table,
            mappings: mapping_table,
            contacts: contact_table,
            hosts: Arc::new(Hosts::new(seed_of(4))),
        };
        let owners = session_owners.into_iter().zip(mapping_owners).zip(contact_owners);
        let engines = owners.enumerate().map(|(worker, ((sessions, mappings), contacts))| {
            let owners = Owners { sessions, mappings, contacts };
            Engine::new(tables.clone(), owners, seed_of(5 + worker as u64))
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

    /// Calls `each` for every session that stays during the call; for control threads.
    pub fn for_each_session(
        &self,
        pass: &Pass<'_>,
        now: Instant,
        timeouts: &Timeouts,
        mut each: impl FnMut(SessionInfo),
    ) {
        self.sessions.for_each(pass, |hit| each(SessionInfo::of(&hit, now, timeouts)));
    }

    /// What is known of one session, or `None` if it is gone.
    #[must_use]
    pub fn session(
        &self,
        pass: &Pass<'_>,
        id: EntryId,
        now: Instant,
        timeouts: &Timeouts,
    ) -> Option<SessionInfo> {
        let hit = self.sessions.by_id(pass, id)?;
        Some(SessionInfo::of(&hit, now, timeouts))
    }

    /// Finds the internal endpoint behind an external one, for a packet of [`Side::Outside`]
    /// subject to filtering (of [`Side::Inside`] a hairpin, which [`Engine::open`] filters). Creates
    /// nothing.
    ///
    /// # Errors
    /// [`DropReason::NoMapping`], [`DropReason::FilterDenied`] or [`DropReason::TcpNoSession`].
    pub fn resolve_external(
        &self,
        pass: &Pass<'_>,
        datagram: &Datagram,
        side: Side,
        policy: &Policy,
    ) -> Result<Internal, DropReason> {
        let protocol = datagram.protocol();
        let external = External(datagram.destination);
        if let Some(internal) = policy.forward_to(protocol, external) {
            return first_segment(datagram).map(|()| internal);
        }
        if let Some((internal, inbound)) = policy.static_to(external) {
            if side == Side::Outside && inbound == Inbound::Refused || is_reply(datagram) {
                return Err(DropReason::FilterDenied);
            }
            return first_segment(datagram).map(|()| internal);
        }
        if protocol == Protocol::Icmp {
            return Err(DropReason::NoMapping);
        }
        let key = MappingKey::external(protocol, external);
        let hit = self.mappings.lookup(pass, &key).ok_or(DropReason::NoMapping)?;
        let mapping = hit.value_at(0);
        if !mapping.is_held() {
            return Err(DropReason::NoMapping);
        }
        first_segment(datagram)?;
        let internal = Internal(hit.key_at(0).endpoint());
        let filtering = policy.filtering_of(mapping.lan(), internal.0.address);
        let remote = datagram.source.address;
        if side == Side::Outside && !self.admits(pass, filtering, protocol, external, remote) {
            return Err(DropReason::FilterDenied);
        }
        Ok(internal)
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

/// One session, as `flow list` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Its name, for [`Engine::kill`].
    pub id: EntryId,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The internal endpoint; of a hairpin or routed session the one that sent first.
    pub internal: Internal,
    /// What stands for it outside; of a routed session itself.
    pub external: External,
    /// The peer as the internal endpoint sees it; ICMP: port 0.
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
        Self {
            id: hit.id(),
            protocol: key.protocol(),
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
