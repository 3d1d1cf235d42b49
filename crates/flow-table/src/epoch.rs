//! Quiescent-state epochs: when may memory that readers may hold be used again?
//!
//! The domain counts epochs. A participant that opens a [`Pass`] writes down the epoch it saw; when
//! it drops the pass it is offline. What was unlinked while the count stood at `s` is out of reach
//! once every participant is offline or has written down more than `s`.
//!
//! The proof rests on three sequentially consistent fences: F1 in [`Domain::stamp`], between the
//! unlinking and the reading of `s`; F2 in [`Participant::pass`], between the writing down and the
//! reader's first look at a table; F3 in [`Domain::oldest_online`], before the looking at the
//! participants.
//! - A reader that wrote down more than `s` read a count that was raised after F1's owner read `s`;
//!   so F1 precedes F2, and the reader sees the unlinking.
//! - A participant that F3's owner saw offline had not written down its epoch, or the owner would
//!   have seen it; so F3 precedes F2, and the reader sees the unlinking.
//! - What the reader did in earlier passes happened before: it left each with a release store.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU64, AtomicUsize, Ordering, fence};

/// Participants that a domain has room for: 32 workers, and as many control threads and observers.
/// It bounds the lines an owner reads once per pass while slots rest.
#[cfg(not(loom))]
pub const PARTICIPANTS_MAX: usize = 64;
#[cfg(loom)]
#[allow(missing_docs, reason = "the documented one is the other")]
pub const PARTICIPANTS_MAX: usize = 3;

/// The threads that share one or more tables, and the count by which they agree on reuse.
///
/// A domain also keeps the memory of its tables until it is dropped itself, so that a hit is valid
/// for as long as its pass, whatever happens to the handles of the table.
pub struct Domain {
    epoch: CachePadded<AtomicU64>,
    /// Places below this have been taken at least once.
    places_used: AtomicUsize,
    /// `VACANT`, `OFFLINE`, or the epoch that an online participant wrote down.
    places: Box<[CachePadded<AtomicU64>]>,
    tables: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl Domain {
    /// Makes a domain without participants.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            epoch: CachePadded::new(AtomicU64::new(EPOCH_FIRST)),
            places_used: AtomicUsize::new(0),
            places: (0..PARTICIPANTS_MAX)
                .map(|_| CachePadded::new(AtomicU64::new(VACANT)))
                .collect(),
            tables: Mutex::new(Vec::new()),
        })
    }

    /// Registers a participant, offline.
    ///
    /// # Errors
    /// [`ParticipantsExhausted`] when [`PARTICIPANTS_MAX`] are registered.
    pub fn participant(self: &Arc<Self>) -> Result<Participant, ParticipantsExhausted> {
        for (place, state) in self.places.iter().enumerate() {
            // Acquire pairs with the release of the participant that left the place: what it did
            // happens before what we do, so that its release is not lost under our stores.
            if state.compare_exchange(VACANT, OFFLINE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                // Relaxed: F2 orders it before our first look at a table, as it does the state.
                self.places_used.fetch_max(place + 1, Ordering::Relaxed);
                return Ok(Participant { domain: Arc::clone(self), place, serial: 0 });
            }
        }
        Err(ParticipantsExhausted)
    }

    /// Keeps `table` alive for as long as the domain.
    pub(crate) fn keep(&self, table: Arc<dyn Any + Send + Sync>) {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).push(table);
    }

    /// The stamp for what the caller has unlinked before.
    fn stamp(&self) -> u64 {
        fence(Ordering::SeqCst); // F1
        self.epoch.load(Ordering::Relaxed)
    }

    /// The smallest epoch that an online participant wrote down; `u64::MAX` if none is online.
    ///
    /// What was stamped lower is out of everybody's reach.
    pub(crate) fn oldest_online(&self) -> u64 {
        fence(Ordering::SeqCst); // F3
        let used = self.places_used.load(Ordering::Relaxed);
        self.places[..used]
            .iter()
            // Acquire pairs with the release stores in `pass` and in its drop: what the
            // participant read in earlier passes happens before our overwriting it.
            .map(|place| match place.load(Ordering::Acquire) {
                VACANT | OFFLINE => u64::MAX,
                epoch => epoch,
            })
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Makes sure that passes opened from now on write down more than `stamp`.
    fn advance_past(&self, stamp: u64) {
        // Relaxed: F1 and F2 order it. Failure means that somebody else did it.
        let _ = self.epoch.compare_exchange(stamp, stamp + 1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").finish_non_exhaustive()
    }
}

/// A domain has no place left for a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the epoch domain has no room for more than {PARTICIPANTS_MAX} participants")]
pub struct ParticipantsExhausted;

/// One thread's membership in a [`Domain`]; dropping it frees the place.
pub struct Participant {
    domain: Arc<Domain>,
    place: usize,
    serial: u64,
}

impl Participant {
    /// Goes online until the pass is dropped: one pass per batch.
    ///
    /// While a pass is open no slot removed since is reused by anyone. Never block while holding
    /// it.
    pub fn pass(&mut self) -> Pass<'_> {
        self.serial += 1;
        let epoch = self.domain.epoch.load(Ordering::Relaxed);
        // Release: an owner that reads this (and no more the epoch or OFFLINE of our last pass)
        // may reuse what that pass looked at.
        self.domain.places[self.place].store(epoch, Ordering::Release);
        fence(Ordering::SeqCst); // F2
        Pass {
            domain: &self.domain,
            place: self.place,
            serial: self.serial,
            stamp: Cell::new(0),
            thread_bound: PhantomData,
        }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        // Release: as for OFFLINE. A forgotten pass left its epoch here; no reference survives it.
        self.domain.places[self.place].store(VACANT, Ordering::Release);
    }
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Proof of being between two batch boundaries: references obtained under it stay valid until it
/// is dropped. Holding it means online, dropping it quiescent.
pub struct Pass<'p> {
    domain: &'p Arc<Domain>,
    place: usize,
    serial: u64,
    /// The newest stamp given under this pass; 0 if none was.
    stamp: Cell<u64>,
    /// A pass is a statement about the thread that opened it.
    thread_bound: PhantomData<*const ()>,
}

