//! IP identifications (RFC 6864, RFC 3022 §6.3).

use packet::{Gso, GsoKind, LinkId, Offload, Offloads};

use crate::frames::{ACK, SYN, ep, ip_header, pieces, with_ip};
use crate::rig::{
    A, B, HOME, O, OFFICE, Outcome, R, R2, Rig, WAN_ADDRESS, WEB, config, from, web_forward,
};

/// What every frame made here carries.
const SENT: u16 = 0x1234;

fn id(out: &Outcome) -> u16 {
    ip_header(&out.sent[0].1).identification
}

#[test]
fn req7857_10_req3022_6_3_hosts_that_chose_the_same_identification_do_not_share_it_outside() {
    let mut rig = Rig::new();
    let mut seen = Vec::new();
    for _ in 0..500 {
        for host in [A, B] {
            seen.push(id(&rig.push(HOME, &from(host).udp(ep(host, 5000), ep(R, 1), b"x"))));
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1000);
}

#[test]
fn req7857_10_identifications_are_counted_per_destination_and_protocol_from_secret_starts() {
    let mut rig = Rig::new();
    let mut udp = |remote| id(&rig.push(HOME, &from(A).udp(ep(A, 5000), ep(remote, 1), b"x")));
    let (one, other, next) = (udp(R), udp(R2), udp(R));
    assert_eq!(next, one.wrapping_add(1));
    assert!(other != one.wrapping_add(1) && other != next.wrapping_add(1));
    let tcp = id(&rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, 1), SYN, b"")));
    assert_ne!(tcp, next.wrapping_add(1));
}

#[test]
fn req6864_an_atomic_packet_keeps_its_identification() {
    let mut rig = Rig::new();
    let mut way = from(A);
    way.dont_fragment = true;
    assert_eq!(id(&rig.push(HOME, &way.udp(ep(A, 5000), ep(R, 1), b"x"))), SENT);
}

#[test]
fn fragments_are_not_atomic_even_if_they_must_not_be_cut() {
    let mut rig = Rig::new();
    let mut way = from(A);
    way.dont_fragment = true;
    let parts = pieces(&way.udp(ep(A, 5000), ep(R, 1), &[0; 3000]), 1480);
    let out = rig.push_pieces(HOME, &parts);
    out.in_fragments();
    assert_ne!(id(&out), SENT);
}

#[test]
fn a_packet_whose_source_stays_keeps_its_identification() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"ask"));
    let back = from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), b"answer");
    assert_eq!(id(&rig.push(LinkId::WAN, &back)), SENT);
    let routed = from(O).udp(ep(O, 5000), ep(A, 9), b"x");
    assert_eq!(id(&rig.push(OFFICE, &routed)), SENT);
}

#[test]
fn a_hairpinned_packet_and_the_answer_of_a_forward_get_one_of_ours() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let hairpin = from(A).tcp(ep(A, 40000), ep(WAN_ADDRESS, WEB), SYN, b"");
    assert_ne!(id(&rig.push(HOME, &hairpin)), SENT);
    let inbound = from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), SYN, b"");
    assert_eq!(id(&rig.push(LinkId::WAN, &inbound)), SENT);
    let answer = from(B).tcp(ep(B, 80), ep(R, 40000), SYN | ACK, b"");
    assert_ne!(id(&rig.push(HOME, &answer)), SENT);
}

#[test]
fn every_segment_of_a_super_packet_has_an_identification_of_its_own() {
    let mut rig = Rig::without_neighbours(config(), Vec::new(), Offloads::NONE);
    rig.learn_all();
    let frame = from(A).tcp(ep(A, 40000), ep(R, 443), ACK, &[7; 5000]);
    let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1000 });
    let mut seen = Vec::new();
    for _ in 0..3 {
        let out = rig.push_with(HOME, &frame, Offload { checksum: None, gso });
        assert_eq!(out.sent.len(), 5);
        seen.extend(out.sent.iter().map(|(_, frame)| ip_header(frame).identification));
    }
    assert!(seen.is_sorted_by(|a, b| b.wrapping_sub(*a) == 1), "{seen:?}");
}

#[test]
fn an_error_from_inside_gets_one_of_ours_too() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let inbound = from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), SYN, b"");
    let out = rig.push(LinkId::WAN, &inbound);
    let port = etherparse::icmpv4::DestUnreachableHeader::Port;
    let port = etherparse::Icmpv4Type::DestinationUnreachable(port);
    let error = from(B).icmp_about(B, R, port, &out.sent[0].1[14..]);
    let outside = rig.push(HOME, &error);
    assert_eq!(outside.forwarded_to(LinkId::WAN).source.address, WAN_ADDRESS);
    assert_ne!(id(&outside), SENT);
    let atomic = with_ip(&error, |header| header.dont_fragment = true);
    assert_eq!(id(&rig.push(HOME, &atomic)), SENT);
}
