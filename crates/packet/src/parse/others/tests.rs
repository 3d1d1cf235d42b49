use etherparse::{IpNumber, PacketBuilder};
use proptest::prelude::*;

use super::*;
use crate::header::{put_u16, seal_ipv4};
use crate::icmp::{ErrorKind, answer, embedded};
use crate::{
    Endpoint, FlowKey, Gso, GsoKind, MacAddr, Offload, PacketBuf, Parsed, Side, checksum, crc32c,
};

const A: [u8; 4] = [10, 0, 0, 2];
const B: [u8; 4] = [198, 51, 100, 7];
const L4_AT: usize = 34;

fn frame(protocol: Protocol, segment: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(A, B, 64)
        .write(&mut frame, IpNumber(protocol as u8), segment)
        .unwrap();
    frame
}

fn parsed(protocol: Protocol, segment: &[u8]) -> Datagram {
    match crate::parse(&frame(protocol, segment), Offload::NONE) {
        Ok(Parsed::Ipv4(datagram)) => datagram,
        other => panic!("not a datagram: {other:?}"),
    }
}

fn refusal(protocol: Protocol, segment: &[u8]) -> DropReason {
    crate::parse(&frame(protocol, segment), Offload::NONE).expect_err("should be refused")
}

fn ports_of(datagram: &Datagram) -> (u16, u16) {
    (datagram.source.port, datagram.destination.port)
}

/// UDP-Lite from port 5000 to 9000, with `coverage` and some checksum.
fn udp_lite(coverage: u16) -> Vec<u8> {
    let mut segment = vec![0x13, 0x88, 0x23, 0x28, 0, 0, 0xbe, 0xef];
    put_u16(&mut segment, udp_lite::COVERAGE, coverage);
    segment.extend_from_slice(b"voice");
    segment
}

/// SCTP from port 5000 to 9000 with one chunk.
fn sctp_packet(chunk: u8) -> Vec<u8> {
    let mut segment = vec![0x13, 0x88, 0x23, 0x28, 1, 2, 3, 4, 0xca, 0xfe, 0xba, 0xbe];
    segment.extend_from_slice(&[chunk, 0, 0, 8, 9, 9, 9, 9]);
    segment
}

fn keyed_gre(flags: u16, key: u32) -> Vec<u8> {
    let mut segment = flags.to_be_bytes().to_vec();
    segment.extend_from_slice(&[8, 0]);
    if flags & (gre::CHECKSUM_PRESENT | gre::ROUTING_PRESENT) != 0 {
        segment.extend_from_slice(&[0xaa; 4]);
    }
    segment.extend_from_slice(&key.to_be_bytes());
    segment.extend_from_slice(b"inner");
    segment
}

/// One whole packet of each protocol here.
fn samples() -> Vec<(Protocol, Vec<u8>)> {
    vec![
        (Protocol::UdpLite, udp_lite(8)),
        (Protocol::Sctp, sctp_packet(1)),
        (Protocol::Gre, keyed_gre(gre::KEY_PRESENT, 7)),
        (Protocol::Esp, vec![0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1, 9, 9]),
        (Protocol::IpIp, vec![0x45; 20]),
        (Protocol::SixInFour, vec![0x60; 40]),
    ]
}

#[test]
fn each_protocol_yields_its_offsets_and_what_stands_for_its_ports() {
    let expected = [
        (L4::UdpLite, (5000, 9000), 8),
        (L4::Sctp(SctpChunk::Init), (5000, 9000), 12),
        (L4::Gre, (7, 7), 0),
        (L4::Esp, (0x1122, 0x3344), 0),
        (L4::IpIp, (0, 0), 0),
        (L4::SixInFour, (0, 0), 0),
    ];
    for ((protocol, segment), (l4, ports, header_len)) in samples().into_iter().zip(expected) {
        let datagram = parsed(protocol, &segment);
        assert_eq!((datagram.transport, datagram.protocol()), (l4, protocol));
        assert_eq!((datagram.source.address, datagram.destination.address), (A.into(), B.into()));
        assert_eq!(ports_of(&datagram), ports, "{protocol}");
        assert_eq!(usize::from(datagram.l4), L4_AT);
        assert_eq!(datagram.headers_len(), L4_AT + header_len, "{protocol}");
        assert_eq!(datagram.end as usize, L4_AT + segment.len());
    }
}

