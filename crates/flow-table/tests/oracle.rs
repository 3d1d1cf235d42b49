//! The table against two maps, over random operations of two owners.
#![cfg(not(loom))]

use std::sync::Arc;

use flow_table::{Domain, EntryId, InsertError, Keep, Key, Owner, Participant, Pass, Table, mix};
use hashbrown::HashMap;
use proptest::prelude::*;

const OWNERS: usize = 2;
const CAPACITY: usize = 24;

/// A key among few, so that operations meet; half of them share their tags and three homes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name(u8);

impl Key for Name {
    fn hash(&self, seed: u64) -> u64 {
        if self.0 < 32 { u64::from(self.0 % 3) << 62 } else { mix([u64::from(self.0), 0], seed) }
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Insert {
        owner: usize,
        keys: [u8; 2],
    },
    Remove {
        owner: usize,
        key: u8,
    },
    /// Shows some entries and removes those with a key in the range.
    Scan {
        owner: usize,
        budget: usize,
        from: u8,
    },
    Lookup {
        key: u8,
    },
    Batch {
        keys: Vec<u8>,
    },
    Boundary,
    /// The observer ends its pass and starts another.
    Observe,
}

fn operation() -> impl Strategy<Value = Operation> {
    let owner = 0..OWNERS;
    let key = 0..64_u8;
    prop_oneof![
        8 => (owner.clone(), [key.clone(), key.clone()])
            .prop_map(|(owner, keys)| Operation::Insert { owner, keys }),
        4 => (owner.clone(), key.clone()).prop_map(|(owner, key)| Operation::Remove { owner, key }),
        1 => (owner, 0..20_usize, key.clone())
            .prop_map(|(owner, budget, from)| Operation::Scan { owner, budget, from }),
        2 => key.clone().prop_map(|key| Operation::Lookup { key }),
        1 => proptest::collection::vec(key, 0..100).prop_map(|keys| Operation::Batch { keys }),
        4 => Just(Operation::Boundary),
        1 => Just(Operation::Observe),
    ]
}

/// What the table should hold: the entry and side of each key, and the owner of each entry.
#[derive(Default)]
struct Model {
    keys: HashMap<u8, (EntryId, usize)>,
    entries: HashMap<EntryId, ([u8; 2], u32)>,
    resting: usize,
    made: u32,
}

impl Model {
    fn remove(&mut self, id: EntryId) {
        let (keys, _) = self.entries.remove(&id).expect("only what is there is removed");
        for key in keys {
            self.keys.remove(&key);
        }
        self.resting += 1;
    }

    fn insert(&mut self, pass: &Pass<'_>, owner: &mut Owner<Name, [u32; 2]>, keys: [u8; 2]) {
        if keys[0] == keys[1] {
            return;
        }
        self.made += 1;
        let values = [[self.made, 0], [self.made, 1]];
        match owner.insert(pass, keys.map(Name), values) {
            Ok(hit) => {
                assert!(keys.iter().all(|key| !self.keys.contains_key(key)));
                assert_eq!((hit.side(), *hit.value(), *hit.other()), (0, values[0], values[1]));
                assert!(owner.owns(hit.id()));
                let former = self.entries.insert(hit.id(), (keys, self.made));
                assert!(former.is_none(), "the slot was in use");
                self.keys.insert(keys[0], (hit.id(), 0));
                self.keys.insert(keys[1], (hit.id(), 1));
            }
            Err(InsertError::Exists { side, hit }) => {
                assert_eq!(self.keys[&keys[side]], (hit.id(), hit.side()));
                assert!(side == 0 || !self.keys.contains_key(&keys[0]));
            }
            Err(InsertError::Full) => {
                assert!(keys.iter().all(|key| !self.keys.contains_key(key)));
                assert!(owner.free() == 0 || self.resting > 0);
            }
            Err(InsertError::BucketFull) => panic!("there are fewer buckets than are probed"),
        }
    }

    fn check(&self, pass: &Pass<'_>, table: &Table<Name, [u32; 2]>, key: u8) {
        let found = table.lookup(pass, &Name(key));
        assert_eq!(found.map(|hit| (hit.id(), hit.side())), self.keys.get(&key).copied());
        if let Some(hit) = found {
            let (keys, made) = self.entries[&hit.id()];
            assert_eq!((hit.key(), hit.other_key()), (Name(key), Name(keys[hit.side() ^ 1])));
            assert_eq!((*hit.value_at(0), *hit.value_at(1)), ([made, 0], [made, 1]));
        }
    }

