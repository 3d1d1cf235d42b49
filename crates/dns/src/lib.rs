//! DNS forwarder: cache, in-flight table, retries, TCP fallback, local names.
//!
//! # Purpose
//!
//! Clients on the LANs ask the router; what the router does not know it asks the servers of the
//! WAN lease or of the configuration. A message is forwarded as it is: of a query only the id and
//! the advertised payload size change, of an answer only the id and the case of the question (RFC
//! 5625). A cached answer is the answer's octets and the offsets of its TTLs, so a hit is a copy
//! and a few patched words.
//!
//! ```text
//!  handle_query ─┬─ local names, special-use zones ──────────┐
//!                ├─ cache ───────────────────────────────────┤
//!                └─ in-flight table ── poll_upstream          ├─ poll_reply
//!                        │                  │                 │
//!                        │     (sockets of the caller)        │
//!                        └── handle_upstream ── checks ───────┘
//! ```
//!
//! # States of a forwarded query
//!
//! `waiting for UDP` → answered | `waiting for TCP` (truncated, or too many false answers) | again
//! with another port, id and if possible server (timeout, SERVFAIL) | failed (no attempts or time
//! left). At 1.8 s its clients get a stale answer if there is one, and the query goes on without
//! them (RFC 8767). Each attempt has a fresh random port and id; when it ends, the port is given
//! back, so a late or forged answer finds nobody.
//!
//! # Limits
//!
//! [`OUTSTANDING_MAX`] queries wait for servers, [`OUTSTANDING_PER_CLIENT_MAX`] of one client; each
//! lives at most [`QUERY_LIFETIME`]. The cache is bounded in entries and octets by configuration,
//! hosts by [`HOSTS_MAX`]. A message has at most [`MESSAGE_MAX`] octets.
//!
//! # Non-goals
//!
//! No recursion, no validation (DO, AD and CD pass, DN29), no zone transfers, no sockets, no clock.
//! One thread.
//!
//! # Contract with the caller
//!
//! Sans-IO: one `handle_*`, then drain [`Forwarder::poll_reply`], [`Forwarder::poll_upstream`] and
//! [`Forwarder::poll_port_released`] until they return nothing. The caller binds one UDP socket to
//! each source port it is told, keeps one TCP connection to each server it is told (framing by
//! [`Framer`] and [`frame`], opened on demand, closed when idle) and reports what they yield.

mod answer;
mod cache;
mod config;
mod deliver;
mod exchange;
mod forwarder;
mod framing;
mod inflight;
mod local;
mod query;
mod rebinding;
mod reply;
mod special;
mod stats;
mod upstream;
mod wire;

pub use hickory_proto::rr::Name;

pub use config::{
    CACHE_BYTES_DEFAULT, CACHE_ENTRIES_DEFAULT, ForwarderConfig, PAYLOAD_ADVERTISED, PAYLOAD_MAX,
    PORT, REBINDING_ALLOW_DEFAULT, RebindingFilter, STALE_KEEP_DEFAULT, UPSTREAMS_MAX,
};
pub use exchange::QUERY_LIFETIME;
pub use forwarder::{
    Client, Disposition, Forwarder, Reply, Transport, UpstreamOrigin, UpstreamRequest,
};
pub use framing::{FRAMER_BYTES_MAX, Framer, frame};
pub use inflight::{OUTSTANDING_MAX, OUTSTANDING_PER_CLIENT_MAX};
pub use local::{HOSTS_MAX, HostError};
pub use stats::Stats;
pub use upstream::UpstreamStats;
pub use wire::MESSAGE_MAX;
