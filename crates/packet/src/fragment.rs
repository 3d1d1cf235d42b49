//! Fragments of IPv4 packets: reading one, and cutting a packet into them (RFC 791 §3.2).

use std::net::Ipv4Addr;

use crate::header::{bytes_at, esp, gre, ipv4, put_u16, sctp, seal_ipv4, tcp, u16_at, udp};
use crate::{DropReason, PacketBuf, Protocol};

/// Most bytes behind the IP header of a whole packet without options.
pub const PAYLOAD_MAX: usize = 65_535 - ipv4::LEN_MIN;

/// Fragment offsets count in units of so many bytes.
pub const UNIT: usize = 8;

/// A well-formed fragment: what it is a part of, and which.
///
/// **Shape**: `l3`, `payload` and `end` count from the start of the frame; `end` excludes Ethernet padding;
/// `offset` counts bytes of the whole packet's payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Start of the IP header.
    pub l3: u16,
    /// End of the IP header, start of the piece.
    pub payload: u16,
    /// End of the piece.
    pub end: u32,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol of the whole packet.
    pub protocol: Protocol,
    /// What the fragments of one packet have in common.
    pub identification: u16,
    /// Where the piece belongs.
    pub offset: u16,
    /// Whether more pieces follow behind this one.
    pub more: bool,
    /// "Don't fragment".
    pub dont_fragment: bool,
    /// DSCP and ECN.
    pub tos: u8,
}

impl Fragment {
    /// Reads the fields of a packet at `l3` whose header was found to be whole.
    ///
    /// The first fragment must hold the whole transport header, and none may begin inside that of TCP
    /// (RFC 1858 §3 and §4, RFC 3128): a filter that looks at ports would be led astray.
    ///
    /// # Errors
    /// [`DropReason::ProtocolUnsupported`], [`DropReason::FragmentLength`],
    /// [`DropReason::FragmentTooLong`], [`DropReason::FragmentTiny`].
    pub(crate) fn read(
        frame: &[u8],
        l3: usize,
        payload: usize,
        end: usize,
    ) -> Result<Self, DropReason> {
        let header = &frame[l3..payload];
        let protocol =
            Protocol::from_number(header[ipv4::PROTOCOL]).ok_or(DropReason::ProtocolUnsupported)?;
        let word = u16_at(header, ipv4::FRAGMENT);
        let offset = usize::from(word & ipv4::OFFSET_MASK) * UNIT;
        let more = word & ipv4::MORE_FRAGMENTS != 0;
        let len = end - payload;
        if len == 0 || more && !len.is_multiple_of(UNIT) {
            return Err(DropReason::FragmentLength);
        }
        if offset + len > PAYLOAD_MAX {
            return Err(DropReason::FragmentTooLong);
        }
        let hides_header = match offset {
            0 => len < transport_len(protocol, &frame[payload..end]),
            UNIT => protocol == Protocol::Tcp,
            _ => false,
        };
        if hides_header {
            return Err(DropReason::FragmentTiny);
        }
        Ok(Self {
            l3: l3 as u16,
            payload: payload as u16,
            end: end as u32,
            source: Ipv4Addr::from(bytes_at::<4>(header, ipv4::SOURCE)),
            destination: Ipv4Addr::from(bytes_at::<4>(header, ipv4::DESTINATION)),
            protocol,
            identification: u16_at(header, ipv4::IDENTIFICATION),
            offset: offset as u16,
            more,
            dont_fragment: word & ipv4::DONT_FRAGMENT != 0,
            tos: header[ipv4::TOS],
        })
    }

    /// Length of the piece in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end as usize - usize::from(self.payload)
    }

    /// Whether there is nothing in it: never, in a well-formed one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the fragment as an IP packet.
    #[must_use]
    pub fn ip_len(&self) -> usize {
        self.end as usize - usize::from(self.l3)
    }
}

/// Length of the transport header that `segment` begins with, as far as it can be told.
fn transport_len(protocol: Protocol, segment: &[u8]) -> usize {
    match protocol {
        Protocol::Tcp => match segment.get(tcp::DATA_OFFSET) {
            Some(words) => (usize::from(words >> 4) * 4).max(tcp::LEN_MIN),
            None => tcp::LEN_MIN,
        },
        Protocol::Udp | Protocol::UdpLite | Protocol::Icmp => udp::LEN,
        // Up to the end of the key, where one is.
        Protocol::Gre => gre::LEN_MIN + 8,
        Protocol::Esp => esp::LEN,
        Protocol::Sctp => sctp::LEN + sctp::CHUNK_HEADER_LEN,
        Protocol::IpIp | Protocol::SixInFour => ipv4::LEN_MIN,
    }
}

