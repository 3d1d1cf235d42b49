//! Translation out and back: what stays, what changes, and the packet's own fields.

use packet::PartialChecksum;
use packet::checksum::{fold, pseudo_header, sum};
use packet::header::{put_u16, u16_at};

use super::*;

#[test]
fn a_packet_leaves_with_the_external_source_and_the_answer_comes_home() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R, 53)), Ok((ep(E, 5000), ep(R, 53))));
    assert_eq!(rig.udp_in(ep(R, 53), ep(E, 5000)), Ok((ep(R, 53), ep(A, 5000))));
    let session = rig.sessions()[0];
    assert_eq!(session.internal, Internal(ep(A, 5000)));
    assert_eq!(session.external, External(ep(E, 5000)));
    assert_eq!(session.remote, ep(R, 53));
    assert_eq!((session.direction, session.state), (Direction::Outbound, State::Replied));
    assert_eq!(session.packets, [1, 1]);
}

#[test]
fn both_directions_know_their_next_hop_and_their_ingress() {
    let mut rig = Rig::new(policy());
    let out = rig.pass(LAN, &mut udp(ep(A, 5000), ep(R, 53)));
    assert_eq!(out, Ok(NextHop { egress: LinkId::WAN, neighbour: 11 }));
    let back = rig.pass(LinkId::WAN, &mut udp(ep(R, 53), ep(E, 5000)));
    assert_eq!(back, Ok(NextHop { egress: LAN, neighbour: 22 }));
    let pass = rig.participant.pass();
    let key = datagram(&udp(ep(R, 53), ep(E, 5000))).key(Side::Outside);
    let hit = rig.tables.sessions().lookup(&pass, &SessionKey(key)).unwrap();
    assert_eq!((hit.value().ingress(), hit.other().ingress()), (LinkId::WAN, LAN));
    hit.value().set_neighbour(33);
    assert_eq!(hit.value().next_hop().neighbour, 33);
}

#[test]
fn the_ttl_is_one_lower_and_nothing_else_of_the_payload_changes() {
    let mut rig = Rig::new(policy());
    let before = udp(ep(A, 5000), ep(R, 53));
    let mut after = udp(ep(A, 5000), ep(R, 53));
    rig.pass(LAN, &mut after).unwrap();
    assert_eq!(datagram(&after).ttl, 63);
    assert_eq!(after.frame()[42..], before.frame()[42..]);
    assert_eq!(after.frame()[..14], before.frame()[..14]);
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let mut rig = Rig::new(policy());
    let mut packet = udp(ep(A, 5000), ep(R, 53));
    put_u16(packet.frame_mut(), 34 + 6, 0);
    rig.pass(LAN, &mut packet).unwrap();
    assert_eq!(u16_at(packet.frame(), 34 + 6), 0);
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let mut rig = Rig::new(policy());
    let mut packet = udp(ep(A, 5000), ep(R, 53));
    let right = u16_at(packet.frame(), 34 + 6);
    put_u16(packet.frame_mut(), 34 + 6, right ^ 0x0100);
    let mut good = udp(ep(A, 5000), ep(R, 53));
    rig.pass(LAN, &mut packet).unwrap();
    rig.pass(LAN, &mut good).unwrap();
    assert_ne!(u16_at(packet.frame(), 34 + 6), u16_at(good.frame(), 34 + 6));
}

/// Leaves the checksum as a sender with offload does: the sum of the pseudo-header alone.
fn make_partial(packet: &mut PacketBuf, field: u16) {
    let datagram = datagram(packet);
    let length = (datagram.end - u32::from(datagram.l4)) as u16;
    let pseudo = pseudo_header(
        datagram.source.address.octets(),
        datagram.destination.address.octets(),
        datagram.protocol() as u8,
        length,
    );
    put_u16(packet.frame_mut(), usize::from(datagram.l4 + field), pseudo);
    packet.offload.checksum = Some(PartialChecksum { start: datagram.l4, offset: field });
}

/// Finishes a partial checksum as hardware would.
fn finish(packet: &mut PacketBuf) {
    let partial = packet.offload.checksum.take().unwrap();
    let end = datagram(packet).end as usize;
    let start = usize::from(partial.start);
    let full = !fold(sum(&packet.frame()[start..end], 0));
    put_u16(packet.frame_mut(), start + usize::from(partial.offset), full);
}

#[test]
fn a_partial_checksum_stays_partial_and_finishes_right() {
    let mut rig = Rig::new(policy());
    for _ in 0..2 {
        let mut packet = tcp(ep(A, 5000), ep(R, 80), SYN);
        make_partial(&mut packet, 16);
        rig.pass(LAN, &mut packet).unwrap();
        assert!(packet.offload.checksum.is_some());
        finish(&mut packet);
        assert_checksums(packet.frame());
    }
    let mut packet = udp(ep(A, 5000), ep(R, 80));
    make_partial(&mut packet, 6);
    rig.pass(LAN, &mut packet).unwrap();
    finish(&mut packet);
    assert_checksums(packet.frame());
}

