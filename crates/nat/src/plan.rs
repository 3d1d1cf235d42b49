//! What a new session will be: its keys, its rewrites, and the mappings it counts on, already held.

use std::net::Ipv4Addr;

use flow_table::{EntryId, Hit, InsertError, Keep, Pass};
use packet::header::tcp;
use packet::{
    Datagram, DropReason, Endpoint, External, FlowKey, IcmpKind, Instant, Internal, L4, LinkId,
    Protocol, SctpChunk, Side,
};
use rand::rngs::StdRng;

use crate::bonds::{Bond, Bonds};
use crate::engine::{Engine, OpenRequest, Translation};
use crate::flow::{
    DIRECTION, Direction, Flow, HOLDS_CONTACT, HOLDS_MAPPING, HOLDS_TARGET, Links, PICKED_UP,
    Rewrite, UNADMITTED,
};
use crate::hosts::HostSlot;
use crate::journal;
use crate::mapping::{Contact, ContactKey, Mapping, MappingKey};
use crate::ports::Candidates;
use crate::sharing::Sharing;
use crate::tables::{SessionHit, Tables};
use crate::{Filtering, Policy};

/// Mappings at rest given up at once when the mapping table is full, so that the next flows find
/// room.
const RECLAIM: usize = 256;

/// A session that is not in the table yet.
pub(crate) struct Plan {
    /// The first packet as it arrived.
    key: FlowKey,
    /// Its endpoints when it leaves.
    source: Endpoint,
    destination: Endpoint,
    /// Where the answers arrive.
    answers: Side,
    traits: u8,
    mapping: Option<Bond>,
    target: Option<Bond>,
    origin: Option<Origin>,
}

impl Plan {
    /// The key of the first packet's direction, and that of the other: the translated packet,
    /// reversed.
    pub(crate) fn keys(&self) -> [FlowKey; 2] {
        let Plan { key, source, destination, answers, .. } = *self;
        [key, FlowKey::new(key.protocol(), destination, source, answers)]
    }

    pub(crate) fn traits(&self) -> u8 {
        self.traits
    }

    /// The source of its packets when they leave.
    pub(crate) fn source(&self) -> Endpoint {
        self.source
    }

    /// The contact that counts the remote address of a session: for address-dependent filtering, where the
    /// LAN has it, and for ESP.
    pub(crate) fn counted(&self, lan: LinkId, policy: &Policy) -> Option<[ContactKey; 2]> {
        let filters = policy.filtering_of(lan, self.key.source().address)
            == Filtering::AddressDependent
            && self.traits & HOLDS_MAPPING != 0;
        let is_counted = filters || self.key.protocol() == Protocol::Esp;
        let bond = self.mapping.filter(|_| is_counted)?;
        let remote = self.key.destination().address;
        Some(ContactKey::new(self.key.protocol(), bond.external, remote))
    }

    /// The destination of its packets when they leave.
    pub(crate) fn destination(&self) -> Endpoint {
        self.destination
    }

    /// Where the external source comes from, if it has one of its own.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// Why the session can't be, if another has its key of this side.
    pub(crate) fn conflict(&self, side: usize) -> DropReason {
        // One host has its peer to itself.
        let is_by_peer = Sharing::of(self.key.protocol()) == Sharing::Peer
            && self.traits & DIRECTION == Direction::Outbound as u8;
        if side == 1 && is_by_peer { DropReason::PeerTaken } else { DropReason::SessionConflict }
    }

    /// What an ESP packet from outside opens that was found to be for `host`.
    pub(crate) fn of_esp_in(datagram: &Datagram, host: Ipv4Addr, lan: LinkId) -> Self {
        let internal = Internal(Endpoint::new(host, datagram.destination.port));
        Self {
            key: datagram.key(Side::Outside),
            source: datagram.source,
            destination: internal.0,
            answers: Side::Inside,
            traits: Direction::Inbound as u8,
            mapping: Some(Bond { internal, external: External(datagram.destination), lan }),
            target: None,
            origin: None,
        }
    }

    /// What the session holds already.
    pub(crate) fn bonds(&self) -> Bonds {
        let protocol = self.key.protocol();
        let waits =
            self.traits & DIRECTION == Direction::Inbound as u8 && protocol != Protocol::Tcp;
        Bonds {
            protocol,
            traits: if waits { self.traits & !HOLDS_MAPPING } else { self.traits },
            mapping: self.mapping,
            target: self.target,
            remote: self.key.destination().address,
        }
    }

