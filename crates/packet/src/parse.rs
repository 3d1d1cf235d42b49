//! From bytes to offsets, once.

pub(crate) mod others;

use std::net::Ipv4Addr;

use crate::header::{bytes_at, ethernet, icmp, ipv4, sctp, tcp, u16_at, udp, udp_lite};
use crate::{
    DropReason, Endpoint, FlowKey, Fragment, GsoKind, Offload, PartialChecksum, Protocol, Side,
    checksum,
};

/// What a frame turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A well-formed ARP message for IPv4 over Ethernet.
    Arp(Arp),
    /// A well-formed IPv4 packet, whole.
    Ipv4(Datagram),
    /// A well-formed part of one.
    Fragment(Fragment),
}

/// The fields of an ARP message (RFC 826).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: crate::MacAddr,
    /// Sender protocol address.
    pub sender: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: crate::MacAddr,
    /// Target protocol address.
    pub target: Ipv4Addr,
}

/// Offsets into an IPv4 packet's frame, and the fields that decisions need.
///
/// **Shape**: offsets count from the start of the frame; `end` excludes Ethernet padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Start of the IP header.
    pub l3: u16,
    /// Start of the transport header.
    pub l4: u16,
    /// End of the IP packet.
    pub end: u32,
    /// Source address and port (ICMP query: see [`FlowKey`]).
    pub source: Endpoint,
    /// Destination address and port.
    pub destination: Endpoint,
    /// What the packet carries.
    pub transport: L4,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// "Don't fragment".
    pub dont_fragment: bool,
}

/// The transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4 {
    /// TCP with its flags and the length of its header in bytes.
    Tcp {
        /// Flags byte.
        flags: u8,
        /// Header length, options included.
        header_len: u8,
    },
    /// UDP.
    Udp,
    /// ICMP.
    Icmp(IcmpKind),
    /// UDP-Lite.
    UdpLite,
    /// SCTP with its first chunk.
    Sctp(SctpChunk),
    /// GRE.
    Gre,
    /// ESP.
    Esp,
    /// IPv4 in IPv4.
    IpIp,
    /// IPv6 in IPv4.
    SixInFour,
}

/// What the first chunk of an SCTP packet does to the association (RFC 9260 §3.2). The chunks that
/// open or end one are the first of their packet, or alone in it (§6.10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SctpChunk {
    /// INIT: asks for an association.
    Init,
    /// INIT ACK: agrees to one.
    InitAck,
    /// ABORT: ends it at once.
    Abort,
    /// SHUTDOWN, SHUTDOWN ACK or SHUTDOWN COMPLETE: the side has nothing more to send.
    Shutdown,
    /// Any other: the association goes on.
    Other,
}

impl L4 {
    /// Whether it is a TCP reset.
    #[must_use]
    #[inline]
    pub fn is_reset(self) -> bool {
        matches!(self, L4::Tcp { flags, .. } if flags & tcp::RST != 0)
    }
}

/// What an ICMP message is to a translator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpKind {
    /// Echo or timestamp request.
    Request,
    /// Echo or timestamp reply.
    Reply,
    /// An error that embeds the packet it is about.
    Error,
}

impl Datagram {
    /// The protocol whose sessions carry this packet. ICMP errors belong to the session of the packet that
    /// they embed, so they have none of their own.
    #[must_use]
    #[inline]
    pub fn protocol(&self) -> Protocol {
        match self.transport {
            L4::Tcp { .. } => Protocol::Tcp,
            L4::Udp => Protocol::Udp,
            L4::Icmp(_) => Protocol::Icmp,
            L4::UdpLite => Protocol::UdpLite,
            L4::Sctp(_) => Protocol::Sctp,
            L4::Gre => Protocol::Gre,
            L4::Esp => Protocol::Esp,
            L4::IpIp => Protocol::IpIp,
            L4::SixInFour => Protocol::SixInFour,
        }
    }

    /// The key of the packet's flow as seen from `side`.
    #[must_use]
    #[inline]
    pub fn key(&self, side: Side) -> FlowKey {
        FlowKey::new(self.protocol(), self.source, self.destination, side)
    }

    /// Length of the IP packet in bytes.
    #[must_use]
    #[inline]
    pub fn ip_len(&self) -> usize {
        self.end as usize - self.l3 as usize
    }

    /// Length of all headers up to the payload, from the start of the frame. What is in a tunnel is
    /// all payload.
    #[must_use]
    #[inline]
    pub fn headers_len(&self) -> usize {
        let transport = match self.transport {
            L4::Tcp { header_len, .. } => usize::from(header_len),
            L4::Udp => udp::LEN,
            L4::Icmp(_) => icmp::LEN,
            L4::UdpLite => udp_lite::LEN,
            L4::Sctp(_) => sctp::LEN,
            L4::Gre | L4::Esp | L4::IpIp | L4::SixInFour => 0,
        };
        usize::from(self.l4) + transport
    }

