//! DHCP client and server machines (RFC 2131), leases; speaks frames, not sockets.
//!
//! [`client::Client`] keeps the WAN's lease, [`server::Server`] hands out the addresses of one LAN. Both are
//! sans-IO: frames, ARP sightings and time go in through `handle_*`; frames, events and records come out
//! through `poll_*`. Neither knows a socket, a file or a clock.
//!
//! ```text
//!            handle_frame / handle_arp / handle_timeout(now)
//!                              │
//!                    Client │ Server
//!                              │
//!   poll_store ─► stable ─► poll_transmit ─► link      poll_event ─► whoever it concerns
//!                 storage
//! ```
//!
//! **Stored before sent.** `poll_transmit` yields nothing while a record waits in `poll_store`, so
//! a caller that makes each record durable before it polls on cannot acknowledge a lease that
//! a power cut would take back (DS14, RFC 2131 §2.1). If storing fails, it calls
//! `discard_transmits`: the peers ask again.
//!
//! **Two clocks.** Deadlines are monotonic; records carry wall time and the length of the lease, and what is
//! left of a stored lease is never taken for longer than that length (DS15). Both clocks travel
//! together in [`Now`].
//!
//! **Buffers.** `poll_transmit` writes one whole Ethernet frame into a buffer of at least
//! [`frame::FRAME_MAX`] bytes. Messages are built on the heap: a lease is not the packet path.
//!
//! Limits: every list option is cut at 8 addresses and 64 routes; the server's limits are with
//! [`server::Server`]. Not spoken yet: relays (giaddr), INFORM as a client, FORCERENEW, authentication.

pub mod client;
pub mod frame;
mod lease;
mod message;
mod outbox;
pub mod server;
mod time;

pub use lease::{Lease, LeaseSettings, Route, StoredLease};
pub use message::RawOption;
pub use time::Now;
