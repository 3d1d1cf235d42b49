//! Development only: a house on the Internet in virtual time.
//!
//! A [`World`] holds one real router (a [`pipeline::Worker`] and a [`local_stack::LocalStack`], put together as `routerd`
//! does), hosts on its LANs, a provider, and remote hosts behind it. The hosts are smoltcp, so every checksum
//! that we write is verified by a stack that is not ours, and TCP retransmits, resolves and renews as it would.
//!
//! ```text
//!   Host ──┐                                ┌── Host (remote)
//!   Host ──┴ Cable ── Router ── Cable ── Provider
//!   Host ─── Cable ──┘   (loss, duplication, reordering, delay; seeded)
//! ```
//!
//! Nothing here reads a clock: [`World::run_for`] turns it from event to event. All randomness is from one seed,
//! so a failure repeats; tests name the seed when they fail.
//!
//! A router here is watched: [`World::violation`] says which frames left its WAN untranslated, or under an address that
//! it no longer had ([`WanWatch`]).
//!
//! [`model`] is the other half: what a translator must do, in two maps and without a care for speed. [`lockstep`]
//! drives it and the real packet path with the same operations, for tests and for the fuzzer.

pub mod bare;
mod cable;
pub mod fuzz;
mod host;
pub mod lockstep;
pub mod model;
mod provider;
mod router;
mod watch;
mod world;

pub use cable::{Cable, Faults};
pub use host::{Address, Host};
pub use local_stack::LinkCarrier;
pub use provider::Provider;
pub use router::Router;
pub use smoltcp::iface::SocketHandle;
pub use watch::{Stray, WanWatch};
pub use world::{HostId, World};

/// Virtual time zero is long before the start, so that nothing that was never seen looks recent.
pub const START: packet::Instant = packet::Instant::from_secs(100_000);

/// Wall time at [`START`].
const START_UNIX_SECS: u64 = 1_700_000_000;

/// Both clocks at an instant.
#[must_use]
pub fn now(instant: packet::Instant) -> dhcp::Now {
    let since_start = instant.saturating_since(START).as_secs();
    dhcp::Now::new(instant, START_UNIX_SECS + since_start)
}
