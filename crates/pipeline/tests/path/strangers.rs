//! Who may come from outside: sources of forwards, the host that gets the rest, and addresses that nobody has.

use std::net::Ipv4Addr;

use config::{Bogons, Ping};
use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId, PuntReason};
use pipeline::{Verdict, configured_forwards};

use crate::frames::{ACK, SYN, echo_reply, echo_request, ep};
use crate::rig::{
    A, B, G, GATEWAY, GUEST, HOME, HOME_ADDRESS, R, R2, Rig, WAN_ADDRESS, config, config_with,
    from, wan_at,
};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 2);
const PUBLIC_GATEWAY: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 1);

fn rig(tail: &str) -> Rig {
    let config = config_with(tail);
    let forwards = configured_forwards(&config);
    Rig::of(config, forwards)
}

fn forward(lines: &str) -> String {
    format!(
        "[[forward]]\nprotocol = \"both\"\nport = \"8000-8009\"\nto = \"10.0.1.3:80\"\n{lines}\n"
    )
}

fn syn(remote: Ipv4Addr, port: u16) -> Vec<u8> {
    from(remote).tcp(ep(remote, 40000), ep(WAN_ADDRESS, port), SYN, b"")
}

/// Moves the WAN to another network.
fn move_wan(rig: &mut Rig, address: Ipv4Addr, gateway: Ipv4Addr) {
    rig.runtime.wan = Some(wan_at(address, gateway));
    rig.publish();
    rig.learn(LinkId::WAN, gateway);
}

#[test]
fn a_forward_may_be_for_some_sources_and_not_for_inside() {
    let set = "[policy.set]\nfriends = [\"203.0.113.7\"]\n";
    let mut rig = rig(&format!("{set}{}", forward("from = [\"@friends\"]\nhairpin = false")));
    let seen = rig.push(LinkId::WAN, &syn(R, 8003)).forwarded_to(HOME);
    assert_eq!(seen.destination, ep(B, 83));
    rig.push(LinkId::WAN, &syn(R2, 8003)).dropped_for(DropReason::ForwardSource);
    rig.push(HOME, &syn(A, 8003)).dropped_for(DropReason::HairpinDisabled);
    rig.reload(&format!("{set}{}", forward("from = [\"@friends\", \"10.0.2.0/24\"]")));
    rig.push(GUEST, &syn(G, 8003)).forwarded_to(HOME);
    rig.push(HOME, &syn(A, 8003)).dropped_for(DropReason::ForwardSource);
}

#[test]
fn a_forward_may_lead_to_another_lan() {
    let mut rig = rig("[[forward]]\nprotocol = \"udp\"\nport = 53\nto = \"10.0.2.2:5353\"\n");
    let query = from(R).udp(ep(R, 1000), ep(WAN_ADDRESS, 53), b"?");
    assert_eq!(rig.push(LinkId::WAN, &query).forwarded_to(GUEST).destination, ep(G, 5353));
    let answer = rig.push(GUEST, &from(G).udp(ep(G, 5353), ep(R, 1000), b"!"));
    assert_eq!(answer.forwarded_to(LinkId::WAN).source, ep(WAN_ADDRESS, 53));
}

#[test]
fn the_dmz_host_gets_what_nothing_else_takes_and_the_router_keeps_its_own() {
    let mut rig = rig(&format!("[nat]\ndmz_host = \"10.0.2.2\"\n{}", forward("")));
    let seen = rig.push(LinkId::WAN, &syn(R, 22)).forwarded_to(GUEST);
    assert_eq!(seen.endpoints(), (ep(R, 40000), ep(G, 22)));
    let answer = rig.push(GUEST, &from(G).tcp(ep(G, 22), ep(R, 40000), SYN | ACK, b""));
    assert_eq!(answer.forwarded_to(LinkId::WAN).source, ep(WAN_ADDRESS, 22));
    rig.push(LinkId::WAN, &syn(R, 8000)).forwarded_to(HOME);
    let dhcp = from(R).udp(ep(R, 67), ep(WAN_ADDRESS, 68), b"");
    rig.push(LinkId::WAN, &dhcp).dropped_for(DropReason::NoMapping);
    let ping = from(R).icmp(R, WAN_ADDRESS, echo_request(7));
    assert_eq!(rig.push(LinkId::WAN, &ping).punt().reason, PuntReason::Local);
    // From inside the address is the router, as before.
    let inside = rig.push(HOME, &from(A).tcp(ep(A, 40000), ep(WAN_ADDRESS, 22), SYN, b""));
    assert_eq!(inside.punt().reason, PuntReason::Local);
}

