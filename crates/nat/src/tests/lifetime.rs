//! Virtual time at the floors.

use super::*;

/// Whether a session with one outbound packet is alive after `alive` and gone after `gone`.
fn lives(packet: impl Fn() -> PacketBuf, alive: u64, gone: u64) {
    let mut rig = Rig::new(policy());
    rig.send(LAN, packet()).unwrap();
    rig.advance(secs(alive));
    assert_eq!(rig.sessions().len(), 1, "alive after {alive} s");
    rig.advance(secs(gone - alive));
    assert_eq!(rig.sessions().len(), 0, "gone after {gone} s");
}

#[test]
fn req5_udp_mapping_lives_five_minutes_by_default() {
    lives(|| udp(ep(A, 5000), ep(R, 9)), 300, 302);
}

#[test]
fn req5_udp_mapping_lives_at_least_two_minutes_at_the_floor() {
    let timeouts = Timeouts::FLOORS;
    let mut rig = Rig::new(Policy { timeouts, ..with_filtering(Filtering::EndpointIndependent) });
    rig.map(ep(A, 5000)).unwrap();
    rig.advance(secs(119));
    assert!(rig.udp_in(ep(R2, 1), ep(E, 5000)).is_ok());
}

#[test]
fn req5a_a_dns_question_lives_half_a_minute() {
    lives(|| udp(ep(A, 5000), ep(R, 53)), 30, 32);
}

#[test]
fn rfc5508_req2_an_icmp_query_lives_a_minute() {
    lives(|| echo(A, R, 77), 60, 62);
}

#[test]
fn rfc5382_req5_a_syn_without_answer_lives_four_minutes() {
    lives(|| tcp(ep(A, 5000), ep(R, 80), SYN), 240, 242);
}

#[test]
fn rfc5382_req5_an_established_connection_lives_two_hours_and_four_minutes() {
    let mut rig = Rig::new(policy());
    rig.tcp_out(ep(A, 5000), ep(R, 80), SYN).unwrap();
    rig.tcp_in(ep(R, 80), ep(E, 5000), SYN_ACK).unwrap();
    rig.tcp_out(ep(A, 5000), ep(R, 80), ACK).unwrap();
    rig.advance(secs(7440));
    assert_eq!(rig.states(), ["established"]);
    rig.advance(secs(2));
    assert!(rig.sessions().is_empty());
}

#[test]
fn req7857_2_1_opening_and_closing_have_times_of_their_own() {
    let timeouts =
        Timeouts { tcp_opening: secs(300), tcp_closing: secs(240), ..Timeouts::default() };
    let mut rig = Rig::new(Policy { timeouts, ..policy() });
    rig.tcp_out(ep(A, 5000), ep(R, 80), SYN).unwrap();
    rig.tcp_out(ep(A, 5001), ep(R, 80), SYN).unwrap();
    rig.tcp_in(ep(R, 80), ep(E, 5001), SYN_ACK).unwrap();
    rig.tcp_out(ep(A, 5001), ep(R, 80), FIN_ACK).unwrap();
    rig.tcp_in(ep(R, 80), ep(E, 5001), FIN_ACK).unwrap();
    rig.advance(secs(240));
    assert_eq!(rig.sessions().len(), 2);
    rig.advance(secs(2));
    assert_eq!(rig.states(), ["opening"]);
    rig.advance(secs(58));
    assert_eq!(rig.sessions().len(), 1);
    rig.advance(secs(2));
    assert!(rig.sessions().is_empty());
}

#[test]
fn req6_outbound_packets_refresh() {
    let mut rig = Rig::new(policy());
    for _ in 0..3 {
        rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
        rig.advance(secs(299));
    }
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn req6a_inbound_packets_do_not_refresh() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    for _ in 0..3 {
        rig.advance(secs(99));
        rig.udp_in(ep(R, 9), ep(E, 5000)).unwrap();
    }
    rig.advance(secs(5));
    assert!(rig.sessions().is_empty());
}

#[test]
fn an_inbound_session_is_refreshed_by_its_internal_endpoint_only() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Udp, 8080, ep(B, 80))]));
    rig.udp_in(ep(R, 9), ep(E, 8080)).unwrap();
    rig.advance(secs(200));
    rig.udp_out(ep(B, 80), ep(R, 9)).unwrap();
    rig.advance(secs(299));
    rig.udp_in(ep(R, 9), ep(E, 8080)).unwrap();
    assert_eq!(rig.sessions().len(), 1);
    rig.advance(secs(3));
    assert!(rig.sessions().is_empty());
}

