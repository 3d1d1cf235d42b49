//! Coarse time, four bytes wide.

use std::time::Duration;

use packet::Instant;

/// When a flow was last seen.
///
/// **Units**: 2^27 ns (134 ms) since the clock's origin, so that reading it is a shift and four
/// bytes last 18 years before they wrap; differences are right across the wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    /// The tick that `now` lies in.
    #[inline]
    pub(crate) fn at(now: Instant) -> Self {
        Self((now.as_nanos() >> SHIFT) as u32)
    }

    /// Ticks since `earlier`; 0 if it lies ahead, as another worker's clock reading may.
    #[inline]
    pub(crate) fn since(self, earlier: Tick) -> u32 {
        let ahead = self.0.wrapping_sub(earlier.0);
        if ahead > u32::MAX / 2 { 0 } else { ahead }
    }

    /// The later of two.
    pub(crate) fn later(self, other: Tick) -> Tick {
        if self.since(other) > 0 { self } else { other }
    }

    /// Whether at least `span` has passed since `earlier`; up to two ticks late, never early.
    pub(crate) fn is_past(self, earlier: Tick, span: Duration) -> bool {
        self.since(earlier) > ticks(span)
    }
}

/// The span between two ticks as a duration.
pub(crate) fn span(ticks: u32) -> Duration {
    Duration::from_nanos(u64::from(ticks) << SHIFT)
}

/// A span in ticks, rounded up.
pub(crate) fn ticks(span: Duration) -> u32 {
    let ticks = span.as_nanos().div_ceil(1 << SHIFT);
    u32::try_from(ticks).map_or(TICKS_MAX, |ticks| ticks.min(TICKS_MAX))
}

const SHIFT: u32 = 27;

/// The longest span that the wrap-around comparison can tell: nine years.
const TICKS_MAX: u32 = u32::MAX / 2 - 1;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_never_over_early_and_at_most_two_ticks_late() {
        for (start, timeout) in [(0, 120_000), (133, 240_000), (999_999, 60_000), (7, 1)] {
            let (seen, timeout) = (Tick::at(Instant::from_millis(start)), timeout);
            let early = Tick::at(Instant::from_millis(start + timeout - 1));
            let late = Tick::at(Instant::from_millis(start + timeout + 269));
            assert!(!early.is_past(seen, Duration::from_millis(timeout)));
            assert!(late.is_past(seen, Duration::from_millis(timeout)));
        }
    }

    #[test]
    fn differences_survive_the_wrap() {
        let before = Tick(u32::MAX - 1);
        assert_eq!(Tick(1).since(before), 3);
        assert_eq!(before.since(Tick(1)), 0);
        assert_eq!(before.later(Tick(1)), Tick(1));
    }
}
