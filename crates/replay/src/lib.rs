//! Captures through the packet path, without links or threads.
//!
//! Each capture meets a fresh router: one [`pipeline::Worker`] on its own tables, an egress, and an ARP machine whose
//! neighbours all answer at once. Time is that of the capture, and nothing else varies but the seed, so two replays of
//! one file with one seed are equal: the same counts, the same bytes in `--out`. What is not equal comes from outside
//! and changes neither: a [`Clock`] that measures the packet path, a [`Pace`] that waits.
//!
//! ```text
//!                                 pace ▼   ┌─ clock ─┐
//!   file ─► frames ─► stage ─► batches ─► Worker::receive ─► Egress ─► --out
//!                       ▲         ▲            │ neighbour missing
//!     external endpoint │         └── again ◄──┴─ ArpMachine ◄─► every neighbour
//!                       └─────────────────────────┘
//! ```
//!
//! How frames come is an [`Arrival`]:
//!
//! - *All on one side*, with the addresses that they have, addressed to the router's station. Without a configuration one
//!   is made from what the capture holds: the LAN is where most of its packets come from, or the WAN where most go to.
//! - *Rewritten*: every host gets a part (module `cast`), inside on the first LAN or outside beyond the WAN, and each
//!   frame arrives where its sender plays. Inside hosts get addresses of the LAN in the order in which they appear;
//!   outside ones keep theirs unless a router could not send there. Who is outside speaks to the external endpoint that the
//!   router chose (module `stage`), so both directions of a conversation pass the same flow. Checksums are changed by
//!   difference: wrong ones stay wrong, unless [`Checksums::Fixed`] makes them right when the file is read.
//!
//! What the router itself would answer (punts) ends here. What leaves is written as it does, and what does not as it
//! came, each with its verdict; frames that a shaper drops are only counted, for its queue has their only copy. Frames that
//! can't be made into Ethernet frames are skipped and counted.
//!
//! A replay accounts for every frame: [`Tally::violation`] says if one was lost, counted twice or kept.
//!
//! Non-goals: addresses in payloads are not rewritten, and TCP does not react: what the router answers or drops, the
//! hosts of the capture never learn. Limits: a capture is in memory as a whole; as many inside hosts as the LAN has
//! addresses, the frames of further ones are skipped.

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