#[test]
fn ah_and_the_rest_stay_unsupported() {
    let mut frame = frame(Protocol::Esp, &[1; 40]);
    for number in [0, 2, 5, 51, 103, 112, 255] {
        frame[14 + ipv4::PROTOCOL] = number;
        seal_ipv4(&mut frame, 14, 20);
        let refused = crate::parse(&frame, Offload::NONE);
        assert_eq!(refused, Err(DropReason::ProtocolUnsupported), "{number}");
    }
}

#[test]
fn a_header_cut_short_is_refused_and_none_panics() {
    for (protocol, segment) in samples() {
        let whole = match protocol {
            Protocol::UdpLite | Protocol::Esp | Protocol::Gre => 8,
            Protocol::Sctp => 20,
            _ => segment.len(),
        };
        for len in 0..whole {
            let reason = refusal(protocol, &segment[..len]);
            let cut = [DropReason::TransportTruncated, DropReason::TransportLength];
            assert!(cut.contains(&reason), "{protocol} {len}: {reason:?}");
        }
        parsed(protocol, &segment[..whole]);
    }
}

#[test]
fn rfc3828_coverage_is_all_or_the_header_at_least_and_the_packet_at_most() {
    for coverage in [0, 8, 12, 13] {
        assert_eq!(parsed(Protocol::UdpLite, &udp_lite(coverage)).transport, L4::UdpLite);
    }
    for coverage in [1, 7, 14, u16::MAX] {
        assert_eq!(refusal(Protocol::UdpLite, &udp_lite(coverage)), DropReason::TransportLength);
    }
}

#[test]
fn rfc3828_a_checksum_of_zero_is_refused() {
    let mut segment = udp_lite(0);
    put_u16(&mut segment, udp_lite::CHECKSUM, 0);
    assert_eq!(refusal(Protocol::UdpLite, &segment), DropReason::UdpLiteChecksum);
}

#[test]
fn ports_and_spis_are_never_zero() {
    for (protocol, at) in [(Protocol::UdpLite, 0), (Protocol::UdpLite, 2), (Protocol::Sctp, 2)] {
        let (_, mut segment) = samples().into_iter().find(|(p, _)| *p == protocol).unwrap();
        put_u16(&mut segment, at, 0);
        assert_eq!(refusal(protocol, &segment), DropReason::TransportPortZero);
    }
    assert_eq!(refusal(Protocol::Esp, &[0; 20]), DropReason::TransportPortZero);
    assert_eq!(ports_of(&parsed(Protocol::Esp, &[0, 0, 1, 0, 0, 0, 0, 1])), (0, 0x100));
}

#[test]
fn the_first_chunk_says_what_an_sctp_packet_does() {
    for (chunk, kind) in [
        (0, SctpChunk::Other),
        (1, SctpChunk::Init),
        (2, SctpChunk::InitAck),
        (3, SctpChunk::Other),
        (6, SctpChunk::Abort),
        (7, SctpChunk::Shutdown),
        (8, SctpChunk::Shutdown),
        (10, SctpChunk::Other),
        (11, SctpChunk::Other),
        (14, SctpChunk::Shutdown),
    ] {
        assert_eq!(parsed(Protocol::Sctp, &sctp_packet(chunk)).transport, L4::Sctp(kind));
    }
}

#[test]
fn an_sctp_chunk_that_contradicts_the_packet_is_refused() {
    for length in [0, 3, 9, u16::MAX] {
        let mut segment = sctp_packet(1);
        put_u16(&mut segment, sctp::CHUNK_LENGTH, length);
        assert_eq!(refusal(Protocol::Sctp, &segment), DropReason::TransportLength, "{length}");
    }
}

