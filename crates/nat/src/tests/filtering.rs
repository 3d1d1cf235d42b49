//! Who may send to a mapping.

use super::*;

#[test]
fn req8_endpoint_independent_admits_everybody() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    assert_eq!(rig.udp_in(ep(R2, 7), ep(E, 5000)), Ok((ep(R2, 7), ep(A, 5000))));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R2, 7)), Ok((ep(E, 5000), ep(R2, 7))));
}

#[test]
fn req8_address_dependent_admits_other_ports_of_known_addresses() {
    let mut rig = Rig::new(with_filtering(Filtering::AddressDependent));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    assert_eq!(rig.udp_in(ep(R, 7), ep(E, 5000)), Ok((ep(R, 7), ep(A, 5000))));
    assert_eq!(rig.udp_in(ep(R2, 1), ep(E, 5000)), Err(DropReason::FilterDenied));
    rig.udp_out(ep(A, 5000), ep(R2, 99)).unwrap();
    assert!(rig.udp_in(ep(R2, 1), ep(E, 5000)).is_ok());
}

#[test]
fn an_address_is_forgotten_with_the_last_session_to_it() {
    let mut rig = Rig::new(with_filtering(Filtering::AddressDependent));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    rig.udp_out(ep(A, 5000), ep(R, 2)).unwrap();
    rig.advance(secs(200));
    rig.udp_out(ep(A, 5000), ep(R, 2)).unwrap();
    rig.udp_out(ep(A, 5000), ep(R2, 1)).unwrap();
    rig.advance(secs(200));
    assert!(rig.udp_in(ep(R, 3), ep(E, 5000)).is_ok());
    rig.udp_out(ep(A, 5000), ep(R2, 1)).unwrap();
    rig.advance(secs(200));
    assert_eq!(rig.udp_in(ep(R, 4), ep(E, 5000)), Err(DropReason::FilterDenied));
    assert_eq!(rig.tables.stats().contacts, 1);
}

#[test]
fn req8_address_and_port_dependent_admits_sessions_only() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    assert!(rig.udp_in(ep(R, 1), ep(E, 5000)).is_ok());
    assert_eq!(rig.udp_in(ep(R, 7), ep(E, 5000)), Err(DropReason::FilterDenied));
    assert_eq!(rig.udp_in(ep(R2, 1), ep(E, 5000)), Err(DropReason::FilterDenied));
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn rfc7857_6_filtering_is_per_protocol() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.tcp_out(ep(A, 5000), ep(R, 1), SYN).unwrap();
    assert_eq!(rig.udp_in(ep(R, 1), ep(E, 5000)), Err(DropReason::NoMapping));
}

#[test]
fn filtering_is_that_of_the_mappings_lan() {
    let filtering =
        vec![Filtering::default(), Filtering::EndpointIndependent, Filtering::default()];
    let mut rig = Rig::new(Policy { filtering: filtering.into(), ..policy() });
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    rig.send(LAN2, udp(ep(C, 6000), ep(R, 1))).unwrap();
    assert!(rig.udp_in(ep(R2, 1), ep(E, 5000)).is_ok());
    assert_eq!(rig.udp_in(ep(R2, 1), ep(E, 6000)), Err(DropReason::FilterDenied));
}

#[test]
fn nobody_reaches_the_routers_own_mappings_uninvited() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.send(LinkId::LOCAL, udp(ep(A, 5000), ep(R, 53))).unwrap();
    assert_eq!(rig.udp_in(ep(R2, 53), ep(E, 5000)), Err(DropReason::FilterDenied));
    assert!(rig.udp_in(ep(R, 53), ep(E, 5000)).is_ok());
}

#[test]
fn rfc7857_7_rejected_inbound_does_not_refresh() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    for _ in 0..3 {
        rig.advance(secs(90));
        assert_eq!(rig.udp_in(ep(R2, 1), ep(E, 5000)), Err(DropReason::FilterDenied));
    }
    rig.advance(secs(31));
    assert!(rig.sessions().is_empty());
}

#[test]
fn an_echo_request_to_a_mapped_identifier_is_not_a_reply() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.pass(LAN, &mut echo(A, R, 77)).unwrap();
    assert_eq!(rig.pass(LinkId::WAN, &mut echo(R, E, 77)), Err(DropReason::NoMapping));
    assert_eq!(rig.pass(LinkId::WAN, &mut echo_reply(R2, E, 77)), Err(DropReason::NoMapping));
}

#[test]
fn req6a_strangers_cannot_keep_a_mapping_alive() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    for port in 0..3 {
        rig.advance(secs(99));
        rig.udp_in(ep(R2, 100 + port), ep(E, 5000)).unwrap();
    }
    rig.advance(secs(5));
    assert_eq!(rig.tables.hosts.total(), 0, "the mapping is at rest");
    assert_eq!(rig.udp_in(ep(R2, 200), ep(E, 5000)), Err(DropReason::NoMapping));
    // Those who were let in go a round of upkeep later, whatever they send.
    for _ in 0..10 {
        let _ = rig.udp_in(ep(R2, 100), ep(E, 5000));
        rig.advance(secs(1));
    }
    assert!(rig.sessions().is_empty());
    rig.advance(secs(115));
    assert_eq!((rig.tables.stats().mappings, rig.tables.hosts.total()), (0, 0));
}

#[test]
fn a_stranger_stays_while_another_that_was_answered_may_wake_the_mapping() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    rig.advance(secs(299));
    for port in 0..3 {
        rig.udp_in(ep(R2, 100 + port), ep(E, 5000)).unwrap();
    }
    rig.udp_out(ep(A, 5000), ep(R2, 102)).unwrap();
    // The same look ends the first session, finds two unanswered, and then the one that holds on.
    rig.now += secs(5);
    rig.expire();
    assert_eq!(rig.sessions().len(), 3);
    rig.advance(secs(60));
    assert_eq!(rig.sessions().len(), 3);
}

#[test]
fn req6_answering_a_stranger_keeps_the_mapping_alive() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    rig.advance(secs(200));
    rig.udp_in(ep(R2, 100), ep(E, 5000)).unwrap();
    rig.udp_out(ep(A, 5000), ep(R2, 100)).unwrap();
    rig.advance(secs(200));
    assert_eq!(rig.sessions().len(), 1);
    assert_eq!(rig.udp_in(ep(R2, 101), ep(E, 5000)), Ok((ep(R2, 101), ep(A, 5000))));
    rig.advance(secs(102 + 125));
    assert_eq!((rig.tables.stats().mappings, rig.tables.hosts.total()), (0, 0));
}

#[test]
fn an_answer_in_the_last_moment_wakes_the_mapping() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    rig.advance(secs(300));
    rig.udp_in(ep(R2, 100), ep(E, 5000)).unwrap();
    rig.now += secs(2);
    rig.udp_out(ep(A, 5000), ep(R2, 100)).unwrap();
    rig.expire();
    rig.expire();
    assert_eq!(rig.sessions().len(), 1);
    assert!(rig.udp_in(ep(R2, 101), ep(E, 5000)).is_ok());
}
