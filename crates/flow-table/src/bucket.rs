//! One bucket: a header and seven slots in one cache line.
//!
//! ```text
//! slot word   | long tag 24 | state 2 | attempt 6 | entry 31, side 1 |
//! header      | passed 8 | short tag 8 of slot 6 | … | short tag 8 of slot 0 |
//! ```
//!
//! The slots are the truth, the header says where to look: a slot whose word is pending or final
//! has a short tag that is not 0, and `passed` counts the keys that wanted a slot here or before
//! and were put into a later bucket, so a search may end where it is 0. A tag may be older than the
//! word that a reader then finds: only the word says whether it may be followed.

use crate::{
    hash::Hash,
    memory::Zeroable,
    sync::{AtomicU64, Ordering},
};

/// Slots of a bucket.
pub(crate) const SLOTS: usize = 7;

/// Times that one call may publish one key: what the attempt field can tell apart.
pub(crate) const ATTEMPTS_MAX: u64 = 1 << 6;

/// What a slot holds. Only the thread that claimed a slot empties it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Free for anyone to claim.
    Empty,
    /// Taken, and without meaning: not announced yet, or lost against an equal key. Only the thread
    /// that took it changes it.
    Parked,
    /// Announced for a key that is not yet known to be the only one of its kind. Readers of keys
    /// may follow it, lookups must not. Anyone may move it on to `Final` or `Parked`.
    Pending,
    /// In the table: lookups find it. Only its owner takes it out.
    Final,
}

/// The value of a slot. Two claims never produce the same word within one pass of anybody, so a
/// compare-and-swap that expects a word changes that very claim or nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) fn pending(hash: Hash, link: Link, attempt: u64) -> Self {
        debug_assert!(attempt < ATTEMPTS_MAX);
        Self(hash.long_tag() << TAG_SHIFT | PENDING | attempt << 32 | u64::from(link.0))
    }

    #[inline(always)]
    pub(crate) fn state(self) -> State {
        match self.0 & STATE_MASK {
            PENDING => State::Pending,
            FINAL => State::Final,
            PARKED => State::Parked,
            _ => State::Empty,
        }
    }

    pub(crate) fn last(hash: Hash, link: Link) -> Self {
        Self::pending(hash, link, 0).finalised()
    }

    pub(crate) fn finalised(self) -> Self {
        Self(self.0 & !STATE_MASK | FINAL)
    }

    pub(crate) fn parked(self) -> Self {
        Self(self.0 & !STATE_MASK | PARKED)
    }

    #[inline(always)]
    pub(crate) fn link(self) -> Link {
        Link(self.0 as u32)
    }

    #[inline(always)]
    pub(crate) fn has_tag(self, hash: Hash) -> bool {
        self.0 >> TAG_SHIFT == hash.long_tag()
    }

    /// Whether this is a word of `hash` that lookups may follow, in one comparison.
    #[inline(always)]
    pub(crate) fn is_final(self, hash: Hash) -> bool {
        self.0 >> STATE_SHIFT == hash.long_tag() << 2 | FINAL >> STATE_SHIFT
    }
}

/// Names one side of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(u32);

impl Link {
    /// No side of any entry: the table has no entry of that number.
    pub(crate) const NONE: Self = Self(u32::MAX);

    #[inline(always)]
    pub(crate) fn new(entry: u32, side: usize) -> Self {
        Self(entry << 1 | side as u32 & 1)
    }

    /// The link of a side of the same entry; only the lowest bit of `side` counts.
    #[inline(always)]
    pub(crate) fn to(self, side: usize) -> Self {
        Self(self.0 & !1 | side as u32 & 1)
    }

    /// The number of the side among all sides.
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    #[inline(always)]
    pub(crate) fn entry(self) -> u32 {
        self.0 >> 1
    }

    #[inline(always)]
    pub(crate) fn side(self) -> usize {
        (self.0 & 1) as usize
    }
}

#[repr(C, align(64))]
pub(crate) struct Bucket {
    header: AtomicU64,
    pub(crate) slots: [AtomicU64; SLOTS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 64);

// SAFETY: a bucket is eight atomic integers; zero means that every slot is empty.
unsafe impl Zeroable for Bucket {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self { header: AtomicU64::new(0), slots: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Bucket {
    #[inline(always)]
    pub(crate) fn header(&self) -> Header {
        // Acquire pairs with the release in `announce` and `count_passed`: who sees a tag or a
        // count sees the slot and the counts that were written before it.
        Header(self.header.load(Ordering::Acquire))
    }

