//! The packet path as a whole: frames in, frames out, and every checksum, buffer and count accounted for.

mod frames;
mod rig;

mod egress;
mod errors;
mod hairpin;
mod inbound;
mod lanes;
mod local;
mod offloads;
mod outbound;
mod random;
mod reload;
