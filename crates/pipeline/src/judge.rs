//! What is to become of a packet: decided here, without changing anything.
//!
//! [`Judge`] reads; [`Step`](crate::step::Step) carries out. Whoever wants to know what would become of a
//! packet asks the same functions that decide about it, so the two cannot disagree.

use std::net::Ipv4Addr;

use config::{Hairpinning, IcmpRefusals, UnsolicitedSyn};
use firewall::{FirstPacket, Zone};
use flow_table::{Hash, Pass};
use forwarding::{NeighbourRef, Neighbours, Route};
use nat::{
    Direction, Entry, Flow, NextHop, PendingError, Relay, SessionHit, SessionKey, Standing, Tables,
    Translation,
};
use packet::header::destination_mac;
use packet::icmp::{self, ErrorKind};
use packet::reset;
use packet::{
    Datagram, DropReason, Endpoint, Fragment, IcmpKind, Instant, Internal, L4, LinkId, MacAddr,
    PacketBuf, Protocol, PuntReason, Segment, Side,
};

use crate::rules::{Denial, RuleId, Saying};
use crate::size;
use crate::snapshot::{LinkFacts, Snapshot};
use crate::verdict::Verdict;

pub(crate) const DHCP_SERVER_PORT: u16 = 67;
pub(crate) const DHCP_CLIENT_PORT: u16 = 68;

/// What a decision may look at.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub tables: &'a Tables,
    pub neighbours: &'a Neighbours,
    pub pass: &'a Pass<'a>,
    pub snapshot: &'a Snapshot,
    pub side: Side,
    pub now: Instant,
}

/// What is to become of a packet whose flow is not in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ruling {
    /// It opens a flow.
    Open(Opening),
    /// It is of a TCP connection from outside that is not open yet, and passes without a flow.
    Relay(Relay, NextHop),
    /// It is an ICMP error, and goes on translated by the flow of the packet that it embeds.
    Error,
    /// It is an ICMP error about a connection from outside that is not open yet.
    PendingError(PendingError, NextHop),
    /// It is the router's own and goes on as it is.
    Own(NextHop),
    /// It is for the router itself, and perhaps a rule says so.
    Local(Option<RuleId>),
    /// A rule refuses it.
    Denied(Denial),
    /// It is answered by an ICMP error, or dropped for the reason if none may be sent.
    Answer(ErrorKind, DropReason),
    /// It is a SYN from outside that nobody asked for: dropped for the reason, and answered in six
    /// seconds if nobody has asked by then.
    AnswerLater(DropReason),
    /// There is nothing else to do.
    Final(Verdict),
}

/// A flow to be opened: what [`nat::OpenRequest`] says beside the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub translation: Translation,
    pub forward: NextHop,
    pub reverse: NextHop,
    /// The rule that allows it, if one does.
    pub rule: Option<RuleId>,
}

/// Where a packet of a flow goes.
pub(crate) enum Passage<'a> {
    /// To the router itself.
    Deliver,
    /// Out by this link, to this station.
    Out(&'a LinkFacts, MacAddr),
    /// The same, but the flow does not know its neighbour by this reference yet.
    OutAnew(&'a LinkFacts, MacAddr, NeighbourRef),
}

/// How the sender of a refused packet hears of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// Not at all.
    Nothing,
    /// By a TCP reset, so that the program gives up at once.
    Reset,
    /// By this ICMP error.
    Icmp(ErrorKind),
}

impl Denial {
    /// What the sender of a packet that the rule refuses is told, if that may be sent.
    pub fn told(&self, datagram: &Datagram) -> Told {
        match datagram.transport {
            _ if !self.is_told => Told::Nothing,
            L4::Tcp { .. } => Told::Reset,
            _ => Told::Icmp(ErrorKind::AdministrativelyProhibited),
        }
    }
}

impl Ruling {
    /// The same without a word to the sender: a rule about what a host sends tells that host alone.
    fn untold(self) -> Self {
        match self {
            Self::Denied(denial) => Self::Denied(Denial { is_told: false, ..denial }),
            other => other,
        }
    }
}

impl From<Verdict> for Ruling {
    fn from(verdict: Verdict) -> Self {
        Self::Final(verdict)
    }
}

