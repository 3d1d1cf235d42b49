//! One session of the model.

use packet::{Endpoint, Instant, LinkId, Protocol, Side};

use super::{Lifetimes, MappingKey, Packet, Rules, Verdict, lan_of};

/// Protocol, side of arrival, source, destination.
pub(super) type Key = (Protocol, Side, Endpoint, Endpoint);

/// What a packet says beside its endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    /// UDP, or an ICMP request.
    Query,
    /// An ICMP reply.
    Reply,
    /// TCP: a first SYN.
    Syn,
    /// TCP: the answer to one.
    SynAck,
    /// TCP: data.
    Ack,
    /// TCP: the last data.
    Fin,
    /// TCP: an end.
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Outbound,
    Inbound,
    Hairpin,
}

/// What one side of a session has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    pub(super) spoke: bool,
    seen: Instant,
    syn: bool,
    fin: bool,
    reset: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) direction: Direction,
    pub(super) protocol: Protocol,
    /// The host inside; of a hairpin, the one that sent first.
    internal: Endpoint,
    lan: LinkId,
    /// What stands for it.
    pub(super) external: Endpoint,
    /// Whom it speaks with, as it sees it.
    pub(super) peer: Endpoint,
    /// The other host inside, of a hairpin.
    pub(super) target: Option<Endpoint>,
    /// By a mapping, not a forward.
    pub(super) holds: bool,
    pub(super) holds_target: bool,
    /// Holds its mapping: from the start, but from outside only when it was answered.
    pub(super) counts: bool,
    /// Lets the peer's address in where filtering is address-dependent.
    pub(super) contact: bool,
    /// A hairpin that the target's filter refused: passes once the target has sent.
    pub(super) waits: bool,
    /// TCP that was under way when it was first seen.
    pub(super) picked_up: bool,
    /// Of the first packet's direction, and of the other.
    pub(super) sides: [Half; 2],
}

impl Session {
    pub(super) fn new(
        direction: Direction,
        protocol: Protocol,
        lan: LinkId,
        internal: Endpoint,
        now: Instant,
    ) -> Self {
        let half = Half { spoke: false, seen: now, syn: false, fin: false, reset: false };
        Self {
            direction,
            protocol,
            internal,
            lan,
            external: internal,
            peer: internal,
            target: None,
            holds: false,
            holds_target: false,
            counts: direction != Direction::Inbound,
            contact: false,
            waits: false,
            picked_up: false,
            sides: [half; 2],
        }
    }

    pub(super) fn hairpin_to(&mut self, target: Endpoint, holds: bool) {
        (self.direction, self.target, self.holds_target) =
            (Direction::Hairpin, Some(target), holds);
    }

    /// The keys of the first packet and of its answer.
    pub(super) fn keys(&self) -> [Key; 2] {
        self.directions().map(|(link, packet, _)| {
            let side = if link == LinkId::WAN { Side::Outside } else { Side::Inside };
            (packet.protocol, side, packet.source, packet.destination)
        })
    }

    /// Both directions: the link and endpoints on arrival, and what leaves.
    pub(super) fn directions(&self) -> [(LinkId, Packet, Verdict); 2] {
        let Self { protocol, internal, external, peer, .. } = *self;
        let packet = |source: Endpoint, destination: Endpoint| {
            // The identifier of an ICMP query is the port of the host that asks.
            let is_reply = protocol == Protocol::Icmp && source.port == 0;
            let segment = match (protocol, is_reply) {
                (Protocol::Tcp, _) => Segment::Ack,
                (_, true) => Segment::Reply,
                _ => Segment::Query,
            };
            Packet { protocol, source, destination, segment }
        };
        if let Some(target) = self.target {
            let there = Verdict::Leaves(lan_of(target), external, target);
            let back = Verdict::Leaves(self.lan, peer, internal);
            return [
                (self.lan, packet(internal, peer), there),
                (lan_of(target), packet(target, external), back),
            ];
        }
        let out = (self.lan, packet(internal, peer), Verdict::Leaves(LinkId::WAN, external, peer));
        let back = (LinkId::WAN, packet(peer, external), Verdict::Leaves(self.lan, peer, internal));
        if self.direction == Direction::Inbound { [back, out] } else { [out, back] }
    }

