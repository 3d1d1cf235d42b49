//! Several workers over one set of tables, each on a thread, while sessions open, are killed and expire, and the
//! configuration is put in force again and again.
//!
//! What the threads of the test share of its own has no lock, so that ThreadSanitizer sees the order of everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::thread;

use crossbeam::queue::ArrayQueue;
use forwarding::ArpMachine;
use nat::{SessionId, Tables, Timeouts};
use packet::{Batch, DropReason, Endpoint, Instant, LinkId, Offloads};
use pipeline::{Egress, EgressLink, Rings, Shapers, Snapshot, Verdict, Worker};

use crate::frames::{ep, see};
use crate::rig::{A, B, HOME, R, R2, Rig, from};

const WORKERS: usize = 3;
const PORTS: u16 = 6;
const BUFFERS: usize = 64;
const SNAPSHOTS: usize = 500;

/// A number of rounds, fewer where each takes long.
fn rounds(of: u64) -> u64 {
    let divisor = std::env::var("STRESS_DIVISOR").ok();
    of / divisor.map_or(1, |divisor| divisor.parse().expect("STRESS_DIVISOR is a number"))
}

/// What all threads share.
struct House {
    tables: Tables,
    /// The configurations that come into force one after another.
    snapshots: Vec<Snapshot>,
    /// The one in force.
    current: AtomicUsize,
    /// Milliseconds since the start.
    now: AtomicU64,
    /// For each worker, sessions that somebody wants killed; their owner can.
    doomed: [ArrayQueue<SessionId>; WORKERS],
}

impl House {
    fn now(&self) -> Instant {
        Instant::from_millis(1_000_000 + self.now.load(Relaxed))
    }

    fn snapshot(&self) -> &Snapshot {
        &self.snapshots[self.current.load(Acquire)]
    }
}

/// One worker with its thread's things.
struct Member {
    worker: Worker,
    egress: Egress,
    number: usize,
    random: u64,
    sent: [u64; 2],
    /// What stands for an internal endpoint, as packets that left have shown.
    external: BTreeMap<Endpoint, Endpoint>,
}

impl Member {
    fn below(&mut self, limit: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) as usize % limit
    }

    /// Takes one frame in; the verdict, and what left.
    fn push(&mut self, house: &House, link: LinkId, frame: &[u8]) -> (Verdict, Vec<Vec<u8>>) {
        let mut packet = self.egress.large_pool().take().expect("all buffers are home");
        assert!(packet.copy_from(frame));
        packet.ingress = link;
        let mut batch = Batch::new();
        batch.push(packet);
        self.sent[usize::from(link != LinkId::WAN)] += 1;
        let snapshot = house.snapshot();
        self.worker.receive(&mut batch, &mut self.egress, snapshot, house.now());
        let verdict = self.worker.verdicts().next().expect("one packet");
        let counters = self.worker.counters();
        let mut sent = Vec::new();
        for link in 0..4 {
            self.egress.flush(LinkId(link), &counters, |packets| {
                sent.extend(packets.iter().map(|packet| packet.frame().to_vec()));
                0
            });
        }
        self.worker.expire(snapshot, house.now());
        (verdict, sent)
    }

    /// A host says something to somebody, who answers.
    fn talk(&mut self, house: &House) {
        let internal = ep([A, B][self.below(2)], 5000 + self.below(PORTS.into()) as u16);
        let remote = ep([R, R2][self.below(2)], 1 + self.below(3) as u16);
        let (verdict, sent) =
            self.push(house, HOME, &from(internal.address).udp(internal, remote, b"ask"));
        match verdict {
            Verdict::Forward(LinkId::WAN) => {}
            Verdict::Drop(reason) => return assert!(is_of_a_race(reason), "{reason:?}"),
            other => panic!("{other:?}"),
        }
        let asked = see(&sent[0]);
        assert_eq!(asked.destination, remote);
        let external = asked.source;
        let before = *self.external.entry(internal).or_insert(external);
        assert_eq!(before, external, "{internal} has two");
        let answer = from(remote.address).udp(remote, external, b"answer");
        match self.push(house, LinkId::WAN, &answer) {
            (Verdict::Forward(link), sent) => {
                let told = see(&sent[0]);
                assert_eq!((link, told.source, told.destination), (HOME, remote, internal));
            }
            // Whoever ended the session in between also ended what let the answer in.
            (Verdict::Drop(DropReason::FilterDenied), _) => {}
            (Verdict::Drop(reason), _) => assert!(is_of_a_race(reason), "{reason:?}"),
            (other, _) => panic!("{other:?}"),
        }
    }

    fn kill_some(&mut self, house: &House) {
        while let Some(id) = house.doomed[self.number].pop() {
            self.worker.kill(id, house.now());
        }
    }
}

