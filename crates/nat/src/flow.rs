//! One direction of a session: the compiled rewrite and what is remembered of the packets.

use std::net::Ipv4Addr;

use packet::checksum::{self, Delta, WireDelta};
use packet::gso;
use packet::header::{ethernet, icmp, ipv4, tcp, udp, udp_lite};
use packet::{
    Datagram, Endpoint, FlowKey, IcmpKind, Instant, L4, LinkId, PacketBuf, Plain, Protocol,
    TcpHeaders, UdpHeaders,
};

use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::tick::Tick;
use crate::window::Window;

/// Who sent the first packet of a session to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// An internal endpoint to a remote one.
    Outbound = 0,
    /// A remote endpoint to an internal one, through a forward or a mapping.
    Inbound = 1,
    /// An internal endpoint to another, by the other's external endpoint (RFC 4787 §6).
    Hairpin = 2,
    /// A LAN to another LAN; nothing but the TTL is rewritten.
    Routed = 3,
}

impl Direction {
    /// Lower-case name as `--json` writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Hairpin => "hairpin",
            Self::Routed => "routed",
        }
    }
}

/// Where a packet goes when it has been translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// The link.
    pub egress: LinkId,
    /// The caller's name for the neighbour on it; means nothing here.
    pub neighbour: u32,
}

/// One side of a session's entry: what to do with packets that match the side's key.
///
/// **Shape**: 48 bytes, so that it shares one cache line with its key; a packet touches nothing
/// else. The rewrite never changes after the session is opened. The rest is relaxed atomics: each
/// is a value of its own that orders no other access, and the direction's packets come through one
/// worker, so a plain load and store count them. What a second worker adds at the same time may be
/// lost from the counters, nothing else.
///
/// Packets and bytes are 48 bits each and wrap: 280 TB, which a flow at 10 Gbit/s takes 62 hours
/// for. The low 16 bits of the two words are the halves of a [`Window`].
#[repr(C)]
pub struct Flow {
    /// Source and destination address after the rewrite, as they lie in a packet.
    addresses: [u8; 8],
    /// The ports, likewise.
    ports: [u8; 4],
    /// Change of the addresses alone: IP header, and pseudo-header under a partial checksum.
    network_change: WireDelta,
    /// Change of all that a complete transport checksum covers.
    transport_change: WireDelta,
    neighbour: AtomicU32,
    generation: AtomicU32,
    seen: AtomicU32,
    traits: u8,
    ingress: LinkId,
    egress: LinkId,
    events: AtomicU8,
    packets_and_window: AtomicU64,
    bytes_and_window: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Flow>() == 48);

impl Flow {
    /// Rewrites addresses, port or query identifier, TTL and checksums of a packet that matched the
    /// side's key (RFC 3022 §4.1).
    ///
    /// Checksums change by difference: a wrong one stays wrong, a UDP checksum of 0 stays 0, and
    /// one that the sender left partial stays partial. The TTL must be above 1.
    #[inline]
    pub fn apply(&self, packet: &mut PacketBuf, datagram: &Datagram) {
        let partial = packet.offload.checksum.is_some();
        let frame = packet.frame_mut();
        self.apply_network(frame, usize::from(datagram.l3));
        let l4 = usize::from(datagram.l4);
        match datagram.transport {
            L4::Tcp { .. } => self.apply_tcp(frame, l4, partial),
            L4::Udp => self.apply_udp(frame, l4, partial),
            L4::Icmp(kind) => {
                let identifier = match kind {
                    IcmpKind::Request => &self.ports[..2],
                    IcmpKind::Reply => &self.ports[2..],
                    IcmpKind::Error => return,
                };
                frame[l4 + icmp::IDENTIFIER..][..2].copy_from_slice(identifier);
                self.transport_change.update(frame, l4 + icmp::CHECKSUM, checksum::apply);
            }
            _ => self.apply_other(packet, datagram),
        }
    }

    /// As [`Self::apply`], for a UDP packet of plain shape, whose checksum may be partial.
    #[inline(always)]
    pub fn apply_plain_udp(&self, headers: &mut UdpHeaders, is_partial: bool) {
        self.apply_network(headers, ethernet::LEN);
        self.apply_udp(headers, Plain::L4, is_partial);
    }

