//! Destinations that hosts reach without translation, and that nothing else leaves untranslated.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Type, icmpv4};
use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId};
use pipeline::Verdict;

use crate::frames::{SYN, echo_reply, echo_request, ep, pieces};
use crate::rig::{A, B, G, GATEWAY, GUEST, HOME, HOP, R, Rig, WAN_ADDRESS, config_with, from, mac};

const SITE: Ipv4Addr = Ipv4Addr::new(172, 20, 1, 1);

const EXEMPT: &str = "[[nat.exempt]]\ndestination = \"172.16.0.0/12\"\nsource = \"10.0.1.0/24\"\n";

fn exempt() -> Rig {
    Rig::of(config_with(EXEMPT), Vec::new())
}

#[test]
fn req6888_6_an_exempt_destination_sees_the_host_itself_and_answers_it() {
    let mut rig = exempt();
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(SITE, 1), b""));
    let seen = out.forwarded_to(LinkId::WAN);
    assert_eq!((seen.endpoints(), seen.to_mac), ((ep(A, 5000), ep(SITE, 1)), mac(GATEWAY)));
    let back = rig.push(LinkId::WAN, &from(R).udp(ep(SITE, 1), ep(A, 5000), b""));
    let seen = back.forwarded_to(HOME);
    assert_eq!((seen.endpoints(), seen.to_mac), ((ep(SITE, 1), ep(A, 5000)), mac(A)));
    let ping = rig.push(HOME, &from(A).icmp(A, SITE, echo_request(7)));
    assert_eq!(ping.forwarded_to(LinkId::WAN).source.address, A);
    let pong = rig.push(LinkId::WAN, &from(R).icmp(SITE, A, echo_reply(7)));
    assert_eq!(pong.forwarded_to(HOME).destination.address, A);
}

#[test]
fn nothing_but_what_is_exempt_leaves_untranslated() {
    let mut rig = exempt();
    let other = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    assert_eq!(other.forwarded_to(LinkId::WAN).source, ep(WAN_ADDRESS, 5000));
    let guest = rig.push(GUEST, &from(G).udp(ep(G, 6000), ep(SITE, 1), b""));
    assert_eq!(guest.forwarded_to(LinkId::WAN).source, ep(WAN_ADDRESS, 6000));
    let own = ep(Ipv4Addr::new(10, 0, 1, 1), 5353);
    let query = rig.send_local(&from(A).udp(own, ep(SITE, 53), b"question"));
    assert_eq!(query.one().1.source, ep(WAN_ADDRESS, 5353));
}

#[test]
fn only_the_session_lets_an_exempt_answer_in() {
    let mut rig = exempt();
    rig.push(HOME, &from(A).tcp(ep(A, 5000), ep(SITE, 443), SYN, b""));
    for (source, destination) in [
        (ep(SITE, 444), ep(A, 5000)),
        (ep(SITE, 443), ep(A, 5001)),
        (ep(SITE, 443), ep(B, 5000)),
        (ep(R, 443), ep(A, 5000)),
    ] {
        let frame = from(R).tcp(source, destination, SYN, b"");
        rig.push(LinkId::WAN, &frame).dropped_for(DropReason::PolicyDenied);
    }
    let ping = rig.push(LinkId::WAN, &from(R).icmp(SITE, A, echo_request(1)));
    ping.dropped_for(DropReason::PolicyDenied);
}

