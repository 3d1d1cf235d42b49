//! The packet path as a whole: frames in, frames out, and every checksum, buffer and count accounted for.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod frames;
mod rig;

mod addresses;
mod allocations;
mod conformance;
mod egress;
mod errors;
mod exempt;
mod explain;
mod fragments;
mod hairpin;
mod handshakes;
mod icmp;
mod identification;
mod inbound;
mod lanes;
mod local;
mod offloads;
mod other_protocols;
mod outbound;
mod oversize;
mod policy;
mod random;
mod reload;
mod strangers;
mod unsolicited;
mod workers;
