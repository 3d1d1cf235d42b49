//! New snapshots: a WAN that goes and comes back elsewhere, policies and forwards that change.

use std::net::Ipv4Addr;

use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId};
use pipeline::Verdict;

use crate::frames::{ACK, SYN, ep};
use crate::rig::{
    A, B, G, GATEWAY, GUEST, HOME, HOME_ADDRESS, O, OFFICE, R, Rig, WAN_ADDRESS, WEB, config, from,
    mac, wan_at, web_forward,
};

const NEW_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 42);

#[test]
fn nothing_leaves_while_the_wan_is_down_and_senders_are_told() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"");
    rig.push(HOME, &frame).forwarded_to(LinkId::WAN);
    rig.runtime.wan = None;
    rig.publish();
    for frame in [frame, from(A).udp(ep(A, 6000), ep(R, 1), b"")] {
        let out = rig.push(HOME, &frame);
        assert_eq!(out.verdict, Verdict::Reply(ErrorKind::NetworkUnreachable));
        assert_eq!((out.one().0, out.one().1.source.address), (HOME, HOME_ADDRESS));
    }
    let query = from(A).udp(ep(HOME_ADDRESS, 5353), ep(R, 53), b"question");
    rig.send_local(&query).dropped_for(DropReason::WanDown);
    let late = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), b""));
    assert!(late.sent.is_empty());
}

#[test]
fn lans_speak_with_each_other_while_the_wan_is_down() {
    let mut rig = Rig::new();
    rig.runtime.wan = None;
    rig.publish();
    let syn = rig.push(OFFICE, &from(O).tcp(ep(O, 40000), ep(A, 22), SYN, b""));
    syn.forwarded_to(HOME);
}

#[test]
fn flows_move_to_a_new_wan_address() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"");
    rig.push(HOME, &frame);
    rig.runtime.wan = Some(wan_at(NEW_ADDRESS, GATEWAY));
    rig.publish();
    let old = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), b""));
    assert!(old.sent.is_empty(), "{old:?}");
    assert_eq!(rig.push(HOME, &frame).forwarded_to(LinkId::WAN).source, ep(NEW_ADDRESS, 5000));
    let back = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(NEW_ADDRESS, 5000), b""));
    assert_eq!(back.forwarded_to(HOME).destination, ep(A, 5000));
}

#[test]
fn flows_take_a_new_gateway_under_the_same_address() {
    let mut rig = Rig::new();
    let (out, back) = (
        from(A).udp(ep(A, 5000), ep(R, 1), b""),
        from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), b""),
    );
    rig.push(HOME, &out).forwarded_to(LinkId::WAN);
    let gateway = Ipv4Addr::new(198, 51, 100, 200);
    rig.learn(LinkId::WAN, gateway);
    rig.runtime.wan = Some(wan_at(WAN_ADDRESS, gateway));
    rig.publish();
    rig.push(LinkId::WAN, &back).forwarded_to(HOME);
    assert_eq!(rig.push(HOME, &out).forwarded_to(LinkId::WAN).to_mac, mac(gateway));
    assert_eq!(rig.sessions(), 1);
}

#[test]
fn an_unchanged_policy_keeps_every_flow() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let out = from(A).udp(ep(A, 5000), ep(R, 1), b"");
    let routed = from(O).tcp(ep(O, 40000), ep(A, 22), SYN, b"");
    let inbound = rig.accept(ep(R, 40000));
    let hairpin = from(A).tcp(ep(A, 40001), ep(WAN_ADDRESS, WEB), SYN, b"");
    let frames = [(HOME, out), (OFFICE, routed), (LinkId::WAN, inbound), (HOME, hairpin)];
    let pass = |rig: &mut Rig| frames.each_ref().map(|(link, frame)| rig.push(*link, frame).one());
    let first = pass(&mut rig);
    rig.publish();
    let again = pass(&mut rig);
    assert_eq!((first, rig.sessions()), (again, 4));
}

#[test]
fn a_lan_taken_out_of_reach_ends_its_flows() {
    let mut rig = Rig::new();
    let data = from(O).tcp(ep(O, 40000), ep(A, 22), ACK, b"");
    let answer = from(A).tcp(ep(A, 22), ep(O, 40000), ACK, b"");
    rig.push(OFFICE, &data).forwarded_to(HOME);
    rig.push(HOME, &answer).forwarded_to(OFFICE);
    rig.config.lans[2].reach.clear();
    rig.publish();
    let prohibited = Verdict::Reply(ErrorKind::AdministrativelyProhibited);
    assert_eq!(rig.push(HOME, &answer).verdict, prohibited);
    assert_eq!(rig.push(OFFICE, &data).verdict, prohibited);
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn a_new_rule_ends_the_flows_that_it_refuses_and_no_others() {
    let mut rig = Rig::new();
    let (mail, web) = (
        from(A).tcp(ep(A, 40000), ep(R, 25), SYN, b""),
        from(A).tcp(ep(A, 40001), ep(R, 443), SYN, b""),
    );
    rig.push(HOME, &mail).forwarded_to(LinkId::WAN);
    rig.push(HOME, &web).forwarded_to(LinkId::WAN);
    let home = config::RuleEnd::Lan("home".into());
    let mut rule = config::Rule::between(config::Action::Refuse, home, config::RuleEnd::Anywhere);
    rule.when.protocol = config::RuleProtocol::TCP;
    rule.when.ports = vec![25..=25];
    rig.config.policy.rules.push(rule);
    rig.publish();
    assert_eq!(rig.push(HOME, &mail).verdict, Verdict::Reset);
    rig.push(HOME, &web).forwarded_to(LinkId::WAN);
    assert_eq!(rig.sessions(), 1);
}

#[test]
fn a_removed_forward_ends_its_flows() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let syn = from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), SYN, b"");
    rig.push(LinkId::WAN, &syn).forwarded_to(HOME);
    rig.runtime.forwards.clear();
    rig.publish();
    rig.push(LinkId::WAN, &syn).dropped_for(DropReason::NoMapping);
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn a_subnet_that_moves_behind_a_lan_is_no_longer_sent_to_the_wan() {
    let mut rig = Rig::new();
    let server = ep([10, 0, 2, 2].into(), 80);
    rig.config.wan.bogons = config::Bogons::Pass;
    rig.config.lans[1].address = "10.9.9.1/24".parse().unwrap();
    rig.publish();
    let data = from(A).udp(ep(A, 40000), server, b"");
    assert_eq!(rig.push(HOME, &data).forwarded_to(LinkId::WAN).destination, server);
    rig.config.lans[1].address = "10.0.2.1/24".parse().unwrap();
    rig.config.lans[0].reach = vec!["guest".into()];
    rig.publish();
    rig.learn(GUEST, G);
    let seen = rig.push(HOME, &data).forwarded_to(GUEST);
    assert_eq!(seen.source, ep(A, 40000));
    assert_ne!(A, B);
}
