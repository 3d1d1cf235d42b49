//! What the tests in `tests/tests` share.
//!
//! `house` boots the router in a house of namespaces with real peers; those tests need root and Linux,
//! and each can run alone: `cargo test -p tests --test dns`.

#[cfg(target_os = "linux")]
pub mod house;
#[cfg(target_os = "linux")]
pub mod raw;
