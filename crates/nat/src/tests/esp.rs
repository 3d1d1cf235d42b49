//! Whose the ESP packets are that come in.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::esp::{HOST_ASSOCIATIONS_MAX, PEER_ASSOCIATIONS_MAX};

type Addresses = Result<(Ipv4Addr, Ipv4Addr), DropReason>;

impl Rig {
    fn esp_out(&mut self, host: Ipv4Addr, spi: u32) -> Addresses {
        self.esp_at(0, LAN, (host, R), spi)
    }

    /// From the peer: the host that gets it.
    fn esp_in(&mut self, spi: u32) -> Result<Ipv4Addr, DropReason> {
        self.esp_at(0, LinkId::WAN, (R, E), spi).map(|(_, host)| host)
    }

    fn esp_at(
        &mut self,
        worker: usize,
        ingress: LinkId,
        (source, destination): (Ipv4Addr, Ipv4Addr),
        spi: u32,
    ) -> Addresses {
        let mut packet = esp(source, destination, spi);
        let sealed = packet.frame()[34..].to_vec();
        self.pass_at(worker, ingress, &mut packet)?;
        assert_checksums(packet.frame());
        assert_eq!(packet.frame()[34..], sealed, "what is behind the IP header is not ours");
        let datagram = datagram(&packet);
        Ok((datagram.source.address, datagram.destination.address))
    }

    /// No session, mapping or contact is left when all has expired.
    fn assert_no_leak(&mut self) {
        self.advance(secs(1300));
        let stats = self.tables.stats();
        assert_eq!((stats.sessions, stats.mappings, stats.contacts), (0, 0, 0));
        assert_eq!(self.tables.sessions_of.total(), 0);
    }
}

#[test]
fn an_answer_comes_back_to_the_host_that_spoke() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.esp_out(A, 0xa1), Ok((E, R)));
    assert_eq!(rig.states(), ["unreplied"]);
    assert_eq!(rig.esp_in(0x1a), Ok(A));
    assert_eq!(rig.states(), ["replied", "replied"]);
    let sessions = rig.sessions();
    assert_eq!(
        sessions.iter().map(|s| s.direction.name()).collect::<Vec<_>>(),
        ["outbound", "inbound"]
    );
    for session in &sessions {
        assert_eq!(session.internal, Internal(ep(A, 0)));
        assert_eq!(session.external, External(ep(E, 0)));
        assert_eq!((session.remote, session.packets), (ep(R, 0), [1, 0]));
    }
    rig.assert_no_leak();
}

#[test]
fn nobody_is_given_what_nobody_asked_for() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.esp_in(0x1a), Err(DropReason::NoMapping));
    rig.esp_out(A, 0xa1).unwrap();
    let other_peer = rig.esp_at(0, LinkId::WAN, (R2, E), 0x1a);
    assert_eq!(other_peer, Err(DropReason::NoMapping));
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn two_hosts_to_one_peer_each_get_their_own() {
    let mut rig = Rig::new(policy());
    rig.esp_out(A, 0xa1).unwrap();
    assert_eq!(rig.esp_in(0x1a), Ok(A));
    rig.esp_out(B, 0xb1).unwrap();
    assert_eq!(rig.esp_in(0x1b), Ok(B));
    for _ in 0..3 {
        rig.esp_out(A, 0xa1).unwrap();
        rig.esp_out(B, 0xb1).unwrap();
        assert_eq!((rig.esp_in(0x1a), rig.esp_in(0x1b)), (Ok(A), Ok(B)));
    }
    assert_eq!(rig.esp_in(0x99), Err(DropReason::NoMapping), "neither waits");
    rig.assert_no_leak();
}

