//! Ports that are held for their last endpoint: after use, and across a kill -9, where all that is left is the
//! journal's memory.

use super::*;

/// A router that starts over memory that may hold what an earlier one left.
fn start(words: &JournalWords, policy: Policy, now: Instant) -> Rig {
    let journal = PortJournal::resume(words.clone(), now, policy.timeouts.port_rest);
    let (tables, engines) = Tables::with_journal(4096, 1, journal, now.as_nanos());
    let participant = tables.domain().participant().unwrap();
    Rig { tables, engines, participant, policy, now }
}

impl Rig {
    /// Ends the router without a word and starts another.
    fn kill(self, words: &JournalWords) -> Rig {
        start(words, self.policy.clone(), self.now + secs(1))
    }
}

fn memory() -> JournalWords {
    PortJournal::in_memory(2)
}

fn begin(words: &JournalWords) -> Rig {
    start(words, policy(), Instant::from_secs(1000))
}

#[test]
fn req6888_8_after_kill_9_a_port_goes_to_no_other_host_for_two_minutes() {
    let words = memory();
    let mut rig = begin(&words);
    assert_eq!(rig.map(ep(A, 5000)), Ok(ep(E, 5000)));
    let mut rig = rig.kill(&words);
    assert_ne!(rig.map(ep(B, 5000)).unwrap().port, 5000);
    rig.advance(secs(119));
    assert_ne!(rig.map(ep(C, 5000)).unwrap().port, 5000);
    rig.advance(secs(1));
    let late = Ipv4Addr::new(10, 0, 0, 99);
    assert_eq!(rig.map(ep(late, 5000)), Ok(ep(E, 5000)));
}

#[test]
fn req6888_8_after_kill_9_an_endpoint_gets_its_own_port_back_at_once() {
    let words = memory();
    let mut rig = begin(&words);
    rig.tcp_out(ep(B, 5000), ep(R, 80), SYN).unwrap();
    let moved = rig.tcp_out(ep(A, 5000), ep(R, 80), SYN).unwrap().0;
    assert_ne!(moved.port, 5000, "the port was taken");
    let mut rig = rig.kill(&words);
    assert_eq!(rig.tcp_out(ep(A, 5000), ep(R, 80), ACK), Ok((moved, ep(R, 80))));
    assert_eq!(rig.tcp_in(ep(R, 80), moved, ACK), Ok((ep(R, 80), ep(A, 5000))));
    assert_eq!(rig.tcp_out(ep(B, 5000), ep(R, 80), ACK), Ok((ep(E, 5000), ep(R, 80))));
}

#[test]
fn req6888_8_a_port_at_rest_is_held_after_kill_9_as_well() {
    let words = memory();
    let mut rig = begin(&words);
    rig.map(ep(A, 5000)).unwrap();
    rig.advance(secs(302));
    assert!(rig.sessions().is_empty());
    let mut rig = rig.kill(&words);
    assert_ne!(rig.map(ep(B, 5000)).unwrap().port, 5000);
}

#[test]
fn req6888_8_a_port_that_had_rested_is_not_held_after_kill_9() {
    let words = memory();
    let mut rig = begin(&words);
    rig.map(ep(A, 5000)).unwrap();
    rig.advance(secs(302 + 122));
    let mut rig = rig.kill(&words);
    assert_eq!(rig.map(ep(B, 5000)), Ok(ep(E, 5000)));
}

#[test]
fn req6888_8_hold_down_is_per_protocol_and_covers_icmp_identifiers() {
    let words = memory();
    let mut rig = begin(&words);
    rig.map(ep(A, 5000)).unwrap();
    rig.send(LAN, echo(A, R, 77)).unwrap();
    let mut rig = rig.kill(&words);
    let (tcp, _) = rig.tcp_out(ep(B, 5000), ep(R, 80), SYN).unwrap();
    assert_eq!(tcp, ep(E, 5000), "TCP had nothing there");
    let (other, _) = rig.send(LAN, echo(B, R, 77)).unwrap();
    assert_ne!(other.port, 77);
    let (own, _) = rig.send(LAN, echo(A, R, 77)).unwrap();
    assert_eq!(own.port, 77);
}