    pub(crate) fn flows(
        &self,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> [Flow; 2] {
        let [key, reverse_key] = self.keys();
        let generation = policy.generation;
        let traits = self.traits;
        let forward = Rewrite {
            source: self.source,
            destination: self.destination,
            traits,
            // Never current: each packet is revalidated, until the target is found to have sent.
            generation: generation.wrapping_sub(u32::from(traits & UNADMITTED != 0)),
        };
        let (source, destination) = (key.destination(), key.source());
        let reverse = Rewrite { source, destination, traits, generation };
        let arrival = Links { ingress: request.ingress, next_hop: request.forward };
        let answers = Links { ingress: request.forward.egress, next_hop: request.reverse };
        [Flow::new(key, forward, arrival, now), Flow::new(reverse_key, reverse, answers, now)]
    }

    /// Whether an existing session does to the packet what this one would.
    pub(crate) fn agrees_with(&self, hit: &SessionHit<'_>) -> bool {
        (hit.value().source(), hit.value().destination()) == (self.source, self.destination)
    }
}

/// An external endpoint, and whether a mapping was held for it.
pub(crate) struct Standin {
    external: External,
    is_held: bool,
    origin: Origin,
}

/// Where the external endpoint of a new session's source comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It is bound to the internal endpoint: by a forward or a 1:1 address, or because the protocol has no ports.
    Bound,
    /// A mapping that is there.
    Mapped,
    /// A new mapping with the internal endpoint's own port.
    Preserved,
    /// A new mapping with the port that the internal endpoint had before the start.
    Former,
    /// A new mapping with another port, drawn by chance.
    Drawn,
}

/// A mapping to be made.
struct Allocation {
    protocol: Protocol,
    internal: Internal,
    lan: LinkId,
    slot: HostSlot,
    /// Its internal key.
    name: MappingKey,
    now: Instant,
}

/// How a mapping came about.
enum Allocated<'p> {
    /// It was made, and is held.
    Made(External, Origin),
    /// Another worker made it meanwhile.
    Found(Hit<'p, MappingKey, Mapping>),
}

/// The deciding half of a new session: what it will be, as far as the holding half lets it.
///
/// Two hold: [`Engine`] really does, [`Foresight`](crate::foresee::Foresight) only says whether it could.
pub(crate) trait Planner {
    /// Adds a session to a mapping that has one.
    const JOIN: fn(&Mapping) -> bool;

    fn tables(&self) -> &Tables;

