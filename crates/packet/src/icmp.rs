//! ICMP errors: the packet inside one, and making one.

use std::io::Cursor;
use std::net::Ipv4Addr;

use etherparse::{IpDscp, IpHeaders, Ipv4Extensions, Ipv4Header, PacketBuilder, icmpv4};

use crate::header::{bytes_at, destination_mac, icmp, ipv4, source_mac, tcp, u16_at, udp};
use crate::parse::Datagram;
use crate::parse::others::{self, EMBEDDED_LEN_MIN};
use crate::{DropReason, Endpoint, IcmpKind, L4, MacAddr, PacketBuf, Protocol, checksum};

/// The packet that an ICMP error embeds: offsets from the start of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Embedded {
    /// Start of the embedded IP header.
    pub l3: usize,
    /// Start of the embedded transport header.
    pub l4: usize,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its source (ICMP query: see [`crate::FlowKey`]).
    pub source: Endpoint,
    /// Its destination.
    pub destination: Endpoint,
    /// Offset of the transport checksum, if it covers what a translation changes and the error
    /// carries that much of the packet.
    pub checksum: Option<usize>,
}

/// Reads the packet inside an ICMP error.
///
/// The embedded IP header must be whole and its checksum right (RFC 5508 REQ-3a), options are stepped over
/// (REQ-3b), the transport checksum is not verified (REQ-3c), and eight transport bytes suffice (RFC 792). A first
/// fragment has them like a whole packet.
///
/// # Errors
/// [`DropReason::IcmpEmbedded`] if it cannot be the head of a packet of ours; [`DropReason::IcmpFragment`] if it
/// is another fragment than the first, which does not say whose it is.
pub fn embedded(frame: &[u8], outer: &Datagram) -> Result<Embedded, DropReason> {
    let bad = DropReason::IcmpEmbedded;
    let l3 = usize::from(outer.l4) + icmp::LEN;
    let packet = frame.get(l3..outer.end as usize).ok_or(bad)?;
    let header_len = usize::from(packet.first().ok_or(bad)? & 0x0f) * 4;
    if header_len < ipv4::LEN_MIN || packet.len() < header_len || packet[0] >> 4 != 4 {
        return Err(bad);
    }
    if !checksum::is_right(&packet[..header_len]) {
        return Err(bad);
    }
    if u16_at(packet, ipv4::FRAGMENT) & ipv4::OFFSET_MASK != 0 {
        return Err(DropReason::IcmpFragment);
    }
    let protocol = Protocol::from_number(packet[ipv4::PROTOCOL]).ok_or(bad)?;
    let transport = &packet[header_len..];
    let (ports, field) = embedded_ports(protocol, transport).ok_or(bad)?;
    let l4 = l3 + header_len;
    Ok(Embedded {
        l3,
        l4,
        protocol,
        source: Endpoint::new(Ipv4Addr::from(bytes_at::<4>(packet, ipv4::SOURCE)), ports.0),
        destination: Endpoint::new(
            Ipv4Addr::from(bytes_at::<4>(packet, ipv4::DESTINATION)),
            ports.1,
        ),
        checksum: field.filter(|field| transport.len() >= field + 2).map(|field| l4 + field),
    })
}

/// The ports of an embedded packet, and where in its header the checksum is that covers them.
fn embedded_ports(protocol: Protocol, head: &[u8]) -> Option<((u16, u16), Option<usize>)> {
    let ports_at_front = || (u16_at(head, 0), u16_at(head, 2));
    match protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Icmp if head.len() < EMBEDDED_LEN_MIN => None,
        Protocol::Tcp => Some((ports_at_front(), Some(tcp::CHECKSUM))),
        Protocol::Udp => Some((ports_at_front(), Some(udp::CHECKSUM))),
        Protocol::Icmp => Some((query_ports(head)?, Some(icmp::CHECKSUM))),
        other => others::embedded_ports(other, head),
    }
}

fn query_ports(transport: &[u8]) -> Option<(u16, u16)> {
    let identifier = u16_at(transport, icmp::IDENTIFIER);
    match transport[icmp::TYPE] {
        8 | 13 => Some((identifier, 0)),
        0 | 14 => Some((0, identifier)),
        _ => None,
    }
}

/// An ICMP error that a router originates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// Type 11 code 0: TTL exceeded in transit.
    TimeExceeded,
    /// Type 3 code 0.
    NetworkUnreachable,
    /// Type 3 code 1.
    HostUnreachable,
    /// Type 3 code 3.
    PortUnreachable,
    /// Type 3 code 4, with the MTU of the next hop (RFC 1191).
    FragmentationNeeded(u16),
    /// Type 3 code 13: communication administratively prohibited.
    AdministrativelyProhibited,
}

