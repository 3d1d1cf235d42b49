//! Connections from outside before they are open, resets, and what one host may take.

use config::{Action, Rule, RuleEnd};
use etherparse::TcpOptionElement::MaximumSegmentSize;
use etherparse::{Icmpv4Type, icmpv4};
use packet::icmp::ErrorKind;
use packet::{DropReason, Endpoint, LinkId};
use pipeline::Verdict;

use crate::frames::{ACK, Carried, RST, SYN, TTL, ep};
use crate::rig::{
    A, B, GATEWAY, HOME, HOP, O, OFFICE, R, R2, Rig, WAN_ADDRESS, WEB, config, from, mac,
    web_forward,
};

const CLIENT: Endpoint = Endpoint::new(R, 40000);
const WEB_OUTSIDE: Endpoint = Endpoint::new(WAN_ADDRESS, WEB);
const SERVER: Endpoint = Endpoint::new(B, 80);

fn rig() -> Rig {
    Rig::of(config(), vec![web_forward()])
}

fn syn() -> Vec<u8> {
    from(R).tcp(CLIENT, WEB_OUTSIDE, SYN, b"")
}

fn answer() -> Vec<u8> {
    from(B).tcp_at(SERVER, CLIENT, SYN | ACK, (5000, 1001))
}

#[test]
fn a_syn_flood_from_the_wan_costs_no_session() {
    let mut rig = rig();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    let before = rig.tables.stats();
    for port in 1..3000 {
        let out = rig.push(LinkId::WAN, &from(R).tcp(ep(R, port), WEB_OUTSIDE, SYN, b""));
        out.forwarded_to(HOME);
    }
    assert_eq!(rig.tables.stats(), before);
    rig.push(HOME, &from(A).udp(ep(A, 5001), ep(R, 1), b"")).forwarded_to(LinkId::WAN);
    assert_eq!((rig.counters.opened.load(), rig.counters.relayed.load()), (2, 2999));
}

#[test]
fn a_connection_opens_with_its_third_segment_on_which_data_may_ride() {
    let mut rig = rig();
    let seen = rig.push(LinkId::WAN, &syn()).forwarded_to(HOME);
    assert_eq!((seen.endpoints(), seen.to_mac, seen.ttl), ((CLIENT, SERVER), mac(B), TTL - 1));
    let seen = rig.push(HOME, &answer()).forwarded_to(LinkId::WAN);
    assert_eq!((seen.endpoints(), seen.to_mac), ((WEB_OUTSIDE, CLIENT), mac(GATEWAY)));
    assert_eq!(rig.sessions(), 0);
    let wrong = from(R).tcp(CLIENT, WEB_OUTSIDE, ACK, b"GET /");
    rig.push(LinkId::WAN, &wrong).dropped_for(DropReason::TcpNoSession);
    let mut third = from(R).tcp(CLIENT, WEB_OUTSIDE, ACK, b"GET /");
    acknowledge(&mut third, 5001);
    let seen = rig.push(LinkId::WAN, &third).forwarded_to(HOME);
    assert_eq!((seen.endpoints(), seen.payload.as_slice()), ((CLIENT, SERVER), &b"GET /"[..]));
    assert_eq!(rig.sessions(), 1);
    let reply = from(B).tcp(SERVER, CLIENT, ACK, b"200");
    assert_eq!(rig.push(HOME, &reply).forwarded_to(LinkId::WAN).source, WEB_OUTSIDE);
}

/// Changes the acknowledgement number of a segment, and its checksum by the difference.
fn acknowledge(frame: &mut [u8], number: u32) {
    use packet::checksum::{Delta, apply};
    use packet::header::{put_u16, put_u32, u16_at, u32_at};
    let delta = Delta::long(u32_at(frame, 42), number);
    put_u32(frame, 42, number);
    let sum = apply(u16_at(frame, 50), delta);
    put_u16(frame, 50, sum);
}

#[test]
fn what_passes_without_a_session_is_clamped_checked_and_answered_like_the_rest() {
    let mut rig = rig();
    rig.runtime.links[0].mtu = 1400;
    rig.publish();
    let options = [MaximumSegmentSize(1460)];
    let seen = rig.push(LinkId::WAN, &from(R).tcp_with(CLIENT, WEB_OUTSIDE, SYN, &options, b""));
    let seen = seen.forwarded_to(HOME);
    assert!(matches!(seen.carried, Carried::Tcp { mss: Some(1360), .. }), "{seen:?}");
    let seen = rig.push(HOME, &from(B).tcp_with(SERVER, CLIENT, SYN | ACK, &options, b""));
    let seen = seen.forwarded_to(LinkId::WAN);
    assert!(matches!(seen.carried, Carried::Tcp { mss: Some(1360), .. }), "{seen:?}");
    let mut way = from(B);
    way.ttl = 1;
    let expired = rig.push(HOME, &way.tcp(SERVER, CLIENT, SYN | ACK, b""));
    assert_eq!(expired.verdict, Verdict::Reply(ErrorKind::TimeExceeded));
    way.ttl = 64;
    way.dont_fragment = true;
    let big = rig.push(HOME, &way.tcp(SERVER, CLIENT, ACK, &[0; 1380]));
    assert_eq!(big.verdict, Verdict::Reply(ErrorKind::FragmentationNeeded(1400)));
}

