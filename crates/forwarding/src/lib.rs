//! Longest-prefix routes, the neighbour cache with its ARP machine, next hop to egress and MAC.
//!
//! A worker that misses the flow table asks [`Routes`] for the egress link and the next hop, then
//! [`Neighbours`] for the next hop's station. It keeps the [`NeighbourRef`] in the flow entry, so
//! an established flow never looks up again: [`Neighbours::resolve`] is one load and notices by a
//! version number that the neighbour has left. A station that changes its MAC address keeps its
//! reference.
//!
//! ```text
//!   workers:  lookup, resolve, mark used ──┐
//!                                          ├── Neighbours (atomics only)
//!   control:  ArpMachine ─ NeighbourWriter ┘
//!                │ handle_arp, handle_unresolved, handle_timeout
//!                └ poll_transmit, poll_released, poll_event
//! ```
//!
//! The life of a neighbour:
//!
//! ```text
//!              answer                30 s, used              no answer ×3
//!  Incomplete ────────▶ Reachable ───────────────▶ Probing ──────────────▶ gone
//!   │ no answer ×3         │ ▲ ▲        answer        │ ▲
//!   ▼                 30 s │ │ └──────────────────────┘ │ used
//!  gone, frames            ▼ │ any ARP message from it  │
//!  come back Failed      Stale ─────────────────────────┘
//!                          │ 5 min unused
//!                          ▼ gone
//! ```
//!
//! Non-goals: no routing protocol, no proxy ARP, no static ARP entries, no IPv6 neighbour discovery
//! (the names leave room for it). Only addresses of the link that a request arrived on are answered
//! for.
//!
//! Limits: [`NEIGHBOURS_MAX`] neighbours, [`INCOMPLETE_MAX`] resolutions at a time, [`WAITING_MAX`]
//! frames waiting for them, [`WATCHES_MAX`] addresses watched for DHCP. What exceeds a limit is
//! dropped and counted in [`ArpStats`].
//!
//! Threads: any number of readers of [`Routes`] and [`Neighbours`]; one [`ArpMachine`], in the
//! control thread, owns the only [`NeighbourWriter`].

mod arp;
mod neighbours;
mod routes;

pub use arp::{
    ARP_FRAME_LEN, ArpMachine, ArpMessage, ArpOperation, ArpStats, Event, FRAMES_PER_NEIGHBOUR_MAX,
    INCOMPLETE_MAX, LinkConfig, NeighbourInfo, NeighbourState, Released, Resolution,
    WAITING_BYTES_MAX, WAITING_FRAME_LEN_MAX, WAITING_MAX, WATCHES_MAX, WaitingFrame,
};
pub use neighbours::{NEIGHBOURS_MAX, NeighbourRef, NeighbourWriter, Neighbours, NoRoom};
pub use routes::{NextHop, Route, Routes};
