//! Insert-if-absent of one key, without a lock.
//!
//! Where a table has one owner, nobody competes, and a key is put in at once: see [`Table::put`]. Otherwise
//! a key is published in three moves: claim an empty slot, announce it in the headers and make its
//! word `Pending`, and have it *judged*: search for equal keys, and make the word `Final` only if
//! there is none. Anybody may judge any pending word, so nobody waits for a stopped thread:
//!
//! - an equal key that is final: the judged word is parked, it has lost;
//! - an equal key that is pending at an earlier spot: that one is judged first;
//! - an equal key that is pending at a later spot: it is parked, and the search goes on;
//! - the search ends: the judged word is made final.
//!
//! Why two equal keys are never final at once: every judge sees the word pending, passes a
//! sequentially consistent fence, and only then searches. Of the two judges that made two words
//! final, let A be the one whose fence came first. B's search then sees A's word at least pending.
//! If A's spot is earlier, B turns to it, and afterwards finds it final and parks its own. If it is
//! later, B parks it unless it finds it final, and then parks its own. Either way one of the
//! final compare-and-swaps fails. A word is never the same twice while anybody looks on (a slot's
//! reuse waits for the epoch, and a new attempt has a new number), so no swap hits a later claim.

use std::ops::ControlFlow;

use crate::{
    bucket::{ATTEMPTS_MAX, Link, State, Word},
    hash::{Hash, Key},
    owner::InsertError,
    sync::{Ordering, fence},
    table::{Spot, Table, home},
};

