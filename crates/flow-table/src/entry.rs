//! Entries, and hits on them.

use std::{fmt, marker::PhantomData, mem::MaybeUninit};

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

/// What a side holds, in cache lines of its own: one line if key and value fit, and half of one if they fit that.
#[repr(C, align(32))]
struct Content<K, V> {
    key: K,
    value: V,
}

/// One side of an entry; uninitialised until its slot is first used, never again after.
#[repr(transparent)]
pub(crate) struct Side<K, V>(UnsafeCell<MaybeUninit<Content<K, V>>>);

/// The two sides lie next to each other: a link's number is the number of its side in the table.
pub(crate) type Entry<K, V> = [Side<K, V>; 2];

// SAFETY: a side starts uninitialised, so any bytes will do.
unsafe impl<K, V> Zeroable for Entry<K, V> {
    #[cfg(loom)]
    fn zeroed() -> Self {
        [(); 2].map(|()| Side(UnsafeCell::new(MaybeUninit::uninit())))
    }
}

// SAFETY: a side owns a key and a value, like a tuple would.
unsafe impl<K: Send, V: Send> Send for Side<K, V> {}
// SAFETY: through a shared side anyone may read the key and share the value; an owner may also put
// in a new value and drop the old one that another thread made, hence `Send`. Who may write when is
// the contract of the unsafe methods below.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Side<K, V> {}

impl<K, V> Side<K, V> {
    /// A line, if key and value fit into one.
    pub(crate) const FITS: () = assert!(
        size_of::<K>() + size_of::<V>() > 64 || size_of::<Content<K, V>>() <= 64,
        "padding between key and value costs a second line"
    );

    /// Copies the key.
    ///
    /// # Safety
    /// The side is initialised and nobody writes it: the caller found its link in a word in play or
    /// its live bit set, under a pass that it still holds.
    #[inline(always)]
    pub(crate) unsafe fn key(&self) -> K
    where
        K: Copy,
    {
        // SAFETY: initialised and not written, by contract.
        self.0.with(|content| unsafe { (*content.cast::<Content<K, V>>()).key })
    }

    /// Borrows the value.
    ///
    /// # Safety
    /// As for [`Self::key`], for as long as the reference is used.
    #[inline(always)]
    unsafe fn value(&self) -> &V {
        // SAFETY: initialised and not written, by contract.
        self.0.with(|content| unsafe { &(*content.cast::<Content<K, V>>()).value })
    }

    /// Initialises the side.
    ///
    /// # Safety
    /// Nobody else accesses the side, and it holds no value (which would leak).
    pub(crate) unsafe fn write(&self, key: K, value: V) {
        let content = Content { key, value };
        // SAFETY: the caller has the side for itself.
        self.0.with_mut(|place| unsafe { place.cast::<Content<K, V>>().write(content) });
    }

    /// Overwrites the side and returns the value that was there.
    ///
    /// # Safety
    /// Nobody else accesses the side, and it is initialised.
    pub(crate) unsafe fn replace(&self, key: K, value: V) -> V {
        let content = Content { key, value };
        // SAFETY: the caller has the initialised side for itself.
        self.0.with_mut(|place| unsafe { place.cast::<Content<K, V>>().replace(content) }).value
    }

    /// Drops the value.
    ///
    /// # Safety
    /// Nobody accesses the side now or later, and it is initialised.
    pub(crate) unsafe fn drop_value(&self) {
        // SAFETY: by contract.
        self.0.with_mut(|place| unsafe {
            (&raw mut (*place.cast::<Content<K, V>>()).value).drop_in_place()
        });
    }
}

/// A key that was found, and the entry that it leads to, valid as long as the pass it was found
/// under. The entry may have been removed since.
pub struct Hit<'a, K, V> {
    /// The first of all sides of the table.
    sides: *const Side<K, V>,
    link: Link,
    pass: PhantomData<&'a Side<K, V>>,
}

// SAFETY: a hit is a reference to the sides of an entry.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Hit<'_, K, V> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Hit<'_, K, V> {}

impl<'a, K: Copy, V> Hit<'a, K, V> {
    /// Makes a hit on a side.
    ///
    /// # Safety
    /// `sides` is the first of all sides of a table, and `link` that of one whose entry is initialised and not written for
    /// all of `'a`: the link was found in a final word or the live bit set, under a pass borrowed for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn new(sides: *const Side<K, V>, link: Link) -> Self {
        Self { sides, link, pass: PhantomData }
    }

    #[inline(always)]
    fn at(&self, link: Link) -> &'a Side<K, V> {
        // SAFETY: the contract of `new`; both sides of an entry are sides of the table.
        unsafe { &*self.sides.add(link.index()) }
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
        // SAFETY: the contract of `new`.
        unsafe { self.at(self.link).key() }
    }

    /// The value of the side that was found.
    #[must_use]
    #[inline]
    pub fn value(&self) -> &'a V {
        // SAFETY: the contract of `new`.
        unsafe { self.at(self.link).value() }
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
        unsafe { self.at(self.link.to(side)).key() }
    }

    /// The value of a side; only the lowest bit of `side` counts.
    #[must_use]
    #[inline]
    pub fn value_at(&self, side: usize) -> &'a V {
        // SAFETY: the contract of `new`.
        unsafe { self.at(self.link.to(side)).value() }
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
