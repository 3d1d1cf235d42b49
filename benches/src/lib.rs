//! A router in memory and traffic for it: what the benchmarks and `cargo xtask bench memory` drive.

mod figures;
pub mod maps;
mod rig;
mod site;
mod traffic;

pub use figures::{Figures, arguments};
pub use rig::{BATCH, Rig, Scale};
pub use site::{Effort, Site, median, resident};
pub use traffic::{HOSTS, Mix, Random, Traffic, Way};
