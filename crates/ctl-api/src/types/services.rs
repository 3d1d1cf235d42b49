//! Drops, DNS and configuration.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Packets dropped for one reason on one link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Drop {
    /// Stable name ([`packet::DropReason::name`]).
    pub reason: String,
    /// The reason in one sentence.
    pub sentence: String,
    /// The link that the packets came in on; `null` where none can be told.
    pub link: Option<String>,
    /// Packets dropped silently.
    pub count: u64,
    /// Packets answered by an ICMP error or a reset for the reason.
    #[serde(default)]
    pub answered: u64,
}

/// A server that the DNS forwarder asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upstream {
    /// Its address.
    pub address: Ipv4Addr,
    /// Queries sent, retries included.
    pub queries: u64,
    /// Queries that it did not answer in time.
    pub timeouts: u64,
    /// Smoothed time to answer in microseconds; `null` before the first answer.
    pub latency_us: Option<u64>,
}

/// Counters of the DNS forwarder.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Dns {
    /// Queries from hosts.
    pub queries: u64,
    /// Answered from the cache.
    pub hits: u64,
    /// Answered from local names.
    pub local: u64,
    /// Answered from the cache after its time, because no upstream answered.
    pub stale: u64,
    /// Answered with SERVFAIL.
    pub failures: u64,
    /// Refused for what they asked or who asked.
    pub refused: u64,
    /// Answers in the cache.
    pub cache_entries: u64,
    /// Most answers in the cache.
    pub cache_entries_max: u64,
    /// Queries that wait for an upstream.
    pub in_flight: u64,
    /// Servers asked, in order of preference.
    pub upstreams: Vec<Upstream>,
}

/// What is wrong at one place of a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigProblem {
    /// Line, from 1; `null` where the fault has no place.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// The verdict on a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigReport {
    /// Whether it would be accepted.
    pub valid: bool,
    /// Why not.
    pub problems: Vec<ConfigProblem>,
}

/// The configuration after a reload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// Its number since the start of `routerd`; unchanged if nothing in the file changed.
    pub generation: u64,
    /// What changed, one line each.
    pub changes: Vec<String>,
}
