//! What several threads see of the table, over all interleavings with few preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p flow-table --release --test loom`
#![cfg(loom)]

use std::sync::Arc;

use flow_table::{Domain, InsertError, Key, Owner, Participant, Table};
use loom::{
    model::Builder,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// A key that says what it hashes to: all want the same bucket, `tag` fills both tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tagged {
    tag: u8,
    number: u8,
}

impl Key for Tagged {
    fn hash(&self, _: u64) -> u64 {
        u64::from(self.tag) | u64::from(self.tag) << 8
    }
}

/// Keys whose tags are all the same, so that nothing but the comparison of keys tells them apart.
const fn key(number: u8) -> Tagged {
    Tagged { tag: 1, number }
}

/// Keys of which only one is in play, so that searches stay short.
const fn lone(number: u8) -> Tagged {
    Tagged { tag: number, number }
}

const A: Tagged = key(100);
const B: Tagged = key(101);

type Shared = Arc<Table<Tagged, u32>>;

fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(test);
}

fn table(capacity: usize, owners: usize) -> (Arc<Domain>, Shared, Vec<Owner<Tagged, u32>>) {
    let domain = Domain::new();
    let (table, owners) = Table::new(&domain, capacity, owners, 0);
    (domain, table, owners)
}

/// Inserts in a thread of its own; the value names the inserter.
fn insert_in_thread(
    mut owner: Owner<Tagged, u32>,
    mut participant: Participant,
    keys: [Tagged; 2],
    name: u32,
) -> thread::JoinHandle<(bool, Owner<Tagged, u32>, Participant)> {
    thread::spawn(move || {
        let pass = participant.pass();
        let inserted = match owner.insert(&pass, keys, [name; 2]) {
            Ok(hit) => {
                assert_eq!((hit.key(), *hit.value()), (keys[0], name));
                true
            }
            Err(InsertError::Exists { side, hit }) => {
                assert_eq!(hit.key(), keys[side]);
                assert_ne!(*hit.value(), name);
                false
            }
            Err(other) => panic!("{other:?}"),
        };
        drop(pass);
        (inserted, owner, participant)
    })
}

/// Who is found under a key.
fn holder(table: &Shared, participant: &mut Participant, key: Tagged) -> Option<u32> {
    let pass = participant.pass();
    table.lookup(&pass, &key).map(|hit| {
        assert_eq!(hit.key(), key);
        *hit.value()
    })
}

#[test]
fn of_two_equal_keys_exactly_one_wins() {
    explore(3, || {
        let (domain, table, mut owners) = table(2, 2);
        let threads = [1, 2].map(|name| {
            let participant = domain.participant().unwrap();
            let keys = [A, lone(10 + name as u8)];
            insert_in_thread(owners.remove(0), participant, keys, name)
        });
        let outcomes = threads.map(|thread| thread.join().unwrap());
        let mut participant = domain.participant().unwrap();
        assert_eq!(outcomes.iter().filter(|(inserted, ..)| *inserted).count(), 1);
        for (name, (inserted, ..)) in (1..).zip(&outcomes) {
            let other = holder(&table, &mut participant, lone(10 + name as u8));
            assert_eq!(other, inserted.then_some(name));
            assert_eq!(holder(&table, &mut participant, A) == Some(name), *inserted);
        }
        assert_eq!(table.len(), 1);
    });
}

#[test]
fn of_three_equal_keys_exactly_one_wins() {
    explore(2, || {
        let (domain, table, mut owners) = table(3, 3);
        let threads = [1, 2, 3].map(|name| {
            let participant = domain.participant().unwrap();
            let keys = [lone(10 + name as u8), A];
            insert_in_thread(owners.remove(0), participant, keys, name)
        });
        let outcomes = threads.map(|thread| thread.join().unwrap().0);
        assert_eq!(outcomes.iter().filter(|inserted| **inserted).count(), 1);
        let mut participant = domain.participant().unwrap();
        let winner = outcomes.iter().position(|inserted| *inserted).unwrap() as u32 + 1;
        assert_eq!(holder(&table, &mut participant, A), Some(winner));
    });
}

