//! 1:1 addresses: an external address that belongs to one host.

use super::*;

const S: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 50);

fn one_to_one(inbound: Inbound) -> Policy {
    let one = Static { external: S, internal: B, inbound };
    Policy { statics: Statics::new(vec![one]).unwrap(), ..policy() }
}

#[test]
fn every_port_of_a_1_1_address_belongs_to_its_host_both_ways_and_is_kept() {
    let mut rig = Rig::new(one_to_one(Inbound::Allowed));
    for port in [1, 68, 501, 40_000, 65_535] {
        assert_eq!(rig.udp_out(ep(B, port), ep(R, 9)), Ok((ep(S, port), ep(R, 9))));
        assert_eq!(rig.udp_in(ep(R, 9), ep(S, port)), Ok((ep(R, 9), ep(B, port))));
        assert_eq!(rig.tcp_out(ep(B, port), ep(R, 9), SYN), Ok((ep(S, port), ep(R, 9))));
        assert_eq!(rig.udp_in(ep(R2, 77), ep(S, port)), Ok((ep(R2, 77), ep(B, port))));
        assert_eq!(rig.tcp_in(ep(R2, 77), ep(S, port), SYN), Ok((ep(R2, 77), ep(B, port))));
    }
    assert_eq!((rig.tables.stats().mappings, rig.tables.hosts.total()), (0, 0));
    assert_eq!(rig.tcp_in(ep(R2, 78), ep(S, 80), ACK), Err(DropReason::TcpNoSession));
}

#[test]
fn a_ping_to_a_1_1_address_reaches_the_host_and_its_answer_the_asker() {
    let mut rig = Rig::new(one_to_one(Inbound::Allowed));
    let there = rig.send(LinkId::WAN, echo(R, S, 7));
    assert_eq!(there, Ok((ep(R, 7), ep(B, 0))));
    let back = rig.send(LAN, echo_reply(B, R, 7));
    assert_eq!(back, Ok((ep(S, 0), ep(R, 7))));
    assert_eq!(rig.sessions()[0].state, State::Replied);
    assert_eq!(rig.send(LinkId::WAN, echo_reply(R2, S, 9)), Err(DropReason::FilterDenied));
    assert_eq!(rig.send(LAN, echo(B, R2, 7)), Ok((ep(S, 7), ep(R2, 0))));
}

