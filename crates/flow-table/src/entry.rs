//! Entries, and hits on them.

use std::{fmt, mem::MaybeUninit};

use crate::{bucket::Link, memory::Zeroable, sync::UnsafeCell};

/// Names an entry for as long as it is in the table; later the name goes to another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub(crate) u32);

impl EntryId {
    /// The number of the entry, below the table's capacity.
    #[must_use]
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One side of an entry, in cache lines of its own: one line if key and value fit.
#[repr(C, align(64))]
struct Side<K, V> {
    key: K,
    value: V,
}

/// Both sides of an entry; uninitialised until its slot is first used, never again after.
pub(crate) struct Entry<K, V> {
    sides: [UnsafeCell<MaybeUninit<Side<K, V>>>; 2],
}

// SAFETY: an entry starts uninitialised, so any bytes will do.
unsafe impl<K, V> Zeroable for Entry<K, V> {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self { sides: [(); 2].map(|()| UnsafeCell::new(MaybeUninit::uninit())) }
    }
}

// SAFETY: an entry owns keys and values, like a tuple would.
unsafe impl<K: Send, V: Send> Send for Entry<K, V> {}
// SAFETY: through a shared entry anyone may read keys and share values; an owner may also put in new
// values and drop old ones that other threads made, hence `Send`. Who may write when is the contract
// of the unsafe methods below.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Entry<K, V> {}

impl<K: Copy, V> Entry<K, V> {
    /// A line per side, if key and value fit into one.
    pub(crate) const FITS: () = assert!(
        size_of::<K>() + size_of::<V>() > 64 || size_of::<Side<K, V>>() == 64,
        "padding between key and value costs a second line"
    );

    /// Copies the key of a side.
    ///
    /// # Safety
    /// The entry is initialised and nobody writes it: the caller found its link in a word in play or
    /// its live bit set, under a pass that it still holds.
    #[inline(always)]
    pub(crate) unsafe fn key(&self, side: usize) -> K {
        // SAFETY: initialised and not written, by contract.
        self.sides[side & 1].with(|line| unsafe { (*line.cast::<Side<K, V>>()).key })
    }

    /// Borrows the value of a side.
    ///
    /// # Safety
    /// As for [`Self::key`], for as long as the reference is used.
    #[inline(always)]
    unsafe fn value(&self, side: usize) -> &V {
        // SAFETY: initialised and not written, by contract.
        self.sides[side & 1].with(|line| unsafe { &(*line.cast::<Side<K, V>>()).value })
    }

    /// Initialises both sides.
    ///
    /// # Safety
    /// Nobody else accesses the entry, and it holds no values (they would leak).
    pub(crate) unsafe fn write(&self, keys: [K; 2], values: [V; 2]) {
        for ((line, key), value) in self.sides.iter().zip(keys).zip(values) {
            // SAFETY: the caller has the entry for itself.
            line.with_mut(|line| unsafe { line.cast::<Side<K, V>>().write(Side { key, value }) });
        }
    }

    /// Overwrites both sides and returns the values that were there.
    ///
    /// # Safety
    /// Nobody else accesses the entry, and it is initialised.
    pub(crate) unsafe fn replace(&self, keys: [K; 2], values: [V; 2]) -> [V; 2] {
        let [value0, value1] = values;
        let swap = |side: usize, value: V| {
            let new = Side { key: keys[side], value };
            // SAFETY: the caller has the initialised entry for itself.
            self.sides[side]
                .with_mut(|line| unsafe { line.cast::<Side<K, V>>().replace(new) })
                .value
        };
        [swap(0, value0), swap(1, value1)]
    }

    /// A side's line, to prefetch.
    #[inline(always)]
    pub(crate) fn line(&self, side: usize) -> &impl Sized {
        &self.sides[side & 1]
    }
}

impl<K, V> Entry<K, V> {
    /// Drops both values.
    ///
    /// # Safety
    /// Nobody accesses the entry now or later, and it is initialised.
    pub(crate) unsafe fn drop_values(&self) {
        for line in &self.sides {
            // SAFETY: by contract; keys are `Copy` and need no drop.
            line.with_mut(|line| unsafe { line.cast::<Side<K, V>>().drop_in_place() });
        }
    }
}

/// A key that was found, and the entry that it leads to, valid as long as the pass it was found
/// under. The entry may have been removed since.
pub struct Hit<'a, K, V> {
    entry: &'a Entry<K, V>,
    link: Link,
}

impl<'a, K: Copy, V> Hit<'a, K, V> {
    /// Makes a hit on one side of an entry.
    ///
    /// # Safety
    /// `entry` is the one that `link` names; it is initialised and not written for all of `'a`: the
    /// link was found in a final word or the live bit set, under a pass borrowed for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn new(entry: &'a Entry<K, V>, link: Link) -> Self {
        Self { entry, link }
    }

    /// The entry's name.
    #[must_use]
    #[inline]
    pub fn id(&self) -> EntryId {
        EntryId(self.link.entry())
    }

    /// Which of the entry's two keys was found: 0 or 1.
    #[must_use]
    #[inline]
    pub fn side(&self) -> usize {
        self.link.side()
    }

    /// The key that was found.
    #[must_use]
    #[inline]
    pub fn key(&self) -> K {
        self.key_at(self.side())
    }

    /// The value of the side that was found.
    #[must_use]
    #[inline]
    pub fn value(&self) -> &'a V {
        self.value_at(self.side())
    }

    /// The entry's other key; another cache line.
    #[must_use]
    #[inline]
    pub fn other_key(&self) -> K {
        self.key_at(self.side() ^ 1)
    }

    /// The value of the other side; another cache line.
    #[must_use]
    #[inline]
    pub fn other(&self) -> &'a V {
        self.value_at(self.side() ^ 1)
    }

    /// The key of a side; only the lowest bit of `side` counts.
    #[must_use]
    #[inline]
    pub fn key_at(&self, side: usize) -> K {
        // SAFETY: the contract of `new`.
        unsafe { self.entry.key(side) }
    }

    /// The value of a side; only the lowest bit of `side` counts.
    #[must_use]
    #[inline]
    pub fn value_at(&self, side: usize) -> &'a V {
        // SAFETY: the contract of `new`.
        unsafe { self.entry.value(side) }
    }
}

impl<K, V> Clone for Hit<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Hit<'_, K, V> {}

impl<K: Copy + fmt::Debug, V> fmt::Debug for Hit<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hit")
            .field("id", &self.id())
            .field("side", &self.side())
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}
