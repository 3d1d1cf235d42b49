use etherparse::{Icmpv4Type, PacketBuilder, SlicedPacket, TransportSlice};

use super::*;
use crate::{Offload, Parsed, parse};

const HOST: [u8; 4] = [10, 0, 0, 2];
const PEER: [u8; 4] = [198, 51, 100, 7];
const ROUTER: [u8; 4] = [10, 0, 0, 1];

fn packet_with_payload(len: usize) -> PacketBuf {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
        .ipv4(HOST, PEER, 1)
        .udp(5000, 33434)
        .write(&mut bytes, &vec![0x55; len])
        .unwrap();
    let mut packet = PacketBuf::small();
    assert!(packet.copy_from(&bytes));
    packet
}

fn datagram_of(packet: &PacketBuf) -> Datagram {
    match parse(packet.frame(), Offload::NONE) {
        Ok(Parsed::Ipv4(datagram)) => datagram,
        other => panic!("{other:?}"),
    }
}

fn answered(len: usize, kind: ErrorKind) -> PacketBuf {
    let mut packet = packet_with_payload(len);
    let datagram = datagram_of(&packet);
    answer(&mut packet, &datagram, kind, MacAddr([2, 0, 0, 0, 0, 1]), ROUTER.into());
    packet
}

#[test]
fn an_error_goes_back_to_the_sender_and_parses_everywhere() {
    let packet = answered(100, ErrorKind::TimeExceeded);
    let sliced = SlicedPacket::from_ethernet(packet.frame()).unwrap();
    let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else { panic!("not ICMP") };
    assert!(matches!(icmp.header().icmp_type, Icmpv4Type::TimeExceeded(_)));
    let datagram = datagram_of(&packet);
    assert_eq!(datagram.source.address, Ipv4Addr::from(ROUTER));
    assert_eq!(datagram.destination.address, Ipv4Addr::from(HOST));
    assert_eq!(destination_mac(packet.frame()), MacAddr([2, 0, 0, 0, 0, 2]));
    assert_eq!(source_mac(packet.frame()), MacAddr([2, 0, 0, 0, 0, 1]));
    let inner = embedded(packet.frame(), &datagram).unwrap();
    assert_eq!(inner.source, Endpoint::new(HOST.into(), 5000));
    assert_eq!(inner.destination, Endpoint::new(PEER.into(), 33434));
    assert!(inner.checksum.is_some());
}

#[test]
fn an_error_stays_within_576_bytes() {
    let packet = answered(1400, ErrorKind::HostUnreachable);
    assert_eq!(datagram_of(&packet).ip_len(), 576);
}

#[test]
fn fragmentation_needed_carries_the_mtu() {
    let packet = answered(1400, ErrorKind::FragmentationNeeded(1400));
    assert_eq!(u16_at(packet.frame(), 34 + icmp::NEXT_HOP_MTU), 1400);
}

#[test]
fn no_error_is_sent_about_an_error_a_group_or_no_one_host() {
    let error = answered(100, ErrorKind::TimeExceeded);
    assert!(!may_answer(error.frame(), &datagram_of(&error)));
    let packet = packet_with_payload(10);
    let datagram = datagram_of(&packet);
    assert!(may_answer(packet.frame(), &datagram));
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let source = Endpoint::new(source.into(), 1);
        assert!(!may_answer(packet.frame(), &Datagram { source, ..datagram }));
    }
    for destination in [[224, 0, 0, 5], [255, 255, 255, 255]] {
        let destination = Endpoint::new(destination.into(), 1);
        assert!(!may_answer(packet.frame(), &Datagram { destination, ..datagram }));
    }
    let mut group = packet_with_payload(10);
    group.frame_mut()[0] |= 1;
    assert!(!may_answer(group.frame(), &datagram));
}

#[test]
fn req3_an_embedded_packet_that_is_no_head_of_ours_is_refused() {
    let packet = answered(0, ErrorKind::PortUnreachable);
    let outer = datagram_of(&packet);
    let inner = embedded(packet.frame(), &outer).unwrap();
    for (at, value) in [(inner.l3, 0x44), (inner.l3, 0x65), (inner.l3 + 9, 50), (inner.l3 + 10, 0)]
    {
        let mut frame = packet.frame().to_vec();
        frame[at] = value;
        assert_eq!(embedded(&frame, &outer), Err(DropReason::IcmpEmbedded), "{at}");
    }
    let short = Datagram { end: outer.end - 1, ..outer };
    assert_eq!(embedded(packet.frame(), &short), Err(DropReason::IcmpEmbedded));
}

#[test]
fn req3b_options_in_the_embedded_packet_are_stepped_over() {
    let packet = answered(0, ErrorKind::PortUnreachable);
    let outer = datagram_of(&packet);
    let inner = embedded(packet.frame(), &outer).unwrap();
    let mut frame = packet.frame().to_vec();
    frame.splice(inner.l4..inner.l4, [1, 1, 1, 0]);
    frame[inner.l3] = 0x46;
    crate::header::seal_ipv4(&mut frame, inner.l3, 24);
    let outer = Datagram { end: outer.end + 4, ..outer };
    let moved = embedded(&frame, &outer).unwrap();
    assert_eq!((moved.source, moved.l4), (inner.source, inner.l4 + 4));
}