#[test]
fn a_1_1_address_that_refuses_strangers_lets_in_answers_only() {
    let mut rig = Rig::new(one_to_one(Inbound::Refused));
    assert_eq!(rig.udp_out(ep(B, 5000), ep(R, 9)), Ok((ep(S, 5000), ep(R, 9))));
    assert_eq!(rig.udp_in(ep(R, 9), ep(S, 5000)), Ok((ep(R, 9), ep(B, 5000))));
    for stranger in [ep(R, 10), ep(R2, 9)] {
        assert_eq!(rig.udp_in(stranger, ep(S, 5000)), Err(DropReason::FilterDenied));
        assert_eq!(rig.tcp_in(stranger, ep(S, 80), SYN), Err(DropReason::FilterDenied));
    }
    assert_eq!(rig.send(LinkId::WAN, echo(R, S, 7)), Err(DropReason::FilterDenied));
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn an_open_lan_does_not_open_a_1_1_address_that_refuses_strangers() {
    let open = vec![Filtering::EndpointIndependent; 3].into();
    let mut rig = Rig::new(Policy { filtering: open, ..one_to_one(Inbound::Refused) });
    rig.udp_out(ep(B, 5000), ep(R, 9)).unwrap();
    assert_eq!(rig.udp_in(ep(R2, 9), ep(S, 5000)), Err(DropReason::FilterDenied));
}

#[test]
fn a_forward_opens_one_port_of_a_1_1_address_that_refuses_strangers() {
    let open = Forward { address: Some(S), ..forward(Protocol::Tcp, 443, ep(B, 443)) };
    let forwards = Forwards::new(vec![open]).unwrap();
    let mut rig = Rig::new(Policy { forwards, ..one_to_one(Inbound::Refused) });
    assert!(rig.tcp_in(ep(R, 4000), ep(S, 443), SYN).is_ok());
    assert_eq!(rig.tcp_in(ep(R, 4000), ep(S, 444), SYN), Err(DropReason::FilterDenied));
    assert_eq!(rig.tcp_out(ep(A, 4000), ep(S, 443), SYN), Ok((ep(E, 4000), ep(B, 443))));
    assert_eq!(rig.tcp_out(ep(B, 443), ep(R2, 1), SYN), Ok((ep(S, 443), ep(R2, 1))));
}

#[test]
fn req3_a_port_that_a_forward_gave_to_another_host_is_not_the_1_1_hosts_any_more() {
    let taken = Forward { address: Some(S), ..forward(Protocol::Udp, 5000, ep(A, 5000)) };
    let forwards = Forwards::new(vec![taken]).unwrap();
    let mut rig = Rig::new(Policy { forwards, ..one_to_one(Inbound::Allowed) });
    assert_eq!(rig.udp_in(ep(R, 9), ep(S, 5000)), Ok((ep(R, 9), ep(A, 5000))));
    assert_eq!(rig.udp_out(ep(B, 5000), ep(R2, 9)), Err(DropReason::PortsExhausted));
    assert_eq!(rig.udp_out(ep(B, 5001), ep(R2, 9)), Ok((ep(S, 5001), ep(R2, 9))));
}

#[test]
fn req9_a_1_1_address_is_reached_from_inside_with_the_external_source() {
    let mut rig = Rig::new(one_to_one(Inbound::Allowed));
    assert_eq!(rig.udp_out(ep(A, 4000), ep(S, 53)), Ok((ep(E, 4000), ep(B, 53))));
    assert_eq!(rig.udp_out(ep(B, 53), ep(E, 4000)), Ok((ep(S, 53), ep(A, 4000))));
    // A ping too, which no dynamic mapping takes.
    assert_eq!(rig.send(LAN, echo(A, S, 7)), Ok((ep(E, 7), ep(B, 0))));
    assert_eq!(rig.send(LAN, echo_reply(B, E, 7)), Ok((ep(S, 0), ep(A, 7))));
    // The host itself, by its own external address.
    assert_eq!(rig.udp_out(ep(B, 4000), ep(S, 53)), Ok((ep(S, 4000), ep(B, 53))));
}

#[test]
fn req9_a_hairpin_to_a_1_1_address_passes_its_filter_as_if_from_outside() {
    let mut rig = Rig::new(one_to_one(Inbound::Refused));
    rig.udp_out(ep(A, 4000), ep(R, 1)).unwrap();
    assert_eq!(rig.udp_out(ep(A, 4000), ep(S, 53)), Err(DropReason::FilterDenied));
    assert_eq!(rig.udp_out(ep(A, 4000), ep(S, 53)), Err(DropReason::FilterDenied));
    // Once the host spoke to the sender's external endpoint, both hear each other.
    assert_eq!(rig.udp_out(ep(B, 53), ep(E, 4000)), Ok((ep(S, 53), ep(A, 4000))));
    assert_eq!(rig.udp_out(ep(A, 4000), ep(S, 53)), Ok((ep(E, 4000), ep(B, 53))));
}

#[test]
fn a_1_1_address_keeps_its_flows_over_a_reload_and_loses_them_when_it_goes() {
    let mut rig = Rig::new(one_to_one(Inbound::Allowed));
    rig.udp_out(ep(B, 5000), ep(R, 9)).unwrap();
    rig.udp_in(ep(R2, 9), ep(S, 53)).unwrap();
    rig.adopt(one_to_one(Inbound::Allowed));
    assert!(rig.udp_in(ep(R, 9), ep(S, 5000)).is_ok());
    assert!(rig.udp_in(ep(R2, 9), ep(S, 53)).is_ok());
    // Closed to strangers: what came in ends, what went out goes on.
    rig.adopt(one_to_one(Inbound::Refused));
    assert_eq!(rig.udp_in(ep(R2, 9), ep(S, 53)), Err(DropReason::FilterDenied));
    assert!(rig.udp_in(ep(R, 9), ep(S, 5000)).is_ok());
    assert_eq!(rig.sessions().len(), 1);
    rig.adopt(policy());
    assert_eq!(rig.udp_out(ep(B, 5000), ep(R, 9)), Ok((ep(E, 5000), ep(R, 9))));
    assert_eq!(rig.udp_in(ep(R, 9), ep(S, 5000)), Err(DropReason::NoRoute));
}

#[test]
fn a_host_that_gets_a_1_1_address_moves_to_it() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(B, 5000), ep(R, 9)).unwrap();
    rig.udp_out(ep(A, 6000), ep(R, 9)).unwrap();
    rig.adopt(one_to_one(Inbound::Refused));
    assert_eq!(rig.udp_out(ep(B, 5000), ep(R, 9)), Ok((ep(S, 5000), ep(R, 9))));
    assert_eq!(rig.udp_out(ep(A, 6000), ep(R, 9)), Ok((ep(E, 6000), ep(R, 9))));
    assert_eq!(rig.sessions().len(), 2);
}