    /// Gives back what a plan holds.
    fn release(&self, pass: &Pass<'_>, plan: &Plan, now: Instant);

    /// Gives up a mapping that nobody may use any more, if it rests.
    fn discard(&mut self, pass: &Pass<'_>, id: EntryId);

    /// Notes the remote address of a plan that [counts it](Plan::counted); on failure the plan's mapping is
    /// given back.
    fn hold_contact(
        &mut self,
        pass: &Pass<'_>,
        plan: &mut Plan,
        lan: LinkId,
        policy: &Policy,
        now: Instant,
    ) -> Result<(), DropReason>;

    /// Adds a session to an internal endpoint's mapping, waking it if it is at rest.
    fn hold(
        &self,
        mapping: &Mapping,
        protocol: Protocol,
        internal: Internal,
        lan: LinkId,
        policy: &Policy,
    ) -> Result<(), DropReason>;

    /// Makes a mapping.
    fn allocate(
        &mut self,
        pass: &Pass<'_>,
        protocol: Protocol,
        internal: Internal,
        lan: LinkId,
        policy: &Policy,
        now: Instant,
    ) -> Result<(External, Origin), DropReason>;

    /// Plans a session and holds what it counts on.
    fn plan(
        &mut self,
        pass: &Pass<'_>,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<Plan, DropReason> {
        let datagram = request.datagram;
        match request.translation {
            Translation::Outbound => self.plan_outbound(pass, request, policy, now),
            Translation::Inbound(internal) => {
                if datagram.protocol() == Protocol::Tcp {
                    return Err(DropReason::TcpNoSession);
                }
                first_query(datagram)?;
                // It holds the mapping when it is answered, see `upkeep`.
                self.plan_inbound(pass, request, internal, policy, Mapping::is_held)
            }
            Translation::Accepted(accepted) => {
                self.plan_inbound(pass, request, accepted.internal, policy, Self::JOIN)
            }
            Translation::Hairpin(internal) => {
                first_segment(datagram)?;
                self.plan_hairpin(pass, request, internal, policy, now)
            }
            Translation::Routed => {
                let traits = Direction::Routed as u8 | first_or_under_way(datagram)?;
                let (source, destination) = (datagram.source, datagram.destination);
                if source == destination {
                    return Err(DropReason::Land);
                }
                let key = datagram.key(Side::Inside);
                let answers = match request.forward.egress {
                    LinkId::WAN => Side::Outside,
                    _ => Side::Inside,
                };
                let (mapping, target) = (None, None);
                Ok(Plan {
                    key,
                    source,
                    destination,
                    answers,
                    traits,
                    mapping,
                    target,
                    origin: None,
                })
            }
        }
    }

    fn plan_inbound(
        &mut self,
        pass: &Pass<'_>,
        request: &OpenRequest<'_>,
        internal: Internal,
        policy: &Policy,
        enter: fn(&Mapping) -> bool,
    ) -> Result<Plan, DropReason> {
        let datagram = request.datagram;
        let external = External(datagram.destination);
        let bond = Bond { internal, external, lan: request.forward.egress };
        let holds = (HOLDS_MAPPING, enter);
        let traits = Direction::Inbound as u8
            | self.enter_target(pass, datagram.protocol(), bond, policy, holds)?;
        let key = datagram.key(Side::Outside);
        let (source, destination) = (datagram.source, internal.0);
        let (answers, mapping) = (Side::Inside, Some(bond));
        Ok(Plan { key, source, destination, answers, traits, mapping, target: None, origin: None })
    }

    fn plan_outbound(
        &mut self,
        pass: &Pass<'_>,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<Plan, DropReason> {
        let datagram = request.datagram;
        let mut traits = Direction::Outbound as u8 | first_or_under_way(datagram)?;
        let internal = Internal(datagram.source);
        let standin =
            self.stand_in(pass, datagram.protocol(), internal, request.ingress, policy, now)?;
        traits |= if standin.is_held { HOLDS_MAPPING } else { 0 };
        let mut plan = Plan {
            key: datagram.key(Side::Inside),
            source: standin.external.0,
            destination: datagram.destination,
            answers: Side::Outside,
            traits,
            mapping: Some(Bond { internal, external: standin.external, lan: request.ingress }),
            target: None,
            origin: Some(standin.origin),
        };
        self.hold_contact(pass, &mut plan, request.ingress, policy, now)?;
        Ok(plan)
    }

    fn plan_hairpin(
        &mut self,
        pass: &Pass<'_>,
        request: &OpenRequest<'_>,
        internal: Internal,
        policy: &Policy,
        now: Instant,
    ) -> Result<Plan, DropReason> {
        let datagram = request.datagram;
        let protocol = datagram.protocol();
        let external = External(datagram.destination);
        let target = Bond { internal, external, lan: request.forward.egress };
        let mut plan = self.plan_outbound(pass, request, policy, now)?;
        plan.destination = internal.0;
        plan.answers = Side::Inside;
        plan.traits = plan.traits & !DIRECTION | Direction::Hairpin as u8;
        let [key, reverse] = plan.keys();
        let joined = if key == reverse {
            Err(DropReason::Land)
        } else {
            self.enter_target(pass, protocol, target, policy, (HOLDS_TARGET, Self::JOIN))
        };
        match joined {
            Ok(holds) => {
                plan.traits |= holds;
                plan.target = Some(target);
            }
            Err(reason) => {
                self.release(pass, &plan, now);
                return Err(reason);
            }
        }
        let remote = plan.source.address;
        let is_admitted = if plan.traits & HOLDS_TARGET != 0 {
            self.admits_at(pass, protocol, target, remote, policy)
        } else {
            !policy.refuses_strangers(protocol, target.external)
        };
        plan.traits |= if is_admitted { 0 } else { UNADMITTED };
        Ok(plan)
    }

    /// The way to an internal endpoint by its external one: a forward's, a 1:1 address's, or a
    /// mapping that `enter` finds usable, which gives the session the trait `holds`, or from outside
    /// that of the DMZ host.
    fn enter_target(
        &self,
        pass: &Pass<'_>,
        protocol: Protocol,
        bond: Bond,
        policy: &Policy,
        (holds, enter): (u8, fn(&Mapping) -> bool),
    ) -> Result<u8, DropReason> {
        let bound = policy
            .forward_to(protocol, bond.external)
            .or_else(|| policy.static_to(bond.external).map(|(internal, _)| internal));
        if let Some(internal) = bound {
            return if internal == bond.internal { Ok(0) } else { Err(DropReason::NoMapping) };
        }
        // ICMP has mappings too, but nobody enters by one: only answers come that way.
        let mapping = match protocol {
            Protocol::Icmp => None,
            _ => self.tables().mapping_of(pass, protocol, bond),
        };
        if mapping.is_some_and(|hit| enter(hit.value_at(0))) {
            return Ok(holds);
        }
        let from_outside = holds == HOLDS_MAPPING;
        if from_outside && policy.dmz_to(protocol, bond.external) == Some(bond.internal) {
            Ok(0)
        } else {
            Err(DropReason::NoMapping)
        }
    }

    fn admits_at(
        &self,
        pass: &Pass<'_>,
        protocol: Protocol,
        target: Bond,
        remote: Ipv4Addr,
        policy: &Policy,
    ) -> bool {
        let key = MappingKey::external(protocol, target.external);
        self.tables().mappings.lookup(pass, &key).is_some_and(|hit| {
            let host = target.internal.0.address;
            let filtering = policy.filtering_of(hit.value_at(0).lan(), host);
            self.tables().admits(pass, filtering, protocol, target.external, remote)
        })
    }

    /// The external endpoint of an internal one: that of its 1:1 address, of its forward, of its
    /// mapping, or of a new mapping.
    fn stand_in(
        &mut self,
        pass: &Pass<'_>,
        protocol: Protocol,
        internal: Internal,
        lan: LinkId,
        policy: &Policy,
        now: Instant,
    ) -> Result<Standin, DropReason> {
        if let Some(external) = policy.static_of(internal) {
            // A forward may have taken the port for another endpoint.
            let taker = policy.forward_to(protocol, external).filter(|to| *to != internal);
            return match taker {
                Some(_) => Err(DropReason::PortsExhausted),
                None => Ok(Standin { external, is_held: false, origin: Origin::Bound }),
            };
        }
        if let Some(external) = policy.forward_of(protocol, internal) {
            return Ok(Standin { external, is_held: false, origin: Origin::Bound });
        }
        let pair = policy.paired(internal.0.address, lan).ok_or(DropReason::WanDown)?;
        if !Sharing::of(protocol).has_mappings() {
            let external = External(Endpoint::new(pair, internal.0.port));
            return Ok(Standin { external, is_held: false, origin: Origin::Bound });
        }
        let key = MappingKey::internal(protocol, internal, pair);
        let (external, origin) = match self.tables().mappings.lookup(pass, &key) {
            Some(hit) => {
                let external = External(hit.key_at(1).endpoint());
                let address = external.0.address;
                if !policy.is_dynamic(protocol, external)
                    || !policy.may_stand(address, internal.0.address, lan)
                {
                    // A forward or service took the port, or the pool no longer has the address.
                    // Its sessions end one by one, then the mapping can go.
                    let id = hit.id();
                    self.discard(pass, id);
                    return Err(DropReason::PortsExhausted);
                }
                self.hold(hit.value_at(0), protocol, internal, lan, policy)?;
                (external, Origin::Mapped)
            }
            None => self.allocate(pass, protocol, internal, lan, policy, now)?,
        };
        Ok(Standin { external, is_held: true, origin })
    }
}

impl Planner for Engine {
    const JOIN: fn(&Mapping) -> bool = Mapping::join;

    fn tables(&self) -> &Tables {
        &self.tables
    }

    fn release(&self, pass: &Pass<'_>, plan: &Plan, now: Instant) {
        self.tables.release(pass, &plan.bonds(), now);
    }

    fn discard(&mut self, pass: &Pass<'_>, id: EntryId) {
        if self.owners.mappings.owns(id)
            && let Some(hit) = self.tables.mappings.by_id(pass, id)
            && hit.value_at(0).kill()
        {
            self.tables.bury(&hit);
            self.owners.mappings.remove(pass, id);
        }
    }

    fn hold_contact(
        &mut self,
        pass: &Pass<'_>,
        plan: &mut Plan,
        lan: LinkId,
        policy: &Policy,
        now: Instant,
    ) -> Result<(), DropReason> {
        let Some(keys) = plan.counted(lan, policy) else { return Ok(()) };
        let values = [Contact::held(), Contact::held()];
        let is_held = match self.owners.contacts.insert(pass, keys, values) {
            Ok(_) => true,
            Err(InsertError::Exists { hit, .. }) => hit.value_at(0).join(),
            Err(InsertError::Full | InsertError::BucketFull) => false,
        };
        if !is_held {
            self.tables.release(pass, &plan.bonds(), now);
            return Err(DropReason::SessionTableFull);
        }
        plan.traits |= HOLDS_CONTACT;
        Ok(())
    }

    fn hold(
        &self,
        mapping: &Mapping,
        protocol: Protocol,
        internal: Internal,
        lan: LinkId,
        policy: &Policy,
    ) -> Result<(), DropReason> {
        if mapping.join() {
            return Ok(());
        }
        let slot = self.host_slot(protocol, internal, lan, policy)?;
        if self.tables.wake(mapping, slot) {
            return Ok(());
        }
        self.tables.hosts.release(slot);
        // Another worker woke it meanwhile, or its owner is removing it: then the sender's next
        // packet finds it gone.
        if mapping.join() { Ok(()) } else { Err(DropReason::MappingTableFull) }
    }

    /// Makes a mapping, under the address that the host is paired with, or another if pooling allows
    /// and that has no port left. Its internal name has the paired address in either case, so that
    /// an endpoint has one mapping.
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
        let slot = self.host_slot(protocol, internal, lan, policy)?;
        if self.tables.resting() > policy.ports_at_rest_max {
            self.reclaim(pass, policy.ports_at_rest_max);
        }
        let name = MappingKey::internal(protocol, internal, pair);
        let allocation = Allocation { protocol, internal, lan, slot, name, now };
        let mut refusal = DropReason::PortsExhausted;
        let others = policy.pool.choices(own, host).skip(1).filter(|_| lan != LinkId::LOCAL);
        for address in std::iter::once(pair).chain(others) {
            match self.allocate_at(pass, address, &allocation, policy) {
                Err(DropReason::PortsExhausted) => {}
                Err(reason) => {
                    refusal = reason;
                    break;
                }
                Ok(Allocated::Made(external, origin)) => return Ok((external, origin)),
                Ok(Allocated::Found(hit)) => {
                    self.tables.hosts.release(slot);
                    self.hold(hit.value_at(0), protocol, internal, lan, policy)?;
                    return Ok((External(hit.key_at(1).endpoint()), Origin::Mapped));
                }
            }
        }
        self.tables.hosts.release(slot);
        if refusal == DropReason::MappingTableFull {
            self.reclaim(pass, 0);
        }
        Err(refusal)
    }
}

impl Engine {
    fn host_slot(
        &self,
        protocol: Protocol,
        internal: Internal,
        lan: LinkId,
        policy: &Policy,
    ) -> Result<HostSlot, DropReason> {
        if lan == LinkId::LOCAL {
            return Ok(HostSlot::NONE);
        }
        let slot = self.tables.hosts.acquire_mapping(internal.0.address, protocol, policy);
        slot.ok_or(DropReason::HostQuota)
    }

