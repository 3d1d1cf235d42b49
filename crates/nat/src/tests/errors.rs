//! ICMP errors in all directions (RFC 5508 §4, RFC 3022 §4.3).

use etherparse::{Icmpv4Type, icmpv4};
use packet::header::{ipv4, put_u16, seal_ipv4};

use super::*;

/// A router on the way.
pub(super) const MIDDLE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);

/// An error of `kind` about an IP packet.
pub(super) fn error(from: Ipv4Addr, to: Ipv4Addr, kind: Icmpv4Type, embedded: &[u8]) -> PacketBuf {
    let mut frame = Vec::new();
    builder(from, to).icmpv4(kind).write(&mut frame, embedded).unwrap();
    buffer(&frame)
}

pub(super) fn unreachable() -> Icmpv4Type {
    Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port)
}

pub(super) fn exceeded() -> Icmpv4Type {
    Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit)
}

/// The IP packet in a frame, with the TTL it would have `hops` later.
fn ip_packet(packet: &PacketBuf, hops: u8) -> Vec<u8> {
    let mut copy = buffer(packet.frame());
    copy.frame_mut()[14 + ipv4::TTL] -= hops;
    seal_ipv4(copy.frame_mut(), 14, 20);
    copy.frame()[14..].to_vec()
}

fn embedded_in(packet: &PacketBuf) -> &[u8] {
    &packet.frame()[42..datagram(packet).end as usize]
}

/// Sends `original` out and returns it as the outside sees it.
fn sent(rig: &mut Rig, ingress: LinkId, original: &PacketBuf) -> Vec<u8> {
    let mut packet = buffer(original.frame());
    rig.pass(ingress, &mut packet).unwrap();
    ip_packet(&packet, 0)
}

#[test]
fn req4_an_error_from_outside_reaches_the_sender_with_its_own_packet_inside() {
    let originals = [udp(ep(A, 5000), ep(R, 9)), tcp(ep(A, 5000), ep(R, 9), SYN), echo(A, R, 77)];
    for original in &originals {
        for (from, kind) in [(R, unreachable()), (MIDDLE, exceeded())] {
            let mut rig = Rig::new(policy());
            rig.map(ep(B, 5000)).unwrap();
            rig.tcp_out(ep(B, 5000), ep(R, 9), SYN).unwrap();
            rig.pass(LAN, &mut echo(B, R, 77)).unwrap();
            let outside = sent(&mut rig, LAN, original);
            let mut packet = error(from, E, kind.clone(), &outside);
            let next = rig.pass(LinkId::WAN, &mut packet);
            assert_eq!(next, Ok(NextHop { egress: LAN, neighbour: 22 }));
            assert_checksums(packet.frame());
            assert_eq!(embedded_in(&packet), ip_packet(original, 1));
            let outer = datagram(&packet);
            assert_eq!((outer.source.address, outer.destination.address), (from, A));
            assert_eq!(outer.ttl, 63);
        }
    }
}

#[test]
fn req4_an_error_without_session_is_dropped() {
    let mut rig = Rig::new(policy());
    let stranger = ip_packet(&udp(ep(E, 5000), ep(R, 9)), 0);
    let mut packet = error(R, E, unreachable(), &stranger);
    assert_eq!(rig.pass(LinkId::WAN, &mut packet), Err(DropReason::IcmpNoSession));
}

#[test]
fn req5_req5c_an_error_from_inside_leaves_with_the_external_source() {
    let inside_router = Ipv4Addr::new(10, 0, 0, 200);
    for from in [A, inside_router] {
        let mut rig = Rig::new(policy());
        rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
        let original = udp(ep(R, 9), ep(E, 5000));
        let inside = sent(&mut rig, LinkId::WAN, &original);
        let mut packet = error(from, R, unreachable(), &inside);
        let next = rig.pass(LAN, &mut packet);
        assert_eq!(next, Ok(NextHop { egress: LinkId::WAN, neighbour: 11 }));
        assert_checksums(packet.frame());
        assert_eq!(embedded_in(&packet), ip_packet(&original, 1));
        let outer = datagram(&packet);
        assert_eq!((outer.source.address, outer.destination.address), (E, R));
    }
}

#[test]
fn req7_req7a_an_error_about_a_hairpinned_packet_goes_back_by_the_external_address() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Udp, 8080, ep(B, 80))]));
    let original = udp(ep(A, 5000), ep(E, 8080));
    let at_target = sent(&mut rig, LAN, &original);
    let mut packet = error(B, E, unreachable(), &at_target);
    rig.pass(LAN, &mut packet).unwrap();
    assert_checksums(packet.frame());
    assert_eq!(embedded_in(&packet), ip_packet(&original, 1));
    let outer = datagram(&packet);
    assert_eq!((outer.source.address, outer.destination.address), (E, A));
}

