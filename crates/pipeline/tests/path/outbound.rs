//! From a LAN to the Internet, and back.

use etherparse::TcpOptionElement::{MaximumSegmentSize, Noop, WindowScale};
use packet::icmp::ErrorKind;
use packet::{BATCH_MAX, DropReason, LinkId};
use pipeline::Verdict;

use crate::frames::{ACK, Carried, SYN, TTL, echo_reply, echo_request, ep, see};
use crate::rig::{
    A, B, G, GATEWAY, GUEST, HOME, HOME_ADDRESS, R, R2, Rig, WAN_ADDRESS, config, from, mac,
    router_mac,
};

#[test]
fn udp_leaves_with_the_wan_address_and_its_reply_comes_back() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 53), b"question"));
    let seen = out.forwarded_to(LinkId::WAN);
    assert_eq!(seen.endpoints(), (ep(WAN_ADDRESS, 5000), ep(R, 53)));
    assert_eq!((seen.from_mac, seen.to_mac), (router_mac(LinkId::WAN), mac(GATEWAY)));
    assert_eq!((seen.ttl, seen.payload.as_slice()), (TTL - 1, b"question".as_slice()));

    let back = rig.push(LinkId::WAN, &from(R).udp(ep(R, 53), ep(WAN_ADDRESS, 5000), b"answer"));
    let seen = back.forwarded_to(HOME);
    assert_eq!(seen.endpoints(), (ep(R, 53), ep(A, 5000)));
    assert_eq!((seen.from_mac, seen.to_mac), (router_mac(HOME), mac(A)));
    assert_eq!((seen.ttl, seen.payload.as_slice()), (TTL - 1, b"answer".as_slice()));
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let mut rig = Rig::new();
    let mut frame = from(A).udp(ep(A, 5000), ep(R, 4000), b"x");
    frame[14 + 20 + 6..][..2].fill(0);
    let out = rig.push(HOME, &frame);
    assert_eq!(out.sent[0].1[14 + 20 + 6..][..2], [0, 0]);
    out.forwarded_to(LinkId::WAN);
}

#[test]
fn a_tcp_handshake_passes_both_ways() {
    let mut rig = Rig::new();
    let (client, server, external) = (ep(A, 40000), ep(R, 443), ep(WAN_ADDRESS, 40000));
    let syn = rig.push(HOME, &from(A).tcp(client, server, SYN, b""));
    assert_eq!(syn.forwarded_to(LinkId::WAN).endpoints(), (external, server));
    let answer = rig.push(LinkId::WAN, &from(R).tcp(server, external, SYN | ACK, b""));
    assert_eq!(answer.forwarded_to(HOME).endpoints(), (server, client));
    let data = rig.push(HOME, &from(A).tcp(client, server, ACK, b"GET /"));
    assert_eq!(data.forwarded_to(LinkId::WAN).payload, b"GET /");
}

#[test]
fn ping_keeps_its_identifier_and_is_answered() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).icmp(A, R, echo_request(99)));
    let seen = out.forwarded_to(LinkId::WAN);
    assert_eq!((seen.source.address, seen.echo_id()), (WAN_ADDRESS, 99));
    let back = rig.push(LinkId::WAN, &from(R).icmp(R, WAN_ADDRESS, echo_reply(99)));
    assert_eq!((back.forwarded_to(HOME).destination.address, back.one().1.echo_id()), (A, 99));
}

#[test]
fn two_hosts_that_ping_with_one_identifier_are_told_apart() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(A).icmp(A, R, echo_request(7)));
    let second = rig.push(HOME, &from(B).icmp(B, R, echo_request(7)));
    let id = second.forwarded_to(LinkId::WAN).echo_id();
    assert_ne!(id, 7);
    let back = rig.push(LinkId::WAN, &from(R).icmp(R, WAN_ADDRESS, echo_reply(id)));
    assert_eq!((back.forwarded_to(HOME).destination.address, back.one().1.echo_id()), (B, 7));
}

#[test]
fn req1_one_internal_endpoint_has_one_external_endpoint_for_all_remote_ones() {
    let mut rig = Rig::new();
    let taken = rig.push(HOME, &from(B).udp(ep(B, 5000), ep(R, 1), b""));
    let first = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    let other = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R2, 2), b""));
    let external = first.forwarded_to(LinkId::WAN).source;
    assert_ne!(external, taken.forwarded_to(LinkId::WAN).source);
    assert_eq!(other.forwarded_to(LinkId::WAN).source, external);
}

