//! What is foretold of a frame is what then becomes of it, and asking leaves no trace.

use etherparse::{Icmpv4Type, TcpOptionElement, icmpv4};
use nat::{Direction, Origin};
use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId, MacAddr, PacketBuf, Protocol, PuntReason};
use pipeline::{
    Decider, Explanation, FlowFate, Probe, ProbeKind, Sight, Verdict, Way, explain, lan_id,
};

use crate::frames::{ACK, RST, SYN, arp, echo_reply, echo_request, ep, pieces, see};
use crate::rig::{
    A, B, G, GATEWAY, GUEST, HOME, HOME_ADDRESS, O, OFFICE, Outcome, R, R2, Rig, WAN_ADDRESS, WEB,
    config, config_with, from, mac, router_mac, web_forward,
};

/// Everything that a packet could leave behind.
pub fn traces(rig: &Rig) -> String {
    let links = (0..4).map(LinkId).chain([LinkId::LOCAL]);
    let counts: Vec<_> = links.map(|link| format!("{:?}", rig.counters.link(link))).collect();
    let mut observer = rig.tables.domain().participant().unwrap();
    let pass = observer.pass();
    let mut sessions = Vec::new();
    let timeouts = &rig.snapshot.nat.timeouts;
    rig.tables.for_each_session(&pass, rig.now, timeouts, |info| {
        sessions.push(format!("{info:?}"));
    });
    let tallies: Vec<_> =
        rig.runtime.policy.book.iter().map(|(_, tally)| format!("{tally:?}")).collect();
    let totals =
        (rig.counters.opened.load(), rig.counters.refused.load(), rig.counters.relayed.load());
    let quotas = rig.tables.mappings_counted();
    format!("{counts:?} {sessions:?} {tallies:?} {totals:?} {quotas} {:?}", rig.tables.stats())
}

/// Asks what would become of a frame, and checks that asking changed nothing.
pub fn ask(rig: &Rig, link: LinkId, frame: &[u8], offload: packet::Offload) -> Explanation {
    let before = traces(rig);
    let mut packet = PacketBuf::large();
    assert!(packet.copy_from(frame));
    (packet.ingress, packet.offload) = (link, offload);
    let neighbours = rig.arp.neighbours();
    let mut observer = rig.tables.domain().participant().unwrap();
    let pass = observer.pass();
    let told = explain(
        packet,
        Sight {
            tables: &rig.tables,
            pass: &pass,
            neighbours: &neighbours,
            snapshot: &rig.snapshot,
            now: rig.now,
        },
    );
    drop(pass);
    assert_eq!(traces(rig), before, "asking left a trace");
    told
}

/// Checks that what leaves by itself is what was foretold.
#[track_caller]
pub fn assert_foretold(told: &Explanation, out: &Outcome) {
    assert_eq!(told.verdict, out.verdict, "{told:?}");
    let Verdict::Forward(link) = told.verdict else { return };
    let hop = told.hop.expect("what leaves has a way");
    assert_eq!(hop.egress, link);
    if let [(_, frame)] = &out.sent[..] {
        let seen = see(frame);
        assert_eq!(hop.mac, Some(seen.to_mac));
        let translated = told.translated.expect("a flow has two ends");
        assert_eq!(translated.source.address, seen.source.address);
        assert_eq!(translated.destination.address, seen.destination.address);
        if told.cut_to.is_none() && matches!(seen.carried, crate::frames::Carried::Udp) {
            assert_eq!(translated.destination, seen.destination);
            if translated.origin != Some(Origin::Drawn) {
                assert_eq!(translated.source, seen.source);
            }
        }
    }
}

/// Asks, then sends the frame; both agree.
#[track_caller]
fn foretell(rig: &mut Rig, link: LinkId, frame: &[u8]) -> Explanation {
    let told = ask(rig, link, frame, packet::Offload::NONE);
    let out = rig.push(link, frame);
    assert_foretold(&told, &out);
    told
}

#[test]
fn a_first_packet_outward_opens_a_flow_with_its_own_port() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(A, 5000), ep(R, 53), b"x");
    let told = foretell(&mut rig, HOME, &frame);
    assert_eq!(told.verdict, Verdict::Forward(LinkId::WAN));
    assert_eq!(told.flow, FlowFate::Opens(Direction::Outbound));
    assert_eq!(told.decider, Some(Decider::Zones));
    let translated = told.translated.unwrap();
    assert_eq!(translated.source, ep(WAN_ADDRESS, 5000));
    assert_eq!(translated.origin, Some(Origin::Preserved));
    let hop = told.hop.unwrap();
    assert_eq!((hop.next_hop, hop.mac), (GATEWAY, Some(mac(GATEWAY))));
    let queue = told.queue.unwrap();
    assert_eq!((queue.way, queue.host), (Way::Upload, Some(A)));
}

