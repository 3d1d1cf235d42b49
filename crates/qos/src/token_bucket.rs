//! When the next packet may leave.

use std::time::Duration;

use packet::Instant;

/// How far behind its schedule a busy line may be and still catch up. A worker that wakes late
/// would otherwise lose rate; more than CoDel's target would put a standing burst into the modem's
/// own queue.
pub const CATCH_UP_MAX: Duration = Duration::from_millis(5);

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A rate to shape to, in bits per second on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rate(u64);

impl Rate {
    /// An ISDN channel: a full packet takes 190 ms, and below that nothing is usable.
    pub const MIN: Rate = Rate(64_000);
    /// Faster than any line that needs shaping in software.
    pub const MAX: Rate = Rate(100_000_000_000);

    /// A rate in bits per second; `None` outside [`Self::MIN`] to [`Self::MAX`].
    #[must_use]
    pub fn from_bits_per_sec(bits: u64) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&Self(bits)).then_some(Self(bits))
    }

    /// Bits per second.
    #[must_use]
    pub const fn bits_per_sec(self) -> u64 {
        self.0
    }

    /// How long `wire_len` bytes take, rounded up.
    #[must_use]
    pub fn time_of(self, wire_len: usize) -> Duration {
        Duration::from_nanos(bit_nanos(wire_len).div_ceil(self.0))
    }
}

/// A virtual clock in deficit mode: a packet may leave when the line is free, and then occupies it
/// for its length. No burst is ever saved up.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: Rate,
    free_at: Instant,
    /// What `free_at` leaves out, in nanoseconds ÷ rate, so that rounding never adds up.
    remainder: u64,
}

impl TokenBucket {
    /// Makes the clock of a line that is free now.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, free_at: now, remainder: 0 }
    }

    /// The rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Changes the rate of what leaves from now on.
    pub fn set_rate(&mut self, rate: Rate) {
        if rate != self.rate {
            *self = Self { rate, free_at: self.free_at, remainder: 0 };
        }
    }

    /// When the next packet may leave; `now` if at once.
    #[must_use]
    #[inline]
    pub fn ready_at(&self, now: Instant) -> Instant {
        self.free_at.max(now)
    }

    /// Says that the line was idle until now: time that passed unused is gone.
    #[inline]
    pub fn settle(&mut self, now: Instant) {
        if self.free_at < now {
            self.free_at = now;
            self.remainder = 0;
        }
    }

    /// Occupies the line for a packet of `wire_len` bytes that leaves now.
    #[inline]
    pub fn consume(&mut self, wire_len: usize, now: Instant) {
        self.settle(now - CATCH_UP_MAX);
        let cost = bit_nanos(wire_len).saturating_add(self.remainder);
        self.free_at = self.free_at.after_nanos(cost / self.rate.0);
        self.remainder = cost % self.rate.0;
    }
}

/// Bits × nanoseconds per second: divided by bits per second, that is nanoseconds. A packet of 64
/// KiB is 5 × 10¹⁴, far from the end of 64 bits.
#[inline]
fn bit_nanos(wire_len: usize) -> u64 {
    (wire_len as u64).saturating_mul(8 * NANOS_PER_SEC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(bits: u64) -> Rate {
        Rate::from_bits_per_sec(bits).unwrap()
    }

    #[test]
    fn rates_outside_the_range_are_refused() {
        assert_eq!(Rate::from_bits_per_sec(63_999), None);
        assert_eq!(Rate::from_bits_per_sec(100_000_000_001), None);
        assert_eq!(Rate::from_bits_per_sec(64_000), Some(Rate::MIN));
    }

    #[test]
    fn the_first_packet_leaves_at_once_and_the_second_after_its_time() {
        let now = Instant::from_secs(5);
        let mut bucket = TokenBucket::new(rate(1_000_000), now);
        assert_eq!(bucket.ready_at(now), now);
        bucket.consume(1250, now);
        assert_eq!(bucket.ready_at(now), now + Duration::from_millis(10));
    }

    #[test]
    fn an_idle_line_saves_up_no_burst() {
        let mut bucket = TokenBucket::new(rate(1_000_000), Instant::ZERO);
        let now = Instant::from_secs(3600);
        bucket.settle(now);
        bucket.consume(1250, now);
        assert_eq!(bucket.ready_at(now), now + Duration::from_millis(10));
    }

    #[test]
    fn a_late_wake_up_catches_up_but_never_more_than_a_few_milliseconds() {
        let mut bucket = TokenBucket::new(rate(1_000_000), Instant::ZERO);
        bucket.consume(1250, Instant::ZERO);
        // Due at 10 ms, woken at 12 ms: the schedule holds.
        bucket.consume(1250, Instant::from_millis(12));
        assert_eq!(bucket.ready_at(Instant::ZERO), Instant::from_millis(20));
        // Due at 20 ms, woken at a second: 5 ms are made good, the rest is gone.
        bucket.consume(1250, Instant::from_secs(1));
        assert_eq!(bucket.ready_at(Instant::ZERO), Instant::from_millis(1005));
    }

    #[test]
    fn a_change_of_rate_holds_from_the_next_packet_on() {
        let mut bucket = TokenBucket::new(rate(1_000_000), Instant::ZERO);
        bucket.consume(1250, Instant::ZERO);
        bucket.set_rate(rate(10_000_000));
        bucket.consume(1250, Instant::from_millis(10));
        assert_eq!(bucket.ready_at(Instant::ZERO), Instant::from_millis(11));
    }

    proptest! {
        #[test]
        fn a_long_run_is_exact_to_the_nanosecond(
            bits in 64_000u64..=10_000_000_000,
            lens in proptest::collection::vec(1usize..65_536, 1..2000),
            late in 0u64..1_000_000,
        ) {
            let mut bucket = TokenBucket::new(rate(bits), Instant::ZERO);
            let mut sent = 0u128;
            for len in lens {
                let now = bucket.ready_at(Instant::ZERO) + Duration::from_nanos(late);
                bucket.consume(len, now);
                sent += len as u128 * 8;
            }
            let due = sent * u128::from(NANOS_PER_SEC) / u128::from(bits);
            prop_assert_eq!(u128::from(bucket.ready_at(Instant::ZERO).as_nanos()), due);
        }
    }
}
