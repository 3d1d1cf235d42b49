//! ICMP errors: those that we originate, and those that pass.

use etherparse::{Icmpv4Type, icmpv4};
use icmpv4::DestUnreachableHeader as Unreachable;
use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId};
use pipeline::Verdict;

use crate::frames::{ACK, Carried, SYN, echo_request, ep, see};
use crate::rig::{
    A, B, HOME, HOME_ADDRESS, HOP, O, OFFICE, R, Rig, WAN_ADDRESS, WEB, config, from, mac,
    web_forward,
};

const EXCEEDED: Icmpv4Type =
    Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit);

/// The IP packet of the one frame that left.
fn packet_of(out: &crate::rig::Outcome) -> Vec<u8> {
    see(&out.sent[0].1);
    out.sent[0].1[14..].to_vec()
}

#[test]
fn a_ttl_that_runs_out_is_answered_from_the_lan_address() {
    let mut rig = Rig::new();
    for payload in [b"".as_slice(), &[7; 1000]] {
        let mut way = from(A);
        way.ttl = 1;
        let out = rig.push(HOME, &way.udp(ep(A, 33434), ep(R, 33434), payload));
        assert_eq!(out.verdict, Verdict::Reply(ErrorKind::TimeExceeded));
        let (link, seen) = out.one();
        assert_eq!(
            (link, seen.to_mac, seen.carried.clone()),
            (HOME, mac(A), Carried::Icmp(EXCEEDED))
        );
        assert_eq!((seen.source.address, seen.destination.address), (HOME_ADDRESS, A));
        assert_eq!(seen.embedded(), (ep(A, 33434), ep(R, 33434)));
        assert!(out.sent[0].1.len() <= 14 + 576);
    }
}

#[test]
fn a_ttl_that_runs_out_on_the_way_in_is_answered_from_the_wan_address() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let mut way = from(R);
    way.ttl = 1;
    let out = rig.push(LinkId::WAN, &way.tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), SYN, b""));
    let (link, seen) = out.one();
    assert_eq!((link, seen.source.address), (LinkId::WAN, WAN_ADDRESS));
    assert_eq!(seen.embedded(), (ep(R, 40000), ep(WAN_ADDRESS, WEB)));
}

#[test]
fn req4787_13_a_packet_too_big_for_the_egress_is_answered_with_its_mtu() {
    let mut rig = Rig::new();
    rig.runtime.links[0].mtu = 1400;
    rig.publish();
    let mut way = from(A);
    way.dont_fragment = true;
    let big = way.udp(ep(A, 5000), ep(R, 1), &[0; 1400]);
    let out = rig.push(HOME, &big);
    assert_eq!(out.verdict, Verdict::Reply(ErrorKind::FragmentationNeeded(1400)));
    let needed = Unreachable::FragmentationNeeded { next_hop_mtu: 1400 };
    let expected = Icmpv4Type::DestinationUnreachable(needed);
    assert_eq!(out.one().1.carried, Carried::Icmp(expected));
}

#[test]
fn no_error_is_sent_about_an_error_or_a_broadcast_frame() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    let mut way = from(A);
    way.ttl = 1;
    let error = way.icmp_about(A, R, EXCEEDED, &packet_of(&out));
    rig.push(HOME, &error).dropped_for(DropReason::TtlExpired);
}

#[test]
fn errors_are_rate_limited() {
    let mut rig = Rig::new();
    let mut way = from(A);
    way.ttl = 1;
    let frame = way.udp(ep(A, 33434), ep(R, 33434), b"");
    let answered = (0..200).filter(|_| !rig.push(HOME, &frame).sent.is_empty()).count();
    assert!((1..100).contains(&answered), "{answered}");
    rig.push(HOME, &frame).dropped_for(DropReason::IcmpRateLimited);
    rig.advance(std::time::Duration::from_secs(1));
    rig.push(HOME, &frame).one();
}

#[test]
fn an_error_from_a_router_on_the_way_reaches_the_host_translated() {
    let mut rig = Rig::new();
    let ways = [
        rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 33434), b"probe")),
        rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, 80), SYN, b"")),
    ];
    for (out, port) in ways.iter().zip([33434, 80]) {
        let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, EXCEEDED, &packet_of(out));
        let seen = rig.push(LinkId::WAN, &error).forwarded_to(HOME);
        assert_eq!((seen.source.address, seen.destination.address), (HOP, A));
        assert_eq!(seen.embedded(), (ep(A, 5000), ep(R, port)));
        assert_eq!(seen.to_mac, mac(A));
    }
}

