//! Bits per second of each link, over the last second or so.

use std::time::Duration;

use packet::{Instant, LinkId};
use pipeline::Counters;

/// Shortest span that a rate is taken over.
const SPAN_MIN: Duration = Duration::from_millis(900);

/// Rate of a link in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub rx_bits_per_sec: u64,
    pub tx_bits_per_sec: u64,
}

/// Samples of the byte counters.
#[derive(Debug, Default)]
pub struct Rates {
    at: Instant,
    bytes: Vec<(u64, u64)>,
    rates: Vec<Rate>,
}

impl Rates {
    /// Takes a sample if the last one is old enough.
    pub fn sample(&mut self, now: Instant, counters: &Counters, links: usize) {
        let span = now.saturating_since(self.at);
        if span < SPAN_MIN {
            return;
        }
        let bytes: Vec<_> = (0..links)
            .map(|index| {
                let link = counters.link(LinkId(index as u8));
                (link.rx_bytes.load(), link.tx_bytes.load())
            })
            .collect();
        let per_sec = |new: u64, old: u64| {
            let bits = u128::from(new.wrapping_sub(old)) * 8 * 1_000_000_000;
            u64::try_from(bits / span.as_nanos().max(1)).unwrap_or(u64::MAX)
        };
        let zeros = vec![(0, 0); links];
        let old = if self.bytes.len() == links { &self.bytes } else { &zeros };
        self.rates = bytes
            .iter()
            .zip(old)
            .map(|(new, old)| Rate {
                rx_bits_per_sec: per_sec(new.0, old.0),
                tx_bits_per_sec: per_sec(new.1, old.1),
            })
            .collect();
        self.bytes = bytes;
        self.at = now;
    }

    /// The rate of a link.
    pub fn of(&self, link: LinkId) -> Rate {
        self.rates.get(link.index()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_difference_over_its_span() {
        let counters = Counters::default();
        let mut rates = Rates::default();
        rates.sample(Instant::from_secs(10), &counters, 1);
        counters.link(LinkId::WAN).rx_bytes.add(1000);
        rates.sample(Instant::from_secs(12), &counters, 1);
        assert_eq!(rates.of(LinkId::WAN), Rate { rx_bits_per_sec: 4000, tx_bits_per_sec: 0 });
        assert_eq!(rates.of(LinkId(3)), Rate::default());
    }
}