#[test]
fn a_packet_of_a_flow_shows_its_session_in_both_directions() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(A, 5000), ep(R, 53), b"x");
    rig.push(HOME, &frame);
    let told = foretell(&mut rig, HOME, &frame);
    let FlowFate::Known(session) = told.flow else { panic!("{told:?}") };
    assert_eq!((session.internal.0, session.packets), (ep(A, 5000), [1, 0]));
    let answer = from(R).udp(ep(R, 53), ep(WAN_ADDRESS, 5000), b"y");
    let told = foretell(&mut rig, LinkId::WAN, &answer);
    assert!(matches!(told.flow, FlowFate::Known(_)));
    assert_eq!(told.translated.unwrap().destination, ep(A, 5000));
    assert_eq!(told.queue.unwrap().host, Some(A));
}

#[test]
fn a_second_flow_of_an_endpoint_shares_its_mapping_and_a_taken_port_is_drawn_anew() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 53), b"x"));
    let told = foretell(&mut rig, HOME, &from(A).udp(ep(A, 5000), ep(R2, 53), b"x"));
    assert_eq!(told.translated.unwrap().origin, Some(Origin::Mapped));
    let told = foretell(&mut rig, HOME, &from(B).udp(ep(B, 5000), ep(R, 53), b"x"));
    assert_eq!(told.translated.unwrap().origin, Some(Origin::Drawn));
    let told = foretell(&mut rig, HOME, &from(A).icmp(A, R, echo_request(7)));
    assert_eq!(told.flow, FlowFate::Opens(Direction::Outbound));
}

#[test]
fn a_connection_from_outside_is_foretold_segment_by_segment() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let (client, web) = (ep(R, 40000), ep(WAN_ADDRESS, WEB));
    let told = foretell(&mut rig, LinkId::WAN, &from(R).tcp(client, web, SYN, b""));
    assert_eq!((told.flow, told.decider), (FlowFate::Pending, Some(Decider::Translation)));
    assert_eq!(told.translated.unwrap().destination, ep(B, 80));
    let answer = from(B).tcp_at(ep(B, 80), client, SYN | ACK, (5000, 1001));
    let told = foretell(&mut rig, HOME, &answer);
    assert_eq!(told.translated.unwrap().source, web);
    let told = foretell(&mut rig, LinkId::WAN, &from(R).tcp_at(client, web, ACK, (1001, 5001)));
    assert_eq!(told.flow, FlowFate::Opens(Direction::Inbound));
    let forged = from(R).tcp_at(client, web, RST, (9_000_000, 0));
    let told = foretell(&mut rig, LinkId::WAN, &forged);
    assert_eq!(told.reason, Some(DropReason::TcpResetOutOfWindow));
    let told =
        foretell(&mut rig, LinkId::WAN, &from(R2).tcp(ep(R2, 1), ep(WAN_ADDRESS, 81), SYN, b""));
    assert_eq!(told.reason, Some(DropReason::NoMapping));
}

#[test]
fn hairpins_routes_and_the_routers_own_are_foretold() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let told = foretell(&mut rig, HOME, &from(A).tcp(ep(A, 4000), ep(WAN_ADDRESS, WEB), SYN, b""));
    assert_eq!(told.flow, FlowFate::Opens(Direction::Hairpin));
    assert_eq!(told.translated.unwrap().destination, ep(B, 80));
    let told = foretell(&mut rig, OFFICE, &from(O).udp(ep(O, 5), ep(A, 9), b""));
    assert_eq!(told.flow, FlowFate::Opens(Direction::Routed));
    let told = foretell(&mut rig, GUEST, &from(G).udp(ep(G, 5), ep(A, 9), b""));
    assert_eq!(told.verdict, Verdict::Reply(ErrorKind::AdministrativelyProhibited));
    assert_eq!((told.reason, told.decider), (Some(DropReason::PolicyDenied), Some(Decider::Zones)));
    let told = foretell(&mut rig, HOME, &from(A).udp(ep(A, 5), ep(HOME_ADDRESS, 53), b""));
    assert_eq!(told.verdict, Verdict::Punt(PuntReason::Local));
}