#[test]
fn idle_and_expires_are_what_they_say() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    rig.advance(secs(100));
    let session = rig.sessions()[0];
    let close = |a: Duration, b: u64| a.abs_diff(secs(b)) < Duration::from_millis(300);
    assert!(close(session.idle, 100), "{:?}", session.idle);
    assert!(close(session.expires, 200), "{:?}", session.expires);
}

#[test]
fn expiry_is_bounded_by_its_budget() {
    let mut rig = Rig::new(policy());
    for port in 0..100 {
        rig.udp_out(ep(A, 5000), ep(R, 1000 + port)).unwrap();
    }
    rig.now += secs(400);
    let pass = rig.participant.pass();
    rig.engines[0].expire(&pass, rig.now, &rig.policy.timeouts, 10);
    assert_eq!(rig.tables.stats().sessions, 90);
}

#[test]
fn a_killed_session_is_gone_at_once_and_its_quota_free() {
    let mut rig = Rig::new(Policy { mappings_per_host_max: 1, ..policy() });
    rig.map(ep(A, 5000)).unwrap();
    let id = rig.sessions()[0].id;
    let pass = rig.participant.pass();
    assert!(rig.engines[0].kill(&pass, id, rig.now));
    assert!(!rig.engines[0].kill(&pass, id, rig.now));
    drop(pass);
    assert!(rig.sessions().is_empty());
    assert_eq!(rig.map(ep(A, 5001)), Ok(ep(E, 5001)));
}

#[test]
fn a_kill_that_comes_too_late_does_not_hit_the_next_session_in_the_place() {
    let mut rig = Rig::sized(1, 1, policy());
    rig.map(ep(A, 5000)).unwrap();
    let gone = rig.sessions()[0].id;
    rig.advance(secs(302));
    rig.udp_out(ep(A, 5000), ep(R2, 9)).unwrap();
    let pass = rig.participant.pass();
    assert!(!rig.engines[0].kill(&pass, gone, rig.now));
    drop(pass);
    let next = rig.sessions()[0];
    assert_eq!(next.remote, ep(R2, 9), "it took the only place there is");
    let pass = rig.participant.pass();
    assert!(rig.engines[0].kill(&pass, next.id, rig.now));
}