    /// As [`Self::apply_plain_udp`], for TCP.
    #[inline(always)]
    pub fn apply_plain_tcp(&self, headers: &mut TcpHeaders, is_partial: bool) {
        self.apply_network(headers, ethernet::LEN);
        self.apply_tcp(headers, Plain::L4, is_partial);
    }

    #[inline(always)]
    fn apply_udp(&self, frame: &mut [u8], l4: usize, is_partial: bool) {
        self.put_ports(frame, l4);
        self.apply_covered(frame, l4 + udp::CHECKSUM, checksum::apply_udp, is_partial);
    }

    #[inline(always)]
    fn apply_tcp(&self, frame: &mut [u8], l4: usize, is_partial: bool) {
        self.put_ports(frame, l4);
        self.apply_covered(frame, l4 + tcp::CHECKSUM, checksum::apply, is_partial);
    }

    /// Changes a transport checksum by what it covers; `adjust` is the way of a complete one.
    #[inline(always)]
    fn apply_covered(
        &self,
        frame: &mut [u8],
        at: usize,
        adjust: impl Fn(u16, Delta) -> u16,
        is_partial: bool,
    ) {
        if is_partial {
            self.network_change.update(frame, at, checksum::apply_partial);
        } else {
            self.transport_change.update(frame, at, adjust);
        }
    }

    /// The rest of [`Self::apply`] for protocols that few hosts speak.
    #[cold]
    fn apply_other(&self, packet: &mut PacketBuf, datagram: &Datagram) {
        let l4 = usize::from(datagram.l4);
        match datagram.transport {
            L4::UdpLite => {
                let frame = packet.frame_mut();
                self.put_ports(frame, l4);
                // Its checksum is never 0, and becomes all ones where UDP's does (RFC 3828 §3.1).
                let at = l4 + udp_lite::CHECKSUM;
                self.transport_change.update(frame, at, checksum::apply_udp);
            }
            // A partial checksum ends as the Internet checksum, SCTP's is a CRC: nobody behind us
            // could finish it.
            L4::Sctp(_) => gso::finish_checksum(packet, datagram),
            // No checksum covers the addresses, and what a tunnel carries is not ours to read.
            _ => {}
        }
    }

    #[inline(always)]
    fn apply_network(&self, frame: &mut [u8], l3: usize) {
        let header: &mut [u8; ipv4::LEN_MIN] =
            frame[l3..].first_chunk_mut().expect("parse found a whole IP header at l3");
        debug_assert!(header[ipv4::TTL] > 1, "the caller answers a TTL that runs out");
        header[ipv4::TTL] = header[ipv4::TTL].wrapping_sub(1);
        header[ipv4::SOURCE..].copy_from_slice(&self.addresses);
        let change = self.network_change.and(TTL_LESS_ONE.into());
        change.update(header, ipv4::CHECKSUM, checksum::apply);
    }

    #[inline(always)]
    fn put_ports(&self, frame: &mut [u8], l4: usize) {
        frame[l4 + tcp::SOURCE..][..4].copy_from_slice(&self.ports);
    }

    /// Counts packets of the side, which is not TCP, and notes when the last came.
    ///
    /// `bytes` are those of all the packets, as the caller accounts for them.
    #[inline]
    pub fn touch(&self, now: Instant, bytes: u64, packets: u64) {
        self.see(now);
        // Its window stays what it was from the start, nothing.
        let add = |word: &AtomicU64, amount: u64| {
            word.store(
                word.load(Ordering::Relaxed).wrapping_add(amount << HALF),
                Ordering::Relaxed,
            );
        };
        add(&self.packets_and_window, packets);
        add(&self.bytes_and_window, bytes);
    }

    /// Notes that the side was heard of.
    #[inline]
    pub(crate) fn see(&self, now: Instant) {
        self.seen.store(Tick::at(now).0, Ordering::Relaxed);
    }

    /// Counts packets, and remembers the window.
    #[inline]
    pub(crate) fn count(&self, bytes: u64, packets: u64, window: Window) {
        let add = |word: &AtomicU64, amount: u64, half: u32| {
            let total = (word.load(Ordering::Relaxed) >> HALF).wrapping_add(amount);
            word.store(total << HALF | u64::from(half), Ordering::Relaxed);
        };
        add(&self.packets_and_window, packets, window.0 >> HALF);
        add(&self.bytes_and_window, bytes, window.0 & HALF_MASK);
    }