#[test]
fn req6888_8_a_second_kill_9_during_hold_down_holds_what_the_first_left() {
    let words = memory();
    let mut rig = begin(&words);
    rig.map(ep(A, 5000)).unwrap();
    let mut rig = rig.kill(&words);
    rig.map(ep(B, 6000)).unwrap();
    rig.advance(secs(60));
    let mut rig = rig.kill(&words);
    for (host, port) in [(B, 5000), (A, 6000)] {
        assert_ne!(rig.map(ep(host, port)).unwrap().port, port);
    }
}

#[test]
fn req6888_8_what_was_held_long_enough_is_forgotten_before_the_next_kill_9() {
    let words = memory();
    let mut rig = begin(&words);
    rig.map(ep(A, 5000)).unwrap();
    let mut rig = rig.kill(&words);
    rig.map(ep(A, 6000)).unwrap();
    assert_eq!(rig.tables.held_ports(rig.now), 1);
    rig.advance(secs(200));
    assert_eq!(rig.tables.held_ports(rig.now), 0);
    let mut rig = rig.kill(&words);
    assert_eq!(rig.map(ep(B, 5000)), Ok(ep(E, 5000)));
    assert_ne!(rig.map(ep(B, 6000)).unwrap().port, 6000, "its mapping was alive");
}

#[test]
fn req6888_8_under_another_external_address_nothing_is_held() {
    let words = memory();
    let mut rig = begin(&words);
    rig.map(ep(A, 5000)).unwrap();
    let mut rig = start(&words, Policy { external: Some(E_NEW), ..policy() }, rig.now);
    assert_eq!(rig.map(ep(B, 5000)), Ok(ep(E_NEW, 5000)));
    rig.policy = Policy { generation: 2, ..policy() };
    assert_ne!(rig.map(ep(B, 5000)), Ok(ep(E, 5000)), "the old address is held still");
}

#[test]
fn req6888_8_an_address_gives_way_to_a_newer_one_when_the_journal_is_full() {
    let words = memory();
    let mut rig = begin(&words);
    let third = Ipv4Addr::new(203, 0, 113, 78);
    for (generation, address) in [(1, E), (2, E_NEW), (3, third)] {
        rig.policy = Policy { generation, external: Some(address), ..policy() };
        rig.map(ep(A, 5000)).unwrap();
    }
    let mut rig = rig.kill(&words);
    assert_ne!(rig.map(ep(B, 5000)).unwrap().port, 5000, "the third is held");
    rig.policy = Policy { generation: 4, external: Some(E_NEW), ..policy() };
    assert_ne!(rig.map(ep(B, 5000)).unwrap().port, 5000, "the second, too");
    rig.policy = Policy { generation: 5, ..policy() };
    assert_eq!(rig.map(ep(B, 5000)), Ok(ep(E, 5000)), "the first gave way");
}

#[test]
fn req6888_8_how_long_ports_are_held_after_kill_9_is_configurable() {
    let words = memory();
    let timeouts = Timeouts { port_rest: secs(300), ..Timeouts::default() };
    let mut rig = start(&words, Policy { timeouts, ..policy() }, Instant::from_secs(1000));
    rig.map(ep(A, 5000)).unwrap();
    let mut rig = rig.kill(&words);
    rig.advance(secs(299));
    assert_ne!(rig.map(ep(B, 5000)).unwrap().port, 5000);
    rig.advance(secs(1));
    assert_eq!(rig.map(ep(C, 5000)), Ok(ep(E, 5000)));
}

#[test]
fn req6888_8_forwards_and_reserved_ports_are_not_held() {
    let words = memory();
    let mut rig = begin(&words);
    rig.map(ep(A, 5000)).unwrap();
    let mut rig = rig.kill(&words);
    rig.policy = with_forwards(vec![forward(Protocol::Udp, 5000, ep(B, 80))]);
    assert_eq!(rig.udp_in(ep(R, 9), ep(E, 5000)), Ok((ep(R, 9), ep(B, 80))));
    assert_eq!(rig.map(ep(B, 80)), Ok(ep(E, 5000)));
    assert_ne!(rig.map(ep(A, 5000)).unwrap().port, 5000, "it lost the port to the forward");
}

