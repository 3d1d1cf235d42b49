//! Several external addresses, 1:1 addresses, and a WAN that has the subnet of a LAN.

use std::net::Ipv4Addr;

use packet::{DropReason, LinkId, Protocol, PuntReason};
use pipeline::{Verdict, configured_forwards};

use crate::frames::{ACK, SYN, echo_reply, echo_request, ep, pieces, see};
use crate::rig::{
    A, B, G, GATEWAY, GUEST, HOME, HOME_ADDRESS, R, R2, Rig, WAN_ADDRESS, by_dhcp, config_of_wan,
    from, mac, wan_at,
};

const POOL: &str = r#"addresses = ["198.51.100.8-198.51.100.15", "203.0.113.200"]"#;
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
const S: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 50);

fn pooled() -> Rig {
    Rig::of(config_of_wan(POOL, ""), Vec::new())
}

fn one_to_one(inbound: bool) -> Rig {
    let tail =
        format!("[[nat.static]]\nexternal = \"{S}\"\ninternal = \"{B}\"\ninbound = {inbound}\n");
    Rig::of(config_of_wan("", &tail), Vec::new())
}

/// A source port that no other host here uses, so that it is kept.
fn port_of(host: Ipv4Addr) -> u16 {
    let [.., lan, host] = host.octets();
    5000 + 20 * u16::from(lan) + 2 * u16::from(host)
}

/// The address that a host is paired with.
fn pair(rig: &Rig, host: Ipv4Addr) -> Ipv4Addr {
    rig.snapshot.nat.pool.paired(WAN_ADDRESS, host)
}

#[test]
fn req2_every_flow_of_a_host_leaves_from_the_address_that_it_is_paired_with() {
    let mut rig = pooled();
    let hosts = [(A, HOME), (B, HOME), (G, GUEST)];
    assert!(hosts.iter().any(|(host, _)| pair(&rig, *host) != WAN_ADDRESS));
    for (host, link) in hosts {
        let (pair, port) = (pair(&rig, host), port_of(host));
        let udp = rig.push(link, &from(host).udp(ep(host, port), ep(R, 1), b""));
        assert_eq!(udp.forwarded_to(LinkId::WAN).source, ep(pair, port));
        let tcp = rig.push(link, &from(host).tcp(ep(host, port + 1), ep(R2, 1), SYN, b""));
        assert_eq!(tcp.forwarded_to(LinkId::WAN).source, ep(pair, port + 1));
        let ping = rig.push(link, &from(host).icmp(host, R, echo_request(9)));
        assert_eq!(ping.forwarded_to(LinkId::WAN).source.address, pair);
        let back = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(pair, port), b""));
        assert_eq!(back.forwarded_to(link).destination, ep(host, port));
    }
}

#[test]
fn the_router_itself_speaks_from_the_links_own_address() {
    let mut rig = pooled();
    let query = from(A).udp(ep(HOME_ADDRESS, 5353), ep(R, 53), b"question");
    assert_eq!(rig.send_local(&query).one().1.source, ep(WAN_ADDRESS, 5353));
}

#[test]
fn a_ping_to_a_further_address_is_answered_from_there() {
    let mut rig = pooled();
    let out = rig.push(LinkId::WAN, &from(R).icmp(R, FIRST, echo_request(1)));
    assert_eq!(out.punt().reason, PuntReason::Local);
    let seen = rig.send_local(&from(R).icmp(FIRST, R, echo_reply(1))).one().1;
    assert_eq!((seen.source.address, seen.destination.address), (FIRST, R));
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn an_inside_host_that_talks_to_the_routers_own_outside_addresses_reaches_the_router() {
    let mut rig = pooled();
    for outside in [WAN_ADDRESS, FIRST, Ipv4Addr::new(203, 0, 113, 200)] {
        let frame = from(A).udp(ep(A, 5000), ep(outside, 53), b"question");
        let out = rig.push(HOME, &frame);
        assert_eq!((out.punt().reason, &out.punt().frame), (PuntReason::Local, &frame));
        let ping = rig.push(HOME, &from(A).icmp(A, outside, echo_request(1)));
        assert_eq!(ping.punt().reason, PuntReason::Local);
    }
    assert_eq!(rig.sessions(), 0);
}

#[test]
fn req9_an_inside_host_reaches_what_is_mapped_on_a_further_address() {
    let mut config = config_of_wan(POOL, "");
    for lan in &mut config.lans {
        lan.filtering = config::Filtering::EndpointIndependent;
    }
    let mut rig = Rig::of(config, Vec::new());
    let (of_a, of_g) = (pair(&rig, A), pair(&rig, G));
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    let there = rig.push(GUEST, &from(G).udp(ep(G, 6000), ep(of_a, 5000), b""));
    assert_eq!(there.forwarded_to(HOME).endpoints(), (ep(of_g, 6000), ep(A, 5000)));
    let back = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(of_g, 6000), b""));
    assert_eq!(back.forwarded_to(GUEST).endpoints(), (ep(of_a, 5000), ep(G, 6000)));
}

