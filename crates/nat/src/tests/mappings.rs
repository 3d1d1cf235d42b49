//! Which external endpoint stands for an internal one.

use std::collections::BTreeSet;

use super::*;

#[test]
fn req1_one_internal_endpoint_has_one_external_endpoint_for_all_remotes() {
    let mut rig = Rig::new(policy());
    for remote in [ep(R, 53), ep(R, 54), ep(R2, 53)] {
        assert_eq!(rig.udp_out(ep(A, 5000), remote), Ok((ep(E, 5000), remote)));
    }
    assert_eq!(rig.sessions().len(), 3);
    assert_eq!(rig.tables.stats().mappings, 1);
}

#[test]
fn rfc7857_5_mappings_are_per_protocol() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 53)).unwrap();
    assert_eq!(rig.tcp_out(ep(B, 5000), ep(R, 53), SYN), Ok((ep(E, 5000), ep(R, 53))));
    assert_eq!(rig.tables.stats().mappings, 2);
}

#[test]
fn req3_two_hosts_with_one_port_get_two_external_ports() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.map(ep(A, 5000)), Ok(ep(E, 5000)));
    let other = rig.map(ep(B, 5000)).unwrap();
    assert_ne!(other.port, 5000);
    assert_eq!(rig.udp_in(ep(R, 9), other), Ok((ep(R, 9), ep(B, 5000))));
}

#[test]
fn req3a_req4_a_collision_keeps_range_class_and_parity() {
    let mut rig = Rig::new(policy());
    for port in [500, 501, 1023, 1024, 50_000, 65_535] {
        rig.map(ep(A, port)).unwrap();
        let other = rig.map(ep(B, port)).unwrap().port;
        assert_ne!(other, port);
        assert_eq!(other < 1024, port < 1024, "{port} became {other}");
        assert_eq!(other % 2, port % 2, "{port} became {other}");
    }
}

#[test]
fn rfc6056_ports_given_on_collision_are_scattered() {
    let mut rig = Rig::new(policy());
    let ports: Vec<u16> = (2..34)
        .map(|host| rig.map(ep(Ipv4Addr::new(10, 0, 0, host), 40_000)).unwrap().port)
        .collect();
    let steps: BTreeSet<i32> =
        ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
    assert!(steps.len() > 28, "{ports:?}");
}

#[test]
fn reserved_ports_and_those_of_forwards_are_never_given() {
    let reserved = ReservedPorts::none().with(Protocol::Udp, 7000..=7000);
    let forwards = Forwards::new(vec![forward(Protocol::Udp, 7002, ep(C, 1))]).unwrap();
    let mut rig = Rig::new(Policy { reserved, forwards, ..policy() });
    assert_ne!(rig.map(ep(A, 7000)).unwrap().port, 7000);
    assert_ne!(rig.map(ep(A, 7002)).unwrap().port, 7002);
    let tcp = rig.tcp_out(ep(A, 7000), ep(R, 9), SYN).unwrap().0;
    assert_eq!(tcp.port, 7000);
}

#[test]
fn exhaustion_refuses_the_new_and_keeps_the_old() {
    let mut rig = Rig::new(policy());
    let host = |n: u16| Ipv4Addr::from_bits(0x0a00_0100 + u32::from(n));
    let given: BTreeSet<u16> = (0..512).map(|n| rig.map(ep(host(n), 501)).unwrap().port).collect();
    assert_eq!(given.len(), 512, "no port was given twice, and every odd one was given");
    assert_eq!(rig.map(ep(host(600), 501)), Err(DropReason::PortsExhausted));
    assert_eq!(rig.map(ep(host(600), 502)).map(|external| external.port), Ok(502));
    let external = rig.map(ep(host(3), 501)).unwrap();
    assert_eq!(rig.udp_in(ep(R, 9), external), Ok((ep(R, 9), ep(host(3), 501))));
}

#[test]
fn req11_behaviour_is_the_same_after_exhaustion() {
    let mut rig = Rig::new(policy());
    for n in 0..600 {
        let _ = rig.map(ep(Ipv4Addr::from_bits(0x0a00_0100 + n), 501));
    }
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R, 1)), Ok((ep(E, 5000), ep(R, 1))));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R2, 1)), Ok((ep(E, 5000), ep(R2, 1))));
    assert_eq!(rig.udp_in(ep(R, 2), ep(E, 5000)), Err(DropReason::FilterDenied));
}

