//! What the operator asked for: TOML in, validated [`Config`] out, every default in one place.
//!
//! ```text
//! text ── toml ──▶ tables that know their place ── read ──▶ Config
//!                        │                           │
//!                        └──────── Problems ◀────────┘ ──▶ LoadError
//! ```
//!
//! Reading never stops at the first thing that is wrong. Each table is read by one function in
//! `read`, which asks for its keys by name, turns each value into a type and notes a [`Fault`]
//! where it cannot; the keys that nobody asked for are the unknown ones. Then come the checks
//! between tables (subnets, names, forwards), each with both places of a contradiction. A file with
//! any fault yields no `Config`: nothing is half-applied. This is why the tables are not read by
//! serde, which stops at the first error and forgets which keys exist.
//!
//! Every default and limit is a constant in [`defaults`] with its source. [`print_defaults`] writes
//! them out as a file that loads.
//!
//! Non-goals: what only the running router knows. Whether a link exists, and whether a WAN lease
//! overlaps a LAN ([`Config::overlap_with_lan`] answers that), is checked by `routerd`. [`load`] is
//! the only place that touches the operating system, and reads one file.

pub mod defaults;
mod document;
mod error;
mod fault;
mod load;
mod model;
mod name;
mod printed;
mod read;
mod suggest;
mod value;

pub use error::{LoadError, Problem, ReportStyle};
pub use fault::Fault;
pub use load::{load, parse};
pub use model::*;
pub use printed::print_defaults;
