//! What opening a session would come to: the same decisions as [`Engine::open`]'s, with nothing held.
//!
//! Not foreseen is what one worker alone knows, such as how many sessions of strangers it has, and what
//! other workers do meanwhile.
//!
//! [`Engine::open`]: crate::Engine::open

use flow_table::{EntryId, Pass};
use packet::{DropReason, Endpoint, External, Instant, Internal, L4, LinkId, Protocol};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::Policy;
use crate::engine::{OpenRequest, Translation};
use crate::flow::{DIRECTION, Direction, UNADMITTED};
use crate::mapping::{Mapping, MappingKey};
use crate::plan::{Origin, Plan, Planner, Tried};
use crate::tables::{SessionHit, SessionKey, Tables};

/// A session that would be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreseen {
    /// Who sends first.
    pub direction: Direction,
    /// The first packet's source when it leaves. If its port is to be drawn, another may be.
    pub source: Endpoint,
    /// Its destination.
    pub destination: Endpoint,
    /// Where its external source comes from, if it gets one.
    pub origin: Option<Origin>,
}

impl Tables {
    /// What [`Engine::open`] would do, once the session `ending` is gone; changes nothing.
    ///
    /// # Errors
    /// Why the packet would be dropped.
    ///
    /// [`Engine::open`]: crate::Engine::open
    pub fn foresee(
        &self,
        pass: &Pass<'_>,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
        ending: Option<&SessionHit<'_>>,
    ) -> Result<Foreseen, DropReason> {
        let mut foresight = Foresight {
            tables: self,
            rng: StdRng::seed_from_u64(SEED),
            ending: ending.map(SessionHit::id),
        };
        let is_esp = request.datagram.transport == L4::Esp;
        if is_esp && let Translation::Inbound(internal) = request.translation {
            return foresight.esp_in(pass, request, internal, policy, now);
        }
        match request.translation {
            Translation::Accepted(_) if is_esp => return Err(DropReason::NoMapping),
            Translation::Hairpin(_) if is_esp => return Err(DropReason::HairpinUnsupported),
            _ => {}
        }
        foresight.check_host(request, policy, now)?;
        let plan = foresight.plan(pass, request, policy, now)?;
        if is_esp && request.translation == Translation::Outbound {
            self.check_esp_out(pass, &plan)?;
        } else {
            foresight.check_keys(pass, &plan)?;
        }
        foresight.check_room()?;
        if plan.traits() & UNADMITTED != 0 {
            return Err(DropReason::FilterDenied);
        }
        Ok(plan.foreseen())
    }
}

impl Plan {
    fn foreseen(&self) -> Foreseen {
        let direction = match self.traits() & DIRECTION {
            outbound if outbound == Direction::Outbound as u8 => Direction::Outbound,
            inbound if inbound == Direction::Inbound as u8 => Direction::Inbound,
            hairpin if hairpin == Direction::Hairpin as u8 => Direction::Hairpin,
            _ => Direction::Routed,
        };
        let (source, destination) = (self.source(), self.destination());
        Foreseen { direction, source, destination, origin: self.origin() }
    }
}

/// A [`Planner`] that holds nothing.
pub(crate) struct Foresight<'t> {
    tables: &'t Tables,
    /// Draws ports that nobody gets.
    rng: StdRng,
    /// The session that makes room.
    ending: Option<EntryId>,
}