#[test]
fn an_error_about_a_ping_reaches_the_host_with_its_own_identifier() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(B).icmp(B, R, echo_request(7)));
    let out = rig.push(HOME, &from(A).icmp(A, R, echo_request(7)));
    assert_ne!(out.one().1.echo_id(), 7);
    let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, EXCEEDED, &packet_of(&out));
    let seen = rig.push(LinkId::WAN, &error).forwarded_to(HOME);
    assert_eq!((seen.destination.address, seen.embedded()), (A, (ep(A, 7), ep(R, 0))));
}

#[test]
fn an_error_that_quotes_eight_bytes_of_transport_is_translated() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, 80), SYN, b""));
    let quote = &packet_of(&out)[..28];
    let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, EXCEEDED, quote);
    let seen = rig.push(LinkId::WAN, &error).forwarded_to(HOME);
    assert_eq!(seen.embedded(), (ep(A, 5000), ep(R, 80)));
}

#[test]
fn an_error_from_inside_leaves_with_the_wan_address() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let out = rig.push(LinkId::WAN, &from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), SYN, b""));
    let refused = Icmpv4Type::DestinationUnreachable(Unreachable::Port);
    let error = from(B).icmp_about(B, R, refused, &packet_of(&out));
    let seen = rig.push(HOME, &error).forwarded_to(LinkId::WAN);
    assert_eq!((seen.source.address, seen.destination.address), (WAN_ADDRESS, R));
    assert_eq!(seen.embedded(), (ep(R, 40000), ep(WAN_ADDRESS, WEB)));
}

#[test]
fn an_error_about_a_hairpinned_packet_reaches_its_sender() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let out = rig.push(HOME, &from(A).tcp(ep(A, 40000), ep(WAN_ADDRESS, WEB), SYN, b""));
    let refused = Icmpv4Type::DestinationUnreachable(Unreachable::Port);
    let error = from(B).icmp_about(B, WAN_ADDRESS, refused, &packet_of(&out));
    let seen = rig.push(HOME, &error).forwarded_to(HOME);
    assert_eq!((seen.source.address, seen.destination.address), (WAN_ADDRESS, A));
    assert_eq!(seen.embedded(), (ep(A, 40000), ep(WAN_ADDRESS, WEB)));
}

#[test]
fn an_error_about_a_routed_flow_comes_back_from_a_lan_that_may_open_none() {
    let mut rig = Rig::new();
    let out = rig.push(OFFICE, &from(O).udp(ep(O, 5000), ep(A, 9), b"anyone?"));
    let closed = Icmpv4Type::DestinationUnreachable(Unreachable::Port);
    let error = from(A).icmp_about(A, O, closed, &packet_of(&out));
    let seen = rig.push(HOME, &error).forwarded_to(OFFICE);
    assert_eq!((seen.source.address, seen.destination.address), (A, O));
    assert_eq!(seen.embedded(), (ep(O, 5000), ep(A, 9)));
}

#[test]
fn an_error_about_nothing_that_we_sent_is_dropped() {
    let mut rig = Rig::new();
    let quote = &from(A).udp(ep(WAN_ADDRESS, 5000), ep(R, 1), b"")[14..];
    let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, EXCEEDED, quote);
    rig.push(LinkId::WAN, &error).dropped_for(DropReason::IcmpNoSession);
    let broken = from(HOP).icmp_about(HOP, WAN_ADDRESS, EXCEEDED, &quote[..20]);
    rig.push(LinkId::WAN, &broken).dropped_for(DropReason::IcmpEmbedded);
}

#[test]
fn an_error_from_another_link_than_its_flows_is_spoofed() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let out = rig.push(LinkId::WAN, &from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), SYN, b""));
    let guest = crate::rig::G;
    let refused = Icmpv4Type::DestinationUnreachable(Unreachable::Port);
    let error = from(guest).icmp_about(guest, R, refused, &packet_of(&out));
    rig.push(crate::rig::GUEST, &error).dropped_for(DropReason::SourceSpoofed);
}

#[test]
fn req10_an_error_ends_no_session() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, 80), SYN, b""));
    let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, EXCEEDED, &packet_of(&out));
    rig.push(LinkId::WAN, &error);
    assert_eq!(rig.sessions(), 1);
    let answer = from(R).tcp(ep(R, 80), ep(WAN_ADDRESS, 5000), SYN | ACK, b"");
    rig.push(LinkId::WAN, &answer).forwarded_to(HOME);
}

#[test]
fn a_packet_that_must_not_go_on_opens_no_flow() {
    let mut rig = Rig::new();
    let mut way = from(A);
    way.ttl = 1;
    rig.push(HOME, &way.udp(ep(A, 33434), ep(R, 33434), b""));
    rig.runtime.links[0].mtu = 1400;
    rig.publish();
    let mut way = from(A);
    way.dont_fragment = true;
    rig.push(HOME, &way.udp(ep(A, 5000), ep(R, 9), &[0; 1400]));
    let stats = rig.tables.stats();
    assert_eq!((stats.sessions, stats.mappings), (0, 0));
}
