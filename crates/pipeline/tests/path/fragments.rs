//! Packets that come in fragments (RFC 4787 §11, RFC 791 §3.2).

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::{Icmpv4Type, TcpOptionElement, icmpv4};
use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId, PuntReason};
use pipeline::Verdict;
use proptest::prelude::*;

use crate::frames::{
    ACK, Carried, echo_request, ep, ip_header, joined, piece, pieces, see, with_ip,
};
use crate::rig::{
    A, B, G, GUEST, HOME, HOME_ADDRESS, O, OFFICE, R, R2, Rig, WAN_ADDRESS, WEB, config, from, mac,
    router_mac, web_forward,
};

/// Payload of a full fragment at an MTU of 1500.
const FULL: usize = 1480;

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 253) as u8).collect()
}

fn big(source: Ipv4Addr) -> Vec<u8> {
    from(source).udp(ep(source, 5000), ep(R, 1), &payload(4000))
}

/// The big packet's identification, so that another may follow it.
fn numbered(frame: &[u8], identification: u16) -> Vec<u8> {
    with_ip(frame, |header| header.identification = identification)
}

/// All orders of three.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn req4787_14_fragments_in_any_order_leave_translated_and_in_order() {
    for order in ORDERS {
        let mut rig = Rig::new();
        let parts = pieces(&big(A), FULL);
        let out = rig.push_pieces(HOME, &order.map(|index| parts[index].clone()));
        assert_eq!(out.verdict, Verdict::Forward(LinkId::WAN));
        let (link, seen, count) = out.in_fragments();
        assert_eq!((link, count), (LinkId::WAN, 3), "{order:?}");
        assert_eq!(seen.endpoints(), (ep(WAN_ADDRESS, 5000), ep(R, 1)));
        assert_eq!((seen.payload, seen.ttl), (payload(4000), 63));
        assert_eq!(rig.worker.packets_waiting(), 0);
        let counts = rig.counters.link(HOME);
        assert_eq!((counts.reassembled.load(), counts.waiting()), (2, 0));
    }
}

#[test]
fn req4787_14_fragments_from_outside_in_any_order_reach_the_host() {
    for order in ORDERS {
        let mut rig = Rig::new();
        rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"ask"));
        let answer = from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), &payload(4000));
        let parts = pieces(&answer, FULL);
        let out = rig.push_pieces(LinkId::WAN, &order.map(|index| parts[index].clone()));
        let (link, seen, _) = out.in_fragments();
        assert_eq!((link, seen.endpoints()), (HOME, (ep(R, 1), ep(A, 5000))));
        assert_eq!((seen.payload, seen.to_mac), (payload(4000), mac(A)));
    }
}

#[test]
fn fragments_between_lans_and_by_hairpin_pass() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let routed = from(O).udp(ep(O, 5000), ep(A, 9), &payload(3000));
    let (link, seen, _) = rig.push_pieces(OFFICE, &pieces(&routed, FULL)).in_fragments();
    assert_eq!((link, seen.endpoints()), (HOME, (ep(O, 5000), ep(A, 9))));

    let syn = from(A).tcp(ep(A, 40000), ep(WAN_ADDRESS, WEB), 2, b"");
    rig.push(HOME, &syn).forwarded_to(HOME);
    let data = from(A).tcp(ep(A, 40000), ep(WAN_ADDRESS, WEB), ACK, &payload(3000));
    let (link, seen, _) = rig.push_pieces(HOME, &pieces(&data, FULL)).in_fragments();
    assert_eq!((link, seen.endpoints()), (HOME, (ep(WAN_ADDRESS, 40000), ep(B, 80))));
}

#[test]
fn big_pings_pass_through_the_router() {
    let mut rig = Rig::new();
    let ping = from(A).icmp_about(A, R, echo_request(7), &payload(20_000));
    let (_, seen, count) = rig.push_pieces(HOME, &pieces(&ping, FULL)).in_fragments();
    assert_eq!((seen.payload, count), (payload(20_000), 14));
}