    fn scan(
        &mut self,
        pass: &Pass<'_>,
        owner: &mut Owner<Name, [u32; 2]>,
        budget: usize,
        from: u8,
    ) {
        let mut shown = Vec::new();
        owner.scan(pass, budget, |hit| {
            assert!(!shown.contains(&hit.id()) && self.entries.contains_key(&hit.id()));
            shown.push(hit.id());
            if hit.key().0 < from {
                return Keep::Yes;
            }
            self.remove(hit.id());
            Keep::No
        });
        assert!(shown.len() <= budget);
    }

    fn check_all(&self, pass: &Pass<'_>, table: &Table<Name, [u32; 2]>) {
        (0..64).for_each(|key| self.check(pass, table, key));
        assert_eq!(table.len(), self.entries.len());
        let mut seen = 0;
        table.for_each(pass, |hit| {
            assert_eq!(hit.key(), Name(self.entries[&hit.id()].0[0]));
            seen += 1;
        });
        assert_eq!(seen, table.len());
    }
}

struct World {
    table: Arc<Table<Name, [u32; 2]>>,
    owners: Vec<Owner<Name, [u32; 2]>>,
    model: Model,
}

impl World {
    fn apply(&mut self, pass: &Pass<'_>, operation: Operation) {
        let Self { table, owners, model } = self;
        match operation {
            Operation::Insert { owner, keys } => model.insert(pass, &mut owners[owner], keys),
            Operation::Remove { owner, key } => {
                let Some((id, _)) = model.keys.get(&key).copied() else { return };
                let owned = owners[owner].owns(id);
                assert_eq!(owners[owner].remove(pass, id), owned);
                if owned {
                    model.remove(id);
                }
            }
            Operation::Scan { owner, budget, from } => {
                model.scan(pass, &mut owners[owner], budget, from);
            }
            Operation::Lookup { key } => model.check(pass, table, key),
            Operation::Batch { keys } => {
                let names: Vec<_> = keys.iter().copied().map(Name).collect();
                let mut hits = vec![None; keys.len()];
                table.lookup_batch(pass, &names, &mut hits);
                for (key, hit) in keys.iter().zip(hits) {
                    let found = hit.map(|hit| (hit.id(), hit.side()));
                    assert_eq!(found, model.keys.get(key).copied());
                }
            }
            Operation::Boundary | Operation::Observe => {}
        }
    }
}

/// Applies operations up to and with the next boundary, under one pass.
fn one_pass(
    participant: &mut Participant,
    world: &mut World,
    operations: &mut impl Iterator<Item = Operation>,
) -> Option<Operation> {
    let pass = participant.pass();
    for operation in operations {
        if matches!(operation, Operation::Boundary | Operation::Observe) {
            world.model.check_all(&pass, &world.table);
            return Some(operation);
        }
        world.apply(&pass, operation);
    }
    world.model.check_all(&pass, &world.table);
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2 * ProptestConfig::default().cases))]

    #[test]
    fn table_does_what_two_maps_do(
        operations in proptest::collection::vec(operation(), 0..400),
        seed: u64,
    ) {
        let domain = Domain::new();
        let (table, owners) = Table::new(&domain, CAPACITY, OWNERS, seed);
        let mut world = World { table, owners, model: Model::default() };
        let mut participant = domain.participant().unwrap();
        let mut observer = domain.participant().unwrap();
        let mut operations = operations.into_iter();
        let table = Arc::clone(&world.table);
        'observed: loop {
            let observing = observer.pass();
            let mut held = Vec::new();
            table.for_each(&observing, |hit| held.push((hit, hit.key(), *hit.value())));
            loop {
                let boundary = one_pass(&mut participant, &mut world, &mut operations);
                for (hit, key, value) in &held {
                    assert_eq!((hit.key(), *hit.value()), (*key, *value));
                }
                match boundary {
                    None => break 'observed,
                    Some(Operation::Observe) => break,
                    Some(_) => {}
                }
            }
            drop(observing);
            // All are past a boundary once both have been through a pass.
            drop(participant.pass());
            world.model.resting = 0;
        }
    }
}
