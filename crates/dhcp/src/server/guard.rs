//! Limits on how much one station, or a crowd of made-up ones, may ask (DS24).

use std::time::Duration;

use hashbrown::HashMap;
use packet::{Instant, MacAddr};

/// Counts messages of each station in windows of [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Guard {
    window_start: Instant,
    counts: HashMap<MacAddr, u32>,
    /// Messages of stations that came when the table was full.
    overflow: u32,
}

impl Guard {
    /// Whether a message of this station is to be answered.
    pub fn admit(&mut self, mac: MacAddr, now: Instant) -> bool {
        if now.saturating_since(self.window_start) >= WINDOW {
            self.window_start = now;
            self.counts.clear();
            self.overflow = 0;
        }
        let has_room = self.counts.len() < STATIONS_MAX || self.counts.contains_key(&mac);
        let (count, limit) = if has_room {
            (self.counts.entry(mac).or_default(), MESSAGES_MAX)
        } else {
            (&mut self.overflow, OVERFLOW_MAX)
        };
        *count = count.saturating_add(1);
        *count <= limit
    }
}

const WINDOW: Duration = Duration::from_secs(10);
/// Four complete exchanges and their repetitions in a window: more than a client with a broken link needs.
const MESSAGES_MAX: u32 = 20;
/// Stations counted one by one; memory for a full /20 of them.
const STATIONS_MAX: usize = 4096;
/// What all others share in a window.
const OVERFLOW_MAX: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ds24_a_station_that_talks_too_much_is_not_heard_until_the_next_window() {
        let mut guard = Guard::default();
        let (loud, quiet) = (MacAddr([2; 6]), MacAddr([4; 6]));
        let now = Instant::from_secs(100);
        let admitted = (0..100).filter(|_| guard.admit(loud, now)).count();
        assert_eq!(admitted, MESSAGES_MAX as usize);
        assert!(guard.admit(quiet, now));
        assert!(guard.admit(loud, now + WINDOW));
    }
}
