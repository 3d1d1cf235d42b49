//! Virtual links: delay, and seeded faults.

use std::time::Duration;

use packet::Instant;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What may happen to a frame; probabilities between 0 and 1.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Faults {
    /// Lost.
    pub loss: f64,
    /// Delivered twice.
    pub duplication: f64,
    /// Held back long enough for later ones to overtake it.
    pub reordering: f64,
    /// One bit flipped.
    pub corruption: f64,
}

impl Faults {
    /// A clean link.
    pub const NONE: Faults =
        Faults { loss: 0.0, duplication: 0.0, reordering: 0.0, corruption: 0.0 };
}

/// How long a frame that is reordered is held back at most, in multiples of the delay.
const HELD_BACK_MAX: f64 = 5.0;

/// One link.
pub struct Cable {
    /// One way.
    pub delay: Duration,
    /// What goes wrong.
    pub faults: Faults,
    /// A cable that is pulled loses everything.
    pub plugged: bool,
    rng: StdRng,
    /// Frames lost to faults.
    pub lost: u64,
}

impl Cable {
    /// Makes a clean link.
    #[must_use]
    pub fn new(delay: Duration, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { delay, faults: Faults::NONE, plugged: true, rng, lost: 0 }
    }

    /// Takes a frame in; calls `deliver` for each that comes out, with the time at which it does.
    pub fn carry(
        &mut self,
        mut frame: Vec<u8>,
        now: Instant,
        mut deliver: impl FnMut(Instant, Vec<u8>),
    ) {
        // Every draw is made for every frame, so that one fault does not shift the others.
        let [loss, twice, held, how_long, flipped, where_flipped] =
            std::array::from_fn(|_| self.rng.random::<f64>());
        if !self.plugged || loss < self.faults.loss {
            self.lost += 1;
            return;
        }
        if flipped < self.faults.corruption && !frame.is_empty() {
            let bit = (where_flipped * (frame.len() * 8) as f64) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        let mut arrival = now + self.delay;
        if held < self.faults.reordering {
            arrival += self.delay.mul_f64(HELD_BACK_MAX * how_long);
        }
        if twice < self.faults.duplication {
            deliver(arrival + self.delay / 2, frame.clone());
        }
        deliver(arrival, frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(10);

    fn carried(faults: Faults, seed: u64) -> Vec<(Instant, Vec<u8>)> {
        let mut cable = Cable::new(DELAY, seed);
        cable.faults = faults;
        let mut out = Vec::new();
        for number in 0..=255 {
            let now = Instant::from_millis(u64::from(number));
            cable.carry(vec![number; 8], now, |time, frame| out.push((time, frame)));
        }
        out
    }

    #[test]
    fn a_clean_cable_delivers_everything_after_its_delay() {
        let out = carried(Faults::NONE, 1);
        assert_eq!(out.len(), 256);
        assert!(out.iter().all(|(time, f)| *time == Instant::from_millis(u64::from(f[0])) + DELAY));
    }

    #[test]
    fn one_seed_gives_one_history_and_another_gives_another() {
        let faults = Faults { loss: 0.2, duplication: 0.1, reordering: 0.1, corruption: 0.1 };
        assert_eq!(carried(faults, 1), carried(faults, 1));
        assert_ne!(carried(faults, 1), carried(faults, 2));
    }

    #[test]
    fn each_fault_happens_about_as_often_as_asked() {
        let lost = 256 - carried(Faults { loss: 0.5, ..Faults::NONE }, 3).len();
        assert!((90..166).contains(&lost), "{lost}");
        let twice = carried(Faults { duplication: 0.5, ..Faults::NONE }, 3).len() - 256;
        assert!((90..166).contains(&twice), "{twice}");
        let flipped = carried(Faults { corruption: 0.5, ..Faults::NONE }, 3);
        let flipped = flipped.iter().filter(|(_, f)| f.iter().any(|b| *b != f[0])).count();
        assert!((90..166).contains(&flipped), "{flipped}");
    }
}