    /// The mapping of its internal endpoint, if it has one.
    pub(super) fn mapping(&self) -> Option<MappingKey> {
        self.holds.then_some((self.protocol, self.internal, self.external.address))
    }

    /// The mappings that stay as long as it does.
    pub(super) fn held(&self) -> Vec<MappingKey> {
        let own = self.mapping().filter(|_| self.counts);
        let target = self.target.filter(|_| self.holds_target);
        let target = target.map(|target| (self.protocol, target, self.peer.address));
        own.into_iter().chain(target).collect()
    }

    /// Whether the rules would still let it stand.
    pub(super) fn agrees(&self, rules: &Rules) -> bool {
        let stands = |internal: Endpoint, external: Endpoint, by_mapping: bool| {
            external.address == rules.external
                && match rules.forward_to(self.protocol, external.port) {
                    Some(to) => to == internal,
                    None => by_mapping,
                }
        };
        let own = stands(self.internal, self.external, self.holds);
        own && self.target.is_none_or(|target| stands(target, self.peer, self.holds_target))
    }

    /// Whether the first sender must wait for the other.
    pub(super) fn is_blocked(&self) -> bool {
        self.waits && !self.sides[1].spoke
    }

    /// A packet of one of its directions.
    pub(super) fn pass(&mut self, side: usize, segment: Segment, now: Instant) -> Verdict {
        if side == 0 && self.is_blocked() {
            return Verdict::Drop(packet::DropReason::FilterDenied);
        }
        let verdict = self.directions()[side].2;
        let own = &mut self.sides[side];
        (own.spoke, own.seen) = (true, now);
        own.reset = false;
        let is_over = self.sides.iter().any(|half| half.fin || half.reset);
        if segment == Segment::Syn && is_over {
            // The same ports, another connection.
            for half in &mut self.sides {
                (half.syn, half.fin, half.reset) = (false, false, false);
            }
        }
        self.sides[side].observe(segment);
        verdict
    }

    /// Whether its time is over (RFC 7857 §2): nothing but the inside refreshes it, though a connection that
    /// ends lives on for a while after the last segment of either side.
    pub(super) fn is_over(&self, lifetimes: &Lifetimes, now: Instant) -> bool {
        let [first, second] = &self.sides;
        let last = first.seen.max(second.seen);
        let refreshed = match self.direction {
            Direction::Outbound => first.seen,
            Direction::Inbound => second.seen,
            Direction::Hairpin => last,
        };
        let was_reset =
            |one: &Half, other: &Half| one.reset && (other.reset || other.seen <= one.seen);
        let opened = if self.picked_up { second.spoke } else { first.syn && second.syn };
        let (refreshed, lifetime) = match self.protocol {
            Protocol::Udp => (refreshed, lifetimes.udp),
            Protocol::Icmp => (refreshed, lifetimes.icmp),
            _ if was_reset(first, second) || was_reset(second, first) => {
                (last, lifetimes.tcp_transitory)
            }
            _ if first.fin && second.fin => (last, lifetimes.tcp_transitory),
            _ if opened => (refreshed, lifetimes.tcp_established),
            _ => (refreshed, lifetimes.tcp_transitory),
        };
        now.saturating_since(refreshed) > lifetime
    }
}

impl Half {
    /// What a segment of this side says.
    pub(super) fn observe(&mut self, segment: Segment) {
        self.reset = segment == Segment::Reset;
        self.syn |= matches!(segment, Segment::Syn | Segment::SynAck);
        self.fin |= segment == Segment::Fin;
    }
}
