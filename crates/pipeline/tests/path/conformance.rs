//! Requirements on the whole path that no other file here is about: see `crates/nat/RFC.md`.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::{Icmpv4Type, icmpv4};
use icmpv4::{DestUnreachableHeader as Unreachable, TimestampMessage};
use nat::Forward;
use packet::{DropReason, LinkId, Protocol};
use pipeline::Verdict;

use crate::frames::{ACK, SYN, echo_request, ep, see};
use crate::rig::{A, B, GATEWAY, HOME, HOP, R, Rig, WAN_ADDRESS, config, from, wan_at};

/// An ICMP message whose second word is zero.
fn raw(kind: u8, code: u8) -> Icmpv4Type {
    Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [0; 4] }
}

#[test]
fn req4787_10_req5382_6_payloads_that_name_addresses_pass_as_they_are() {
    let mut rig = Rig::new();
    let commands: [(u16, &[u8]); 3] = [
        (21, b"PORT 10,0,1,2,19,136\r\n"),
        (5060, b"REGISTER sip:x SIP/2.0\r\nContact: <sip:a@10.0.1.2:5000>\r\n\r\n"),
        (1723, b"\x00\x9c\x00\x01\x1a\x2b\x3c\x4d"),
    ];
    for (port, payload) in commands {
        rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, port), SYN, b""));
        let tcp = rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, port), ACK, payload));
        assert_eq!(tcp.forwarded_to(LinkId::WAN).payload, payload);
        let udp = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, port), payload));
        assert_eq!(udp.forwarded_to(LinkId::WAN).payload, payload);
        let late = rig.push(LinkId::WAN, &from(R).tcp(ep(R, 20), ep(WAN_ADDRESS, 5000), SYN, b""));
        assert!(late.sent.is_empty(), "nothing was opened for the data connection");
    }
}

#[test]
fn req4787_12_req5382_10_req5508_6_no_icmp_message_of_any_type_ends_or_refreshes_a_mapping() {
    let mut rig = Rig::new();
    let sent = [
        rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 9), b"")),
        rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, 80), SYN, b"")),
        rig.push(HOME, &from(A).icmp(A, R, echo_request(7))),
    ]
    .map(|out| out.sent[0].1[14..].to_vec());
    rig.advance(Duration::from_secs(30));
    for kind in 0..=u8::MAX {
        for code in [0, 1, 3, 4, 13, 255] {
            for about in &sent {
                let message = from(HOP).icmp_about(R, WAN_ADDRESS, raw(kind, code), about);
                rig.push(LinkId::WAN, &message);
            }
        }
    }
    assert_eq!(rig.sessions(), 3, "none ended");
    let back = rig.push(LinkId::WAN, &from(R).udp(ep(R, 9), ep(WAN_ADDRESS, 5000), b""));
    back.forwarded_to(HOME);
    // The shortest lifetimes, counted from the last packet of the host.
    for (seconds, left) in [(29, 3), (2, 2), (179, 2), (2, 1), (58, 1), (2, 0)] {
        rig.advance(Duration::from_secs(seconds));
        rig.worker.expire(&rig.snapshot, rig.now);
        assert_eq!(rig.sessions(), left, "none was refreshed");
    }
}

#[test]
fn req5508_1_req5508_10b_timestamp_queries_and_their_replies_pass() {
    let mut rig = Rig::new();
    let times = |id, originate_timestamp| TimestampMessage {
        id,
        seq: 1,
        originate_timestamp,
        receive_timestamp: 0,
        transmit_timestamp: 0,
    };
    rig.push(HOME, &from(B).icmp(B, R, echo_request(7))).forwarded_to(LinkId::WAN);
    let asked = from(A).icmp_about(A, R, Icmpv4Type::TimestampRequest(times(7, 99)), b"");
    let out = rig.push(HOME, &asked);
    let id = match see(&out.sent[0].1).carried {
        crate::frames::Carried::Icmp(Icmpv4Type::TimestampRequest(asked)) => asked.id,
        other => panic!("{other:?}"),
    };
    assert_ne!(id, 7, "another host has that identifier");
    let reply = Icmpv4Type::TimestampReply(times(id, 99));
    let back = rig.push(LinkId::WAN, &from(R).icmp_about(R, WAN_ADDRESS, reply, b""));
    let seen = back.forwarded_to(HOME);
    assert_eq!(seen.destination.address, A);
    let restored = Icmpv4Type::TimestampReply(times(7, 99));
    assert_eq!(seen.carried, crate::frames::Carried::Icmp(restored));
}

#[test]
fn req5508_10a_every_code_of_unreachable_and_time_exceeded_is_translated() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 9), b""));
    let about = &out.sent[0].1[14..];
    for (kind, codes) in [(3, 16), (11, 2)] {
        for code in 0..codes {
            let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, raw(kind, code), about);
            let out = rig.push(LinkId::WAN, &error);
            assert_eq!(out.verdict, Verdict::Forward(HOME), "type {kind} code {code}");
            let seen = &out.sent[0].1[34..];
            assert_eq!((seen[0], seen[1]), (kind, code), "type and code stay (REQ-4)");
        }
    }
}

#[test]
fn req5508_10b_a_parameter_problem_is_translated() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 9), b""));
    let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, raw(12, 0), &out.sent[0].1[14..]);
    let seen = rig.push(LinkId::WAN, &error).forwarded_to(HOME);
    assert_eq!(seen.embedded(), (ep(A, 5000), ep(R, 9)));
}

#[test]
fn req5508_10c_source_quench_and_information_requests_are_dropped_both_ways() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 9), b""));
    let about = out.sent[0].1[14..].to_vec();
    for kind in [4, 15, 16] {
        let inward = from(HOP).icmp_about(HOP, WAN_ADDRESS, raw(kind, 0), &about);
        rig.push(LinkId::WAN, &inward).dropped_for(DropReason::IcmpUnsupported);
        let outward = from(A).icmp_about(A, R, raw(kind, 0), b"");
        rig.push(HOME, &outward).dropped_for(DropReason::IcmpUnsupported);
    }
}

#[test]
fn req5508_11_any_other_icmp_type_is_a_counted_drop() {
    let mut rig = Rig::new();
    let handled = [0, 3, 8, 11, 12, 13, 14];
    let others: Vec<u8> = (0..=u8::MAX).filter(|kind| !handled.contains(kind)).collect();
    for kind in &others {
        let message = from(A).icmp_about(A, R, raw(*kind, 0), b"payload");
        rig.push(HOME, &message).dropped_for(DropReason::IcmpUnsupported);
    }
    assert_eq!(rig.counters.dropped(DropReason::IcmpUnsupported), others.len() as u64);
}

#[test]
fn an_error_about_a_flow_of_an_address_that_the_wan_lost_speaks_of_it_to_nobody() {
    let udp = Forward { protocol: Protocol::Udp, ..crate::rig::web_forward() };
    let mut rig = Rig::of(config(), vec![udp]);
    let web = ep(WAN_ADDRESS, crate::rig::WEB);
    let out = rig.push(LinkId::WAN, &from(R).udp(ep(R, 40000), web, b""));
    let refused = Icmpv4Type::DestinationUnreachable(Unreachable::Port);
    let error = from(B).icmp_about(B, R, refused, &out.sent[0].1[14..]);
    rig.push(HOME, &error).forwarded_to(LinkId::WAN);
    rig.runtime.wan = Some(wan_at(Ipv4Addr::new(198, 51, 100, 42), GATEWAY));
    rig.publish();
    rig.push(HOME, &error).dropped_for(DropReason::IcmpNoSession);
}