impl<K: Key, V: Send + Sync + 'static> Table<K, V> {
    /// Publishes one key of an entry unless an equal key is there.
    ///
    /// # Safety
    /// The entry that `link` names holds `key` on that side and the caller owns it; the caller
    /// holds a pass of this domain for all of `'a`, has not published this link under it before, and found no equal
    /// key under it.
    pub(crate) unsafe fn publish<'a>(
        &'a self,
        hash: Hash,
        key: &K,
        link: Link,
    ) -> Result<(), InsertError<'a, K, V>> {
        if self.has_one_owner() {
            // Our caller has looked, and nobody else can have put an equal key in since.
            return if self.put(hash, link) { Ok(()) } else { Err(InsertError::BucketFull) };
        }
        for attempt in 0..ATTEMPTS_MAX {
            let word = Word::pending(hash, link, attempt);
            let Some(spot) = self.claim(hash, word) else { break };
            // SAFETY: handed on.
            if unsafe { self.settle(hash, key, spot, word) } {
                return Ok(());
            }
            self.vacate(hash, spot);
            // SAFETY: handed on.
            if let Some(hit) = unsafe { self.find(hash, key) } {
                return Err(InsertError::Exists { side: link.side(), hit });
            }
            // The winner is gone again already: the key is free once more.
        }
        Err(InsertError::BucketFull)
    }

    /// Takes a final key of the caller's out of the table.
    ///
    /// # Panics
    /// If the key's hash is not what it was at its insertion.
    pub(crate) fn unlink(&self, hash: Hash, link: Link) {
        let spot = self.search(hash, |spot, word| {
            // An empty word would pass for link 0 of a key whose tag is 0.
            if word.is_final(hash) && word.link() == link {
                ControlFlow::Break(spot)
            } else {
                ControlFlow::Continue(())
            }
        });
        // Not found, it would still lead readers to the slot when that is used again.
        let spot = spot.expect("a final key stays where its hash, which never changes, put it");
        self.vacate(hash, spot);
    }

    /// Puts `word` into the first free slot, counts it in the buckets before, and announces it.
    fn claim(&self, hash: Hash, word: Word) -> Option<Spot> {
        let mut bucket = hash.home(self.buckets.len());
        for distance in 0..self.probe_limit() {
            if let Some(slot) = self.buckets[bucket].claim(word) {
                let spot = Spot { distance, bucket, slot };
                self.for_each_before(hash, spot, |bucket| self.buckets[bucket].count_passed());
                self.buckets[bucket].announce(slot, hash, word);
                return Some(spot);
            }
            bucket = self.next_bucket(bucket);
        }
        None
    }

    /// Puts a key into the first free slot, final at once: what is left of the three moves where nobody competes. No
    /// instruction in it waits for another processor.
    #[inline]
    fn put(&self, hash: Hash, link: Link) -> bool {
        let bucket = home(&self.buckets, hash);
        match bucket.free_slot() {
            Some(slot) => {
                bucket.put(slot, hash, Word::last(hash, link));
                true
            }
            None => self.put_further(hash, link),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_further(&self, hash: Hash, link: Link) -> bool {
        let mut bucket = hash.home(self.buckets.len());
        for distance in 0..self.probe_limit() {
            if let Some(slot) = self.buckets[bucket].free_slot() {
                let spot = Spot { distance, bucket, slot };
                self.for_each_before(hash, spot, |bucket| self.buckets[bucket].count_passed());
                self.buckets[bucket].put(slot, hash, Word::last(hash, link));
                return true;
            }
            bucket = self.next_bucket(bucket);
        }
        false
    }

    /// Undoes `claim` or `put`.
    fn vacate(&self, hash: Hash, spot: Spot) {
        if self.has_one_owner() {
            self.buckets[spot.bucket].clear(spot.slot);
        } else {
            self.buckets[spot.bucket].vacate(spot.slot);
        }
        self.for_each_before(hash, spot, |bucket| self.buckets[bucket].uncount_passed());
    }

    fn for_each_before(&self, hash: Hash, spot: Spot, f: impl Fn(usize)) {
        let mut bucket = hash.home(self.buckets.len());
        for _ in 0..spot.distance {
            f(bucket);
            bucket = self.next_bucket(bucket);
        }
    }

    /// Drives the caller's own claim to its end; says whether it is final.
    ///
    /// # Safety
    /// The caller holds a pass of this domain.
    unsafe fn settle(&self, hash: Hash, key: &K, spot: Spot, word: Word) -> bool {
        loop {
            match self.buckets[spot.bucket].word(spot.slot).state() {
                State::Final => return true,
                State::Parked | State::Empty => return false,
                // SAFETY: handed on. Each round ends one pending word: ours, or one before it.
                State::Pending => unsafe { self.judge(hash, key, spot, word) },
            }
        }
    }

    /// Ends the claim at `spot`, or an equal one before it.
    ///
    /// # Safety
    /// The caller holds a pass of this domain, and has seen `word` pending at `spot` under it.
    unsafe fn judge(&self, hash: Hash, key: &K, mut spot: Spot, mut word: Word) {
        loop {
            // The fence of the proof above: after seeing the word, before searching.
            fence(Ordering::SeqCst);
            let found = self.search(hash, |other_spot, other| {
                match other.state() {
                    State::Empty | State::Parked => ControlFlow::Continue(()),
                    // SAFETY: a word in play, from a bucket, under the caller's pass.
                    _ if !other.has_tag(hash)
                        || other.link() == word.link()
                        || unsafe { self.key_of(other.link()) } != *key =>
                    {
                        ControlFlow::Continue(())
                    }
                    State::Final => ControlFlow::Break(Rival::Final),
                    State::Pending if other_spot.precedes(&spot) => {
                        ControlFlow::Break(Rival::Earlier(other_spot, other))
                    }
                    State::Pending => {
                        let rival = &self.buckets[other_spot.bucket];
                        match rival.advance(other_spot.slot, other, other.parked()) {
                            Ok(()) => ControlFlow::Continue(()),
                            Err(_) => ControlFlow::Break(Rival::Changed),
                        }
                    }
                }
            });
            let ended = match found {
                None => word.finalised(),
                Some(Rival::Final) => word.parked(),
                Some(Rival::Changed) => continue,
                Some(Rival::Earlier(earlier, pending)) => {
                    (spot, word) = (earlier, pending);
                    continue;
                }
            };
            // Failure means that another judge, or its owner, was faster.
            let _ = self.buckets[spot.bucket].advance(spot.slot, word, ended);
            return;
        }
    }
}

/// An equal key that a judge has to deal with.
enum Rival {
    Final,
    Earlier(Spot, Word),
    /// Moved on while the judge looked at it.
    Changed,
}