#[test]
fn req6888_8_when_all_ports_are_held_another_host_is_refused_and_the_first_is_not() {
    let words = memory();
    let odd_low = |rig: &mut Rig, host| {
        let ports = (1..1024).step_by(2).map(|port| rig.map(ep(host, port)));
        ports.filter(|mapped| mapped.is_ok()).count()
    };
    let mut rig = begin(&words);
    assert_eq!(odd_low(&mut rig, A), 512);
    let mut rig = rig.kill(&words);
    assert_eq!(rig.map(ep(B, 501)), Err(DropReason::PortsExhausted));
    assert_eq!(odd_low(&mut rig, A), 512);
}

#[test]
fn the_routers_own_ports_are_not_written_down() {
    let words = memory();
    let mut rig = begin(&words);
    rig.send(LinkId::LOCAL, udp(ep(A, 5000), ep(R, 53))).unwrap();
    let mut rig = rig.kill(&words);
    assert_eq!(rig.map(ep(B, 5000)), Ok(ep(E, 5000)));
}

#[test]
fn garbage_in_the_journal_stops_nobody_for_longer_than_two_minutes() {
    let words = memory();
    for (index, word) in (*words).as_ref().iter().enumerate() {
        let garbage = flow_table::mix([index as u64, 1], 7);
        word.store(garbage, std::sync::atomic::Ordering::Relaxed);
    }
    // As bad as it gets: the garbage names our address.
    let header = u64::from(E.to_bits()) << 32 | 0x0007_0001;
    (*words).as_ref()[0].store(header, std::sync::atomic::Ordering::Relaxed);
    let mut rig = begin(&words);
    assert!(rig.map(ep(A, 5000)).is_ok());
    rig.advance(secs(300));
    let mut rig = rig.kill(&words);
    assert_eq!(rig.map(ep(B, 6000)), Ok(ep(E, 6000)));
}

#[test]
fn req6888_8_a_kill_9_while_the_journal_is_taken_up_loses_nothing() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let words = memory();
    let mut rig = begin(&words);
    rig.map(ep(A, 5000)).unwrap();
    let rig = rig.kill(&words);
    let claimed = u64::from(E.to_bits()) << 32;
    // Between the steps: words of an earlier run and of the last one count together.
    let all = (*words).as_ref();
    all[0].store(claimed | 9 << 16 | 1, Ordering::Relaxed);
    let lone = all.iter().skip(512).find(|word: &&AtomicU64| word.load(Ordering::Relaxed) != 0);
    let lone = lone.unwrap();
    assert_eq!(lone.load(Ordering::Relaxed) as u16, 1, "it was left by the first run");
    for stamp in [1, 9] {
        lone.store(lone.load(Ordering::Relaxed) & !0xffff | stamp, Ordering::Relaxed);
        all[0].store(claimed | 9 << 16 | 1, Ordering::Relaxed);
        let mut rig = start(&words, policy(), rig.now);
        assert_ne!(rig.map(ep(B, 5000)).unwrap().port, 5000);
    }
}

#[test]
fn req6888_8_how_long_ports_rest_is_configurable() {
    let timeouts = Timeouts { port_rest: secs(600), ..Timeouts::default() };
    let mut rig = Rig::new(Policy { timeouts, ..policy() });
    rig.map(ep(A, 5000)).unwrap();
    rig.advance(secs(300 + 590));
    assert_ne!(rig.map(ep(B, 5000)).unwrap().port, 5000);
    rig.advance(secs(12));
    assert_eq!(rig.map(ep(C, 5000)), Ok(ep(E, 5000)));
}

#[test]
fn req6888_8_how_many_ports_rest_is_configurable_and_none_in_use_gives_way() {
    let mut rig = Rig::new(Policy { ports_at_rest_max: 10, ..policy() });
    for port in 5000..5030 {
        rig.map(ep(A, port)).unwrap();
    }
    assert_eq!(rig.tables.resting(), 0);
    rig.advance(secs(200));
    rig.map(ep(A, 5000)).unwrap();
    rig.advance(secs(102));
    assert_eq!(rig.tables.resting(), 29);
    rig.map(ep(B, 9000)).unwrap();
    assert_eq!((rig.tables.resting(), rig.tables.stats().mappings), (10, 12));
    assert_eq!(rig.map(ep(A, 5000)), Ok(ep(E, 5000)), "it was in use");
    rig.policy.ports_at_rest_max = 0;
    rig.map(ep(B, 9001)).unwrap();
    assert_eq!((rig.tables.resting(), rig.tables.stats().mappings), (0, 3));
}
