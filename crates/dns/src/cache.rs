//! Answers by question, bounded in number and octets.
//!
//! Entries lie in slots; a clock hand sweeps over them when room is needed and takes the first
//! that nobody asked for since it last came by. An entry outlives its TTL for as long as it may be
//! served stale (RFC 8767), then it is room like any other.

use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};
use packet::Instant;

use crate::answer::Kept;

/// Octets charged to an entry beside its contents: slot, table entry, allocator.
const ENTRY_OVERHEAD: usize = 160;

/// A cached answer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Box<[u8]>,
    pub(crate) kept: Kept,
    /// For a name that does not exist: the record that proves it, fit for any message.
    pub(crate) soa: Option<Box<[u8]>>,
    pub(crate) stored_at: Instant,
    /// First moment at which a TTL has run out.
    pub(crate) fresh_until: Instant,
    /// First moment at which it must not even be served stale.
    pub(crate) keep_until: Instant,
    /// No server is asked before this moment, because all failed just now (RFC 8767 §4).
    pub(crate) recheck_at: Instant,
}

impl Entry {
    fn bytes(&self) -> usize {
        let soa = self.soa.as_ref().map_or(0, |soa| soa.len());
        let kept = self.kept.message.len() + 2 * self.kept.ttl_offsets.len();
        self.key.len() + kept + soa + ENTRY_OVERHEAD
    }

    /// Whole seconds since the answer came.
    pub(crate) fn age(&self, now: Instant) -> u32 {
        let age = now.saturating_since(self.stored_at);
        u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
    }
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    /// Asked for since the hand last came by.
    used: bool,
    entry: Entry,
}

