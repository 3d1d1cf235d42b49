//! DHCP on a LAN, and the names that it makes.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::server::{ServerEvent, StoreRecord as LanRecord};
use local_stack::{StackEvent, StoreRecord};
use packet::{PuntReason, SMALL_FRAME_MAX};

use crate::frames::{A, PTR, address, mentions, outcome};
use crate::rig::{HOME, Rig, STATIC, lan_client};

fn reverse(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

#[test]
fn ds22_a_lease_is_a_name_at_once_and_until_it_ends() {
    let mut rig = Rig::new(STATIC);
    let mut client = lan_client(7, "laptop", rig.now);
    rig.run_client(HOME, &mut client);
    let leased = client.lease().unwrap().address();
    assert!(rig.events.iter().any(|event| matches!(
        event,
        StackEvent::Lan(HOME, ServerEvent::HostAppeared(host)) if host.address == leased
    )));
    assert_eq!(address(&rig.ask("laptop.home.arpa", A).unwrap()), Some(leased));
    assert!(mentions(&rig.ask(&reverse(leased), PTR).unwrap(), "laptop"));

    rig.advance(Duration::from_secs(3601));
    assert_eq!(outcome(&rig.ask("laptop.home.arpa", A).unwrap()), (3, 0));
    assert_eq!(outcome(&rig.ask(&reverse(leased), PTR).unwrap()), (3, 0));
}

#[test]
fn ds14_nothing_is_acknowledged_before_its_record_was_taken() {
    let mut rig = Rig::new(STATIC);
    let mut client = lan_client(7, "laptop", rig.now);
    let mut buffer = [0; SMALL_FRAME_MAX];
    let len = client.poll_transmit(&mut buffer).unwrap();
    rig.forget_outputs();
    rig.punt(PuntReason::DhcpServer, HOME, &buffer[..len]);
    rig.advance(Duration::from_millis(500));
    let (_, offer) = rig.frames.pop().unwrap();
    client.handle_frame(&offer, rig.now);
    // Our choice of the offer may wait for others.
    rig.advance(Duration::from_secs(1));
    client.handle_timeout(rig.now);
    let len = client.poll_transmit(&mut buffer).unwrap();
    rig.stack.handle_punt(PuntReason::DhcpServer, HOME, None, &buffer[..len], rig.now);
    assert_eq!(rig.stack.poll_transmit(&mut buffer), None);
    let record = rig.stack.poll_store().unwrap();
    assert!(matches!(record, StoreRecord::Lan(HOME, LanRecord::Binding(_))));
    assert_eq!(rig.stack.poll_store(), None);
    assert!(rig.stack.poll_transmit(&mut buffer).is_some());
}

#[test]
fn a_record_that_could_not_be_stored_takes_its_acknowledgement_along() {
    let mut rig = Rig::new(STATIC);
    let mut client = lan_client(7, "laptop", rig.now);
    rig.run_client(HOME, &mut client);
    let mut buffer = [0; SMALL_FRAME_MAX];
    while client.poll_store().is_some() {}
    while client.poll_transmit(&mut buffer).is_some() {}
    client.renew(rig.now);
    let len = client.poll_transmit(&mut buffer).unwrap();
    rig.stack.handle_punt(PuntReason::DhcpServer, HOME, None, &buffer[..len], rig.now);
    assert!(rig.stack.poll_store().is_some());
    rig.stack.discard_transmits();
    while rig.stack.poll_store().is_some() {}
    assert_eq!(rig.stack.poll_transmit(&mut buffer), None);
}

#[test]
fn the_name_of_a_reservation_outlives_its_lease() {
    let mut rig = Rig::new(STATIC);
    let mut client = lan_client(5, "whatever", rig.now);
    rig.run_client(HOME, &mut client);
    assert_eq!(client.lease().unwrap().address(), Ipv4Addr::new(10, 0, 1, 5));
    rig.advance(Duration::from_secs(3601));
    let reply = rig.ask("web.home.arpa", A).unwrap();
    assert_eq!(address(&reply), Some(Ipv4Addr::new(10, 0, 1, 5)));
}

#[test]
fn a_configured_name_is_not_taken_over_by_a_client() {
    let mut rig = Rig::new(STATIC);
    let mut client = lan_client(7, "printer", rig.now);
    rig.run_client(HOME, &mut client);
    let printer = Some(Ipv4Addr::new(10, 0, 1, 20));
    assert_eq!(address(&rig.ask("printer.home.arpa", A).unwrap()), printer);
    rig.advance(Duration::from_secs(3601));
    assert_eq!(address(&rig.ask("printer.home.arpa", A).unwrap()), printer);
}

#[test]
fn a_reserved_name_is_not_taken_over_from_another_lan() {
    let mut rig = Rig::new(STATIC);
    let mut guest = lan_client(8, "web", rig.now);
    rig.run_client(packet::LinkId(2), &mut guest);
    let web = Some(Ipv4Addr::new(10, 0, 1, 5));
    assert_eq!(address(&rig.ask("web.home.arpa", A).unwrap()), web);
}

#[test]
fn of_two_hosts_with_one_name_on_two_lans_the_one_that_stays_keeps_it() {
    let mut rig = Rig::new(STATIC);
    let mut client = lan_client(7, "phone", rig.now);
    let mut guest = lan_client(8, "phone", rig.now);
    rig.run_client(HOME, &mut client);
    rig.run_client(packet::LinkId(2), &mut guest);
    // The lease of the home is an hour, that of the guest twelve.
    rig.advance(Duration::from_secs(3601));
    let stays = guest.lease().unwrap().address();
    assert_eq!(address(&rig.ask("phone.home.arpa", A).unwrap()), Some(stays));
}
