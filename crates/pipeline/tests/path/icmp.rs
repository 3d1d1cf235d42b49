//! ICMP to the letter: which types pass, which are dropped, and what ours look like (RFC 5508, RFC 1812 §4.3).

use etherparse::{Icmpv4Type, icmpv4};
use icmpv4::{
    DestUnreachableHeader as Unreachable, ParameterProblemHeader, TimeExceededCode,
    TimestampMessage,
};
use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId, MacAddr};
use pipeline::Verdict;

use crate::frames::{Carried, Way, echo_reply, echo_request, ep, ip_header, see, with_ip};
use crate::rig::{
    A, B, HOME, HOP, Outcome, R, R2, Rig, WAN_ADDRESS, WEB, config, from, mac, router_mac,
    web_forward,
};

/// The types that are errors with a packet inside.
const ERRORS: [u8; 3] = [3, 11, 12];
/// The types that are queries and replies.
const QUERIES: [u8; 4] = [0, 8, 13, 14];

fn unknown(type_u8: u8, code_u8: u8) -> Icmpv4Type {
    Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8: [0; 4] }
}

/// The IP packet of the one frame that left.
fn packet_of(out: &Outcome) -> &[u8] {
    &out.sent[0].1[14..]
}

fn timestamp(id: u16) -> TimestampMessage {
    let (originate_timestamp, receive_timestamp, transmit_timestamp) = (1, 2, 3);
    TimestampMessage { id, seq: 1, originate_timestamp, receive_timestamp, transmit_timestamp }
}

/// An RFC 4884 extension behind the quote: version 2, a checksum that we do not touch, one MPLS object.
fn extended(quote: &[u8]) -> Vec<u8> {
    let mut embedded = quote.to_vec();
    embedded.resize(128, 0);
    embedded.extend([0x20, 0, 0xde, 0xad, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0xff]);
    embedded
}

/// A quote whose header has options.
fn with_options(quote: &[u8]) -> Vec<u8> {
    let mut frame = [&[0; 12], &[8, 0][..], quote].concat();
    frame = with_ip(&frame, |header| header.options = [7, 7, 4, 1, 2, 3, 4, 0].into());
    frame.split_off(14)
}

#[test]
fn req5508_1_echo_and_timestamp_queries_pass_and_their_replies_come_back() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).icmp(A, R, echo_request(7)));
    assert_eq!(out.forwarded_to(LinkId::WAN).echo_id(), 7);
    let back = from(R).icmp(R, WAN_ADDRESS, echo_reply(7));
    assert_eq!(rig.push(LinkId::WAN, &back).forwarded_to(HOME).destination.address, A);

    let query = Icmpv4Type::TimestampRequest(timestamp(9));
    let out = rig.push(HOME, &from(A).icmp_about(A, R, query, b""));
    let Carried::Icmp(Icmpv4Type::TimestampRequest(sent)) = out.one().1.carried else { panic!() };
    let reply = Icmpv4Type::TimestampReply(timestamp(sent.id));
    let back = rig.push(LinkId::WAN, &from(R).icmp_about(R, WAN_ADDRESS, reply, b""));
    let expected = Carried::Icmp(Icmpv4Type::TimestampReply(timestamp(9)));
    assert_eq!(back.forwarded_to(HOME).carried, expected);
}

#[test]
fn req5508_1a_a_query_id_keeps_its_external_id_whatever_the_remote() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(B).icmp(B, R, echo_request(7)));
    let mut ids = [R, R2, HOP]
        .map(|remote| rig.push(HOME, &from(A).icmp(A, remote, echo_request(7))).one().1.echo_id());
    assert_ne!(ids[0], 7, "another host has it");
    ids.sort_unstable();
    assert_eq!(ids[0], ids[2]);
}

#[test]
fn req5508_3_a_wrong_outer_checksum_is_dropped_without_a_word() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"probe"));
    let kind = Icmpv4Type::DestinationUnreachable(Unreachable::Port);
    let mut error = from(R).icmp_about(R, WAN_ADDRESS, kind, packet_of(&out));
    error[14 + 20 + 3] ^= 1;
    rig.push(LinkId::WAN, &error).dropped_for(DropReason::IcmpChecksum);
}

#[test]
fn req5508_3a_3b_3d_hold_for_errors_from_inside_too() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let out = rig.push(LinkId::WAN, &from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), 2, b""));
    let port = || Icmpv4Type::DestinationUnreachable(Unreachable::Port);
    let embedded = (ep(R, 40000), ep(WAN_ADDRESS, WEB));

    let error = from(B).icmp_about(B, R, port(), &with_options(packet_of(&out)));
    let seen = rig.push(HOME, &error).forwarded_to(LinkId::WAN);
    assert_eq!(seen.embedded(), embedded);

    let quote = extended(packet_of(&out));
    let seen = rig.push(HOME, &from(B).icmp_about(B, R, port(), &quote)).forwarded_to(LinkId::WAN);
    assert_eq!(seen.embedded(), embedded);
    assert_eq!(seen.payload[packet_of(&out).len()..], quote[packet_of(&out).len()..]);

    let mut broken = packet_of(&out).to_vec();
    broken[10] ^= 1;
    let error = from(B).icmp_about(B, R, port(), &broken);
    rig.push(HOME, &error).dropped_for(DropReason::IcmpEmbedded);
}

