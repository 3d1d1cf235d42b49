//! Ethernet frames around DHCP messages and ARP probes: the only place here that knows headers.
//!
//! The machines speak before an address exists, so they cannot use the router's own UDP; they hand
//! out and take whole frames. Incoming UDP checksums are not verified: a neighbour in the same
//! machine may have left them for hardware that is not there.

use std::net::Ipv4Addr;

use packet::{MacAddr, checksum};

/// UDP port of servers (RFC 2131 §4.1).
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients (RFC 2131 §4.1).
pub const CLIENT_PORT: u16 = 68;

/// Longest frame that a machine emits, in bytes: the largest message that every client must accept
/// (576 bytes of IP datagram, RFC 2131 §2) and an Ethernet header.
pub const FRAME_MAX: usize = ETHERNET_LEN + 576;

/// Longest DHCP message that a machine emits, in bytes.
pub const MESSAGE_MAX: usize = FRAME_MAX - HEADERS_LEN;

/// Where a datagram comes from and goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addressing {
    /// Ethernet source.
    pub src_mac: MacAddr,
    /// Ethernet destination.
    pub dst_mac: MacAddr,
    /// IPv4 source.
    pub src: Ipv4Addr,
    /// IPv4 destination.
    pub dst: Ipv4Addr,
    /// UDP source port.
    pub src_port: u16,
    /// UDP destination port.
    pub dst_port: u16,
}

/// A UDP datagram found in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// Where it came from and where it was sent.
    pub addressing: Addressing,
    /// The UDP payload, without Ethernet padding.
    pub payload: &'a [u8],
}

