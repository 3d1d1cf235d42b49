//! The path of a packet, from a link's batch to the egress queues.
//!
//! [`Worker::receive`] takes a batch through the passes of `path`, which leave one
//! [`Verdict`] per packet; then it carries the verdicts out and counts each, in one place. Decisions depend on
//! the packet, the flow table, the neighbour table and an immutable [`Snapshot`]; on nothing else, and the time is
//! a parameter.
//!
//! | verdict | what follows |
//! |---|---|
//! | `Forward` | rewritten and addressed: [`Egress::enqueue`] |
//! | `Reply`, `Reset` | became an ICMP error or a TCP reset: back out, past the shaper |
//! | `Punt` | a copy goes to the control thread by [`Rings`] |
//! | `Resolve` | the same, untouched, to come back when the neighbour is known |
//! | `Hold` | a fragment: its bytes wait for the rest of their packet, which takes its last fragment's place |
//! | `Drop` | counted by reason |
//!
//! Limits: a batch is one link's; injected packets per batch, ICMP errors per second, buffers in the shapers and
//! in the rings are constants of their modules. Threads: a [`Worker`] and its [`Egress`] belong to one thread; the
//! tables, [`Counters`] and [`Rings`] are shared with others.
//!
//! Non-goals: no I/O, no clock, no policy of its own.

mod counters;
mod egress;
mod explain;
mod ids;
mod judge;
mod limit;
mod mss;
mod path;
mod probe;
mod reassembly;
mod rings;
mod rules;
mod size;
mod snapshot;
mod step;
mod unsolicited;
mod verdict;
mod worker;

pub use counters::{Counter, Counters, LINKS_MAX, LinkCounts};
pub use egress::{Egress, EgressLink, Shapers, Way};
pub use explain::{
    Decider, Explanation, FlowFate, Hop, Queue, Sight, Translated, explain, source_of,
};
pub use probe::{Probe, ProbeKind};
pub use rings::{Inject, Punted, RING_LEN, Rings};
pub use rules::{PolicyState, RuleBook, RuleId, RuleMatch, RuleOutcome, RulesInForce, Tally};
pub use snapshot::{
    LinkFacts, Runtime, Snapshot, WanAddress, configured_forwards, forwards_to, lan_id,
};
pub use step::Tag;
pub use verdict::Verdict;
pub use worker::Worker;
