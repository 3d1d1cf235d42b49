//! What one host may take, and what happens when everything is taken (RFC 6888 REQ-4, 5, 11).

use super::*;

fn limited(sessions: u32) -> Policy {
    Policy { sessions_per_host_max: Some(sessions), ..policy() }
}

#[test]
fn req6888_5_a_host_cannot_exceed_its_sessions_and_others_do_not_feel_it() {
    let mut rig = Rig::new(limited(5));
    for port in 1..=5 {
        rig.udp_out(ep(A, 5000), ep(R, port)).unwrap();
    }
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R, 6)), Err(DropReason::HostSessions));
    assert_eq!(rig.udp_out(ep(A, 5001), ep(R, 1)), Err(DropReason::HostSessions));
    assert_eq!(rig.tables.stats().mappings, 1, "a flow that is refused leaves no mapping");
    assert!(rig.udp_out(ep(A, 5000), ep(R, 5)).is_ok(), "what it has goes on");
    assert!(rig.udp_out(ep(B, 5000), ep(R, 6)).is_ok());
    rig.advance(secs(301));
    assert!(rig.udp_out(ep(A, 5000), ep(R, 6)).is_ok());
}

#[test]
fn every_way_to_end_a_session_gives_its_place_back() {
    let mut rig = Rig::new(limited(2));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    rig.udp_out(ep(A, 5000), ep(R, 2)).unwrap();
    let id = rig.sessions()[0].id;
    assert!(rig.engines[0].kill(&rig.participant.pass(), id, rig.now));
    rig.udp_out(ep(A, 5000), ep(R, 3)).unwrap();
    rig.adopt(Policy { external: Some(E_NEW), ..limited(2) });
    rig.udp_out(ep(A, 5000), ep(R, 3)).unwrap();
    assert_eq!(rig.tables.sessions_of.count(A), 2);
    rig.advance(secs(301));
    assert_eq!(rig.tables.sessions_of.total(), 0);
}

#[test]
fn a_mapping_that_an_answered_session_from_outside_wakes_counts_again() {
    for max in [1, 10] {
        let open = with_filtering(Filtering::EndpointIndependent);
        let mut rig = Rig::new(Policy { mappings_per_host_max: max, ..open });
        let external = rig.map(ep(A, 5000)).unwrap();
        rig.advance(secs(299));
        rig.udp_in(ep(R2, 7), external).unwrap();
        rig.udp_out(ep(A, 5000), ep(R2, 7)).unwrap();
        // The session that made the mapping ends in the same look that finds the other one answered.
        rig.now += secs(5);
        rig.expire();
        assert_eq!(rig.sessions().len(), 1);
        assert_eq!((rig.tables.hosts.count(A), rig.tables.mappings_counted()), (1, 1));
        if max == 1 {
            assert_eq!(rig.map(ep(A, 5001)), Err(DropReason::HostQuota));
        }
        rig.advance(secs(302));
        assert_eq!(rig.tables.hosts.total(), 0);
    }
}

#[test]
fn a_session_that_could_not_be_opened_counts_for_nobody() {
    let mut rig = Rig::new(Policy { mappings_per_host_max: 1, ..policy() });
    rig.map(ep(A, 5000)).unwrap();
    assert_eq!(rig.map(ep(A, 5001)), Err(DropReason::HostQuota));
    assert_eq!(rig.tables.sessions_of.count(A), 1);
    rig.map(ep(B, 6000)).unwrap();
    assert_eq!(rig.udp_out(ep(A, 5000), ep(E, 6000)), Err(DropReason::FilterDenied));
    assert_eq!(rig.tables.sessions_of.count(A), 2, "a sender's half is a session");
    assert_eq!(rig.tables.sessions_of.total() as usize, rig.sessions().len());
}

#[test]
fn by_default_no_host_takes_more_than_half_of_the_table() {
    let mut rig = Rig::sized(400, 1, Policy { sessions_per_host_max: None, ..policy() });
    let opened = (1..400).filter(|port| rig.udp_out(ep(A, 5000), ep(R, *port)).is_ok()).count();
    assert_eq!(opened, 200);
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R, 999)), Err(DropReason::HostSessions));
    assert!((1..200).all(|port| rig.udp_out(ep(B, 5000), ep(R, port)).is_ok()));
}

