//! Both clocks in one value.

use std::time::Duration;

use packet::Instant;

/// The present, on the clock that never jumps and on the one that survives a restart.
///
/// All deadlines inside a machine are on the monotonic clock; wall time only goes into and comes out of
/// records on stable storage. So a step of the wall clock expires nothing (DS15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// Seconds since the Unix epoch.
    pub unix_secs: u64,
}

impl Now {
    /// Pairs the two clocks, read at the same moment.
    #[must_use]
    pub const fn new(instant: Instant, unix_secs: u64) -> Self {
        Self { instant, unix_secs }
    }

    /// The wall time at a monotonic deadline; one that is never reached has none.
    pub(crate) fn unix_at(self, deadline: Instant) -> Option<u64> {
        let ahead = deadline.saturating_since(self.instant).as_secs();
        (deadline != Instant::NEVER).then(|| self.unix_secs.saturating_add(ahead))
    }
}

/// What is left of a stored lease: never more than its full length, whatever the wall clock says.
/// `None` for either number stands for a lease without end.
pub(crate) fn remaining(
    duration_secs: Option<u32>,
    expires_unix: Option<u64>,
    unix_secs: u64,
) -> Option<Duration> {
    let (duration, expires) = (u64::from(duration_secs?), expires_unix?);
    Some(Duration::from_secs(expires.saturating_sub(unix_secs).min(duration)))
}