#[test]
fn hosts_of_all_lans_share_the_wan_address() {
    let mut rig = Rig::new();
    let home = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    let guest = rig.push(GUEST, &from(G).udp(ep(G, 5000), ep(R, 1), b""));
    let (home, guest) = (home.forwarded_to(LinkId::WAN), guest.forwarded_to(LinkId::WAN));
    assert_eq!(home.source.address, guest.source.address);
    assert_ne!(home.source.port, guest.source.port);
}

#[test]
fn a_flow_that_one_packet_of_a_batch_opens_carries_the_next() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"x");
    let verdicts = rig.push_batch(HOME, &[frame.clone(), frame.clone(), frame]);
    assert_eq!(verdicts, [Verdict::Forward(LinkId::WAN); 3]);
    assert_eq!((rig.flush().len(), rig.sessions()), (3, 1));
}

/// The passes take a batch in groups, each a group ahead of the next.
#[test]
fn a_batch_of_any_length_has_the_verdicts_of_its_packets_one_by_one() {
    let home = from(A);
    let frames: Vec<Vec<u8>> = (0..BATCH_MAX as u16)
        .map(|n| match n % 7 {
            0 => home.icmp(A, R, echo_request(n)),
            3 => vec![0; 20],
            5 => home.udp(ep(B, 9), ep(HOME_ADDRESS, 9), b"not for a flow"),
            _ => home.udp(ep(A, 5000 + n % 9), ep(R, 1), &n.to_be_bytes()),
        })
        .collect();
    for len in [1, 31, 32, 33, 63, BATCH_MAX] {
        let (mut whole, mut single) = (Rig::new(), Rig::new());
        for _ in 0..2 {
            let verdicts = whole.push_batch(HOME, &frames[..len]);
            let sent: Vec<_> = whole.flush();
            let outcomes = frames[..len].iter().map(|frame| single.push(HOME, frame));
            let (one_by_one, outcomes): (Vec<_>, Vec<_>) =
                outcomes.map(|outcome| (outcome.verdict, outcome.sent)).unzip();
            assert_eq!(verdicts, one_by_one, "{len}");
            let seen = |sent: &[(LinkId, Vec<u8>)]| -> Vec<_> {
                sent.iter().map(|(link, frame)| (*link, see(frame).payload)).collect()
            };
            assert_eq!(seen(&sent), seen(&outcomes.concat()), "{len}");
        }
        assert_eq!(whole.sessions(), single.sessions());
    }
}

#[test]
fn ethernet_padding_is_not_forwarded() {
    let mut rig = Rig::new();
    let mut frame = from(A).udp(ep(A, 5000), ep(R, 1), b"x");
    let len = frame.len();
    frame.resize(60, 0xee);
    let out = rig.push(HOME, &frame);
    assert_eq!(out.sent[0].1.len(), len);
    out.forwarded_to(LinkId::WAN);
}

#[test]
fn the_mss_of_a_syn_is_clamped_to_the_narrower_link_both_ways() {
    let mut rig = Rig::new();
    rig.runtime.links[0].mtu = 1492;
    rig.publish();
    let options = [Noop, MaximumSegmentSize(1460), Noop, WindowScale(7)];
    let (client, server, external) = (ep(A, 40000), ep(R, 443), ep(WAN_ADDRESS, 40000));
    let mss = |carried| match carried {
        Carried::Tcp { mss, .. } => mss,
        other => panic!("{other:?}"),
    };
    let syn = rig.push(HOME, &from(A).tcp_with(client, server, SYN, &options, b""));
    assert_eq!(mss(syn.forwarded_to(LinkId::WAN).carried), Some(1452));
    let answer = from(R).tcp_with(server, external, SYN | ACK, &options, b"");
    let answer = rig.push(LinkId::WAN, &answer);
    assert_eq!(mss(answer.forwarded_to(HOME).carried), Some(1452));
}

#[test]
fn the_mss_is_left_alone_where_clamping_is_off() {
    let mut config = config();
    config.nat.mss_clamp = config::MssClamp::Off;
    let mut rig = Rig::of(config, Vec::new());
    rig.runtime.links[0].mtu = 1492;
    rig.publish();
    let options = [MaximumSegmentSize(1460)];
    let syn = from(A).tcp_with(ep(A, 40000), ep(R, 443), SYN, &options, b"");
    let out = rig.push(HOME, &syn).forwarded_to(LinkId::WAN);
    assert!(matches!(out.carried, Carried::Tcp { mss: Some(1460), .. }), "{out:?}");
}

