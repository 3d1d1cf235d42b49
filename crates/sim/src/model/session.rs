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
    /// Both sides have sent their FIN: what follows is no sign of life.
    frozen: bool,
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
        let half =
            Half { spoke: false, seen: now, syn: false, fin: false, reset: false, frozen: false };
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
        self.follow(side, segment, now);
        self.sides[side].spoke = true;
        self.directions()[side].2
    }

    /// What a segment of one side says. A reset from inside may be the answer to anything, so it is no sign of
    /// life (RFC 7857 §7.1).
    pub(super) fn follow(&mut self, side: usize, segment: Segment, now: Instant) {
        let is_refresher = match self.direction {
            Direction::Outbound => side == 0,
            Direction::Inbound => side == 1,
            Direction::Hairpin => false,
        };
        if segment == Segment::Reset {
            if !self.sides[side].frozen {
                self.sides[if is_refresher { 1 - side } else { side }].seen = now;
                self.sides[side].reset = true;
            }
            return;
        }
        let was_over = self.sides[side].frozen || self.sides.iter().any(|half| half.reset);
        self.sides.iter_mut().for_each(|half| half.reset = false);
        if segment == Segment::Syn && was_over {
            // The same ports, another connection.
            for half in &mut self.sides {
                (half.syn, half.fin, half.frozen) = (false, false, false);
            }
            self.sides[side].syn = true;
        } else if matches!(segment, Segment::Syn | Segment::SynAck) && !self.is_open() {
            self.sides[side].syn = true;
        }
        let may_close = self.is_open() || self.picked_up;
        let own = &mut self.sides[side];
        own.fin |= segment == Segment::Fin && may_close;
        if !own.frozen {
            own.seen = now;
        }
        if self.sides.iter().all(|half| half.fin) {
            self.sides.iter_mut().for_each(|half| half.frozen = true);
        }
    }

    fn is_open(&self) -> bool {
        let [first, second] = &self.sides;
        match (first.syn, second.syn) {
            (true, true) => true,
            (false, false) => self.picked_up && second.spoke,
            _ => false,
        }
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
        let silent = |since, lifetime| now.saturating_since(since) > lifetime;
        let Lifetimes { tcp_established, tcp_transitory, .. } = *lifetimes;
        match self.protocol {
            Protocol::Udp => silent(refreshed, lifetimes.udp),
            Protocol::Icmp => silent(refreshed, lifetimes.icmp),
            _ if first.fin && second.fin => silent(last, tcp_transitory),
            _ if first.reset || second.reset => {
                silent(last, tcp_transitory) || silent(refreshed, tcp_established)
            }
            _ if self.is_open() => silent(refreshed, tcp_established),
            _ => silent(refreshed, tcp_transitory),
        }
    }
}
