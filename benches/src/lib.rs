//! A router in memory and traffic for it: what the benchmarks and `cargo xtask bench memory` drive.

mod rig;
mod traffic;

pub use rig::{BATCH, Rig, Scale};
pub use traffic::{Mix, Random, Traffic, Way};
