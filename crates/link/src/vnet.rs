//! The virtio-net header in front of each frame of a `PACKET_VNET_HDR` socket.
//!
//! **Shape** (virtio 1.2 §5.1.6, legacy layout of 10 bytes): flags (1), gso type (1), header length (2),
//! gso size (2), checksum start (2), checksum offset (2). **Byte order**: the machine's own.

use packet::{Gso, GsoKind, Offload, PacketBuf, PartialChecksum};

use crate::ETHERNET_HEADER_LEN;

/// Length of the header; AF_PACKET's default (`PACKET_VNET_HDR_SZ` could make it 12).
pub(crate) const HEADER_LEN: usize = 10;

/// A header as it lies in memory.
pub(crate) type VnetHeader = [u8; HEADER_LEN];

/// The metadata contradicts the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffloadInvalid;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const IPV4_HEADER_LEN_MIN: usize = 20;
const TCP_HEADER_LEN_MIN: usize = 20;
const UDP_HEADER_LEN: usize = 8;

/// The transports that have offloads, with where their checksum lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn checksum_offset(self) -> u16 {
        match self {
            Transport::Tcp => 16,
            Transport::Udp => 6,
        }
    }
}

/// Reads what the sender of `frame` left undone.
///
/// Of other protocols over IPv4 only a checksum can be left undone: SCTP's, or that of a packet in a tunnel, which the
/// parser places. What is not untagged IPv4 is not forwarded, so its metadata is dropped rather than understood.
pub(crate) fn decode(header: &VnetHeader, frame: &[u8]) -> Result<Offload, OffloadInvalid> {
    let [flags, gso_type, ..] = *header;
    if flags & NEEDS_CSUM == 0 && gso_type == GSO_NONE {
        return Ok(Offload::NONE);
    }
    let checksum = PartialChecksum { start: field(header, 6), offset: field(header, 8) };
    let (transport, start) = match transport_of(frame) {
        Carried::Offloaded(transport, start) => (transport, start),
        Carried::Other if gso_type == GSO_NONE => {
            let offload = Offload { checksum: Some(checksum), gso: None };
            return headers_len(offload, frame).map(|_| offload);
        }
        Carried::Other => return Err(OffloadInvalid),
        Carried::Nothing => return Ok(Offload::NONE),
    };
    let fits = flags & NEEDS_CSUM != 0
        && usize::from(checksum.start) == start
        && checksum.offset == transport.checksum_offset();
    if !fits {
        return Err(OffloadInvalid);
    }
    let kind = match (gso_type, transport) {
        (GSO_NONE, _) => None,
        (GSO_TCPV4, Transport::Tcp) => Some(GsoKind::TcpV4),
        (tcp_ecn, Transport::Tcp) if tcp_ecn == GSO_TCPV4 | GSO_ECN => Some(GsoKind::TcpV4Ecn),
        (GSO_UDP_L4, Transport::Udp) => Some(GsoKind::Udp),
        _ => return Err(OffloadInvalid),
    };
    let offload = Offload {
        checksum: Some(checksum),
        gso: kind.map(|kind| Gso { kind, size: field(header, 4) }),
    };
    headers_len(offload, frame).map(|_| offload)
}

/// Writes the header that tells the kernel what is left to do to `frame`.
pub(crate) fn encode(offload: Offload, frame: &[u8]) -> Result<VnetHeader, OffloadInvalid> {
    let mut header = [0; HEADER_LEN];
    if offload == Offload::NONE {
        return Ok(header);
    }
    let headers_len = headers_len(offload, frame)?;
    let checksum = offload.checksum.ok_or(OffloadInvalid)?;
    header[0] = NEEDS_CSUM;
    set_field(&mut header, 2, headers_len);
    set_field(&mut header, 6, checksum.start);
    set_field(&mut header, 8, checksum.offset);
    if let Some(gso) = offload.gso {
        header[1] = match gso.kind {
            GsoKind::TcpV4 => GSO_TCPV4,
            GsoKind::TcpV4Ecn => GSO_TCPV4 | GSO_ECN,
            GsoKind::Udp => GSO_UDP_L4,
        };
        set_field(&mut header, 4, gso.size);
    }
    Ok(header)
}