    /// What the side expects of its peer.
    #[inline]
    pub(crate) fn window(&self) -> Window {
        let half = |word: &AtomicU64| word.load(Ordering::Relaxed) as u32 & HALF_MASK;
        Window(half(&self.packets_and_window) << HALF | half(&self.bytes_and_window))
    }

    /// Changes what the side expects, and counts nothing.
    pub(crate) fn set_window(&self, window: Window) {
        self.count(0, 0, window);
    }

    /// Where the side's packets go.
    #[must_use]
    #[inline]
    pub fn next_hop(&self) -> NextHop {
        NextHop { egress: self.egress, neighbour: self.neighbour.load(Ordering::Relaxed) }
    }

    /// Changes the caller's name for the neighbour.
    pub fn set_neighbour(&self, neighbour: u32) {
        self.neighbour.store(neighbour, Ordering::Relaxed);
    }

    /// The link that the side's packets arrive on ([`LinkId::LOCAL`]: the router's own stack).
    #[must_use]
    #[inline]
    pub fn ingress(&self) -> LinkId {
        self.ingress
    }

    /// The policy generation that the side was last found to agree with.
    #[must_use]
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Source endpoint after the rewrite.
    #[must_use]
    pub fn source(&self) -> Endpoint {
        let ([a, b, c, d, ..], [high, low, ..]) = (self.addresses, self.ports);
        Endpoint::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))
    }

    /// Destination endpoint after the rewrite.
    #[must_use]
    pub fn destination(&self) -> Endpoint {
        let ([.., a, b, c, d], [.., high, low]) = (self.addresses, self.ports);
        Endpoint::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))
    }

    /// Who sent the session's first packet.
    #[must_use]
    pub fn direction(&self) -> Direction {
        match self.traits & DIRECTION {
            0 => Direction::Outbound,
            1 => Direction::Inbound,
            2 => Direction::Hairpin,
            _ => Direction::Routed,
        }
    }

    /// Packets counted, modulo 2^48.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets_and_window.load(Ordering::Relaxed) >> HALF
    }

    /// Bytes counted, modulo 2^48.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes_and_window.load(Ordering::Relaxed) >> HALF
    }

    pub(crate) fn new(key: FlowKey, rewrite: Rewrite, links: Links, now: Instant) -> Self {
        let Rewrite { source, destination, traits, generation } = rewrite;
        let addresses =
            address_delta(key.source(), source).and(address_delta(key.destination(), destination));
        let ports = word_delta(key.source().port, source.port)
            .and(word_delta(key.destination().port, destination.port));
        let transport = match key.protocol() {
            Protocol::Icmp => ports,
            Protocol::Tcp | Protocol::Udp | Protocol::UdpLite => addresses.and(ports),
            // Nothing to change, see `apply`.
            Protocol::Sctp
            | Protocol::Gre
            | Protocol::Esp
            | Protocol::IpIp
            | Protocol::SixInFour => Delta::NONE,
        };
        // As they lie in a packet's key.
        let after = FlowKey::new(key.protocol(), source, destination, key.side());
        let flow = Self {
            addresses: after.wire_addresses(),
            ports: after.wire_ports(),
            network_change: addresses.into(),
            transport_change: transport.into(),
            neighbour: AtomicU32::new(links.next_hop.neighbour),
            generation: AtomicU32::new(generation),
            seen: AtomicU32::new(Tick::at(now).0),
            traits,
            ingress: links.ingress,
            egress: links.next_hop.egress,
            events: AtomicU8::new(0),
            packets_and_window: AtomicU64::new(0),
            bytes_and_window: AtomicU64::new(0),
        };
        flow.set_window(Window::NOTHING);
        flow
    }

    pub(crate) fn set_generation(&self, generation: u32) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    pub(crate) fn seen(&self) -> Tick {
        Tick(self.seen.load(Ordering::Relaxed))
    }

    pub(crate) fn traits(&self) -> u8 {
        self.traits
    }

    pub(crate) fn has(&self, one: u8) -> bool {
        self.traits & one != 0
    }

    /// Whether any of the events happened.
    #[inline]
    pub(crate) fn happened(&self, event: u8) -> bool {
        self.events.load(Ordering::Relaxed) & event != 0
    }

    pub(crate) fn note(&self, event: u8) {
        self.events.fetch_or(event, Ordering::Relaxed);
    }

    pub(crate) fn forget(&self, event: u8) {
        self.events.fetch_and(!event, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut show = f.debug_struct("Flow");
        show.field("direction", &self.direction());
        show.field("source", &self.source()).field("destination", &self.destination());
        show.field("packets", &self.packets()).finish_non_exhaustive()
    }
}

