//! The flow table against `hashbrown` behind a mutex, `dashmap` and `papaya`: finding, and inserting and removing.
//!
//! Each round takes 256 keys drawn at random, as a worker's batches would, and touches what it
//! finds. The table's pages are small unless the allocator is told otherwise
//! (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`).

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use dashmap::DashMap;
use flow_table::{Domain, Key, Owner, Participant, Table, mix};
use hashbrown::HashMap;

const SIZES: [u64; 4] = [1_000, 64_000, 1_000_000, 10_000_000];
const ROUND: usize = 256;
/// Enough rounds that the keys of one have left the caches when it comes again.
const ROUNDS: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Tuple([u64; 2]);

impl Key for Tuple {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        mix(self.0, seed)
    }
}

/// As much as fits beside a key in a cache line.
#[derive(Default)]
struct Value([AtomicU64; 6]);

impl Value {
    /// What a packet does to its session: one count, and one look at the rewrite.
    #[inline]
    fn touch(&self) -> u64 {
        let count = self.0[0].load(Ordering::Relaxed) + 1;
        self.0[0].store(count, Ordering::Relaxed);
        self.0[5].load(Ordering::Relaxed)
    }
}

fn tuples(n: u64) -> [Tuple; 2] {
    let address = 0x0a00_0000 + n % 4096;
    let ports = (n / 4096) << 48 | 443 << 32 | 0x1100;
    [Tuple([address << 32 | 0xc633_6401, ports]), Tuple([0xc633_6401_cb00_7101, n << 16 | 1])]
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix([*state, 0], 1)
}

/// Keys to look up, all present, of both sides.
fn drawn(size: u64) -> Vec<[Tuple; ROUND]> {
    let mut state = 1;
    let draw = || {
        let word = random(&mut state);
        tuples(word % size)[(word >> 63) as usize]
    };
    let mut draw = draw;
    (0..ROUNDS).map(|_| std::array::from_fn(|_| draw())).collect()
}

struct Filled {
    participant: Participant,
    table: Arc<Table<Tuple, Value>>,
    owner: Owner<Tuple, Value>,
}

fn filled(size: u64) -> Filled {
    // Half as much again, for the benchmark that inserts.
    filled_to(size, size + size / 2)
}

/// A table with `size` entries and room for `capacity`.
fn filled_to(size: u64, capacity: u64) -> Filled {
    let domain = Domain::new();
    let (table, mut owners) = Table::new(&domain, capacity as usize, 1, 0x5eed);
    let mut owner = owners.remove(0);
    let mut participant = domain.participant().expect("the first participant has a place");
    for n in 0..size {
        let pass = participant.pass();
        let inserted = owner.insert(&pass, tuples(n), Default::default()).is_ok();
        assert!(inserted, "the table has room");
    }
    Filled { participant, table, owner }
}

fn locked(size: u64) -> Mutex<HashMap<Tuple, Value>> {
    let mut map = HashMap::with_capacity(2 * (size + size / 2) as usize);
    for key in (0..size).flat_map(tuples) {
        map.insert(key, Value::default());
    }
    Mutex::new(map)
}

fn sharded(size: u64) -> DashMap<Tuple, Value> {
    let map = DashMap::with_capacity(2 * (size + size / 2) as usize);
    for key in (0..size).flat_map(tuples) {
        map.insert(key, Value::default());
    }
    map
}

fn lock_free(size: u64) -> papaya::HashMap<Tuple, Value> {
    let map = papaya::HashMap::with_capacity(2 * (size + size / 2) as usize);
    for key in (0..size).flat_map(tuples) {
        map.pin().insert(key, Value::default());
    }
    map
}