#[test]
fn req5508_8_req6888_11b_a_host_beyond_its_quota_is_told_and_keeps_its_flows() {
    let mut config = config();
    config.nat.mappings_per_host_max = 3;
    let mut rig = Rig::of(config, Vec::new());
    let flow = |port| from(A).udp(ep(A, port), ep(R, 1), b"");
    for port in 5000..5003 {
        rig.push(HOME, &flow(port)).forwarded_to(LinkId::WAN);
    }
    let out = rig.push(HOME, &flow(5003));
    assert_eq!(out.verdict, Verdict::Reply(ErrorKind::HostUnreachable));
    let (link, seen) = out.one();
    assert_eq!((link, seen.source.address, seen.embedded().0), (HOME, HOME_ADDRESS, ep(A, 5003)));
    assert_eq!(rig.counters.refused.load(), 1);
    rig.push(HOME, &flow(5000)).forwarded_to(LinkId::WAN);
}

#[test]
fn req5508_9_refusals_are_silent_where_the_operator_says_so() {
    let mut config = config();
    config.nat.mappings_per_host_max = 1;
    config.nat.icmp_refusals = config::IcmpRefusals::Silent;
    let mut rig = Rig::of(config, Vec::new());
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"")).forwarded_to(LinkId::WAN);
    let more = from(A).udp(ep(A, 5001), ep(R, 1), b"");
    rig.push(HOME, &more).dropped_for(DropReason::HostQuota);
    let forbidden = from(G).udp(ep(G, 5000), ep(A, 1), b"");
    rig.push(GUEST, &forbidden).dropped_for(DropReason::PolicyDenied);
    // What is no refusal is answered still.
    let mut way = from(A);
    way.ttl = 1;
    let out = rig.push(HOME, &way.udp(ep(A, 5000), ep(R, 1), b""));
    assert_eq!(out.verdict, Verdict::Reply(ErrorKind::TimeExceeded));
}

#[test]
fn a_host_beyond_its_quota_opens_no_more_flows_and_keeps_those_it_has() {
    let mut config = config();
    config.nat.mappings_per_host_max = 3;
    let mut rig = Rig::of(config, Vec::new());
    let flow = |port| from(A).udp(ep(A, port), ep(R, 1), b"");
    for port in 5000..5003 {
        rig.push(HOME, &flow(port)).forwarded_to(LinkId::WAN);
    }
    assert_eq!(rig.push(HOME, &flow(5003)).verdict, Verdict::Reply(ErrorKind::HostUnreachable));
    rig.push(HOME, &flow(5000)).forwarded_to(LinkId::WAN);
    let other = rig.push(HOME, &from(B).udp(ep(B, 5003), ep(R, 1), b""));
    other.forwarded_to(LinkId::WAN);
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_established_ones() {
    let mut rig = Rig::new();
    let mut config = config();
    config.nat.mappings_per_host_max = 100_000;
    config.nat.icmp_refusals = config::IcmpRefusals::Silent;
    config.nat.sessions_per_host_max = Some(100_000);
    rig.config = config;
    rig.publish();
    let flow = |port: u16| from(A).udp(ep(A, 5000), ep(R, port), b"");
    let full = DropReason::SessionTableFull;
    let refused = (1..4000).find(|&port| rig.push(HOME, &flow(port)).verdict == full.into());
    let refused = refused.expect("the table holds 1024 sessions");
    assert!(refused > 1000, "{refused}");
    rig.push(HOME, &flow(1)).forwarded_to(LinkId::WAN);
}

#[test]
fn a_silent_flow_expires_and_its_mapping_rests() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    rig.advance(std::time::Duration::from_secs(301));
    for _ in 0..100 {
        rig.advance(std::time::Duration::from_millis(10));
        rig.worker.expire(&rig.snapshot, rig.now);
    }
    assert_eq!(rig.sessions(), 0);
    let back = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), b""));
    back.dropped_for(DropReason::NoMapping);
    let other = rig.push(HOME, &from(B).udp(ep(B, 5000), ep(R, 1), b""));
    assert_ne!(other.forwarded_to(LinkId::WAN).source.port, 5000);
    let same = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    assert_eq!(same.forwarded_to(LinkId::WAN).source.port, 5000);
}

#[test]
fn every_frame_that_leaves_is_whole() {
    let mut rig = Rig::new();
    for len in [0, 1, 17, 18, 19, 1400, 1472] {
        let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), &vec![0xa5; len]));
        assert_eq!(see(&out.sent[0].1).payload.len(), len);
    }
}
