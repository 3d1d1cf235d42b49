use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::header::{put_u16, seal_ipv4};
use crate::{Gso, PartialChecksum};

const A: [u8; 4] = [10, 0, 0, 2];
const B: [u8; 4] = [198, 51, 100, 7];

fn ip() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4(A, B, 64)
}

fn udp_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    ip().udp(5000, 53).write(&mut frame, b"payload").unwrap();
    frame
}

fn tcp_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    ip().tcp(5000, 80, 1, 1000).syn().write(&mut frame, b"payload").unwrap();
    frame
}

fn datagram(frame: &[u8]) -> Datagram {
    match parse(frame, Offload::NONE) {
        Ok(Parsed::Ipv4(datagram)) => datagram,
        other => panic!("not a datagram: {other:?}"),
    }
}

fn refusal(frame: &[u8]) -> DropReason {
    parse(frame, Offload::NONE).expect_err("the frame should be refused")
}

/// Changes one byte of the IP header and makes its checksum right again.
fn with_ip_byte(at: usize, value: u8) -> Vec<u8> {
    let mut frame = udp_frame();
    frame[14 + at] = value;
    seal_ipv4(&mut frame, 14, 20);
    frame
}

#[test]
fn udp_yields_offsets_and_endpoints() {
    let frame = udp_frame();
    let datagram = datagram(&frame);
    assert_eq!((datagram.l3, datagram.l4, datagram.end as usize), (14, 34, frame.len()));
    assert_eq!(datagram.source, Endpoint::new(A.into(), 5000));
    assert_eq!(datagram.destination, Endpoint::new(B.into(), 53));
    assert_eq!((datagram.transport, datagram.ttl), (L4::Udp, 64));
}

#[test]
fn ethernet_padding_is_not_part_of_the_packet() {
    let mut frame = udp_frame();
    let end = frame.len();
    frame.resize(60, 0xaa);
    assert_eq!(datagram(&frame).end as usize, end);
}

#[test]
fn tcp_yields_flags_and_header_length() {
    let datagram = datagram(&tcp_frame());
    assert_eq!(datagram.transport, L4::Tcp { flags: 0x02, header_len: 20 });
    assert_eq!(datagram.headers_len(), 54);
}

#[test]
fn an_icmp_query_has_its_identifier_where_the_reply_reverses_it() {
    let mut request = Vec::new();
    ip().icmpv4_echo_request(77, 1).write(&mut request, b"x").unwrap();
    let request = datagram(&request);
    assert_eq!((request.source.port, request.destination.port), (77, 0));
    let mut reply = Vec::new();
    ip().icmpv4_echo_reply(77, 1).write(&mut reply, b"x").unwrap();
    let reply = datagram(&reply);
    assert_eq!((reply.source.port, reply.destination.port), (0, 77));
    assert_eq!(reply.transport, L4::Icmp(IcmpKind::Reply));
}

#[test]
fn every_truncation_is_refused_and_none_panics() {
    for frame in [udp_frame(), tcp_frame()] {
        for len in 0..frame.len() {
            assert!(parse(&frame[..len], Offload::NONE).is_err(), "{len}");
        }
    }
}

#[test]
fn malformed_ip_headers_each_have_their_reason() {
    assert_eq!(refusal(&udp_frame()[..13]), DropReason::EthernetTruncated);
    assert_eq!(refusal(&udp_frame()[..30]), DropReason::IpTruncated);
    assert_eq!(refusal(&with_ip_byte(0, 0x65)), DropReason::IpVersion);
    assert_eq!(refusal(&with_ip_byte(0, 0x44)), DropReason::IpHeaderLength);
    assert_eq!(refusal(&with_ip_byte(0, 0x4f)), DropReason::IpHeaderLength);
    assert_eq!(refusal(&with_ip_byte(3, 19)), DropReason::IpTotalLength);
    assert_eq!(refusal(&with_ip_byte(3, 200)), DropReason::IpTruncated);
    assert_eq!(refusal(&with_ip_byte(6, 0x20)), DropReason::FragmentLength);
    assert_eq!(refusal(&with_ip_byte(9, 51)), DropReason::ProtocolUnsupported);
    let mut bad = udp_frame();
    bad[24] ^= 1;
    assert_eq!(refusal(&bad), DropReason::IpChecksum);
}

