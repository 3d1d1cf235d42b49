//! What the router itself says and hears.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Type, icmpv4};
use packet::{DropReason, LinkId, PuntReason};
use pipeline::Inject;

use crate::frames::{SYN, echo_reply, ep, see};
use crate::rig::{
    A, GATEWAY, GUEST, HOME, HOME_ADDRESS, R, Rig, WAN_ADDRESS, config, from, mac, router_mac,
    web_forward,
};

/// A frame whose Ethernet header is still to be filled in.
fn blank(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..12].fill(0);
    frame
}

#[test]
fn a_query_of_the_router_is_translated_and_its_answer_punted_to_the_lan_address() {
    let mut rig = Rig::new();
    let query = blank(&from(A).udp(ep(HOME_ADDRESS, 5353), ep(R, 53), b"question"));
    let (link, seen) = rig.send_local(&query).one();
    assert_eq!((link, seen.endpoints()), (LinkId::WAN, (ep(WAN_ADDRESS, 5353), ep(R, 53))));
    assert_eq!((seen.from_mac, seen.to_mac), (router_mac(LinkId::WAN), mac(GATEWAY)));

    let answer = from(R).udp(ep(R, 53), ep(WAN_ADDRESS, 5353), b"answer");
    let out = rig.push(LinkId::WAN, &answer);
    let punt = out.punt();
    assert_eq!((punt.reason, punt.ingress), (PuntReason::Local, LinkId::WAN));
    let seen = see(&punt.frame);
    assert_eq!(seen.endpoints(), (ep(R, 53), ep(HOME_ADDRESS, 5353)));
}

#[test]
fn an_answer_that_arrives_with_its_last_hop_is_still_delivered() {
    let mut rig = Rig::new();
    rig.send_local(&from(A).udp(ep(HOME_ADDRESS, 5353), ep(R, 53), b"question"));
    for ttl in [0, 1, 2] {
        let mut way = from(R);
        way.ttl = ttl;
        let out = rig.push(LinkId::WAN, &way.udp(ep(R, 53), ep(WAN_ADDRESS, 5353), b"answer"));
        assert_eq!(see(&out.punt().frame).destination, ep(HOME_ADDRESS, 5353));
    }
}

#[test]
fn an_answer_from_another_server_is_filtered() {
    let mut rig = Rig::new();
    rig.send_local(&from(A).udp(ep(HOME_ADDRESS, 5353), ep(R, 53), b"question"));
    let forged = from(R).udp(ep(crate::rig::R2, 53), ep(WAN_ADDRESS, 5353), b"answer");
    rig.push(LinkId::WAN, &forged).dropped_for(DropReason::FilterDenied);
}

#[test]
fn an_icmp_error_of_the_router_about_its_own_flow_is_translated() {
    let mut rig = Rig::new();
    rig.send_local(&from(A).udp(ep(HOME_ADDRESS, 5353), ep(R, 53), b"question"));
    let answer = from(R).udp(ep(R, 53), ep(WAN_ADDRESS, 5353), b"late answer");
    let late = rig.push(LinkId::WAN, &answer).punt().frame.clone();
    let closed = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let error = blank(&from(A).icmp_about(HOME_ADDRESS, R, closed, &late[14..]));
    let seen = rig.send_local(&error).one().1;
    assert_eq!((seen.source.address, seen.destination.address), (WAN_ADDRESS, R));
    assert_eq!(seen.embedded(), (ep(R, 53), ep(WAN_ADDRESS, 5353)));
}

#[test]
fn an_icmp_error_about_the_routers_query_reaches_it() {
    let mut rig = Rig::new();
    let query = from(A).udp(ep(HOME_ADDRESS, 5353), ep(R, 53), b"question");
    let out = rig.send_local(&query);
    let closed = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let error = from(R).icmp_about(R, WAN_ADDRESS, closed, &out.sent[0].1[14..]);
    let out = rig.push(LinkId::WAN, &error);
    let seen = see(&out.punt().frame);
    assert_eq!(seen.destination.address, HOME_ADDRESS);
    assert_eq!(seen.embedded(), (ep(HOME_ADDRESS, 5353), ep(R, 53)));
}

#[test]
fn an_answer_of_the_router_to_a_lan_is_sent_as_it_is() {
    let mut rig = Rig::new();
    let answer = blank(&from(A).udp(ep(HOME_ADDRESS, 53), ep(A, 5000), b"answer"));
    let (link, seen) = rig.send_local(&answer).one();
    assert_eq!((link, seen.endpoints()), (HOME, (ep(HOME_ADDRESS, 53), ep(A, 5000))));
    assert_eq!((seen.from_mac, seen.to_mac), (router_mac(HOME), mac(A)));
    let pong = blank(&from(A).icmp(HOME_ADDRESS, A, echo_reply(1)));
    assert_eq!(rig.send_local(&pong).one().1.echo_id(), 1);
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn a_packet_of_the_router_waits_for_its_neighbour_like_any_other() {
    let mut rig = Rig::new();
    let away = Ipv4Addr::new(10, 0, 1, 77);
    let answer = from(A).udp(ep(HOME_ADDRESS, 53), ep(away, 5000), b"answer");
    let out = rig.send_local(&answer);
    let punt = out.punt().clone();
    assert_eq!((punt.wanted, punt.ingress), (Some((HOME, away)), LinkId::LOCAL));
    let released = rig.resolve(&punt);
    assert_eq!(rig.take_again(&released[0]).one().1.to_mac, mac(away));
}

#[test]
fn a_whole_frame_of_the_router_leaves_by_the_link_that_it_names() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(HOME_ADDRESS, 67), ep(A, 68), b"offer");
    let mut packet = rig.rings.take().unwrap();
    assert!(packet.copy_from(&frame));
    let out = rig.inject(Inject::Send(GUEST, packet));
    assert_eq!(out.sent, [(GUEST, frame)]);
}

#[test]
fn a_frame_for_a_link_that_does_not_exist_is_a_counted_drop() {
    let mut rig = Rig::new();
    let packet = rig.rings.take().unwrap();
    assert!(rig.inject(Inject::Send(LinkId(9), packet)).sent.is_empty());
    assert_eq!(rig.counters.dropped(DropReason::LinkDown), 1);
}

#[test]
fn a_dns_query_of_a_host_is_for_the_router_on_any_of_its_addresses() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    for address in [HOME_ADDRESS, Ipv4Addr::new(10, 0, 2, 1), WAN_ADDRESS] {
        let frame = from(A).udp(ep(A, 5000), ep(address, 53), b"question");
        let out = rig.push(HOME, &frame);
        assert_eq!((out.punt().reason, &out.punt().frame), (PuntReason::Local, &frame));
    }
    let tcp = rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(HOME_ADDRESS, 53), SYN, b""));
    assert_eq!(tcp.punt().reason, PuntReason::Local);
}