impl Pass<'_> {
    /// Counts the passes of this participant.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    #[inline(always)]
    pub(crate) fn domain(&self) -> &Domain {
        self.domain
    }

    /// The stamp for what the caller has unlinked before. When the pass ends the count moves on, so
    /// that a slot may be used again as soon as all are in later passes.
    pub(crate) fn stamp(&self) -> u64 {
        let stamp = self.domain.stamp();
        self.stamp.set(stamp);
        stamp
    }
}

impl Drop for Pass<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the acquire in `oldest_online`: our reads happen before the reuse.
        self.domain.places[self.place].store(OFFLINE, Ordering::Release);
        if self.stamp.get() != 0 {
            self.domain.advance_past(self.stamp.get());
        }
    }
}

impl fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// Nobody has the place.
const VACANT: u64 = 0;
/// The participant holds no pass.
const OFFLINE: u64 = 1;
const EPOCH_FIRST: u64 = 2;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn what_is_stamped_during_a_pass_rests_until_the_next_pass() {
        let domain = Domain::new();
        let mut participant = domain.participant().unwrap();
        let pass = participant.pass();
        let stamp = pass.stamp();
        assert!(domain.oldest_online() <= stamp);
        drop(pass);
        assert_eq!(domain.oldest_online(), u64::MAX);
        let _pass = participant.pass();
        assert!(domain.oldest_online() > stamp);
    }

    #[test]
    fn places_run_out_and_come_back() {
        let domain = Domain::new();
        let mut taken: Vec<_> =
            (0..PARTICIPANTS_MAX).map(|_| domain.participant().unwrap()).collect();
        assert_eq!(domain.participant().unwrap_err(), ParticipantsExhausted);
        taken.pop();
        assert!(domain.participant().is_ok());
    }
}