#[test]
fn an_address_of_the_wan_subnet_that_is_not_the_routers_is_none() {
    let mut rig = pooled();
    let stranger = Ipv4Addr::new(198, 51, 100, 16);
    let out = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(stranger, 5000), b""));
    out.dropped_for(DropReason::PolicyDenied);
}

#[test]
fn no_external_address_is_a_source_on_the_wan() {
    let mut rig = one_to_one(true);
    let syn = from(R).tcp(ep(S, 40000), ep(WAN_ADDRESS, 80), SYN, b"");
    rig.push(LinkId::WAN, &syn).dropped_for(DropReason::SourceInternal);
    let mut rig = pooled();
    let syn = from(R).tcp(ep(FIRST, 40000), ep(WAN_ADDRESS, 80), SYN, b"");
    rig.push(LinkId::WAN, &syn).dropped_for(DropReason::SourceInternal);
}

#[test]
fn further_addresses_go_down_with_the_wan_and_come_back_with_it() {
    let mut rig = pooled();
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"");
    rig.push(HOME, &frame).forwarded_to(LinkId::WAN);
    let (wan, pair) = (rig.runtime.wan.take(), pair(&rig, A));
    rig.publish();
    let back = from(R).udp(ep(R, 1), ep(pair, 5000), b"");
    assert!(rig.push(LinkId::WAN, &back).sent.is_empty());
    let out = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(FIRST, 53), b""));
    assert!(matches!(out.verdict, Verdict::Reply(_)), "{out:?}");
    rig.runtime.wan = wan;
    rig.publish();
    rig.learn(LinkId::WAN, GATEWAY);
    assert_eq!(rig.push(HOME, &frame).forwarded_to(LinkId::WAN).source, ep(pair, 5000));
}

#[test]
fn a_lease_that_is_one_of_the_further_addresses_takes_it_out_of_them() {
    let mut rig = Rig::of(by_dhcp(config_of_wan(POOL, "")), Vec::new());
    rig.runtime.wan = Some(wan_at(FIRST, GATEWAY));
    rig.publish();
    assert_eq!(rig.snapshot.nat.external, Some(FIRST));
    assert_eq!(rig.snapshot.nat.pool.further().len(), 8);
    assert!(!rig.snapshot.nat.pool.contains(FIRST));
}

#[test]
fn a_lease_whose_gateway_the_list_names_by_mistake_leaves_it_to_the_gateway() {
    let mut rig = Rig::of(by_dhcp(config_of_wan(POOL, "")), Vec::new());
    rig.runtime.wan = Some(wan_at(WAN_ADDRESS, FIRST));
    rig.publish();
    rig.learn(LinkId::WAN, FIRST);
    assert!(!rig.snapshot.nat.is_external(FIRST));
    let out = rig.push(HOME, &from(A).icmp(A, FIRST, echo_request(1)));
    assert_eq!(out.forwarded_to(LinkId::WAN).destination.address, FIRST);
}

#[test]
fn a_forward_for_a_further_address_is_open_there_only() {
    let tail = "[[forward]]\nprotocol = \"tcp\"\naddress = \"198.51.100.8\"\nport = 8080\n\
                to = \"10.0.1.3:80\"\n";
    let config = config_of_wan(POOL, tail);
    let forwards = configured_forwards(&config);
    let mut rig = Rig::of(config, forwards);
    let syn = |to| from(R).tcp(ep(R, 40000), ep(to, 8080), SYN, b"");
    let seen = rig.push(LinkId::WAN, &syn(FIRST)).forwarded_to(HOME);
    assert_eq!(seen.destination, ep(B, 80));
    let answer = rig.push(HOME, &from(B).tcp(ep(B, 80), ep(R, 40000), SYN | ACK, b""));
    assert_eq!(answer.forwarded_to(LinkId::WAN).source, ep(FIRST, 8080));
    rig.push(LinkId::WAN, &syn(WAN_ADDRESS)).dropped_for(DropReason::NoMapping);
    let inside = from(A).tcp(ep(A, 40000), ep(FIRST, 8080), SYN, b"");
    assert_eq!(rig.push(HOME, &inside).forwarded_to(HOME).destination, ep(B, 80));
}