fn bench_rounds(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    size: u64,
    rounds: &[[Tuple; ROUND]],
    mut round: impl FnMut(&[Tuple; ROUND]) -> u64,
) {
    let mut next = 0;
    group.bench_function(BenchmarkId::new(name, size), |bencher| {
        bencher.iter(|| {
            next = (next + 1) % rounds.len();
            black_box(round(&rounds[next]))
        });
    });
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find");
    group.throughput(Throughput::Elements(ROUND as u64));
    for size in SIZES {
        let rounds = drawn(size);
        let Filled { mut participant, table, owner } = filled(size);
        bench_rounds(&mut group, "batched", size, &rounds, |keys| {
            let pass = participant.pass();
            let mut hits = [None; ROUND];
            table.lookup_batch(&pass, keys, &mut hits);
            hits.iter().flatten().map(|hit| hit.value().touch()).sum()
        });
        bench_rounds(&mut group, "single", size, &rounds, |keys| {
            let pass = participant.pass();
            let hits = keys.iter().filter_map(|key| table.lookup(&pass, key));
            hits.map(|hit| hit.value().touch()).sum()
        });
        drop((participant, table, owner));
        let map = locked(size);
        bench_rounds(&mut group, "mutex_hashbrown", size, &rounds, |keys| {
            let found = |key| map.lock().ok().and_then(|map| Some(map.get(key)?.touch()));
            keys.iter().filter_map(found).sum()
        });
        drop(map);
        let map = sharded(size);
        bench_rounds(&mut group, "dashmap", size, &rounds, |keys| {
            keys.iter().filter_map(|key| Some(map.get(key)?.touch())).sum()
        });
        drop(map);
        let map = lock_free(size);
        bench_rounds(&mut group, "papaya", size, &rounds, |keys| {
            let map = map.pin();
            keys.iter().filter_map(|key| Some(map.get(key)?.touch())).sum()
        });
    }
    group.finish();
}

/// Looking up in a table that is half or nine tenths full.
fn load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.throughput(Throughput::Elements(ROUND as u64));
    const SIZE: u64 = 1_000_000;
    let rounds = drawn(SIZE);
    for tenths in [5, 9] {
        let Filled { mut participant, table, owner: _owner } = filled_to(SIZE, SIZE * 10 / tenths);
        bench_rounds(&mut group, "batched_at_tenths", tenths, &rounds, |keys| {
            let pass = participant.pass();
            let mut hits = [None; ROUND];
            table.lookup_batch(&pass, keys, &mut hits);
            hits.iter().flatten().map(|hit| hit.value().touch()).sum()
        });
    }
    group.finish();
}

/// Misses: what a flood of packets without sessions costs.
fn miss(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("miss");
    group.throughput(Throughput::Elements(ROUND as u64));
    for size in SIZES {
        let mut rounds = drawn(size);
        rounds.iter_mut().flatten().for_each(|key| key.0[1] ^= 1 << 12);
        let Filled { mut participant, table, owner: _owner } = filled(size);
        bench_rounds(&mut group, "batched", size, &rounds, |keys| {
            let pass = participant.pass();
            let mut hits = [None; ROUND];
            table.lookup_batch(&pass, keys, &mut hits);
            hits.iter().flatten().count() as u64
        });
    }
    group.finish();
}

/// Each turn ends the oldest entry and begins another.
fn bench_turns<R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    size: u64,
    mut turn: impl FnMut([Tuple; 2], [Tuple; 2]) -> R,
) {
    let mut next = size;
    group.bench_function(BenchmarkId::new(name, size), |bencher| {
        bencher.iter(|| {
            next += 1;
            turn(tuples(next - 1 - size), tuples(next - 1))
        });
    });
}

fn insert_and_remove(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("insert_and_remove");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let Filled { mut participant, table, mut owner } = filled(size);
        bench_turns(&mut group, "table", size, |old, new| {
            let pass = participant.pass();
            if let Some(hit) = table.lookup(&pass, &old[0]) {
                owner.remove(&pass, hit.id());
            }
            owner.insert(&pass, new, Default::default()).is_ok()
        });
        drop((participant, table, owner));
        let map = locked(size);
        bench_turns(&mut group, "mutex_hashbrown", size, |old, new| {
            let mut map = map.lock().expect("nobody panics while holding it");
            let ended = old.map(|key| map.remove(&key).is_some());
            (ended, new.map(|key| map.insert(key, Value::default()).is_some()))
        });
        drop(map);
        let map = sharded(size);
        bench_turns(&mut group, "dashmap", size, |old, new| {
            let ended = old.map(|key| map.remove(&key).is_some());
            (ended, new.map(|key| map.insert(key, Value::default()).is_some()))
        });
        drop(map);
        let map = lock_free(size);
        bench_turns(&mut group, "papaya", size, |old, new| {
            let map = map.pin();
            let ended = old.map(|key| map.remove(&key).is_some());
            (ended, new.map(|key| map.insert(key, Value::default()).is_some()))
        });
    }
    group.finish();
}

criterion_group!(benches, find, load, miss, insert_and_remove);
criterion_main!(benches);
