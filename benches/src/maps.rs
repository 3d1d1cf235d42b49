//! Maps of flows: the table, and those that it is compared with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dashmap::DashMap;
use flow_table::{Domain, Key, Owner, Participant, Table, mix};
use hashbrown::HashMap;

/// Keys that are looked up in one go, as a worker's batches would.
pub const ROUND: usize = 256;

/// Enough rounds that the keys of one have left the caches when it comes again.
const ROUNDS: usize = 1024;

/// A key of two words, as that of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple([u64; 2]);

impl Tuple {
    /// A key that no entry has.
    #[must_use]
    pub fn absent(self) -> Self {
        Self([self.0[0], self.0[1] ^ 1 << 12])
    }
}

impl Key for Tuple {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        mix(self.0, seed)
    }
}

/// As much as fits beside a key in a cache line.
#[derive(Default)]
pub struct Value([AtomicU64; 6]);

impl Value {
    /// What a packet does to its session: one count, and one look at the rewrite.
    #[inline]
    pub fn touch(&self) -> u64 {
        let count = self.0[0].load(Ordering::Relaxed) + 1;
        self.0[0].store(count, Ordering::Relaxed);
        self.0[5].load(Ordering::Relaxed)
    }
}

/// The two keys of an entry.
#[must_use]
pub fn tuples(n: u64) -> [Tuple; 2] {
    let address = 0x0a00_0000 + n % 4096;
    let ports = (n / 4096) << 48 | 443 << 32 | 0x1100;
    [Tuple([address << 32 | 0xc633_6401, ports]), Tuple([0xc633_6401_cb00_7101, n << 16 | 1])]
}

/// The next of a reproducible sequence.
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix([*state, 0], 1)
}

/// Keys to look up, all present, of both sides.
#[must_use]
pub fn drawn(size: u64) -> Vec<[Tuple; ROUND]> {
    let mut state = 1;
    let draw = || {
        let word = random(&mut state);
        tuples(word % size)[(word >> 63) as usize]
    };
    let mut draw = draw;
    (0..ROUNDS).map(|_| std::array::from_fn(|_| draw())).collect()
}

/// A table, and what takes part in it.
pub struct Filled {
    /// For the thread that looks up.
    pub participant: Participant,
    /// For another.
    pub other: Participant,
    /// The table.
    pub table: Arc<Table<Tuple, Value>>,
    /// For the one that inserts.
    pub owner: Owner<Tuple, Value>,
}

/// A table with `size` entries and half as much room again, for whoever inserts.
#[must_use]
pub fn filled(size: u64) -> Filled {
    filled_to(size, size + size / 2)
}

/// A table with `size` entries and room for `capacity`.
///
/// # Panics
/// If there is no room.
#[must_use]
pub fn filled_to(size: u64, capacity: u64) -> Filled {
    let domain = Domain::new();
    let (table, mut owners) = Table::new(&domain, capacity as usize, 1, 0x5eed);
    let mut owner = owners.remove(0);
    let mut participant = domain.participant().expect("the first participant has a place");
    for n in 0..size {
        let pass = participant.pass();
        let inserted = owner.insert(&pass, tuples(n), Default::default()).is_ok();
        assert!(inserted, "the table has room");
    }
    let other = domain.participant().expect("the second participant has a place");
    Filled { participant, other, table, owner }
}

/// The same in a `hashbrown` map behind a lock.
#[must_use]
pub fn locked(size: u64) -> Mutex<HashMap<Tuple, Value>> {
    let mut map = HashMap::with_capacity(2 * (size + size / 2) as usize);
    for key in (0..size).flat_map(tuples) {
        map.insert(key, Value::default());
    }
    Mutex::new(map)
}

/// The same in a `dashmap`.
#[must_use]
pub fn sharded(size: u64) -> DashMap<Tuple, Value> {
    let map = DashMap::with_capacity(2 * (size + size / 2) as usize);
    for key in (0..size).flat_map(tuples) {
        map.insert(key, Value::default());
    }
    map
}

/// The same in a `papaya` map.
#[must_use]
pub fn lock_free(size: u64) -> papaya::HashMap<Tuple, Value> {
    let map = papaya::HashMap::with_capacity(2 * (size + size / 2) as usize);
    for key in (0..size).flat_map(tuples) {
        map.pin().insert(key, Value::default());
    }
    map
}
