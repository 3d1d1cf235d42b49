//! ICMP errors: the packet inside one, and the message around it, translated back.

use std::net::Ipv4Addr;

use packet::checksum::{self, Delta};
use packet::header::{icmp, ipv4, put_u16, put_u32, u8_at, u16_at, u32_at};
use packet::icmp::{Embedded, embedded};
use packet::{
    Datagram, DropReason, Endpoint, External, FlowKey, Instant, Internal, PacketBuf, Protocol, Side,
};

use flow_table::Pass;

use crate::Policy;
use crate::flow::{Direction, Flow, NextHop, TTL_LESS_ONE, word_delta};
use crate::mapping::MappingKey;
use crate::tables::{SessionHit, SessionKey, Tables};

impl Tables {
    /// Finds the packet that an ICMP error embeds, and the direction of the session that it answers:
    /// that of the error itself. Also the session.
    ///
    /// # Errors
    /// As [`Self::translate_error`].
    pub fn flow_of_error<'a>(
        &'a self,
        pass: &'a Pass<'_>,
        packet: &PacketBuf,
        datagram: &Datagram,
        side: Side,
        policy: &Policy,
    ) -> Result<(Embedded, &'a Flow, SessionHit<'a>), DropReason> {
        let inner = embedded(packet.frame(), datagram)?;
        let found = if inner.protocol == Protocol::Esp {
            self.flow_of_esp_error(pass, &inner, side, policy)
        } else {
            let key = FlowKey::new(inner.protocol, inner.destination, inner.source, side);
            self.sessions().lookup(pass, &SessionKey(key)).map(|hit| (hit.value(), hit))
        };
        let (flow, hit) = found.ok_or(DropReason::IcmpNoSession)?;
        Ok((inner, flow, hit))
    }

    /// Translates an ICMP error that arrived on `side` and says where it goes (RFC 3022 §4.3, RFC
    /// 5508 §4).
    ///
    /// One rule serves errors from outside, from inside and about hairpinned packets: the embedded
    /// packet was the last translation of what a session's other direction sent. Reversed, it has
    /// the key of this direction `src > dst`, whose rewrite `src' > dst'`, reversed again, is the
    /// packet as it was first sent: so the error embeds `dst' > src'` and goes to `dst'`. It comes
    /// from `src'` if it came from the embedded destination itself, and if it came from the inside
    /// (REQ-5c, NAPT); else a router on the way is its source, and stays it.
    ///
    /// The TTL is lowered; nothing of the session is touched (REQ-6, RFC 7857 §7.1).
    ///
    /// # Errors
    /// [`DropReason::IcmpEmbedded`] if the embedded packet is malformed,
    /// [`DropReason::IcmpNoSession`] if it belongs to no session.
    pub fn translate_error(
        &self,
        pass: &Pass<'_>,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        side: Side,
        policy: &Policy,
    ) -> Result<NextHop, DropReason> {
        let (inner, flow, _) = self.flow_of_error(pass, packet, datagram, side, policy)?;
        let from_peer = datagram.source.address == inner.destination.address;
        let hides = side == Side::Inside && flow.direction() != Direction::Routed;
        let source = (from_peer || hides).then_some(flow.source());
        rewrite(packet, datagram, &inner, (flow.source(), flow.destination()), source);
        Ok(flow.next_hop())
    }

    /// Finds out whether an ICMP error without a session is about a connection from outside that is
    /// not open yet.
    ///
    /// # Errors
    /// [`DropReason::IcmpEmbedded`] or [`DropReason::IcmpNoSession`].
    pub fn pending_of_error(
        &self,
        pass: &Pass<'_>,
        packet: &PacketBuf,
        datagram: &Datagram,
        (side, now): (Side, Instant),
        policy: &Policy,
    ) -> Result<PendingError, DropReason> {
        let inner = embedded(packet.frame(), datagram)?;
        let found = self.pending_directions(pass, &inner, (side, now), policy);
        let (source, destination) = found.ok_or(DropReason::IcmpNoSession)?;
        let internal = match side {
            Side::Inside => inner.destination,
            Side::Outside => destination,
        };
        let from_peer = datagram.source.address == inner.destination.address;
        let outer = (from_peer || side == Side::Inside).then_some(source);
        Ok(PendingError { inner, internal, source, destination, outer })
    }

    /// What the error's own direction is rewritten to.
    fn pending_directions(
        &self,
        pass: &Pass<'_>,
        inner: &Embedded,
        (side, now): (Side, Instant),
        policy: &Policy,
    ) -> Option<(Endpoint, Endpoint)> {
        if inner.protocol != Protocol::Tcp {
            return None;
        }
        match side {
            Side::Inside => {
                let (internal, remote) = (inner.destination, inner.source);
                let external = self.pending_external(pass, internal, remote, now, policy)?;
                Some((external.0, remote))
            }
            Side::Outside => {
                let (external, remote) = (External(inner.source), inner.destination);
                let forwarded = policy
                    .forward_to(Protocol::Tcp, external)
                    .or_else(|| policy.static_to(external).map(|(internal, _)| internal));
                let mapped = || {
                    let key = MappingKey::external(Protocol::Tcp, external);
                    let hit = self.mappings.lookup(pass, &key)?;
                    Some(Internal(hit.key_at(0).endpoint()))
                };
                let answers = |internal: &Internal| {
                    let known = self.pending_external(pass, internal.0, remote, now, policy);
                    known == Some(external)
                };
                let of_dmz = || policy.dmz_to(Protocol::Tcp, external).filter(answers);
                let internal = forwarded.or_else(mapped).filter(answers).or_else(of_dmz)?;
                Some((remote, internal.0))
            }
        }
    }
}

