//! When a worker rests instead of waiting for the next packet.
//!
//! A wake-up costs the worker and whoever sent the packet some microseconds, many times what a small packet costs. So
//! when packets wake the worker more than [`WAKEUPS_MAX`] times in a [`WINDOW`], it lets them gather: it sleeps for
//! [`REST`] whatever arrives, as a network card moderates its interrupts, until a rest passes in which nothing came.

use std::time::Duration;

use packet::Instant;

/// For how long wake-ups are counted.
const WINDOW: Duration = Duration::from_millis(1);

/// Most wake-ups in a window.
const WAKEUPS_MAX: u32 = 20;

/// How long packets gather. It is all that a packet can wait more than it would have.
pub const REST: Duration = Duration::from_micros(50);

/// Whether a sleep as short as [`REST`] is to be had: elsewhere it may last until the next tick of 10 ms.
const CAN_REST: bool = cfg!(target_os = "linux");

/// How a worker waits.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    wakeups: u32,
    is_resting: bool,
}

impl Pace {
    /// A worker that waits for packets.
    pub fn new(now: Instant) -> Self {
        Self { since: now, wakeups: 0, is_resting: false }
    }

    /// Whether to rest now rather than to wait for a packet; `has_worked` since it last did either.
    pub fn rests(&mut self, has_worked: bool, now: Instant) -> bool {
        if now.saturating_since(self.since) >= WINDOW {
            self.is_resting |= CAN_REST && self.wakeups > WAKEUPS_MAX;
            (self.since, self.wakeups) = (now, 0);
        }
        self.is_resting &= has_worked;
        self.wakeups += u32::from(!self.is_resting);
        self.is_resting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `count` waits, `every` apart, are rests.
    fn rests(pace: &mut Pace, now: &mut Instant, count: u32, every: Duration) -> u32 {
        let rested = (0..count).filter(|_| {
            *now += every;
            pace.rests(true, *now)
        });
        rested.count() as u32
    }

    #[test]
    fn a_worker_rests_while_packets_would_wake_it_all_the_time() {
        let mut now = Instant::ZERO;
        let mut pace = Pace::new(now);
        assert_eq!(
            rests(&mut pace, &mut now, 1000, Duration::from_micros(100)),
            0,
            "10,000 a second"
        );
        let rested = rests(&mut pace, &mut now, 1000, Duration::from_micros(10));
        assert!(rested >= 880, "100,000 a second: {rested} rests of 1000");
        assert!(pace.rests(true, now), "as long as there is work after each rest");
        assert!(!pace.rests(false, now), "nothing came: the next packet wakes");
        assert_eq!(rests(&mut pace, &mut now, 1000, Duration::from_micros(100)), 0);
    }
}