    #[inline(always)]
    pub(crate) fn word(&self, slot: usize) -> Word {
        // Acquire pairs with `announce` (and passes through whoever finalised it): who sees the
        // word sees the entry that it links to, and the tag.
        Word(self.slots[slot].load(Ordering::Acquire))
    }

    /// Claims an empty slot for `word`, parked; it still has to be announced.
    pub(crate) fn claim(&self, word: Word) -> Option<usize> {
        self.header().free().find(|slot| {
            // Acquire pairs with `vacate`, so that our announcement comes after the withdrawal of
            // the one before us; nobody follows a parked word, so there is nothing to release.
            self.slots[*slot]
                .compare_exchange(0, word.parked().0, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        })
    }

    /// Moves a slot on from `from` to `to`, or says what it holds instead.
    pub(crate) fn advance(&self, slot: usize, from: Word, to: Word) -> Result<(), Word> {
        // Release passes on what the claimant published to those who read our word; acquire on
        // failure because the caller follows the word that it finds.
        self.slots[slot]
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Word)
    }

    /// Shows the claimed slot to searches, and puts its word in play.
    pub(crate) fn announce(&self, slot: usize, hash: Hash, word: Word) {
        // The byte is 0: the claimant before us cleared it. Release pairs with `header`.
        self.header.fetch_or(hash.short_tag() << (8 * slot), Ordering::AcqRel);
        // Release publishes the entry, the tag and the counts to whoever sees the word in play: a
        // word that others could judge before its tag is set would be missed by their rivals.
        self.slots[slot].store(word.0, Ordering::Release);
    }

    /// A free slot, for the only one who writes.
    #[inline]
    pub(crate) fn free_slot(&self) -> Option<usize> {
        // Relaxed: nobody else has changed it.
        Header(self.header.load(Ordering::Relaxed)).free().next()
    }

    /// Puts a final word into a free slot, for the only one who writes.
    pub(crate) fn put(&self, slot: usize, hash: Hash, word: Word) {
        let header = self.header.load(Ordering::Relaxed);
        // Release, twice, for the same as in `announce`.
        self.header.store(header | hash.short_tag() << (8 * slot), Ordering::Release);
        self.slots[slot].store(word.0, Ordering::Release);
    }

    /// As [`Self::vacate`], for the only one who writes.
    pub(crate) fn clear(&self, slot: usize) {
        let header = self.header.load(Ordering::Relaxed);
        self.header.store(header & !(0xff << (8 * slot)), Ordering::Release);
        self.slots[slot].store(0, Ordering::Release);
    }

    /// Takes an announced slot out of searches and frees it. Only its claimant may.
    pub(crate) fn vacate(&self, slot: usize) {
        // AcqRel: the header is also a link in the chain from announcements to readers.
        self.header.fetch_and(!(0xff << (8 * slot)), Ordering::AcqRel);
        // Release pairs with `claim`.
        self.slots[slot].store(0, Ordering::Release);
    }

    /// Notes that a key was put behind this bucket.
    pub(crate) fn count_passed(&self) {
        self.update_passed(|passed| if passed == PASSED_STUCK { passed } else { passed + 1 });
    }

    /// Takes back one [`Self::count_passed`].
    ///
    /// A count that reached its ceiling no longer knows how many it counted and stays: searches
    /// through this bucket then always look further, which costs time and is never wrong.
    pub(crate) fn uncount_passed(&self) {
        self.update_passed(|passed| if passed == PASSED_STUCK { passed } else { passed - 1 });
    }

    fn update_passed(&self, change: impl Fn(u64) -> u64) {
        let mut header = self.header.load(Ordering::Relaxed);
        loop {
            let passed = change(header >> PASSED_SHIFT);
            let changed = header & !(0xff << PASSED_SHIFT) | passed << PASSED_SHIFT;
            // Release pairs with `header`; the value we start from is re-checked by the swap.
            match self.header.compare_exchange_weak(
                header,
                changed,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(found) => header = found,
            }
        }
    }
}

/// A value of a bucket's header.
#[derive(Clone, Copy)]
pub(crate) struct Header(u64);

impl Header {
    /// The slots whose short tag is that of `hash`.
    #[inline(always)]
    pub(crate) fn candidates(self, hash: Hash) -> Slots {
        Slots(zero_bytes(self.0 ^ (hash.short_tag() * LOW_BITS)))
    }

