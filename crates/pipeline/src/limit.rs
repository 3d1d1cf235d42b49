//! Rate limit of the ICMP errors that we originate (RFC 1812 §4.3.2.8).

use packet::Instant;

/// Errors per second. Traceroute from several hosts at once fits; a scan does not turn us into a reflector.
const RATE_PER_SEC: u64 = 200;

/// Errors that may leave back to back.
const BURST: u64 = 50;

/// Nanoseconds that one error costs.
const COST_NANOS: u64 = 1_000_000_000 / RATE_PER_SEC;

/// A token bucket on virtual time: `next` is when the bucket would be full again.
#[derive(Debug, Default)]
pub struct IcmpLimit {
    full_at_nanos: u64,
}

impl IcmpLimit {
    /// Whether one more error may leave now.
    pub fn admit(&mut self, now: Instant) -> bool {
        self.take(now, BURST)
    }

    /// Whether one more error may leave now that a host can do without: such ones leave half of the burst to the
    /// others, so that a host beyond its quota can't silence "fragmentation needed".
    pub fn admit_refusal(&mut self, now: Instant) -> bool {
        self.take(now, BURST / 2)
    }

    fn take(&mut self, now: Instant, burst: u64) -> bool {
        let now = now.as_nanos();
        let full_at = self.full_at_nanos.max(now) + COST_NANOS;
        let admitted = full_at - now <= burst * COST_NANOS;
        if admitted {
            self.full_at_nanos = full_at;
        }
        admitted
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn refusals_leave_room_for_errors_that_matter_more() {
        let mut limit = IcmpLimit::default();
        let start = Instant::from_secs(1);
        let refusals = (0..1000).filter(|_| limit.admit_refusal(start)).count() as u64;
        assert_eq!(refusals, BURST / 2);
        let others = (0..1000).filter(|_| limit.admit(start)).count() as u64;
        assert_eq!(others, BURST - BURST / 2);
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut limit = IcmpLimit::default();
        let start = Instant::from_secs(1);
        let burst = (0..1000).filter(|_| limit.admit(start)).count() as u64;
        assert_eq!(burst, BURST);
        let second = (0..1000u64).filter(|i| limit.admit(Instant::from_millis(1000 + i))).count();
        assert_eq!(second as u64, RATE_PER_SEC - 1);
    }
}