#[test]
fn the_rule_that_decides_is_named() {
    let rules = "
[[policy.rule]]
action = \"refuse\"
from = \"home\"
to = \"wan\"
protocol = \"tcp\"
port = 25
[[policy.rule]]
action = \"drop\"
from = \"home\"
to = \"wan\"
protocol = \"udp\"
port = 123
[[policy.rule]]
action = \"allow\"
from = \"guest\"
to = \"home\"
rate = \"1/h\"
burst = 1
";
    let mut rig = Rig::of(config_with(rules), Vec::new());
    let told = foretell(&mut rig, HOME, &from(A).tcp(ep(A, 5), ep(R, 25), SYN, b""));
    assert_eq!((told.verdict, told.decider), (Verdict::Reset, Some(Decider::Rule(0))));
    let told = foretell(&mut rig, HOME, &from(A).udp(ep(A, 5), ep(R, 123), b""));
    assert_eq!((told.reason, told.decider), (Some(DropReason::RuleDenied), Some(Decider::Rule(1))));
    let frame = from(G).udp(ep(G, 5), ep(A, 7), b"");
    let told = foretell(&mut rig, GUEST, &frame);
    assert_eq!((told.verdict, told.decider), (Verdict::Forward(HOME), Some(Decider::Rule(2))));
    let told = foretell(&mut rig, GUEST, &from(G).udp(ep(G, 6), ep(A, 7), b""));
    assert_eq!(told.reason, Some(DropReason::RuleRate));
}

#[test]
fn a_filter_and_a_stranger_are_told_apart() {
    let mut rig = Rig::new();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 53), b"x"));
    let told =
        foretell(&mut rig, LinkId::WAN, &from(R2).udp(ep(R2, 53), ep(WAN_ADDRESS, 5000), b""));
    assert_eq!(told.reason, Some(DropReason::FilterDenied));
    let told =
        foretell(&mut rig, LinkId::WAN, &from(R2).udp(ep(R2, 53), ep(WAN_ADDRESS, 5001), b""));
    assert_eq!(told.reason, Some(DropReason::NoMapping));
    let told = foretell(&mut rig, LinkId::WAN, &from(R2).icmp(R2, WAN_ADDRESS, echo_reply(3)));
    assert!(matches!(told.verdict, Verdict::Drop(_)));
}

#[test]
fn quotas_are_foretold_and_not_spent_by_asking() {
    let mut config = config();
    config.nat.mappings_per_host_max = 1;
    let mut rig = Rig::of(config, Vec::new());
    foretell(&mut rig, HOME, &from(A).udp(ep(A, 5000), ep(R, 53), b"x"));
    let told = foretell(&mut rig, HOME, &from(A).udp(ep(A, 5001), ep(R, 53), b"x"));
    assert_eq!(told.reason, Some(DropReason::HostQuota));
    assert_eq!(told.verdict, Verdict::Reply(ErrorKind::HostUnreachable));
    rig.config.nat.mappings_per_host_max = 100;
    rig.config.nat.sessions_per_host_max = Some(2);
    rig.publish();
    foretell(&mut rig, HOME, &from(A).udp(ep(A, 5001), ep(R, 53), b"x"));
    let told = foretell(&mut rig, HOME, &from(A).udp(ep(A, 5002), ep(R, 53), b"x"));
    assert_eq!(told.reason, Some(DropReason::HostSessions));
    rig.config.nat.sessions_per_host_max = None;
    (rig.config.nat.new_flows_per_host, rig.config.nat.new_flows_burst) = (1, 1);
    rig.publish();
    foretell(&mut rig, HOME, &from(B).udp(ep(B, 6000), ep(R, 53), b"x"));
    let told = foretell(&mut rig, HOME, &from(B).udp(ep(B, 6001), ep(R, 53), b"x"));
    assert_eq!(told.reason, Some(DropReason::HostRate));
}

#[test]
fn a_full_table_is_foretold() {
    let mut rig = Rig::new();
    rig.config.nat.sessions_per_host_max = Some(u32::MAX);
    rig.publish();
    let mut port = 1024;
    loop {
        port += 1;
        let frame = from(A).udp(ep(A, 5000), ep(R, port), b"x");
        let told = ask(&rig, HOME, &frame, packet::Offload::NONE);
        let out = rig.push(HOME, &frame);
        if told.reason == Some(DropReason::SessionTableFull) {
            assert_foretold(&told, &out);
            break;
        }
        // A full bucket is not foretold: whether one is full only shows when it is used.
    }
    assert_eq!(rig.sessions(), rig.tables.stats().sessions_max);
}