#[test]
fn equal_keys_in_different_buckets_are_settled_too() {
    explore(2, || {
        let (domain, table, mut owners) = table(10, 2);
        let mut participant = domain.participant().unwrap();
        let pass = participant.pass();
        for n in 0..3 {
            owners[0].insert(&pass, [lone(10 + 2 * n), lone(11 + 2 * n)], [0; 2]).unwrap();
        }
        drop(pass);
        // One slot is free in the home bucket.
        let second = domain.participant().unwrap();
        let threads = [
            insert_in_thread(owners.remove(0), participant, [lone(30), A], 1),
            insert_in_thread(owners.remove(0), second, [lone(31), A], 2),
        ];
        let outcomes = threads.map(|thread| thread.join().unwrap());
        assert_eq!(outcomes.iter().filter(|(inserted, ..)| *inserted).count(), 1);
        let winner = if outcomes[0].0 { 1 } else { 2 };
        let [(.., mut participant), _] = outcomes;
        assert_eq!(holder(&table, &mut participant, A), Some(winner));
        for n in 0..6 {
            assert_eq!(holder(&table, &mut participant, lone(10 + n)), Some(0));
        }
    });
}

#[test]
fn crosswise_keys_leave_a_whole_entry_or_nothing() {
    explore(2, || {
        let (domain, table, mut owners) = table(2, 2);
        let threads = [(1, [A, B]), (2, [B, A])].map(|(name, keys)| {
            insert_in_thread(owners.remove(0), domain.participant().unwrap(), keys, name)
        });
        let outcomes = threads.map(|thread| thread.join().unwrap().0);
        assert!(outcomes != [true, true]);
        let winner = outcomes.iter().position(|inserted| *inserted).map(|n| n as u32 + 1);
        let mut participant = domain.participant().unwrap();
        assert_eq!(holder(&table, &mut participant, A), winner);
        assert_eq!(holder(&table, &mut participant, B), winner);
    });
}

#[test]
fn a_key_once_seen_on_side_0_is_its_winners() {
    explore(2, || {
        let (domain, table, mut owners) = table(2, 2);
        let mut reader = domain.participant().unwrap();
        let threads = [1, 2].map(|name| {
            let participant = domain.participant().unwrap();
            let keys = [A, lone(10 + name as u8)];
            insert_in_thread(owners.remove(0), participant, keys, name)
        });
        let seen = holder(&table, &mut reader, A);
        let outcomes = threads.map(|thread| thread.join().unwrap().0);
        let winner = if outcomes[0] { 1 } else { 2 };
        assert!(seen.is_none() || seen == Some(winner));
        assert_eq!(holder(&table, &mut reader, A), Some(winner));
    });
}