#[test]
fn a_gre_key_stands_for_both_ports_wherever_it_lies() {
    const CHECKSUM_AND_KEY: u16 = gre::CHECKSUM_PRESENT | gre::KEY_PRESENT;
    const ROUTING_AND_KEY: u16 = gre::ROUTING_PRESENT | gre::KEY_PRESENT;
    for (flags, key, id) in [
        (gre::KEY_PRESENT, 7, 7),
        (gre::KEY_PRESENT, 0x0001_0007, 6),
        (CHECKSUM_AND_KEY, 7, 7),
        (ROUTING_AND_KEY, 7, 7),
        // A sequence number lies behind the key.
        (gre::KEY_PRESENT | 0x1000, 7, 7),
        // A key that folds to 0 is not the same as none.
        (gre::KEY_PRESENT, 0, 0xffff),
        (gre::KEY_PRESENT, 0x1234_1234, 0xffff),
        // Without the bit there is no key.
        (0, 7, 0),
        (gre::CHECKSUM_PRESENT, 7, 0),
        // The call id of PPTP is no key.
        (gre::KEY_PRESENT | 1, 7, 0),
    ] {
        let datagram = parsed(Protocol::Gre, &keyed_gre(flags, key));
        assert_eq!(ports_of(&datagram), (id, id), "{flags:04x} {key:08x}");
    }
}

#[test]
fn a_gre_packet_without_payload_is_one() {
    assert_eq!(ports_of(&parsed(Protocol::Gre, &[0; 4])), (0, 0));
}

#[test]
fn gre_of_an_unknown_version_is_refused() {
    for version in 2..8 {
        assert_eq!(refusal(Protocol::Gre, &keyed_gre(version, 7)), DropReason::GreVersion);
    }
}

/// The error that a router sends about a packet, parsed.
fn error_about(protocol: Protocol, segment: &[u8]) -> (PacketBuf, Datagram) {
    let original = frame(protocol, segment);
    let mut packet = PacketBuf::small();
    assert!(packet.copy_from(&original));
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let about = parsed(protocol, segment);
    answer(&mut packet, &about, ErrorKind::HostUnreachable, mac, [10, 0, 0, 1].into());
    match crate::parse(packet.frame(), Offload::NONE) {
        Ok(Parsed::Ipv4(error)) => (packet, error),
        other => panic!("not a datagram: {other:?}"),
    }
}

#[test]
fn an_icmp_error_embeds_what_was_parsed() {
    for (protocol, segment) in samples().into_iter().chain([(Protocol::Gre, vec![0; 4])]) {
        let about = parsed(protocol, &segment);
        let (packet, error) = error_about(protocol, &segment);
        let inner = embedded(packet.frame(), &error).unwrap();
        assert_eq!(inner.protocol, protocol);
        assert_eq!((inner.source, inner.destination), (about.source, about.destination));
        let checksum_at = (protocol == Protocol::UdpLite).then_some(inner.l4 + 6);
        assert_eq!(inner.checksum, checksum_at, "{protocol}");
    }
}

#[test]
fn an_error_that_embeds_too_little_to_tell_whose_it_is_is_malformed() {
    let segment = keyed_gre(gre::CHECKSUM_PRESENT | gre::KEY_PRESENT, 7);
    let (packet, error) = error_about(Protocol::Gre, &segment);
    let cut = |behind_ip: u32| Datagram { end: u32::from(error.l4) + 8 + 20 + behind_ip, ..error };
    assert!(embedded(packet.frame(), &cut(12)).is_ok());
    assert_eq!(embedded(packet.frame(), &cut(11)), Err(DropReason::IcmpEmbedded));
    let (packet, error) = error_about(Protocol::Esp, &samples()[3].1);
    let cut = Datagram { end: u32::from(error.l4) + 8 + 20 + 7, ..error };
    assert_eq!(embedded(packet.frame(), &cut), Err(DropReason::IcmpEmbedded));
}

fn with_partial(protocol: Protocol, segment: &[u8], partial: PartialChecksum) -> PacketBuf {
    let mut packet = PacketBuf::small();
    assert!(packet.copy_from(&frame(protocol, segment)));
    packet.offload = Offload { checksum: Some(partial), ..Offload::NONE };
    packet
}

#[test]
fn a_partial_sctp_checksum_is_finished_as_a_crc() {
    let mut packet = with_partial(
        Protocol::Sctp,
        &sctp_packet(1),
        PartialChecksum { start: L4_AT as u16, offset: sctp::CHECKSUM as u16 },
    );
    let Ok(Parsed::Ipv4(datagram)) = crate::parse(packet.frame(), packet.offload) else { panic!() };
    crate::gso::finish_checksum(&mut packet, &datagram);
    let mut segment = packet.frame()[L4_AT..].to_vec();
    let crc: [u8; 4] = segment[8..12].try_into().unwrap();
    segment[8..12].fill(0);
    assert_eq!(crc, crc32c::of(&segment));
    assert_eq!(packet.offload, Offload::NONE);
}

