//! The table as everyone sees it: lookups.

use std::{
    fmt,
    ops::ControlFlow,
    sync::{Arc, Weak},
};

use crossbeam::utils::CachePadded;

use crate::{
    bucket::{Bucket, Link, SLOTS, Word},
    entry::{Entry, EntryId, Hit, Side},
    epoch::{Domain, Pass},
    hash::{Hash, Hasher, Key},
    memory::{Zeroable, Zeroed, prefetch, prefetch_at},
    owner::Owner,
    sync::{AtomicU64, AtomicUsize, Ordering},
};

/// Entries that a slot word has bits for.
pub const ENTRIES_MAX: usize = (1 << 31) - 1;

/// Buckets that one key may be put into, its home first: the bound of every search.
///
/// With the buckets three quarters full (a full table fills no more) two million random keys went no
/// further than 27.
pub const PROBE_BUCKETS_MAX: usize = 64;

/// Keys per group of lookups in [`Table::lookup_batch`]: more lines in flight than a core can
/// track, so that it never waits, and few enough for the fetched lines to be in its first cache
/// still.
pub const GROUP_MAX: usize = 64;

/// A fixed number of entries, each found by either of two keys.
///
/// Anyone looks up; each entry is inserted, expired and removed by the [`Owner`] of its slot.
pub struct Table<K, V> {
    pub(crate) buckets: Zeroed<Bucket>,
    pub(crate) entries: Zeroed<Entry<K, V>>,
    /// A bit per entry: set while it is in the table.
    pub(crate) live: Zeroed<AtomicU64>,
    pub(crate) owned: Box<[CachePadded<Owned>]>,
    /// Keeps the domain's address from being used again, for the comparison in `check`.
    domain: Weak<Domain>,
    seed: u64,
}

/// What the table knows of an owner's range; written by that owner alone.
pub(crate) struct Owned {
    pub(crate) first: usize,
    /// Entries in the table.
    pub(crate) live: AtomicUsize,
    /// Entries from `first` on that hold values, live or not.
    pub(crate) initialised: AtomicUsize,
}

// SAFETY: an atomic integer is valid when zero and needs no drop.
unsafe impl Zeroable for AtomicU64 {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self::new(0)
    }
}

