//! The only place of the router that reads a clock.

use std::time::{Duration, Instant as OsInstant, SystemTime, UNIX_EPOCH};

use dhcp::Now;
use packet::Instant;

/// The router's clock; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: OsInstant,
}

impl Clock {
    /// Starts the clock. The origin lies in the past, so that "an hour ago" exists from the first moment.
    #[expect(clippy::disallowed_methods, reason = "the edge that hands time to the core")]
    pub fn start() -> Self {
        Self { origin: OsInstant::now() }
    }

    /// Monotonic time.
    #[expect(clippy::disallowed_methods, reason = "the edge that hands time to the core")]
    pub fn now(self) -> Instant {
        const HEAD_START: Duration = Duration::from_secs(3600);
        Instant::ZERO + HEAD_START + OsInstant::now().duration_since(self.origin)
    }

    /// Monotonic and wall time together.
    #[expect(clippy::disallowed_methods, reason = "the edge that hands time to the core")]
    pub fn both(self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now::new(self.now(), unix.as_secs())
    }
}
