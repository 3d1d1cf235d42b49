//! Packets and links that are too small for them: fragments, shorter segments, and word to the sender.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Type, TcpOptionElement, icmpv4};
use icmpv4::DestUnreachableHeader as Unreachable;
use packet::icmp::ErrorKind;
use packet::{DropReason, Gso, GsoKind, LinkId, Offload, Offloads, PartialChecksum, checksum};
use pipeline::Verdict;
use qos::{Overhead, Rate, Shaper, ShaperConfig};

use crate::frames::{ACK, Carried, SYN, Way, ep, ip_header, joined, pieces, see, with_ip};
use crate::rig::{
    A, HOME, HOME_ADDRESS, HOP, O, OFFICE, Outcome, R, Rig, WAN_ADDRESS, config, from,
};

const L4: usize = 14 + 20;

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// A router whose link has an MTU of 1400, that of the others being 1500.
fn narrow(link: LinkId, offloads: Offloads) -> Rig {
    let mut rig = Rig::without_neighbours(config(), Vec::new(), offloads);
    rig.learn_all();
    rig.runtime.links[link.index()].mtu = 1400;
    rig.publish();
    rig
}

fn unbreakable(address: Ipv4Addr) -> Way {
    Way { dont_fragment: true, ..from(address) }
}

fn needed(next_hop_mtu: u16) -> Icmpv4Type {
    Icmpv4Type::DestinationUnreachable(Unreachable::FragmentationNeeded { next_hop_mtu })
}

/// Leaves the transport checksum as a sender with offloads does.
fn partial(frame: &mut [u8], offset: usize) -> Option<PartialChecksum> {
    let octets = |at: usize| [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
    let sum = checksum::pseudo_header(octets(26), octets(30), frame[23], (frame.len() - L4) as u16);
    frame[L4 + offset..][..2].copy_from_slice(&sum.to_be_bytes());
    Some(PartialChecksum { start: L4 as u16, offset: offset as u16 })
}

fn segmented(mut frame: Vec<u8>, kind: GsoKind, size: u16) -> (Vec<u8>, Offload) {
    let offset = if kind == GsoKind::Udp { 6 } else { 16 };
    let checksum = partial(&mut frame, offset);
    (frame, Offload { checksum, gso: Some(Gso { kind, size }) })
}

fn ip_lens(out: &Outcome) -> Vec<usize> {
    out.sent.iter().map(|(_, frame)| frame.len() - 14).collect()
}

#[test]
fn req4787_13a_a_packet_that_may_be_cut_leaves_in_fragments_in_order() {
    for offloads in [Offloads::ALL, Offloads::NONE] {
        let mut rig = narrow(LinkId::WAN, offloads);
        let data = payload(1472);
        let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), &data));
        assert_eq!((out.verdict, ip_lens(&out)), (Verdict::Forward(LinkId::WAN), vec![1396, 124]));
        let (link, seen, _) = out.in_fragments();
        assert_eq!((link, seen.endpoints()), (LinkId::WAN, (ep(WAN_ADDRESS, 5000), ep(R, 1))));
        assert_eq!(seen.payload, data);
        assert_eq!(rig.counters.link(HOME).fragments_added.load(), 1);
        // One that fits is left alone.
        let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), &data[..1372]));
        assert_eq!(out.one().1.payload.len(), 1372);
    }
}

#[test]
fn req4787_13a_packets_from_outside_and_between_lans_are_cut_too() {
    let mut rig = narrow(HOME, Offloads::ALL);
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"ask"));
    let answer = from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), &payload(1472));
    let (link, seen, _) = rig.push(LinkId::WAN, &answer).in_fragments();
    assert_eq!((link, seen.endpoints()), (HOME, (ep(R, 1), ep(A, 5000))));
    let routed = from(O).udp(ep(O, 5000), ep(A, 9), &payload(1472));
    let (link, seen, _) = rig.push(OFFICE, &routed).in_fragments();
    assert_eq!((link, seen.endpoints()), (HOME, (ep(O, 5000), ep(A, 9))));
}