#[test]
fn rfc6888_req4_a_host_cannot_exceed_its_quota_and_others_do_not_feel_it() {
    let mut rig = Rig::new(Policy { mappings_per_host_max: 3, ..policy() });
    for port in 5000..5003 {
        rig.map(ep(A, port)).unwrap();
    }
    assert_eq!(rig.map(ep(A, 5003)), Err(DropReason::HostQuota));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R2, 1)), Ok((ep(E, 5000), ep(R2, 1))));
    assert!(rig.map(ep(B, 5003)).is_ok());
    rig.advance(secs(301));
    assert!(rig.map(ep(A, 5003)).is_ok());
}

#[test]
fn the_router_itself_has_no_quota() {
    let mut rig = Rig::new(Policy { mappings_per_host_max: 1, ..policy() });
    for port in 5000..5010 {
        let seen = rig.send(LinkId::LOCAL, udp(ep(A, port), ep(R, 53)));
        assert_eq!(seen, Ok((ep(E, port), ep(R, 53))));
    }
}

#[test]
fn rfc6888_req8_a_freed_port_rests_two_minutes_for_all_but_its_last_holder() {
    let mut rig = Rig::new(policy());
    rig.map(ep(A, 5000)).unwrap();
    rig.advance(secs(301));
    assert!(rig.sessions().is_empty());
    assert_ne!(rig.map(ep(B, 5000)).unwrap().port, 5000);
    assert_eq!(rig.udp_in(ep(R, 9), ep(E, 5000)), Err(DropReason::NoMapping));
    assert_eq!(rig.map(ep(A, 5000)), Ok(ep(E, 5000)));
    rig.advance(secs(301 + 118));
    assert_ne!(rig.map(ep(C, 5000)).unwrap().port, 5000);
    rig.advance(secs(4));
    assert_eq!(rig.map(ep(Ipv4Addr::new(10, 0, 0, 9), 5000)), Ok(ep(E, 5000)));
}

#[test]
fn a_mapping_lives_as_long_as_any_of_its_sessions() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    rig.advance(secs(200));
    rig.udp_out(ep(A, 5000), ep(R2, 1)).unwrap();
    rig.advance(secs(200));
    assert_eq!(rig.sessions().len(), 1);
    assert!(rig.udp_in(ep(R, 7), ep(E, 5000)).is_ok());
    rig.advance(secs(301));
    assert_eq!(rig.udp_in(ep(R, 8), ep(E, 5000)), Err(DropReason::NoMapping));
}

#[test]
fn an_explicit_mapping_is_the_outbound_mapping_too() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Udp, 3074, ep(A, 4000))]));
    assert_eq!(rig.udp_out(ep(A, 4000), ep(R, 1)), Ok((ep(E, 3074), ep(R, 1))));
    assert_eq!(rig.udp_in(ep(R2, 7), ep(E, 3074)), Ok((ep(R2, 7), ep(A, 4000))));
    assert_eq!(rig.tables.stats().mappings, 0);
}

#[test]
fn a_full_session_table_refuses_the_new_and_keeps_the_old() {
    let mut rig = Rig::sized(64, 1, policy());
    for port in 0..64 {
        rig.udp_out(ep(A, 5000), ep(R, 1000 + port)).unwrap();
    }
    let refused = rig.udp_out(ep(A, 5000), ep(R, 2000));
    assert_eq!(refused, Err(DropReason::SessionTableFull));
    assert!(rig.udp_out(ep(A, 5000), ep(R, 1000)).is_ok());
    assert_eq!(rig.sessions().len(), 64);
}

#[test]
fn a_full_mapping_table_gives_up_what_rests_but_nothing_that_lives() {
    let mut rig = Rig::sized(64, 1, policy());
    for port in 0..64 {
        rig.map(ep(A, 5000 + port)).unwrap();
    }
    rig.advance(secs(250));
    for port in 0..32 {
        rig.map(ep(A, 5000 + port)).unwrap();
    }
    rig.advance(secs(60));
    assert_eq!((rig.sessions().len(), rig.tables.stats().mappings), (32, 64));
    assert_eq!(rig.map(ep(B, 9000)), Err(DropReason::MappingTableFull));
    assert_eq!(rig.map(ep(B, 9000)), Ok(ep(E, 9000)));
    assert_eq!(rig.map(ep(A, 5000)), Ok(ep(E, 5000)));
    assert_eq!(rig.tables.stats().mappings, 33);
}

#[test]
fn an_odd_numbered_and_an_even_numbered_port_of_one_host_stay_neighbours_in_parity() {
    let mut rig = Rig::new(policy());
    rig.map(ep(A, 6000)).unwrap();
    rig.map(ep(A, 6001)).unwrap();
    let (rtp, rtcp) = (rig.map(ep(B, 6000)).unwrap(), rig.map(ep(B, 6001)).unwrap());
    assert_eq!((rtp.port % 2, rtcp.port % 2), (0, 1));
}
