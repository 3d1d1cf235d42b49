//! Packets whose next hop is not known yet.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::{ArpOperation, Icmpv4Type, icmpv4::DestUnreachableHeader};
use forwarding::ArpMessage;
use packet::{LinkId, MacAddr, PuntReason};

use crate::frames::{arp, framed, mac, ping, router_mac, see, udp, unframed};
use crate::rig::{GATEWAY, HOME, HOME_ADDRESS, HOST, Rig, STATIC, WAN_ADDRESS};

const REMOTE: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 7), 80);
const DEAD: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);
const GUEST: LinkId = LinkId(2);

fn packet() -> Vec<u8> {
    udp((HOST, 5000), REMOTE, b"hello")
}

#[test]
fn a_packet_waits_for_its_next_hop_and_comes_again_unchanged() {
    let mut rig = Rig::new(STATIC);
    rig.forget_outputs();
    rig.punt_unresolved(HOME, (LinkId::WAN, GATEWAY), &packet());
    let (link, frame) = rig.frames.pop().unwrap();
    let asked = ArpMessage::parse(&frame).unwrap();
    assert_eq!(link, LinkId::WAN);
    assert_eq!((asked.sender, asked.target), (WAN_ADDRESS, GATEWAY));
    assert!(rig.again.is_empty());

    let reply = arp(ArpOperation::REPLY, (mac(1), GATEWAY), (router_mac(0), WAN_ADDRESS));
    rig.punt(PuntReason::Arp, LinkId::WAN, &reply);
    assert_eq!(rig.again, [(HOME, packet())]);
    assert!(rig.stack.neighbours().lookup(LinkId::WAN, GATEWAY).is_some());
}

#[test]
fn a_packet_that_came_in_fragments_waits_like_any_and_its_sender_hears_of_it() {
    let mut rig = Rig::new(STATIC);
    let long = udp((HOST, 5000), (GATEWAY, 80), &[7; 20_000]);
    rig.punt_unresolved(HOME, (LinkId::WAN, GATEWAY), &long);
    let reply = arp(ArpOperation::REPLY, (mac(1), GATEWAY), (router_mac(0), WAN_ADDRESS));
    rig.punt(PuntReason::Arp, LinkId::WAN, &reply);
    assert_eq!(rig.again, [(HOME, long)]);
    rig.forget_outputs();

    let lost = udp((HOST, 5000), (DEAD, 80), &[7; 20_000]);
    rig.punt_unresolved(HOME, (GUEST, DEAD), &lost);
    rig.advance(Duration::from_secs(10));
    let error = rig.frames.iter().find(|(_, frame)| ArpMessage::parse(frame).is_none());
    let unreachable = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host);
    assert_eq!(see(&error.unwrap().1).icmp, Some(unreachable));
}

#[test]
fn the_sender_hears_of_a_neighbour_that_does_not_answer() {
    let mut rig = Rig::new(STATIC);
    rig.forget_outputs();
    let lost = udp((HOST, 5000), (DEAD, 80), b"hello");
    rig.punt_unresolved(HOME, (GUEST, DEAD), &lost);
    rig.advance(Duration::from_secs(10));
    let (requests, errors): (Vec<_>, Vec<_>) =
        rig.frames.iter().partition(|(_, frame)| ArpMessage::parse(frame).is_some());
    let requests = requests.iter().filter(|(_, frame)| {
        ArpMessage::parse(frame).is_some_and(|arp| arp.target == DEAD && arp.sender != DEAD)
    });
    assert_eq!(requests.count(), 3);
    assert!(rig.again.is_empty());

    let [(HOME, error)] = errors[..] else { panic!("{errors:?}") };
    assert_eq!((&error[..6], &error[6..12]), (&mac(9).0[..], &router_mac(1).0[..]));
    let seen = see(error);
    assert_eq!((seen.source.0, seen.destination.0), (HOME_ADDRESS, HOST));
    let unreachable = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host);
    assert_eq!(seen.icmp, Some(unreachable));
    assert_eq!(seen.payload, unframed(&lost));
}

#[test]
fn a_remote_sender_hears_from_the_wan_address() {
    let mut rig = Rig::new(STATIC);
    rig.forget_outputs();
    let lost = udp(REMOTE, (WAN_ADDRESS, 8080), b"hello");
    rig.punt_unresolved(LinkId::WAN, (GUEST, DEAD), &lost);
    rig.advance(Duration::from_secs(10));
    let error = rig.frames.iter().find(|(_, frame)| frame[12..14] == [8, 0]).unwrap();
    assert_eq!(error.0, LinkId::WAN);
    assert_eq!(see(&error.1).source.0, WAN_ADDRESS);
    assert_eq!(see(&error.1).destination.0, REMOTE.0);
}

#[test]
fn nobody_hears_about_an_icmp_error_or_a_packet_of_the_router_itself() {
    let mut rig = Rig::new(STATIC);
    rig.punt(PuntReason::Local, HOME, &udp((HOST, 5000), (WAN_ADDRESS, 123), b"time?"));
    let error = framed(unframed(&rig.packets.pop().unwrap()));
    rig.forget_outputs();
    rig.punt_unresolved(HOME, (GUEST, DEAD), &error);
    rig.punt_unresolved(LinkId::LOCAL, (GUEST, DEAD), &packet());
    rig.advance(Duration::from_secs(10));
    assert!(rig.frames.iter().all(|(_, frame)| ArpMessage::parse(frame).is_some()));
}

#[test]
fn a_scan_of_a_dead_subnet_is_answered_at_a_limited_rate() {
    let mut rig = Rig::new(STATIC);
    rig.forget_outputs();
    for last in 2..250 {
        let dead = Ipv4Addr::new(10, 0, 2, last);
        rig.punt_unresolved(HOME, (GUEST, dead), &ping(HOST, dead));
    }
    rig.advance(Duration::from_secs(4));
    let errors = rig.frames.iter().filter(|(_, frame)| frame[12..14] == [8, 0]).count();
    assert_eq!(errors, 16);
    rig.punt_unresolved(HOME, (GUEST, DEAD), &ping(HOST, DEAD));
    rig.advance(Duration::from_secs(10));
    let errors = rig.frames.iter().filter(|(_, frame)| frame[12..14] == [8, 0]).count();
    assert_eq!(errors, 17);
}

#[test]
fn a_next_hop_that_is_known_already_gives_the_packet_back_at_once() {
    let mut rig = Rig::new(STATIC);
    rig.learn(GUEST, (mac(7), DEAD), Ipv4Addr::new(10, 0, 2, 1));
    rig.punt_unresolved(HOME, (GUEST, DEAD), &packet());
    assert_eq!(rig.again, [(HOME, packet())]);
    assert_ne!(mac(7), MacAddr::ZERO);
}