/// Somebody else ended or found the session or its mapping in the same instant: the sender tries again.
fn is_of_a_race(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::SessionConflict
            | DropReason::MappingTableFull
            | DropReason::PortsExhausted
            | DropReason::NoMapping
    )
}

fn member(engine: nat::Engine, arp: &ArpMachine, number: usize) -> Member {
    let rings = Arc::new(Rings::new());
    let links = vec![EgressLink { offloads: Offloads::ALL }; 4];
    let egress = Egress::new(links, Shapers::default(), BUFFERS, Arc::clone(&rings));
    let worker = Worker::sized(engine, arp.neighbours(), rings, 4).unwrap();
    let (random, external) = (0x5eed + number as u64, BTreeMap::new());
    Member { worker, egress, number, random, sent: [0; 2], external }
}

#[test]
fn req1_req3_hold_and_nothing_is_lost_while_workers_race_and_the_house_changes() {
    let mut rig = Rig::new();
    let (tables, engines) = Tables::new(4096, WORKERS, 7);
    let members = engines.into_iter().enumerate();
    let mut members: Vec<_> =
        members.map(|(number, engine)| member(engine, &rig.arp, number)).collect();
    let snapshots = (0..SNAPSHOTS).map(|_| {
        rig.publish();
        Snapshot::build(&rig.config, &rig.runtime).unwrap()
    });
    let house = House {
        tables,
        snapshots: snapshots.collect(),
        current: AtomicUsize::new(0),
        now: AtomicU64::new(0),
        doomed: [(); WORKERS].map(|()| ArrayQueue::new(64)),
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = members
            .iter_mut()
            .map(|member| {
                scope.spawn(|| {
                    for round in 0..rounds(60_000) {
                        member.talk(&house);
                        if round % 64 == 0 {
                            member.kill_some(&house);
                        }
                    }
                })
            })
            .collect();
        let changes = scope.spawn(|| change(&house, &is_over));
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        is_over.store(true, Relaxed);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        changes.join().unwrap();
    });
    for member in &members {
        let counters = member.worker.counters();
        for (link, sent) in [LinkId::WAN, HOME].into_iter().zip(member.sent) {
            let counts = counters.link(link);
            assert_eq!((counts.rx_packets.load(), counts.verdicts()), (sent, sent), "{link:?}");
            let forwarded = counts.forwarded.load();
            assert!(forwarded > sent / 2, "{link:?}: only {forwarded} of {sent} came through");
        }
        let opened = counters.opened.load();
        assert!(opened > 10, "only {opened} sessions came and went");
        assert_eq!(member.egress.buffers_out(), 0);
    }
    // An endpoint has one that stands for it, and shares it with no other (RFC 4787 REQ-1, REQ-3).
    let (mut by_internal, mut by_external) = (BTreeMap::new(), BTreeMap::new());
    for (internal, external) in members.iter().flat_map(|member| &member.external) {
        assert_eq!(*by_internal.entry(internal).or_insert(external), external);
        assert_eq!(*by_external.entry(external).or_insert(internal), internal);
    }
    assert_eq!(by_internal.len(), 2 * usize::from(PORTS));
    for _ in 0..3 {
        house.now.fetch_add(3_600_000, Relaxed);
        for member in &mut members {
            while member.worker.expire(house.snapshot(), house.now()) {}
        }
    }
    let stats = house.tables.stats();
    assert_eq!((stats.sessions, stats.mappings), (0, 0));
}

/// Lets time pass, reloads, and dooms sessions, until all is over.
fn change(house: &House, is_over: &AtomicBool) {
    let mut participant = house.tables.domain().participant().unwrap();
    while !is_over.load(Relaxed) {
        house.now.fetch_add(1, Relaxed);
        let next = (house.current.load(Relaxed) + 1).min(SNAPSHOTS - 1);
        house.current.store(next, Release);
        let pass = participant.pass();
        let mut number = 0;
        house.tables.for_each_session(&pass, house.now(), &Timeouts::default(), |session| {
            number += 1;
            if number % 5 == 0 {
                for doomed in &house.doomed {
                    // Whoever has enough to do is told of others later.
                    let _ = doomed.push(session.id);
                }
            }
        });
        drop(pass);
        thread::yield_now();
    }
}