#[test]
fn while_the_wan_is_down_a_1_1_address_is_as_well() {
    let mut rig = Rig::new(one_to_one(Inbound::Allowed));
    rig.udp_out(ep(B, 5000), ep(R, 9)).unwrap();
    rig.adopt(Policy { external: None, ..one_to_one(Inbound::Allowed) });
    assert_eq!(rig.udp_out(ep(B, 5000), ep(R, 9)), Err(DropReason::WanDown));
    assert_eq!(rig.udp_in(ep(R, 9), ep(S, 5000)), Err(DropReason::NoRoute));
}

#[test]
fn req4_an_error_about_a_ping_to_a_1_1_address_is_translated_back_to_the_asker() {
    let mut rig = Rig::new(one_to_one(Inbound::Allowed));
    let mut ping = echo(R, S, 7);
    rig.pass(LinkId::WAN, &mut ping).unwrap();
    // The host answers, and a router on the way tells it that the asker is gone.
    let mut answer = echo_reply(B, R, 7);
    rig.pass(LAN, &mut answer).unwrap();
    let mut error = errors::error(R2, S, errors::unreachable(), &answer.frame()[14..]);
    rig.pass(LinkId::WAN, &mut error).unwrap();
    let datagram = datagram(&error);
    assert_eq!(datagram.destination.address, B);
    let inner = packet::icmp::embedded(error.frame(), &datagram).unwrap();
    assert_eq!((inner.source, inner.destination), (ep(B, 0), ep(R, 7)));
    assert_checksums(error.frame());
}

#[test]
fn a_1_1_address_takes_every_protocol_and_is_one_hosts_alone() {
    let mut rig = Rig::new(one_to_one(Inbound::Allowed));
    for (answer, out) in [
        (gre(R, S, Some(7)), gre(B, R, Some(7))),
        (ip(Protocol::IpIp, R, S, [0x45; 40]), ip(Protocol::IpIp, B, R, [0x45; 40])),
        (sctp(ep(R, 9), ep(S, 9), 1), sctp(ep(B, 9), ep(R, 9), 2)),
        (udp_lite(ep(R, 7), ep(S, 70), 8, b"x"), udp_lite(ep(B, 70), ep(R, 7), 8, b"x")),
    ] {
        let there = rig.send(LinkId::WAN, answer).unwrap();
        assert_eq!((there.0.address, there.1.address), (R, B));
        let back = rig.send(LAN, out).unwrap();
        assert_eq!((back.0.address, back.1.address), (S, R));
    }
    assert_eq!(rig.sessions().len(), 4, "answers go by the sessions of what they answer");
    assert_eq!(rig.send(LAN, gre(A, S, Some(7))), Err(DropReason::HairpinUnsupported));
}

#[test]
fn esp_reaches_a_1_1_address_unasked_if_strangers_do_and_as_an_answer_always() {
    let mut rig = Rig::new(one_to_one(Inbound::Allowed));
    let seen = |sent: Seen| sent.map(|(source, to)| (source.address, to.address));
    assert_eq!(seen(rig.send(LinkId::WAN, esp(R, S, 1))), Ok((R, B)));
    assert_eq!(seen(rig.send(LinkId::WAN, esp(R, S, 1))), Ok((R, B)));
    assert_eq!(rig.sessions().len(), 1);
    rig.adopt(one_to_one(Inbound::Refused));
    assert_eq!(rig.send(LinkId::WAN, esp(R, S, 1)), Err(DropReason::FilterDenied));
    assert_eq!(seen(rig.send(LAN, esp(B, R, 2))), Ok((S, R)));
    assert_eq!(seen(rig.send(LinkId::WAN, esp(R, S, 1))), Ok((R, B)));
    rig.adopt(one_to_one(Inbound::Refused));
    assert_eq!(seen(rig.send(LinkId::WAN, esp(R, S, 1))), Ok((R, B)), "it was asked for");
    rig.advance(secs(1300));
    assert_eq!((rig.tables.stats().sessions, rig.tables.sessions_of.total()), (0, 0));
}