#[test]
fn an_error_between_lans_keeps_its_source() {
    let mut rig = Rig::new(policy());
    let original = udp(ep(A, 5000), ep(C, 53));
    let routed = sent(&mut rig, LAN, &original);
    let inside_router = Ipv4Addr::new(10, 0, 1, 200);
    let mut packet = error(inside_router, A, exceeded(), &routed);
    rig.pass(LAN2, &mut packet).unwrap();
    assert_checksums(packet.frame());
    assert_eq!(datagram(&packet).source.address, inside_router);
    assert_eq!(embedded_in(&packet), ip_packet(&original, 1));
}

#[test]
fn req3b_options_of_the_embedded_packet_are_stepped_over() {
    let mut rig = Rig::new(policy());
    let outside = sent(&mut rig, LAN, &udp(ep(A, 5000), ep(R, 9)));
    let mut with_options = outside[..20].to_vec();
    with_options.extend([1, 1, 1, 0]);
    with_options.extend(&outside[20..]);
    with_options[0] = 0x46;
    let total = with_options.len() as u16;
    put_u16(&mut with_options, ipv4::TOTAL_LENGTH, total);
    seal_ipv4(&mut with_options, 0, 24);
    let mut packet = error(R, E, unreachable(), &with_options);
    rig.pass(LinkId::WAN, &mut packet).unwrap();
    assert_checksums(packet.frame());
    let inner = packet::icmp::embedded(packet.frame(), &datagram(&packet)).unwrap();
    assert_eq!((inner.source, inner.destination), (ep(A, 5000), ep(R, 9)));
}

#[test]
fn req3c_eight_bytes_of_transport_are_enough() {
    for original in [udp(ep(A, 5000), ep(R, 9)), tcp(ep(A, 5000), ep(R, 9), SYN)] {
        let mut rig = Rig::new(policy());
        let outside = sent(&mut rig, LAN, &original);
        let mut packet = error(R, E, unreachable(), &outside[..28]);
        rig.pass(LinkId::WAN, &mut packet).unwrap();
        assert_checksums(packet.frame());
        assert_eq!(embedded_in(&packet), &ip_packet(&original, 1)[..28]);
    }
}

#[test]
fn req3a_a_wrong_embedded_ip_checksum_is_refused() {
    let mut rig = Rig::new(policy());
    let mut outside = sent(&mut rig, LAN, &udp(ep(A, 5000), ep(R, 9)));
    outside[ipv4::CHECKSUM] ^= 1;
    let mut packet = error(R, E, unreachable(), &outside);
    assert_eq!(rig.pass(LinkId::WAN, &mut packet), Err(DropReason::IcmpEmbedded));
}

#[test]
fn req3d_extensions_after_the_embedded_packet_stay_as_they_are() {
    let mut rig = Rig::new(policy());
    let original = udp(ep(A, 5000), ep(R, 9));
    let mut outside = sent(&mut rig, LAN, &original);
    let length = outside.len();
    outside.resize(128, 0);
    // An RFC 4884 header and one MPLS object; its bytes need only survive.
    outside.extend([0x20, 0, 0xde, 0xad, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0xff]);
    let mut packet = error(MIDDLE, E, exceeded(), &outside);
    rig.pass(LinkId::WAN, &mut packet).unwrap();
    assert_checksums(packet.frame());
    let embedded = embedded_in(&packet);
    assert_eq!(embedded[..length], ip_packet(&original, 1));
    assert_eq!(embedded[length..], outside[length..]);
}

#[test]
fn an_embedded_udp_checksum_of_zero_stays_zero() {
    let mut rig = Rig::new(policy());
    let mut original = udp(ep(A, 5000), ep(R, 9));
    put_u16(original.frame_mut(), 40, 0);
    let outside = sent(&mut rig, LAN, &original);
    let mut packet = error(R, E, unreachable(), &outside);
    rig.pass(LinkId::WAN, &mut packet).unwrap();
    assert_checksums(packet.frame());
    assert_eq!(embedded_in(&packet), ip_packet(&original, 1));
}

#[test]
fn req12_req6_no_icmp_error_ends_or_refreshes_anything() {
    let mut rig = Rig::new(policy());
    let outside = sent(&mut rig, LAN, &udp(ep(A, 5000), ep(R, 9)));
    for hops in 0..3 {
        rig.advance(secs(99 + hops));
        for kind in [unreachable(), exceeded()] {
            rig.pass(LinkId::WAN, &mut error(R, E, kind, &outside)).unwrap();
        }
        assert_eq!(rig.sessions().len(), 1);
    }
    rig.advance(secs(2));
    assert!(rig.sessions().is_empty());
}

