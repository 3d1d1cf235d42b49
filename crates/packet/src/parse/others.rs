//! Protocols that few hosts speak: UDP-Lite, SCTP, and the tunnels.

use crate::header::{esp, gre, ipv4, sctp, u16_at, u32_at, udp, udp_lite};
use crate::{DropReason, L4, PartialChecksum, Protocol, SctpChunk};

use super::{Datagram, Transport, ports};

/// Length of an IPv6 header (RFC 8200 §3).
const IPV6_LEN: usize = 40;

/// Reads the header of a protocol other than TCP, UDP and ICMP.
#[cold]
pub(super) fn parse(protocol: Protocol, segment: &[u8]) -> Result<Transport, DropReason> {
    match protocol {
        Protocol::UdpLite => parse_udp_lite(segment),
        Protocol::Sctp => parse_sctp(segment),
        Protocol::Gre => {
            let id = gre_id(segment)?;
            Ok(Transport { l4: L4::Gre, ports: (id, id) })
        }
        Protocol::Esp => parse_esp(segment),
        Protocol::IpIp => tunnel(segment, L4::IpIp, ipv4::LEN_MIN),
        Protocol::SixInFour => tunnel(segment, L4::SixInFour, IPV6_LEN),
        Protocol::Tcp | Protocol::Udp | Protocol::Icmp => Err(DropReason::ProtocolUnsupported),
    }
}

fn parse_udp_lite(segment: &[u8]) -> Result<Transport, DropReason> {
    if segment.len() < udp_lite::LEN {
        return Err(DropReason::TransportTruncated);
    }
    let coverage = usize::from(u16_at(segment, udp_lite::COVERAGE));
    if coverage != 0 && coverage < udp_lite::LEN || coverage > segment.len() {
        return Err(DropReason::TransportLength);
    }
    if u16_at(segment, udp_lite::CHECKSUM) == 0 {
        return Err(DropReason::UdpLiteChecksum);
    }
    Ok(Transport { l4: L4::UdpLite, ports: ports(segment, (udp::SOURCE, udp::DESTINATION))? })
}

fn parse_sctp(segment: &[u8]) -> Result<Transport, DropReason> {
    if segment.len() < sctp::LEN + sctp::CHUNK_HEADER_LEN {
        return Err(DropReason::TransportTruncated);
    }
    let length = usize::from(u16_at(segment, sctp::CHUNK_LENGTH));
    if length < sctp::CHUNK_HEADER_LEN || length > segment.len() - sctp::LEN {
        return Err(DropReason::TransportLength);
    }
    let chunk = match segment[sctp::CHUNK_TYPE] {
        1 => SctpChunk::Init,
        2 => SctpChunk::InitAck,
        6 => SctpChunk::Abort,
        7 | 8 | 14 => SctpChunk::Shutdown,
        _ => SctpChunk::Other,
    };
    let ports = ports(segment, (sctp::SOURCE, sctp::DESTINATION))?;
    Ok(Transport { l4: L4::Sctp(chunk), ports })
}

fn parse_esp(segment: &[u8]) -> Result<Transport, DropReason> {
    if segment.len() < esp::LEN {
        return Err(DropReason::TransportTruncated);
    }
    match esp_ports(segment) {
        // RFC 4303 §2.1: never sent on the wire.
        (0, 0) => Err(DropReason::TransportPortZero),
        ports => Ok(Transport { l4: L4::Esp, ports }),
    }
}

fn tunnel(segment: &[u8], l4: L4, inner_len_min: usize) -> Result<Transport, DropReason> {
    if segment.len() < inner_len_min {
        return Err(DropReason::TransportTruncated);
    }
    Ok(Transport { l4, ports: (0, 0) })
}

/// What stands for the ports of a GRE packet: its key folded to 16 bits and never 0, or 0 if it has
/// none. The key of PPTP is a call id, which is another in each direction, so it is none.
fn gre_id(segment: &[u8]) -> Result<u16, DropReason> {
    if segment.len() < gre::LEN_MIN {
        return Err(DropReason::TransportTruncated);
    }
    let flags = u16_at(segment, gre::FLAGS);
    let version = flags & gre::VERSION_MASK;
    if version > 1 {
        return Err(DropReason::GreVersion);
    }
    if version == 1 || flags & gre::KEY_PRESENT == 0 {
        return Ok(0);
    }
    let sums = flags & (gre::CHECKSUM_PRESENT | gre::ROUTING_PRESENT) != 0;
    let at = gre::LEN_MIN + if sums { 4 } else { 0 };
    if segment.len() < at + 4 {
        return Err(DropReason::TransportTruncated);
    }
    let key = u32_at(segment, at);
    Ok(match (key >> 16) as u16 ^ key as u16 {
        0 => u16::MAX,
        id => id,
    })
}

fn esp_ports(segment: &[u8]) -> (u16, u16) {
    (u16_at(segment, esp::SPI), u16_at(segment, esp::SPI + 2))
}

/// The ports at the head of an embedded packet, and where in its header a checksum is that covers
/// the addresses. `None` if the head is too short to tell.
pub(crate) fn embedded_ports(
    protocol: Protocol,
    head: &[u8],
) -> Option<((u16, u16), Option<usize>)> {
    let ports_at_front = || (u16_at(head, 0), u16_at(head, 2));
    match protocol {
        Protocol::Gre => {
            let id = gre_id(head).ok()?;
            Some(((id, id), None))
        }
        _ if head.len() < EMBEDDED_LEN_MIN => None,
        Protocol::UdpLite => Some((ports_at_front(), Some(udp_lite::CHECKSUM))),
        Protocol::Sctp => Some((ports_at_front(), None)),
        Protocol::Esp => Some((esp_ports(head), None)),
        Protocol::IpIp | Protocol::SixInFour => Some(((0, 0), None)),
        Protocol::Tcp | Protocol::Udp | Protocol::Icmp => None,
    }
}

/// Bytes behind the IP header that an ICMP error carries at the least (RFC 792), unless the packet
/// has fewer.
pub(crate) const EMBEDDED_LEN_MIN: usize = 8;

/// Checks a partial checksum that a tunnel's payload has: the sender's kernel left it to the
/// hardware, which finds it by the offsets alone.
pub(super) fn check_inner(datagram: &Datagram, partial: PartialChecksum) -> Result<(), DropReason> {
    let field_end = usize::from(partial.start) + usize::from(partial.offset) + 2;
    if partial.start <= datagram.l4 || field_end > datagram.end as usize {
        return Err(DropReason::OffloadInvalid);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
