//! Which external ports to try for an internal one, and in which order.

use rand::RngExt;
use rand::rngs::StdRng;

/// Random tries. In a class that is three quarters full one in ten thousand mappings gets past
/// them.
const PROBES: u32 = 32;

/// Ports looked at one by one after that: all of the low class, and enough of the high one to find
/// a port when 99 % are taken. Bounds what a new flow costs when ports run out.
const SWEEP_MAX: u32 = 1024;

/// External ports in the order in which to try them: the internal port itself (RFC 4787 §4.2.1),
/// then random ones of the same range class and parity (REQ-3a, REQ-4; RFC 6056 §4), then a sweep
/// from a random start.
pub(crate) struct Candidates<'a> {
    rng: &'a mut StdRng,
    preserved: Option<u16>,
    class: Class,
    random_left: u32,
    /// Where the sweep is, once it is under way.
    sweep: Option<u32>,
    sweep_left: u32,
}

impl<'a> Candidates<'a> {
    /// Candidates for an internal port (or ICMP identifier, which may be 0).
    #[inline]
    pub(crate) fn new(port: u16, rng: &'a mut StdRng) -> Self {
        let class = Class::of(port);
        Self {
            rng,
            preserved: (port != 0).then_some(port),
            class,
            random_left: PROBES,
            sweep: None,
            sweep_left: SWEEP_MAX.min(class.len),
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        if let Some(port) = self.preserved.take() {
            return Some(port);
        }
        if self.random_left > 0 {
            self.random_left -= 1;
            return Some(self.class.port(self.rng.random_range(0..self.class.len)));
        }
        self.sweep_left = self.sweep_left.checked_sub(1)?;
        let last = self.sweep.unwrap_or_else(|| self.rng.random_range(0..self.class.len));
        let next = (last + 1) % self.class.len;
        self.sweep = Some(next);
        Some(self.class.port(next))
    }
}

/// Every other port of a range.
#[derive(Clone, Copy)]
struct Class {
    first: u16,
    len: u32,
}

impl Class {
    /// The ports of the same range (1-1023 or 1024-65535, REQ-3a) and parity (REQ-4). 0 is never
    /// among them.
    fn of(port: u16) -> Self {
        let (first, last) = if port < 1024 { (1, 1023) } else { (1024, u16::MAX) };
        let first = if first % 2 == port % 2 { first } else { first + 1 };
        Self { first, len: u32::from(last - first) / 2 + 1 }
    }

    fn port(self, index: u32) -> u16 {
        self.first + 2 * index as u16
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    proptest! {
        #[test]
        fn req3a_req4_candidates_keep_class_and_parity(port: u16, seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            for candidate in Candidates::new(port, &mut rng) {
                prop_assert_ne!(candidate, 0);
                prop_assert_eq!(candidate < 1024, port < 1024);
                prop_assert_eq!(candidate % 2, port % 2);
            }
        }
    }

    #[test]
    fn the_port_itself_comes_first() {
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!(Candidates::new(40_000, &mut rng).next(), Some(40_000));
    }

    #[test]
    fn the_low_class_is_swept_in_full() {
        let mut rng = StdRng::seed_from_u64(2);
        let odd: BTreeSet<u16> = Candidates::new(501, &mut rng).collect();
        assert_eq!(odd, (1..1024).step_by(2).collect());
        let even: BTreeSet<u16> = Candidates::new(0, &mut rng).collect();
        assert_eq!(even, (2..1024).step_by(2).collect());
    }

    #[test]
    fn the_high_class_reaches_both_ends() {
        assert_eq!((Class::of(1024).port(0), Class::of(65535).port(0)), (1024, 1025));
        assert_eq!(Class::of(1024).port(Class::of(1024).len - 1), 65534);
        assert_eq!(Class::of(65535).port(Class::of(65535).len - 1), 65535);
    }
}
