//! Several workers on one pair of tables.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

#[test]
fn a_mapping_of_one_worker_serves_sessions_of_another() {
    let mut rig = Rig::sized(4096, 2, policy());
    rig.pass_at(0, LAN, &mut udp(ep(A, 5000), ep(R, 1))).unwrap();
    let mut other = udp(ep(A, 5000), ep(R2, 1));
    rig.pass_at(1, LAN, &mut other).unwrap();
    assert_eq!(datagram(&other).source, ep(E, 5000));
    rig.pass_at(1, LinkId::WAN, &mut udp(ep(R, 1), ep(E, 5000))).unwrap();
    rig.advance(secs(310 + 130));
    let stats = rig.tables.stats();
    assert_eq!((stats.sessions, stats.mappings, rig.tables.hosts.total()), (0, 0, 0));
}

#[test]
fn a_quota_counts_the_mappings_of_all_workers() {
    let mut rig = Rig::sized(4096, 2, Policy { mappings_per_host_max: 3, ..policy() });
    let outcomes: Vec<_> = (0..4)
        .map(|n| rig.pass_at(n % 2, LAN, &mut udp(ep(A, 5000 + n as u16), ep(R, 1))).err())
        .collect();
    assert_eq!(outcomes, [None, None, None, Some(DropReason::HostQuota)]);
}

#[test]
fn a_void_session_of_another_worker_is_condemned_and_removed_by_its_owner() {
    let mut rig = Rig::sized(4096, 2, policy());
    rig.pass_at(0, LAN, &mut udp(ep(A, 5000), ep(R, 1))).unwrap();
    rig.policy.external = Some(E_NEW);
    rig.policy.generation += 1;
    let conflict = rig.pass_at(1, LAN, &mut udp(ep(A, 5000), ep(R, 1)));
    assert_eq!(conflict, Err(DropReason::SessionConflict));
    rig.expire();
    let mut packet = udp(ep(A, 5000), ep(R, 1));
    rig.pass_at(1, LAN, &mut packet).unwrap();
    assert_eq!(datagram(&packet).source, ep(E_NEW, 5000));
}

#[test]
fn a_worker_cannot_kill_the_session_of_another() {
    let mut rig = Rig::sized(4096, 2, policy());
    rig.pass_at(0, LAN, &mut udp(ep(A, 5000), ep(R, 1))).unwrap();
    let id = rig.sessions()[0].id;
    let pass = rig.participant.pass();
    assert!(!rig.engines[1].kill(&pass, id, rig.now));
    assert!(rig.engines[0].kill(&pass, id, rig.now));
}

/// Lets four workers open a session each for the same internal endpoints at the same time, and
/// checks that one internal endpoint has one external one and the reverse.
fn race(policy: &Policy, endpoints: u32, internal: impl Fn(u32) -> Endpoint + Sync) {
    let (tables, engines) = Tables::new(32_768, 4, 7);
    std::thread::scope(|scope| {
        for (worker, mut engine) in engines.into_iter().enumerate() {
            let (tables, internal) = (&tables, &internal);
            scope.spawn(move || {
                let mut participant = tables.domain().participant().unwrap();
                for n in 0..endpoints {
                    let packet = udp(internal(n), ep(R, 1 + worker as u16));
                    let datagram = datagram(&packet);
                    let pass = participant.pass();
                    let request =
                        request(&engine, &pass, (&datagram, None), LAN, policy, Instant::ZERO)
                            .unwrap()
                            .unwrap();
                    engine.open(&pass, &request, policy, Instant::ZERO).unwrap();
                }
            });
        }
    });
    let mut participant = tables.domain().participant().unwrap();
    let pass = participant.pass();
    let (mut by_internal, mut by_external) = (BTreeMap::new(), BTreeMap::new());
    tables.for_each_session(&pass, Instant::ZERO, &policy.timeouts, |session| {
        let (internal, external) = (session.internal.0, session.external.0);
        assert_eq!(*by_internal.entry(internal).or_insert(external), external);
        assert_eq!(*by_external.entry(external).or_insert(internal), internal);
    });
    assert_eq!(by_internal.len(), endpoints as usize);
    assert_eq!(tables.stats().sessions, 4 * endpoints as usize);
    assert_eq!(tables.hosts.total(), u64::from(endpoints));
}