#[test]
fn malformed_transport_headers_each_have_their_reason() {
    let mut frame = udp_frame();
    put_u16(&mut frame, 34 + udp::LENGTH, 7);
    assert_eq!(refusal(&frame), DropReason::TransportLength);
    put_u16(&mut frame, 34 + udp::LENGTH, 500);
    assert_eq!(refusal(&frame), DropReason::TransportLength);
    let mut frame = udp_frame();
    put_u16(&mut frame, 34, 0);
    assert_eq!(refusal(&frame), DropReason::TransportPortZero);
    let mut frame = tcp_frame();
    frame[34 + tcp::DATA_OFFSET] = 0x40;
    assert_eq!(refusal(&frame), DropReason::TransportLength);
    for flags in [0, tcp::FIN, tcp::SYN | tcp::FIN, tcp::SYN | tcp::RST, tcp::PSH] {
        let mut frame = tcp_frame();
        frame[34 + tcp::FLAGS] = flags;
        assert_eq!(refusal(&frame), DropReason::TcpFlags, "{flags:02x}");
    }
}

#[test]
fn req3_a_wrong_icmp_checksum_is_refused() {
    let mut frame = Vec::new();
    ip().icmpv4_echo_request(77, 1).write(&mut frame, b"x").unwrap();
    frame[36] ^= 1;
    assert_eq!(refusal(&frame), DropReason::IcmpChecksum);
}

#[test]
fn ethertypes_that_are_not_ours_each_have_their_reason() {
    for (ethertype, reason) in [
        (0x86dd, DropReason::Ipv6),
        (0x8100, DropReason::VlanTagged),
        (0x88a8, DropReason::VlanTagged),
        (0x88cc, DropReason::EtherTypeUnsupported),
    ] {
        let mut frame = udp_frame();
        put_u16(&mut frame, 12, ethertype);
        assert_eq!(refusal(&frame), reason);
    }
}

#[test]
fn rfc7126_4_3_source_routes_are_refused_behind_any_other_option() {
    for (options, reason) in [
        (vec![1, 131, 3, 4], Some(DropReason::IpSourceRoute)),
        (vec![7, 3, 4, 137], Some(DropReason::IpSourceRoute)),
        (vec![0, 131, 3, 4], None),
        (vec![7, 0, 0, 0], None),
    ] {
        let mut frame = udp_frame();
        frame.splice(34..34, options);
        frame[14] = 0x46;
        let total = (frame.len() - 14) as u16;
        put_u16(&mut frame, 16, total);
        seal_ipv4(&mut frame, 14, 24);
        assert_eq!(parse(&frame, Offload::NONE).err(), reason);
    }
}

#[test]
fn arp_is_read_and_malformed_arp_is_not() {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2]);
    frame.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    let Ok(Parsed::Arp(arp)) = parse(&frame, Offload::NONE) else { panic!("not ARP") };
    assert_eq!((arp.operation, arp.sender, arp.target), (1, A.into(), [10, 0, 0, 1].into()));
    assert_eq!(refusal(&frame[..41]), DropReason::ArpMalformed);
    for (at, value) in [(15, 6), (19, 5), (21, 9), (22, 1)] {
        let mut bad = frame.clone();
        bad[at] = value;
        assert_eq!(refusal(&bad), DropReason::ArpMalformed, "{at}");
    }
}

#[test]
fn offload_metadata_that_contradicts_the_headers_is_refused() {
    let partial =
        |start, offset| Offload { checksum: Some(PartialChecksum { start, offset }), gso: None };
    let gso = |kind, size| Offload { checksum: None, gso: Some(Gso { kind, size }) };
    let udp = udp_frame();
    assert!(parse(&udp, partial(34, 6)).is_ok());
    for offload in [partial(34, 16), partial(14, 6), gso(GsoKind::TcpV4, 500), gso(GsoKind::Udp, 0)]
    {
        assert_eq!(parse(&udp, offload), Err(DropReason::OffloadInvalid));
    }
    assert!(parse(&tcp_frame(), gso(GsoKind::TcpV4, 500)).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), ip in any::<bool>()) {
        if ip && bytes.len() > 34 {
            put_u16(&mut bytes, 12, 0x0800);
            bytes[14] = 0x45;
            let total = (bytes.len() - 14) as u16;
            put_u16(&mut bytes, 16, total);
            put_u16(&mut bytes, 20, 0);
            seal_ipv4(&mut bytes, 14, 20);
        }
        if let Ok(Parsed::Ipv4(datagram)) = parse(&bytes, Offload::NONE) {
            prop_assert!(datagram.headers_len() <= datagram.end as usize);
            prop_assert!(datagram.end as usize <= bytes.len());
        }
    }
}