    /// Length of the IP packet on the wire: of its largest segment if it is a super-packet.
    #[must_use]
    #[inline]
    pub fn wire_ip_len(&self, offload: Offload) -> usize {
        match offload.gso {
            Some(gso) => {
                let segment = self.headers_len() - usize::from(self.l3) + usize::from(gso.size);
                segment.min(self.ip_len())
            }
            None => self.ip_len(),
        }
    }
}

/// Parses a frame as it came from a link.
///
/// What is checked, in order: Ethernet header, EtherType, IP version, header length, total length against
/// the frame, header checksum, options, fragment bits, transport lengths, TCP flags, ports, ICMP checksum,
/// and that offload metadata agrees with the headers. Of tunnels, that their own header is whole: what
/// they carry is their ends' business. So are the checksums of TCP, UDP, UDP-Lite and SCTP:
/// translation is incremental, so a wrong one stays wrong.
///
/// # Errors
/// The reason to drop the frame.
#[inline]
pub fn parse(frame: &[u8], offload: Offload) -> Result<Parsed, DropReason> {
    if frame.len() < ethernet::LEN {
        return Err(DropReason::EthernetTruncated);
    }
    match u16_at(frame, ethernet::ETHERTYPE) {
        ethernet::IPV4 => parse_ipv4(frame, offload),
        ethernet::ARP => parse_arp(frame).map(Parsed::Arp),
        ethernet::IPV6 => Err(DropReason::Ipv6),
        other if ethernet::VLAN.contains(&other) => Err(DropReason::VlanTagged),
        _ => Err(DropReason::EtherTypeUnsupported),
    }
}

fn parse_ipv4(frame: &[u8], offload: Offload) -> Result<Parsed, DropReason> {
    let l3 = ethernet::LEN;
    let packet = &frame[l3..];
    if packet.len() < ipv4::LEN_MIN {
        return Err(DropReason::IpTruncated);
    }
    if packet[0] >> 4 != 4 {
        return Err(DropReason::IpVersion);
    }
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    if header_len < ipv4::LEN_MIN || header_len > packet.len() {
        return Err(DropReason::IpHeaderLength);
    }
    let total = usize::from(u16_at(packet, ipv4::TOTAL_LENGTH));
    if total < header_len {
        return Err(DropReason::IpTotalLength);
    }
    if total > packet.len() {
        return Err(DropReason::IpTruncated);
    }
    if !checksum::is_right(&packet[..header_len]) {
        return Err(DropReason::IpChecksum);
    }
    if header_len > ipv4::LEN_MIN && carries_source_route(&packet[ipv4::LEN_MIN..header_len]) {
        return Err(DropReason::IpSourceRoute);
    }
    let fragment = u16_at(packet, ipv4::FRAGMENT);
    if fragment & ipv4::FRAGMENT_MASK != 0 {
        return parse_fragment(frame, l3 + header_len, l3 + total, offload);
    }
    let transport = parse_transport(packet[ipv4::PROTOCOL], &packet[header_len..total])?;
    let datagram = Datagram {
        l3: l3 as u16,
        l4: (l3 + header_len) as u16,
        end: (l3 + total) as u32,
        source: Endpoint::new(address_at(packet, ipv4::SOURCE), transport.ports.0),
        destination: Endpoint::new(address_at(packet, ipv4::DESTINATION), transport.ports.1),
        transport: transport.l4,
        ttl: packet[ipv4::TTL],
        tos: packet[ipv4::TOS],
        dont_fragment: fragment & ipv4::DONT_FRAGMENT != 0,
    };
    if offload != Offload::NONE {
        check_offload(&datagram, offload)?;
    }
    Ok(Parsed::Ipv4(datagram))
}

/// No sender leaves work undone in a fragment: a checksum covers the whole packet.
#[cold]
fn parse_fragment(
    frame: &[u8],
    payload: usize,
    end: usize,
    offload: Offload,
) -> Result<Parsed, DropReason> {
    if offload != Offload::NONE {
        return Err(DropReason::OffloadInvalid);
    }
    Fragment::read(frame, ethernet::LEN, payload, end).map(Parsed::Fragment)
}

struct Transport {
    l4: L4,
    ports: (u16, u16),
}

#[inline]
fn parse_transport(protocol: u8, segment: &[u8]) -> Result<Transport, DropReason> {
    match Protocol::from_number(protocol) {
        Some(Protocol::Tcp) => parse_tcp(segment),
        Some(Protocol::Udp) => parse_udp(segment),
        Some(Protocol::Icmp) => parse_icmp(segment),
        Some(other) => others::parse(other, segment),
        None => Err(DropReason::ProtocolUnsupported),
    }
}

