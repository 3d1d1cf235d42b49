//! Inside to inside by the external address.

use super::*;

#[test]
fn req9_req9a_two_hosts_meet_by_their_external_endpoints() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.map(ep(B, 6000)).unwrap();
    let there = rig.udp_out(ep(A, 5000), ep(E, 6000));
    assert_eq!(there, Ok((ep(E, 5000), ep(B, 6000))), "the source is the external endpoint");
    let back = rig.udp_out(ep(B, 6000), ep(E, 5000));
    assert_eq!(back, Ok((ep(E, 6000), ep(A, 5000))));
    let sessions = rig.sessions();
    let hairpin = sessions.iter().find(|s| s.direction == Direction::Hairpin).unwrap();
    assert_eq!(hairpin.internal, Internal(ep(A, 5000)));
    assert_eq!(hairpin.external, External(ep(E, 5000)));
    assert_eq!((hairpin.remote, hairpin.packets), (ep(E, 6000), [1, 1]));
}

#[test]
fn rfc5382_req8_a_forward_works_from_inside_too() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Tcp, 8080, ep(B, 80))]));
    let syn = rig.tcp_out(ep(A, 5000), ep(E, 8080), SYN);
    assert_eq!(syn, Ok((ep(E, 5000), ep(B, 80))));
    let syn_ack = rig.tcp_out(ep(B, 80), ep(E, 5000), SYN_ACK);
    assert_eq!(syn_ack, Ok((ep(E, 8080), ep(A, 5000))));
    assert_eq!(rig.states(), ["established"]);
}

#[test]
fn a_host_reaches_its_own_forward() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Tcp, 8080, ep(A, 80))]));
    assert_eq!(rig.tcp_out(ep(A, 5000), ep(E, 8080), SYN), Ok((ep(E, 5000), ep(A, 80))));
    assert_eq!(rig.tcp_out(ep(A, 80), ep(E, 5000), SYN_ACK), Ok((ep(E, 8080), ep(A, 5000))));
}

#[test]
fn an_endpoint_cannot_speak_with_itself() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.map(ep(A, 5000)).unwrap();
    assert_eq!(rig.udp_out(ep(A, 5000), ep(E, 5000)), Err(DropReason::Land));
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Udp, 8080, ep(A, 80))]));
    assert_eq!(rig.udp_out(ep(A, 80), ep(E, 8080)), Err(DropReason::Land));
    assert!(rig.sessions().is_empty());
}

#[test]
fn req9_the_targets_filter_sees_the_senders_external_endpoint() {
    for (filtering, admitted) in [
        (Filtering::EndpointIndependent, true),
        (Filtering::AddressDependent, false),
        (Filtering::AddressAndPortDependent, false),
    ] {
        let mut rig = Rig::new(with_filtering(filtering));
        rig.map(ep(B, 6000)).unwrap();
        let seen = rig.udp_out(ep(A, 5000), ep(E, 6000));
        assert_eq!(seen.is_ok(), admitted, "{filtering:?}: {seen:?}");
    }
}

#[test]
fn hole_punching_works_between_two_hosts_of_one_lan() {
    let mut rig = Rig::new(policy());
    rig.map(ep(A, 5000)).unwrap();
    rig.map(ep(B, 6000)).unwrap();
    let denied = Err(DropReason::FilterDenied);
    assert_eq!(rig.udp_out(ep(A, 5000), ep(E, 6000)), denied);
    assert_eq!(rig.udp_out(ep(A, 5000), ep(E, 6000)), denied, "still nothing from B");
    assert_eq!(rig.udp_out(ep(B, 6000), ep(E, 5000)), Ok((ep(E, 6000), ep(A, 5000))));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(E, 6000)), Ok((ep(E, 5000), ep(B, 6000))));
    assert_eq!(rig.udp_out(ep(B, 6000), ep(E, 5000)), Ok((ep(E, 6000), ep(A, 5000))));
    assert_eq!(rig.sessions().len(), 3);
}

#[test]
fn simultaneous_open_works_between_two_hosts_of_one_lan() {
    let mut rig = Rig::new(policy());
    rig.tcp_out(ep(A, 5000), ep(R, 1), SYN).unwrap();
    rig.tcp_out(ep(B, 6000), ep(R, 1), SYN).unwrap();
    assert!(rig.tcp_out(ep(A, 5000), ep(E, 6000), SYN).is_err());
    assert!(rig.tcp_out(ep(B, 6000), ep(E, 5000), SYN).is_ok());
    assert!(rig.tcp_out(ep(A, 5000), ep(E, 6000), SYN).is_ok());
    assert!(rig.states().contains(&"established"));
}

#[test]
fn address_dependent_filtering_knows_addresses_reached_by_hairpin() {
    let mut rig = Rig::new(with_filtering(Filtering::AddressDependent));
    rig.map(ep(A, 5000)).unwrap();
    rig.map(ep(B, 6000)).unwrap();
    // B has sent to the external address, so any endpoint on it may send to B.
    assert!(rig.udp_out(ep(B, 6000), ep(E, 7777)).is_err());
    assert_eq!(rig.udp_out(ep(B, 6000), ep(E, 5000)), Err(DropReason::FilterDenied));
    let from_c = rig.send(LAN2, udp(ep(C, 5500), ep(E, 6000)));
    assert_eq!(from_c, Ok((ep(E, 5500), ep(B, 6000))));
}

#[test]
fn a_hairpin_holds_both_mappings() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.map(ep(B, 6000)).unwrap();
    rig.advance(secs(250));
    rig.udp_out(ep(A, 5000), ep(E, 6000)).unwrap();
    rig.advance(secs(250));
    assert_eq!(rig.sessions().len(), 1);
    assert!(rig.udp_in(ep(R, 1), ep(E, 5000)).is_ok());
    assert!(rig.udp_in(ep(R, 1), ep(E, 6000)).is_ok());
    rig.advance(secs(700));
    assert_eq!(rig.tables.hosts.total(), 0);
}

#[test]
fn a_hairpin_to_nothing_is_dropped_without_a_trace() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.udp_out(ep(A, 5000), ep(E, 6000)), Err(DropReason::NoMapping));
    assert_eq!((rig.sessions().len(), rig.tables.stats().mappings), (0, 0));
}