#[test]
fn a_forward_for_a_further_address_admits_its_sources_only() {
    let tail = format!(
        "[[forward]]\nprotocol = \"tcp\"\naddress = \"{FIRST}\"\nport = 8080\nto = \"10.0.1.3:80\"\n\
         from = [\"{R}\"]\nhairpin = false\n"
    );
    let config = config_of_wan(POOL, &tail);
    let forwards = configured_forwards(&config);
    let mut rig = Rig::of(config, forwards);
    let syn = |from_: Ipv4Addr| from(from_).tcp(ep(from_, 40000), ep(FIRST, 8080), SYN, b"");
    assert_eq!(rig.push(LinkId::WAN, &syn(R)).forwarded_to(HOME).destination, ep(B, 80));
    rig.push(LinkId::WAN, &syn(R2)).dropped_for(DropReason::ForwardSource);
    rig.push(HOME, &syn(A)).dropped_for(DropReason::HairpinDisabled);
}

#[test]
fn the_dmz_host_has_the_links_own_address_only() {
    let tail = "[nat]\ndmz_host = \"10.0.2.2\"\n";
    let mut rig = Rig::of(config_of_wan(POOL, tail), Vec::new());
    let stranger = |to| from(R).udp(ep(R, 1), ep(to, 7777), b"");
    let seen = rig.push(LinkId::WAN, &stranger(WAN_ADDRESS)).forwarded_to(GUEST);
    assert_eq!(seen.destination, ep(G, 7777));
    rig.push(LinkId::WAN, &stranger(FIRST)).dropped_for(DropReason::NoMapping);
}

#[test]
fn fragments_for_a_further_address_are_put_together() {
    let mut rig = pooled();
    let shared = pair(&rig, A);
    assert_ne!(shared, WAN_ADDRESS, "else this shows nothing");
    rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b"ask"));
    let answer = from(R).udp(ep(R, 1), ep(shared, 5000), &[7; 4000]);
    let out = rig.push_pieces(LinkId::WAN, &pieces(&answer, 1480));
    assert_eq!(out.in_fragments().1.destination, ep(A, 5000));
}

#[test]
fn esp_to_a_1_1_address_obeys_rules_about_what_comes_in() {
    let esp = from(R).raw(Protocol::Esp, R, S, &[0, 0, 0, 9, 0, 0, 0, 1, 1, 2, 3, 4]);
    let mut rig = one_to_one(true);
    assert_eq!(rig.push(LinkId::WAN, &esp).forwarded_to(HOME).destination.address, B);
    one_to_one(false).push(LinkId::WAN, &esp).dropped_for(DropReason::FilterDenied);
    let tail = format!(
        "[[nat.static]]\nexternal = \"{S}\"\ninternal = \"{B}\"\ninbound = true\n\
         [[policy.rule]]\naction = \"drop\"\nfrom = \"wan\"\nto = \"home\"\n"
    );
    let mut rig = Rig::of(config_of_wan("", &tail), Vec::new());
    rig.push(LinkId::WAN, &esp).dropped_for(DropReason::RuleDenied);
}

#[test]
fn a_1_1_address_carries_every_port_of_its_host_both_ways() {
    let mut rig = one_to_one(true);
    let out = rig.push(HOME, &from(B).udp(ep(B, 5000), ep(R, 1), b""));
    assert_eq!(out.forwarded_to(LinkId::WAN).source, ep(S, 5000));
    // UDP port 68 is the host's there, not that of the router's DHCP client.
    for port in [22, 68, 8080] {
        let frame = from(R).udp(ep(R, 40000), ep(S, port), b"");
        assert_eq!(rig.push(LinkId::WAN, &frame).forwarded_to(HOME).destination, ep(B, port));
        let frame = from(R).tcp(ep(R, 40000), ep(S, port), SYN, b"");
        assert_eq!(rig.push(LinkId::WAN, &frame).forwarded_to(HOME).destination, ep(B, port));
    }
    let other = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(R, 1), b""));
    assert_eq!(other.forwarded_to(LinkId::WAN).source, ep(WAN_ADDRESS, 5000));
}