fn parse_tcp(segment: &[u8]) -> Result<Transport, DropReason> {
    if segment.len() < tcp::LEN_MIN {
        return Err(DropReason::TransportTruncated);
    }
    let header_len = usize::from(segment[tcp::DATA_OFFSET] >> 4) * 4;
    if header_len < tcp::LEN_MIN || header_len > segment.len() {
        return Err(DropReason::TransportLength);
    }
    let flags = segment[tcp::FLAGS];
    let opens = flags & tcp::SYN != 0;
    let ends = flags & (tcp::FIN | tcp::RST) != 0;
    if opens && ends || flags & (tcp::SYN | tcp::RST | tcp::ACK) == 0 {
        return Err(DropReason::TcpFlags);
    }
    Ok(Transport {
        l4: L4::Tcp { flags, header_len: header_len as u8 },
        ports: ports(segment, (tcp::SOURCE, tcp::DESTINATION))?,
    })
}

fn parse_udp(segment: &[u8]) -> Result<Transport, DropReason> {
    if segment.len() < udp::LEN {
        return Err(DropReason::TransportTruncated);
    }
    let length = usize::from(u16_at(segment, udp::LENGTH));
    if length < udp::LEN || length > segment.len() {
        return Err(DropReason::TransportLength);
    }
    Ok(Transport { l4: L4::Udp, ports: ports(segment, (udp::SOURCE, udp::DESTINATION))? })
}

fn ports(segment: &[u8], at: (usize, usize)) -> Result<(u16, u16), DropReason> {
    let ports = (u16_at(segment, at.0), u16_at(segment, at.1));
    if ports.0 == 0 || ports.1 == 0 { Err(DropReason::TransportPortZero) } else { Ok(ports) }
}

fn parse_icmp(segment: &[u8]) -> Result<Transport, DropReason> {
    if segment.len() < icmp::LEN {
        return Err(DropReason::TransportTruncated);
    }
    if checksum::of(segment) != 0 {
        return Err(DropReason::IcmpChecksum);
    }
    let identifier = u16_at(segment, icmp::IDENTIFIER);
    let (kind, ports) = match segment[icmp::TYPE] {
        8 | 13 => (IcmpKind::Request, (identifier, 0)),
        0 | 14 => (IcmpKind::Reply, (0, identifier)),
        3 | 11 | 12 => (IcmpKind::Error, (0, 0)),
        _ => return Err(DropReason::IcmpUnsupported),
    };
    Ok(Transport { l4: L4::Icmp(kind), ports })
}

/// Walks IP options; anything malformed ends the walk, as end hosts do.
fn carries_source_route(mut options: &[u8]) -> bool {
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let [kind, rest @ ..] = options {
        match *kind {
            0 => return false,
            1 => options = rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return true,
            _ => {
                let length = rest.first().map_or(0, |length| usize::from(*length));
                let Some(next) = options.get(length.max(2)..) else { return false };
                options = next;
            }
        }
    }
    false
}

fn check_offload(datagram: &Datagram, offload: Offload) -> Result<(), DropReason> {
    if let Some(partial) = offload.checksum {
        check_partial(datagram, partial)?;
    }
    if let Some(gso) = offload.gso {
        let fits = matches!(
            (gso.kind, datagram.transport),
            (GsoKind::TcpV4 | GsoKind::TcpV4Ecn, L4::Tcp { .. }) | (GsoKind::Udp, L4::Udp)
        );
        if !fits || gso.size == 0 {
            return Err(DropReason::OffloadInvalid);
        }
    }
    Ok(())
}

fn check_partial(datagram: &Datagram, partial: PartialChecksum) -> Result<(), DropReason> {
    let field = match datagram.transport {
        L4::Tcp { .. } => tcp::CHECKSUM,
        L4::Udp => udp::CHECKSUM,
        L4::Sctp(_) => sctp::CHECKSUM,
        L4::Gre | L4::IpIp | L4::SixInFour => return others::check_inner(datagram, partial),
        L4::Icmp(_) | L4::UdpLite | L4::Esp => return Err(DropReason::OffloadInvalid),
    };
    if partial.start == datagram.l4 && usize::from(partial.offset) == field {
        Ok(())
    } else {
        Err(DropReason::OffloadInvalid)
    }
}

fn parse_arp(frame: &[u8]) -> Result<Arp, DropReason> {
    const LEN: usize = 28;
    /// Hardware type 1, protocol type IPv4, lengths 6 and 4.
    const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
    let message = &frame[ethernet::LEN..];
    if message.len() < LEN || message[..6] != ETHERNET_IPV4 {
        return Err(DropReason::ArpMalformed);
    }
    let arp = Arp {
        operation: u16_at(message, 6),
        sender_mac: crate::MacAddr(bytes_at(message, 8)),
        sender: address_at(message, 14),
        target_mac: crate::MacAddr(bytes_at(message, 18)),
        target: address_at(message, 24),
    };
    let plausible = matches!(arp.operation, 1 | 2) && arp.sender_mac.is_unicast();
    if plausible { Ok(arp) } else { Err(DropReason::ArpMalformed) }
}

#[inline]
fn address_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(bytes_at::<4>(bytes, at))
}

#[cfg(test)]
mod tests;