#[test]
fn req5508_3c_3d_a_quote_of_eight_bytes_with_extensions_behind_it_is_translated() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, 80), 2, b""));
    let quote = extended(&packet_of(&out)[..28]);
    let kind = Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit);
    let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, kind, &quote);
    let seen = rig.push(LinkId::WAN, &error).forwarded_to(HOME);
    assert_eq!(seen.payload[28..36], quote[28..36]);
    assert_eq!(seen.payload[40..], quote[40..]);
    assert_eq!(seen.payload[20..24], [5000u16.to_be_bytes(), 80u16.to_be_bytes()].concat());
}

#[test]
fn req5508_10a_10b_errors_of_every_kind_pass_with_type_and_code_unchanged() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"probe"));
    let kinds = [
        Icmpv4Type::DestinationUnreachable(Unreachable::Network),
        Icmpv4Type::DestinationUnreachable(Unreachable::Host),
        Icmpv4Type::DestinationUnreachable(Unreachable::Protocol),
        Icmpv4Type::DestinationUnreachable(Unreachable::Port),
        Icmpv4Type::DestinationUnreachable(Unreachable::FilterProhibited),
        Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
        Icmpv4Type::TimeExceeded(TimeExceededCode::FragmentReassemblyTimeExceeded),
        Icmpv4Type::ParameterProblem(ParameterProblemHeader::PointerIndicatesError(8)),
    ];
    for kind in kinds {
        let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, kind.clone(), packet_of(&out));
        let seen = rig.push(LinkId::WAN, &error).forwarded_to(HOME);
        assert_eq!((seen.carried.clone(), seen.embedded().0), (Carried::Icmp(kind), ep(A, 5000)));
    }
}

#[test]
fn req5508_10c_11_source_quench_information_requests_and_all_others_are_dropped_and_counted() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"probe"));
    let others: Vec<_> =
        (0..=255).filter(|kind| !ERRORS.contains(kind) && !QUERIES.contains(kind)).collect();
    assert!(others.contains(&4) && others.contains(&15) && others.contains(&16));
    for kind in &others {
        let inward = from(HOP).icmp_about(HOP, WAN_ADDRESS, unknown(*kind, 0), packet_of(&out));
        rig.push(LinkId::WAN, &inward).dropped_for(DropReason::IcmpUnsupported);
        let outward = from(A).icmp_about(A, R, unknown(*kind, 0), packet_of(&out));
        rig.push(HOME, &outward).dropped_for(DropReason::IcmpUnsupported);
    }
    assert_eq!(rig.dropped(HOME, DropReason::IcmpUnsupported), others.len() as u64);
}

#[test]
fn req4787_12_req5382_10_req5508_6_no_icmp_message_of_any_type_ends_a_mapping() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(R, 80), 2, b""));
    for kind in 0..=255 {
        for code in [0, 1, 3, 13] {
            let error = from(R).icmp_about(R, WAN_ADDRESS, unknown(kind, code), packet_of(&out));
            rig.push(LinkId::WAN, &error);
        }
    }
    assert_eq!(rig.sessions(), 1);
    let answer = from(R).tcp(ep(R, 80), ep(WAN_ADDRESS, 5000), 0x12, b"");
    rig.push(LinkId::WAN, &answer).forwarded_to(HOME);
}

#[test]
fn req5508_10d_our_errors_have_precedence_6_and_those_that_pass_keep_their_own() {
    let mut rig = Rig::new();
    for tos in [0, 0x28, 0xb8] {
        let way = Way { ttl: 1, tos, ..from(A) };
        let out = rig.push(HOME, &way.udp(ep(A, 5000), ep(R, 1), b""));
        assert_eq!(out.verdict, Verdict::Reply(ErrorKind::TimeExceeded));
        assert_eq!(out.sent[0].1[15], 0xc0);
        assert!(ip_header(&out.sent[0].1).dont_fragment);
    }
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    let way = Way { tos: 0xc0, ..from(HOP) };
    let kind = Icmpv4Type::DestinationUnreachable(Unreachable::Host);
    let error = way.icmp_about(HOP, WAN_ADDRESS, kind, packet_of(&out));
    let out = rig.push(LinkId::WAN, &error);
    assert_eq!(out.one().0, HOME);
    assert_eq!(out.sent[0].1[15], 0xc0);
}

#[test]
fn req5508_10e_no_error_is_sent_about_an_error_a_broadcast_or_a_group() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    let expiring = Way { ttl: 1, ..from(A) };
    let kind = Icmpv4Type::DestinationUnreachable(Unreachable::Port);
    let error = expiring.icmp_about(A, R, kind, packet_of(&out));
    rig.push(HOME, &error).dropped_for(DropReason::TtlExpired);
    let to_all = Way { to_mac: MacAddr::BROADCAST, ..expiring };
    rig.push(HOME, &to_all.udp(ep(A, 5000), ep(R, 1), b"")).dropped_for(DropReason::Broadcast);
    let group = expiring.udp(ep(A, 5000), ep([224, 0, 0, 5].into(), 1), b"");
    rig.push(HOME, &group).dropped_for(DropReason::Multicast);
    assert_eq!((expiring.from_mac, expiring.to_mac), (mac(A), router_mac(HOME)));
}

#[test]
fn req5508_10f_our_errors_are_rate_limited_and_the_rest_is_counted() {
    let mut rig = Rig::new();
    let frame = Way { ttl: 1, ..from(A) }.udp(ep(A, 33434), ep(R, 33434), b"");
    let outs: Vec<_> = (0..200).map(|_| rig.push(HOME, &frame)).collect();
    let answered = outs.iter().filter(|out| !out.sent.is_empty()).count() as u64;
    assert!((1..100).contains(&answered), "{answered}");
    assert_eq!(rig.dropped(HOME, DropReason::IcmpRateLimited), 200 - answered);
    see(&outs[0].sent[0].1);
}
