//! What one thread sees of the table.
#![cfg(not(loom))]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use flow_table::{Domain, InsertError, Keep, Key, Owner, PARTICIPANTS_MAX, Table, mix};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number(u64);

impl Key for Number {
    fn hash(&self, seed: u64) -> u64 {
        mix([self.0, 0], seed)
    }
}

/// Keys that all want the same bucket and have the same tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Colliding(u64);

impl Key for Colliding {
    fn hash(&self, _: u64) -> u64 {
        0xffff_ffff_ffff_ffff
    }
}

type Sole<K> = (Arc<Domain>, Arc<Table<K, u64>>, Owner<K, u64>);

fn sole<K: Key>(capacity: usize) -> Sole<K> {
    let domain = Domain::new();
    let (table, mut owners) = Table::new(&domain, capacity, 1, 42);
    (domain, table, owners.remove(0))
}

fn pair(n: u64) -> [Number; 2] {
    [Number(2 * n), Number(2 * n + 1)]
}

#[test]
fn both_keys_lead_to_both_values() {
    let (domain, table, mut owner) = sole(10);
    let mut participant = domain.participant().unwrap();
    let pass = participant.pass();
    let id = owner.insert(&pass, pair(1), [10, 11]).unwrap().id();
    for side in [0, 1] {
        let hit = table.lookup(&pass, &pair(1)[side]).unwrap();
        assert_eq!((hit.id(), hit.side()), (id, side));
        assert_eq!((hit.key(), hit.other_key()), (pair(1)[side], pair(1)[side ^ 1]));
        assert_eq!((*hit.value(), *hit.other()), (10 + side as u64, 11 - side as u64));
        assert_eq!((*hit.value_at(0), *hit.value_at(1)), (10, 11));
    }
    assert!(table.lookup(&pass, &Number(4)).is_none());
    assert_eq!(table.by_id(&pass, id).unwrap().key_at(1), Number(3));
    assert_eq!((table.len(), table.capacity(), owner.free()), (1, 10, 9));
}

