//! Rules: what they decide, what they count, and what a reload of them does to flows.

use std::time::Duration;

use config::WeekMinute;
use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId, Protocol, PuntReason};
use pipeline::{RuleOutcome, Verdict, configured_forwards};

use crate::frames::{ACK, Carried, SYN, echo_request, ep};
use crate::rig::{
    A, B, G, GUEST, HOME, HOME_ADDRESS, O, OFFICE, R, R2, Rig, WAN_ADDRESS, WEB, config_with, from,
    mac, router_mac,
};

const PROHIBITED: Verdict = Verdict::Reply(ErrorKind::AdministrativelyProhibited);

const WEB_FORWARD: &str = "[[forward]]\nprotocol = \"tcp\"\nport = 8080\nto = \"10.0.1.3:80\"\n";

/// One rule of the file.
fn rule(lines: &str) -> String {
    format!("[[policy.rule]]\n{lines}\n")
}

/// A house with the web server behind a forward, and these rules.
fn rig(tail: &str) -> Rig {
    let config = config_with(&format!("{WEB_FORWARD}{tail}"));
    let forwards = configured_forwards(&config);
    Rig::of(config, forwards)
}

/// Flows, refused and limited packets of each rule.
fn tallies(rig: &Rig) -> Vec<[u64; 3]> {
    let book = rig.runtime.policy.book.iter();
    book.map(|(_, tally)| [tally.flows(), tally.refused(), tally.limited()]).collect()
}

fn answered(rig: &Rig, link: LinkId, reason: DropReason) -> u64 {
    rig.counters.link(link).answered[reason.index()].load()
}

#[test]
fn req5508_8_a_refused_flow_is_answered_by_a_reset_or_icmp_and_a_dropped_one_by_silence() {
    let refuse = rule("action = \"refuse\"\nfrom = \"home\"\nprotocol = \"both\"\nport = 25");
    let drop = rule("action = \"drop\"\nfrom = \"home\"\nprotocol = \"both\"\nport = 26");
    let mut rig = rig(&format!("{refuse}{drop}"));
    let syn = rig.push(HOME, &from(A).tcp(ep(A, 40000), ep(R, 25), SYN, b""));
    assert_eq!(syn.verdict, Verdict::Reset);
    let (link, seen) = syn.one();
    assert_eq!((link, seen.endpoints()), (HOME, (ep(R, 25), ep(A, 40000))));
    assert_eq!((seen.from_mac, seen.to_mac), (router_mac(HOME), mac(A)));
    assert!(matches!(seen.carried, Carried::Tcp { flags: 0x14, sequence: 0, .. }), "{seen:?}");

    let udp = rig.push(HOME, &from(A).udp(ep(A, 40000), ep(R, 25), b""));
    assert_eq!(udp.verdict, PROHIBITED);
    assert_eq!(udp.one().1.embedded(), (ep(A, 40000), ep(R, 25)));

    let silent =
        [from(A).tcp(ep(A, 40001), ep(R, 26), SYN, b""), from(A).udp(ep(A, 40001), ep(R, 26), b"")];
    for frame in silent {
        rig.push(HOME, &frame).dropped_for(DropReason::RuleDenied);
    }
    assert_eq!((rig.sessions(), tallies(&rig)), (0, vec![[0, 2, 0], [0, 2, 0]]));
    assert_eq!(answered(&rig, HOME, DropReason::RuleDenied), 2);
}

#[test]
fn the_first_rule_that_matches_decides_and_counts() {
    let mut rig = rig(&format!(
        "{}{}",
        rule("action = \"allow\"\nfrom = \"guest\"\nto = \"home\"\nprotocol = \"tcp\"\nport = 22"),
        rule("action = \"drop\"\nfrom = \"guest\"\nto = \"home\""),
    ));
    let ssh = rig.push(GUEST, &from(G).tcp(ep(G, 40000), ep(A, 22), SYN, b""));
    ssh.forwarded_to(HOME);
    rig.push(GUEST, &from(G).tcp(ep(G, 40000), ep(A, 22), ACK, b"")).forwarded_to(HOME);
    let web = rig.push(GUEST, &from(G).tcp(ep(G, 40000), ep(A, 80), SYN, b""));
    web.dropped_for(DropReason::RuleDenied);
    let out = rig.push(GUEST, &from(G).tcp(ep(G, 40000), ep(R, 80), SYN, b""));
    out.forwarded_to(LinkId::WAN);
    assert_eq!(tallies(&rig), [[1, 0, 0], [0, 1, 0]]);
}