/// What a new side is to do.
pub(crate) struct Rewrite {
    pub(crate) source: Endpoint,
    pub(crate) destination: Endpoint,
    pub(crate) traits: u8,
    pub(crate) generation: u32,
}

/// Where a new side's packets come from and go.
pub(crate) struct Links {
    pub(crate) ingress: LinkId,
    pub(crate) next_hop: NextHop,
}

fn address_delta(old: Endpoint, new: Endpoint) -> Delta {
    let (old, new) = (old.address.to_bits(), new.address.to_bits());
    word_delta((old >> 16) as u16, (new >> 16) as u16).and(word_delta(old as u16, new as u16))
}

/// As [`Delta::word`], but no change is [`Delta::NONE`]: the other zero would turn a checksum of
/// 0xffff into 0.
pub(crate) fn word_delta(old: u16, new: u16) -> Delta {
    if old == new { Delta::NONE } else { Delta::word(old, new) }
}

/// A TTL, the high byte of its word, one lower: `-0x0100` in one's complement.
pub(crate) const TTL_LESS_ONE: Delta = Delta(!0x0100);

/// Bits of a counter's word that half a window takes.
const HALF: u32 = 16;
const HALF_MASK: u32 = (1 << HALF) - 1;

/// The [`Direction`] in a side's traits.
pub(crate) const DIRECTION: u8 = 0b11;
/// The session counts on the mapping of its initiator (side 0's source), or of the internal
/// endpoint that it came in for.
pub(crate) const HOLDS_MAPPING: u8 = 1 << 2;
/// A hairpin session counts on its target's mapping too.
pub(crate) const HOLDS_TARGET: u8 = 1 << 3;
/// The session counts on the contact between its external endpoint and the remote address.
pub(crate) const HOLDS_CONTACT: u8 = 1 << 4;
/// A hairpin session whose target did not admit it: side 0 drops until side 1 has sent.
pub(crate) const UNADMITTED: u8 = 1 << 5;
/// TCP that was under way when the session was opened.
pub(crate) const PICKED_UP: u8 = 1 << 6;

/// The side has sent a SYN.
pub(crate) const SYN: u8 = 1;
/// The side has sent a FIN.
pub(crate) const FIN: u8 = 1 << 1;
/// The side sent a reset, and neither side anything else since.
pub(crate) const RST: u8 = 1 << 2;
/// The other side's reset stands until this side sends something else.
pub(crate) const OVERRULED: u8 = 1 << 3;
/// Both sides have sent their FIN: nothing prolongs the session any more.
pub(crate) const FROZEN: u8 = 1 << 4;
/// The session came from outside and counts as unanswered; only its owner reads or writes this.
pub(crate) const UNANSWERED: u8 = 1 << 6;
/// Not the owner, but a worker that may not remove it, found the session void: its owner will.
pub(crate) const CONDEMNED: u8 = 1 << 7;

#[cfg(test)]
#[cfg(loom)]
mod interleavings {
    use std::sync::Arc;

    use loom::thread;
    use packet::Side;

    use super::*;
    use crate::sync::explore;

    #[test]
    fn a_session_stays_condemned_whatever_its_owner_and_its_packets_note() {
        explore(3, || {
            let endpoint = Endpoint::new(std::net::Ipv4Addr::LOCALHOST, 1);
            let key = FlowKey::new(Protocol::Tcp, endpoint, endpoint, Side::Inside);
            let rewrite =
                Rewrite { source: endpoint, destination: endpoint, traits: 0, generation: 0 };
            let next_hop = NextHop { egress: LinkId::WAN, neighbour: 0 };
            let links = Links { ingress: LinkId::WAN, next_hop };
            let flow = Arc::new(Flow::new(key, rewrite, links, Instant::ZERO));
            flow.note(UNANSWERED);
            let (other, owner) = (Arc::clone(&flow), Arc::clone(&flow));
            let other = thread::spawn(move || other.note(CONDEMNED));
            let owner = thread::spawn(move || owner.forget(UNANSWERED));
            flow.note(SYN);
            other.join().unwrap();
            owner.join().unwrap();
            assert!(flow.happened(CONDEMNED) && flow.happened(SYN) && !flow.happened(UNANSWERED));
        });
    }
}
