//! Owners: insertion, removal, expiry and reuse of a fixed range of slots.

use std::{collections::VecDeque, fmt, ops::Range, sync::Arc};

use crate::{
    bucket::Link,
    entry::{EntryId, Hit},
    epoch::Pass,
    hash::Key,
    sync::Ordering,
    table::{Owned, Table},
};

/// What [`Owner::scan`] does with an entry that it showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Leaves it.
    Yes,
    /// Removes it.
    No,
}

/// Why nothing was inserted.
#[derive(thiserror::Error)]
pub enum InsertError<'a, K: Key, V> {
    /// One of the keys is in the table.
    #[error("key {side} is in the table")]
    Exists {
        /// Which of the keys that were to be inserted.
        side: usize,
        /// The entry that has it.
        hit: Hit<'a, K, V>,
    },
    /// No slot of this owner is free; some may be resting.
    #[error("all slots of the owner are in use or at rest")]
    Full,
    /// All slots that one of the keys may be in are taken, or others inserted and removed the same
    /// key over and over meanwhile. Neither happens with well-hashed keys.
    #[error("no room where the key may be")]
    BucketFull,
}

impl<K: Key, V> fmt::Debug for InsertError<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { side, hit } => {
                f.debug_struct("Exists").field("side", side).field("by", &hit.id()).finish()
            }
            Self::Full => f.write_str("Full"),
            Self::BucketFull => f.write_str("BucketFull"),
        }
    }
}

/// The sole writer of a range of slots.
///
/// Dropping an owner leaves its entries in the table for good.
pub struct Owner<K, V> {
    table: Arc<Table<K, V>>,
    /// Which of the table's owners this is.
    number: usize,
    slots: Range<usize>,
    /// Slots from `slots.start` on that were used at least once.
    used: usize,
    /// Entries in the table.
    live: usize,
    limbo: Limbo,
    /// The next slot to scan, counted from `slots.start`.
    hand: usize,
    /// The pass under which resting slots were last asked about.
    asked: u64,
}