#[test]
fn a_big_packet_for_the_router_itself_is_punted_whole() {
    let mut rig = Rig::new();
    let ping = from(A).icmp_about(A, HOME_ADDRESS, echo_request(7), &payload(9000));
    let out = rig.push_pieces(HOME, &pieces(&ping, FULL));
    assert_eq!(
        (out.punt().reason, out.verdict),
        (PuntReason::Local, Verdict::Punt(PuntReason::Local))
    );
    assert_eq!(see(&out.punt().frame).payload, payload(9000));

    let echo = from(HOME_ADDRESS).icmp_about(HOME_ADDRESS, A, echo_request(7), &payload(9000));
    let packet = {
        let mut packet = rig.rings.take_for(echo.len()).unwrap();
        assert!(packet.copy_from(&with_ip(&echo, |header| header.dont_fragment = true)));
        packet
    };
    let (link, seen, _) = rig.inject(pipeline::Inject::Route(packet)).in_fragments();
    assert_eq!((link, seen.payload), (HOME, payload(9000)));
}

#[test]
fn a_big_packet_that_waits_for_its_neighbour_comes_back_whole() {
    let mut rig = Rig::without_neighbours(config(), Vec::new(), packet::Offloads::ALL);
    rig.learn(HOME, A);
    let out = rig.push_pieces(HOME, &pieces(&big(A), FULL));
    assert_eq!(out.punt().reason, PuntReason::NeighbourMissing);
    let released = rig.resolve(out.punt());
    let (link, seen, _) = rig.take_again(&released[0]).in_fragments();
    assert_eq!((link, seen.payload), (LinkId::WAN, payload(4000)));
}

#[test]
fn fragments_leave_no_longer_than_they_came() {
    let mut rig = Rig::new();
    let out = rig.push_pieces(HOME, &pieces(&big(A), 552));
    let lens: Vec<_> = out.sent.iter().map(|(_, frame)| frame.len() - 14).collect();
    assert_eq!(lens, [572, 572, 572, 572, 572, 572, 572, 4008 - 7 * 552 + 20]);
    rig.runtime.links[0].mtu = 400;
    rig.publish();
    let out = rig.push_pieces(HOME, &pieces(&big(A), 552));
    assert!(out.sent.iter().all(|(_, frame)| frame.len() - 14 <= 400));
    assert_eq!(out.in_fragments().1.payload, payload(4000));
}

#[test]
fn two_hosts_with_the_same_identification_are_kept_apart() {
    let mut rig = Rig::new();
    let (a, b) = (pieces(&big(A), FULL), pieces(&big(B), FULL));
    let frames: Vec<_> = a.iter().zip(&b).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let verdicts = rig.push_batch(HOME, &frames);
    let (held, whole) = (Verdict::Hold, Verdict::Forward(LinkId::WAN));
    assert_eq!(verdicts, [held, held, held, held, whole, whole]);
    let sent: Vec<_> = rig.flush().into_iter().map(|(_, frame)| frame).collect();
    let seen = |frames: &[Vec<u8>]| see(&joined(frames.iter().map(Vec::as_slice))).source;
    assert_eq!(seen(&sent[..3]), ep(WAN_ADDRESS, 5000));
    assert_ne!(seen(&sent[3..]), seen(&sent[..3]));
    assert_ne!(ip_header(&sent[0]).identification, ip_header(&sent[3]).identification);
}

