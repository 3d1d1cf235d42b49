//! External addresses beside the WAN link's own: who asks for them gets the router's station.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::ArpOperation as Operation;
use forwarding::{ArpMessage, ArpOperation};
use packet::{LinkId, MacAddr, PuntReason};

use crate::frames::{arp, mac, router_mac};
use crate::rig::{GATEWAY, HOME, HOST, Rig, STATIC, WAN_ADDRESS, dynamic, provider, settings};

/// Shared addresses on the link and behind it, and one of a host alone.
const FURTHER: &str = r#"addresses = ["198.51.100.8-198.51.100.9", "203.0.113.200"]"#;
const STATICS: &str = r#"
[[nat.static]]
external = "198.51.100.50"
internal = "10.0.1.9"
"#;

const NEAR: [Ipv4Addr; 3] = [
    Ipv4Addr::new(198, 51, 100, 8),
    Ipv4Addr::new(198, 51, 100, 9),
    Ipv4Addr::new(198, 51, 100, 50),
];
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);

fn with_further(text: &str) -> String {
    let text = text.replace("link = \"wan0\"", &format!("link = \"wan0\"\n{FURTHER}"));
    format!("{text}{STATICS}")
}

/// Whether the router answers for an address to a station on a link.
fn answers(rig: &mut Rig, link: LinkId, from: Ipv4Addr, address: Ipv4Addr) -> bool {
    rig.forget_outputs();
    let request = arp(Operation::REQUEST, (mac(1), from), (MacAddr::ZERO, address));
    rig.punt(PuntReason::Arp, link, &request);
    rig.frames.iter().any(|(egress, frame)| {
        let message = ArpMessage::parse(frame);
        *egress == link
            && message.is_some_and(|arp| {
                arp.operation == ArpOperation::Reply
                    && (arp.sender, arp.sender_mac) == (address, router_mac(link.0))
            })
    })
}

/// The addresses that were announced on the WAN since outputs were last forgotten.
fn announced(rig: &Rig) -> Vec<Ipv4Addr> {
    let frames = rig.frames.iter().filter(|(link, _)| *link == LinkId::WAN);
    let messages = frames.filter_map(|(_, frame)| ArpMessage::parse(frame));
    messages.filter(|arp| arp.sender == arp.target).map(|arp| arp.sender).collect()
}

#[test]
fn req3022_6_2_further_addresses_of_the_wan_subnet_are_answered_for_on_the_wan_alone() {
    let mut rig = Rig::new(&with_further(STATIC));
    assert_eq!(announced(&rig), [&[WAN_ADDRESS][..], &NEAR].concat());
    for address in NEAR {
        assert!(answers(&mut rig, LinkId::WAN, GATEWAY, address), "{address}");
        assert!(!answers(&mut rig, HOME, HOST, address), "{address}");
    }
    assert!(answers(&mut rig, LinkId::WAN, GATEWAY, WAN_ADDRESS));
    for other in [FAR, Ipv4Addr::new(198, 51, 100, 10)] {
        assert!(!answers(&mut rig, LinkId::WAN, GATEWAY, other), "{other}");
    }
}

#[test]
fn further_addresses_are_answered_for_while_the_lease_lasts() {
    let mut rig = Rig::new(&with_further(&dynamic()));
    assert!(!answers(&mut rig, LinkId::WAN, GATEWAY, NEAR[0]));
    let mut provider = provider(rig.now);
    rig.run_provider(&mut provider, Duration::from_secs(5));
    for address in NEAR {
        assert!(answers(&mut rig, LinkId::WAN, GATEWAY, address), "{address}");
    }
    rig.advance(Duration::from_secs(601));
    assert!(rig.stack.client().unwrap().lease().is_none());
    for address in NEAR {
        assert!(!answers(&mut rig, LinkId::WAN, GATEWAY, address), "{address}");
    }
}

#[test]
fn a_reload_takes_further_addresses_and_gives_them_up() {
    for text in [STATIC.to_owned(), dynamic()] {
        let mut rig = Rig::new(&text);
        let mut provider = provider(rig.now);
        rig.run_provider(&mut provider, Duration::from_secs(5));
        rig.forget_outputs();
        rig.stack.reconfigure(settings(&with_further(&text)), rig.now);
        rig.drain();
        assert_eq!(announced(&rig), NEAR);
        assert!(answers(&mut rig, LinkId::WAN, GATEWAY, NEAR[2]));
        rig.stack.reconfigure(settings(&text), rig.now);
        rig.drain();
        assert!(!answers(&mut rig, LinkId::WAN, GATEWAY, NEAR[2]));
        assert!(answers(&mut rig, LinkId::WAN, GATEWAY, WAN_ADDRESS));
    }
}

#[test]
fn a_gateway_that_the_list_names_by_mistake_keeps_its_address() {
    let listed =
        with_further(&dynamic()).replace("198.51.100.8-", "198.51.100.1\", \"198.51.100.8-");
    let mut rig = Rig::new(&listed);
    let mut provider = provider(rig.now);
    rig.run_provider(&mut provider, Duration::from_secs(5));
    assert!(answers(&mut rig, LinkId::WAN, HOST, NEAR[0]));
    assert!(!answers(&mut rig, LinkId::WAN, HOST, GATEWAY));
}
