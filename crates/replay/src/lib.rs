//! Captures through the packet path, without links, threads or clocks.
//!
//! Each capture meets a fresh router: one [`pipeline::Worker`] on its own tables, an egress, and an ARP machine whose
//! neighbours all answer at once. Every frame arrives on the side that was asked for, addressed to the router's
//! station; time is that of the capture, and nothing else varies, so two replays of one file are equal.
//!
//! ```text
//!   file ─► frames ─► batches ─► Worker::receive ─► Egress ─► --out
//!                        ▲            │ neighbour missing
//!                        └── again ◄──┴─ ArpMachine ◄─► every neighbour
//! ```
//!
//! Without a configuration one is made from what the capture holds: the LAN is where most of its packets come
//! from, or the WAN where most go to. What the router itself would answer (punts) ends here.
//!
//! A replay accounts for every frame: [`Tally::violation`] says if one was lost, counted twice or kept.

mod capture;
mod cast;
mod census;
mod files;
mod record;
mod rewrite;
mod router;
mod run;
mod seal;
mod stage;
mod tally;

pub use capture::Checksums;
pub use cast::Inside;
pub use files::captures;
pub use run::{Arrival, Clock, Job, Pace, Replay, SEED_DEFAULT, Side};
pub use tally::{Cost, Run, Tally};
