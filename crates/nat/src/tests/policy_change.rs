//! What a new policy does to what is there.

use super::*;

impl Rig {
    pub(super) fn adopt(&mut self, policy: Policy) {
        self.policy = Policy { generation: self.policy.generation + 1, ..policy };
    }
}

#[test]
fn a_policy_that_changes_nothing_keeps_sessions_and_counters() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    rig.adopt(policy());
    assert!(rig.udp_in(ep(R, 9), ep(E, 5000)).is_ok());
    assert!(rig.udp_out(ep(A, 5000), ep(R, 9)).is_ok());
    assert_eq!(rig.sessions()[0].packets, [2, 1]);
}

#[test]
fn a_flow_that_never_goes_idle_moves_to_the_new_address() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    rig.adopt(Policy { external: Some(E_NEW), ..policy() });
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R, 9)), Ok((ep(E_NEW, 5000), ep(R, 9))));
    assert_eq!(rig.udp_in(ep(R, 9), ep(E_NEW, 5000)), Ok((ep(R, 9), ep(A, 5000))));
    assert_eq!(rig.sessions().len(), 1);
    assert_eq!(rig.udp_in(ep(R, 9), ep(E, 5000)), Err(DropReason::NoRoute));
}

#[test]
fn late_packets_to_the_old_address_end_the_session() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    rig.adopt(Policy { external: Some(E_NEW), ..policy() });
    assert_eq!(rig.udp_in(ep(R, 9), ep(E, 5000)), Err(DropReason::NoRoute));
    assert!(rig.sessions().is_empty());
}

#[test]
fn an_address_that_comes_back_finds_its_mappings() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    rig.adopt(Policy { external: Some(E_NEW), ..policy() });
    rig.udp_out(ep(A, 5000), ep(R2, 9)).unwrap();
    rig.adopt(policy());
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R, 9)), Ok((ep(E, 5000), ep(R, 9))));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R2, 9)), Ok((ep(E, 5000), ep(R2, 9))));
    rig.advance(secs(310 + 130));
    assert_eq!((rig.tables.stats().mappings, rig.tables.hosts.total()), (0, 0));
}

#[test]
fn without_an_address_sessions_end_and_nothing_new_opens() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    rig.adopt(Policy { external: None, ..policy() });
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R, 9)), Err(DropReason::WanDown));
    assert!(rig.sessions().is_empty());
}

#[test]
fn lan_to_lan_does_not_care_for_the_address() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(C, 53)).unwrap();
    rig.adopt(Policy { external: None, ..policy() });
    assert!(rig.send(LAN2, udp(ep(C, 53), ep(A, 5000))).is_ok());
    assert_eq!(rig.sessions()[0].packets, [1, 1]);
}

#[test]
fn removing_a_forward_ends_what_came_through_it() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Tcp, 8080, ep(B, 80))]));
    rig.accept(ep(R, 4000), ep(E, 8080)).unwrap();
    rig.adopt(policy());
    assert_eq!(rig.tcp_in(ep(R, 4000), ep(E, 8080), ACK), Err(DropReason::NoMapping));
    assert!(rig.sessions().is_empty());
}

#[test]
fn moving_a_forward_sends_new_connections_to_the_new_host() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Tcp, 8080, ep(B, 80))]));
    rig.accept(ep(R, 4000), ep(E, 8080)).unwrap();
    rig.adopt(with_forwards(vec![forward(Protocol::Tcp, 8080, ep(C, 80))]));
    assert_eq!(rig.tcp_in(ep(R, 4000), ep(E, 8080), ACK), Err(DropReason::TcpNoSession));
    assert_eq!(rig.tcp_in(ep(R, 4000), ep(E, 8080), SYN), Ok((ep(R, 4000), ep(C, 80))));
}

#[test]
fn a_forward_takes_its_port_from_a_mapping_that_had_it() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    rig.adopt(with_forwards(vec![forward(Protocol::Udp, 5000, ep(B, 5000))]));
    assert_eq!(rig.udp_in(ep(R2, 9), ep(E, 5000)), Ok((ep(R2, 9), ep(B, 5000))));
    assert_eq!(rig.udp_out(ep(A, 5000), ep(R, 9)), Err(DropReason::PortsExhausted));
    let moved = rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap().0;
    assert_ne!(moved.port, 5000);
    assert_eq!(rig.udp_out(ep(B, 5000), ep(R, 9)), Ok((ep(E, 5000), ep(R, 9))));
}

#[test]
fn a_mapping_that_becomes_a_forward_goes_on() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    rig.adopt(with_forwards(vec![forward(Protocol::Udp, 5000, ep(A, 5000))]));
    assert!(rig.udp_in(ep(R, 9), ep(E, 5000)).is_ok());
    assert!(rig.udp_in(ep(R2, 9), ep(E, 5000)).is_ok());
    rig.advance(secs(310 + 130));
    assert_eq!((rig.tables.stats().mappings, rig.tables.hosts.total()), (0, 0));
}

#[test]
fn two_packets_of_a_void_session_in_one_batch_both_find_the_new_one() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    rig.adopt(Policy { external: Some(E_NEW), ..policy() });
    let packet = udp(ep(A, 5000), ep(R, 9));
    let datagram = datagram(&packet);
    let pass = rig.participant.pass();
    let stale =
        rig.tables.sessions().lookup(&pass, &SessionKey(datagram.key(Side::Inside))).unwrap();
    let engine = &mut rig.engines[0];
    for _ in 0..2 {
        let verdict = engine.revalidate(&pass, &stale, &rig.policy, rig.now);
        assert_eq!(verdict, Revalidation::Gone);
        let request =
            request(engine, &pass, (&datagram, None), LAN, &rig.policy, rig.now).unwrap().unwrap();
        let hit = engine.open(&pass, &request, &rig.policy, rig.now).unwrap();
        assert_eq!(hit.value().source(), ep(E_NEW, 5000));
    }
    assert_eq!(rig.tables.stats().sessions, 1);
}