#[test]
fn the_mtu_of_fragmentation_needed_comes_through() {
    let mut rig = Rig::new(policy());
    let outside = sent(&mut rig, LAN, &udp(ep(A, 5000), ep(R, 9)));
    let kind =
        Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
            next_hop_mtu: 1400,
        });
    let mut packet = error(MIDDLE, E, kind, &outside);
    rig.pass(LinkId::WAN, &mut packet).unwrap();
    assert_checksums(packet.frame());
    assert_eq!(packet::header::u16_at(packet.frame(), 40), 1400);
}

/// Of each further protocol a packet from `source`, and one that answers it at `to`.
fn others(source: Ipv4Addr, to: Ipv4Addr) -> Vec<(PacketBuf, PacketBuf)> {
    let (own, external) = (ep(source, 5000), ep(to, 5000));
    vec![
        (udp_lite(own, ep(R, 9), 8, b"sound"), udp_lite(ep(R, 9), external, 0, b"sound")),
        (sctp(own, ep(R, 9), 1), sctp(ep(R, 9), external, 2)),
        (gre(source, R, None), gre(R, to, None)),
        (gre(source, R, Some(0x0001_0002)), gre(R, to, Some(0x0001_0002))),
        (esp(source, R, 0xa1), esp(R, to, 0x1a)),
        (ip(Protocol::IpIp, source, R, [0x45; 40]), ip(Protocol::IpIp, R, to, [0x45; 40])),
        (
            ip(Protocol::SixInFour, source, R, [0x60; 48]),
            ip(Protocol::SixInFour, R, to, [0x60; 48]),
        ),
    ]
}

#[test]
fn req4_an_error_about_any_protocol_reaches_its_sender_even_from_eight_bytes() {
    for (original, _) in others(A, E) {
        let protocol = datagram(&original).protocol();
        for cut in [0, 28] {
            let mut rig = Rig::new(policy());
            // Another host speaks with the peer as well, where that is possible.
            rig.send(LAN, udp_lite(ep(B, 5000), ep(R, 9), 8, b"sound")).unwrap();
            rig.send(LAN, esp(B, R, 0xb1)).unwrap();
            let outside = sent(&mut rig, LAN, &original);
            let quote = if cut == 0 { &outside[..] } else { &outside[..cut] };
            let mut packet = error(MIDDLE, E, exceeded(), quote);
            let next = rig.pass(LinkId::WAN, &mut packet);
            assert_eq!(next, Ok(NextHop { egress: LAN, neighbour: 22 }), "{protocol}");
            assert_checksums(packet.frame());
            assert_eq!(embedded_in(&packet), &ip_packet(&original, 1)[..quote.len()], "{protocol}");
            let outer = datagram(&packet);
            assert_eq!((outer.source.address, outer.destination.address), (MIDDLE, A));
        }
    }
}

#[test]
fn req5_an_error_from_inside_about_any_protocol_reaches_the_peer() {
    for (opening, original) in others(A, E) {
        let protocol = datagram(&original).protocol();
        let mut rig = Rig::new(policy());
        rig.pass(LAN, &mut buffer(opening.frame())).unwrap();
        let inside = sent(&mut rig, LinkId::WAN, &original);
        let mut packet = error(A, R, unreachable(), &inside);
        let next = rig.pass(LAN, &mut packet).unwrap();
        assert_eq!(next.egress, LinkId::WAN, "{protocol}");
        assert_checksums(packet.frame());
        assert_eq!(embedded_in(&packet), ip_packet(&original, 1), "{protocol}");
        let outer = datagram(&packet);
        assert_eq!((outer.source.address, outer.destination.address), (E, R));
    }
}

#[test]
fn an_error_between_lans_about_esp_finds_its_association() {
    let mut rig = Rig::new(policy());
    let original = esp(A, C, 0xa1);
    let routed = sent(&mut rig, LAN, &original);
    let mut packet = error(C, A, unreachable(), &routed);
    rig.pass(LAN2, &mut packet).unwrap();
    assert_checksums(packet.frame());
    assert_eq!(embedded_in(&packet), ip_packet(&original, 1));
}

#[test]
fn req4_an_error_about_an_esp_packet_that_nobody_sent_is_dropped() {
    let mut rig = Rig::new(policy());
    let outside = sent(&mut rig, LAN, &esp(A, R, 0xa1));
    let stranger = ip_packet(&esp(E, R, 0xa2), 0);
    let mut packet = error(R, E, unreachable(), &stranger);
    assert_eq!(rig.pass(LinkId::WAN, &mut packet), Err(DropReason::IcmpNoSession));
    let inside = ip_packet(&esp(R, A, 0x1a), 0);
    let mut packet = error(A, R, unreachable(), &inside);
    assert_eq!(rig.pass(LAN, &mut packet), Err(DropReason::IcmpNoSession));
    assert!(rig.pass(LinkId::WAN, &mut error(R, E, unreachable(), &outside)).is_ok());
}
