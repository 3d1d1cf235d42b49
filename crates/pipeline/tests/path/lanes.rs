//! What no flow carries: other stations' frames, ARP, DHCP, groups, spoofed sources, forbidden zones, and
//! next hops whose station is not known.

use std::net::Ipv4Addr;

use etherparse::{ArpOperation, Icmpv4Type, icmpv4};
use forwarding::Resolution;
use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId, MacAddr, Offloads, PuntReason};
use pipeline::Verdict;

use crate::frames::{ACK, Carried, SYN, Way, arp, ep};
use crate::rig::{
    A, B, G, GATEWAY, GUEST, HOME, HOME_ADDRESS, O, OFFICE, R, Rig, WAN_ADDRESS, by_dhcp, config,
    from, mac, router_mac,
};

#[test]
fn a_frame_for_another_station_is_not_for_us() {
    let mut rig = Rig::new();
    let frame = Way::new(mac(A), mac(B)).udp(ep(A, 5000), ep(R, 1), b"");
    rig.push(HOME, &frame).dropped_for(DropReason::NotForUs);
    let request = arp(ArpOperation::REPLY, (mac(A), A), (mac(B), B));
    rig.push(HOME, &request).dropped_for(DropReason::NotForUs);
}

#[test]
fn a_unicast_packet_in_a_broadcast_frame_is_never_forwarded() {
    let mut rig = Rig::new();
    let to_all = Way::new(mac(A), MacAddr::BROADCAST).udp(ep(A, 5000), ep(R, 1), b"");
    rig.push(HOME, &to_all).dropped_for(DropReason::Broadcast);
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"")).forwarded_to(LinkId::WAN);
    rig.push(HOME, &to_all).dropped_for(DropReason::Broadcast);
}

#[test]
fn arp_is_for_the_control_thread() {
    let mut rig = Rig::new();
    let request = arp(ArpOperation::REQUEST, (mac(A), A), (MacAddr::ZERO, HOME_ADDRESS));
    let out = rig.push(HOME, &request);
    let punt = out.punt();
    assert_eq!((punt.reason, punt.ingress, &punt.frame), (PuntReason::Arp, HOME, &request));
}

#[test]
fn dhcp_goes_to_the_server_only_where_there_is_one() {
    let mut rig = Rig::new();
    let (nobody, all) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let discover = |host| {
        Way::new(mac(host), MacAddr::BROADCAST).udp(ep(nobody, 68), ep(all, 67), b"discover")
    };
    let out = rig.push(HOME, &discover(A));
    assert_eq!((out.punt().reason, out.punt().ingress), (PuntReason::DhcpServer, HOME));
    rig.push(GUEST, &discover(G)).dropped_for(DropReason::Broadcast);
    let renewal = rig.push(HOME, &from(A).udp(ep(A, 68), ep(HOME_ADDRESS, 67), b"renew"));
    assert_eq!(renewal.punt().reason, PuntReason::DhcpServer);
}

#[test]
fn dhcp_on_the_wan_goes_to_the_client_only_if_there_is_one() {
    let mut rig = Rig::of(by_dhcp(config()), Vec::new());
    let answer =
        |to_mac, to| Way::new(mac(GATEWAY), to_mac).udp(ep(GATEWAY, 67), ep(to, 68), b"offer");
    let broadcast = answer(MacAddr::BROADCAST, Ipv4Addr::BROADCAST);
    let offered = answer(router_mac(LinkId::WAN), Ipv4Addr::new(198, 51, 100, 77));
    for frame in [&broadcast, &offered] {
        assert_eq!(rig.push(LinkId::WAN, frame).punt().reason, PuntReason::DhcpClient);
    }
    let mut fixed = Rig::new();
    fixed.push(LinkId::WAN, &broadcast).dropped_for(DropReason::Broadcast);
}

#[test]
fn groups_and_directed_broadcasts_are_not_routed() {
    let mut rig = Rig::new();
    let to = |address: [u8; 4]| from(A).udp(ep(A, 5000), ep(address.into(), 9), b"");
    rig.push(HOME, &to([224, 0, 0, 251])).dropped_for(DropReason::Multicast);
    rig.push(HOME, &to([255; 4])).dropped_for(DropReason::Broadcast);
    rig.push(HOME, &to([10, 0, 1, 255])).dropped_for(DropReason::Broadcast);
    rig.push(HOME, &to([10, 0, 2, 255])).dropped_for(DropReason::DirectedBroadcast);
    rig.push(HOME, &to([198, 51, 100, 255])).dropped_for(DropReason::DirectedBroadcast);
    rig.push(HOME, &to([127, 0, 0, 1])).dropped_for(DropReason::DestinationMartian);
}

#[test]
fn a_source_of_another_lan_is_spoofed_with_and_without_a_flow() {
    let mut rig = Rig::new();
    let genuine = from(A).udp(ep(A, 5000), ep(R, 1), b"");
    let spoofed = Way::new(mac(G), router_mac(GUEST)).udp(ep(A, 5000), ep(R, 1), b"");
    rig.push(GUEST, &spoofed).dropped_for(DropReason::SourceSpoofed);
    rig.push(HOME, &genuine).forwarded_to(LinkId::WAN);
    rig.push(GUEST, &spoofed).dropped_for(DropReason::SourceSpoofed);
    let ours = from(A).udp(ep(HOME_ADDRESS, 5000), ep(R, 1), b"");
    rig.push(HOME, &ours).dropped_for(DropReason::SourceSpoofed);
}