#[test]
fn an_error_about_an_exempt_packet_reaches_the_host_and_no_other_error_does() {
    let mut rig = exempt();
    let sent = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(SITE, 1), b""));
    let translated = rig.push(HOME, &from(A).udp(ep(A, 6000), ep(R, 1), b""));
    let expired = || Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit);
    let about = |to, out: &crate::rig::Outcome| {
        from(R).icmp_about(HOP, to, expired(), &out.sent[0].1[14..])
    };
    let seen = rig.push(LinkId::WAN, &about(A, &sent)).forwarded_to(HOME);
    assert_eq!((seen.source.address, seen.destination.address), (HOP, A));
    assert_eq!(seen.embedded(), (ep(A, 5000), ep(SITE, 1)));
    // Neither to another host, nor about a packet that was translated.
    rig.push(LinkId::WAN, &about(B, &sent)).dropped_for(DropReason::PolicyDenied);
    rig.push(LinkId::WAN, &about(A, &translated)).dropped_for(DropReason::PolicyDenied);
    let seen = rig.push(LinkId::WAN, &about(WAN_ADDRESS, &translated)).forwarded_to(HOME);
    assert_eq!(seen.embedded(), (ep(A, 6000), ep(R, 1)));
}

#[test]
fn a_reload_that_takes_an_exemption_away_has_its_flows_translated_at_once() {
    let mut rig = exempt();
    let frame = from(A).udp(ep(A, 5000), ep(SITE, 1), b"");
    rig.push(HOME, &frame);
    rig.publish();
    assert_eq!(rig.push(HOME, &frame).forwarded_to(LinkId::WAN).source, ep(A, 5000));
    rig.config.nat.exemptions.clear();
    // The exemption let the site's addresses pass.
    rig.config.wan.bogons = config::Bogons::Pass;
    rig.publish();
    let late = rig.push(LinkId::WAN, &from(R).udp(ep(SITE, 1), ep(A, 5000), b""));
    late.dropped_for(DropReason::PolicyDenied);
    assert_eq!(rig.push(HOME, &frame).forwarded_to(LinkId::WAN).source, ep(WAN_ADDRESS, 5000));
    assert_eq!(rig.sessions(), 1);
}

#[test]
fn an_exempt_flow_does_not_outlive_the_wan() {
    let mut rig = exempt();
    let frame = from(A).udp(ep(A, 5000), ep(SITE, 1), b"");
    rig.push(HOME, &frame);
    rig.runtime.wan = None;
    rig.publish();
    let out = rig.push(HOME, &frame);
    assert!(out.sent.iter().all(|(link, _)| *link == HOME), "{out:?}");
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn policy_rules_hold_for_exempt_flows_as_well() {
    let rule = "[[policy.rule]]\naction = \"refuse\"\nfrom = \"home\"\nto = \"wan\"\n\
                destination = \"172.16.0.0/12\"\n";
    let mut rig = Rig::of(config_with(&format!("{EXEMPT}{rule}")), Vec::new());
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(SITE, 1), b""));
    assert!(out.sent.iter().all(|(link, _)| *link == HOME), "{out:?}");
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn fragments_of_an_exempt_answer_wait_for_each_other_and_others_do_not() {
    let mut rig = exempt();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(SITE, 1), b"ask"));
    let answer = from(R).udp(ep(SITE, 1), ep(A, 5000), &[7; 4000]);
    let out = rig.push_pieces(LinkId::WAN, &pieces(&answer, 1480));
    assert_eq!(out.in_fragments().1.destination, ep(A, 5000));
    let stranger = from(R).udp(ep(R, 1), ep(A, 5000), &[7; 4000]);
    let first = rig.push(LinkId::WAN, &pieces(&stranger, 1480)[0]);
    first.dropped_for(DropReason::PolicyDenied);
}

#[test]
fn an_exemption_lets_its_destination_pass_that_is_a_bogon_else() {
    let other = Ipv4Addr::new(192, 168, 7, 7);
    let mut rig = exempt();
    let ask = |to| from(A).udp(ep(A, 5000), ep(to, 1), b"");
    assert_eq!(rig.push(HOME, &ask(SITE)).forwarded_to(LinkId::WAN).source, ep(A, 5000));
    let refused = rig.push(HOME, &ask(other));
    assert_eq!(refused.verdict, Verdict::Reply(ErrorKind::NetworkUnreachable));
}