impl<K: Key, V: Send + Sync + 'static> Table<K, V> {
    /// Makes a table of `capacity` entries, split into fixed ranges of slots among `owners`.
    ///
    /// The table's memory is returned when both its handles and the domain are gone. With its
    /// owners it takes 29 bytes per entry besides the two sides, untouched until used.
    ///
    /// # Panics
    /// Unless 0 < `owners` ≤ `capacity` ≤ [`ENTRIES_MAX`].
    #[must_use]
    pub fn new(
        domain: &Arc<Domain>,
        capacity: usize,
        owners: usize,
        seed: u64,
    ) -> (Arc<Self>, Vec<Owner<K, V>>) {
        const { Side::<K, V>::FITS }
        assert!(0 < owners && owners <= capacity && capacity <= ENTRIES_MAX);
        let ranges = (0..owners).map(|n| capacity * n / owners..capacity * (n + 1) / owners);
        let table = Arc::new(Self {
            buckets: Zeroed::new((2 * capacity * LOAD.1).div_ceil(SLOTS * LOAD.0)),
            entries: Zeroed::new(capacity),
            live: Zeroed::new(capacity.div_ceil(64)),
            owned: ranges
                .clone()
                .map(|range| {
                    CachePadded::new(Owned {
                        first: range.start,
                        live: AtomicUsize::new(0),
                        initialised: AtomicUsize::new(0),
                    })
                })
                .collect(),
            domain: Arc::downgrade(domain),
            seed,
        });
        domain.keep(table.clone());
        let owners =
            ranges.enumerate().map(|(n, range)| Owner::new(Arc::clone(&table), n, range)).collect();
        (table, owners)
    }

    /// Finds a key.
    #[must_use]
    #[inline]
    pub fn lookup<'a>(&'a self, pass: &'a Pass<'_>, key: &K) -> Option<Hit<'a, K, V>> {
        self.lookup_hashed(pass, self.hash(key), key)
    }

    /// What hashes keys for this table, for a caller who hashes many.
    #[must_use]
    #[inline]
    pub fn hasher(&self) -> Hasher {
        Hasher { seed: self.seed }
    }

    /// Step 1 of a lookup in steps: hashes a key for this table.
    #[must_use]
    #[inline]
    pub fn hash(&self, key: &K) -> Hash {
        self.hasher().hash(key)
    }

    /// Ends step 1: starts to fetch the key's home bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: Hash) {
        prefetch(home(&self.buckets, hash));
    }

    /// Step 2: reads the bucket and starts to fetch the side of the entry that the key seems to be.
    #[inline]
    pub fn prefetch_entry(&self, hash: Hash) {
        prefetch_at(self.sides().wrapping_add(self.likely(&self.buckets, hash).index()));
    }

    /// Step 3: finds a key whose hash is known.
    #[must_use]
    #[inline]
    pub fn lookup_hashed<'a>(
        &'a self,
        pass: &'a Pass<'_>,
        hash: Hash,
        key: &K,
    ) -> Option<Hit<'a, K, V>> {
        self.check(pass);
        // SAFETY: the pass is of this domain and borrowed for 'a.
        unsafe { self.find(hash, key) }
    }

    /// Steps 2 and 3 for callers who keep what step 2 finds, of up to [`GROUP_MAX`] lookups.
    #[must_use]
    #[inline]
    pub fn lookups<'a>(&'a self, pass: &'a Pass<'_>) -> Lookups<'a, K, V> {
        self.check(pass);
        Lookups {
            table: self,
            buckets: &self.buckets,
            sides: self.sides(),
            links: [Link::NONE; GROUP_MAX],
        }
    }

    /// Finds many keys, fetching lines of all before looking at the first.
    ///
    /// # Panics
    /// If there are not as many results as keys.
    #[inline]
    pub fn lookup_batch<'a>(
        &'a self,
        pass: &'a Pass<'_>,
        keys: &[K],
        out: &mut [Option<Hit<'a, K, V>>],
    ) {
        assert_eq!(keys.len(), out.len(), "a result for each key");
        for (keys, out) in keys.chunks(GROUP_MAX).zip(out.chunks_mut(GROUP_MAX)) {
            let mut hashes = [Hash::NONE; GROUP_MAX];
            for (hash, key) in hashes.iter_mut().zip(keys) {
                *hash = self.hash(key);
                self.prefetch_bucket(*hash);
            }
            let mut lookups = self.lookups(pass);
            for (n, hash) in hashes[..keys.len()].iter().enumerate() {
                lookups.fetch(n, *hash);
            }
            for (n, (key, out)) in keys.iter().zip(out).enumerate() {
                *out = lookups.confirm(n, hashes[n], key);
            }
        }
    }

    /// Finds an entry by name: side 0, whatever its keys are by now.
    #[must_use]
    pub fn by_id<'a>(&'a self, pass: &'a Pass<'_>, id: EntryId) -> Option<Hit<'a, K, V>> {
        self.check(pass);
        // Acquire pairs with the release in `Owner::insert`: the entry was written before.
        let bits = self.live.get(id.index() / 64)?.load(Ordering::Acquire);
        // SAFETY: its live bit is set, under a pass of this domain that is borrowed for 'a.
        (bits >> (id.0 % 64) & 1 == 1)
            .then(|| unsafe { Hit::new(self.sides(), Link::new(id.0, 0)) })
    }

    /// Calls `f` with side 0 of every entry that stays in the table during the call, and of some
    /// that come and go. Takes time in proportion to the capacity: not for workers.
    pub fn for_each<'a>(&'a self, pass: &'a Pass<'_>, mut f: impl FnMut(Hit<'a, K, V>)) {
        self.check(pass);
        for (n, bits) in self.live.iter().enumerate() {
            // Acquire: as in `by_id`.
            let mut bits = bits.load(Ordering::Acquire);
            while bits != 0 {
                let index = n * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                // SAFETY: as in `by_id`.
                f(unsafe { Hit::new(self.sides(), Link::new(index as u32, 0)) });
            }
        }
    }

    /// Entries in the table, at about this time.
    #[must_use]
    pub fn len(&self) -> usize {
        // Relaxed: a count for people, no access depends on it.
        self.owned.iter().map(|owned| owned.live.load(Ordering::Relaxed)).sum()
    }

    /// Whether no entry is in the table, at about this time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that the table has room for, those of all owners together.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Where the buckets and the entries are, for an edge that asks the system for large pages.
    #[must_use]
    pub fn memory(&self) -> [std::ops::Range<usize>; 2] {
        let buckets = self.buckets.as_ptr_range();
        let entries = self.entries.as_ptr_range();
        [buckets.start.addr()..buckets.end.addr(), entries.start.addr()..entries.end.addr()]
    }

    /// # Panics
    /// If the pass is not of the table's domain, and so protects nothing here.
    #[inline(always)]
    pub(crate) fn check(&self, pass: &Pass<'_>) {
        assert!(std::ptr::eq(self.domain.as_ptr(), pass.domain()), "the pass is of another domain");
    }

    /// Visits the announced slots that may hold a key of this hash, in the one order that everyone
    /// visits them in, and ends where no further key of this home can be.
    #[inline(always)]
    pub(crate) fn search<R>(
        &self,
        hash: Hash,
        mut visit: impl FnMut(Spot, Word) -> ControlFlow<R>,
    ) -> Option<R> {
        let mut index = hash.home(self.buckets.len());
        for distance in 0..self.probe_limit() {
            let bucket = &self.buckets[index];
            let header = bucket.header();
            for slot in header.candidates(hash) {
                let spot = Spot { distance, bucket: index, slot };
                if let ControlFlow::Break(result) = visit(spot, bucket.word(slot)) {
                    return Some(result);
                }
            }
            if !header.is_passed() {
                return None;
            }
            index = self.next_bucket(index);
        }
        None
    }

    /// Whether one look at its home says that a key of this hash is not in the table.
    #[inline(always)]
    pub(crate) fn is_surely_absent(&self, hash: Hash) -> bool {
        let header = home(&self.buckets, hash).header();
        header.candidates(hash).next().is_none() && !header.is_passed()
    }

    /// Finds a final key.
    ///
    /// # Safety
    /// The caller holds a pass of this domain for all of `'a`.
    #[inline(always)]
    pub(crate) unsafe fn find<'a>(&'a self, hash: Hash, key: &K) -> Option<Hit<'a, K, V>> {
        self.search(hash, |_, word| {
            let link = word.link();
            // SAFETY: a final word from a bucket, and a pass of this domain for 'a.
            if word.is_final(hash) && unsafe { self.key_of(link) } == *key {
                // SAFETY: as above.
                return ControlFlow::Break(unsafe { self.hit(link) });
            }
            ControlFlow::Continue(())
        })
    }

    /// The key that a link leads to.
    ///
    /// # Safety
    /// The caller found the link in a word in play, pending or final, under a pass of this domain
    /// that it still holds. (The entry of a parked word may be in the middle of being written.)
    #[inline(always)]
    pub(crate) unsafe fn key_of(&self, link: Link) -> K {
        debug_assert!(link.index() < 2 * self.entries.len());
        // SAFETY: links in play are those of entries of this table; the rest is handed on.
        unsafe { self.entries.as_flattened().get_unchecked(link.index()).key() }
    }

    /// A hit on what a link leads to.
    ///
    /// # Safety
    /// The caller found the link in a final word under a pass of this domain that it holds for
    /// `'a`.
    #[inline(always)]
    pub(crate) unsafe fn hit<'a>(&'a self, link: Link) -> Hit<'a, K, V> {
        debug_assert!(link.index() < 2 * self.entries.len());
        // SAFETY: links in play are those of entries of this table; the rest is handed on.
        unsafe { Hit::new(self.sides(), link) }
    }

    /// Whether one owner writes and nobody else.
    #[inline]
    pub(crate) fn has_one_owner(&self) -> bool {
        self.owned.len() == 1
    }

    /// Marks an entry as in the table or not; for its owner.
    #[inline]
    pub(crate) fn set_live(&self, index: usize, is_live: bool) {
        let (bits, bit) = (&self.live[index / 64], 1 << (index % 64));
        // Release pairs with the acquire of `by_id` and `for_each`; taking a mark away needs none, a stamp orders it.
        if self.has_one_owner() {
            let before = bits.load(Ordering::Relaxed);
            bits.store(if is_live { before | bit } else { before & !bit }, Ordering::Release);
        } else if is_live {
            bits.fetch_or(bit, Ordering::Release);
        } else {
            bits.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    pub(crate) fn probe_limit(&self) -> usize {
        PROBE_BUCKETS_MAX.min(self.buckets.len())
    }

    #[inline(always)]
    pub(crate) fn next_bucket(&self, index: usize) -> usize {
        if index + 1 == self.buckets.len() { 0 } else { index + 1 }
    }

    /// The first final word with the tags of this hash: almost surely the key's, if it has one.
    #[inline(always)]
    fn likely(&self, buckets: &[Bucket], hash: Hash) -> Link {
        likely_at_home(buckets, hash).unwrap_or_else(|| self.likely_further(hash))
    }

    /// The one in ten that the first look into the home bucket does not settle.
    #[cold]
    #[inline(never)]
    fn likely_further(&self, hash: Hash) -> Link {
        self.search(hash, |_, word| {
            if word.is_final(hash) {
                ControlFlow::Break(word.link())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap_or(Link::NONE)
    }

    /// For a walk over all entries that has come to `id`: asks for one that it will come to later.
    #[inline(always)]
    pub(crate) fn prefetch_ahead(&self, id: EntryId) {
        let first = self.sides().wrapping_add(2 * (id.index() + AHEAD));
        prefetch_at(first);
        prefetch_at(first.wrapping_add(1));
    }

    /// The first side. Others may only be named, not read, by way of it: [`Link::NONE`] names one that is not there.
    #[inline(always)]
    fn sides(&self) -> *const Side<K, V> {
        self.entries.as_ptr().cast()
    }
}

impl<K, V> Drop for Table<K, V> {
    fn drop(&mut self) {
        if !std::mem::needs_drop::<V>() {
            return;
        }
        for owned in &self.owned {
            // Relaxed: the table is ours alone now, by way of its `Arc`.
            let initialised = owned.initialised.load(Ordering::Relaxed);
            let entries = &self.entries[owned.first..owned.first + initialised];
            for side in entries.as_flattened() {
                // SAFETY: initialised as its owner counted; hits borrow the table or a pass, whose
                // domain keeps the table, so there are none.
                unsafe { side.drop_value() };
            }
        }
    }
}

impl<K: Key, V: Send + Sync + 'static> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// Lookups under way: what step 2 of each found.
pub struct Lookups<'a, K, V> {
    table: &'a Table<K, V>,
    /// The table's, at hand.
    buckets: &'a [Bucket],
    sides: *const Side<K, V>,
    links: [Link; GROUP_MAX],
}

impl<'a, K: Key, V: Send + Sync + 'static> Lookups<'a, K, V> {
    /// Step 2 of the `index`th lookup: as [`Table::prefetch_entry`], and step 3 need not search again.
    #[inline(always)]
    pub fn fetch(&mut self, index: usize, hash: Hash) {
        let link = self.table.likely(self.buckets, hash);
        prefetch_at(self.sides.wrapping_add(link.index()));
        self.links[index % GROUP_MAX] = link;
    }

    /// Step 3: compares keys. `key` must be the one that was hashed, or a present key may not be found; nor is one
    /// whose bucket was empty in step 2.
    #[must_use]
    #[inline(always)]
    pub fn confirm(&self, index: usize, hash: Hash, key: &K) -> Option<Hit<'a, K, V>> {
        let link = self.links[index % GROUP_MAX];
        if link == Link::NONE {
            return None;
        }
        // SAFETY: the link was found in a final word of this table under the pass that `lookups` checked, borrowed for
        // 'a; `sides` is the first of the table's.
        let hit = unsafe { Hit::new(self.sides, link) };
        if hit.key() == *key {
            return Some(hit);
        }
        // SAFETY: the same pass.
        unsafe { self.table.find(hash, key) }
    }
}

/// Entries that a walk over all of them prefetches ahead: more than it looks at between two batches of packets.
const AHEAD: usize = 16;

#[inline(always)]
pub(crate) fn home(buckets: &[Bucket], hash: Hash) -> &Bucket {
    let index = hash.home(buckets.len());
    debug_assert!(index < buckets.len());
    // SAFETY: 32 bits of hash times the number of buckets, divided by 2^32, is less than it.
    unsafe { buckets.get_unchecked(index) }
}

/// What the home bucket alone says of [`Table::likely`]; `None` if it does not settle it.
#[inline(always)]
fn likely_at_home(buckets: &[Bucket], hash: Hash) -> Option<Link> {
    let bucket = home(buckets, hash);
    let header = bucket.header();
    match header.candidates(hash).next() {
        Some(slot) => {
            let word = bucket.word(slot);
            word.is_final(hash).then(|| word.link())
        }
        None if !header.is_passed() => Some(Link::NONE),
        None => None,
    }
}

/// Where a search found a word.
#[derive(Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) distance: usize,
    pub(crate) bucket: usize,
    pub(crate) slot: usize,
}

impl Spot {
    /// Whether searches for the same hash come here first.
    pub(crate) fn precedes(&self, other: &Self) -> bool {
        (self.distance, self.slot) < (other.distance, other.slot)
    }
}

/// Share of the bucket slots that a full table fills. At 3/4 a hit is in its home bucket 93 times
/// in 100 and buckets cost 24.4 bytes per entry; at 9/10 it would be 85 times and 20.3 bytes.
const LOAD: (usize, usize) = (3, 4);