#[test]
fn without_a_rule_lans_and_the_wan_stay_apart() {
    let mut rig = rig("");
    let across = rig.push(GUEST, &from(G).tcp(ep(G, 40000), ep(A, 22), SYN, b""));
    assert_eq!(across.verdict, PROHIBITED);
    assert_eq!(answered(&rig, GUEST, DropReason::PolicyDenied), 1);
    let inwards = rig.push(LinkId::WAN, &from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, 22), SYN, b""));
    inwards.dropped_for(DropReason::NoMapping);
    let past = rig.push(LinkId::WAN, &from(R).tcp(ep(R, 40000), ep(A, 22), SYN, b""));
    past.dropped_for(DropReason::PolicyDenied);
}

#[test]
fn zones_sets_and_ranges_name_many_at_once() {
    let mut rig = rig(&format!(
        r#"
        [[policy.zone]]
        name = "private"
        lans = ["home", "office"]
        [policy.set]
        mail = ["203.0.113.8", "@others"]
        others = ["192.0.2.0/24"]
        {}"#,
        rule(
            "action = \"drop\"\nfrom = \"private\"\nto = \"wan\"\nprotocol = \"tcp\"\n\
             port = [25, \"587-588\"]\ndestination = \"@mail\"",
        ),
    ));
    for (link, host, remote, port, passes) in [
        (HOME, A, R2, 25, false),
        (HOME, A, R2, 588, false),
        (HOME, A, R2, 589, true),
        (HOME, A, R, 25, true),
        (OFFICE, O, R2, 587, false),
        (OFFICE, O, [192, 0, 2, 200].into(), 25, false),
        (GUEST, G, R2, 25, true),
    ] {
        let out = rig.push(link, &from(host).tcp(ep(host, 40000), ep(remote, port), SYN, b""));
        let expected = if passes {
            Verdict::Forward(LinkId::WAN)
        } else {
            Verdict::Drop(DropReason::RuleDenied)
        };
        assert_eq!(out.verdict, expected, "{host} to {remote}:{port}");
    }
}

#[test]
fn rules_from_the_wan_see_the_host_behind_a_forward() {
    let mut rig = rig(&format!(
        "{}{}",
        rule(
            "action = \"allow\"\nfrom = \"wan\"\nto = \"home\"\nprotocol = \"tcp\"\nport = 80\n\
             source = \"203.0.113.7\"\ndestination = \"10.0.1.3\"",
        ),
        rule("action = \"refuse\"\nfrom = \"wan\"\nto = \"anywhere\""),
    ));
    let syn = |remote, port| from(remote).tcp(ep(remote, 40000), ep(WAN_ADDRESS, port), SYN, b"");
    rig.accept(ep(R, 40000));
    assert_eq!(rig.push(LinkId::WAN, &syn(R2, WEB)).verdict, Verdict::Reset);
    rig.push(LinkId::WAN, &syn(R2, 22)).dropped_for(DropReason::NoMapping);
    // What hosts inside began is theirs.
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R2, 1), b"")).forwarded_to(LinkId::WAN);
    let back = rig.push(LinkId::WAN, &from(R2).udp(ep(R2, 1), ep(WAN_ADDRESS, 5000), b""));
    back.forwarded_to(HOME);
    assert_eq!(tallies(&rig), [[1, 0, 0], [0, 1, 0]]);
}

#[test]
fn rules_of_a_lan_see_the_host_behind_a_forward_too() {
    let blocked = rule("action = \"refuse\"\nfrom = \"guest\"\nto = \"home\"");
    let mut rig = rig(&blocked);
    let syn = |host| from(host).tcp(ep(host, 40000), ep(WAN_ADDRESS, WEB), SYN, b"");
    assert_eq!(rig.push(GUEST, &syn(G)).verdict, Verdict::Reset);
    rig.push(HOME, &syn(A)).forwarded_to(HOME);
    assert_eq!((rig.sessions(), tallies(&rig)), (1, vec![[0, 1, 0]]));
}

