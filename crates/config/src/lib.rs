//! What the operator asked for: TOML in, validated Config out, every default in one place.

pub mod defaults;
mod model;
mod name;

pub use model::*;