/// How long a cached answer can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// From the TTLs.
    pub(crate) fresh: Duration,
    /// Beyond that, in need.
    pub(crate) stale: Duration,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    hand: usize,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Cache {
    /// Makes an empty cache.
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            bytes: 0,
            entries_max: entries_max.min(u32::MAX as usize),
            bytes_max,
        }
    }

    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Octets held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the limits and keeps what fits (DN25).
    pub(crate) fn set_limits(&mut self, entries_max: usize, bytes_max: usize) {
        self.entries_max = entries_max.min(u32::MAX as usize);
        self.bytes_max = bytes_max;
        while self.len() > self.entries_max || self.bytes > self.bytes_max {
            self.evict();
        }
    }

    #[inline]
    fn find(&self, key: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        let index = self.table.find(hash, |index| self.entry_at(*index).key[..] == *key)?;
        Some(*index as usize)
    }

    fn slot_at(&self, index: u32) -> &Slot {
        self.slots[index as usize].as_ref().expect("the table names only filled slots")
    }

    fn entry_at(&self, index: u32) -> &Entry {
        &self.slot_at(index).entry
    }

    /// Returns the entry for `key`, be it fresh or stale, but not one past its last use.
    #[inline]
    pub(crate) fn lookup(&mut self, key: &[u8], now: Instant) -> Option<&mut Entry> {
        let index = self.find(key)?;
        let slot = self.slots[index].as_mut()?;
        if slot.entry.keep_until <= now {
            return None;
        }
        slot.used = true;
        Some(&mut slot.entry)
    }

    /// As [`Self::lookup`], only if fresh.
    #[inline]
    pub(crate) fn lookup_fresh(&mut self, key: &[u8], now: Instant) -> Option<&Entry> {
        self.lookup(key, now).filter(|entry| now < entry.fresh_until).map(|entry| &*entry)
    }

    /// Stores an answer in place of what was there; one that is larger than the whole cache is not
    /// stored.
    pub(crate) fn insert(
        &mut self,
        key: &[u8],
        kept: Kept,
        soa: Option<Box<[u8]>>,
        span: Span,
        now: Instant,
    ) {
        self.remove(key);
        let fresh_until = now + span.fresh;
        let entry = Entry {
            key: key.into(),
            kept,
            soa,
            stored_at: now,
            fresh_until,
            keep_until: fresh_until + span.stale,
            recheck_at: Instant::ZERO,
        };
        let bytes = entry.bytes();
        if self.entries_max == 0 || bytes > self.bytes_max {
            return;
        }
        while self.len() >= self.entries_max || self.bytes + bytes > self.bytes_max {
            self.evict();
        }
        self.bytes += bytes;
        let hash = self.hasher.hash_one(key);
        let slot = Some(Slot { hash, used: false, entry });
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                // At most `entries_max` slots, which fits.
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.table.insert_unique(hash, index, |index| {
            slots[*index as usize].as_ref().map_or(0, |slot| slot.hash)
        });
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(index) = self.find(key) {
            self.remove_slot(index);
        }
    }

    fn remove_slot(&mut self, index: usize) {
        let Some(slot) = self.slots[index].take() else { return };
        if let Ok(found) = self.table.find_entry(slot.hash, |other| *other as usize == index) {
            found.remove();
        }
        self.bytes -= slot.entry.bytes();
        self.free.push(index as u32);
    }

    /// Frees one entry; terminates because a sweep clears every mark.
    fn evict(&mut self) {
        while self.len() > 0 {
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            match &mut self.slots[self.hand] {
                Some(slot) if slot.used => slot.used = false,
                Some(_) => return self.remove_slot(self.hand),
                None => {}
            }
        }
    }

    /// Removes all entries whose key `matches` and returns how many.
    pub(crate) fn remove_where(&mut self, matches: impl Fn(&[u8]) -> bool) -> usize {
        let before = self.len();
        for index in 0..self.slots.len() {
            if self.slots[index].as_ref().is_some_and(|slot| matches(&slot.entry.key)) {
                self.remove_slot(index);
            }
        }
        before - self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { fresh: Duration::from_secs(10), stale: Duration::from_secs(5) };

    fn kept(len: usize) -> Kept {
        Kept { message: vec![0; len].into(), ttl_offsets: Box::new([]), question_end: 12 }
    }

    fn has(cache: &mut Cache, key: u8, now: Instant) -> bool {
        cache.lookup(&[key], now).is_some()
    }

    #[test]
    fn entry_is_fresh_then_stale_then_gone() {
        let mut cache = Cache::new(10, 10_000);
        cache.insert(b"k", kept(20), None, SPAN, Instant::ZERO);
        assert!(cache.lookup_fresh(b"k", Instant::from_millis(9_999)).is_some());
        assert!(cache.lookup_fresh(b"k", Instant::from_secs(10)).is_none());
        assert!(cache.lookup(b"k", Instant::from_millis(14_999)).is_some());
        assert!(cache.lookup(b"k", Instant::from_secs(15)).is_none());
    }

    #[test]
    fn full_cache_gives_up_what_nobody_asked_for() {
        let mut cache = Cache::new(3, 10_000);
        for key in 0..3 {
            cache.insert(&[key], kept(20), None, SPAN, Instant::ZERO);
        }
        assert!(has(&mut cache, 0, Instant::ZERO) && has(&mut cache, 2, Instant::ZERO));
        cache.insert(&[3], kept(20), None, SPAN, Instant::ZERO);
        assert!(!has(&mut cache, 1, Instant::ZERO));
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn octets_are_bounded_and_return_to_zero() {
        let mut cache = Cache::new(1_000, 2_000);
        for key in 0..100 {
            cache.insert(&[key], kept(300), None, SPAN, Instant::ZERO);
            assert!(cache.bytes() <= 2_000);
        }
        cache.insert(&[200], kept(3_000), None, SPAN, Instant::ZERO);
        assert!(!has(&mut cache, 200, Instant::ZERO));
        assert_eq!(cache.remove_where(|_| true), 4);
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }

    #[test]
    fn dn25_smaller_limits_keep_what_fits() {
        let mut cache = Cache::new(10, 10_000);
        for key in 0..10 {
            cache.insert(&[key], kept(20), None, SPAN, Instant::ZERO);
        }
        cache.set_limits(4, 10_000);
        assert_eq!(cache.len(), 4);
    }

    #[test]
    fn same_key_replaces() {
        let mut cache = Cache::new(10, 10_000);
        cache.insert(b"k", kept(20), None, SPAN, Instant::ZERO);
        let bytes = cache.bytes();
        cache.insert(b"k", kept(30), None, SPAN, Instant::from_secs(1));
        assert_eq!((cache.len(), cache.bytes()), (1, bytes + 10));
    }
}
