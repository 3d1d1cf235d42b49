//! Another configuration while running.

use std::net::Ipv4Addr;

use packet::{LinkId, PuntReason};

use crate::frames::{A, address, answer, outcome, see, udp};
use crate::rig::{DNS, HOME, Rig, STATIC, UPSTREAM, lan_client, settings};

const SITE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

#[test]
fn dn25_leases_names_and_cache_outlive_a_reload() {
    let mut rig = Rig::new(STATIC);
    let mut client = lan_client(7, "laptop", rig.now);
    rig.run_client(HOME, &mut client);
    rig.forget_outputs();
    assert_eq!(rig.ask("www.example.com", A), None);
    let asked = see(&rig.packets.remove(0));
    let reply = udp((UPSTREAM, DNS), asked.source, &answer(&asked.payload, SITE));
    rig.punt(PuntReason::Local, LinkId::WAN, &reply);
    rig.forget_outputs();

    let changed = STATIC.replace("printer", "scanner").replace("203.0.113.53", "203.0.113.54");
    rig.stack.reconfigure(settings(&changed), rig.now);
    rig.drain();
    assert_eq!(rig.stack.servers()[0].1.bindings().count(), 1);
    let leased = Some(client.lease().unwrap().address());
    assert_eq!(address(&rig.ask("laptop.home.arpa", A).unwrap()), leased);
    assert_eq!(address(&rig.ask("www.example.com", A).unwrap()), Some(SITE));
    assert_eq!(outcome(&rig.ask("printer.home.arpa", A).unwrap()), (3, 0));
    let scanner = Some(Ipv4Addr::new(10, 0, 1, 20));
    assert_eq!(address(&rig.ask("scanner.home.arpa", A).unwrap()), scanner);
    assert_eq!(rig.ask("new.example.com", A), None);
    let server = see(&rig.packets[0]).destination;
    assert_eq!(server, (Ipv4Addr::new(203, 0, 113, 54), DNS));
}

#[test]
fn a_reservation_that_is_gone_takes_its_name_along() {
    let mut rig = Rig::new(STATIC);
    let changed = STATIC.replace("name = \"web\"", "name = \"shop\"");
    rig.stack.reconfigure(settings(&changed), rig.now);
    rig.drain();
    assert_eq!(outcome(&rig.ask("web.home.arpa", A).unwrap()), (3, 0));
    let shop = Some(Ipv4Addr::new(10, 0, 1, 5));
    assert_eq!(address(&rig.ask("shop.home.arpa", A).unwrap()), shop);
}

#[test]
fn a_query_under_way_is_asked_of_the_new_server() {
    let mut rig = Rig::new(STATIC);
    assert_eq!(rig.ask("www.example.com", A), None);
    rig.forget_outputs();
    let changed = STATIC.replace("203.0.113.53", "203.0.113.54");
    rig.stack.reconfigure(settings(&changed), rig.now);
    rig.drain();
    assert_eq!(see(&rig.packets[0]).destination, (Ipv4Addr::new(203, 0, 113, 54), DNS));
}