#[test]
fn req4787_13a_a_shaped_packet_is_cut_before_it_queues() {
    let mut rig = narrow(LinkId::WAN, Offloads::ALL);
    let rate = Rate::from_bits_per_sec(1_000_000).unwrap();
    let shaper = Shaper::new(ShaperConfig::for_rate(rate, Overhead::NONE), rig.now);
    rig.egress.shapers_mut().upload = Some(shaper);
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), &payload(1472));
    let mut sent = rig.push(HOME, &frame).sent;
    while let Some(due) = rig.egress.poll_timeout(rig.now) {
        rig.now = due;
        sent.extend(rig.flush());
    }
    assert_eq!(sent.len(), 2);
    let whole = see(&joined(sent.iter().map(|(_, frame)| frame.as_slice())));
    assert_eq!(whole.payload, payload(1472));
}

#[test]
fn a_partial_checksum_is_finished_before_a_packet_is_cut() {
    for offloads in [Offloads::ALL, Offloads::NONE] {
        let mut rig = narrow(LinkId::WAN, offloads);
        let mut frame = from(A).udp(ep(A, 5000), ep(R, 1), &payload(1471));
        let checksum = partial(&mut frame, 6);
        let out = rig.push_with(HOME, &frame, Offload { checksum, gso: None });
        assert_eq!(out.in_fragments().1.payload, payload(1471));
    }
}

#[test]
fn a_tcp_super_packet_that_may_be_cut_gets_shorter_segments() {
    for offloads in [Offloads::ALL, Offloads::NONE] {
        let mut rig = narrow(LinkId::WAN, offloads);
        let tcp = from(A).tcp(ep(A, 40000), ep(R, 443), ACK, &payload(9000));
        let (frame, offload) = segmented(tcp, GsoKind::TcpV4, 1448);
        let mut packet = rig.egress.large_pool().take().unwrap();
        assert!(packet.copy_from(&frame));
        (packet.offload, packet.ingress) = (offload, HOME);
        let mut batch = packet::Batch::new();
        batch.push(packet);
        rig.worker.receive(&mut batch, &mut rig.egress, &rig.snapshot, rig.now);
        let sent = rig.flush_with_offload();
        if offloads == Offloads::ALL {
            let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1360 });
            assert_eq!((sent.len(), sent[0].2.gso), (1, gso));
        } else {
            assert!(sent.iter().all(|(_, frame, _)| frame.len() - 14 <= 1400));
            let data: Vec<_> = sent.iter().flat_map(|(_, frame, _)| see(frame).payload).collect();
            assert_eq!(data, payload(9000));
        }
    }
}

#[test]
fn a_udp_super_packet_is_cut_into_datagrams_and_those_into_fragments() {
    for offloads in [Offloads::ALL, Offloads::NONE] {
        let mut rig = narrow(LinkId::WAN, offloads);
        let data = payload(3 * 1450 + 100);
        let udp = from(A).udp(ep(A, 40000), ep(R, 443), &data);
        let (frame, offload) = segmented(udp, GsoKind::Udp, 1450);
        let out = rig.push_with(HOME, &frame, offload);
        // Three datagrams in two fragments each, and one that fits.
        assert_eq!(out.sent.len(), 7);
        let frames: Vec<_> = out.sent.iter().map(|(_, frame)| frame.as_slice()).collect();
        let datagrams = frames.chunks(2).map(|two| see(&joined(two.iter().copied())).payload);
        assert_eq!(datagrams.collect::<Vec<_>>().concat(), data);
        let ids: Vec<_> = frames.chunks(2).map(|two| ip_header(two[0]).identification).collect();
        assert!(ids.is_sorted_by(|a, b| b.wrapping_sub(*a) == 1), "{ids:?}");
    }
}

