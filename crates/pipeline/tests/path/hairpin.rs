//! From a LAN to a LAN by the WAN address (RFC 4787 §6).

use packet::{DropReason, LinkId};

use crate::frames::{ACK, SYN, ep};
use crate::rig::{
    A, B, G, GUEST, HOME, R, Rig, WAN_ADDRESS, WEB, config, from, mac, router_mac, web_forward,
};

#[test]
fn req9_a_forward_is_reached_from_inside_with_the_external_endpoint_as_source() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let (client, web) = (ep(A, 40000), ep(WAN_ADDRESS, WEB));
    let syn = rig.push(HOME, &from(A).tcp(client, web, SYN, b""));
    let seen = syn.forwarded_to(HOME);
    assert_eq!(seen.endpoints(), (ep(WAN_ADDRESS, 40000), ep(B, 80)));
    assert_eq!((seen.from_mac, seen.to_mac), (router_mac(HOME), mac(B)));

    let answer = from(B).tcp(ep(B, 80), ep(WAN_ADDRESS, 40000), SYN | ACK, b"");
    let seen = rig.push(HOME, &answer).forwarded_to(HOME);
    assert_eq!((seen.endpoints(), seen.to_mac), ((web, client), mac(A)));
    let data = rig.push(HOME, &from(A).tcp(client, web, ACK, b"GET /"));
    assert_eq!(data.forwarded_to(HOME).destination, ep(B, 80));
}

#[test]
fn a_forward_is_reached_from_another_lan() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let syn = from(G).tcp(ep(G, 40000), ep(WAN_ADDRESS, WEB), SYN, b"");
    let seen = rig.push(GUEST, &syn).forwarded_to(HOME);
    assert_eq!(seen.endpoints(), (ep(WAN_ADDRESS, 40000), ep(B, 80)));
}

#[test]
fn two_hosts_that_punch_towards_each_others_external_endpoint_meet() {
    let mut rig = Rig::new();
    for host in [A, B] {
        rig.push(
            HOME,
            &from(host).udp(ep(host, 5000 + u16::from(host.octets()[3])), ep(R, 1), b""),
        );
    }
    let (to_b, to_a) = (ep(WAN_ADDRESS, 5003), ep(WAN_ADDRESS, 5002));
    let first = rig.push(HOME, &from(A).udp(ep(A, 5002), to_b, b"1"));
    first.dropped_for(DropReason::FilterDenied);
    let second = rig.push(HOME, &from(B).udp(ep(B, 5003), to_a, b"2"));
    assert_eq!(second.forwarded_to(HOME).endpoints(), (to_b, ep(A, 5002)));
    let third = rig.push(HOME, &from(A).udp(ep(A, 5002), to_b, b"3"));
    assert_eq!(third.forwarded_to(HOME).endpoints(), (to_a, ep(B, 5003)));
}

#[test]
fn a_port_of_the_wan_address_without_mapping_is_the_routers_own() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(WAN_ADDRESS, 9), b""));
    assert_eq!(out.punt().ingress, HOME);
    assert_eq!((rig.sessions(), out.punt().reason), (0, packet::PuntReason::Local));
    assert_ne!(HOME, LinkId::WAN);
}