impl<K: Key, V: Send + Sync + 'static> Owner<K, V> {
    pub(crate) fn new(table: Arc<Table<K, V>>, number: usize, slots: Range<usize>) -> Self {
        let limbo = Limbo::new(slots.len());
        Self { table, number, slots, used: 0, live: 0, limbo, hand: 0, asked: 0 }
    }

    /// Inserts an entry under two keys, unless one of them is in the table.
    ///
    /// Key 1 becomes visible first and key 0 last: who finds key 0 finds a finished entry. Key 1
    /// may be visible for a moment and vanish again, when key 0 turns out to be taken; give key 1
    /// to the direction that nobody can use before the caller forwards the first packet. If both
    /// keys are taken, key 0 is reported. The hit is side 0.
    ///
    /// # Errors
    /// See [`InsertError`]. The values are dropped: at once, or with the next use of their slot.
    ///
    /// # Panics
    /// If the keys are equal, or the pass is of another domain.
    pub fn insert<'a>(
        &mut self,
        pass: &'a Pass<'_>,
        keys: [K; 2],
        values: [V; 2],
    ) -> Result<Hit<'a, K, V>, InsertError<'a, K, V>> {
        assert!(keys[0] != keys[1], "an entry has two keys");
        let table = self.table(pass);
        let hashes = keys.map(|key| table.hash(&key));
        hashes.iter().for_each(|hash| table.prefetch_bucket(*hash));
        for side in [0, 1] {
            if table.is_surely_absent(hashes[side]) {
                continue;
            }
            // SAFETY: `table` checked the pass, which is borrowed for 'a.
            if let Some(hit) = unsafe { table.find(hashes[side], &keys[side]) } {
                return Err(InsertError::Exists { side, hit });
            }
        }
        let slot = self.take(pass).ok_or(InsertError::Full)?;
        self.fill(slot, keys, values);
        let link = |side| Link::new(slot as u32, side);
        for side in [1, 0] {
            // SAFETY: the slot is ours and holds the keys; it was free until now, so this is the
            // first time under this pass that its links are published.
            if let Err(refusal) = unsafe { table.publish(hashes[side], &keys[side], link(side)) } {
                if side == 0 {
                    table.unlink(hashes[1], link(1));
                }
                self.limbo.rest(slot as u32, pass.stamp());
                return Err(refusal);
            }
        }
        table.set_live(slot, true);
        self.count(1);
        // SAFETY: the links are in the buckets, under a pass borrowed for 'a.
        Ok(unsafe { table.hit(link(0)) })
    }

    /// Finds a key: as [`Table::lookup`], but what it finds lives as long as the pass.
    ///
    /// # Panics
    /// If the pass is of another domain.
    #[must_use]
    pub fn lookup<'a>(&self, pass: &'a Pass<'_>, key: &K) -> Option<Hit<'a, K, V>> {
        self.table(pass).lookup(pass, key)
    }

    /// Takes an entry of this owner out of the table; `false` if it is none or not there.
    ///
    /// The slot rests until every participant has passed a boundary; the values are dropped when it
    /// is used again, or with the table.
    ///
    /// # Panics
    /// If the pass is of another domain.
    pub fn remove(&mut self, pass: &Pass<'_>, id: EntryId) -> bool {
        let table = self.table(pass);
        let Some(hit) = self.slots.contains(&id.index()).then(|| table.by_id(pass, id)).flatten()
        else {
            return false;
        };
        let hashes = [0, 1].map(|side| table.hash(&hit.key_at(side)));
        hashes.iter().for_each(|hash| table.prefetch_bucket(*hash));
        table.set_live(id.index(), false);
        for side in [0, 1] {
            table.unlink(hashes[side], Link::new(id.0, side));
        }
        self.limbo.rest(id.0, pass.stamp());
        self.count(-1);
        true
    }

    /// Shows up to `budget` entries of this owner to `f` and removes those it does not keep.
    ///
    /// Continues where the last call ended and comes round; shows no entry twice in a call. A
    /// stretch of up to 64 slots without entries costs as much of the budget as one entry. Call it
    /// once per pass: it is also what makes resting slots usable.
    ///
    /// # Panics
    /// If the pass is of another domain.
    pub fn scan<'a>(
        &mut self,
        pass: &'a Pass<'_>,
        budget: usize,
        mut f: impl FnMut(Hit<'a, K, V>) -> Keep,
    ) {
        let table = self.table(pass);
        self.settle_rested(pass);
        let mut unseen = self.used;
        for _ in 0..budget {
            if unseen == 0 || self.live == 0 {
                return;
            }
            let slot = self.slots.start + self.hand;
            // Relaxed: we wrote the bits of our slots ourselves.
            let ahead = table.live[slot / 64].load(Ordering::Relaxed) >> (slot % 64);
            let stretch = (64 - slot % 64).min(self.used - self.hand).min(unseen);
            let empty = (ahead.trailing_zeros() as usize).min(stretch);
            let step = (empty + 1).min(stretch);
            self.hand = (self.hand + step) % self.used;
            unseen -= step;
            if empty < stretch {
                let id = EntryId((slot + empty) as u32);
                table.prefetch_ahead(id);
                // SAFETY: its live bit is set, under a pass that is borrowed for 'a.
                let hit = unsafe { table.hit(Link::new(id.0, 0)) };
                if f(hit) == Keep::No {
                    self.remove(pass, id);
                }
            }
        }
    }

    /// A budget with which [`Self::scan`] comes round once: every entry, every stretch of 64 slots,
    /// and one more for the stretch that it begins within.
    #[must_use]
    pub fn round(&self) -> usize {
        if self.live == 0 { 0 } else { self.live + self.used.div_ceil(64) + 1 }
    }

    /// Slots that hold no entry, resting ones included: an insert may find them all at rest.
    #[must_use]
    pub fn free(&self) -> usize {
        self.slots.len() - self.live
    }

    /// Entries of this owner in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no entry of this owner is in the table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether an entry is in this owner's range.
    #[must_use]
    pub fn owns(&self, id: EntryId) -> bool {
        self.slots.contains(&id.index())
    }

    /// The table, for as long as the pass.
    fn table<'a>(&self, pass: &'a Pass<'_>) -> &'a Table<K, V> {
        self.table.check(pass);
        // SAFETY: the domain keeps the table, a participant the domain, and the pass borrows the
        // participant: the table outlives the borrow of the pass, even if this owner is dropped.
        unsafe { &*Arc::as_ptr(&self.table) }
    }

    fn owned(&self) -> &Owned {
        &self.table.owned[self.number]
    }

    fn count(&mut self, change: isize) {
        self.live = self.live.wrapping_add_signed(change);
        // Relaxed: a count for people.
        self.owned().live.store(self.live, Ordering::Relaxed);
    }

    /// A slot that nobody else can reach: one that has rested, or one never used.
    fn take(&mut self, pass: &Pass<'_>) -> Option<usize> {
        self.settle_rested(pass);
        if let Some(slot) = self.limbo.take() {
            return Some(slot as usize);
        }
        (self.used < self.slots.len()).then(|| self.slots.start + self.used)
    }

    /// Writes an entry into a slot that `take` returned.
    fn fill(&mut self, slot: usize, keys: [K; 2], values: [V; 2]) {
        let entry = &self.table.entries[slot];
        let [key0, key1] = keys;
        let [value0, value1] = values;
        if slot < self.slots.start + self.used {
            // SAFETY: used before, so initialised; it rested, so no participant can reach it.
            let former =
                unsafe { (entry[0].replace(key0, value0), entry[1].replace(key1, value1)) };
            // Only now, when both sides are whole again: a value's drop may panic.
            drop(former);
        } else {
            // SAFETY: never used, so there is nothing in it and no link to it anywhere.
            unsafe {
                entry[0].write(key0, value0);
                entry[1].write(key1, value1);
            }
            self.used += 1;
            // Relaxed: read when the table is dropped, by way of its `Arc`.
            self.owned().initialised.store(self.used, Ordering::Relaxed);
        }
    }

    /// Learns, once per pass, which slots have rested long enough.
    fn settle_rested(&mut self, pass: &Pass<'_>) {
        if self.limbo.is_settled() || self.asked == pass.serial() {
            return;
        }
        self.asked = pass.serial();
        self.limbo.settle(pass.domain().oldest_online());
    }
}