#[test]
fn a_ping_to_a_1_1_address_is_answered_by_its_host() {
    let mut rig = one_to_one(true);
    let ping = rig.push(LinkId::WAN, &from(R).icmp(R, S, echo_request(7)));
    let seen = ping.forwarded_to(HOME);
    assert_eq!((seen.destination.address, seen.echo_id()), (B, 7));
    let pong = rig.push(HOME, &from(B).icmp(B, R, echo_reply(7)));
    let seen = pong.forwarded_to(LinkId::WAN);
    assert_eq!((seen.source.address, seen.echo_id()), (S, 7));
    let hairpin = rig.push(HOME, &from(A).icmp(A, S, echo_request(8)));
    assert_eq!(hairpin.forwarded_to(HOME).endpoints().0.address, WAN_ADDRESS);
}

#[test]
fn a_1_1_address_without_inbound_is_silent_to_strangers_and_never_the_router() {
    let mut rig = one_to_one(false);
    let syn = rig.push(LinkId::WAN, &from(R).tcp(ep(R, 40000), ep(S, 22), SYN, b""));
    syn.dropped_for(DropReason::FilterDenied);
    let ping = rig.push(LinkId::WAN, &from(R).icmp(R, S, echo_request(7)));
    ping.dropped_for(DropReason::FilterDenied);
    let inside = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(S, 53), b"question"));
    inside.dropped_for(DropReason::FilterDenied);
    let out = rig.push(HOME, &from(B).tcp(ep(B, 40000), ep(R, 443), SYN, b""));
    assert_eq!(out.forwarded_to(LinkId::WAN).source, ep(S, 40000));
    let answer = from(R).tcp(ep(R, 443), ep(S, 40000), SYN | ACK, b"");
    assert_eq!(rig.push(LinkId::WAN, &answer).forwarded_to(HOME).destination, ep(B, 40000));
}

#[test]
fn req9_a_1_1_address_is_reached_from_every_lan() {
    let mut rig = one_to_one(true);
    let syn = rig.push(GUEST, &from(G).tcp(ep(G, 40000), ep(S, 443), SYN, b""));
    assert_eq!(syn.forwarded_to(HOME).endpoints(), (ep(WAN_ADDRESS, 40000), ep(B, 443)));
    let answer = from(B).tcp(ep(B, 443), ep(WAN_ADDRESS, 40000), SYN | ACK, b"");
    let seen = rig.push(HOME, &answer).forwarded_to(GUEST);
    assert_eq!(seen.endpoints(), (ep(S, 443), ep(G, 40000)));
}

#[test]
fn req8_a_host_with_a_filtering_of_its_own_is_open_and_its_lan_is_not() {
    let tail = format!(
        "[[nat.host]]\nhost = \"{A}\"\nfiltering = \"endpoint-independent\"\n\
         [nat]\nmappings_per_host_max_udp = 64\n[nat.timeouts]\nudp_dns = \"10s\"\n\
         tcp_opening = \"5m\"\n"
    );
    let mut rig = Rig::of(config_of_wan("", &tail), Vec::new());
    for (host, port) in [(A, 5000), (B, 5001)] {
        rig.push(HOME, &from(host).udp(ep(host, port), ep(R, 1), b""));
    }
    let stranger = |port| from(R2).udp(ep(R2, 9), ep(WAN_ADDRESS, port), b"");
    assert_eq!(rig.push(LinkId::WAN, &stranger(5000)).forwarded_to(HOME).destination, ep(A, 5000));
    rig.push(LinkId::WAN, &stranger(5001)).dropped_for(DropReason::FilterDenied);
    let nat = &rig.snapshot.nat;
    assert_eq!(nat.mappings_per_host_max_of.udp, 64);
    assert_eq!((nat.timeouts.udp_dns.as_secs(), nat.timeouts.udp.as_secs()), (10, 300));
    assert_eq!(
        (nat.timeouts.tcp_opening.as_secs(), nat.timeouts.tcp_closing.as_secs()),
        (300, 240)
    );
}

/// A WAN whose lease has the subnet of the home, its gateway the router's own address there.
fn clashing(address: Ipv4Addr) -> Rig {
    // The peer of these tests has an address that such a WAN would not carry.
    let config = config_of_wan("bogons = \"pass\"", "");
    let mut rig = Rig::of(by_dhcp(config), Vec::new());
    rig.runtime.wan = Some(wan_at(address, HOME_ADDRESS));
    rig.publish();
    rig.learn(LinkId::WAN, HOME_ADDRESS);
    rig
}

