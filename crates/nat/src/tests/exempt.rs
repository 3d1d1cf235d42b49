//! Destinations that are reached without translation (RFC 6888 REQ-6).

use super::*;

fn exempt(protocol: Option<Protocol>) -> Policy {
    let destination = "198.51.100.0/29".parse().unwrap();
    let one = Exemption { destination, source: None, protocol, ports: None };
    Policy { exemptions: vec![one].into(), ..policy() }
}

const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const NEAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);

#[test]
fn req6888_6_an_exempt_flow_leaves_as_it_is_and_its_answer_comes_back_from_outside() {
    let mut rig = Rig::new(exempt(None));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(NEAR, 9)), Ok((ep(A, 5000), ep(NEAR, 9))));
    assert_eq!(rig.udp_in(ep(NEAR, 9), ep(A, 5000)), Ok((ep(NEAR, 9), ep(A, 5000))));
    assert_eq!(rig.send(LAN, echo(A, NEAR, 3)), Ok((ep(A, 3), ep(NEAR, 0))));
    assert_eq!(rig.send(LinkId::WAN, echo_reply(NEAR, A, 3)), Ok((ep(NEAR, 0), ep(A, 3))));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(FAR, 9)), Ok((ep(E, 5000), ep(FAR, 9))));
    assert_eq!(rig.tables.stats().mappings, 1);
    assert_eq!(rig.sessions().iter().filter(|s| s.direction == Direction::Routed).count(), 2);
}

#[test]
fn only_the_answer_comes_back() {
    let mut rig = Rig::new(exempt(None));
    rig.udp_out(ep(A, 5000), ep(NEAR, 9)).unwrap();
    for (from, to) in [
        (ep(NEAR, 10), ep(A, 5000)),
        (ep(NEAR, 9), ep(A, 5001)),
        (ep(NEAR, 9), ep(B, 5000)),
        (ep(FAR, 9), ep(A, 5000)),
    ] {
        assert_eq!(rig.udp_in(from, to), Err(DropReason::NoRoute));
    }
    // Nor does it pass for a packet from inside.
    let key = datagram(&udp(ep(NEAR, 9), ep(A, 5000))).key(Side::Inside);
    let pass = rig.participant.pass();
    assert!(rig.tables.sessions().lookup(&pass, &SessionKey(key)).is_none());
}

#[test]
fn an_exemption_of_one_protocol_leaves_the_others_translated() {
    let mut rig = Rig::new(exempt(Some(Protocol::Tcp)));
    assert_eq!(rig.tcp_out(ep(A, 5000), ep(NEAR, 9), SYN), Ok((ep(A, 5000), ep(NEAR, 9))));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(NEAR, 9)), Ok((ep(E, 5000), ep(NEAR, 9))));
}

#[test]
fn a_removed_exemption_has_the_flow_translated_from_its_next_packet_on() {
    let mut rig = Rig::new(exempt(None));
    rig.udp_out(ep(A, 5000), ep(NEAR, 9)).unwrap();
    rig.adopt(policy());
    assert_eq!(rig.udp_out(ep(A, 5000), ep(NEAR, 9)), Ok((ep(E, 5000), ep(NEAR, 9))));
    assert_eq!(rig.udp_in(ep(NEAR, 9), ep(A, 5000)), Err(DropReason::NoRoute));
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn a_new_exemption_takes_the_flow_out_of_the_translation() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(NEAR, 9)).unwrap();
    rig.udp_out(ep(A, 5000), ep(FAR, 9)).unwrap();
    rig.send(LinkId::LOCAL, udp(ep(C, 5353), ep(NEAR, 53))).unwrap();
    rig.adopt(exempt(None));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(NEAR, 9)), Ok((ep(A, 5000), ep(NEAR, 9))));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(FAR, 9)), Ok((ep(E, 5000), ep(FAR, 9))));
    assert!(rig.udp_in(ep(NEAR, 53), ep(E, 5353)).is_ok(), "the router's own stays translated");
}

#[test]
fn an_exempt_flow_ends_when_the_wan_goes_down() {
    let mut rig = Rig::new(exempt(None));
    rig.udp_out(ep(A, 5000), ep(NEAR, 9)).unwrap();
    rig.adopt(Policy { external: None, ..exempt(None) });
    assert_eq!(rig.udp_in(ep(NEAR, 9), ep(A, 5000)), Err(DropReason::NoRoute));
    assert!(rig.sessions().is_empty());
}

#[test]
fn an_error_about_an_exempt_packet_reaches_its_sender() {
    let mut rig = Rig::new(exempt(None));
    let mut packet = udp(ep(A, 5000), ep(NEAR, 9));
    rig.pass(LAN, &mut packet).unwrap();
    let mut error = errors::error(R2, A, errors::unreachable(), &packet.frame()[14..]);
    let hop = rig.pass(LinkId::WAN, &mut error).unwrap();
    assert_eq!((hop.egress, datagram(&error).destination.address), (LAN, A));
    assert_checksums(error.frame());
}