    /// Takes a port of an address. Inserting the external key *is* the allocation of the port.
    fn allocate_at<'p>(
        &mut self,
        pass: &'p Pass<'_>,
        address: Ipv4Addr,
        allocation: &Allocation,
        policy: &Policy,
    ) -> Result<Allocated<'p>, DropReason> {
        let Allocation { protocol, internal, lan, slot, name, now } = *allocation;
        let journal = self.tables.journal.open(address, |other| policy.is_external(other));
        let tried = Tried { protocol, internal, address, now };
        for (external, origin) in tried.ports(journal.as_ref(), policy, &mut self.rng) {
            let keys = [name, MappingKey::external(protocol, external)];
            let values = [(); 2].map(|()| Mapping::held(slot, lan));
            match self.owners.mappings.insert(pass, keys, values) {
                Ok(_) => {
                    if let Some(open) = journal.as_ref().filter(|_| lan != LinkId::LOCAL) {
                        open.take(protocol, external.0.port, internal);
                    }
                    return Ok(Allocated::Made(external, origin));
                }
                Err(InsertError::Exists { side: 0, hit }) => return Ok(Allocated::Found(hit)),
                Err(InsertError::Exists { .. } | InsertError::BucketFull) => {}
                Err(InsertError::Full) => return Err(DropReason::MappingTableFull),
            }
        }
        Err(DropReason::PortsExhausted)
    }

    /// Gives up mappings at rest before their time, while there are more than `spare`.
    fn reclaim(&mut self, pass: &Pass<'_>, spare: u32) {
        let Self { tables, owners, .. } = self;
        owners.mappings.scan(pass, RECLAIM, |hit| {
            if tables.resting() <= spare || !hit.value_at(0).kill() {
                return Keep::Yes;
            }
            tables.bury(&hit);
            Keep::No
        });
    }
}