#[test]
fn an_answer_passes_whatever_the_policy_says_of_flows_that_the_server_opens() {
    let mut config = config();
    let home = RuleEnd::Lan("home".to_owned());
    config.policy.rules.push(Rule::between(Action::Refuse, home, RuleEnd::Wan));
    let mut rig = Rig::of(config, vec![web_forward()]);
    let own = rig.push(HOME, &from(B).tcp(ep(B, 5000), ep(R, 80), SYN, b""));
    assert_eq!(own.verdict, Verdict::Reset);
    rig.accept(CLIENT);
    assert_eq!(rig.sessions(), 1);
}

#[test]
fn an_answer_from_another_link_than_the_servers_is_spoofed() {
    let mut rig = rig();
    rig.push(LinkId::WAN, &syn());
    let mut way = from(O);
    way.from_mac = mac(B);
    rig.push(OFFICE, &way.tcp(SERVER, CLIENT, SYN | ACK, b""))
        .dropped_for(DropReason::SourceSpoofed);
}

#[test]
fn a_syn_waits_for_its_neighbour_untouched() {
    let offloads = packet::Offloads::ALL;
    let mut rig = Rig::without_neighbours(config(), vec![web_forward()], offloads);
    rig.learn(LinkId::WAN, GATEWAY);
    let out = rig.push(LinkId::WAN, &syn());
    assert_eq!(out.verdict, Verdict::Resolve(HOME, B));
    let punt = out.punt().clone();
    assert_eq!(punt.frame, syn());
    for released in rig.resolve(&punt) {
        rig.take_again(&released).one();
    }
    rig.push(HOME, &answer()).forwarded_to(LinkId::WAN);
}

#[test]
fn errors_about_a_handshake_reach_the_client_and_the_server() {
    let mut rig = rig();
    let syn = rig.push(LinkId::WAN, &syn());
    let refused = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let error = from(B).icmp_about(B, R, refused, &syn.sent[0].1[14..]);
    let seen = rig.push(HOME, &error).forwarded_to(LinkId::WAN);
    assert_eq!((seen.source.address, seen.embedded()), (WAN_ADDRESS, (CLIENT, WEB_OUTSIDE)));
    let answer = rig.push(HOME, &answer());
    let small = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1300 };
    let small = Icmpv4Type::DestinationUnreachable(small);
    let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, small, &answer.sent[0].1[14..]);
    let seen = rig.push(LinkId::WAN, &error).forwarded_to(HOME);
    assert_eq!((seen.source.address, seen.destination.address), (HOP, B));
    assert_eq!(seen.embedded(), (SERVER, CLIENT));
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn req7857_2_2_a_forged_reset_is_dropped_and_counted_and_ends_nothing() {
    let mut rig = rig();
    rig.accept(CLIENT);
    let forged = from(R).tcp_at(CLIENT, WEB_OUTSIDE, RST, (900_000, 0));
    rig.push(LinkId::WAN, &forged).dropped_for(DropReason::TcpResetOutOfWindow);
    let back = from(B).tcp_at(SERVER, CLIENT, RST, (900_000, 0));
    rig.push(HOME, &back).dropped_for(DropReason::TcpResetOutOfWindow);
    assert_eq!(rig.counters.dropped(DropReason::TcpResetOutOfWindow), 2);
    let real = from(R).tcp_at(CLIENT, WEB_OUTSIDE, RST, (1001, 0));
    rig.push(LinkId::WAN, &real).forwarded_to(HOME);
    assert_eq!(rig.sessions(), 1);
}

#[test]
fn req6888_5_a_host_beyond_its_sessions_or_its_rate_is_refused_by_name() {
    let mut config = config();
    config.nat.sessions_per_host_max = Some(64);
    let mut rig = Rig::of(config, Vec::new());
    let flow = |port| from(A).udp(ep(A, 5000), ep(R, port), b"");
    for port in 1..=64 {
        rig.push(HOME, &flow(port)).forwarded_to(LinkId::WAN);
    }
    rig.push(HOME, &flow(65)).dropped_for(DropReason::HostSessions);
    rig.push(HOME, &flow(1)).forwarded_to(LinkId::WAN);
    rig.push(HOME, &from(B).udp(ep(B, 1), ep(R, 1), b"")).forwarded_to(LinkId::WAN);
    rig.config.nat.sessions_per_host_max = None;
    (rig.config.nat.new_flows_per_host, rig.config.nat.new_flows_burst) = (10, 10);
    rig.publish();
    rig.advance(std::time::Duration::from_secs(1));
    let opened = (100..200)
        .filter(|port| rig.push(HOME, &flow(*port)).verdict == Verdict::Forward(LinkId::WAN));
    assert_eq!(opened.count(), 10);
    assert_eq!(rig.counters.dropped(DropReason::HostRate), 90);
    let other = from(R2).udp(ep(R2, 1), ep(WAN_ADDRESS, 5000), b"");
    rig.push(LinkId::WAN, &other).dropped_for(DropReason::FilterDenied);
}