#[test]
fn rfc5722_overlapping_fragments_end_their_packet() {
    let frame = big(A);
    let mut other = frame.clone();
    other[14 + 20 + 1480 + 5] ^= 1;
    let overlaps = [
        piece(&frame, 8..1488),
        piece(&frame, 1472..2960),
        piece(&frame, 0..1472),
        piece(&frame, 1480..1488),
        piece(&frame, 0..4000),
        // The same place, but not the same bytes.
        piece(&other, 1480..2960),
    ];
    for overlap in overlaps {
        let mut rig = Rig::new();
        let parts = pieces(&frame, FULL);
        rig.push(HOME, &parts[0]).held();
        rig.push(HOME, &parts[1]).held();
        rig.push(HOME, &overlap).dropped_for(DropReason::FragmentOverlap);
        assert_eq!(rig.dropped(HOME, DropReason::FragmentOverlap), 3);
        for part in &parts {
            rig.push(HOME, part).dropped_for(DropReason::FragmentOverlap);
        }
        // The identification is free again in time.
        rig.advance(Duration::from_secs(16));
        rig.worker.expire(&rig.snapshot, rig.now);
        rig.push_pieces(HOME, &parts).in_fragments();
    }
}

#[test]
fn a_fragment_that_comes_twice_does_no_harm() {
    let mut rig = Rig::new();
    let parts = pieces(&big(A), FULL);
    rig.push(HOME, &parts[2]).held();
    rig.push(HOME, &parts[2]).dropped_for(DropReason::FragmentDuplicate);
    rig.push(HOME, &parts[0]).held();
    rig.push(HOME, &parts[0]).dropped_for(DropReason::FragmentDuplicate);
    assert_eq!(rig.push(HOME, &parts[1]).in_fragments().1.payload, payload(4000));
}

#[test]
fn rfc1858_rfc3128_a_split_transport_header_is_refused() {
    let mut rig = Rig::new();
    let data = from(A).tcp(ep(A, 40000), ep(R, 80), ACK, &payload(100));
    rig.push(HOME, &piece(&data, 0..16)).dropped_for(DropReason::FragmentTiny);
    rig.push(HOME, &piece(&data, 8..120)).dropped_for(DropReason::FragmentTiny);
    assert_eq!(rig.worker.packets_waiting(), 0);
}

#[test]
fn a_packet_longer_than_any_is_refused() {
    let mut rig = Rig::new();
    let ping = from(A).icmp_about(A, R, echo_request(7), &payload(1000));
    let beyond = with_ip(&piece(&ping, 0..1000), |header| {
        header.fragment_offset = 8189.try_into().unwrap();
        header.more_fragments = false;
    });
    rig.push(HOME, &beyond).dropped_for(DropReason::FragmentTooLong);
    // With options in its first fragment it gets too long only when it is whole.
    let long = from(A).icmp_about(A, R, echo_request(7), &payload(65_507));
    let parts = pieces(&long, 32_752);
    let first = with_ip(&parts[0], |header| header.options = [1; 40].into());
    rig.push(HOME, &first).held();
    rig.push(HOME, &parts[2]).held();
    rig.push(HOME, &parts[1]).dropped_for(DropReason::FragmentTooLong);
    assert_eq!(rig.dropped(HOME, DropReason::FragmentTooLong), 4);
    // Without them it is the longest that there is.
    let out = rig.push_pieces(HOME, &pieces(&numbered(&long, 9), 32_752));
    assert_eq!(out.in_fragments().1.payload, payload(65_507));
}

#[test]
fn fragments_that_contradict_each_other_end_their_packet() {
    let frame = big(A);
    let short = piece(&frame[..14 + 20 + 2900], 1480..2900);
    let behind = with_ip(&piece(&frame, 3000..3008), |header| header.more_fragments = true);
    let parts = pieces(&frame, FULL);
    for (first, second) in [(&parts[2], &short), (&short, &behind), (&behind, &short)] {
        let mut rig = Rig::new();
        rig.push(HOME, first).held();
        rig.push(HOME, second).dropped_for(DropReason::FragmentMismatch);
        assert_eq!(rig.dropped(HOME, DropReason::FragmentMismatch), 2);
    }
}