#[test]
fn ping_of_the_wan_address_may_be_for_some() {
    let ping = |remote| from(remote).icmp(remote, WAN_ADDRESS, echo_request(7));
    let allow = rule(
        "action = \"allow\"\nfrom = \"wan\"\nto = \"router\"\nprotocol = \"icmp\"\n\
         source = \"203.0.113.7\"",
    );
    let refuse = rule("action = \"drop\"\nfrom = \"wan\"\nto = \"router\"");
    let mut rig = rig(&allow);
    rig.config.wan.ping = config::Ping::Silent;
    rig.publish();
    assert_eq!(rig.push(LinkId::WAN, &ping(R)).punt().reason, PuntReason::Local);
    rig.push(LinkId::WAN, &ping(R2)).dropped_for(DropReason::NoMapping);
    rig.reload(&format!("{allow}{refuse}"));
    assert_eq!(rig.push(LinkId::WAN, &ping(R)).punt().reason, PuntReason::Local);
    rig.push(LinkId::WAN, &ping(R2)).dropped_for(DropReason::RuleDenied);
    assert_eq!(tallies(&rig), [[2, 0, 0], [0, 1, 0]]);
}

#[test]
fn a_rule_may_tell_those_who_knock_at_closed_ports() {
    let ident = rule(
        "action = \"refuse\"\nfrom = \"wan\"\nto = \"router\"\nprotocol = \"tcp\"\nport = 113",
    );
    let mut rig = rig(&ident);
    let syn = |port| from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, port), SYN, b"");
    let (link, seen) = rig.push(LinkId::WAN, &syn(113)).one();
    assert_eq!((link, seen.endpoints()), (LinkId::WAN, (ep(WAN_ADDRESS, 113), ep(R, 40000))));
    rig.push(LinkId::WAN, &syn(114)).dropped_for(DropReason::NoMapping);
}

#[test]
fn the_routers_services_may_be_kept_from_a_lan_but_dhcp_is_not() {
    let mut rig = rig(&format!(
        "{}{}",
        rule("action = \"allow\"\nfrom = \"home\"\nto = \"router\"\nprotocol = \"udp\"\nport = 53"),
        rule("action = \"refuse\"\nfrom = \"anywhere\"\nto = \"router\""),
    ));
    let query = |port| from(A).udp(ep(A, 5000), ep(HOME_ADDRESS, port), b"?");
    assert_eq!(rig.push(HOME, &query(53)).punt().reason, PuntReason::Local);
    assert_eq!(rig.push(HOME, &query(123)).verdict, PROHIBITED);
    let ping = rig.push(HOME, &from(A).icmp(A, HOME_ADDRESS, echo_request(1)));
    assert_eq!(ping.verdict, PROHIBITED);
    let renewal = from(A).udp(ep(A, 68), ep(HOME_ADDRESS, 67), b"");
    assert_eq!(rig.push(HOME, &renewal).punt().reason, PuntReason::DhcpServer);
    assert_eq!(tallies(&rig), [[1, 0, 0], [0, 2, 0]]);
}

#[test]
fn a_rule_may_name_any_protocol_that_passes() {
    let mut rig = rig(&format!(
        "{}{}",
        rule("action = \"drop\"\nfrom = \"home\"\nprotocol = \"sctp\"\nport = 9899"),
        rule("action = \"refuse\"\nfrom = \"home\"\nprotocol = \"47\""),
    ));
    let sctp = |port: u16| {
        let ports = [&5000u16.to_be_bytes()[..], &port.to_be_bytes()].concat();
        let segment = [&ports[..], &[0; 8], &[1, 0, 0, 4]].concat();
        from(A).raw(Protocol::Sctp, A, R, &segment)
    };
    rig.push(HOME, &sctp(9899)).dropped_for(DropReason::RuleDenied);
    rig.push(HOME, &sctp(9900)).forwarded_to(LinkId::WAN);
    let gre = from(A).raw(Protocol::Gre, A, R, &[0, 0, 8, 0, 1, 2, 3, 4]);
    assert_eq!(rig.push(HOME, &gre).verdict, PROHIBITED);
    assert_eq!(tallies(&rig), [[0, 1, 0], [0, 1, 0]]);
}

