//! Fixed-capacity lock-free table of sessions: wait-free lookup, insert-if-absent, two keys to one
//! entry.
//!
//! # Theory of operation
//!
//! A [`Table`] has a fixed number of entries. An entry has two sides, each with a key and a value
//! in cache lines of its own; a [`Hit`] on either key leads to both. Values are only ever shared:
//! what changes in them is atomic.
//!
//! ```text
//! buckets   [header|slot × 7] [header|slot × 7] …     one line each, three quarters full at most
//!                      │ tag, state, entry × 2 + side
//! entries   [key 0, value 0][key 1, value 1] …        one line per side, if they fit
//!           └── owner 0 ──┘ └── owner 1 ──┘
//! ```
//!
//! **Lookup** is wait-free and touches two lines: the home bucket (its header names the slots to
//! look at) and the side. A key whose home was full is in one of the next buckets, at most
//! [`PROBE_BUCKETS_MAX`] − 1 further; the headers say where to stop, so a search reads 1.1 buckets
//! on average. [`Table::lookup_batch`] fetches the lines of many keys at once; a pipeline with more to
//! do between the steps takes them itself: `hash` and `prefetch_bucket`, then [`Lookups::fetch`] (or
//! `prefetch_entry`), then [`Lookups::confirm`] (or `lookup_hashed`).
//!
//! **Writing** is done by [`Owner`]s, each the only writer of a fixed range of entries. Insertion
//! is lock-free and, of any number of racing insertions of equal keys, one wins (`publish`).
//!
//! **Reuse**: readers go online with [`Participant::pass`] once per batch and get plain references;
//! a removed slot rests until every participant that was online has ended its pass (`epoch`). So a
//! participant that stays in a pass stops reuse (never lookups or removals): owners then run out of
//! slots and refuse new entries. No slot is used again within the pass that removed it.
//!
//! # Limits
//!
//! [`PARTICIPANTS_MAX`] participants per domain, [`ENTRIES_MAX`] entries per table. Nothing is
//! allocated after construction. The memory of a table is untouched zero pages until entries are
//! used. Asking the system for large pages is left to an edge crate ([`Table::memory`] says where).
//!
//! # Non-goals
//!
//! No growth, no exclusive access to values, no timers: expiry is the owner's [`Owner::scan`].

mod bucket;
mod entry;
mod epoch;
mod hash;
mod memory;
mod owner;
mod publish;
mod sync;
mod table;

pub use entry::{EntryId, Hit};
pub use epoch::{Domain, PARTICIPANTS_MAX, Participant, ParticipantsExhausted, Pass};
pub use hash::{Hash, Hasher, Key, mix};
pub use owner::{InsertError, Keep, Owner};
pub use table::{ENTRIES_MAX, GROUP_MAX, Lookups, PROBE_BUCKETS_MAX, Table};
