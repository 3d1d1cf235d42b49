//! The WAN's DHCP client inside the stack.

use std::time::Duration;

use dhcp::client::{ClientEvent, LostReason, StoreRecord as WanRecord};
use forwarding::{ArpMessage, ArpOperation};
use local_stack::{LinkCarrier, StackEvent, StoreRecord};
use packet::LinkId;

use crate::frames::{A, outcome, see};
use crate::rig::{DNS, Rig, UPSTREAM, WAN_ADDRESS, dynamic, provider};

fn obtained(rig: &Rig) -> bool {
    let event = |event: &StackEvent| matches!(event, StackEvent::Wan(ClientEvent::Obtained(_)));
    rig.events.iter().any(event)
}

#[test]
fn dc4_an_obtained_lease_is_stored_announced_and_names_the_dns_servers() {
    let mut rig = Rig::new(&dynamic());
    assert_eq!(outcome(&rig.ask("www.example.com", A).unwrap()), (2, 0));
    let mut provider = provider(rig.now);
    rig.run_provider(&mut provider, Duration::from_secs(5));
    assert!(obtained(&rig));
    assert!(matches!(
        rig.records.as_slice(),
        [StoreRecord::Wan(WanRecord::Keep(lease))] if lease.settings.address == WAN_ADDRESS
    ));
    let announced = rig.frames.iter().any(|(link, frame)| {
        let message = ArpMessage::parse(frame);
        *link == LinkId::WAN
            && message.is_some_and(|arp| {
                arp.operation == ArpOperation::Request
                    && (arp.sender, arp.target) == (WAN_ADDRESS, WAN_ADDRESS)
            })
    });
    assert!(announced);

    assert_eq!(rig.ask("other.example.com", A), None);
    assert_eq!(see(&rig.packets[0]).destination, (UPSTREAM, DNS));
}

#[test]
fn dc10_a_lease_that_nobody_extends_is_lost() {
    let mut rig = Rig::new(&dynamic());
    let mut provider = provider(rig.now);
    rig.run_provider(&mut provider, Duration::from_secs(5));
    assert!(obtained(&rig));
    rig.forget_outputs();
    rig.advance(Duration::from_secs(601));
    assert!(rig.events.iter().any(|event| matches!(
        event,
        StackEvent::Wan(ClientEvent::Lost { reason: LostReason::Expired, .. })
    )));
    assert!(rig.stack.client().unwrap().lease().is_none());
    // An address that is not ours any more is not answered for.
    rig.forget_outputs();
    rig.learn(LinkId::WAN, (crate::frames::mac(1), crate::rig::GATEWAY), WAN_ADDRESS);
    assert_eq!(rig.frames, []);
}

#[test]
fn dc13_a_released_lease_can_be_had_again() {
    let mut rig = Rig::new(&dynamic());
    let mut provider = provider(rig.now);
    rig.run_provider(&mut provider, Duration::from_secs(5));
    rig.forget_outputs();
    rig.stack.release_wan(rig.now);
    rig.drain();
    rig.run_provider(&mut provider, Duration::from_secs(5));
    assert!(rig.stack.client().unwrap().lease().is_none() && !obtained(&rig));
    rig.stack.renew_wan(rig.now);
    rig.drain();
    rig.run_provider(&mut provider, Duration::from_secs(5));
    assert!(obtained(&rig));
}

#[test]
fn dc26_a_link_that_flaps_keeps_its_lease() {
    let mut rig = Rig::new(&dynamic());
    let mut provider = provider(rig.now);
    rig.run_provider(&mut provider, Duration::from_secs(5));
    rig.forget_outputs();
    for carrier in [LinkCarrier::Down, LinkCarrier::Up] {
        rig.stack.set_wan_link(carrier, rig.now);
        rig.drain();
        rig.run_provider(&mut provider, Duration::from_secs(2));
    }
    assert!(rig.stack.client().unwrap().lease().is_some() && !obtained(&rig));
}
