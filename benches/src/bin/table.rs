//! The flow table beside other maps, and under two threads: figures that `cargo xtask bench table` makes a table of.
//!
//! `table FILE [--quick]` prints them as it goes and writes them to the file as JSON. Ours and the other's are measured in
//! turn; a ratio is the median of those of each turn. `cargo bench -p benches` has the same for longer, and insertions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use benches::maps::{
    Filled, ROUND, Tuple, Value, drawn, filled, filled_to, lock_free, locked, sharded, tuples,
};
use benches::{Figures, arguments};
use flow_table::{Participant, Table};
use quanta::Clock;

/// How much is measured.
struct Effort {
    sizes: &'static [u64],
    /// Rounds of keys in one run.
    rounds: usize,
    /// Runs of each.
    runs: usize,
}

const WHOLE: Effort =
    Effort { sizes: &[1_000, 64_000, 1_000_000, 10_000_000], rounds: 4096, runs: 7 };
const QUICK: Effort = Effort { sizes: &[1_000, 64_000], rounds: 512, runs: 3 };

/// Entries of the tables that two threads share.
const SHARED: [u64; 2] = [64_000, 1_000_000];

/// Keys of which a reader wants to know how long they take: those of a batch of packets.
const BATCH: usize = 64;

fn main() -> std::io::Result<()> {
    let (file, is_quick) = arguments("table")?;
    let effort = if is_quick { QUICK } else { WHOLE };
    let clock = Clock::new();
    let mut figures = Figures::default();
    for size in effort.sizes {
        for (than, runs) in beside_others(&clock, &effort, *size) {
            figures.compare(format!("find_{size}.{than}"), "ticks", than, &runs);
        }
    }
    for size in SHARED {
        let runs = two_readers(&clock, &effort, size);
        figures.compare(format!("two_readers_{size}"), "keys/kt", "one", &runs);
        let runs = reader_beside_writer(&clock, &effort, size);
        figures.compare(format!("reader_p99_{size}"), "ticks", "alone", &runs);
    }
    figures.write(file)
}

/// Ticks for a key that is there, ours and each other's in turn.
fn beside_others(clock: &Clock, effort: &Effort, size: u64) -> [(&'static str, Vec<[f64; 2]>); 3] {
    let keys = drawn(size);
    let Filled { mut participant, table, owner: _owner, .. } = filled(size);
    let (locked, sharded, lock_free) = (locked(size), sharded(size), lock_free(size));
    let mut finds: [Vec<[f64; 2]>; 3] = Default::default();
    for _ in 0..effort.runs {
        let ours = per_key(clock, effort, &keys, |keys| look_up(&mut participant, &table, keys));
        let others = [
            per_key(clock, effort, &keys, |keys| {
                let found = |key| locked.lock().ok().and_then(|map| Some(map.get(key)?.touch()));
                keys.iter().filter_map(found).sum()
            }),
            per_key(clock, effort, &keys, |keys| {
                keys.iter().filter_map(|key| Some(sharded.get(key)?.touch())).sum()
            }),
            per_key(clock, effort, &keys, |keys| {
                let map = lock_free.pin();
                keys.iter().filter_map(|key| Some(map.get(key)?.touch())).sum()
            }),
        ];
        for (runs, other) in finds.iter_mut().zip(others) {
            runs.push([ours, other]);
        }
    }
    let [locked, sharded, lock_free] = finds;
    [("hashbrown_mutex", locked), ("dashmap", sharded), ("papaya", lock_free)]
}

fn per_key(
    clock: &Clock,
    effort: &Effort,
    keys: &[[Tuple; ROUND]],
    mut round: impl FnMut(&[Tuple]) -> u64,
) -> f64 {
    let start = clock.raw();
    let sum: u64 = keys.iter().cycle().take(effort.rounds).map(|keys| round(keys)).sum();
    let ticks = clock.raw() - start;
    std::hint::black_box(sum);
    ticks as f64 / (effort.rounds * ROUND) as f64
}

fn look_up(participant: &mut Participant, table: &Arc<Table<Tuple, Value>>, keys: &[Tuple]) -> u64 {
    let pass = participant.pass();
    let mut hits = [None; ROUND];
    let hits = &mut hits[..keys.len()];
    table.lookup_batch(&pass, keys, hits);
    hits.iter().flatten().map(|hit| hit.value().touch()).sum()
}

/// Keys that two threads find in a thousand ticks, and those that one finds.
fn two_readers(clock: &Clock, effort: &Effort, size: u64) -> Vec<[f64; 2]> {
    let Filled { mut participant, mut other, table, owner: _owner } =
        filled_to(size, size * 10 / 9);
    let keys = drawn(size);
    // The other's keys are other ones.
    let (near, far) = keys.split_at(keys.len() / 2);
    let per_thousand = |ticks: f64| 1e3 / ticks;
    let mut runs = Vec::new();
    for _ in 0..effort.runs {
        let one = per_key(clock, effort, near, |keys| look_up(&mut participant, &table, keys));
        let start = Barrier::new(2);
        let both = thread::scope(|scope| {
            let other = scope.spawn(|| {
                start.wait();
                per_key(clock, effort, far, |keys| look_up(&mut other, &table, keys))
            });
            start.wait();
            let own = per_key(clock, effort, near, |keys| look_up(&mut participant, &table, keys));
            [own, other.join().expect("a reader does not panic")]
        });
        runs.push([both.map(per_thousand).iter().sum(), per_thousand(one)]);
    }
    runs
}

/// The 99th percentile of the ticks that a batch of keys takes while another thread removes and inserts as fast as it can,
/// and of what it takes alone.
fn reader_beside_writer(clock: &Clock, effort: &Effort, size: u64) -> Vec<[f64; 2]> {
    let Filled { mut participant, other: mut writer, table, mut owner } = filled(size);
    let keys = drawn(size);
    let mut next = size;
    let mut runs = Vec::new();
    for _ in 0..effort.runs {
        let alone = p99(clock, effort, &keys, &mut participant, &table);
        let (start, is_over) = (Barrier::new(2), AtomicBool::new(false));
        let beside = thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                while !is_over.load(Ordering::Relaxed) {
                    let pass = writer.pass();
                    if let Some(hit) = table.lookup(&pass, &tuples(next - size)[0]) {
                        owner.remove(&pass, hit.id());
                    }
                    // Slots at rest may be all there are for a moment.
                    if owner.insert(&pass, tuples(next), Default::default()).is_ok() {
                        next += 1;
                    }
                }
            });
            start.wait();
            let beside = p99(clock, effort, &keys, &mut participant, &table);
            is_over.store(true, Ordering::Relaxed);
            beside
        });
        runs.push([beside, alone]);
    }
    runs
}

fn p99(
    clock: &Clock,
    effort: &Effort,
    keys: &[[Tuple; ROUND]],
    participant: &mut Participant,
    table: &Arc<Table<Tuple, Value>>,
) -> f64 {
    let batches = keys.iter().cycle().take(effort.rounds).flat_map(|keys| keys.chunks(BATCH));
    let mut times: Vec<u64> = batches
        .map(|keys| {
            let start = clock.raw();
            std::hint::black_box(look_up(participant, table, keys));
            clock.raw() - start
        })
        .collect();
    times.sort_unstable();
    times[times.len() * 99 / 100] as f64
}