#[test]
fn a_silent_router_leaves_pings_to_the_dmz_host() {
    let mut rig = rig("[nat]\ndmz_host = \"10.0.2.2\"\n");
    rig.config.wan.ping = Ping::Silent;
    rig.publish();
    let ping = from(R).icmp(R, WAN_ADDRESS, echo_request(7));
    let seen = rig.push(LinkId::WAN, &ping).forwarded_to(GUEST);
    assert_eq!((seen.destination.address, seen.echo_id()), (G, 7));
    let pong = rig.push(GUEST, &from(G).icmp(G, R, echo_reply(7)));
    let seen = pong.forwarded_to(LinkId::WAN);
    assert_eq!((seen.source.address, seen.echo_id()), (WAN_ADDRESS, 7));
}

#[test]
fn rules_hold_for_the_dmz_host_and_its_flows_end_with_it() {
    let dmz = "[nat]\ndmz_host = \"10.0.2.2\"\n";
    let rule = "[[policy.rule]]\naction = \"drop\"\nfrom = \"wan\"\nto = \"guest\"\n\
                protocol = \"tcp\"\nport = \"1-1023\"\n";
    let mut rig = rig(dmz);
    let segment = |port, flags| from(R).tcp(ep(R, 40000), ep(WAN_ADDRESS, port), flags, b"");
    for port in [22, 2222] {
        rig.push(LinkId::WAN, &syn(R, port)).forwarded_to(GUEST);
        let answer = from(G).tcp_at(ep(G, port), ep(R, 40000), SYN | ACK, (5000, 1001));
        rig.push(GUEST, &answer).forwarded_to(LinkId::WAN);
        let third = from(R).tcp_at(ep(R, 40000), ep(WAN_ADDRESS, port), ACK, (1001, 5001));
        rig.push(LinkId::WAN, &third).forwarded_to(GUEST);
    }
    assert_eq!(rig.sessions(), 2);
    rig.reload(&format!("{dmz}{rule}"));
    rig.push(LinkId::WAN, &segment(22, ACK)).dropped_for(DropReason::RuleDenied);
    rig.push(LinkId::WAN, &segment(2222, ACK)).forwarded_to(GUEST);
    rig.reload("");
    for port in [22, 2222] {
        rig.push(LinkId::WAN, &segment(port, ACK)).dropped_for(DropReason::NoMapping);
    }
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn rfc6890_a_public_wan_carries_no_bogons_in_and_none_out() {
    let mut rig = rig(&forward(""));
    move_wan(&mut rig, PUBLIC, PUBLIC_GATEWAY);
    for source in ["10.200.0.1", "100.64.0.1", "172.16.0.1", "192.168.1.1", "203.0.113.7"] {
        let source: Ipv4Addr = source.parse().unwrap();
        let frame = from(R).udp(ep(source, 9), ep(PUBLIC, 8000), b"");
        rig.push(LinkId::WAN, &frame).dropped_for(DropReason::SourceBogon);
        let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(source, 9), b""));
        assert_eq!(out.verdict, Verdict::Reply(ErrorKind::NetworkUnreachable), "{source}");
        assert_eq!(out.one().1.source.address, HOME_ADDRESS);
    }
    let answered = &rig.counters.link(HOME).answered[DropReason::DestinationBogon.index()];
    assert_eq!((answered.load(), rig.sessions()), (5, 0));
    let honest: Ipv4Addr = [9, 9, 8, 8].into();
    let inwards = from(R).udp(ep(honest, 9), ep(PUBLIC, 8000), b"");
    rig.push(LinkId::WAN, &inwards).forwarded_to(HOME);
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(honest, 9), b"")).forwarded_to(LinkId::WAN);
}