#[test]
fn a_rule_for_anywhere_leaves_the_router_reachable() {
    let mut rig = rig(&rule("action = \"drop\"\nfrom = \"home\""));
    let query = from(A).udp(ep(A, 5000), ep(HOME_ADDRESS, 53), b"?");
    assert_eq!(rig.push(HOME, &query).punt().reason, PuntReason::Local);
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 53), b"?"));
    out.dropped_for(DropReason::RuleDenied);
}

#[test]
fn what_the_router_asks_outside_may_be_ruled_too() {
    let mut rig = rig(&rule(
        "action = \"refuse\"\nfrom = \"router\"\nto = \"wan\"\nprotocol = \"udp\"\nport = 53\n\
         destination = \"203.0.113.8\"",
    ));
    let query = |remote| from(A).udp(ep(HOME_ADDRESS, 5353), ep(remote, 53), b"?");
    rig.send_local(&query(R2)).dropped_for(DropReason::RuleDenied);
    assert_eq!(rig.send_local(&query(R)).one().0, LinkId::WAN);
    let answer = from(A).udp(ep(HOME_ADDRESS, 53), ep(A, 5000), b"!");
    assert_eq!(rig.send_local(&answer).one().0, HOME);
}

#[test]
fn a_rate_lets_its_burst_pass_and_then_refuses_what_comes_faster() {
    let mut rig = rig(&rule(
        "action = \"allow\"\nfrom = \"home\"\nto = \"wan\"\nprotocol = \"both\"\nrate = \"2/s\"\n\
         burst = 3",
    ));
    let udp = |port| from(A).udp(ep(A, port), ep(R, 1), b"");
    for port in 1000..1003 {
        rig.push(HOME, &udp(port)).forwarded_to(LinkId::WAN);
    }
    assert_eq!(rig.push(HOME, &udp(1003)).verdict, PROHIBITED);
    let syn = rig.push(HOME, &from(A).tcp(ep(A, 1004), ep(R, 1), SYN, b""));
    assert_eq!(syn.verdict, Verdict::Reset);
    // Flows that are open have nothing to do with it.
    rig.push(HOME, &udp(1000)).forwarded_to(LinkId::WAN);
    rig.advance(Duration::from_millis(499));
    assert_eq!(rig.push(HOME, &udp(1003)).verdict, PROHIBITED);
    rig.advance(Duration::from_millis(1));
    rig.push(HOME, &udp(1003)).forwarded_to(LinkId::WAN);
    assert_eq!(rig.push(HOME, &udp(1005)).verdict, PROHIBITED);
    assert_eq!(tallies(&rig), [[4, 0, 4]]);
    assert_eq!(answered(&rig, HOME, DropReason::RuleRate), 4);
}

#[test]
fn strangers_over_the_rate_hear_nothing() {
    let mut rig =
        rig(&rule("action = \"allow\"\nfrom = \"wan\"\nto = \"home\"\nrate = \"1/s\"\nburst = 1"));
    let syn = |port| from(R).tcp(ep(R, port), ep(WAN_ADDRESS, WEB), SYN, b"");
    // Segments without a session cost the rule nothing: they may come from anywhere.
    rig.push(LinkId::WAN, &syn(1000)).forwarded_to(HOME);
    rig.push(LinkId::WAN, &syn(1001)).forwarded_to(HOME);
    rig.accept(ep(R, 1000));
    rig.push(LinkId::WAN, &syn(1001)).dropped_for(DropReason::RuleRate);
    assert_eq!((rig.sessions(), tallies(&rig)), (1, vec![[1, 0, 1]]));
}