#[test]
fn rfc3168_congestion_that_one_fragment_met_is_seen_in_all() {
    let mark = |frame: &[u8], bits: u8| with_ip(frame, |h| h.ecn = bits.try_into().unwrap());
    let parts = pieces(&mark(&big(A), 2), FULL);
    let mut rig = Rig::new();
    let out = rig.push_pieces(HOME, &[parts[0].clone(), mark(&parts[1], 3), parts[2].clone()]);
    assert!(out.sent.iter().all(|(_, frame)| frame[15] & 3 == 3));
    let out = rig.push_pieces(HOME, &parts);
    assert!(out.sent.iter().all(|(_, frame)| frame[15] & 3 == 2));
    let out = rig.push_pieces(HOME, &[mark(&parts[0], 0), mark(&parts[1], 3), parts[2].clone()]);
    out.dropped_for(DropReason::FragmentMismatch);
}

#[test]
fn options_of_the_first_fragment_are_the_packets() {
    let mut rig = Rig::new();
    // Record route, which is not repeated, and a label that is.
    let options = [7, 7, 4, 0, 0, 0, 0, 130, 3, 9, 0, 0];
    let mut parts = pieces(&big(A), FULL);
    parts[0] = with_ip(&parts[0], |header| header.options = options.into());
    let out = rig.push_pieces(HOME, &[parts[1].clone(), parts[2].clone(), parts[0].clone()]);
    let seen: Vec<_> = out.sent.iter().map(|(_, f)| ip_header(f).options.to_vec()).collect();
    assert_eq!(seen[0], options);
    assert!(seen[1..].iter().all(|later| later == &[130, 3, 9, 0]), "{seen:?}");
    assert_eq!(out.in_fragments().1.payload, payload(4000));
}

#[test]
fn a_fragment_whose_rest_does_not_come_is_dropped_in_time() {
    let mut rig = Rig::new();
    let parts = pieces(&big(A), FULL);
    rig.push(HOME, &parts[0]).held();
    rig.advance(Duration::from_secs(10));
    rig.worker.expire(&rig.snapshot, rig.now);
    rig.push(HOME, &parts[1]).held();
    assert_eq!((rig.worker.packets_waiting(), rig.counters.link(HOME).waiting()), (1, 2));
    // A late fragment does not prolong the wait.
    rig.advance(Duration::from_secs(5));
    rig.worker.expire(&rig.snapshot, rig.now);
    assert_eq!((rig.worker.packets_waiting(), rig.counters.link(HOME).waiting()), (0, 0));
    assert_eq!(rig.dropped(HOME, DropReason::FragmentTimeout), 2);
    rig.push(HOME, &parts[2]).held();
}

#[test]
fn no_forged_or_useless_fragment_takes_room() {
    let mut rig = Rig::new();
    let stray = |link, source, destination| {
        let mut way = from(source);
        way.to_mac = router_mac(link);
        pieces(&way.udp(ep(source, 5000), ep(destination, 1), &payload(2000)), FULL)[0].clone()
    };
    let cases = [
        (HOME, G, R, DropReason::SourceSpoofed),
        (HOME, Ipv4Addr::new(127, 0, 0, 1), R, DropReason::SourceMartian),
        (LinkId::WAN, A, WAN_ADDRESS, DropReason::SourceInternal),
        (LinkId::WAN, R, A, DropReason::PolicyDenied),
        (LinkId::WAN, R, Ipv4Addr::new(224, 0, 0, 1), DropReason::Multicast),
        (GUEST, G, Ipv4Addr::BROADCAST, DropReason::Broadcast),
        (HOME, A, Ipv4Addr::new(240, 0, 0, 1), DropReason::DestinationMartian),
    ];
    for (link, source, destination, reason) in cases {
        rig.push(link, &stray(link, source, destination)).dropped_for(reason);
    }
    let mut other = from(A);
    other.to_mac = mac(B);
    let frame = other.udp(ep(A, 5000), ep(R, 1), &payload(2000));
    rig.push(HOME, &pieces(&frame, FULL)[0]).dropped_for(DropReason::NotForUs);
    rig.send_local(&pieces(&big(HOME_ADDRESS), FULL)[0]).dropped_for(DropReason::FragmentLocal);
    assert_eq!(rig.worker.packets_waiting(), 0);
}