#[test]
fn an_unknown_neighbour_is_named() {
    let mut rig = Rig::without_neighbours(config(), Vec::new(), packet::Offloads::ALL);
    let told = foretell(&mut rig, HOME, &from(A).udp(ep(A, 5000), ep(R, 53), b"x"));
    assert_eq!(told.verdict, Verdict::Resolve(LinkId::WAN, GATEWAY));
    let hop = told.hop.unwrap();
    assert_eq!((hop.next_hop, hop.mac), (GATEWAY, None));
}

#[test]
fn what_must_not_go_on_is_foretold_with_what_its_sender_hears() {
    let mut rig = Rig::new();
    rig.runtime.links[0].mtu = 1400;
    rig.publish();
    let mut way = from(A);
    way.ttl = 1;
    let told = foretell(&mut rig, HOME, &way.udp(ep(A, 5000), ep(R, 1), b""));
    assert_eq!(told.verdict, Verdict::Reply(ErrorKind::TimeExceeded));
    let mut way = from(A);
    way.dont_fragment = true;
    let told = foretell(&mut rig, HOME, &way.udp(ep(A, 5000), ep(R, 1), &[0; 1400]));
    assert_eq!(told.verdict, Verdict::Reply(ErrorKind::FragmentationNeeded(1400)));
    let told = foretell(&mut rig, HOME, &from(A).udp(ep(A, 5000), ep(R, 1), &[0; 1400]));
    assert_eq!((told.verdict, told.cut_to), (Verdict::Forward(LinkId::WAN), Some(1400)));
}

#[test]
fn a_clamped_mss_is_told_before_and_after() {
    let mut rig = Rig::new();
    rig.runtime.links[0].mtu = 1400;
    rig.publish();
    let mss = [TcpOptionElement::MaximumSegmentSize(1460)];
    let syn = from(A).tcp_with(ep(A, 5000), ep(R, 80), SYN, &mss, b"");
    let told = foretell(&mut rig, HOME, &syn);
    assert_eq!(told.mss, Some((1460, 1360)));
}

#[test]
fn what_is_no_packet_of_a_flow_is_foretold() {
    let mut rig = Rig::new();
    let good = from(A).udp(ep(A, 5000), ep(R, 53), &[7; 64]);
    let mut broken = good.clone();
    broken[24] ^= 1;
    assert_eq!(foretell(&mut rig, HOME, &broken).reason, Some(DropReason::IpChecksum));
    assert_eq!(foretell(&mut rig, HOME, &good[..20]).reason, Some(DropReason::IpTruncated));
    let first = &pieces(&good, 32)[0];
    assert_eq!(foretell(&mut rig, HOME, first).verdict, Verdict::Hold);
    let spoofed = &pieces(&from(R).udp(ep(R, 5000), ep(R2, 53), &[7; 64]), 32)[0];
    let mut inside = spoofed.clone();
    inside[..6].copy_from_slice(&router_mac(HOME).0);
    assert_eq!(foretell(&mut rig, HOME, &inside).reason, Some(DropReason::SourceSpoofed));
    let who_has =
        arp(etherparse::ArpOperation::REQUEST, (mac(A), A), (MacAddr::ZERO, HOME_ADDRESS));
    assert_eq!(foretell(&mut rig, HOME, &who_has).verdict, Verdict::Punt(PuntReason::Arp));
}

#[test]
fn errors_are_foretold_with_whom_they_reach() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 53), b"x"));
    let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let error = from(R).icmp_about(R, WAN_ADDRESS, kind.clone(), &out.sent[0].1[14..]);
    let told = foretell(&mut rig, LinkId::WAN, &error);
    assert_eq!((told.flow, told.verdict), (FlowFate::About, Verdict::Forward(HOME)));
    assert_eq!(told.translated.unwrap().destination.address, A);
    let syn = from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), SYN, b"");
    let out = rig.push(LinkId::WAN, &syn);
    let error = from(B).icmp_about(B, R, kind, &out.sent[0].1[14..]);
    let told = foretell(&mut rig, HOME, &error);
    assert_eq!((told.flow, told.verdict), (FlowFate::Pending, Verdict::Forward(LinkId::WAN)));
    assert_eq!(told.translated.unwrap().source.address, WAN_ADDRESS);
}