#[test]
fn behind_another_translator_private_space_is_met_on_the_wan() {
    let mut rig = rig(&forward(""));
    let (own, gateway) = ([192, 168, 1, 20].into(), [192, 168, 1, 1].into());
    move_wan(&mut rig, own, gateway);
    let modem: Ipv4Addr = [10, 200, 0, 1].into();
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(modem, 80), b"")).forwarded_to(LinkId::WAN);
    rig.push(LinkId::WAN, &from(R).udp(ep(modem, 9), ep(own, 8000), b"")).forwarded_to(HOME);
    let shared = from(R).udp(ep([100, 64, 0, 1].into(), 9), ep(own, 8000), b"");
    rig.push(LinkId::WAN, &shared).dropped_for(DropReason::SourceBogon);
}

#[test]
fn a_route_of_the_lease_and_the_operators_list_except_what_they_name() {
    let mut rig = rig("");
    rig.config.wan.bogons_allow = vec!["192.168.100.0/24".parse().unwrap()];
    move_wan(&mut rig, PUBLIC, PUBLIC_GATEWAY);
    let to = |last| from(A).udp(ep(A, 5000), ep([192, 168, last, 1].into(), 80), b"");
    rig.push(HOME, &to(100)).forwarded_to(LinkId::WAN);
    assert!(matches!(rig.push(HOME, &to(101)).verdict, Verdict::Reply(_)));
    let television = "100.64.8.0/24".parse().unwrap();
    rig.runtime.wan.as_mut().unwrap().routes.push((television, PUBLIC_GATEWAY));
    rig.publish();
    let shared = from(A).udp(ep(A, 5000), ep([100, 64, 8, 1].into(), 80), b"");
    rig.push(HOME, &shared).forwarded_to(LinkId::WAN);
}

#[test]
fn flows_with_bogons_end_when_they_no_longer_pass() {
    let mut rig = rig(&forward(""));
    rig.config.wan.bogons = Bogons::Pass;
    move_wan(&mut rig, PUBLIC, PUBLIC_GATEWAY);
    let bogon: Ipv4Addr = [10, 200, 0, 1].into();
    let (out, inwards) = (
        from(A).udp(ep(A, 5000), ep(bogon, 80), b""),
        from(R).udp(ep(bogon, 9), ep(PUBLIC, 8000), b""),
    );
    rig.push(HOME, &out).forwarded_to(LinkId::WAN);
    rig.push(LinkId::WAN, &inwards).forwarded_to(HOME);
    rig.config.wan.bogons = Bogons::Drop;
    rig.publish();
    assert!(matches!(rig.push(HOME, &out).verdict, Verdict::Reply(_)));
    rig.push(LinkId::WAN, &inwards).dropped_for(DropReason::SourceBogon);
    let answer = rig.push(HOME, &from(B).udp(ep(B, 80), ep(bogon, 9), b""));
    assert!(answer.sent.is_empty());
}

#[test]
fn the_router_may_ask_a_server_in_private_space() {
    let mut rig = Rig::of(config(), Vec::new());
    move_wan(&mut rig, PUBLIC, PUBLIC_GATEWAY);
    let server: Ipv4Addr = [10, 200, 0, 53].into();
    let query = from(A).udp(ep(HOME_ADDRESS, 5353), ep(server, 53), b"?");
    assert_eq!(rig.send_local(&query).one().0, LinkId::WAN);
    let answer = from(R).udp(ep(server, 53), ep(PUBLIC, 5353), b"!");
    assert_eq!(rig.push(LinkId::WAN, &answer).punt().reason, PuntReason::Local);
    rig.publish();
    assert_eq!(rig.push(LinkId::WAN, &answer).punt().reason, PuntReason::Local);
    assert_ne!(GATEWAY, PUBLIC_GATEWAY);
}