#[test]
fn a_flow_that_waits_for_its_neighbour_costs_its_rule_one() {
    let config = config_with(&rule(
        "action = \"allow\"\nfrom = \"home\"\nto = \"wan\"\nrate = \"1/h\"\nburst = 1",
    ));
    let mut rig = Rig::without_neighbours(config, Vec::new(), packet::Offloads::ALL);
    let gateway = crate::rig::GATEWAY;
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"");
    let waits = rig.push(HOME, &frame);
    assert_eq!(waits.verdict, Verdict::Resolve(LinkId::WAN, gateway));
    rig.learn(LinkId::WAN, gateway);
    rig.learn(HOME, A);
    rig.push(HOME, &frame).forwarded_to(LinkId::WAN);
    assert_eq!(tallies(&rig), [[1, 0, 0]]);
    let other = from(A).udp(ep(A, 5001), ep(R, 1), b"");
    assert_eq!(rig.push(HOME, &other).verdict, PROHIBITED);
}

#[test]
fn matches_are_logged_at_a_bounded_rate_and_the_rest_is_counted() {
    let mut rig = rig(&format!(
        "{}{}",
        rule("action = \"allow\"\nfrom = \"home\"\nto = \"wan\"\nprotocol = \"udp\"\nlog = true"),
        rule("action = \"drop\"\nfrom = \"wan\"\nto = \"home\"\nlog = true"),
    ));
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"")).forwarded_to(LinkId::WAN);
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"")).forwarded_to(LinkId::WAN);
    let entry = rig.rings.poll_log().unwrap();
    assert_eq!((entry.index, entry.outcome, entry.ingress), (0, RuleOutcome::Allowed, HOME));
    assert_eq!((entry.protocol, entry.source, entry.destination), (17, ep(A, 5000), ep(R, 1)));
    assert_eq!(rig.rings.poll_log(), None);
    for port in 1000..1300 {
        let syn = from(R).tcp(ep(R, port), ep(WAN_ADDRESS, WEB), SYN, b"");
        rig.push(LinkId::WAN, &syn).dropped_for(DropReason::RuleDenied);
    }
    let logged: Vec<_> = std::iter::from_fn(|| rig.rings.poll_log()).collect();
    assert!(logged.iter().all(|entry| entry.outcome == RuleOutcome::Refused && entry.index == 1));
    assert_eq!((logged.len(), logged[0].destination), (99, ep(WAN_ADDRESS, WEB)));
    assert_eq!(rig.counters.unlogged.load(), 300 - 99);
    rig.advance(Duration::from_secs(1));
    rig.push(LinkId::WAN, &from(R).tcp(ep(R, 9), ep(WAN_ADDRESS, WEB), SYN, b""));
    assert!(rig.rings.poll_log().is_some());
}

#[test]
fn a_rule_keeps_its_counts_over_a_reload_wherever_it_stands() {
    let mail = rule("action = \"drop\"\nfrom = \"home\"\nprotocol = \"tcp\"\nport = 25");
    let slow =
        rule("action = \"allow\"\nfrom = \"home\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 2");
    let mut rig = rig(&format!("{mail}{slow}"));
    rig.push(HOME, &from(A).tcp(ep(A, 40000), ep(R, 25), SYN, b""));
    rig.push(HOME, &from(A).udp(ep(A, 1), ep(R, 1), b"")).forwarded_to(LinkId::WAN);
    let first = rule("action = \"drop\"\nfrom = \"guest\"\nto = \"wan\"");
    rig.reload(&format!("{first}{slow}{mail}"));
    assert_eq!(tallies(&rig), [[0, 0, 0], [1, 0, 0], [0, 1, 0]]);
    rig.push(HOME, &from(A).udp(ep(A, 2), ep(R, 1), b"")).forwarded_to(LinkId::WAN);
    assert_eq!(rig.push(HOME, &from(A).udp(ep(A, 3), ep(R, 1), b"")).verdict, PROHIBITED);
    rig.reload(&first);
    rig.reload(&format!("{first}{mail}"));
    assert_eq!(tallies(&rig), [[0, 0, 0], [0, 0, 0]], "it was gone between");
}