#[test]
fn req4787_13_a_super_packet_whose_segments_must_not_be_cut_is_answered() {
    for (kind, size) in [(GsoKind::TcpV4, 1448), (GsoKind::Udp, 1450)] {
        let mut rig = narrow(LinkId::WAN, Offloads::ALL);
        let way = unbreakable(A);
        let (source, remote) = (ep(A, 40000), ep(R, 443));
        let frame = match kind {
            GsoKind::Udp => way.udp(source, remote, &payload(9000)),
            GsoKind::TcpV4 | GsoKind::TcpV4Ecn => way.tcp(source, remote, ACK, &payload(9000)),
        };
        let (frame, offload) = segmented(frame, kind, size);
        let out = rig.push_with(HOME, &frame, offload);
        assert_eq!(out.verdict, Verdict::Reply(ErrorKind::FragmentationNeeded(1400)));
        assert_eq!(out.one().1.embedded(), (source, remote));
    }
}

#[test]
fn req4787_13_fragments_that_must_not_be_cut_again_are_answered() {
    let mut rig = narrow(LinkId::WAN, Offloads::ALL);
    let frame = unbreakable(A).udp(ep(A, 5000), ep(R, 1), &payload(3000));
    let out = rig.push_pieces(HOME, &pieces(&frame, 1480));
    assert_eq!(out.verdict, Verdict::Reply(ErrorKind::FragmentationNeeded(1400)));
    // Shorter ones pass, and stay what must not be cut.
    let out = rig.push_pieces(HOME, &pieces(&frame, 1376));
    assert!(out.sent.iter().all(|(_, frame)| ip_header(frame).dont_fragment));
    assert_eq!(out.in_fragments().1.payload, payload(3000));
}

#[test]
fn the_routers_own_packet_is_cut_whatever_it_says() {
    let mut rig = narrow(HOME, Offloads::ALL);
    let own = unbreakable(HOME_ADDRESS).udp(ep(HOME_ADDRESS, 53), ep(A, 5000), &payload(1472));
    let out = rig.send_local(&own);
    assert!(out.sent.iter().all(|(_, frame)| !ip_header(frame).dont_fragment));
    let (link, seen, _) = out.in_fragments();
    assert_eq!((link, seen.payload), (HOME, payload(1472)));
}

#[test]
fn pmtu_an_error_from_outside_reaches_the_host_with_its_mtu() {
    let mut rig = Rig::new();
    let out = rig.push(HOME, &unbreakable(A).udp(ep(A, 5000), ep(R, 1), &payload(1472)));
    for mtu in [1492, 1280, 576, 0] {
        let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, needed(mtu), &out.sent[0].1[14..562]);
        let seen = rig.push(LinkId::WAN, &error).forwarded_to(HOME);
        assert_eq!(seen.carried, Carried::Icmp(needed(mtu)));
        assert_eq!((seen.destination.address, seen.embedded()), (A, (ep(A, 5000), ep(R, 1))));
    }
}

#[test]
fn pmtu_an_error_about_the_first_fragment_of_what_we_cut_reaches_the_host() {
    let mut rig = narrow(LinkId::WAN, Offloads::ALL);
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), &payload(1472)));
    let error = |quote: &[u8]| from(HOP).icmp_about(HOP, WAN_ADDRESS, needed(576), &quote[14..138]);
    let seen = rig.push(LinkId::WAN, &error(&out.sent[0].1)).forwarded_to(HOME);
    assert_eq!((seen.destination.address, seen.embedded()), (A, (ep(A, 5000), ep(R, 1))));
    let later = rig.push(LinkId::WAN, &error(&out.sent[1].1));
    later.dropped_for(DropReason::IcmpFragment);
}

#[test]
fn pmtu_a_lan_that_is_too_small_is_reported_outside_by_the_wan_address() {
    let mut rig = narrow(HOME, Offloads::ALL);
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"ask"));
    let big = unbreakable(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), &payload(1472));
    let (link, seen) = rig.push(LinkId::WAN, &big).one();
    assert_eq!((link, seen.carried.clone()), (LinkId::WAN, Carried::Icmp(needed(1400))));
    assert_eq!((seen.source.address, seen.destination.address), (WAN_ADDRESS, R));
    // Nothing inside shows.
    assert_eq!(seen.embedded(), (ep(R, 1), ep(WAN_ADDRESS, 5000)));
}