#[test]
fn who_has_waited_longest_is_answered_first() {
    let mut rig = Rig::new(policy());
    rig.esp_out(B, 0xb1).unwrap();
    rig.advance(secs(1));
    rig.esp_out(A, 0xa1).unwrap();
    rig.advance(secs(1));
    // Speaking again does not make it younger.
    rig.esp_out(B, 0xb1).unwrap();
    assert_eq!((rig.esp_in(0x1b), rig.esp_in(0x1a)), (Ok(B), Ok(A)));
}

#[test]
fn who_is_never_answered_does_not_take_what_is_meant_for_others() {
    let mut rig = Rig::new(policy());
    for (host, spi) in [(A, 0xa1), (C, 0xc1)] {
        rig.esp_out(host, spi).unwrap();
        assert_eq!(rig.esp_in(spi | 0x100), Ok(host));
    }
    rig.esp_out(B, 0xb1).unwrap();
    rig.advance(secs(61));
    rig.esp_out(A, 0xa2).unwrap();
    assert_eq!(rig.esp_in(0x1a2), Ok(A));
    assert_eq!(rig.esp_in(0x1b1), Ok(B), "late, but nobody else waits");
}

#[test]
fn both_hosts_renew_their_keys_while_the_old_ones_still_serve() {
    let mut rig = Rig::new(policy());
    for (host, out, answer) in [(A, 0xa1, 0x1a), (B, 0xb1, 0x1b)] {
        rig.esp_out(host, out).unwrap();
        assert_eq!(rig.esp_in(answer), Ok(host));
    }
    for round in 2..8 {
        for (host, out, answer) in
            [(A, 0xa0 + round, 0x10a + round), (B, 0xb0 + round, 0x20b + round)]
        {
            rig.advance(secs(60));
            rig.esp_out(host, out).unwrap();
            assert_eq!(rig.esp_in(answer), Ok(host), "round {round}");
            let old = if host == A { 0x10a } else { 0x20b } + round - 1;
            assert_eq!(
                rig.esp_in(if round == 2 { 0x1a + u32::from(host == B) } else { old }),
                Ok(host)
            );
        }
    }
    rig.assert_no_leak();
}

#[test]
fn the_only_host_gets_new_keys_that_the_peer_uses_first() {
    let mut rig = Rig::new(policy());
    rig.esp_out(A, 0xa1).unwrap();
    assert_eq!(rig.esp_in(0x1a), Ok(A));
    assert_eq!((rig.esp_in(0x2a), rig.esp_in(0x2a)), (Ok(A), Ok(A)));
    assert_eq!(rig.sessions().len(), 2, "nothing is remembered of it");
    // The host follows, and now its new keys are known, so that another host can come.
    rig.esp_out(A, 0xa2).unwrap();
    assert_eq!(rig.esp_in(0x2a), Ok(A));
    assert_eq!(rig.sessions().len(), 4);
    rig.esp_out(B, 0xb1).unwrap();
    assert_eq!((rig.esp_in(0x1b), rig.esp_in(0x2a), rig.esp_in(0x1a)), (Ok(B), Ok(A), Ok(A)));
}

#[test]
fn spoofed_answers_cost_a_bounded_number_of_sessions_and_the_only_host_nothing() {
    let mut rig = Rig::new(policy());
    rig.esp_out(A, 0xa1).unwrap();
    for spi in 1..2000 {
        assert_eq!(rig.esp_in(spi), Ok(A));
    }
    assert_eq!(rig.sessions().len(), 2);
}

#[test]
fn req6_only_the_inside_keeps_both_directions_alive() {
    let mut rig = Rig::new(policy());
    rig.esp_out(A, 0xa1).unwrap();
    assert_eq!(rig.esp_in(0x1a), Ok(A));
    for _ in 0..4 {
        rig.advance(secs(590));
        rig.esp_out(A, 0xa1).unwrap();
    }
    assert_eq!(rig.sessions().len(), 2, "the answers live by what is answered");
    assert!(rig.sessions().iter().all(|session| session.expires > secs(599)));
    for _ in 0..3 {
        rig.advance(secs(200));
        assert_eq!(rig.esp_in(0x1a), Ok(A));
    }
    rig.advance(secs(2));
    assert!(rig.sessions().is_empty());
    assert_eq!(rig.esp_in(0x1a), Err(DropReason::NoMapping));
}