#[test]
fn req1_req3_hold_while_workers_race_for_the_same_endpoints() {
    let crowd = |n| ep(Ipv4Addr::from_bits(0x0a00_0000 + n / 8), 5000 + (n % 8) as u16);
    race(&policy(), rounds(2000), crowd);
    let pool = Pool::new([E_NEW], Pooling::Paired);
    race(&Policy { pool, ..policy() }, rounds(2000), crowd);
}

#[test]
fn req1_holds_while_workers_race_for_the_last_ports_of_addresses_that_are_shared_at_will() {
    let pool = Pool::new([E_NEW], Pooling::Any);
    let policy = Policy { pool, ..policy() };
    // An address has 512 odd ports below 1024; all of these hosts belong to the same one.
    let hosts = (0x0a00_0000..).map(Ipv4Addr::from_bits);
    let hosts: Vec<_> = hosts.filter(|host| policy.pool.paired(E, *host) == E).take(700).collect();
    race(&policy, 700, |n| ep(hosts[n as usize], 501));
}

#[test]
fn counts_come_out_even_when_workers_race() {
    let rounds = u64::from(rounds(3000));
    let words = PortJournal::in_memory(2);
    let journal = PortJournal::resume(words.clone(), Instant::ZERO, Duration::ZERO);
    let (tables, engines) = Tables::with_journal(4096, 3, journal, 7);
    let policy = Policy {
        forwards: Forwards::new(vec![forward(Protocol::Udp, 8080, ep(B, 80))]).unwrap(),
        timeouts: Timeouts { udp: secs(3), udp_dns: secs(3), ..Timeouts::default() },
        ..with_filtering(Filtering::AddressDependent)
    };
    let mut engines: Vec<Engine> = std::thread::scope(|scope| {
        let workers = engines.into_iter().enumerate().map(|(worker, mut engine)| {
            let (tables, policy) = (&tables, &policy);
            scope.spawn(move || {
                let mut participant = tables.domain().participant().unwrap();
                let mut rng = StdRng::seed_from_u64(worker as u64);
                for round in 0..rounds {
                    let now = Instant::from_millis(round * 20);
                    let pass = participant.pass();
                    step(&mut engine, &pass, &mut rng, policy, now);
                    engine.expire(&pass, now, &policy.timeouts, 64);
                }
                engine
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut participant = tables.domain().participant().unwrap();
    for extra in 1..=3 {
        for engine in &mut engines {
            let pass = participant.pass();
            let now = Instant::from_millis(rounds * 20) + secs(200 * extra);
            engine.expire(&pass, now, &policy.timeouts, usize::MAX);
        }
    }
    let stats = tables.stats();
    assert_eq!((stats.sessions, stats.mappings, stats.contacts), (0, 0, 0));
    assert_eq!((tables.hosts.total(), tables.sessions_of.total()), (0, 0));
    assert_eq!(tables.resting.load(Ordering::Relaxed), 0);
    let ports = (*words).as_ref().iter().skip(512);
    let taken = ports.filter(|word| word.load(Ordering::Relaxed) != 0).count();
    assert_eq!(taken, 0, "in the journal");
}

/// A packet between a few endpoints in any direction.
fn step(
    engine: &mut Engine,
    pass: &flow_table::Pass<'_>,
    rng: &mut StdRng,
    policy: &Policy,
    now: Instant,
) {
    let internal = ep([A, B, C][rng.random_range(0..3)], 5000 + rng.random_range(0..4));
    let remote = ep([R, R2][rng.random_range(0..2)], 1 + rng.random_range(0..3));
    let external = ep(E, [8080, 5000, 5001, 5002, 5003][rng.random_range(0..5)]);
    let (ingress, packet) = match rng.random_range(0..3) {
        0 => (LAN, udp(internal, remote)),
        1 => (LinkId::WAN, udp(remote, external)),
        _ => (LAN, udp(internal, external)),
    };
    let datagram = datagram(&packet);
    let side = if ingress == LAN { Side::Inside } else { Side::Outside };
    let key = SessionKey(datagram.key(side));
    if engine.tables().sessions().lookup(pass, &key).is_none() {
        let packet = (&datagram, None);
        let Ok(Ok(request)) = request(engine, pass, packet, ingress, policy, now) else { return };
        let _ = engine.open(pass, &request, policy, now);
    }
    let tables = engine.tables().clone();
    if let Some(hit) = tables.sessions().lookup(pass, &key) {
        hit.value().touch(now, 60, 1);
        if rng.random_range(0..8) == 0 {
            let _ = engine.end(pass, hit.id(), now);
        }
    }
}
