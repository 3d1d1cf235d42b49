//! Every default and every limit, each with its source.

use std::time::Duration;

/// Slowest rate of a shaper in bit/s: below it one full packet takes longer than 0.18 s.
pub const RATE_MIN: u64 = 64_000;
/// Fastest rate of a shaper in bit/s: ten times what one core moves.
pub const RATE_MAX: u64 = 10_000_000_000;
/// How long a UDP mapping lives idle (RFC 4787 REQ-5c).
pub const TIMEOUT_UDP: Duration = Duration::from_secs(300);