#[test]
fn tunnels_are_foretold() {
    let mut rig = Rig::new();
    for (protocol, segment) in [(Protocol::Gre, [0; 8]), (Protocol::Esp, [1; 8])] {
        let frame = from(A).raw(protocol, A, R, &segment);
        let told = foretell(&mut rig, HOME, &frame);
        assert_eq!(told.flow, FlowFate::Opens(Direction::Outbound));
        let told = foretell(&mut rig, HOME, &frame);
        assert!(matches!(told.flow, FlowFate::Known(_)));
    }
    let told = foretell(&mut rig, HOME, &from(B).raw(Protocol::Gre, B, R, &[0; 8]));
    assert_eq!(told.reason, Some(DropReason::PeerTaken));
    let answer = from(R).raw(Protocol::Esp, R, WAN_ADDRESS, &[2; 8]);
    let told = foretell(&mut rig, LinkId::WAN, &answer);
    assert_eq!(told.flow, FlowFate::Opens(Direction::Inbound));
}

#[test]
fn a_reload_is_foretold_for_the_flows_that_it_ends_and_those_that_go_on() {
    let web = "[[forward]]\nprotocol = \"tcp\"\nport = 8080\nto = \"10.0.1.3:80\"\n";
    let mut rig = Rig::of(config_with(web), Vec::new());
    rig.reload(web);
    let frame = from(A).udp(ep(A, 5000), ep(R, 53), b"x");
    rig.push(HOME, &frame);
    let third = rig.accept(ep(R, 40000));
    rig.publish();
    assert!(matches!(foretell(&mut rig, HOME, &frame).flow, FlowFate::Known(_)));
    assert!(matches!(foretell(&mut rig, LinkId::WAN, &third).flow, FlowFate::Known(_)));
    let rule = "[[policy.rule]]\naction = \"drop\"\nfrom = \"anywhere\"\nto = \"anywhere\"\n";
    rig.reload(&format!("{web}{rule}"));
    let told = foretell(&mut rig, HOME, &frame);
    assert_eq!((told.reason, told.decider), (Some(DropReason::RuleDenied), Some(Decider::Rule(0))));
    let told = foretell(&mut rig, LinkId::WAN, &third);
    assert_eq!(told.reason, Some(DropReason::RuleDenied));
    rig.reload("");
    let told = foretell(&mut rig, LinkId::WAN, &third);
    assert_eq!(told.reason, Some(DropReason::NoMapping));
}

#[test]
fn a_change_of_the_wan_address_is_foretold_to_open_the_flow_anew() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(A, 5000), ep(R, 53), b"x");
    rig.push(HOME, &frame);
    rig.runtime.wan = Some(crate::rig::wan_at([198, 51, 100, 42].into(), GATEWAY));
    rig.publish();
    rig.learn(LinkId::WAN, GATEWAY);
    let told = foretell(&mut rig, HOME, &frame);
    assert_eq!(told.flow, FlowFate::Opens(Direction::Outbound));
    assert_eq!(told.translated.unwrap().source, ep([198, 51, 100, 42].into(), 5000));
    rig.runtime.wan = None;
    rig.publish();
    let told = foretell(&mut rig, HOME, &frame);
    assert_eq!(told.reason, Some(DropReason::WanDown));
}

#[test]
fn a_probe_is_a_packet_like_one_that_a_host_sends() {
    let mut rig = Rig::of(config(), vec![web_forward()]);
    let kinds = [
        (ProbeKind::Tcp(SYN), ep(R, 80)),
        (ProbeKind::Udp, ep(R, 53)),
        (ProbeKind::Echo, ep(R, 0)),
    ];
    for (kind, destination) in kinds {
        let probe = Probe { kind, source: ep(A, 5000), destination };
        let packet = probe.packet(router_mac(lan_id(0)));
        // Checks lengths and checksums.
        see(packet.frame());
        let told = foretell(&mut rig, HOME, packet.frame());
        assert_eq!(told.flow, FlowFate::Opens(Direction::Outbound), "{kind:?}");
        let datagram = told.datagram.unwrap();
        assert_eq!((datagram.source, datagram.destination), (probe.source, probe.destination));
    }
}
