//! The packet path as a whole: frames in, frames out, and every checksum, buffer and count accounted for.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod frames;
mod rig;

mod addresses;
mod allocations;
mod egress;
mod errors;
mod exempt;
mod hairpin;
mod handshakes;
mod inbound;
mod lanes;
mod local;
mod offloads;
mod outbound;
mod random;
mod reload;
mod unsolicited;