impl ErrorKind {
    /// The error in a few words, as RFC 792 has them.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::TimeExceeded => "time to live exceeded in transit",
            Self::NetworkUnreachable => "network unreachable",
            Self::HostUnreachable => "host unreachable",
            Self::PortUnreachable => "port unreachable",
            Self::FragmentationNeeded(_) => "fragmentation needed",
            Self::AdministrativelyProhibited => "communication administratively prohibited",
        }
    }
}

/// Whether an ICMP error may be sent about a packet at all (RFC 1812 §4.3.2.7): never about an ICMP error,
/// a broadcast or multicast, or a source that is not one host.
#[must_use]
pub fn may_answer(frame: &[u8], datagram: &Datagram) -> bool {
    let source = datagram.source.address;
    let destination = datagram.destination.address;
    let about_error = datagram.transport == L4::Icmp(IcmpKind::Error);
    let one_source = !(source.is_unspecified()
        || source.is_loopback()
        || source.is_multicast()
        || source.octets()[0] >= 240);
    let one_destination = !destination.is_multicast() && !destination.is_broadcast();
    !about_error && one_source && one_destination && !destination_mac(frame).is_group()
}

/// Bytes of the offending packet that an error carries: as much as keeps the error's IP packet within 576
/// bytes (RFC 1812 §4.3.2.3).
const QUOTE_MAX: usize = 576 - ipv4::LEN_MIN - icmp::LEN;

/// Precedence 6 of an error that a router originates (RFC 1812 §4.3.2.5), which is the class selector CS6. The rest of
/// the old TOS octet, which that section would copy, means other classes and ECN since RFC 2474 and RFC 3168: zero.
const INTERNETWORK_CONTROL: IpDscp = IpDscp::CS6;

/// Replaces the frame by an ICMP error about it, addressed to its sender.
///
/// The new frame goes back where the old one came from: MAC addresses are `router_mac` to the old source.
///
/// # Panics
/// Never: the frame was parsed, so the quote fits every buffer.
pub fn answer(
    packet: &mut PacketBuf,
    datagram: &Datagram,
    kind: ErrorKind,
    router_mac: MacAddr,
    router: Ipv4Addr,
) {
    crate::gso::finish_checksum(packet, datagram);
    let frame = packet.frame();
    let sender_mac = source_mac(frame);
    let l3 = usize::from(datagram.l3);
    let quote_len = datagram.ip_len().min(QUOTE_MAX);
    let mut quote = [0u8; QUOTE_MAX];
    quote[..quote_len].copy_from_slice(&frame[l3..l3 + quote_len]);

    const TTL: u8 = 64;
    let mut header = Ipv4Header {
        source: router.octets(),
        destination: datagram.source.address.octets(),
        time_to_live: TTL,
        // Atomic (RFC 6864 §4.1), so it needs no identification.
        dont_fragment: true,
        ..Ipv4Header::default()
    };
    header.dscp = INTERNETWORK_CONTROL;
    let builder = PacketBuilder::ethernet2(router_mac.0, sender_mac.0)
        .ip(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
        .icmpv4(kind.icmpv4_type());
    let len = builder.size(quote_len);
    packet.clear();
    let space = &mut packet.space_mut()[..len];
    builder
        .write(&mut Cursor::new(space), &quote[..quote_len])
        .expect("the space is exactly as long as the builder said");
    packet.set_len(len);
}

impl ErrorKind {
    fn icmpv4_type(self) -> etherparse::Icmpv4Type {
        use etherparse::Icmpv4Type::{DestinationUnreachable, TimeExceeded};
        use icmpv4::DestUnreachableHeader as Unreachable;
        match self {
            Self::TimeExceeded => TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
            Self::NetworkUnreachable => DestinationUnreachable(Unreachable::Network),
            Self::HostUnreachable => DestinationUnreachable(Unreachable::Host),
            Self::PortUnreachable => DestinationUnreachable(Unreachable::Port),
            Self::FragmentationNeeded(next_hop_mtu) => {
                DestinationUnreachable(Unreachable::FragmentationNeeded { next_hop_mtu })
            }
            Self::AdministrativelyProhibited => {
                DestinationUnreachable(Unreachable::FilterProhibited)
            }
        }
    }
}

#[cfg(test)]
mod tests;
