//! What every host on a link may expect of its router.

use std::net::Ipv4Addr;

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{ArpOperation, Icmpv4Type};
use packet::header::{ipv4, seal_ipv4};
use packet::{LinkId, MacAddr, Protocol, PuntReason, SMALL_FRAME_MAX};

use crate::frames::{arp, mac, ping, ping_with, router_mac, see, udp};
use crate::rig::{HOME, HOME_ADDRESS, HOST, Rig, STATIC, WAN_ADDRESS};

#[test]
fn a_request_for_an_address_of_the_router_is_answered_on_its_link_only() {
    let mut rig = Rig::new(STATIC);
    rig.forget_outputs();
    let request = arp(ArpOperation::REQUEST, (mac(9), HOST), (MacAddr::ZERO, HOME_ADDRESS));
    rig.punt(PuntReason::Arp, HOME, &request);
    let reply = arp(ArpOperation::REPLY, (router_mac(1), HOME_ADDRESS), (mac(9), HOST));
    let (link, frame) = &rig.frames[0];
    assert_eq!((rig.frames.len(), *link), (1, HOME));
    assert_eq!(frame[..6], mac(9).0);
    assert_eq!(frame[6..42], reply[6..]);

    rig.forget_outputs();
    rig.punt(PuntReason::Arp, LinkId(2), &request);
    assert_eq!(rig.frames, []);
}

#[test]
fn the_addresses_of_all_links_are_announced_at_start() {
    let rig = Rig::new(STATIC);
    let links: Vec<LinkId> = rig.frames.iter().map(|(link, _)| *link).collect();
    assert_eq!(links, [LinkId::WAN, HOME, LinkId(2)]);
}

#[test]
fn a_ping_is_answered_from_the_address_that_was_asked() {
    let mut rig = Rig::new(STATIC);
    for asked in [HOME_ADDRESS, WAN_ADDRESS, Ipv4Addr::new(10, 0, 2, 1)] {
        rig.punt(PuntReason::Local, HOME, &ping(HOST, asked));
        let seen = see(&rig.packets.pop().unwrap());
        assert_eq!((seen.source.0, seen.destination.0), (asked, HOST));
        assert!(matches!(seen.icmp, Some(Icmpv4Type::EchoReply(echo)) if echo.id == 7));
        assert_eq!(seen.payload, b"are you there");
    }
    assert!(rig.packets.is_empty());
}

#[test]
fn a_protocol_that_the_router_does_not_speak_is_reported() {
    let mut rig = Rig::new(STATIC);
    for protocol in [Protocol::Esp, Protocol::Gre, Protocol::Sctp, Protocol::IpIp] {
        // Behind the ports and eight bytes more: an empty chunk, as SCTP would have.
        let body = [&[0, 0, 0, 0, 0, 0, 0, 4][..], &[1; 32]].concat();
        let mut frame = udp((HOST, 5000), (HOME_ADDRESS, 9), &body);
        frame[14 + ipv4::PROTOCOL] = protocol as u8;
        seal_ipv4(&mut frame, 14, 20);
        rig.punt(PuntReason::Local, HOME, &frame);
        let seen = see(&rig.packets.pop().unwrap());
        assert_eq!((seen.source.0, seen.destination.0), (HOME_ADDRESS, HOST));
        let unreachable = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Protocol);
        assert_eq!(seen.icmp, Some(unreachable), "{protocol}");
    }
}

#[test]
fn the_longest_ping_is_answered_and_small_buffers_lose_it_without_harm() {
    let payload: Vec<u8> = (0..65_507).map(|index| (index % 251) as u8).collect();
    let mut rig = Rig::new(STATIC);
    rig.punt(PuntReason::Local, HOME, &ping_with(HOST, HOME_ADDRESS, &payload));
    assert_eq!(see(&rig.packets.pop().unwrap()).payload, payload);

    let long = ping_with(HOST, HOME_ADDRESS, &payload);
    rig.stack.handle_punt(PuntReason::Local, HOME, None, &long, rig.now);
    assert!(rig.stack.transmit_space() > SMALL_FRAME_MAX);
    assert_eq!(rig.stack.poll_transmit(&mut [0; SMALL_FRAME_MAX]), None);
    rig.punt(PuntReason::Local, HOME, &ping(HOST, HOME_ADDRESS));
    assert_eq!(see(&rig.packets.pop().unwrap()).payload, b"are you there");
}

#[test]
fn a_closed_udp_port_is_reported_from_the_address_that_was_asked() {
    let mut rig = Rig::new(STATIC);
    rig.punt(PuntReason::Local, HOME, &udp((HOST, 5000), (WAN_ADDRESS, 123), b"time?"));
    let seen = see(&rig.packets.pop().unwrap());
    assert_eq!((seen.source.0, seen.destination.0), (WAN_ADDRESS, HOST));
    assert!(matches!(seen.icmp, Some(Icmpv4Type::DestinationUnreachable(_))));
}