/// An ICMP error about a connection from outside that is not open yet.
#[derive(Clone, Copy, Debug)]
pub struct PendingError {
    inner: Embedded,
    internal: Endpoint,
    source: Endpoint,
    destination: Endpoint,
    /// What replaces the error's own source.
    outer: Option<Endpoint>,
}

impl PendingError {
    /// Where the error goes.
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        self.destination.address
    }

    /// The host inside whose connection it is about.
    #[must_use]
    pub fn internal(&self) -> Ipv4Addr {
        self.internal.address
    }

    /// Translates it, as [`Tables::translate_error`] does one of a session.
    pub fn apply(&self, packet: &mut PacketBuf, datagram: &Datagram) {
        rewrite(packet, datagram, &self.inner, (self.source, self.destination), self.outer);
    }
}

/// Rewrites an ICMP error whose own direction is rewritten to `source > destination`. Its own source
/// becomes `outer`, or stays.
fn rewrite(
    packet: &mut PacketBuf,
    datagram: &Datagram,
    inner: &Embedded,
    (source, destination): (Endpoint, Endpoint),
    outer: Option<Endpoint>,
) {
    let frame = packet.frame_mut();
    let change = translate_embedded(frame, inner, (destination, source));
    checksum::update(frame, usize::from(datagram.l4) + icmp::CHECKSUM, checksum::apply, change);
    let mut header = Patch::new(frame, usize::from(datagram.l3));
    if let Some(outer) = outer {
        header.address(ipv4::SOURCE, outer);
    }
    header.address(ipv4::DESTINATION, destination);
    header.lower_ttl();
    header.seal();
}

/// Rewrites the embedded packet to what was first sent; the result is the change to the sum over
/// all of it.
fn translate_embedded(
    frame: &mut [u8],
    inner: &Embedded,
    (source, destination): (Endpoint, Endpoint),
) -> Delta {
    let mut header = Patch::new(frame, inner.l3);
    header.address(ipv4::SOURCE, source);
    header.address(ipv4::DESTINATION, destination);
    let addresses = header.change;
    let network = addresses.and(header.seal());
    let ports = translate_ports(frame, inner, source, destination);
    let (covered, adjust): (Delta, fn(u16, Delta) -> u16) = match inner.protocol {
        Protocol::Icmp => (ports, checksum::apply),
        Protocol::Tcp => (addresses.and(ports), checksum::apply),
        // Of the others, the embedded header has no checksum that covers the addresses.
        _ => (addresses.and(ports), checksum::apply_udp),
    };
    let transport = inner.checksum.map_or(Delta::NONE, |at| {
        let old = u16_at(frame, at);
        let new = adjust(old, covered);
        put_u16(frame, at, new);
        word_delta(old, new)
    });
    network.and(ports).and(transport)
}

fn translate_ports(
    frame: &mut [u8],
    inner: &Embedded,
    source: Endpoint,
    destination: Endpoint,
) -> Delta {
    let mut transport = Patch::new(frame, inner.l4);
    if !inner.protocol.has_ports() && inner.protocol != Protocol::Icmp {
        return Delta::NONE;
    }
    if inner.protocol == Protocol::Icmp {
        let replies = matches!(u8_at(transport.frame, inner.l4 + icmp::TYPE), 0 | 14);
        let identifier = if replies { destination.port } else { source.port };
        transport.word(icmp::IDENTIFIER, identifier);
    } else {
        transport.word(0, source.port);
        transport.word(2, destination.port);
    }
    transport.change
}

/// Writes fields of one header and sums up what they changed.
struct Patch<'a> {
    frame: &'a mut [u8],
    start: usize,
    change: Delta,
}

impl<'a> Patch<'a> {
    fn new(frame: &'a mut [u8], start: usize) -> Self {
        Self { frame, start, change: Delta::NONE }
    }

    fn word(&mut self, at: usize, new: u16) {
        let at = self.start + at;
        self.change = self.change.and(word_delta(u16_at(self.frame, at), new));
        put_u16(self.frame, at, new);
    }

    fn address(&mut self, at: usize, new: Endpoint) {
        let bits = new.address.to_bits();
        let old = u32_at(self.frame, self.start + at);
        self.change = self.change.and(word_delta((old >> 16) as u16, (bits >> 16) as u16));
        self.change = self.change.and(word_delta(old as u16, bits as u16));
        put_u32(self.frame, self.start + at, bits);
    }

    fn lower_ttl(&mut self) {
        let at = self.start + ipv4::TTL;
        debug_assert!(self.frame[at] > 1, "the caller answers a TTL that runs out");
        self.frame[at] = self.frame[at].wrapping_sub(1);
        self.change = self.change.and(TTL_LESS_ONE);
    }

    /// Adjusts the IP header checksum to the change; the result is what that changed.
    fn seal(self) -> Delta {
        let at = self.start + ipv4::CHECKSUM;
        let old = u16_at(self.frame, at);
        let new = checksum::apply(old, self.change);
        put_u16(self.frame, at, new);
        word_delta(old, new)
    }
}