impl Foresight<'_> {
    fn esp_in(
        &self,
        pass: &Pass<'_>,
        request: &OpenRequest<'_>,
        internal: Internal,
        policy: &Policy,
        now: Instant,
    ) -> Result<Foreseen, DropReason> {
        if self.tables.opens_esp_in(pass, request.datagram)? {
            self.check_host(request, policy, now)?;
            self.check_room()?;
        }
        Ok(Foreseen {
            direction: Direction::Inbound,
            source: request.datagram.source,
            destination: internal.0,
            origin: None,
        })
    }

    fn check_host(
        &self,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<(), DropReason> {
        let ending = u32::from(self.ending.is_some());
        self.tables.may_admit_host(request, policy, now, ending)
    }

    /// Whether another session has one of the plan's keys.
    fn check_keys(&self, pass: &Pass<'_>, plan: &Plan) -> Result<(), DropReason> {
        // A port that is to be drawn is one that nobody has.
        let known = if plan.origin() == Some(Origin::Drawn) { 1 } else { 2 };
        for (side, key) in plan.keys().into_iter().enumerate().take(known) {
            let hit = self.tables.sessions().lookup(pass, &SessionKey(key));
            if hit.is_some_and(|hit| Some(hit.id()) != self.ending) {
                return Err(plan.conflict(side));
            }
        }
        Ok(())
    }

    fn check_room(&self) -> Result<(), DropReason> {
        let sessions = self.tables.sessions();
        let free = sessions.capacity().saturating_sub(sessions.len());
        let has_room = free > 0 || self.ending.is_some();
        if has_room { Ok(()) } else { Err(DropReason::SessionTableFull) }
    }

    fn check_quota(
        &self,
        protocol: Protocol,
        internal: Internal,
        lan: LinkId,
        policy: &Policy,
    ) -> Result<(), DropReason> {
        let admits = lan == LinkId::LOCAL
            || self.tables.hosts.admits_mapping(internal.0.address, protocol, policy);
        if admits { Ok(()) } else { Err(DropReason::HostQuota) }
    }

    fn port(
        &mut self,
        pass: &Pass<'_>,
        tried: &Tried,
        policy: &Policy,
    ) -> Result<(External, Origin), DropReason> {
        let Self { tables, rng, .. } = self;
        let journal = tables.journal.look(tried.address);
        let is_free = |(external, _): &(External, Origin)| {
            let key = MappingKey::external(tried.protocol, *external);
            tables.mappings.lookup(pass, &key).is_none()
        };
        let mut ports = tried.ports(journal.as_ref(), policy, rng);
        let found = ports.find(is_free).ok_or(DropReason::PortsExhausted)?;
        let has_room = tables.mappings.len() < tables.mappings.capacity();
        if has_room { Ok(found) } else { Err(DropReason::MappingTableFull) }
    }
}

impl Planner for Foresight<'_> {
    const JOIN: fn(&Mapping) -> bool = Mapping::is_held;

    fn tables(&self) -> &Tables {
        self.tables
    }

    fn release(&self, _: &Pass<'_>, _: &Plan, _: Instant) {}

    fn discard(&mut self, _: &Pass<'_>, _: EntryId) {}

    fn hold_contact(
        &mut self,
        pass: &Pass<'_>,
        plan: &mut Plan,
        lan: LinkId,
        policy: &Policy,
        _: Instant,
    ) -> Result<(), DropReason> {
        let Some([key, _]) = plan.counted(lan, policy) else { return Ok(()) };
        let contacts = &self.tables.contacts;
        let has_room =
            contacts.lookup(pass, &key).is_some() || contacts.len() < contacts.capacity();
        if has_room { Ok(()) } else { Err(DropReason::SessionTableFull) }
    }

    fn hold(
        &self,
        mapping: &Mapping,
        protocol: Protocol,
        internal: Internal,
        lan: LinkId,
        policy: &Policy,
    ) -> Result<(), DropReason> {
        if mapping.is_held() { Ok(()) } else { self.check_quota(protocol, internal, lan, policy) }
    }

    fn allocate(
        &mut self,
        pass: &Pass<'_>,
        protocol: Protocol,
        internal: Internal,
        lan: LinkId,
        policy: &Policy,
        now: Instant,
    ) -> Result<(External, Origin), DropReason> {
        let own = policy.external.ok_or(DropReason::WanDown)?;
        let host = internal.0.address;
        let pair = policy.paired(host, lan).ok_or(DropReason::WanDown)?;
        self.check_quota(protocol, internal, lan, policy)?;
        let others = policy.pool.choices(own, host).skip(1).filter(|_| lan != LinkId::LOCAL);
        for address in std::iter::once(pair).chain(others) {
            let tried = Tried { protocol, internal, address, now };
            match self.port(pass, &tried, policy) {
                Err(DropReason::PortsExhausted) => {}
                other => return other,
            }
        }
        Err(DropReason::PortsExhausted)
    }
}

/// Whose numbers they are does not matter: they only find out whether a port is free.
const SEED: u64 = 0;
