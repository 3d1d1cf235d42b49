//! From the Internet to hosts behind the router, and to the router.

use config::Ping;
use packet::{DropReason, LinkId, PuntReason};

use crate::frames::{ACK, SYN, echo_reply, echo_request, ep};
use crate::rig::{
    A, B, GATEWAY, HOME, HOME_ADDRESS, R, R2, Rig, WAN_ADDRESS, WEB, config, from, mac, web_forward,
};

#[test]
fn a_forward_lets_a_connection_in_and_its_answers_out() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let (client, web) = (ep(R, 40000), ep(WAN_ADDRESS, WEB));
    let syn = rig.push(LinkId::WAN, &from(R).tcp(client, web, SYN, b""));
    let seen = syn.forwarded_to(HOME);
    assert_eq!((seen.endpoints(), seen.to_mac), ((client, ep(B, 80)), mac(B)));
    let answer = rig.push(HOME, &from(B).tcp(ep(B, 80), client, SYN | ACK, b""));
    let seen = answer.forwarded_to(LinkId::WAN);
    assert_eq!((seen.endpoints(), seen.to_mac), ((web, client), mac(GATEWAY)));
}

#[test]
fn inbound_to_an_unmapped_port_is_dropped() {
    let mut rig = Rig::new();
    let udp = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 4000), b""));
    udp.dropped_for(DropReason::NoMapping);
    let tcp = rig.push(LinkId::WAN, &from(R).tcp(ep(R, 1), ep(WAN_ADDRESS, 22), SYN, b""));
    tcp.dropped_for(DropReason::NoMapping);
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn req8_another_remote_endpoint_is_filtered_by_default() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    for stranger in [ep(R2, 1), ep(R, 2)] {
        let out = rig.push(LinkId::WAN, &from(R).udp(stranger, ep(WAN_ADDRESS, 5000), b""));
        out.dropped_for(DropReason::FilterDenied);
    }
}

#[test]
fn a_lan_with_open_filtering_admits_anyone_to_a_mapping() {
    let mut config = config();
    config.lans[0].filtering = config::Filtering::EndpointIndependent;
    let mut rig = Rig::of(config, Vec::new());
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    let out = rig.push(LinkId::WAN, &from(R2).udp(ep(R2, 9), ep(WAN_ADDRESS, 5000), b""));
    assert_eq!(out.forwarded_to(HOME).endpoints(), (ep(R2, 9), ep(A, 5000)));
}

#[test]
fn a_segment_that_is_no_first_syn_opens_nothing_from_outside() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let ack = from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), ACK, b"");
    rig.push(LinkId::WAN, &ack).dropped_for(DropReason::TcpNoSession);
}

#[test]
fn ping_to_the_wan_address_is_for_the_router_if_it_answers() {
    let mut rig = Rig::new();
    let frame = from(R).icmp(R, WAN_ADDRESS, echo_request(1));
    let out = rig.push(LinkId::WAN, &frame);
    assert_eq!((out.punt().reason, &out.punt().frame), (PuntReason::Local, &frame));
    let answer = rig.send_local(&from(R).icmp(WAN_ADDRESS, R, echo_reply(1)));
    let seen = answer.one().1;
    assert_eq!((seen.source.address, seen.destination.address), (WAN_ADDRESS, R));
    assert_eq!((seen.to_mac, rig.sessions()), (mac(GATEWAY), 0));
}

#[test]
fn ping_to_the_wan_address_is_dropped_if_the_router_is_to_be_silent() {
    let mut config = config();
    config.wan.ping = Ping::Silent;
    let mut rig = Rig::of(config, Vec::new());
    let out = rig.push(LinkId::WAN, &from(R).icmp(R, WAN_ADDRESS, echo_request(1)));
    out.dropped_for(DropReason::NoMapping);
}

#[test]
fn an_echo_reply_that_nobody_asked_for_is_dropped() {
    let mut rig = Rig::new();
    let out = rig.push(LinkId::WAN, &from(R).icmp(R, WAN_ADDRESS, echo_reply(1)));
    out.dropped_for(DropReason::NoMapping);
}

#[test]
fn a_lan_address_is_no_destination_on_the_wan() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    for inside in [ep(B, 80), ep(HOME_ADDRESS, 53)] {
        let out = rig.push(LinkId::WAN, &from(R).tcp(ep(R, 40000), inside, SYN, b""));
        out.dropped_for(DropReason::PolicyDenied);
    }
}

#[test]
fn a_lan_or_router_address_is_no_source_on_the_wan() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    for source in [A, HOME_ADDRESS] {
        let syn = from(R).tcp(ep(source, 40000), ep(WAN_ADDRESS, WEB), SYN, b"");
        rig.push(LinkId::WAN, &syn).dropped_for(DropReason::SourceInternal);
    }
    let land = from(R).tcp(ep(WAN_ADDRESS, 40000), ep(WAN_ADDRESS, WEB), SYN, b"");
    rig.push(LinkId::WAN, &land).dropped_for(DropReason::Land);
}