#[test]
fn a_packet_in_fragments_is_judged_like_a_whole_one() {
    let mut rig = Rig::new();
    let refused = from(G).udp(ep(G, 5000), ep(A, 9), &payload(3000));
    let out = rig.push_pieces(GUEST, &pieces(&refused, FULL));
    assert_eq!(out.verdict, Verdict::Reply(ErrorKind::AdministrativelyProhibited));
    assert_eq!(out.one().1.embedded(), (ep(G, 5000), ep(A, 9)));
    let mut way = from(A);
    way.ttl = 1;
    let expired = way.udp(ep(A, 5000), ep(R, 9), &payload(3000));
    let out = rig.push_pieces(HOME, &pieces(&expired, FULL));
    assert_eq!(out.verdict, Verdict::Reply(ErrorKind::TimeExceeded));
    let stranger = from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 7777), &payload(3000));
    rig.push_pieces(LinkId::WAN, &pieces(&stranger, FULL)).dropped_for(DropReason::NoMapping);
    // Only now its checksum can be verified.
    let mut ping = from(A).icmp_about(A, R, echo_request(7), &payload(3000));
    ping[14 + 20 + 2000] ^= 1;
    rig.push_pieces(HOME, &pieces(&ping, FULL)).dropped_for(DropReason::IcmpChecksum);
}

#[test]
fn req5508_10e_no_error_is_sent_about_a_fragment_that_is_not_whole() {
    let mut rig = Rig::new();
    let mut way = from(A);
    way.ttl = 1;
    let parts = pieces(&way.udp(ep(A, 5000), ep(R, 9), &payload(3000)), FULL);
    rig.push(HOME, &parts[1]).held();
    rig.push(HOME, &parts[2]).held();
    // Together they are answered once, with a quote that begins where the packet does.
    assert_eq!(rig.push(HOME, &parts[0]).one().1.embedded(), (ep(A, 5000), ep(R, 9)));
}

#[test]
fn req4787_14a_a_flood_of_fragments_takes_no_room_from_whole_packets() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"out"));
    let stray = pieces(&from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), &payload(3000)), FULL);
    for n in 0..4000u16 {
        let frame = with_ip(&stray[1], |header| {
            header.source = [203, 0, (n >> 8) as u8, n as u8];
            header.identification = n;
        });
        assert_eq!(rig.push(LinkId::WAN, &frame).verdict, Verdict::Hold);
        if n % 100 == 0 {
            let back = from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), b"back");
            rig.push(LinkId::WAN, &back).forwarded_to(HOME);
            rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"out")).forwarded_to(LinkId::WAN);
        }
    }
    assert_eq!(rig.worker.packets_waiting(), 128);
    assert_eq!(rig.dropped(LinkId::WAN, DropReason::FragmentEvicted), 4000 - 128);
}

#[test]
fn req4787_14a_the_link_and_source_with_most_packets_waiting_make_room() {
    let mut rig = Rig::new();
    let parts = pieces(&big(A), FULL);
    rig.push(HOME, &parts[0]).held();
    // One source takes a part only, and makes room for itself.
    let greedy = pieces(&big(B), FULL);
    for n in 0..500 {
        rig.push(HOME, &numbered(&greedy[0], n)).held();
    }
    assert_eq!(rig.worker.packets_waiting(), 1 + 32);
    // A flood from the WAN makes room on the WAN.
    let stray = pieces(&from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), &payload(3000)), FULL);
    for n in 0..5000u16 {
        let source = [198, 18, (n >> 8) as u8, n as u8];
        rig.push(LinkId::WAN, &with_ip(&stray[1], |header| header.source = source)).held();
    }
    rig.push(HOME, &parts[1]).held();
    rig.push(HOME, &parts[2]).in_fragments();
    assert_eq!(rig.dropped(HOME, DropReason::FragmentEvicted), 500 - 32);
    // The oldest goes first: the last of the greedy one's are still there.
    let rest = pieces(&numbered(&big(B), 499), FULL);
    rig.push(HOME, &rest[1]).held();
    rig.push(HOME, &rest[2]).in_fragments();
}