#[test]
fn pmtu_an_error_from_a_router_inside_reaches_the_outside_with_its_mtu() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"ask"));
    let big = unbreakable(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), &payload(1472));
    let out = rig.push(LinkId::WAN, &big);
    let error = from(A).icmp_about(A, R, needed(1300), &out.sent[0].1[14..][..548]);
    let seen = rig.push(HOME, &error).forwarded_to(LinkId::WAN);
    assert_eq!(seen.carried, Carried::Icmp(needed(1300)));
    assert_eq!(
        (seen.source.address, seen.embedded()),
        (WAN_ADDRESS, (ep(R, 1), ep(WAN_ADDRESS, 5000)))
    );
}

#[test]
fn pmtu_the_mss_is_clamped_both_ways_to_the_smaller_link() {
    for link in [LinkId::WAN, HOME] {
        let mut rig = narrow(link, Offloads::ALL);
        let options = [TcpOptionElement::MaximumSegmentSize(1460)];
        let syn = from(A).tcp_with(ep(A, 5000), ep(R, 80), SYN, &options, b"");
        let seen = rig.push(HOME, &syn).forwarded_to(LinkId::WAN);
        assert!(matches!(seen.carried, Carried::Tcp { mss: Some(1360), .. }), "{seen:?}");
        let (remote, external) = (ep(R, 80), ep(WAN_ADDRESS, 5000));
        let answer = from(R).tcp_with(remote, external, SYN | ACK, &options, b"");
        let seen = rig.push(LinkId::WAN, &answer).forwarded_to(HOME);
        assert!(matches!(seen.carried, Carried::Tcp { mss: Some(1360), .. }), "{seen:?}");
    }
}

#[test]
fn pmtu_the_mss_of_the_routers_own_syns_is_clamped_too() {
    let mut rig = narrow(LinkId::WAN, Offloads::ALL);
    let options = [TcpOptionElement::MaximumSegmentSize(65_495)];
    let own = unbreakable(HOME_ADDRESS);
    let lan = own.tcp_with(ep(HOME_ADDRESS, 53), ep(A, 5000), SYN | ACK, &options, b"");
    let seen = rig.send_local(&lan).forwarded_to(HOME);
    assert!(matches!(seen.carried, Carried::Tcp { mss: Some(1460), .. }), "{seen:?}");
    let wan = own.tcp_with(ep(HOME_ADDRESS, 5000), ep(R, 53), SYN, &options, b"");
    let seen = rig.send_local(&wan).forwarded_to(LinkId::WAN);
    assert!(matches!(seen.carried, Carried::Tcp { mss: Some(1360), .. }), "{seen:?}");
    let external = ep(WAN_ADDRESS, 5000);
    let answer = from(R).tcp_with(ep(R, 53), external, SYN | ACK, &options, b"");
    let out = rig.push(LinkId::WAN, &answer);
    let seen = see(&out.punt().frame);
    assert!(matches!(seen.carried, Carried::Tcp { mss: Some(1360), .. }), "{seen:?}");
}

#[test]
fn an_error_that_is_too_big_is_cut_or_dropped_but_never_answered() {
    let mut rig = narrow(HOME, Offloads::ALL);
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"probe"));
    let mut quote = out.sent[0].1[14..].to_vec();
    quote.resize(1450, 0);
    let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, needed(576), &quote);
    let (link, seen, _) = rig.push(LinkId::WAN, &error).in_fragments();
    assert_eq!((link, seen.carried), (HOME, Carried::Icmp(needed(576))));
    let error = with_ip(&error, |header| header.dont_fragment = true);
    rig.push(LinkId::WAN, &error).dropped_for(DropReason::TooBig);
}
