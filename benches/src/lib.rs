//! A router in memory and traffic for it: what the benchmarks and `cargo xtask bench memory` drive.

pub mod maps;
mod rig;
mod site;
mod traffic;

pub use rig::{BATCH, Rig, Scale};
pub use site::{Effort, Site, median, resident};
pub use traffic::{HOSTS, Mix, Random, Traffic, Way};