    /// The slots that are not announced.
    #[inline(always)]
    fn free(self) -> Slots {
        Slots(zero_bytes(self.0))
    }

    /// Whether keys were put behind this bucket.
    #[inline(always)]
    pub(crate) fn is_passed(self) -> bool {
        self.0 >> PASSED_SHIFT != 0
    }
}

/// Numbers of slots, as the top bits of their header bytes.
#[derive(Clone, Copy)]
pub(crate) struct Slots(u64);

impl Iterator for Slots {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize / 8;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

/// Marks the slot bytes that are 0: in all others the sum or the byte itself has the high bit.
///
/// The shorter formula also marks some bytes above a 0. An inserter would then see, by way of its
/// own tag, a word whose tag is already gone, lose to it, find nobody, and try again in vain.
#[inline(always)]
fn zero_bytes(x: u64) -> u64 {
    let low = HIGH_BITS - LOW_BITS;
    !(((x & low) + low) | x) & HIGH_BITS
}

const TAG_SHIFT: u32 = 40;
const STATE_SHIFT: u32 = 38;
const STATE_MASK: u64 = 3 << STATE_SHIFT;
const PENDING: u64 = 1 << STATE_SHIFT;
const FINAL: u64 = 2 << STATE_SHIFT;
const PARKED: u64 = 3 << STATE_SHIFT;

const PASSED_SHIFT: u32 = 56;
const PASSED_STUCK: u64 = 0xff;
/// The low and the high bit of each of the seven slot bytes.
const LOW_BITS: u64 = 0x0001_0101_0101_0101;
const HIGH_BITS: u64 = LOW_BITS << 7;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn hash(short: u64) -> Hash {
        Hash(0xdead_beef_1234_5600 | short)
    }

    #[test]
    fn a_word_keeps_its_parts_through_its_states() {
        let link = Link::new(0x7fff_fffe, 1);
        let word = Word::pending(hash(9), link, 63);
        for (word, state) in [
            (word, State::Pending),
            (word.finalised(), State::Final),
            (word.parked(), State::Parked),
            (Word(0), State::Empty),
        ] {
            assert_eq!(word.state(), state);
            assert_eq!(word.is_final(hash(9)), state == State::Final);
            if state != State::Empty {
                assert_eq!(word.link(), link);
                assert!(word.has_tag(hash(9)));
            }
        }
        assert!(!word.finalised().is_final(Hash(0)));
        assert_eq!((link.entry(), link.side()), (0x7fff_fffe, 1));
    }

    #[test]
    fn header_shows_every_announced_slot_and_hides_vacated_ones() {
        let bucket = Bucket { header: AtomicU64::new(0), slots: Default::default() };
        for n in 0..SLOTS {
            let word = Word::pending(hash(0x40 + n as u64), Link::new(n as u32, 0), 0);
            assert_eq!(bucket.claim(word), Some(n));
            bucket.announce(n, hash(0x40 + n as u64), word);
        }
        assert_eq!(bucket.claim(Word(1)), None);
        for n in 0..SLOTS {
            assert!(bucket.header().candidates(hash(0x40 + n as u64)).eq([n]));
        }
        assert_eq!(bucket.header().candidates(hash(0x80)).count(), 0);
        bucket.vacate(3);
        assert_eq!(bucket.header().candidates(hash(0x43)).count(), 0);
        assert_eq!(bucket.claim(Word(1)), Some(3));
    }

    #[test]
    fn passed_count_sticks_at_its_ceiling() {
        let bucket = Bucket { header: AtomicU64::new(0), slots: Default::default() };
        bucket.announce(6, hash(0xff), Word(1));
        bucket.count_passed();
        assert!(bucket.header().is_passed());
        bucket.uncount_passed();
        assert!(!bucket.header().is_passed());
        for _ in 0..300 {
            bucket.count_passed();
        }
        for _ in 0..300 {
            bucket.uncount_passed();
        }
        assert!(bucket.header().is_passed());
        assert_eq!(bucket.header().candidates(hash(0xff)).collect::<Vec<_>>(), [6]);
    }
}