#[test]
fn a_lan_out_of_reach_is_prohibited_and_the_sender_is_told() {
    let mut rig = Rig::new();
    let out = rig.push(GUEST, &from(G).udp(ep(G, 5000), ep(A, 1), b"x"));
    assert_eq!(out.verdict, Verdict::Reply(ErrorKind::AdministrativelyProhibited));
    let (link, seen) = out.one();
    assert_eq!((link, seen.to_mac, seen.destination.address), (GUEST, mac(G), G));
    assert_eq!(seen.source.address, Ipv4Addr::new(10, 0, 2, 1));
    let unreachable = icmpv4::DestUnreachableHeader::FilterProhibited;
    assert_eq!(
        seen.carried,
        Carried::Icmp(Icmpv4Type::DestinationUnreachable(unreachable)),
        "code 13"
    );
    assert_eq!(seen.embedded(), (ep(G, 5000), ep(A, 1)));
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn a_lan_in_reach_is_routed_untranslated_and_answers() {
    let mut rig = Rig::new();
    let (client, server) = (ep(O, 40000), ep(A, 22));
    let syn = rig.push(OFFICE, &from(O).tcp(client, server, SYN, b""));
    let seen = syn.forwarded_to(HOME);
    assert_eq!((seen.endpoints(), seen.to_mac), ((client, server), mac(A)));
    let answer = rig.push(HOME, &from(A).tcp(server, client, SYN | ACK, b""));
    assert_eq!(answer.forwarded_to(OFFICE).endpoints(), (server, client));
    let back = rig.push(HOME, &from(A).tcp(ep(A, 41000), ep(O, 22), SYN, b""));
    assert_eq!(back.verdict, Verdict::Reply(ErrorKind::AdministrativelyProhibited));
}

#[test]
fn a_packet_whose_next_hop_is_unknown_comes_back_untouched_and_then_passes() {
    let mut rig = Rig::without_neighbours(config(), Vec::new(), Offloads::ALL);
    rig.learn(HOME, A);
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"first");
    let out = rig.push(HOME, &frame);
    assert_eq!(out.verdict, Verdict::Resolve(LinkId::WAN, GATEWAY));
    let punt = out.punt().clone();
    assert_eq!((punt.reason, punt.ingress), (PuntReason::NeighbourMissing, HOME));
    assert_eq!((punt.wanted, &punt.frame), (Some((LinkId::WAN, GATEWAY)), &frame));
    assert_eq!(rig.sessions(), 0, "no session before both stations are known");

    let released = rig.resolve(&punt);
    let seen = rig.take_again(&released[0]).forwarded_to(LinkId::WAN);
    assert_eq!((seen.source, seen.to_mac), (ep(WAN_ADDRESS, 5000), mac(GATEWAY)));
    assert_eq!(rig.sessions(), 1);
}

#[test]
fn the_senders_own_station_is_asked_for_before_a_session_is_opened() {
    let mut rig = Rig::without_neighbours(config(), Vec::new(), Offloads::ALL);
    rig.learn(LinkId::WAN, GATEWAY);
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"first"));
    assert_eq!(out.punt().wanted, Some((HOME, A)));
    let punt = out.punt().clone();
    let released = rig.resolve(&punt);
    rig.take_again(&released[0]).forwarded_to(LinkId::WAN);
}

#[test]
fn a_flow_whose_neighbour_left_asks_for_it_again_and_goes_on() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"x");
    rig.push(HOME, &frame).forwarded_to(LinkId::WAN);
    rig.arp.forget(LinkId::WAN, GATEWAY);
    let out = rig.push(HOME, &frame);
    assert_eq!((&out.punt().frame, out.punt().wanted), (&frame, Some((LinkId::WAN, GATEWAY))));
    let punt = out.punt().clone();
    let released = rig.resolve(&punt);
    assert_eq!(rig.take_again(&released[0]).forwarded_to(LinkId::WAN).source.port, 5000);
    rig.push(HOME, &frame).forwarded_to(LinkId::WAN);
    assert_eq!(rig.sessions(), 1);
}

#[test]
fn a_neighbour_that_changes_its_station_keeps_its_flows() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"x");
    rig.push(HOME, &frame);
    let spare = MacAddr([6, 9, 9, 9, 9, 9]);
    let takeover = arp(ArpOperation::REQUEST, (spare, GATEWAY), (MacAddr::ZERO, WAN_ADDRESS));
    rig.arp.handle_arp(&takeover, LinkId::WAN, rig.now);
    assert_eq!(rig.push(HOME, &frame).forwarded_to(LinkId::WAN).to_mac, spare);
}

#[test]
fn a_next_hop_that_never_answers_is_given_up() {
    let mut rig = Rig::new();
    let out = rig.push(OFFICE, &from(O).udp(ep(O, 5000), ep([10, 0, 1, 99].into(), 1), b"x"));
    let (link, address) = out.punt().wanted.unwrap();
    let frame = forwarding::WaitingFrame {
        ingress: OFFICE,
        offload: packet::Offload::NONE,
        frame: out.punt().frame.clone(),
    };
    rig.arp.handle_unresolved(link, address, frame, rig.now);
    for _ in 0..4 {
        rig.advance(std::time::Duration::from_secs(1));
        rig.arp.handle_timeout(rig.now);
    }
    assert_eq!(rig.arp.poll_released().unwrap().resolution, Resolution::Failed);
}

#[test]
fn a_full_punt_ring_is_a_counted_drop() {
    let mut rig = Rig::new();
    let request = arp(ArpOperation::REQUEST, (mac(A), A), (MacAddr::ZERO, HOME_ADDRESS));
    for _ in 0..pipeline::RING_LEN / 64 + 1 {
        rig.push_batch(HOME, &vec![request.clone(); 64]);
    }
    assert_eq!(rig.counters.punted(PuntReason::Arp), pipeline::RING_LEN as u64);
    assert_eq!(rig.counters.dropped(DropReason::PuntRingFull), 64);
}