#[test]
fn a_rule_with_a_schedule_comes_and_goes_and_takes_its_flows_along() {
    let mut rig = rig(&rule(
        "action = \"refuse\"\nfrom = \"home\"\nto = \"wan\"\nschedule = \"mon-fri 08:00-17:00\"",
    ));
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"");
    let at = |rig: &mut Rig, day: u64, hour: u64| {
        // Monday 2001-09-10 00:00 UTC.
        let monday = 1_000_080_000;
        let minute = WeekMinute::at(monday + day * 86_400 + hour * 3600, "+00:00".parse().unwrap());
        let changed = rig.runtime.policy.advance(&rig.config, minute);
        if changed {
            rig.publish();
        }
        (changed, rig.push(HOME, &frame).verdict)
    };
    let out = Verdict::Forward(LinkId::WAN);
    assert_eq!(at(&mut rig, 0, 7), (false, out));
    assert_eq!(at(&mut rig, 0, 8), (true, PROHIBITED));
    assert_eq!(at(&mut rig, 0, 9), (false, PROHIBITED));
    assert_eq!(at(&mut rig, 0, 17), (true, out));
    assert_eq!(at(&mut rig, 1, 12), (true, PROHIBITED));
    assert_eq!(at(&mut rig, 5, 12), (true, out));
    assert_eq!(tallies(&rig), [[0, 3, 0]]);
}

#[test]
fn a_code_point_is_that_of_the_first_packet_and_of_the_next_after_a_reload() {
    let marked = rule("action = \"drop\"\nfrom = \"home\"\nto = \"wan\"\ndscp = \"ef\"");
    let mut voice = from(A);
    voice.tos = 46 << 2;
    let (plain, marked_frame) =
        (from(A).udp(ep(A, 1), ep(R, 1), b""), voice.udp(ep(A, 2), ep(R, 1), b""));
    let mut rig = rig("");
    rig.push(HOME, &plain).forwarded_to(LinkId::WAN);
    rig.push(HOME, &marked_frame).forwarded_to(LinkId::WAN);
    rig.reload(&marked);
    for port in [1, 2] {
        // The answers say nothing about the code point, so they go on until the host has sent.
        let back = from(R).udp(ep(R, 1), ep(WAN_ADDRESS, port), b"");
        rig.push(LinkId::WAN, &back).forwarded_to(HOME);
        rig.push(LinkId::WAN, &back).forwarded_to(HOME);
    }
    rig.push(HOME, &plain).forwarded_to(LinkId::WAN);
    rig.push(HOME, &marked_frame).dropped_for(DropReason::RuleDenied);
    let late = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 2), b""));
    assert!(late.sent.is_empty());
    assert_eq!(rig.sessions(), 1);
}

#[test]
fn every_direction_of_flow_ends_by_the_rule_that_forbids_it_and_no_other_does() {
    let open = |rig: &mut Rig| {
        let frames = [
            (HOME, from(A).tcp(ep(A, 40000), ep(R, 443), SYN, b"")),
            (OFFICE, from(O).tcp(ep(O, 40000), ep(A, 22), SYN, b"")),
            (LinkId::WAN, rig.accept(ep(R, 40000))),
            (GUEST, from(G).tcp(ep(G, 40000), ep(WAN_ADDRESS, WEB), SYN, b"")),
        ];
        frames.map(|(link, frame)| rig.push(link, &frame).sent.len())
    };
    let next = |rig: &mut Rig| {
        let frames = [
            (HOME, from(A).tcp(ep(A, 40000), ep(R, 443), ACK, b"")),
            (OFFICE, from(O).tcp(ep(O, 40000), ep(A, 22), ACK, b"")),
            (LinkId::WAN, from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, WEB), ACK, b"")),
            (GUEST, from(G).tcp(ep(G, 40000), ep(WAN_ADDRESS, WEB), ACK, b"")),
        ];
        frames.map(|(link, frame)| rig.push(link, &frame).sent.len())
    };
    for (ends, expected) in [
        ("from = \"home\"\nto = \"wan\"", [0, 1, 1, 1]),
        ("from = \"office\"\nto = \"home\"", [1, 0, 1, 1]),
        ("from = \"wan\"\nto = \"home\"", [1, 1, 0, 1]),
        ("from = \"guest\"\nto = \"home\"", [1, 1, 1, 0]),
        ("from = \"guest\"\nto = \"wan\"", [1, 1, 1, 1]),
        ("from = \"home\"\nto = \"office\"", [1, 1, 1, 1]),
        ("from = \"wan\"\nprotocol = \"tcp\"\nport = 80", [1, 1, 0, 1]),
        ("from = \"wan\"\nprotocol = \"tcp\"\nport = 8080", [1, 1, 1, 1]),
        ("from = \"anywhere\"\nsource = \"10.0.2.0/24\"", [1, 1, 1, 0]),
        ("from = \"anywhere\"", [0, 0, 0, 0]),
    ] {
        let mut rig = rig("");
        assert_eq!(open(&mut rig), [1, 1, 1, 1]);
        rig.reload(&format!("{WEB_FORWARD}{}", rule(&format!("action = \"drop\"\n{ends}"))));
        assert_eq!(next(&mut rig), expected, "{ends}");
        // What came from outside stays, mute, lest the server's next packet opens the way again.
        let mute = 1 - expected[2];
        assert_eq!(rig.sessions(), expected.iter().sum::<usize>() + mute, "{ends}");
    }
}