#[test]
fn a_host_that_falls_silent_leaves_nothing_behind_for_the_next_in_its_place() {
    let mut rig = Rig::new(policy());
    rig.esp_out(A, 0xa1).unwrap();
    assert_eq!(rig.esp_in(0x1a), Ok(A));
    let out = rig.sessions().iter().find(|s| s.direction == Direction::Outbound).unwrap().id;
    assert!(rig.engines[0].kill(&rig.participant.pass(), out, rig.now));
    // Its answer is still there, and is not taken for one to the other host.
    rig.esp_out(B, 0xb1).unwrap();
    assert_eq!(rig.esp_in(0x1b), Ok(B));
    rig.expire();
    assert_eq!(rig.sessions().len(), 2);
    assert_eq!(rig.esp_in(0x1a), Ok(B), "the only host left");
    rig.assert_no_leak();
}

#[test]
fn what_an_ended_association_was_answered_with_is_no_answer_to_the_next() {
    let mut rig = Rig::new(policy());
    for (host, spi) in [(A, 0xa1), (B, 0xb1)] {
        rig.esp_out(host, spi).unwrap();
        assert_eq!(rig.esp_in(spi | 0x100), Ok(host));
    }
    let sessions = rig.sessions();
    let out = sessions.iter().find(|s| s.internal.0.address == A).unwrap().id;
    assert!(rig.engines[0].kill(&rig.participant.pass(), out, rig.now));
    rig.esp_out(A, 0xa2).unwrap();
    assert_eq!(rig.esp_in(0x1a2), Ok(A));
    rig.assert_no_leak();
}

#[test]
fn one_host_cannot_take_a_peer_from_the_others() {
    let mut rig = Rig::new(policy());
    let quota = HOST_ASSOCIATIONS_MAX as u32;
    for spi in 1..=quota {
        rig.esp_out(A, spi).unwrap();
    }
    assert_eq!(rig.esp_out(A, quota + 1), Err(DropReason::HostQuota));
    assert!(rig.esp_out(A, quota).is_ok(), "those that are open stay");
    assert!(rig.esp_out(B, 1).is_ok());
    for spi in 2..=quota {
        rig.esp_out(B, spi).unwrap();
    }
    assert_eq!(rig.sessions().len(), usize::from(PEER_ASSOCIATIONS_MAX));
    assert_eq!(rig.esp_out(C, 1), Err(DropReason::PeerTaken));
    let other_peer = rig.esp_at(0, LAN, (C, R2), 1);
    assert_eq!(other_peer, Ok((E, R2)));
    rig.assert_no_leak();
}

#[test]
fn both_directions_count_for_the_hosts_quota_of_sessions() {
    let mut rig = Rig::new(Policy { sessions_per_host_max: Some(4), ..policy() });
    rig.esp_out(A, 0xa1).unwrap();
    assert_eq!(rig.esp_in(0x1a), Ok(A));
    for spi in [0xa2, 0xa3] {
        rig.esp_out(A, spi).unwrap();
    }
    assert_eq!(rig.esp_in(0x1b), Err(DropReason::HostSessions), "a quarter is the host's own");
    assert_eq!(rig.esp_in(0x1a), Ok(A));
    assert_eq!(rig.esp_out(A, 0xa3), Ok((E, R)));
    assert_eq!(rig.tables.sessions_of.total(), 4);
    rig.assert_no_leak();
}

