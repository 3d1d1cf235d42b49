//! Token bucket, CoDel and FQ-CoDel (RFC 8289, 8290); enqueue and dequeue take the time.
//!
//! A [`Shaper`] keeps the bottleneck's queue here, where it can be managed, instead of in a modem:
//!
//! ```text
//!  enqueue ─▶ QueueKey ─▶ one of 1024 queues ─▶ round robin ─▶ CoDel ─▶ TokenBucket ─▶ dequeue
//!                           │ too much in all:    new before old  │ late for long:
//!                           ▼ head of the fattest                 ▼ mark CE or drop
//! ```
//!
//! * [`TokenBucket`] is a virtual clock: each packet moves the time at which the line is free.
//!   There is no bucket to fill, so an idle line saves up no burst; a late wake-up catches up a few
//!   milliseconds at most.
//! * [`Overhead`] turns a frame's length into what it occupies on the operator's wire.
//! * [`FqCodel`] isolates flows and gives those that send little the next turn.
//! * [`CoDel`] holds each queue's delay near its target by signals that grow with the square root
//!   of their number.
//!
//! Non-goals: host fairness and tins (both halves of [`QueueKey`] are there for the former),
//! splitting super-packets (the caller does, before it queues them).
//!
//! Limits: [`QUEUES`] queues; bytes and packets by [`FqLimits`]. Memory is taken once: packets live
//! in a slab of slots linked by index, so neither enqueue nor dequeue allocates. A dropped buffer
//! is always handed back with its reason, so that the pool is conserved.
//!
//! Threads: a shaper belongs to one thread.

mod codel;
mod ecn;
mod fq_codel;
mod overhead;
mod shaper;
mod slab;
mod stats;
mod token_bucket;

pub use codel::{CoDel, CoDelConfig, Judgement};
pub use ecn::mark_ce;
pub use fq_codel::{FqCodel, FqConfig, FqLimits, QUANTUM, QUEUES, QueueKey};
pub use overhead::{Cells, Overhead};
pub use shaper::{Shaper, ShaperConfig};
pub use stats::{FqStats, SojournHistogram};
pub use token_bucket::{CATCH_UP_MAX, Rate, TokenBucket};