impl<K, V> fmt::Debug for Owner<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner")
            .field("slots", &self.slots)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

/// Removed slots in the order of their removal: first those that have rested, then those at rest.
///
/// **Shape**: a ring with room for every slot of the owner; positions only grow, and where head and tail are in the ring
/// is kept beside them. Stamps are kept per group of slots, since all that are removed in one pass get the same one.
struct Limbo {
    ring: Box<[u32]>,
    head: usize,
    head_at: usize,
    rested: usize,
    tail: usize,
    tail_at: usize,
    groups: VecDeque<Group>,
}

/// Slots up to position `end`, stamped no later than `stamp`.
struct Group {
    stamp: u64,
    end: usize,
}

impl Limbo {
    fn new(slots: usize) -> Self {
        Self {
            ring: vec![0; slots].into_boxed_slice(),
            head: 0,
            head_at: 0,
            rested: 0,
            tail: 0,
            tail_at: 0,
            groups: VecDeque::with_capacity(GROUPS_MAX),
        }
    }

    fn rest(&mut self, slot: u32, stamp: u64) {
        debug_assert!(self.tail - self.head < self.ring.len(), "each slot is here once");
        self.ring[self.tail_at] = slot;
        self.tail_at = self.after(self.tail_at);
        self.tail += 1;
        let full = self.groups.len() == GROUPS_MAX;
        match self.groups.back_mut() {
            Some(newest) if full || newest.stamp == stamp => {
                *newest = Group { stamp, end: self.tail };
            }
            _ => self.groups.push_back(Group { stamp, end: self.tail }),
        }
    }

    fn take(&mut self) -> Option<u32> {
        if self.head == self.rested {
            return None;
        }
        let slot = self.ring[self.head_at];
        self.head_at = self.after(self.head_at);
        self.head += 1;
        Some(slot)
    }

    /// The place in the ring behind another.
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.ring.len() { 0 } else { at + 1 }
    }

    /// Whether nothing is at rest.
    fn is_settled(&self) -> bool {
        self.rested == self.tail
    }

    /// Ends the rest of what was stamped before `oldest`.
    fn settle(&mut self, oldest: u64) {
        while let Some(group) = self.groups.front()
            && group.stamp < oldest
        {
            self.rested = group.end;
            self.groups.pop_front();
        }
    }
}

/// Groups that are told apart while a participant stays long in one pass; when there are more, the
/// newest take the later stamp, and rest longer than they need.
const GROUPS_MAX: usize = 32;