impl From<DropReason> for Ruling {
    fn from(reason: DropReason) -> Self {
        Self::Final(Verdict::Drop(reason))
    }
}

impl<'a> Judge<'a> {
    /// The flow that a packet belongs to.
    #[inline]
    pub fn flow_of(&self, datagram: &Datagram, hash: Hash) -> Option<SessionHit<'a>> {
        match datagram.transport {
            // An error belongs to the flow of the packet that it embeds.
            L4::Icmp(IcmpKind::Error) => None,
            _ => {
                let key = SessionKey(datagram.key(self.side));
                self.tables.sessions().lookup_hashed(self.pass, hash, &key)
            }
        }
    }

    /// What is to become of a packet that no flow is known for.
    pub fn first(&self, packet: &PacketBuf, datagram: &Datagram) -> Ruling {
        let ruling = match (packet.ingress, self.side) {
            (LinkId::LOCAL, _) => self.local(packet, datagram),
            (_, Side::Inside) => self.outbound(packet, datagram),
            (_, Side::Outside) => self.inbound(packet, datagram),
        };
        let ruling = ruling.unwrap_or_else(|refusal| refusal);
        match ruling {
            // A packet that must not go on opens nothing.
            Ruling::Open(opening) => match self.may_open(packet, datagram, &opening) {
                Ok(()) => ruling,
                Err(refusal) => refusal,
            },
            Ruling::Relay(_, hop) => match self.fit_on(packet, datagram, hop.egress) {
                Ok(()) => ruling,
                Err(refusal) => refusal,
            },
            other => other,
        }
    }

    /// Whether the packet can go on, and its host open one more.
    fn may_open(
        &self,
        packet: &PacketBuf,
        datagram: &Datagram,
        opening: &Opening,
    ) -> Result<(), Ruling> {
        self.fit_on(packet, datagram, opening.forward.egress)?;
        if self.side == Side::Inside && packet.ingress != LinkId::LOCAL {
            let host = datagram.source.address;
            self.tables.check_host(host, &self.snapshot.nat, self.now)?;
        }
        Ok(())
    }

    /// Whether a flow that was made under another configuration still agrees with this one; `None` if that can't
    /// be said from this packet of it.
    pub fn standing(&self, datagram: &Datagram, hit: &SessionHit<'a>) -> Option<Standing> {
        let allowed = self.allows_still(datagram, hit);
        if allowed == Some(false) {
            return Some(Standing::Void);
        }
        match nat::standing(hit, &self.snapshot.nat) {
            Standing::Agrees if !self.routes_agree(hit) => Some(Standing::Void),
            Standing::Agrees if allowed.is_none() => None,
            standing => Some(standing),
        }
    }

    /// Whether a flow came from outside and rules would not let it in today.
    pub fn shuts_out(&self, datagram: &Datagram, hit: &SessionHit<'a>) -> bool {
        hit.value_at(0).direction() == Direction::Inbound
            && !nat::is_answer(hit)
            && self.allows_still(datagram, hit) == Some(false)
    }

    /// Whether rules, zones and bogons would let a flow be opened today.
    fn allows_still(&self, datagram: &Datagram, hit: &SessionHit<'a>) -> Option<bool> {
        let (first, key) = (hit.value_at(0), hit.key_at(0).0);
        let direction = first.direction();
        let destination = match direction {
            Direction::Outbound | Direction::Routed => key.destination(),
            Direction::Inbound | Direction::Hairpin => first.destination(),
        };
        let bogons = &self.snapshot.bogons;
        let is_bogon = match direction {
            Direction::Outbound if first.ingress() == LinkId::LOCAL => false,
            Direction::Outbound => bogons.contains(destination.address),
            Direction::Inbound => bogons.contains(key.source().address),
            Direction::Hairpin | Direction::Routed => false,
        };
        if is_bogon {
            return Some(false);
        }
        let is_answer = nat::is_answer(hit);
        let opening = if is_answer {
            answered(first.next_hop().egress, first.destination(), first.source())
        } else {
            FirstPacket {
                from: Zone::of(first.ingress()),
                to: Zone::of(first.next_hop().egress),
                protocol: key.protocol() as u8,
                source: key.source(),
                destination,
                dscp: (hit.side() == 0).then_some(datagram.tos >> 2),
            }
        };
        self.snapshot.rules.allow_still(&opening, || match direction {
            Direction::Inbound | Direction::Hairpin if !is_answer => true,
            _ => self.snapshot.zones.check(opening.from, opening.to).is_ok(),
        })
    }

    /// Whether today's routes lead both directions of a flow over the links that it was opened for.
    fn routes_agree(&self, hit: &SessionHit<'a>) -> bool {
        [hit.value_at(0), hit.value_at(1)].into_iter().all(|flow| {
            let egress = flow.next_hop().egress;
            egress == LinkId::LOCAL
                || self
                    .snapshot
                    .routes
                    .lookup(flow.destination().address)
                    .is_some_and(|route| route.egress == egress)
        })
    }

    /// Where a packet of a flow goes, or why it does not.
    #[inline]
    pub fn passage(
        &self,
        packet: &PacketBuf,
        datagram: &Datagram,
        hit: &SessionHit<'a>,
    ) -> Result<Passage<'a>, Ruling> {
        let neighbour = NeighbourRef::from_bits(hit.value().next_hop().neighbour);
        self.passage_by(packet, datagram, hit, neighbour)
    }

    /// The same for a flow that was told of another neighbour.
    #[inline]
    pub fn passage_by(
        &self,
        packet: &PacketBuf,
        datagram: &Datagram,
        hit: &SessionHit<'a>,
        neighbour: NeighbourRef,
    ) -> Result<Passage<'a>, Ruling> {
        let flow = hit.value();
        if flow.ingress() != packet.ingress {
            return Err(DropReason::SourceSpoofed.into());
        }
        if packet.ingress != LinkId::LOCAL && destination_mac(packet.frame()).is_group() {
            return Err(DropReason::Broadcast.into());
        }
        if datagram.transport.is_reset()
            && let Some(segment) = Segment::read(packet.frame(), datagram)
            && !nat::expects(hit, &segment)
        {
            return Err(DropReason::TcpResetOutOfWindow.into());
        }
        let hop = flow.next_hop();
        if hop.egress == LinkId::LOCAL {
            return Ok(Passage::Deliver);
        }
        let egress = self.snapshot.link(hop.egress).ok_or(DropReason::LinkDown)?;
        self.fit(packet, datagram, egress)?;
        match self.neighbours.resolve(neighbour) {
            Some(mac) => Ok(Passage::Out(egress, mac)),
            None => self.resolve_again(hit, egress),
        }
    }

    fn fit_on(
        &self,
        packet: &PacketBuf,
        datagram: &Datagram,
        egress: LinkId,
    ) -> Result<(), Ruling> {
        match self.snapshot.link(egress) {
            Some(link) => self.fit(packet, datagram, link),
            None => Ok(()),
        }
    }

    /// Refuses what must not go on: an expired TTL, a packet that the egress can't carry and that must not be cut.
    #[inline]
    fn fit(
        &self,
        packet: &PacketBuf,
        datagram: &Datagram,
        egress: &LinkFacts,
    ) -> Result<(), Ruling> {
        if datagram.ttl <= 1 {
            return Err(Ruling::Answer(ErrorKind::TimeExceeded, DropReason::TtlExpired));
        }
        if datagram.dont_fragment && !size::fits(packet, datagram, egress.mtu) {
            let kind = ErrorKind::FragmentationNeeded(egress.mtu);
            return Err(Ruling::Answer(kind, DropReason::TooBig));
        }
        Ok(())
    }

    /// Finds the neighbour of a flow anew, after its entry in the neighbour table was removed.
    #[cold]
    fn resolve_again(
        &self,
        hit: &SessionHit<'a>,
        egress: &'a LinkFacts,
    ) -> Result<Passage<'a>, Ruling> {
        let destination = hit.value().destination().address;
        let route = self.snapshot.routes.lookup(destination).ok_or(DropReason::NoRoute)?;
        let hop = self.hop(route.egress, route.next_hop(destination))?;
        let neighbour = NeighbourRef::from_bits(hop.neighbour);
        match self.neighbours.resolve(neighbour) {
            Some(mac) => Ok(Passage::OutAnew(egress, mac, neighbour)),
            None => Err(Verdict::Resolve(route.egress, route.next_hop(destination)).into()),
        }
    }

    /// The neighbour that today's routes lead packets of a flow to; `None` if it has no part in routing.
    pub fn rerouted(&self, flow: &Flow) -> Option<NeighbourRef> {
        let (destination, egress) = (flow.destination().address, flow.next_hop().egress);
        let route = self.snapshot.routes.lookup(destination);
        let route = route.filter(|_| egress != LinkId::LOCAL)?;
        let neighbour = self.neighbours.lookup(egress, route.next_hop(destination));
        Some(neighbour.unwrap_or(NeighbourRef::NONE))
    }

    /// The link and station of a next hop.
    pub fn addressed(&self, hop: NextHop) -> Result<(&'a LinkFacts, MacAddr), DropReason> {
        let egress = self.snapshot.link(hop.egress).ok_or(DropReason::LinkDown)?;
        let mac = self.neighbours.resolve(NeighbourRef::from_bits(hop.neighbour));
        Ok((egress, mac.ok_or(DropReason::NeighbourUnresolved)?))
    }

    fn outbound(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<Ruling, Ruling> {
        let (ingress, destination) = (packet.ingress, datagram.destination.address);
        self.lan_broadcast(packet, datagram)?;
        self.snapshot.sources.check_source(ingress, datagram.source.address, destination)?;
        if self.snapshot.is_local(destination) {
            return self.toward_router(packet, datagram);
        }
        // Before the policy: an error goes where the packet came from that it is about.
        if datagram.transport == L4::Icmp(IcmpKind::Error) {
            return self.error(packet, datagram);
        }
        let Some(route) = self.snapshot.routes.lookup(destination).copied() else {
            return Err(Ruling::Answer(ErrorKind::NetworkUnreachable, self.snapshot.no_route()));
        };
        let is_exempt = route.egress == LinkId::WAN && self.is_exempt(datagram);
        if route.egress == LinkId::WAN && !is_exempt && self.snapshot.bogons.contains(destination) {
            let reason = DropReason::DestinationBogon;
            return Err(Ruling::Answer(ErrorKind::NetworkUnreachable, reason));
        }
        // Before the policy: what was let in is answered.
        if route.egress == LinkId::WAN
            && let Some(segment) = Segment::read(packet.frame(), datagram)
            && let Some(relay) =
                self.tables.answer(self.pass, datagram, &segment, self.now, &self.snapshot.nat)
        {
            return Ok(Ruling::Relay(relay, self.hop_via(&route, destination)?));
        }
        let opening = opening(datagram, (ingress, route.egress), datagram.destination);
        let rule = self.permit(&opening, |reason| self.refused(reason))?;
        let translation = match route.egress {
            LinkId::WAN if !is_exempt => Translation::Outbound,
            _ => Translation::Routed,
        };
        let forward = self.hop_via(&route, destination)?;
        let reverse = self.hop(ingress, datagram.source.address)?;
        Ok(Ruling::Open(Opening { translation, forward, reverse, rule }))
    }

    /// Inside to one of the router's addresses: hairpinned if the address is an external one and something
    /// inside answers for the port (RFC 4787 §6, REQ-9), else for the router itself.
    fn toward_router(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<Ruling, Ruling> {
        let nat = &self.snapshot.nat;
        if nat.is_external(datagram.destination.address) {
            if datagram.transport == L4::Icmp(IcmpKind::Error) {
                return self.error(packet, datagram);
            }
            match self.tables.resolve_external(self.pass, datagram, self.side, nat) {
                Ok(internal) => return self.hairpin(packet, datagram, internal),
                Err(DropReason::NoMapping) => {}
                Err(reason) => return Err(reason.into()),
            }
        }
        let ends = (packet.ingress, LinkId::LOCAL);
        let rule = self.permit(&opening(datagram, ends, datagram.destination), Ruling::from)?;
        Ok(Ruling::Local(rule))
    }

    fn hairpin(
        &self,
        packet: &PacketBuf,
        datagram: &Datagram,
        internal: Internal,
    ) -> Result<Ruling, Ruling> {
        if self.snapshot.hairpinning == Hairpinning::Off {
            return Err(DropReason::HairpinDisabled.into());
        }
        let address = internal.0.address;
        let route = *self.snapshot.routes.lookup(address).ok_or(DropReason::NoRoute)?;
        let rule = self.except(&opening(datagram, (packet.ingress, route.egress), internal.0))?;
        let forward = self.hop_via(&route, address)?;
        let reverse = self.hop(packet.ingress, datagram.source.address)?;
        let translation = Translation::Hairpin(internal);
        Ok(Ruling::Open(Opening { translation, forward, reverse, rule }))
    }

    fn inbound(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<Ruling, Ruling> {
        let (ingress, destination) = (packet.ingress, datagram.destination.address);
        if self.is_dhcp_reply(packet, datagram) {
            return Ok(Verdict::Punt(PuntReason::DhcpClient).into());
        }
        no_group(packet, destination)?;
        let source = datagram.source.address;
        self.snapshot.sources.check_source(ingress, source, destination)?;
        if self.snapshot.bogons.contains(source) {
            return Err(DropReason::SourceBogon.into());
        }
        let nat = &self.snapshot.nat;
        if nat.is_external(datagram.source.address) {
            return Err(DropReason::SourceInternal.into());
        }
        if !nat.is_external(destination) {
            return self.untranslated(packet, datagram);
        }
        if datagram.transport == L4::Icmp(IcmpKind::Error) {
            return self.error(packet, datagram);
        }
        // All that comes to a 1:1 address is its host's.
        if datagram.transport == L4::Icmp(IcmpKind::Request)
            && nat.static_at(destination).is_none()
            && let Some(ruling) = self.ping(datagram)
        {
            return ruling;
        }
        let internal = match self.tables.resolve_external(self.pass, datagram, self.side, nat) {
            Ok(internal) => internal,
            Err(reason) => return self.knock(packet, datagram, reason),
        };
        let address = internal.0.address;
        let route = *self.snapshot.routes.lookup(address).ok_or(DropReason::NoRoute)?;
        let rule = if datagram.protocol() == Protocol::Esp
            && self.tables.is_esp_asked_for(self.pass, datagram)
        {
            let answered = answered(route.egress, internal.0, datagram.source);
            self.permit(&answered, Ruling::from).map_err(Ruling::untold)?
        } else {
            self.except(&opening(datagram, (ingress, route.egress), internal.0))?
        };
        let forward = self.hop_via(&route, address)?;
        let translation = match Segment::read(packet.frame(), datagram) {
            Some(segment) => {
                match self.tables.entry(datagram, &segment, internal, self.now, nat)? {
                    Entry::Relayed(relay) => return Ok(Ruling::Relay(relay, forward)),
                    Entry::Opens(accepted) => Translation::Accepted(accepted),
                }
            }
            None => Translation::Inbound(internal),
        };
        let back = self.snapshot.routes.lookup(source);
        let back = *back.filter(|r| r.egress == LinkId::WAN).ok_or(DropReason::NoRoute)?;
        let reverse = self.hop_via(&back, source)?;
        Ok(Ruling::Open(Opening { translation, forward, reverse, rule }))
    }

    /// An echo request to the WAN address; `None` if the router leaves it to others.
    fn ping(&self, datagram: &Datagram) -> Option<Result<Ruling, Ruling>> {
        let opening = opening(datagram, (LinkId::WAN, LinkId::LOCAL), datagram.destination);
        let has_host = self.snapshot.nat.has_dmz_for_echo(datagram.destination.address);
        match self.snapshot.rules.say(&opening, self.now) {
            Saying::Allowed(rule) => Some(Ok(Ruling::Local(Some(rule)))),
            Saying::Denied(denial) => (!has_host).then_some(Err(Ruling::Denied(denial))),
            Saying::Nothing => self.snapshot.wan_ping.then_some(Ok(Ruling::Local(None))),
        }
    }

    /// From outside to a port that lets nobody in, for the reason: silence, unless a rule wants the sender told
    /// that nothing takes it, or all who send a SYN are to hear (RFC 5382 REQ-4).
    fn knock(
        &self,
        packet: &PacketBuf,
        datagram: &Datagram,
        reason: DropReason,
    ) -> Result<Ruling, Ruling> {
        let opening = opening(datagram, (LinkId::WAN, LinkId::LOCAL), datagram.destination);
        Err(match self.snapshot.rules.say(&opening, self.now) {
            Saying::Denied(denial) if reason == DropReason::NoMapping => Ruling::Denied(denial),
            _ if self.is_answered_late(packet, datagram) => Ruling::AnswerLater(reason),
            _ => reason.into(),
        })
    }

    /// From the router itself: through the translation if it speaks from a LAN address to the WAN, as it is
    /// otherwise.
    fn local(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<Ruling, Ruling> {
        let destination = datagram.destination.address;
        let route = *self.snapshot.routes.lookup(destination).ok_or(self.snapshot.no_route())?;
        let forward = self.hop_via(&route, destination)?;
        let translated = route.egress == LinkId::WAN && !self.speaks_outside(datagram);
        if translated && datagram.transport == L4::Icmp(IcmpKind::Error) {
            return self.error(packet, datagram);
        }
        if !translated {
            return Ok(Ruling::Own(forward));
        }
        let ends = (LinkId::LOCAL, route.egress);
        let rule = self.except(&opening(datagram, ends, datagram.destination))?;
        let reverse = NextHop { egress: LinkId::LOCAL, neighbour: NeighbourRef::NONE.to_bits() };
        let translation = Translation::Outbound;
        Ok(Ruling::Open(Opening { translation, forward, reverse, rule }))
    }

    /// Whether the router itself speaks from an external address. Where a lease repeats the address of a
    /// LAN, only its answers to pings do: all else that it says comes from the LAN's (RFC 4787 REQ-7).
    fn speaks_outside(&self, datagram: &Datagram) -> bool {
        let source = datagram.source.address;
        self.snapshot.nat.is_external(source)
            && (!self.snapshot.is_of_lan(source) || datagram.transport == L4::Icmp(IcmpKind::Reply))
    }

    /// From outside to an address that is not the router's: an ICMP error about an exempt flow, or nothing
    /// that may pass.
    fn untranslated(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<Ruling, Ruling> {
        if datagram.transport != L4::Icmp(IcmpKind::Error) {
            return Err(DropReason::PolicyDenied.into());
        }
        let nat = &self.snapshot.nat;
        let (_, flow, _) =
            self.tables.flow_of_error(self.pass, packet, datagram, self.side, nat)?;
        let is_exempt = flow.direction() == Direction::Routed
            && flow.destination().address == datagram.destination.address;
        if is_exempt { self.error(packet, datagram) } else { Err(DropReason::PolicyDenied.into()) }
    }

    /// Whether a packet leaves by the WAN as it is (RFC 6888 REQ-6).
    fn is_exempt(&self, datagram: &Datagram) -> bool {
        let Datagram { source, destination, .. } = *datagram;
        self.snapshot.nat.exempts(datagram.protocol(), source, destination)
    }

    /// An ICMP error must arrive where the packets of the flow do that it is about, or any LAN could speak for
    /// the hosts of another. A flow whose packets would not pass today lets no errors pass either: they would
    /// speak of addresses that the WAN no longer has.
    fn error(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<Ruling, Ruling> {
        if datagram.ttl <= 1 {
            return Err(DropReason::TtlExpired.into());
        }
        let nat = &self.snapshot.nat;
        let found = self.tables.flow_of_error(self.pass, packet, datagram, self.side, nat);
        let (flow, hit) = match found {
            Ok((_, flow, hit)) => (flow, hit),
            Err(DropReason::IcmpNoSession) => return self.pending_error(packet, datagram),
            Err(reason) => return Err(reason.into()),
        };
        if flow.ingress() != packet.ingress {
            return Err(DropReason::SourceSpoofed.into());
        }
        let egress = self.snapshot.link(flow.next_hop().egress);
        if egress.is_some_and(|egress| {
            datagram.dont_fragment && !size::fits(packet, datagram, egress.mtu)
        }) {
            return Err(DropReason::TooBig.into());
        }
        let is_current = flow.generation() == self.snapshot.generation;
        if !is_current && (nat::standing(&hit, nat) != Standing::Agrees || !self.routes_agree(&hit))
        {
            return Err(DropReason::IcmpNoSession.into());
        }
        Ok(Ruling::Error)
    }

    /// What becomes of a packet whose flow may not be opened. Its sender is told if it is inside: that policy forbids it
    /// (RFC 5508 REQ-8), or that it may try later, which ends nothing that it has (RFC 6888 REQ-11b).
    pub fn refused(&self, reason: DropReason) -> Ruling {
        let kind = match reason {
            DropReason::PolicyDenied => ErrorKind::AdministrativelyProhibited,
            _ if is_shortage(reason) => ErrorKind::HostUnreachable,
            _ => return reason.into(),
        };
        let tells =
            self.snapshot.icmp_refusals == IcmpRefusals::Answer && self.side == Side::Inside;
        if tells { Ruling::Answer(kind, reason) } else { reason.into() }
    }

    fn routes_to(&self, address: Ipv4Addr, link: LinkId) -> bool {
        self.snapshot.routes.lookup(address).is_some_and(|route| route.egress == link)
    }

    fn pending_error(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<Ruling, Ruling> {
        let (at, nat) = ((self.side, self.now), &self.snapshot.nat);
        let error = self.tables.pending_of_error(self.pass, packet, datagram, at, nat)?;
        if !self.routes_to(error.internal(), packet.ingress) && self.side == Side::Inside {
            return Err(DropReason::SourceSpoofed.into());
        }
        let destination = error.destination();
        let route = *self.snapshot.routes.lookup(destination).ok_or(DropReason::NoRoute)?;
        Ok(Ruling::PendingError(error, self.hop_via(&route, destination)?))
    }

    /// Whether a flow may be opened: the first rule that matches decides, which is then named, else the policy
    /// between zones, whose refusal becomes what `refuse` makes of it.
    fn permit(
        &self,
        opening: &FirstPacket,
        refuse: impl FnOnce(DropReason) -> Ruling,
    ) -> Result<Option<RuleId>, Ruling> {
        let rule = self.except(opening)?;
        if rule.is_none() {
            self.snapshot.zones.check(opening.from, opening.to).map_err(refuse)?;
        }
        Ok(rule)
    }

    /// Whether a rule refuses a flow that may be opened without one; which allows it, if one does.
    fn except(&self, opening: &FirstPacket) -> Result<Option<RuleId>, Ruling> {
        match self.snapshot.rules.say(opening, self.now) {
            Saying::Nothing => Ok(None),
            Saying::Allowed(rule) => Ok(Some(rule)),
            Saying::Denied(denial) => Err(Ruling::Denied(denial)),
        }
    }

    /// What a LAN may send to everyone: DHCP. A packet to a group that no service here listens to is dropped.
    fn lan_broadcast(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<(), Ruling> {
        let destination = datagram.destination;
        let to_server = datagram.protocol() == Protocol::Udp
            && destination.port == DHCP_SERVER_PORT
            && (destination.address.is_broadcast() || self.snapshot.is_local(destination.address));
        if to_server && self.snapshot.serves_dhcp(packet.ingress) {
            return Err(Verdict::Punt(PuntReason::DhcpServer).into());
        }
        no_group(packet, destination.address).map_err(Ruling::from)
    }

    fn is_dhcp_reply(&self, packet: &PacketBuf, datagram: &Datagram) -> bool {
        self.snapshot.wan_dhcp
            && packet.ingress == LinkId::WAN
            && datagram.protocol() == Protocol::Udp
            && datagram.destination.port == DHCP_CLIENT_PORT
            && self.snapshot.nat.static_at(datagram.destination.address).is_none()
    }

    fn is_answered_late(&self, packet: &PacketBuf, datagram: &Datagram) -> bool {
        self.snapshot.unsolicited_syn == UnsolicitedSyn::Answer
            && Segment::read(packet.frame(), datagram).is_some_and(|syn| syn.is_first_syn())
            && icmp::may_answer(packet.frame(), datagram)
    }

    /// The station and address that an ICMP error about a packet would come from, if one may be sent.
    pub fn answers_from(
        &self,
        packet: &PacketBuf,
        datagram: &Datagram,
    ) -> Option<(MacAddr, Ipv4Addr)> {
        let link = self.snapshot.link(packet.ingress)?;
        let address = link.address?;
        icmp::may_answer(packet.frame(), datagram).then_some((link.mac, address))
    }

    /// The station that a reset in answer to a segment would come from, if one may be sent.
    pub fn resets_from(&self, packet: &PacketBuf, datagram: &Datagram) -> Option<MacAddr> {
        let link = self.snapshot.link(packet.ingress)?;
        reset::may_answer(packet.frame(), datagram).then_some(link.mac)
    }

    fn hop_via(&self, route: &Route, destination: Ipv4Addr) -> Result<NextHop, Ruling> {
        self.hop(route.egress, route.next_hop(destination))
    }

    fn hop(&self, egress: LinkId, address: Ipv4Addr) -> Result<NextHop, Ruling> {
        match self.neighbours.lookup(egress, address) {
            Some(neighbour) => Ok(NextHop { egress, neighbour: neighbour.to_bits() }),
            None => Err(Verdict::Resolve(egress, address).into()),
        }
    }
}

/// Whether a flow is refused for want of room, ports or quota: another time it may be opened.
pub(crate) fn is_shortage(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::HostQuota
            | DropReason::HostSessions
            | DropReason::HostRate
            | DropReason::MappingTableFull
            | DropReason::PortsExhausted
            | DropReason::SessionTableFull
    )
}

/// Whether a fragment may wait for the rest of its packet: nothing may whose source or destination would have the
/// whole packet dropped, so that it takes no room from others.
pub(crate) fn may_wait(
    snapshot: &Snapshot,
    packet: &PacketBuf,
    fragment: &Fragment,
) -> Result<(), DropReason> {
    let Fragment { source, destination, .. } = *fragment;
    if packet.ingress == LinkId::LOCAL {
        return Err(DropReason::FragmentLocal);
    }
    no_group(packet, destination)?;
    snapshot.sources.check_source(packet.ingress, source, destination)?;
    if packet.ingress == LinkId::WAN && !may_enter(snapshot, fragment) {
        return Err(DropReason::PolicyDenied);
    }
    Ok(())
}

/// Whether a packet from outside with these addresses may be for somebody: translated, or as the answer to an
/// exempt flow.
fn may_enter(snapshot: &Snapshot, fragment: &Fragment) -> bool {
    let nat = &snapshot.nat;
    nat.is_external(fragment.destination)
        || nat.external.is_some()
            && nat.exemptions.iter().any(|one| one.joins(fragment.destination, fragment.source))
}

/// A packet as rules see it, between two links and with the destination that it is to reach.
fn opening(
    datagram: &Datagram,
    (from, to): (LinkId, LinkId),
    destination: Endpoint,
) -> FirstPacket {
    FirstPacket {
        from: Zone::of(from),
        to: Zone::of(to),
        protocol: datagram.protocol() as u8,
        source: datagram.source,
        destination,
        dscp: Some(datagram.tos >> 2),
    }
}

/// What comes in by ESP answers what went out, and stands under the policy for that.
fn answered(lan: LinkId, internal: Endpoint, remote: Endpoint) -> FirstPacket {
    FirstPacket {
        from: Zone::of(lan),
        to: Zone::Wan,
        protocol: Protocol::Esp as u8,
        source: internal,
        destination: remote,
        dscp: None,
    }
}

/// Refuses what is addressed to a group, on either layer: neither is ever forwarded (RFC 1812 §5.3.4, §5.3.5).
fn no_group(packet: &PacketBuf, destination: Ipv4Addr) -> Result<(), DropReason> {
    if destination.is_multicast() {
        return Err(DropReason::Multicast);
    }
    if destination.is_broadcast() || destination_mac(packet.frame()).is_group() {
        return Err(DropReason::Broadcast);
    }
    Ok(())
}
