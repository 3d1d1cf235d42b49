//! What a fair queue has done.

use std::time::Duration;

use packet::DropReason;

/// Counters of one fair queue, since it was made.
#[derive(Clone, Debug, Default)]
pub struct FqStats {
    /// Packets taken in, those dropped later included.
    pub enqueued: u64,
    /// Packets delivered.
    pub delivered: u64,
    /// Bytes delivered, as frames.
    pub delivered_bytes: u64,
    /// Packets that CoDel dropped.
    pub drops_codel: u64,
    /// Packets dropped because too much was queued.
    pub drops_overflow: u64,
    /// Packets marked instead of dropped.
    pub marks: u64,
    /// How long delivered packets waited.
    pub sojourn: SojournHistogram,
}

impl FqStats {
    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        match reason {
            DropReason::CodelDrop => self.drops_codel += 1,
            _ => self.drops_overflow += 1,
        }
    }
}

/// Buckets: the first for less than about a microsecond, each further one twice as wide, the last
/// for more than about half an hour.
const BUCKETS: usize = 32;
const FIRST_BUCKET_BITS: u32 = 10;

/// Waiting times in buckets whose bounds double.
#[derive(Clone, Debug, Default)]
pub struct SojournHistogram {
    counts: [u64; BUCKETS],
}

impl SojournHistogram {
    /// Counts one waiting time, in nanoseconds.
    #[inline]
    pub(crate) fn record(&mut self, nanos: u64) {
        let bits = (u64::BITS - nanos.leading_zeros()).saturating_sub(FIRST_BUCKET_BITS);
        self.counts[(bits as usize).min(BUCKETS - 1)] += 1;
    }

    /// Number of waiting times.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A time that at least `percent` of the waiting times did not exceed, and at most twice the
    /// least such time; zero if nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> Duration {
        let len = u128::from(self.len());
        let wanted = (len * u128::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0u128;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += u128::from(count);
            if seen >= wanted {
                return Duration::from_nanos(1 << (bucket as u32 + FIRST_BUCKET_BITS));
            }
        }
        Duration::ZERO
    }

    /// Upper bound and count of every bucket that holds something, shortest first.
    pub fn iter(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(bucket, &count)| {
            (Duration::from_nanos(1 << (bucket as u32 + FIRST_BUCKET_BITS)), count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_an_upper_bound_within_a_factor_of_two() {
        let mut histogram = SojournHistogram::default();
        assert_eq!(histogram.percentile(50), Duration::ZERO);
        for millis in 1..=100 {
            histogram.record(millis * 1_000_000);
        }
        for percent in [1, 50, 95, 99, 100] {
            let exact = Duration::from_millis(u64::from(percent));
            let found = histogram.percentile(percent);
            assert!(found >= exact && found <= exact * 2, "{percent}: {found:?}");
        }
        assert_eq!(histogram.len(), 100);
    }

    #[test]
    fn extremes_fall_into_the_outer_buckets() {
        let mut histogram = SojournHistogram::default();
        histogram.record(0);
        histogram.record(u64::MAX);
        let bounds: Vec<_> = histogram.iter().collect();
        assert_eq!(
            bounds,
            [(Duration::from_nanos(1 << 10), 1), (Duration::from_nanos(1 << 41), 1)]
        );
    }
}