#[test]
fn icmp_req1_queries_and_their_replies_pass() {
    let mut rig = Rig::new(policy());
    let mut request = echo(A, R, 77);
    rig.pass(LAN, &mut request).unwrap();
    assert_checksums(request.frame());
    assert_eq!(datagram(&request).source, ep(E, 77));
    let mut reply = echo_reply(R, E, 77);
    rig.pass(LinkId::WAN, &mut reply).unwrap();
    assert_checksums(reply.frame());
    assert_eq!(datagram(&reply).destination, ep(A, 77));
}

#[test]
fn icmp_req1_the_identifier_is_rewritten_where_two_hosts_share_it() {
    let mut rig = Rig::new(policy());
    rig.pass(LAN, &mut echo(A, R, 77)).unwrap();
    let mut other = echo(B, R, 77);
    rig.pass(LAN, &mut other).unwrap();
    assert_checksums(other.frame());
    let identifier = datagram(&other).source.port;
    assert_ne!(identifier, 77);
    let mut reply = echo_reply(R, E, identifier);
    rig.pass(LinkId::WAN, &mut reply).unwrap();
    assert_eq!(datagram(&reply).destination, ep(B, 77));
    assert_checksums(reply.frame());
}

#[test]
fn icmp_req1a_the_identifier_does_not_depend_on_the_remote_host() {
    let mut rig = Rig::new(policy());
    let mut first = echo(A, R, 77);
    let mut second = echo(A, R2, 77);
    rig.pass(LAN, &mut first).unwrap();
    rig.pass(LAN, &mut second).unwrap();
    assert_eq!(datagram(&first).source, datagram(&second).source);
}

#[test]
fn an_icmp_identifier_of_zero_is_mapped_to_one_that_is_not() {
    let mut rig = Rig::new(policy());
    let mut request = echo(A, R, 0);
    rig.pass(LAN, &mut request).unwrap();
    let identifier = datagram(&request).source.port;
    assert_ne!(identifier, 0);
    let mut reply = echo_reply(R, E, identifier);
    rig.pass(LinkId::WAN, &mut reply).unwrap();
    assert_eq!(datagram(&reply).destination, ep(A, 0));
}

#[test]
fn icmp_replies_nobody_asked_for_are_dropped_in_both_directions() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.pass(LinkId::WAN, &mut echo_reply(R, E, 5)), Err(DropReason::NoMapping));
    assert_eq!(rig.pass(LAN, &mut echo_reply(A, R, 5)), Err(DropReason::NoMapping));
    assert!(rig.sessions().is_empty());
}

#[test]
fn lan_to_lan_is_stateful_and_rewrites_nothing_but_the_ttl() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.udp_out(ep(A, 5000), ep(C, 53)), Ok((ep(A, 5000), ep(C, 53))));
    let back = rig.send(LAN2, udp(ep(C, 53), ep(A, 5000)));
    assert_eq!(back, Ok((ep(C, 53), ep(A, 5000))));
    let session = rig.sessions()[0];
    assert_eq!((session.direction, session.state), (Direction::Routed, State::Replied));
    assert_eq!(session.packets, [1, 1]);
    assert_eq!(rig.tables.stats().mappings, 0);
}

#[test]
fn without_a_wan_address_nothing_leaves() {
    let mut rig = Rig::new(Policy { external: None, ..policy() });
    assert_eq!(rig.map(ep(A, 5000)), Err(DropReason::WanDown));
    assert!(rig.sessions().is_empty());
}

#[test]
fn a_forward_lets_anybody_in_and_the_target_answers_from_its_port() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Tcp, 8080, ep(B, 80))]));
    assert_eq!(rig.tcp_in(ep(R, 4000), ep(E, 8080), SYN), Ok((ep(R, 4000), ep(B, 80))));
    assert_eq!(rig.tcp_out(ep(B, 80), ep(R, 4000), SYN_ACK), Ok((ep(E, 8080), ep(R, 4000))));
    rig.tcp_in(ep(R, 4000), ep(E, 8080), ACK).unwrap();
    let session = rig.sessions()[0];
    assert_eq!(session.direction, Direction::Inbound);
    assert_eq!(session.internal, Internal(ep(B, 80)));
    assert_eq!(session.external, External(ep(E, 8080)));
    assert_eq!(session.remote, ep(R, 4000));
}

#[test]
fn inbound_to_unmapped_port_is_dropped() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.udp_in(ep(R, 4000), ep(E, 8080)), Err(DropReason::NoMapping));
    assert_eq!(rig.tcp_in(ep(R, 4000), ep(E, 8080), SYN), Err(DropReason::NoMapping));
    assert!(rig.sessions().is_empty());
}
