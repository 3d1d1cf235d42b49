//! Counters for the operator.

/// What happened since start. Each query is counted once in `queries`, and once in what became of
/// it: a query that was answered here is a hit, a local one, a refused one or none of these if it
/// was forwarded and so a miss.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Messages that came to the service.
    pub queries: u64,
    /// Met with silence: from the WAN (DN12), too short, a response, or asked twice at once.
    pub ignored: u64,
    /// Answered FORMERR or NOTIMP.
    pub malformed: u64,
    /// Answered from local names and special-use zones.
    pub local: u64,
    /// Answered from the cache while fresh.
    pub hits: u64,
    /// Answered from the cache past the TTL (RFC 8767).
    pub stale: u64,
    /// Sent on to a server.
    pub misses: u64,
    /// Joined a query that was under way (DN10).
    pub joined: u64,
    /// Turned away because a limit was reached (DN27).
    pub limited: u64,
    /// Answered SERVFAIL.
    pub servfail: u64,
    /// Queries that went over TCP after a truncated or suspicious answer.
    pub tcp_fallbacks: u64,
    /// Upstream messages that matched no query (DN9).
    pub mismatched: u64,
    /// Answers emptied by the rebinding filter (DN24).
    pub rebinding: u64,
}