#[test]
fn more_fragments_than_the_longest_packet_needs_are_refused() {
    let mut rig = Rig::new();
    let frame = big(A);
    for n in 0..128 {
        rig.push(HOME, &piece(&frame, n * 16..n * 16 + 8)).held();
    }
    let out = rig.push(HOME, &piece(&frame, 128 * 16..128 * 16 + 8));
    out.dropped_for(DropReason::FragmentPieces);
    assert_eq!(rig.dropped(HOME, DropReason::FragmentPieces), 129);
}

#[test]
fn an_error_that_comes_in_fragments_is_translated() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), &payload(1000)));
    let quote = &out.sent[0].1[14..];
    let port = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let error = from(R2).icmp_about(R2, WAN_ADDRESS, port, quote);
    let (link, seen, _) = rig.push_pieces(LinkId::WAN, &pieces(&error, 512)).in_fragments();
    assert_eq!((link, seen.embedded()), (HOME, (ep(A, 5000), ep(R, 1))));
}

#[test]
fn the_mss_of_a_syn_in_fragments_is_clamped_too() {
    let mut rig = Rig::new();
    rig.runtime.links[0].mtu = 1400;
    rig.publish();
    let options = [TcpOptionElement::MaximumSegmentSize(1460)];
    let syn = from(A).tcp_with(ep(A, 5000), ep(R, 80), 2, &options, &payload(100));
    let (_, seen, _) = rig.push_pieces(HOME, &pieces(&syn, 64)).in_fragments();
    assert!(matches!(seen.carried, Carried::Tcp { mss: Some(1360), .. }));
}

/// How a packet's pieces come: cut here, in this order, some twice, some moved so that they overlap.
#[derive(Clone, Debug)]
struct Delivery {
    len: usize,
    units: usize,
    order: Vec<prop::sample::Index>,
    moved: Option<(prop::sample::Index, u16)>,
}

prop_compose! {
    fn delivery()(
        len in 100usize..9000,
        units in 12usize..180,
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
        moved in prop::option::weighted(0.4, (any::<prop::sample::Index>(), 1u16..200)),
    ) -> Delivery {
        Delivery { len, units, order, moved }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_out_is_the_packet_or_nothing(delivery in delivery()) {
        let mut rig = Rig::new();
        let frame = from(A).udp(ep(A, 5000), ep(R, 1), &payload(delivery.len));
        let parts = pieces(&frame, delivery.units * 8);
        let mut came = Vec::new();
        for (turn, index) in delivery.order.iter().enumerate() {
            let mut part = index.get(&parts).clone();
            if let Some((at, by)) = &delivery.moved
                && at.index(delivery.order.len()) == turn
            {
                part = with_ip(&part, |h| h.fragment_offset = (h.fragment_offset.value() ^ by).try_into().unwrap());
            }
            came.extend(rig.push(HOME, &part).sent);
        }
        let whole = |frames: &[(LinkId, Vec<u8>)]| see(&joined(frames.iter().map(|f| f.1.as_slice())));
        for packet in came.chunks(parts.len().min(came.len()).max(1)) {
            prop_assert_eq!(whole(packet).payload, payload(delivery.len));
        }
        rig.advance(Duration::from_secs(60));
        rig.worker.expire(&rig.snapshot, rig.now);
        prop_assert_eq!(rig.worker.packets_waiting(), 0);
        prop_assert_eq!(rig.counters.link(HOME).waiting(), 0);
    }
}