/// A mapping under an address that looks for a port.
pub(crate) struct Tried {
    pub(crate) protocol: Protocol,
    pub(crate) internal: Internal,
    pub(crate) address: Ipv4Addr,
    pub(crate) now: Instant,
}

impl Tried {
    /// The external endpoints to try in turn: the former one, the internal port itself, then others of its
    /// class; none that is reserved, forwarded or held for another.
    pub(crate) fn ports<'a>(
        &'a self,
        journal: Option<&'a journal::Open<'a>>,
        policy: &'a Policy,
        rng: &'a mut StdRng,
    ) -> impl Iterator<Item = (External, Origin)> + 'a {
        let Self { protocol, internal, address, now } = *self;
        let former = journal.and_then(|open| open.former(protocol, internal, now));
        // The first candidate is the internal port itself.
        let tries = if Sharing::of(protocol) == Sharing::OwnPort { 1 } else { usize::MAX };
        let candidates = Candidates::new(internal.0.port, rng).take(tries);
        let preserved = internal.0.port;
        let own = move |port| if port == preserved { Origin::Preserved } else { Origin::Drawn };
        let former = former.into_iter().map(|port| (port, Origin::Former));
        let ports = former.chain(candidates.map(move |port| (port, own(port))));
        ports.filter_map(move |(port, origin)| {
            let external = External(Endpoint::new(address, port));
            let is_held = journal.is_some_and(|open| open.is_held(protocol, port, internal, now));
            let is_free = policy.is_dynamic(protocol, external) && !is_held;
            is_free.then_some((external, origin))
        })
    }
}