#[test]
fn a_partial_checksum_inside_a_tunnel_is_finished_where_it_lies() {
    let mut inner = vec![0x45; 60];
    // The sum of the pseudo-header, as the sender's kernel leaves it.
    put_u16(&mut inner, 20 + 16, 0x1234);
    let start = (L4_AT + 20) as u16;
    let partial = PartialChecksum { start, offset: 16 };
    let mut packet = with_partial(Protocol::IpIp, &inner, partial);
    let Ok(Parsed::Ipv4(datagram)) = crate::parse(packet.frame(), packet.offload) else { panic!() };
    crate::gso::finish_checksum(&mut packet, &datagram);
    let full = checksum::of(&inner[20..]);
    assert_eq!(u16_at(packet.frame(), usize::from(start) + 16), full);
}

#[test]
fn offload_metadata_that_contradicts_the_protocol_is_refused() {
    let partial = |start: usize, offset| PartialChecksum { start: start as u16, offset };
    for (protocol, at) in [
        (Protocol::UdpLite, partial(L4_AT, 6)),
        (Protocol::Esp, partial(L4_AT, 4)),
        (Protocol::Sctp, partial(L4_AT, 6)),
        (Protocol::Sctp, partial(L4_AT + 4, 8)),
        (Protocol::IpIp, partial(L4_AT, 10)),
        (Protocol::IpIp, partial(L4_AT + 19, 0)),
        (Protocol::Gre, partial(usize::from(u16::MAX), u16::MAX)),
    ] {
        let (_, segment) = samples().into_iter().find(|(p, _)| *p == protocol).unwrap();
        let packet = with_partial(protocol, &segment, at);
        let refused = crate::parse(packet.frame(), packet.offload);
        assert_eq!(refused, Err(DropReason::OffloadInvalid), "{protocol} {at:?}");
    }
}

/// The metadata of a checksum within a tunnel used to end the checks, and a cut of such a packet read past its end.
#[test]
fn no_super_packet_is_in_a_tunnel() {
    for protocol in [Protocol::IpIp, Protocol::Gre, Protocol::SixInFour, Protocol::Sctp] {
        let (_, segment) = samples().into_iter().find(|(p, _)| *p == protocol).unwrap();
        let (start, offset) = if protocol == Protocol::Sctp { (L4_AT, 8) } else { (L4_AT + 1, 1) };
        let partial = PartialChecksum { start: start as u16, offset };
        let mut packet = with_partial(protocol, &segment, partial);
        assert!(crate::parse(packet.frame(), packet.offload).is_ok(), "{protocol}");
        for kind in [GsoKind::TcpV4, GsoKind::TcpV4Ecn, GsoKind::Udp] {
            packet.offload.gso = Some(Gso { kind, size: 1 });
            let refused = crate::parse(packet.frame(), packet.offload);
            assert_eq!(refused, Err(DropReason::OffloadInvalid), "{protocol} {kind:?}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_panics_and_what_parses_stays_inside(
        which in 0usize..6,
        mut segment in proptest::collection::vec(any::<u8>(), 0..80),
        tame: bool,
    ) {
        let (protocol, sample) = samples().swap_remove(which);
        if tame {
            let head = sample.len().min(segment.len());
            segment[..head].copy_from_slice(&sample[..head]);
        }
        if let Ok(Parsed::Ipv4(datagram)) = crate::parse(&frame(protocol, &segment), Offload::NONE) {
            prop_assert!(datagram.headers_len() <= datagram.end as usize);
            let (packet, error) = error_about(protocol, &segment);
            prop_assert!(embedded(packet.frame(), &error).is_ok());
        }
    }

    #[test]
    fn a_keyed_tunnels_answer_has_the_reversed_key(key: u32) {
        let there = parsed(Protocol::Gre, &keyed_gre(gre::KEY_PRESENT, key));
        let back = FlowKey::new(Protocol::Gre, there.destination, there.source, Side::Outside);
        let id = there.source.port;
        let answer = (Endpoint::new(B.into(), id), Endpoint::new(A.into(), id));
        prop_assert_eq!((back.source(), back.destination()), answer);
    }
}
