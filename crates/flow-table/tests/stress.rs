//! Many operations of several threads at once, for the races that loom's few steps cannot reach.
#![cfg(not(loom))]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use flow_table::{Domain, EntryId, InsertError, Keep, Key, Owner, Participant, Table, mix};

/// Few keys, so that inserters meet all the time.
const KEYS: u64 = 48;
/// Entries that each owner inserts, where nothing slows the test down.
const INSERTED: usize = 10_000;
const OWNERS: usize = 3;

/// Half of the keys share one home and their tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name(u64);

impl Key for Name {
    fn hash(&self, seed: u64) -> u64 {
        if self.0 < KEYS / 2 { 5 } else { mix([self.0, 1], seed) }
    }
}

/// Both sides carry a mark made from both keys.
struct Value {
    mark: u64,
    touched: AtomicU64,
}

fn mark(keys: [Name; 2]) -> u64 {
    keys[0].0 << 32 | keys[1].0
}

fn values(keys: [Name; 2]) -> [Value; 2] {
    [(); 2].map(|()| Value { mark: mark(keys), touched: AtomicU64::new(0) })
}

/// Raises the flag also when a thread panics, so that the test ends.
struct StopWatchers<'a>(&'a AtomicBool);

impl Drop for StopWatchers<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A small generator, seeded by thread: xorshift.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Rounds to do of so many: a part of them where a sanitizer watches (`cargo xtask sanitize`).
fn rounds(of: usize) -> usize {
    let divisor = std::env::var("STRESS_DIVISOR").ok();
    of / divisor.map_or(1, |divisor| divisor.parse().expect("STRESS_DIVISOR is a number"))
}

/// Inserts and removes at random; `holders` proves that nobody else holds a key that we inserted.
fn churn(
    mut owner: Owner<Name, Value>,
    mut participant: Participant,
    holders: &[AtomicU64],
    mut random: u64,
) {
    let mut held: Vec<EntryId> = Vec::new();
    let [mut inserted, mut refused] = [0; 2];
    while inserted < rounds(INSERTED) {
        let mut full = false;
        let pass = participant.pass();
        for _ in 0..4 {
            let keys = [next(&mut random) % KEYS, next(&mut random) % KEYS].map(Name);
            if keys[0] == keys[1] {
                continue;
            }
            match owner.insert(&pass, keys, values(keys)) {
                Ok(hit) => {
                    for key in keys {
                        let others = holders[key.0 as usize].fetch_add(1, Ordering::Relaxed);
                        assert_eq!(others, 0, "{key:?} is in the table twice");
                    }
                    held.push(hit.id());
                    inserted += 1;
                }
                Err(InsertError::Exists { side, hit }) => {
                    assert_eq!(hit.key(), keys[side]);
                    refused += 1;
                }
                Err(InsertError::Full) => full = true,
                Err(InsertError::BucketFull) => panic!("every bucket is probed"),
            }
        }
        let removals = next(&mut random) as usize % 8;
        owner.scan(&pass, removals, |hit| {
            let keys = [hit.key_at(0), hit.key_at(1)];
            assert_eq!(hit.value().mark, mark(keys));
            for key in keys {
                holders[key.0 as usize].fetch_sub(1, Ordering::Relaxed);
            }
            held.retain(|id| *id != hit.id());
            Keep::No
        });
        drop(pass);
        if full {
            thread::yield_now();
        }
    }
    assert_eq!(owner.len(), held.len());
    assert!(refused > 0, "nobody met anybody");
}

/// Looks up all keys, singly and in a batch, until told to stop.
fn watch(table: &Table<Name, Value>, mut participant: Participant, stop: &AtomicBool) -> usize {
    let keys: Vec<_> = (0..KEYS).map(Name).collect();
    let mut found = 0;
    while !stop.load(Ordering::Relaxed) {
        let pass = participant.pass();
        let mut hits = vec![None; keys.len()];
        table.lookup_batch(&pass, &keys, &mut hits);
        for (key, hit) in keys.iter().zip(&mut hits) {
            *hit = hit.or_else(|| table.lookup(&pass, key));
        }
        for (key, hit) in keys.iter().zip(hits).filter_map(|(key, hit)| Some((key, hit?))) {
            assert_eq!(hit.key(), *key);
            assert_eq!(hit.value().mark, mark([hit.key_at(0), hit.key_at(1)]));
            assert_eq!(hit.other().mark, hit.value().mark);
            hit.value().touched.fetch_add(1, Ordering::Relaxed);
            found += 1;
        }
    }
    found
}

#[test]
fn threads_that_insert_remove_and_look_up_the_same_keys_agree() {
    let domain = Domain::new();
    let (table, owners) = Table::new(&domain, 240, OWNERS, 3);
    let holders: Vec<_> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watchers = [(); 2].map(|()| {
            let (participant, table) = (domain.participant().unwrap(), Arc::clone(&table));
            let stop = &stop;
            scope.spawn(move || watch(&table, participant, stop))
        });
        let churners: Vec<_> = (1..)
            .zip(owners)
            .map(|(n, owner)| {
                let participant = domain.participant().unwrap();
                let holders = &holders;
                scope.spawn(move || churn(owner, participant, holders, 0x9e37_79b9_7f4a_7c15 ^ n))
            })
            .collect();
        let stopping = StopWatchers(&stop);
        for churner in churners {
            churner.join().unwrap();
        }
        drop(stopping);
        assert!(watchers.into_iter().map(|watcher| watcher.join().unwrap()).sum::<usize>() > 0);
    });
    let held: u64 = holders.iter().map(|holder| holder.load(Ordering::Relaxed)).sum();
    assert_eq!(held as usize, 2 * table.len());
}