/// Whether a frame is a frame, no super-packet, and at most a checksum is left to do that covers it to its end.
pub(crate) fn can_finish(packet: &PacketBuf) -> bool {
    let (Offload { checksum, gso }, frame) = (packet.offload, packet.frame());
    if gso.is_some() || frame.len() < ETHERNET_HEADER_LEN {
        return false;
    }
    let Some(checksum) = checksum else { return true };
    let Carried::Offloaded(transport, start) = transport_of(frame) else { return false };
    usize::from(checksum.start) == start
        && checksum.offset == transport.checksum_offset()
        && headers_len(packet.offload, frame).is_ok()
}

/// Length of all headers up to the payload, which the kernel wants in one piece.
fn headers_len(offload: Offload, frame: &[u8]) -> Result<u16, OffloadInvalid> {
    let checksum = offload.checksum.ok_or(OffloadInvalid)?;
    let start = usize::from(checksum.start);
    let len = match offload.gso {
        // Only the checksum field has to be reachable.
        None => start + usize::from(checksum.offset) + 2,
        Some(Gso { size: 0, .. }) => return Err(OffloadInvalid),
        Some(Gso { kind: GsoKind::Udp, .. }) => start + UDP_HEADER_LEN,
        Some(Gso { kind: GsoKind::TcpV4 | GsoKind::TcpV4Ecn, .. }) => {
            let words = frame.get(start + 12).ok_or(OffloadInvalid)? >> 4;
            let header_len = usize::from(words) * 4;
            if header_len < TCP_HEADER_LEN_MIN {
                return Err(OffloadInvalid);
            }
            start + header_len
        }
    };
    let fits = start >= ETHERNET_HEADER_LEN + IPV4_HEADER_LEN_MIN && len <= frame.len();
    if fits { u16::try_from(len).map_err(|_| OffloadInvalid) } else { Err(OffloadInvalid) }
}

/// What an untagged IPv4 frame carries.
enum Carried {
    /// A transport with offloads, and the offset of its header.
    Offloaded(Transport, usize),
    /// Another protocol.
    Other,
    /// It is no such frame.
    Nothing,
}

fn transport_of(frame: &[u8]) -> Carried {
    let Some(ip) = frame.get(ETHERNET_HEADER_LEN..) else { return Carried::Nothing };
    if frame[12..14] != ETHERTYPE_IPV4 || ip.len() < IPV4_HEADER_LEN_MIN {
        return Carried::Nothing;
    }
    let transport = match ip[9] {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => return Carried::Other,
    };
    Carried::Offloaded(transport, ETHERNET_HEADER_LEN + usize::from(ip[0] & 0xf) * 4)
}

fn field(header: &VnetHeader, at: usize) -> u16 {
    u16::from_ne_bytes([header[at], header[at + 1]])
}

