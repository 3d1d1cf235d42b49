//! SYNs from outside that nobody asked for (RFC 5382 REQ-4).

use std::time::Duration;

use config::UnsolicitedSyn;
use etherparse::{Icmpv4Type, icmpv4};
use packet::{DropReason, LinkId};

use crate::frames::{ACK, Carried, SYN, ep, see};
use crate::rig::{A, GATEWAY, HOME, R, Rig, WAN_ADDRESS, config, from, mac};

fn answering() -> Rig {
    let mut config = config();
    config.nat.unsolicited_syn = UnsolicitedSyn::Answer;
    Rig::of(config, Vec::new())
}

fn syn(port: u16) -> Vec<u8> {
    from(R).tcp(ep(R, port), ep(WAN_ADDRESS, 5000), SYN, b"")
}

/// What the router says of its own after so many milliseconds more.
fn after(rig: &mut Rig, millis: u64) -> Vec<(LinkId, Vec<u8>)> {
    rig.advance(Duration::from_millis(millis));
    rig.worker.answer_unsolicited(&mut rig.egress, &rig.snapshot, rig.now);
    rig.flush()
}

#[test]
fn req5382_4_an_unsolicited_syn_has_no_answer_at_5_9_seconds_and_one_at_6_1() {
    let mut rig = answering();
    rig.push(LinkId::WAN, &syn(4000)).dropped_for(DropReason::NoMapping);
    assert_eq!(after(&mut rig, 5900), []);
    let sent = after(&mut rig, 200);
    assert_eq!((sent.len(), sent[0].0), (1, LinkId::WAN));
    let seen = see(&sent[0].1);
    let closed = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    assert_eq!((seen.carried.clone(), seen.to_mac), (Carried::Icmp(closed), mac(GATEWAY)));
    assert_eq!((seen.source.address, seen.destination.address), (WAN_ADDRESS, R));
    assert_eq!(seen.embedded(), (ep(R, 4000), ep(WAN_ADDRESS, 5000)));
    assert_eq!(after(&mut rig, 10_000), []);
}

#[test]
fn req5382_4_a_syn_of_the_same_connection_from_inside_takes_the_answer_back() {
    let mut rig = answering();
    rig.push(LinkId::WAN, &syn(4000)).dropped_for(DropReason::NoMapping);
    rig.advance(Duration::from_millis(5900));
    let own = from(A).tcp(ep(A, 5000), ep(R, 4000), SYN, b"");
    rig.push(HOME, &own).forwarded_to(LinkId::WAN);
    assert_eq!(after(&mut rig, 200), []);
    rig.push(LinkId::WAN, &syn(4000)).forwarded_to(HOME);
    let both = from(A).tcp(ep(A, 5000), ep(R, 4000), SYN | ACK, b"");
    rig.push(HOME, &both).forwarded_to(LinkId::WAN);
}

#[test]
fn req5382_4_a_syn_that_a_filter_refuses_is_answered_too() {
    let mut rig = answering();
    rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, 80), SYN, b""));
    rig.push(LinkId::WAN, &syn(4000)).dropped_for(DropReason::FilterDenied);
    assert_eq!(after(&mut rig, 6100).len(), 1);
}

#[test]
fn req5382_4a_by_default_there_is_no_answer_ever() {
    let mut rig = Rig::new();
    rig.push(LinkId::WAN, &syn(4000)).dropped_for(DropReason::NoMapping);
    assert_eq!(rig.worker.poll_timeout(), None);
    assert_eq!(after(&mut rig, 6100), []);
}

#[test]
fn a_syn_that_is_sent_again_is_answered_once_and_nothing_but_a_syn_is() {
    let mut rig = answering();
    for _ in 0..3 {
        rig.push(LinkId::WAN, &syn(4000));
        rig.advance(Duration::from_secs(1));
    }
    let ack = from(R).tcp(ep(R, 1), ep(WAN_ADDRESS, 5000), ACK, b"");
    rig.push(LinkId::WAN, &ack).dropped_for(DropReason::NoMapping);
    rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), b""));
    assert_eq!(after(&mut rig, 3100).len(), 1);
    assert_eq!(after(&mut rig, 10_000), []);
}

#[test]
fn a_scan_is_answered_within_bounds() {
    let mut rig = answering();
    for port in 1..2000 {
        rig.push(LinkId::WAN, &syn(port)).dropped_for(DropReason::NoMapping);
    }
    let answers = after(&mut rig, 6100).len();
    assert_eq!(answers, 50, "the burst of the limit on errors");
    assert_eq!(rig.counters.dropped(DropReason::IcmpRateLimited), 256 - 50);
}

#[test]
fn an_answer_from_an_address_that_the_router_no_longer_has_is_not_sent() {
    let mut rig = answering();
    rig.push(LinkId::WAN, &syn(4000));
    let moved = std::net::Ipv4Addr::new(198, 51, 100, 3);
    rig.runtime.wan = Some(crate::rig::wan_at(moved, GATEWAY));
    rig.publish();
    assert_eq!(after(&mut rig, 6100), []);
}