#[test]
fn strangers_leave_a_host_a_quarter_of_its_quota() {
    let forwards = Forwards::new(vec![forward(Protocol::Tcp, 8080, ep(B, 80))]).unwrap();
    let mut rig = Rig::new(Policy { forwards, ..limited(100) });
    let accepted = (1..200).filter(|port| rig.accept(ep(R, *port), ep(E, 8080)).is_ok()).count();
    assert_eq!(accepted, 75);
    assert_eq!(rig.accept(ep(R2, 1), ep(E, 8080)), Err(DropReason::HostSessions));
    let own = (1..200).filter(|port| rig.udp_out(ep(B, 5000), ep(R, *port)).is_ok()).count();
    assert_eq!(own, 25);
}

#[test]
fn req6888_4c_new_flows_have_a_rate_and_old_ones_do_not() {
    let new_sessions = Rate { per_second: 10, burst: 20 };
    let mut rig = Rig::new(Policy { new_sessions, ..policy() });
    let open = |rig: &mut Rig, ports: std::ops::Range<u16>| {
        ports.filter(|port| rig.udp_out(ep(A, 5000), ep(R, *port)).is_ok()).count()
    };
    assert_eq!(open(&mut rig, 1..100), 20);
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R, 100)), Err(DropReason::HostRate));
    assert_eq!(open(&mut rig, 1..21), 20, "flows that are open");
    assert!(rig.udp_out(ep(B, 5000), ep(R, 1)).is_ok(), "another host");
    rig.advance(secs(1));
    assert_eq!(open(&mut rig, 100..200), 10);
}

#[test]
fn what_comes_from_outside_does_not_use_up_a_hosts_rate() {
    let forwards = Forwards::new(vec![forward(Protocol::Tcp, 8080, ep(B, 80))]).unwrap();
    let new_sessions = Rate { per_second: 1, burst: 1 };
    let mut rig = Rig::new(Policy { forwards, new_sessions, ..policy() });
    assert!((1..50).all(|port| rig.accept(ep(R, port), ep(E, 8080)).is_ok()));
    assert!(rig.udp_out(ep(B, 5000), ep(R, 1)).is_ok());
    assert_eq!(rig.udp_out(ep(B, 5000), ep(R, 2)), Err(DropReason::HostRate));
}

#[test]
fn asking_whether_a_host_may_open_one_more_takes_nothing() {
    let new_sessions = Rate { per_second: 1, burst: 1 };
    let mut rig = Rig::new(Policy { new_sessions, ..limited(2) });
    let ask = |rig: &Rig| rig.tables.check_host(A, &rig.policy, rig.now);
    assert!((0..10).all(|_| ask(&rig).is_ok()));
    rig.udp_out(ep(A, 5000), ep(R, 1)).unwrap();
    assert_eq!(ask(&rig), Err(DropReason::HostRate));
    rig.advance(secs(2));
    rig.udp_out(ep(A, 5000), ep(R, 2)).unwrap();
    rig.advance(secs(2));
    assert_eq!(ask(&rig), Err(DropReason::HostSessions));
}

#[test]
fn req6888_11d_more_hosts_than_can_be_counted_are_refused_and_those_that_are_go_on() {
    const HOSTS: u32 = 20_000;
    let mut rig = Rig::sized(HOSTS as usize, 1, policy());
    let host = |n: u32| ep(Ipv4Addr::from_bits(0x0a00_0000 | n), 1024 + n as u16);
    let outcomes: Vec<_> = (0..HOSTS).map(|n| rig.udp_out(host(n), ep(R, 1)).err()).collect();
    let refused = outcomes.iter().flatten().count();
    assert!(refused > 0 && refused < HOSTS as usize / 2, "{refused}");
    for (n, outcome) in (0..HOSTS).zip(&outcomes) {
        match outcome {
            None => assert!(rig.udp_out(host(n), ep(R, 1)).is_ok()),
            Some(reason) => {
                let full = [DropReason::HostSessions, DropReason::HostQuota, DropReason::HostRate];
                assert!(full.contains(reason), "{reason:?}");
            }
        }
    }
    assert_eq!(rig.sessions().len(), HOSTS as usize - refused);
}

#[test]
fn req6888_11d_a_full_table_refuses_connections_from_outside_too_and_keeps_the_old() {
    let forwards = Forwards::new(vec![forward(Protocol::Tcp, 8080, ep(B, 80))]).unwrap();
    let mut rig = Rig::sized(64, 1, Policy { forwards, ..policy() });
    for port in 0..64 {
        rig.udp_out(ep(A, 5000), ep(R, 1000 + port)).unwrap();
    }
    assert_eq!(rig.accept(ep(R, 1), ep(E, 8080)), Err(DropReason::SessionTableFull));
    assert!((0..64).all(|port| rig.udp_out(ep(A, 5000), ep(R, 1000 + port)).is_ok()));
    assert_eq!(rig.tables.sessions_of.total(), 64);
}