#[test]
fn a_new_external_address_starts_anew_at_once() {
    let mut rig = Rig::new(policy());
    rig.esp_out(A, 0xa1).unwrap();
    assert_eq!(rig.esp_in(0x1a), Ok(A));
    rig.policy.external = Some(E_NEW);
    rig.policy.generation += 1;
    assert_eq!(rig.esp_out(A, 0xa1), Ok((E_NEW, R)));
    let answer = rig.esp_at(0, LinkId::WAN, (R, E_NEW), 0x1a);
    assert_eq!(answer, Ok((R, A)));
    rig.expire();
    assert_eq!(rig.sessions().len(), 2, "what belonged to the old address is gone");
    rig.assert_no_leak();
}

#[test]
fn a_reload_keeps_both_directions() {
    let mut rig = Rig::new(policy());
    rig.esp_out(A, 0xa1).unwrap();
    rig.esp_in(0x1a).unwrap();
    rig.policy.generation += 1;
    assert_eq!((rig.esp_in(0x1a), rig.esp_out(A, 0xa1)), (Ok(A), Ok((E, R))));
    assert_eq!(rig.sessions().len(), 2);
}

#[test]
fn between_lans_each_association_is_a_session_and_none_is_another_reversed() {
    let mut rig = Rig::new(policy());
    let there = rig.esp_at(0, LAN, (A, C), 0x0001_0002);
    assert_eq!(there, Ok((A, C)));
    assert_eq!(rig.esp_at(0, LAN, (C, A), 0x0002_0001), Ok((C, A)));
    assert_eq!(rig.sessions().len(), 2);
    assert!(rig.sessions().iter().all(|session| session.direction == Direction::Routed));
    rig.assert_no_leak();
}

#[test]
fn worker_by_worker_the_answers_find_their_hosts() {
    let mut rig = Rig::sized(4096, 2, policy());
    for (worker, host, out, answer) in [(0, A, 0xa1, 0x1a), (1, B, 0xb1, 0x1b)] {
        rig.esp_at(worker, LAN, (host, R), out).unwrap();
        let got = rig.esp_at(1 - worker, LinkId::WAN, (R, E), answer);
        assert_eq!(got, Ok((R, host)));
    }
    assert_eq!(rig.esp_at(0, LinkId::WAN, (R, E), 0x1b), Ok((R, B)));
    rig.assert_no_leak();
}

