//! The flow table against `hashbrown` behind a mutex, `dashmap` and `papaya`: finding, and inserting and removing.
//!
//! Each round takes 256 keys drawn at random, as a worker's batches would, and touches what it
//! finds. The table's pages are small unless the allocator is told otherwise
//! (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`).

use std::hint::black_box;

use benches::maps::{
    Filled, ROUND, Tuple, Value, drawn, filled, filled_to, lock_free, locked, sharded, tuples,
};
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};

const SIZES: [u64; 4] = [1_000, 64_000, 1_000_000, 10_000_000];

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
        let Filled { mut participant, table, owner, .. } = filled(size);
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
        let Filled { mut participant, table, owner: _owner, .. } =
            filled_to(SIZE, SIZE * 10 / tenths);
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
        rounds.iter_mut().flatten().for_each(|key| *key = key.absent());
        let Filled { mut participant, table, owner: _owner, .. } = filled(size);
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
        let Filled { mut participant, table, mut owner, .. } = filled(size);
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
