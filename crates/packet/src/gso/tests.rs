use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::{Gso, Parsed, PartialChecksum, parse};

fn builder() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4(
        [10, 0, 0, 2],
        [198, 51, 100, 7],
        64,
    )
}

/// Makes a frame as a sender with offloads hands it over.
fn super_packet(payload: &[u8], size: u16, kind: GsoKind) -> PacketBuf {
    let mut bytes = Vec::new();
    match kind {
        GsoKind::Udp => builder().udp(5000, 6000).write(&mut bytes, payload).unwrap(),
        GsoKind::TcpV4 | GsoKind::TcpV4Ecn => {
            builder()
                .tcp(5000, 80, 1000, 500)
                .ack(7)
                .psh()
                .fin()
                .write(&mut bytes, payload)
                .unwrap();
        }
    }
    let mut packet = PacketBuf::large();
    assert!(packet.copy_from(&bytes));
    packet.offload.gso = Some(Gso { kind, size });
    packet
}

fn datagram_of(packet: &PacketBuf) -> Datagram {
    match parse(packet.frame(), packet.offload) {
        Ok(Parsed::Ipv4(datagram)) => datagram,
        other => panic!("{other:?}"),
    }
}

fn segments(packet: &PacketBuf) -> Vec<PacketBuf> {
    let segments = Segments::of(packet, &datagram_of(packet)).expect("a super-packet");
    (0..segments.count())
        .map(|index| {
            let mut out = PacketBuf::small();
            assert!(segments.emit(packet, index, &mut out));
            out
        })
        .collect()
}

/// What an independent parser thinks of a frame: transport payload, and that all checksums hold.
fn payload_of(frame: &[u8]) -> Vec<u8> {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4") };
    assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
    match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let sum = header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()).unwrap();
            assert_eq!(header.checksum, sum);
            tcp.payload().to_vec()
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let sum = header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).unwrap();
            assert_eq!(header.checksum, sum);
            udp.payload().to_vec()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tcp_segments_count_up_and_end_once() {
    let payload: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
    let packet = super_packet(&payload, 1000, GsoKind::TcpV4);
    let parts = segments(&packet);
    assert_eq!(parts.len(), 3);
    for (index, part) in parts.iter().enumerate() {
        let frame = part.frame();
        assert_eq!(u32_at(frame, 34 + tcp::SEQUENCE), 1000 + 1000 * index as u32);
        let last = index == 2;
        assert_eq!(frame[34 + tcp::FLAGS] & (tcp::FIN | tcp::PSH) != 0, last);
        assert!(is_plain(part));
    }
}

#[test]
fn cwr_stays_on_the_first_segment() {
    let mut packet = super_packet(&[0; 2500], 1000, GsoKind::TcpV4Ecn);
    packet.frame_mut()[34 + tcp::FLAGS] |= tcp::CWR;
    let flags: Vec<bool> =
        segments(&packet).iter().map(|p| p.frame()[34 + tcp::FLAGS] & tcp::CWR != 0).collect();
    assert_eq!(flags, [true, false, false]);
}

#[test]
fn a_segment_that_does_not_fit_is_refused() {
    let packet = super_packet(&[0; 6000], 3000, GsoKind::TcpV4);
    let segments = Segments::of(&packet, &datagram_of(&packet)).unwrap();
    assert!(!segments.emit(&packet, 0, &mut PacketBuf::small()));
}

#[test]
fn wire_size_counts_the_headers_of_every_segment() {
    let packet = super_packet(&[0; 2500], 1000, GsoKind::TcpV4);
    assert_eq!(wire_size(&packet, 54), (2500 + 3 * 54, 3));
}

proptest! {
    #[test]
    fn segments_carry_the_same_bytes_with_right_checksums(
        payload in proptest::collection::vec(any::<u8>(), 1..5000),
        size in 100u16..1448,
        udp in any::<bool>(),
    ) {
        let kind = if udp { GsoKind::Udp } else { GsoKind::TcpV4 };
        let packet = super_packet(&payload, size, kind);
        let joined: Vec<u8> = segments(&packet).iter().flat_map(|p| payload_of(p.frame())).collect();
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn finishing_a_partial_checksum_equals_computing_it(
        payload in proptest::collection::vec(any::<u8>(), 0..600),
        udp in any::<bool>(),
    ) {
        let kind = if udp { GsoKind::Udp } else { GsoKind::TcpV4 };
        let mut packet = super_packet(&payload, 1000, kind);
        packet.offload.gso = None;
        let datagram = datagram_of(&packet);
        let offset = if udp { udp::CHECKSUM } else { tcp::CHECKSUM } as u16;
        let segment_len = (packet.len() - 34) as u16;
        let pseudo = checksum::pseudo_header(
            [10, 0, 0, 2], [198, 51, 100, 7], datagram.protocol() as u8, segment_len);
        put_u16(packet.frame_mut(), 34 + usize::from(offset), pseudo);
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset });
        finish_checksum(&mut packet, &datagram);
        prop_assert!(is_plain(&packet));
        payload_of(packet.frame());
    }
}