#[test]
fn counts_come_out_even_when_workers_race_for_answers() {
    const ROUNDS: u32 = 400;
    let (tables, engines) = Tables::new(8192, 3, 7);
    let policy = policy();
    let mut engines: Vec<Engine> = std::thread::scope(|scope| {
        let workers = engines.into_iter().enumerate().map(|(worker, mut engine)| {
            let (tables, policy) = (&tables, &policy);
            scope.spawn(move || {
                let mut participant = tables.domain().participant().unwrap();
                let host = Ipv4Addr::new(10, 0, 0, 10 + worker as u8);
                for round in 0..ROUNDS {
                    let now = Instant::from_millis(u64::from(round) * 5000);
                    let pass = participant.pass();
                    let spi = 1000 * (worker as u32 + 1) + round;
                    for (ingress, packet) in [
                        (LAN, esp(host, R, spi)),
                        (LinkId::WAN, esp(R, E, spi)),
                        (LAN, esp(host, R, 7)),
                    ] {
                        let datagram = datagram(&packet);
                        let found = (&datagram, None);
                        let request = request(&engine, &pass, found, ingress, policy, now);
                        if let Ok(Ok(request)) = request {
                            let _ = engine.open(&pass, &request, policy, now);
                        }
                    }
                    engine.expire(&pass, now, &policy.timeouts, usize::MAX);
                }
                engine
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut participant = tables.domain().participant().unwrap();
    assert!(tables.stats().sessions > 0);
    for extra in 1..=3 {
        for engine in &mut engines {
            let pass = participant.pass();
            let now = Instant::from_millis(u64::from(ROUNDS) * 5000) + secs(700 * extra);
            engine.expire(&pass, now, &policy.timeouts, usize::MAX);
        }
    }
    let stats = tables.stats();
    assert_eq!((stats.sessions, stats.mappings, stats.contacts), (0, 0, 0));
    assert_eq!(tables.sessions_of.total(), 0);
}

#[test]
fn two_hosts_with_nat_traversal_to_one_peer_keep_apart() {
    let mut rig = Rig::new(policy());
    for port in [500, 4500] {
        let a = rig.udp_out(ep(A, port), ep(R, port));
        assert_eq!(a, Ok((ep(E, port), ep(R, port))), "the first keeps its port");
        let (b, _) = rig.udp_out(ep(B, port), ep(R, port)).unwrap();
        assert!(b.port != port && (b.port < 1024) == (port < 1024), "{b}");
        assert_eq!(rig.udp_in(ep(R, port), ep(E, port)), Ok((ep(R, port), ep(A, port))));
        assert_eq!(rig.udp_in(ep(R, port), b), Ok((ep(R, port), ep(B, port))));
    }
}

/// What happens at a router that hosts speak ESP through.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A host sends by one of its associations.
    Out(u8, u32),
    /// The peer sends, or somebody in its name.
    In(u32),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0u8..3, 1u32..5).prop_map(|(host, spi)| Event::Out(host, spi)),
        3 => (1u32..12).prop_map(Event::In),
        1 => prop_oneof![4 => 0u64..90, 1 => 500u64..700].prop_map(Event::Wait),
    ]
}

/// How long ago each association of a host was last used.
fn silences(
    spoke: &BTreeMap<(Ipv4Addr, u32), Instant>,
    host: Ipv4Addr,
    now: Instant,
) -> impl Iterator<Item = Duration> {
    let of_host = spoke.iter().filter(move |((other, _), _)| *other == host);
    of_host.map(move |(_, at)| now - *at)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_in_goes_to_a_host_that_speaks_and_stays_with_it(
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut rig = Rig::sized(256, 1, policy());
        // When each association was last used, and whose each SPI is that has an entry.
        let mut spoke = BTreeMap::new();
        let mut known = BTreeMap::new();
        for event in events {
            // Which association of its host an SPI answers is not ours to know: any that fell
            // silent may have taken it along.
            let now = rig.now;
            known.retain(|_, holder| silences(&spoke, *holder, now).all(|span| span < secs(600)));
            match event {
                Event::Out(host, spi) => {
                    let host = [A, B, C][usize::from(host)];
                    rig.esp_out(host, spi + u32::from(host.octets()[3]) * 16).unwrap();
                    spoke.insert((host, spi), rig.now);
                }
                Event::In(spi) => {
                    let entries = rig.sessions().len();
                    match rig.esp_in(spi) {
                        Ok(host) => {
                            let shortest = silences(&spoke, host, now).min();
                            prop_assert!(shortest.is_some_and(|span| span < secs(602)));
                            let holder = known.get(&spi).copied().unwrap_or(host);
                            prop_assert_eq!(holder, host, "SPI {} moved", spi);
                            if rig.sessions().len() > entries {
                                known.insert(spi, host);
                            }
                        }
                        Err(reason) => {
                            prop_assert_eq!(reason, DropReason::NoMapping);
                            prop_assert!(!known.contains_key(&spi), "SPI {} was lost", spi);
                        }
                    }
                }
                Event::Wait(span) => {
                    rig.advance(secs(span));
                    // An answer may be looked at before what it answers is found to be over.
                    rig.expire();
                }
            }
            let sessions = rig.sessions();
            for host in [A, B, C] {
                let of = |direction| {
                    let is_of = |s: &&SessionInfo| {
                        s.internal.0.address == host && s.direction == direction
                    };
                    sessions.iter().filter(is_of).count()
                };
                let (out, answers) = (of(Direction::Outbound), of(Direction::Inbound));
                prop_assert!(answers <= out, "{host}: {answers} answers to {out}");
            }
        }
        rig.assert_no_leak();
    }
}