fn set_field(header: &mut VnetHeader, at: usize, value: u16) {
    header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn tcp_frame(payload: usize) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1000, 80, 1, 1000);
        let mut frame = Vec::new();
        builder.write(&mut frame, &vec![7; payload]).unwrap();
        frame
    }

    fn udp_frame(payload: usize) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1000, 53);
        let mut frame = Vec::new();
        builder.write(&mut frame, &vec![7; payload]).unwrap();
        frame
    }

    fn header(flags: u8, gso_type: u8, size: u16, start: u16, offset: u16) -> VnetHeader {
        let mut header = [0; HEADER_LEN];
        (header[0], header[1]) = (flags, gso_type);
        set_field(&mut header, 4, size);
        set_field(&mut header, 6, start);
        set_field(&mut header, 8, offset);
        header
    }

    const TCP_CHECKSUM: PartialChecksum = PartialChecksum { start: 34, offset: 16 };
    const UDP_CHECKSUM: PartialChecksum = PartialChecksum { start: 34, offset: 6 };

    #[test]
    fn a_complete_frame_has_a_header_of_zeros() {
        assert_eq!(encode(Offload::NONE, &tcp_frame(10)), Ok([0; HEADER_LEN]));
        assert_eq!(decode(&[0; HEADER_LEN], &tcp_frame(10)), Ok(Offload::NONE));
    }

    #[test]
    fn a_checksum_that_the_hardware_verified_is_no_work_left_undone() {
        assert_eq!(decode(&header(2, 0, 0, 0, 0), &tcp_frame(10)), Ok(Offload::NONE));
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let gso = |kind, size| Some(Gso { kind, size });
        let cases = [
            (tcp_frame(10), TCP_CHECKSUM, None, 34 + 18),
            (udp_frame(10), UDP_CHECKSUM, None, 34 + 8),
            (tcp_frame(4000), TCP_CHECKSUM, gso(GsoKind::TcpV4, 1460), 54),
            (tcp_frame(4000), TCP_CHECKSUM, gso(GsoKind::TcpV4Ecn, 1460), 54),
            (udp_frame(4000), UDP_CHECKSUM, gso(GsoKind::Udp, 1400), 42),
        ];
        for (frame, checksum, gso, headers_len) in cases {
            let offload = Offload { checksum: Some(checksum), gso };
            let header = encode(offload, &frame).unwrap();
            assert_eq!(field(&header, 2), headers_len, "{offload:?}");
            assert_eq!(decode(&header, &frame), Ok(offload));
        }
    }

    #[test]
    fn metadata_that_contradicts_the_frame_is_invalid() {
        let (tcp, udp) = (tcp_frame(3000), udp_frame(3000));
        let cases = [
            ("start before the transport header", &tcp, header(1, 0, 0, 14, 16)),
            ("start behind the frame", &tcp, header(1, 0, 0, 9000, 16)),
            ("offset of another transport", &tcp, header(1, 0, 0, 34, 6)),
            ("offset into the payload", &udp, header(1, 0, 0, 34, 16)),
            ("tcp segmentation of udp", &udp, header(1, GSO_TCPV4, 1460, 34, 6)),
            ("udp segmentation of tcp", &tcp, header(1, GSO_UDP_L4, 1460, 34, 16)),
            ("udp fragmentation offload", &udp, header(1, 3, 1400, 34, 6)),
            ("ipv6 segmentation of ipv4", &tcp, header(1, 4, 1440, 34, 16)),
            ("unknown segmentation", &tcp, header(1, 77, 1460, 34, 16)),
            ("ecn alone", &tcp, header(1, GSO_ECN, 1460, 34, 16)),
            ("segments of nothing", &tcp, header(1, GSO_TCPV4, 0, 34, 16)),
            ("segmentation without a partial checksum", &tcp, header(0, GSO_TCPV4, 1460, 34, 16)),
        ];
        for (case, frame, header) in cases {
            assert_eq!(decode(&header, frame), Err(OffloadInvalid), "{case}");
        }
    }

    #[test]
    fn a_tcp_header_that_leaves_the_frame_is_invalid() {
        let mut frame = tcp_frame(0);
        frame[34 + 12] = 0xf0;
        assert_eq!(decode(&header(1, GSO_TCPV4, 1460, 34, 16), &frame), Err(OffloadInvalid));
        frame[34 + 12] = 0x40;
        assert_eq!(decode(&header(1, GSO_TCPV4, 1460, 34, 16), &frame), Err(OffloadInvalid));
        frame.truncate(40);
        assert_eq!(decode(&header(1, GSO_TCPV4, 1460, 34, 16), &frame), Err(OffloadInvalid));
    }

    #[test]
    fn other_protocols_may_leave_a_checksum_undone_and_nothing_else() {
        for protocol in [4, 47, 132] {
            let mut frame = tcp_frame(3000);
            frame[23] = protocol;
            let checksum = PartialChecksum { start: 54, offset: 16 };
            let offload = Offload { checksum: Some(checksum), gso: None };
            assert_eq!(decode(&header(1, 0, 0, 54, 16), &frame), Ok(offload), "{protocol}");
            assert_eq!(decode(&encode(offload, &frame).unwrap(), &frame), Ok(offload));
            for invalid in [header(1, GSO_TCPV4, 1460, 54, 16), header(1, 0, 0, 9000, 16)] {
                assert_eq!(decode(&invalid, &frame), Err(OffloadInvalid), "{protocol}");
            }
        }
    }

    #[test]
    fn metadata_of_what_is_not_forwarded_is_ignored() {
        let mut frame = tcp_frame(3000);
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(decode(&header(1, 4, 1440, 54, 16), &frame), Ok(Offload::NONE));
        assert_eq!(decode(&header(1, 1, 1440, 54, 16), &frame[..10]), Ok(Offload::NONE));
    }

    #[test]
    fn segmentation_without_a_partial_checksum_is_not_sent() {
        let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1460 });
        let offload = Offload { checksum: None, gso };
        assert_eq!(encode(offload, &tcp_frame(4000)), Err(OffloadInvalid));
    }
}