#[test]
fn everything_is_given_back_in_the_end() {
    let mut rig = Rig::new(Policy {
        forwards: Forwards::new(vec![forward(Protocol::Udp, 8080, ep(B, 80))]).unwrap(),
        ..with_filtering(Filtering::AddressDependent)
    });
    for port in 0..50 {
        let _ = rig.udp_out(ep(A, 5000 + port % 7), ep(R, 1000 + port));
        let _ = rig.udp_in(ep(R, 50 + port), ep(E, 5000 + port % 7));
        let _ = rig.udp_out(ep(C, 5000 + port), ep(E, 5000 + port % 7));
        let _ = rig.udp_out(ep(B, 80), ep(E, 5000 + port % 7));
        let _ = rig.udp_out(ep(A, 5000 + port), ep(E, 8080));
    }
    assert!(rig.sessions().len() > 100);
    rig.advance(secs(310 + 130));
    let stats = rig.tables.stats();
    assert_eq!((stats.sessions, stats.mappings, stats.contacts), (0, 0, 0));
    assert_eq!(rig.tables.hosts.total(), 0);
    assert_eq!(rig.tables.resting.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn a_flood_of_first_packets_to_a_forward_leaves_room_for_hosts_inside() {
    let forwards = Forwards::new(vec![forward(Protocol::Udp, 80, ep(B, 80))]).unwrap();
    let mut rig = Rig::sized(400, 1, Policy { forwards, ..policy() });
    let flood = |rig: &mut Rig, ports: std::ops::Range<u16>| {
        ports.filter(|port| rig.udp_in(ep(R, *port), ep(E, 80)).is_ok()).count()
    };
    assert_eq!(flood(&mut rig, 1000..1400), 100);
    assert_eq!(rig.udp_in(ep(R, 2000), ep(E, 80)), Err(DropReason::SessionTableFull));
    assert!(rig.udp_out(ep(A, 5000), ep(R, 80)).is_ok());
    for port in 1000..1030 {
        rig.udp_out(ep(B, 80), ep(R, port)).unwrap();
    }
    rig.expire();
    assert_eq!(flood(&mut rig, 2000..2400), 30, "as many as were answered");
    rig.advance(secs(302));
    assert_eq!(rig.sessions().len(), 0);
    assert_eq!(flood(&mut rig, 3000..3400), 100);
}

/// Opens sessions, 16 hosts to so many remote endpoints.
fn crowd(rig: &mut Rig, sessions: u32) {
    for n in 0..sessions {
        let host = Ipv4Addr::from_bits(0x0a00_0100 + n % 16);
        rig.udp_out(ep(host, 5000), ep(Ipv4Addr::from_bits(0xc633_0000 + n), 9)).unwrap();
    }
}

#[test]
fn upkeep_of_ten_million_places_keeps_to_its_budget_and_comes_round_in_ten_seconds() {
    const BUDGET: usize = 64;
    let mut rig = Rig::sized(10_000_000, 1, policy());
    crowd(&mut rig, 100_000);
    rig.now += secs(299);
    rig.expire();
    assert_eq!(rig.tables.stats().sessions, 100_000);
    rig.now += secs(3);
    let mut millis = 0;
    while rig.tables.stats().sessions > 0 {
        let before = rig.tables.stats().sessions;
        rig.now += Duration::from_millis(1);
        millis += 1;
        let pass = rig.participant.pass();
        rig.engines[0].expire(&pass, rig.now, &rig.policy.timeouts, BUDGET);
        drop(pass);
        assert!(before - rig.tables.stats().sessions <= BUDGET);
    }
    assert!(millis <= 10_000, "{millis} ms");
}

#[test]
fn upkeep_that_came_late_is_made_up_for() {
    let mut rig = Rig::sized(1_000_000, 1, policy());
    crowd(&mut rig, 20_000);
    rig.now += secs(302);
    // Nothing else to do: the worker goes on as long as more is due.
    let pass = rig.participant.pass();
    let (now, timeouts) = (rig.now, rig.policy.timeouts);
    let mut calls = 1;
    while rig.engines[0].expire(&pass, now, &timeouts, 64) {
        calls += 1;
    }
    drop(pass);
    assert_eq!(rig.tables.stats().sessions, 0);
    assert!(calls <= 20_000 / 64 + 20, "{calls}");
    let pass = rig.participant.pass();
    assert!(!rig.engines[0].expire(&pass, now, &timeouts, 64), "and then rests");
}

#[test]
fn req7857_7_inbound_packets_that_are_refused_do_not_refresh() {
    let mut rig = Rig::new(policy());
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    for _ in 0..3 {
        rig.advance(secs(99));
        assert_eq!(rig.udp_in(ep(R2, 9), ep(E, 5000)), Err(DropReason::FilterDenied));
    }
    rig.advance(secs(5));
    assert!(rig.sessions().is_empty());
    assert_eq!(rig.udp_in(ep(R2, 9), ep(E, 5000)), Err(DropReason::NoMapping));
}

#[test]
fn req7857_7_1_req5508_6_icmp_errors_of_either_side_refresh_nothing() {
    use super::errors::{error, unreachable};
    for query in [false, true] {
        let first = if query { echo(A, R, 77) } else { udp(ep(A, 5000), ep(R, 9)) };
        let mut rig = Rig::new(policy());
        let mut outside = buffer(first.frame());
        rig.pass(LAN, &mut outside).unwrap();
        let answer = if query { echo_reply(R, E, 77) } else { udp(ep(R, 9), ep(E, 5000)) };
        let mut inside = buffer(answer.frame());
        rig.pass(LinkId::WAN, &mut inside).unwrap();
        let life = if query { 60 } else { 300 };
        for _ in 0..3 {
            rig.advance(secs(life / 3));
            let refused = error(A, R, unreachable(), &inside.frame()[14..]);
            rig.pass(LAN, &mut buffer(refused.frame())).unwrap();
            let lost = error(R, E, unreachable(), &outside.frame()[14..]);
            rig.pass(LinkId::WAN, &mut buffer(lost.frame())).unwrap();
        }
        assert_eq!(rig.sessions().len(), 1, "nor do they end it (RFC 4787 REQ-12)");
        rig.advance(secs(2));
        assert!(rig.sessions().is_empty());
    }
}

#[test]
fn req5382_5_a_connection_that_opens_or_closes_lives_four_minutes_both_ways() {
    let opens = |rig: &mut Rig| rig.tcp_out(ep(A, 5000), ep(R, 80), SYN).map(drop);
    let closes = |rig: &mut Rig| {
        rig.tcp_out(ep(A, 5000), ep(R, 80), SYN)?;
        rig.tcp_in(ep(R, 80), ep(E, 5000), SYN_ACK)?;
        rig.tcp_out(ep(A, 5000), ep(R, 80), FIN_ACK)?;
        rig.tcp_in(ep(R, 80), ep(E, 5000), FIN_ACK).map(drop)
    };
    for way in [opens, closes] {
        let mut rig = Rig::new(policy());
        way(&mut rig).unwrap();
        rig.advance(secs(240));
        assert_eq!(rig.sessions().len(), 1);
        rig.advance(secs(2));
        assert!(rig.sessions().is_empty());
    }
}