#[test]
fn a_server_cannot_keep_a_flow_open_that_a_rule_forbids() {
    let forbidden =
        format!("{WEB_FORWARD}{}", rule("action = \"drop\"\nfrom = \"wan\"\nto = \"home\""));
    let mut rig = rig("");
    let inbound = rig.accept(ep(R, 40000));
    let answer = from(B).tcp(ep(B, 80), ep(R, 40000), ACK, b"data");
    rig.push(HOME, &answer).forwarded_to(LinkId::WAN);
    rig.reload(&forbidden);
    for _ in 0..3 {
        rig.push(HOME, &answer).dropped_for(DropReason::RuleDenied);
        rig.push(LinkId::WAN, &inbound).dropped_for(DropReason::RuleDenied);
    }
    rig.reload(WEB_FORWARD);
    rig.push(LinkId::WAN, &inbound).forwarded_to(HOME);
    rig.push(HOME, &answer).forwarded_to(LinkId::WAN);
}

/// Rules change under traffic, many times, at batch boundaries: each packet meets exactly the rules in force,
/// no flow that both sets allow loses a packet, and none that the set in force forbids gets one through.
#[test]
fn a_reload_under_traffic_neither_opens_nor_closes_a_gap() {
    let forbid = |port: u16| {
        rule(&format!("action = \"drop\"\nfrom = \"home\"\nprotocol = \"udp\"\nport = {port}"))
    };
    let mut rig = rig(&forbid(25));
    let steady = from(A).udp(ep(A, 1000), ep(R, 443), b"");
    let back = from(R).udp(ep(R, 443), ep(WAN_ADDRESS, 1000), b"");
    let (mail, news) =
        (from(A).udp(ep(A, 2000), ep(R, 25), b""), from(A).udp(ep(A, 3000), ep(R, 119), b""));
    rig.push(HOME, &steady).forwarded_to(LinkId::WAN);
    let (out, denied) = (Verdict::Forward(LinkId::WAN), Verdict::Drop(DropReason::RuleDenied));
    for round in 0..200u16 {
        let forbids_mail = round % 2 == 0;
        rig.reload(&forbid(if forbids_mail { 25 } else { 119 }));
        // Also flows that are new in this round.
        let fresh = from(A).udp(ep(A, 10_000 + round), ep(R, 443), b"");
        let batch = [&steady, &mail, &news, &fresh].map(Clone::clone);
        let pattern = if forbids_mail { [out, denied, out, out] } else { [out, out, denied, out] };
        for _ in 0..3 {
            let verdicts = rig.push_batch(HOME, &batch);
            assert_eq!(verdicts, pattern, "round {round}");
            assert_eq!(rig.flush().len(), 3);
        }
        assert_eq!(
            rig.push_batch(LinkId::WAN, std::slice::from_ref(&back)),
            [Verdict::Forward(HOME)]
        );
        rig.flush();
        rig.advance(Duration::from_secs(1));
    }
}
