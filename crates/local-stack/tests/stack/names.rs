//! DNS over UDP.

use std::net::Ipv4Addr;
use std::time::Duration;

use packet::{LinkId, PuntReason};

use crate::frames::{A, PTR, address, answer, mentions, outcome, query, see, udp};
use crate::rig::{DNS, HOME, HOME_ADDRESS, HOST, Rig, STATIC, UPSTREAM, WAN_ADDRESS};

const SITE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

/// Answers the one query that waits for the upstream server.
fn answer_upstream(rig: &mut Rig, address: Ipv4Addr) {
    assert_eq!(rig.packets.len(), 1);
    let asked = see(&rig.packets.remove(0));
    assert_eq!(asked.source.0, HOME_ADDRESS, "translated like a host of the LAN");
    assert_eq!(asked.destination, (UPSTREAM, DNS));
    let reply = udp((UPSTREAM, DNS), asked.source, &answer(&asked.payload, address));
    rig.punt(PuntReason::Local, LinkId::WAN, &reply);
}

#[test]
fn names_of_the_configuration_answer_in_both_directions() {
    let mut rig = Rig::new(STATIC);
    for (name, octets) in [("printer", [10, 0, 1, 20]), ("web", [10, 0, 1, 5])] {
        let reply = rig.ask(&format!("{name}.home.arpa"), A).unwrap();
        assert_eq!(address(&reply), Some(Ipv4Addr::from(octets)));
        let reply = rig.ask(&format!("{}.1.0.10.in-addr.arpa", octets[3]), PTR).unwrap();
        assert_eq!(outcome(&reply), (0, 1));
        assert!(mentions(&reply, name));
    }
    assert!(rig.packets.is_empty(), "nothing local is asked upstream");
}

#[test]
fn a_query_is_forwarded_from_a_lan_address_and_its_answer_is_cached() {
    let mut rig = Rig::new(STATIC);
    assert_eq!(rig.ask("www.example.com", A), None);
    answer_upstream(&mut rig, SITE);
    let seen = see(&rig.packets.pop().unwrap());
    assert_eq!((seen.source, seen.destination), ((HOME_ADDRESS, DNS), (HOST, 5353)));
    assert_eq!(address(&seen.payload), Some(SITE));

    let reply = rig.ask("www.example.com", A).unwrap();
    assert_eq!(address(&reply), Some(SITE));
    assert!(rig.packets.is_empty());
    assert_eq!(rig.stack.dns().stats().queries, 2);
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let mut rig = Rig::new(STATIC);
    let asking = udp((HOST, 5353), (WAN_ADDRESS, DNS), &query(1, "printer.home.arpa", A));
    rig.punt(PuntReason::Local, HOME, &asking);
    assert_eq!(see(&rig.packets[0]).source, (WAN_ADDRESS, DNS));
}

#[test]
fn a_silent_upstream_is_asked_again_and_then_the_client_hears_of_the_failure() {
    let mut rig = Rig::new(STATIC);
    assert_eq!(rig.ask("www.example.com", A), None);
    rig.advance(Duration::from_secs(30));
    let (asked, answered): (Vec<_>, Vec<_>) =
        rig.packets.iter().map(|packet| see(packet)).partition(|seen| seen.destination.1 == DNS);
    assert!(asked.len() > 1);
    assert_eq!(answered.len(), 1);
    assert_eq!(outcome(&answered[0].payload), (2, 0));
    assert_eq!(rig.stack.dns().outstanding(), 0);
}

#[test]
fn the_wan_is_not_served() {
    let mut rig = Rig::new(STATIC);
    let stranger = (Ipv4Addr::new(198, 18, 0, 1), 5353);
    let asking = udp(stranger, (WAN_ADDRESS, DNS), &query(1, "printer.home.arpa", A));
    rig.punt(PuntReason::Local, LinkId::WAN, &asking);
    assert!(rig.packets.is_empty());
}