#[test]
fn a_taken_key_is_reported_with_its_side_and_changes_nothing() {
    let (domain, table, mut owner) = sole(10);
    let mut participant = domain.participant().unwrap();
    let pass = participant.pass();
    let id = owner.insert(&pass, pair(1), [0, 0]).unwrap().id();
    for (keys, expected) in [([Number(3), Number(9)], 0), ([Number(9), Number(2)], 1), (pair(1), 0)]
    {
        match owner.insert(&pass, keys, [0, 0]) {
            Err(InsertError::Exists { side, hit }) => {
                assert_eq!((side, hit.id(), hit.key()), (expected, id, keys[side]));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(table.lookup(&pass, &Number(9)).is_none());
    assert_eq!((table.len(), owner.free()), (1, 9));
}

#[test]
fn an_entry_is_two_lines_or_one_and_costs_25_bytes_of_buckets() {
    let domain = Domain::new();
    let (lines, _) = Table::<Number, [u64; 7]>::new(&domain, 100_000, 1, 7);
    let (halves, _) = Table::<Number, u64>::new(&domain, 100_000, 1, 7);
    for (memory, bytes) in [(lines.memory(), 128), (halves.memory(), 64)] {
        let [buckets, entries] = memory;
        assert!(buckets.start % 64 == 0 && entries.start % 128 == 0);
        assert_eq!(entries.len(), bytes * 100_000);
        assert!(buckets.len() <= 25 * 100_000);
    }
}

#[test]
#[should_panic(expected = "two keys")]
fn equal_keys_are_refused() {
    let (domain, _, mut owner) = sole(10);
    let mut participant = domain.participant().unwrap();
    let _ = owner.insert(&participant.pass(), [Number(1), Number(1)], [0, 0]);
}

#[test]
#[should_panic(expected = "another domain")]
fn a_pass_of_another_domain_is_refused() {
    let (_, table, _) = sole::<Number>(10);
    let other = Domain::new();
    let mut participant = other.participant().unwrap();
    let _ = table.lookup(&participant.pass(), &Number(1));
}

#[test]
fn a_table_fills_to_its_last_slot_at_any_size() {
    for capacity in [1, 2, 3, 7, 100, 1000, 50_000] {
        let (domain, table, mut owner) = sole(capacity);
        let mut participant = domain.participant().unwrap();
        let pass = participant.pass();
        for n in 0..capacity as u64 {
            owner.insert(&pass, pair(n), [n, n]).unwrap();
        }
        assert!(matches!(owner.insert(&pass, pair(1 << 40), [0, 0]), Err(InsertError::Full)));
        assert_eq!((table.len(), owner.free()), (capacity, 0));
        for n in 0..capacity as u64 {
            assert_eq!(*table.lookup(&pass, &pair(n)[1]).unwrap().value(), n);
        }
    }
}

#[test]
fn a_removed_slot_rests_until_all_have_passed_a_boundary() {
    let (domain, table, mut owner) = sole(1);
    let mut participant = domain.participant().unwrap();
    let mut reader = domain.participant().unwrap();
    let reading = reader.pass();
    let pass = participant.pass();
    let id = owner.insert(&pass, pair(1), [7, 8]).unwrap().id();
    let hit = table.lookup(&reading, &pair(1)[0]).unwrap();
    assert!(owner.remove(&pass, id));
    assert!(!owner.remove(&pass, id));
    assert!(table.lookup(&reading, &pair(1)[0]).is_none());
    assert!(matches!(owner.insert(&pass, pair(2), [0, 0]), Err(InsertError::Full)));
    drop(pass);
    let pass = participant.pass();
    assert!(matches!(owner.insert(&pass, pair(2), [0, 0]), Err(InsertError::Full)));
    assert_eq!((*hit.value(), *hit.other()), (7, 8));
    drop(pass);
    drop(reading);
    let pass = participant.pass();
    assert_eq!(owner.insert(&pass, pair(2), [0, 0]).unwrap().id(), id);
}

#[test]
fn a_slot_removed_in_one_pass_is_usable_in_the_next() {
    let (domain, _, mut owner) = sole(1);
    let mut participant = domain.participant().unwrap();
    for n in 0..100 {
        let pass = participant.pass();
        let id = owner.insert(&pass, pair(n), [0, 0]).unwrap().id();
        assert!(owner.remove(&pass, id));
    }
}

#[test]
fn hits_outlive_every_handle_of_the_table_during_their_pass() {
    let (domain, table, mut owner) = sole(4);
    let mut participant = domain.participant().unwrap();
    drop(domain);
    let pass = participant.pass();
    let hit = owner.insert(&pass, pair(1), [7, 8]).unwrap();
    let found = owner.lookup(&pass, &pair(1)[1]).unwrap();
    assert!(owner.lookup(&pass, &Number(9)).is_none());
    drop(table);
    drop(owner);
    assert_eq!((*hit.value(), *hit.other()), (7, 8));
    assert_eq!((found.id(), found.side(), *found.value()), (hit.id(), 1, 8));
}

#[test]
fn owners_remove_only_what_is_theirs() {
    let domain = Domain::new();
    let (table, mut owners) = Table::<Number, u64>::new(&domain, 7, 3, 1);
    assert_eq!(owners.iter().map(Owner::free).collect::<Vec<_>>(), [2, 2, 3]);
    let mut participant = domain.participant().unwrap();
    let pass = participant.pass();
    let id = owners[1].insert(&pass, pair(1), [0, 0]).unwrap().id();
    assert!(!owners[0].remove(&pass, id) && !owners[2].remove(&pass, id));
    assert!(owners[1].owns(id) && owners[1].remove(&pass, id));
    assert!(table.by_id(&pass, id).is_none());
}

#[test]
fn equal_hashes_fill_the_whole_probe_range_and_no_more() {
    let (domain, table, mut owner) = sole::<Colliding>(10_000);
    let mut participant = domain.participant().unwrap();
    let pass = participant.pass();
    let mut ids = Vec::new();
    let refusal = loop {
        let n = ids.len() as u64;
        match owner.insert(&pass, [Colliding(2 * n), Colliding(2 * n + 1)], [n, n]) {
            Ok(hit) => ids.push(hit.id()),
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, InsertError::BucketFull));
    assert_eq!(ids.len(), flow_table::PROBE_BUCKETS_MAX * 7 / 2);
    let keys: Vec<_> = (0..2 * ids.len() as u64).map(Colliding).collect();
    let mut hits = vec![None; keys.len()];
    table.lookup_batch(&pass, &keys, &mut hits);
    assert!(hits.iter().zip(&keys).all(|(hit, key)| hit.unwrap().key() == *key));
    for id in ids {
        assert!(owner.remove(&pass, id));
    }
    assert!(keys.iter().all(|key| table.lookup(&pass, key).is_none()));
}

#[test]
fn scan_comes_round_shows_each_entry_once_and_removes_what_is_not_kept() {
    let domain = Domain::new();
    let (table, mut owners) = Table::<Number, u64>::new(&domain, 1000, 3, 1);
    let mut participant = domain.participant().unwrap();
    let pass = participant.pass();
    let owner = &mut owners[1];
    for n in 0..300 {
        owner.insert(&pass, pair(n), [n, n]).unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..30 {
        owner.scan(&pass, 10, |hit| {
            seen.push(*hit.value());
            if hit.value() % 100 == 7 { Keep::Yes } else { Keep::No }
        });
    }
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
    assert_eq!((table.len(), owner.len()), (3, 3));
    seen.clear();
    owner.scan(&pass, 1000, |hit| {
        seen.push(*hit.value());
        Keep::Yes
    });
    assert_eq!(seen, [7, 107, 207]);
}

#[test]
fn a_round_of_budget_shows_every_entry_however_few_are_left() {
    let (domain, _, mut owner) = sole(1000);
    let mut participant = domain.participant().unwrap();
    let pass = participant.pass();
    assert_eq!(owner.round(), 0);
    for n in 0..1000 {
        owner.insert(&pass, pair(n), [n, n]).unwrap();
    }
    for modulus in [1, 2, 63, 64, 65, 130, 999] {
        let keeps = |n: u64| if n.is_multiple_of(modulus) { Keep::Yes } else { Keep::No };
        let budget = owner.round();
        owner.scan(&pass, budget, |hit| keeps(*hit.value()));
        for start in [1, 7, 100] {
            owner.scan(&pass, start, |_| Keep::Yes);
            let mut shown = 0;
            owner.scan(&pass, owner.round(), |_| {
                shown += 1;
                Keep::Yes
            });
            assert_eq!(shown, owner.len(), "{modulus} {start}");
        }
    }
}

#[test]
fn scan_of_an_emptied_table_looks_at_nothing() {
    let (domain, _, mut owner) = sole(1000);
    let mut participant = domain.participant().unwrap();
    let pass = participant.pass();
    owner.scan(&pass, 1000, |_| panic!("never used"));
    let id = owner.insert(&pass, pair(1), [0, 0]).unwrap().id();
    owner.remove(&pass, id);
    owner.scan(&pass, 1000, |_| panic!("removed"));
}

#[test]
fn observers_see_side_0_of_each_live_entry() {
    let (domain, table, mut owner) = sole(200);
    let mut participant = domain.participant().unwrap();
    let pass = participant.pass();
    let ids: Vec<_> =
        (0..200).map(|n| owner.insert(&pass, pair(n), [n, n]).unwrap().id()).collect();
    for id in ids.iter().step_by(2) {
        owner.remove(&pass, *id);
    }
    let mut seen = Vec::new();
    table.for_each(&pass, |hit| {
        assert_eq!(hit.side(), 0);
        seen.push(*hit.value());
    });
    assert_eq!(seen, (0..100).map(|n| 2 * n + 1).collect::<Vec<_>>());
}

#[test]
fn every_value_is_dropped_exactly_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let values = || [Counted(Arc::clone(&drops)), Counted(Arc::clone(&drops))];
    let domain = Domain::new();
    let (table, mut owners) = Table::<Number, Counted>::new(&domain, 9, 2, 1);
    let mut participant = domain.participant().unwrap();
    let mut made = 0;
    for n in 0..500 {
        let pass = participant.pass();
        let owner = &mut owners[n as usize % 2];
        made += 2;
        let _ = owner.insert(&pass, pair(n % 13), values());
        if n % 3 == 0 {
            owner.scan(&pass, 1, |_| Keep::No);
        }
    }
    let held = made - drops.load(Ordering::Relaxed);
    assert!(held > 0 && held <= 18, "{held}");
    drop((owners, table, participant));
    assert_eq!(made - drops.load(Ordering::Relaxed), held);
    drop(domain);
    assert_eq!(drops.load(Ordering::Relaxed), made);
}

#[test]
fn a_domain_may_be_full_of_participants() {
    let (domain, table, mut owner) = sole(1);
    let mut all: Vec<_> = (0..PARTICIPANTS_MAX).map(|_| domain.participant().unwrap()).collect();
    let mut last = all.pop().unwrap();
    let passes: Vec<_> = all.iter_mut().map(flow_table::Participant::pass).collect();
    let pass = last.pass();
    let id = owner.insert(&pass, pair(1), [0, 0]).unwrap().id();
    assert!(table.lookup(&passes[PARTICIPANTS_MAX - 2], &pair(1)[0]).is_some());
    owner.remove(&pass, id);
    drop(pass);
    let pass = last.pass();
    assert!(matches!(owner.insert(&pass, pair(1), [0, 0]), Err(InsertError::Full)));
    drop((pass, passes));
    assert!(owner.insert(&last.pass(), pair(1), [0, 0]).is_ok());
}

#[test]
#[should_panic(expected = "hash, which never changes")]
fn a_key_whose_hash_changes_is_caught_before_its_slot_is_reused() {
    static SHIFT: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Fickle(u64);
    impl Key for Fickle {
        fn hash(&self, _: u64) -> u64 {
            self.0 + SHIFT.load(Ordering::Relaxed) as u64
        }
    }
    let (domain, _, mut owner) = sole(4);
    let mut participant = domain.participant().unwrap();
    let pass = participant.pass();
    let id = owner.insert(&pass, [Fickle(1), Fickle(2)], [0, 0]).map(|hit| hit.id()).unwrap();
    SHIFT.store(100, Ordering::Relaxed);
    owner.remove(&pass, id);
}