/// A packet seen as the fragments that it is to leave as.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    l3: usize,
    first: usize,
    later: Header,
    payload_len: usize,
    step: usize,
}

/// The header of every fragment but the first.
#[derive(Clone, Copy, Debug)]
struct Header {
    bytes: [u8; ipv4::LEN_MAX],
    len: usize,
}

impl Cut {
    /// Cuts a whole packet, its header at `l3` and its payload from `l4` to `end`, into fragments of at most
    /// `ip_len_max` bytes each; of eight bytes of payload each, where that is less than a header and those.
    #[must_use]
    pub fn of(frame: &[u8], l3: usize, l4: usize, end: usize, ip_len_max: usize) -> Self {
        let first = l4 - l3;
        let room = ip_len_max.saturating_sub(first);
        Self {
            l3,
            first,
            later: Header::copied(&frame[l3..l4]),
            payload_len: end - l4,
            // One that fits whole need not end on a unit.
            step: if end - l4 <= room { room.max(1) } else { (room / UNIT * UNIT).max(UNIT) },
        }
    }

    /// How many fragments there are; one means that the packet fits as it is.
    #[must_use]
    pub fn count(&self) -> usize {
        self.payload_len.div_ceil(self.step).max(1)
    }

    /// Writes fragment `index` of `source`; `false` if `out` is too small for it.
    ///
    /// All carry the packet's identification and its "don't fragment".
    #[must_use]
    pub fn emit(&self, source: &PacketBuf, index: usize, out: &mut PacketBuf) -> bool {
        let Self { l3, first, payload_len, step, .. } = *self;
        let begin = index * step;
        let piece_len = step.min(payload_len - begin);
        let input = source.frame();
        let header =
            if index == 0 { &input[l3..l3 + first] } else { &self.later.bytes[..self.later.len] };
        let payload = l3 + header.len();
        if payload + piece_len > out.frame_max() {
            return false;
        }
        out.clear();
        (out.ingress, out.egress) = (source.ingress, source.egress);
        out.set_len(payload + piece_len);
        let frame = out.frame_mut();
        frame[..l3].copy_from_slice(&input[..l3]);
        frame[l3..payload].copy_from_slice(header);
        let from = l3 + first + begin;
        frame[payload..].copy_from_slice(&input[from..from + piece_len]);
        put_u16(frame, l3 + ipv4::TOTAL_LENGTH, (header.len() + piece_len) as u16);
        let kept = u16_at(input, l3 + ipv4::FRAGMENT) & ipv4::DONT_FRAGMENT;
        let more = if begin + piece_len < payload_len { ipv4::MORE_FRAGMENTS } else { 0 };
        put_u16(frame, l3 + ipv4::FRAGMENT, kept | more | (begin / UNIT) as u16);
        seal_ipv4(frame, l3, header.len());
        true
    }
}

impl Header {
    /// The fixed part and the options that every fragment repeats, those whose copied flag is set (RFC 791 §3.1);
    /// a malformed option ends them.
    fn copied(whole: &[u8]) -> Self {
        const COPIED: u8 = 0x80;
        const NO_OPERATION: u8 = 1;
        let mut bytes = [0; ipv4::LEN_MAX];
        bytes[..ipv4::LEN_MIN].copy_from_slice(&whole[..ipv4::LEN_MIN]);
        let mut len = ipv4::LEN_MIN;
        let mut options = &whole[ipv4::LEN_MIN..];
        while let [kind, rest @ ..] = options {
            if *kind == NO_OPERATION {
                options = rest;
                continue;
            }
            let option_len = rest.first().map_or(0, |len| usize::from(*len));
            if *kind == 0 || option_len < 2 || option_len > options.len() {
                break;
            }
            let (option, behind) = options.split_at(option_len);
            if kind & COPIED != 0 {
                bytes[len..len + option_len].copy_from_slice(option);
                len += option_len;
            }
            options = behind;
        }
        // Zeros, the end of options, fill the last word.
        len = len.next_multiple_of(4);
        bytes[0] = 0x40 | (len / 4) as u8;
        Self { bytes, len }
    }
}

#[cfg(test)]
mod tests;
