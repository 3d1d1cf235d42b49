//! Packets and links that are too small for them.

use packet::header::ipv4;
use packet::{Datagram, GsoKind, PacketBuf};

/// The least that any link carries (RFC 791 §3.2).
const MTU_MIN: u16 = 68;

/// Whether a packet goes on as it is without a packet on the wire longer than `mtu`: a super-packet if its segments
/// do, one that came in fragments if its fragments did.
#[inline]
pub(crate) fn fits(packet: &PacketBuf, datagram: &Datagram, mtu: u16) -> bool {
    let longest = match packet.fragment_max {
        Some(fragment_max) => usize::from(fragment_max),
        None => datagram.wire_ip_len(packet.offload),
    };
    longest <= usize::from(mtu)
}

/// Arranges for a packet to leave in pieces that a link of this `mtu` carries, none longer than those that it came
/// in (RFC 4787 REQ-13a). A TCP super-packet gets shorter segments, which need no fragments.
///
/// Only for packets that may be cut: see [`fits`].
#[inline]
pub(crate) fn fit(packet: &mut PacketBuf, datagram: &Datagram, mtu: u16) {
    if packet.fragment_max.is_none() && fits(packet, datagram, mtu) {
        return;
    }
    cut(packet, datagram, mtu.max(MTU_MIN));
}

#[cold]
fn cut(packet: &mut PacketBuf, datagram: &Datagram, mtu: u16) {
    if let Some(gso) = &mut packet.offload.gso
        && matches!(gso.kind, GsoKind::TcpV4 | GsoKind::TcpV4Ecn)
    {
        let headers_len = (datagram.headers_len() - usize::from(datagram.l3)) as u16;
        gso.size = mtu.saturating_sub(headers_len).max(1);
        return;
    }
    packet.fragment_max =
        Some(packet.fragment_max.map_or(mtu, |fragment_max| fragment_max.min(mtu)));
}

/// Whether a packet is and stays whole, so that its identification means nothing (RFC 6864 §4).
#[inline]
pub(crate) fn is_atomic(packet: &PacketBuf, datagram: &Datagram) -> bool {
    datagram.dont_fragment && packet.fragment_max.is_none()
}

const _: () = assert!(MTU_MIN as usize >= ipv4::LEN_MAX + packet::fragment::UNIT);