/// Finds the UDP datagram in an untagged Ethernet frame; `None` if there is none or it is cut short
/// or a fragment.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Datagram<'_>> {
    let (ethernet, packet) = frame.split_first_chunk::<ETHERNET_LEN>()?;
    let (ip, _) = packet.split_first_chunk::<IPV4_LEN>()?;
    let header_len = usize::from(ip[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
    let is_udp = ethernet[12..] == ETHERTYPE_IPV4 && ip[0] >> 4 == 4 && ip[9] == PROTOCOL_UDP;
    if !is_udp || header_len < IPV4_LEN || fragment != 0 {
        return None;
    }
    let datagram = packet.get(header_len..total_len)?;
    let (udp, _) = datagram.split_first_chunk::<UDP_LEN>()?;
    let udp_len = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    Some(Datagram {
        addressing: Addressing {
            src_mac: mac_at(ethernet, 6),
            dst_mac: mac_at(ethernet, 0),
            src: address_at(ip, 12),
            dst: address_at(ip, 16),
            src_port: u16::from_be_bytes([udp[0], udp[1]]),
            dst_port: u16::from_be_bytes([udp[2], udp[3]]),
        },
        payload: datagram.get(UDP_LEN..udp_len)?,
    })
}

/// Writes an Ethernet, IPv4 and UDP header and the payload, with full checksums, and returns the length
/// of the frame in bytes.
///
/// # Panics
/// If the buffer is shorter than the frame; [`FRAME_MAX`] bytes hold every frame of the machines.
pub fn emit(buffer: &mut [u8], addressing: &Addressing, payload: &[u8]) -> usize {
    let frame_len = HEADERS_LEN + payload.len();
    assert!(buffer.len() >= frame_len, "the buffer must hold FRAME_MAX bytes");
    let total_len = (frame_len - ETHERNET_LEN) as u16;
    let udp_len = total_len - IPV4_LEN as u16;
    let (src, dst) = (addressing.src.octets(), addressing.dst.octets());

    emit_ethernet(buffer, addressing.dst_mac, addressing.src_mac, ETHERTYPE_IPV4);
    let ip = &mut buffer[ETHERNET_LEN..ETHERNET_LEN + IPV4_LEN];
    ip[0..2].copy_from_slice(&[0x45, 0]);
    ip[2..4].copy_from_slice(&total_len.to_be_bytes());
    // Never fragmented, so the identification carries no meaning (RFC 6864 §4.1).
    ip[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
    ip[8..12].copy_from_slice(&[TTL, PROTOCOL_UDP, 0, 0]);
    ip[12..16].copy_from_slice(&src);
    ip[16..20].copy_from_slice(&dst);
    let ip_checksum = checksum::of(ip);
    ip[10..12].copy_from_slice(&ip_checksum.to_be_bytes());

    let udp = &mut buffer[ETHERNET_LEN + IPV4_LEN..frame_len];
    udp[0..2].copy_from_slice(&addressing.src_port.to_be_bytes());
    udp[2..4].copy_from_slice(&addressing.dst_port.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    udp[6..8].fill(0);
    udp[8..].copy_from_slice(payload);
    let pseudo = checksum::pseudo_header(src, dst, PROTOCOL_UDP, udp_len);
    let udp_checksum = match !checksum::fold(checksum::sum(udp, u32::from(pseudo))) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&udp_checksum.to_be_bytes());
    frame_len
}

/// Writes a broadcast ARP request for `target` from `sender` (unspecified: a probe, RFC 5227 §2.1.1;
/// the target itself: an announcement, §2.3) and returns the length of the frame in bytes.
///
/// # Panics
/// If the buffer is shorter than 42 bytes.
pub fn emit_arp(
    buffer: &mut [u8],
    sender_mac: MacAddr,
    sender: Ipv4Addr,
    target: Ipv4Addr,
) -> usize {
    const LEN: usize = ETHERNET_LEN + 28;
    assert!(buffer.len() >= LEN, "the buffer must hold FRAME_MAX bytes");
    emit_ethernet(buffer, MacAddr::BROADCAST, sender_mac, ETHERTYPE_ARP);
    let arp = &mut buffer[ETHERNET_LEN..LEN];
    // Ethernet, IPv4, their lengths, request.
    arp[0..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    arp[8..14].copy_from_slice(&sender_mac.0);
    arp[14..18].copy_from_slice(&sender.octets());
    arp[18..24].fill(0);
    arp[24..28].copy_from_slice(&target.octets());
    LEN
}

fn emit_ethernet(buffer: &mut [u8], dst: MacAddr, src: MacAddr, ethertype: [u8; 2]) {
    buffer[0..6].copy_from_slice(&dst.0);
    buffer[6..12].copy_from_slice(&src.0);
    buffer[12..14].copy_from_slice(&ethertype);
}

fn mac_at(header: &[u8; ETHERNET_LEN], at: usize) -> MacAddr {
    let mut mac = MacAddr::ZERO;
    mac.0.copy_from_slice(&header[at..at + 6]);
    mac
}

fn address_at(header: &[u8; IPV4_LEN], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
const HEADERS_LEN: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const PROTOCOL_UDP: u8 = 17;
/// RFC 1700's recommended default.
const TTL: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addressing() -> Addressing {
        Addressing {
            src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            dst_mac: MacAddr::BROADCAST,
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::BROADCAST,
            src_port: SERVER_PORT,
            dst_port: CLIENT_PORT,
        }
    }

    #[test]
    fn an_independent_parser_accepts_the_checksums_of_a_frame_in_a_dirty_buffer() {
        for payload in [&b"odd"[..], b"even"] {
            let mut buffer = [0xa5; FRAME_MAX];
            let len = emit(&mut buffer, &addressing(), payload);
            let sliced = etherparse::SlicedPacket::from_ethernet(&buffer[..len]).unwrap();
            let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else { panic!("not IPv4") };
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            let Some(etherparse::TransportSlice::Udp(udp)) = sliced.transport else {
                panic!("not UDP")
            };
            let expected = udp.to_header().calc_checksum_ipv4(&ip, payload).unwrap();
            assert_eq!(udp.checksum(), expected);
            assert_eq!(udp.payload(), payload);
        }
    }

    #[test]
    fn parsing_returns_what_was_emitted() {
        let mut buffer = [0; FRAME_MAX];
        let len = emit(&mut buffer, &addressing(), b"payload");
        let datagram = parse(&buffer[..len + 9]).expect("padding is not payload");
        assert_eq!(datagram, Datagram { addressing: addressing(), payload: b"payload" });
    }

    #[test]
    fn fragments_other_protocols_and_cut_frames_hold_no_datagram() {
        let mut buffer = [0; FRAME_MAX];
        let len = emit(&mut buffer, &addressing(), b"payload");
        for cut in 0..len {
            assert_eq!(parse(&buffer[..cut]), None, "cut at {cut}");
        }
        for (at, value) in [(12, 0x86), (14, 0x65), (14, 0x44), (20, 0x20), (21, 1), (23, 6)] {
            let mut broken = buffer;
            broken[at] = value;
            assert_eq!(parse(&broken[..len]), None, "byte {at} = {value:#x}");
        }
    }

    #[test]
    fn dc4_an_arp_probe_has_sender_zero_and_an_announcement_names_itself_twice() {
        let mut buffer = [0xa5; 64];
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let target = Ipv4Addr::new(10, 0, 0, 9);
        let len = emit_arp(&mut buffer, mac, Ipv4Addr::UNSPECIFIED, target);
        let golden = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2,
            0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9,
        ];
        assert_eq!(buffer[..len], golden);
        emit_arp(&mut buffer, mac, target, target);
        assert_eq!(buffer[28..32], buffer[38..42]);
    }

    proptest! {
        #[test]
        fn parsing_random_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&bytes);
        }
    }
}