#[test]
fn req7_a_wan_lease_that_equals_a_lan_subnet_is_translated_all_the_same() {
    let outside = Ipv4Addr::new(10, 0, 1, 77);
    let mut rig = clashing(outside);
    for (host, link) in [(A, HOME), (B, HOME), (G, GUEST)] {
        let port = port_of(host);
        let out = rig.push(link, &from(host).udp(ep(host, port), ep(R, 1), b""));
        let seen = out.forwarded_to(LinkId::WAN);
        assert_eq!((seen.source, seen.to_mac), (ep(outside, port), mac(HOME_ADDRESS)));
        let back = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(outside, port), b""));
        let seen = back.forwarded_to(link);
        assert_eq!((seen.destination, seen.to_mac), (ep(host, port), mac(host)));
    }
    // The LAN keeps its addresses: what comes from the WAN with one of them is not from there.
    let forged = rig.push(LinkId::WAN, &from(R).udp(ep(A, 1), ep(outside, port_of(A)), b""));
    forged.dropped_for(DropReason::SourceInternal);
    let query = from(A).udp(ep(HOME_ADDRESS, 5353), ep(R, 53), b"question");
    assert_eq!(rig.send_local(&query).one().1.source, ep(outside, 5353));
}

#[test]
fn req7_a_host_whose_address_the_wan_lease_repeats_reaches_the_internet() {
    let mut rig = clashing(A);
    for (host, port) in [(A, 5000), (B, 5001)] {
        let out = rig.push(HOME, &from(host).udp(ep(host, port), ep(R, 1), b""));
        assert_eq!(out.forwarded_to(LinkId::WAN).source, ep(A, port));
        let back = rig.push(LinkId::WAN, &from(R).udp(ep(R, 1), ep(A, port), b""));
        assert_eq!(back.forwarded_to(HOME).destination, ep(host, port));
    }
    let spoofed = from(G).udp(ep(A, 5000), ep(R, 1), b"");
    rig.push(GUEST, &spoofed).dropped_for(DropReason::SourceSpoofed);
}

#[test]
fn req7_the_router_resolves_names_though_the_wan_lease_repeats_its_lan_address() {
    let mut rig = Rig::of(by_dhcp(config_of_wan("", "")), Vec::new());
    let gateway = Ipv4Addr::new(10, 0, 1, 254);
    rig.runtime.wan = Some(wan_at(HOME_ADDRESS, gateway));
    rig.publish();
    rig.learn(LinkId::WAN, gateway);
    let query = from(A).udp(ep(HOME_ADDRESS, 5353), ep(R, 53), b"question");
    assert_eq!(rig.send_local(&query).one().1.source, ep(HOME_ADDRESS, 5353));
    let answer = from(R).udp(ep(R, 53), ep(HOME_ADDRESS, 5353), b"answer");
    let out = rig.push(LinkId::WAN, &answer);
    assert_eq!(see(&out.punt().frame).destination, ep(HOME_ADDRESS, 5353));
    let pong = rig.send_local(&from(A).icmp(HOME_ADDRESS, R, echo_reply(1)));
    assert_eq!(pong.one().1.source.address, HOME_ADDRESS);
    let lookup = rig.push(HOME, &from(A).udp(ep(A, 5000), ep(HOME_ADDRESS, 53), b"question"));
    assert_eq!(lookup.punt().reason, PuntReason::Local);
}

#[test]
fn a_udp_flow_that_never_goes_idle_moves_when_the_wan_address_changes() {
    let mut rig = Rig::of(by_dhcp(config_of_wan("", "")), Vec::new());
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), b"");
    let mut seen = Vec::new();
    for second in 0..600 {
        if second == 300 {
            rig.runtime.wan = Some(wan_at(Ipv4Addr::new(198, 51, 100, 42), GATEWAY));
            rig.publish();
        }
        seen.push(rig.push(HOME, &frame).forwarded_to(LinkId::WAN).source.address);
        rig.advance(std::time::Duration::from_secs(1));
        rig.worker.expire(&rig.snapshot, rig.now);
    }
    assert!(seen[..300].iter().all(|source| *source == WAN_ADDRESS));
    assert!(seen[300..].iter().all(|source| *source == Ipv4Addr::new(198, 51, 100, 42)));
    assert_eq!(rig.sessions(), 1);
}
