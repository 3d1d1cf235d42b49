//! The shape of nearly every packet, recognised in a few loads.

use crate::header::{bytes_at, ethernet, ipv4, tcp, u16_at, u32_at, udp};
use crate::{Datagram, FlowKey, L4, MacAddr, PacketBuf, Protocol, Segment, Side, checksum};

/// A whole TCP or UDP packet over untagged IPv4 without options that asks nothing of a router but to be sent on:
/// addressed to its station, TTL above 1, no super-packet, and of TCP no segment that opens or ends a connection.
///
/// Every packet of this shape [`parse`](crate::parse)s without a fault. Of others the parser says what they are; the
/// path of the many is short because it need not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plain {
    /// The key of its flow.
    pub key: FlowKey,
    /// Length of the IP packet.
    pub ip_len: u16,
}

impl Plain {
    /// Where the transport header is.
    pub const L4: usize = ethernet::LEN + ipv4::LEN_MIN;

    /// Of no packet.
    pub const NONE: Plain = Plain { key: FlowKey::NONE, ip_len: 0 };

    /// Looks at a packet that came in by the station `mac`; `None` if it has another shape.
    #[must_use]
    #[inline(always)]
    pub fn of(packet: &PacketBuf, mac: MacAddr, side: Side) -> Option<Self> {
        /// Type IPv4, version 4, no options; any type of service.
        const STARTS: [u8; 4] = [0x08, 0x00, 0x45, 0];
        const STARTS_MASK: u32 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0]);
        let frame = packet.frame();
        let headers: &UdpHeaders = frame.first_chunk()?;
        let ip: &[u8; ipv4::LEN_MIN] = headers[ethernet::LEN..].first_chunk()?;
        let ip_len = u16_at(ip, ipv4::TOTAL_LENGTH);
        let fragment = u16_at(ip, ipv4::FRAGMENT);
        let ports: [u8; 4] = bytes_at(headers, Self::L4);
        let [source_port, destination_port] =
            [[ports[0], ports[1]], [ports[2], ports[3]]].map(u16::from_ne_bytes);
        let starts = u32::from_ne_bytes(bytes_at(headers, ethernet::ETHERTYPE));
        let is_plain = is_for(headers, mac)
            && starts & STARTS_MASK == u32::from_ne_bytes(STARTS)
            && fragment & ipv4::FRAGMENT_MASK == 0
            && ip[ipv4::TTL] > 1
            && usize::from(ip_len) + ethernet::LEN <= frame.len()
            && source_port != 0
            && destination_port != 0
            && packet.offload.gso.is_none()
            && packet.fragment_max.is_none()
            && checksum::is_right(ip);
        if !is_plain {
            return None;
        }
        let segment_len = usize::from(ip_len).checked_sub(ipv4::LEN_MIN)?;
        let (protocol, checksum_at) = match ip[ipv4::PROTOCOL] {
            UDP => {
                let len = usize::from(u16_at(headers, Self::L4 + udp::LENGTH));
                if len < udp::LEN || len > segment_len {
                    return None;
                }
                (Protocol::Udp, udp::CHECKSUM)
            }
            TCP => {
                let headers: &TcpHeaders = frame.first_chunk()?;
                let header_len = usize::from(headers[Self::L4 + tcp::DATA_OFFSET] >> 4) * 4;
                let flags = headers[Self::L4 + tcp::FLAGS];
                if header_len < tcp::LEN_MIN
                    || header_len > segment_len
                    || flags & (tcp::SYN | tcp::FIN | tcp::RST | tcp::ACK) != tcp::ACK
                {
                    return None;
                }
                (Protocol::Tcp, tcp::CHECKSUM)
            }
            _ => return None,
        };
        if let Some(partial) = packet.offload.checksum
            && (usize::from(partial.start), usize::from(partial.offset)) != (Self::L4, checksum_at)
        {
            return None;
        }
        let addresses = bytes_at(ip, ipv4::SOURCE);
        Some(Self { key: FlowKey::of_wire(protocol, addresses, ports, side), ip_len })
    }

    /// Length of the frame without padding.
    #[must_use]
    #[inline(always)]
    pub fn frame_len(&self) -> usize {
        ethernet::LEN + usize::from(self.ip_len)
    }

    /// What [`parse`](crate::parse) says of the frame.
    #[must_use]
    pub fn datagram(&self, frame: &[u8]) -> Datagram {
        let ip = ethernet::LEN;
        let transport = match self.key.protocol_number() {
            TCP => L4::Tcp {
                flags: frame[Self::L4 + tcp::FLAGS],
                header_len: (frame[Self::L4 + tcp::DATA_OFFSET] >> 4) * 4,
            },
            _ => L4::Udp,
        };
        Datagram {
            l3: ethernet::LEN as u16,
            l4: Self::L4 as u16,
            end: self.frame_len() as u32,
            source: self.key.source(),
            destination: self.key.destination(),
            transport,
            ttl: frame[ip + ipv4::TTL],
            tos: frame[ip + ipv4::TOS],
            dont_fragment: Self::dont_fragment(frame),
        }
    }

    /// The headers of the frame.
    ///
    /// # Panics
    /// If the frame is not the one that was looked at.
    #[must_use]
    #[inline(always)]
    pub fn headers<'a>(&self, frame: &'a mut [u8]) -> Headers<'a> {
        const SHAPE: &str = "a plain packet has its headers";
        match self.key.protocol_number() {
            TCP => Headers::Tcp(frame.first_chunk_mut().expect(SHAPE)),
            _ => Headers::Udp(frame.first_chunk_mut().expect(SHAPE)),
        }
    }

    /// Whether the packet may not be fragmented.
    #[must_use]
    #[inline(always)]
    pub fn dont_fragment(headers: &[u8]) -> bool {
        const HIGH: u8 = (ipv4::DONT_FRAGMENT >> 8) as u8;
        headers[ethernet::LEN + ipv4::FRAGMENT] & HIGH != 0
    }

    /// The segment that the frame carries.
    #[must_use]
    #[inline(always)]
    pub fn segment(&self, headers: &TcpHeaders) -> Segment {
        let header_len = u32::from(headers[Self::L4 + tcp::DATA_OFFSET] >> 4) * 4;
        Segment {
            flags: headers[Self::L4 + tcp::FLAGS],
            sequence: u32_at(headers, Self::L4 + tcp::SEQUENCE),
            acknowledgement: u32_at(headers, Self::L4 + tcp::ACKNOWLEDGEMENT),
            window: u16_at(headers, Self::L4 + tcp::WINDOW),
            data_len: u32::from(self.ip_len) - ipv4::LEN_MIN as u32 - header_len,
            window_scale: None,
        }
    }
}

/// The headers of a packet of plain shape.
pub enum Headers<'a> {
    /// Of UDP.
    Udp(&'a mut UdpHeaders),
    /// Of TCP.
    Tcp(&'a mut TcpHeaders),
}

/// Whether a frame is addressed to a station: in one comparison.
#[inline(always)]
fn is_for(headers: &UdpHeaders, mac: MacAddr) -> bool {
    let [a, b, c, d, e, f] = mac.0;
    let mac = u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]);
    let mask = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    u64::from_ne_bytes(bytes_at(headers, 0)) & mask == mac
}

/// A frame of plain shape up to the end of its UDP header.
pub type UdpHeaders = [u8; Plain::L4 + udp::LEN];
/// A frame of plain shape up to the end of its TCP header without options.
pub type TcpHeaders = [u8; Plain::L4 + tcp::LEN_MIN];

const TCP: u8 = Protocol::Tcp as u8;
const UDP: u8 = Protocol::Udp as u8;

#[cfg(test)]
mod tests;