#[test]
fn a_lookup_during_removal_and_reuse_never_sees_a_foreign_value() {
    explore(3, || {
        let (domain, table, mut owners) = table(1, 1);
        let mut owner = owners.remove(0);
        let mut participant = domain.participant().unwrap();
        let mut reader = domain.participant().unwrap();
        let pass = participant.pass();
        let id = owner.insert(&pass, [A, lone(10)], [1; 2]).unwrap().id();
        drop(pass);
        let writing = thread::spawn(move || {
            let pass = participant.pass();
            assert!(owner.remove(&pass, id));
            drop(pass);
            let pass = participant.pass();
            match owner.insert(&pass, [B, lone(11)], [2; 2]) {
                Ok(_) | Err(InsertError::Full) => {}
                Err(other) => panic!("{other:?}"),
            }
        });
        for _ in 0..2 {
            let pass = reader.pass();
            let hit = table.lookup(&pass, &A);
            let by_id = table.by_id(&pass, id);
            if let Some(hit) = hit {
                assert_eq!((hit.key(), *hit.value(), *hit.other()), (A, 1, 1));
            }
            if let Some(hit) = by_id {
                assert_eq!(hit.key() == A, *hit.value() == 1);
            }
            if let Some(hit) = table.lookup(&pass, &B) {
                assert_eq!((hit.key(), *hit.value(), hit.id()), (B, 2, id));
            }
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_key_that_comes_and_goes_is_never_lost_nor_doubled() {
    explore(3, || {
        let (domain, table, mut owners) = table(2, 2);
        let (mut first, second) = (owners.remove(0), owners.remove(0));
        let mut participant = domain.participant().unwrap();
        let other = domain.participant().unwrap();
        let coming_and_going = thread::spawn(move || {
            let pass = participant.pass();
            let id = first.insert(&pass, [A, lone(10)], [1; 2]).ok().map(|hit| hit.id());
            if let Some(id) = id {
                assert!(first.remove(&pass, id));
            }
            id.is_some()
        });
        let staying = insert_in_thread(second, other, [A, lone(11)], 2);
        let came = coming_and_going.join().unwrap();
        let (stayed, _, mut participant) = staying.join().unwrap();
        assert!(came || stayed);
        assert_eq!(holder(&table, &mut participant, A), stayed.then_some(2));
        assert_eq!(holder(&table, &mut participant, lone(10)), None);
    });
}

#[test]
fn a_key_that_takes_the_slot_of_its_likeness_is_announced_first() {
    explore(3, || {
        let (domain, table, mut owners) = table(4, 2);
        let (mut first, second) = (owners.remove(0), owners.remove(0));
        let mut participant = domain.participant().unwrap();
        let other = domain.participant().unwrap();
        let pass = participant.pass();
        let id = first.insert(&pass, [lone(10), B], [0; 2]).unwrap().id();
        drop(pass);
        let taking_over = thread::spawn(move || {
            let pass = participant.pass();
            assert!(first.remove(&pass, id));
            first.insert(&pass, [lone(12), A], [1; 2]).is_ok()
        });
        let staying = insert_in_thread(second, other, [lone(11), A], 2);
        let took_over = taking_over.join().unwrap();
        let (stayed, _, mut participant) = staying.join().unwrap();
        assert!(took_over != stayed);
        let winner = if took_over { 1 } else { 2 };
        assert_eq!(holder(&table, &mut participant, A), Some(winner));
    });
}

#[test]
fn a_count_that_others_move_on_shortens_no_rest() {
    explore(3, || {
        let (domain, table, mut owners) = table(2, 2);
        let (mut first, mut second) = (owners.remove(0), owners.remove(0));
        let mut participants = [(); 3].map(|()| domain.participant().unwrap());
        let pass = participants[0].pass();
        let id = first.insert(&pass, [A, lone(10)], [1; 2]).unwrap().id();
        let other = second.insert(&pass, [lone(11), lone(12)], [2; 2]).unwrap().id();
        drop(pass);
        let [mut reader, mut writer, mut mover] = participants;
        let moving_on = thread::spawn(move || {
            assert!(second.remove(&mover.pass(), other));
        });
        let writing = thread::spawn(move || {
            assert!(first.remove(&writer.pass(), id));
            let pass = writer.pass();
            let _ = first.insert(&pass, [B, lone(13)], [3; 2]);
        });
        let pass = reader.pass();
        if let Some(hit) = table.lookup(&pass, &A) {
            assert_eq!((hit.key(), *hit.value(), *hit.other()), (A, 1, 1));
        }
        drop(pass);
        moving_on.join().unwrap();
        writing.join().unwrap();
    });
}

#[test]
fn who_comes_online_after_the_count_moved_on_cannot_miss_the_removal() {
    explore(3, || {
        let (domain, table, mut owners) = table(1, 1);
        let mut owner = owners.remove(0);
        let mut participant = domain.participant().unwrap();
        let mut reader = domain.participant().unwrap();
        let id = owner.insert(&participant.pass(), [A, lone(10)], [1; 2]).unwrap().id();
        // Loom does not try both orders of two fences for their own sake. The mark makes it: it
        // runs the reader up to there between the two passes of the owner.
        let mark = Arc::new(AtomicBool::new(false));
        let marking = Arc::clone(&mark);
        let reading = thread::spawn(move || {
            let pass = reader.pass();
            let hit = table.lookup(&pass, &A);
            marking.store(true, Ordering::Relaxed);
            assert!(hit.is_none_or(|hit| (hit.key(), *hit.value()) == (A, 1)));
        });
        assert!(owner.remove(&participant.pass(), id));
        if mark.load(Ordering::Relaxed) {
            let pass = participant.pass();
            let _ = owner.insert(&pass, [B, lone(11)], [2; 2]);
        }
        reading.join().unwrap();
    });
}