/// TCP from outside opens a session with a SYN only, SCTP with an INIT, ICMP with a query.
pub(crate) fn first_segment(datagram: &Datagram) -> Result<(), DropReason> {
    match datagram.transport {
        L4::Tcp { flags, .. } if flags & (tcp::SYN | tcp::ACK) != tcp::SYN => {
            Err(DropReason::TcpNoSession)
        }
        L4::Tcp { .. } | L4::Udp | L4::UdpLite | L4::Sctp(SctpChunk::Init) => Ok(()),
        L4::Icmp(IcmpKind::Request) | L4::Gre | L4::IpIp | L4::SixInFour => Ok(()),
        L4::Sctp(_) => Err(DropReason::SctpNoSession),
        L4::Icmp(IcmpKind::Reply | IcmpKind::Error) | L4::Esp => Err(DropReason::NoMapping),
    }
}

/// From outside anything enters as by [`first_segment`], but what TCP may do is for [`Tables::entry`] to say.
///
/// [`Tables::entry`]: crate::Tables::entry
pub(crate) fn first_query(datagram: &Datagram) -> Result<(), DropReason> {
    match datagram.transport {
        L4::Tcp { .. } => Ok(()),
        _ => first_segment(datagram),
    }
}

/// From inside also any segment that may be part of a connection from before a restart of the
/// router; the trait that says so. Never a reset, nor an answer to a SYN that we did not see.
fn first_or_under_way(datagram: &Datagram) -> Result<u8, DropReason> {
    match datagram.transport {
        L4::Tcp { flags, .. } if flags & (tcp::SYN | tcp::RST) == 0 => Ok(PICKED_UP),
        L4::Tcp { .. } => first_segment(datagram).map(|()| 0),
        L4::Sctp(SctpChunk::Other | SctpChunk::Shutdown) => Ok(PICKED_UP),
        L4::Sctp(_) => first_segment(datagram).map(|()| 0),
        L4::Udp | L4::UdpLite | L4::Icmp(IcmpKind::Request) => Ok(0),
        L4::Gre | L4::Esp | L4::IpIp | L4::SixInFour => Ok(0),
        L4::Icmp(IcmpKind::Reply) => Err(DropReason::NoMapping),
        L4::Icmp(IcmpKind::Error) => Err(DropReason::IcmpNoSession),
    }
}
