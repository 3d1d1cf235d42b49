//! How many mappings each internal address holds.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Internal addresses that can be told apart at once: four times what a /20 of LANs holds. 8 bytes
/// each.
const SLOTS: usize = 16_384;

/// Slots that an address may be in, so that a search is bounded by two cache lines.
const PROBES: usize = 16;

/// A count per internal address, shared by all workers without locks.
///
/// **Shape**: each slot holds an address in the high and its count in the low half; a slot whose
/// count is 0 is anybody's. Two workers that meet a new address at the same moment may give it two
/// slots; each is then counted down where it was counted up, and the address has at most twice its
/// quota for that long.
pub(crate) struct Hosts {
    slots: Box<[AtomicU64]>,
    seed: u64,
}

/// Which slot was counted up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HostSlot(pub(crate) u32);

impl HostSlot {
    /// Of what is not counted.
    pub(crate) const NONE: HostSlot = HostSlot(u32::MAX);
}

impl Hosts {
    pub(crate) fn new(seed: u64) -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), seed }
    }

    /// Counts one more for `host`, unless it has `max` already or the slots around are all taken.
    pub(crate) fn acquire(&self, host: Ipv4Addr, max: u32) -> Option<HostSlot> {
        let home = flow_table::mix([u64::from(host.to_bits()), 0], self.seed) as usize;
        for _ in 0..RETRIES {
            let at = self.place(host, home)?;
            // Relaxed throughout: the word is all there is, it orders no other access.
            let word = self.slots[at].load(Ordering::Relaxed);
            let count = word as u32;
            if owner(word) != host && count != 0 {
                continue;
            }
            if count >= max {
                return None;
            }
            let next = u64::from(host.to_bits()) << 32 | u64::from(count + 1);
            let swap =
                self.slots[at].compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            if swap.is_ok() {
                return Some(HostSlot(at as u32));
            }
        }
        None
    }

    /// Counts one less.
    pub(crate) fn release(&self, slot: HostSlot) {
        if slot != HostSlot::NONE {
            let before = self.slots[slot.0 as usize].fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before as u32 > 0, "released more often than acquired");
        }
    }

    /// The slot of `host`, or else the first that nobody has.
    fn place(&self, host: Ipv4Addr, home: usize) -> Option<usize> {
        let mut vacant = None;
        for probe in 0..PROBES {
            let at = (home + probe) % SLOTS;
            let word = self.slots[at].load(Ordering::Relaxed);
            match word as u32 {
                0 => vacant = vacant.or(Some(at)),
                _ if owner(word) == host => return Some(at),
                _ => {}
            }
        }
        vacant
    }

    /// What is counted, of all addresses together.
    pub(crate) fn total(&self) -> u64 {
        self.slots.iter().map(|slot| u64::from(slot.load(Ordering::Relaxed) as u32)).sum()
    }
}

fn owner(word: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits((word >> 32) as u32)
}

/// Attempts against other workers at the same word; each failure means that another one succeeded.
const RETRIES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    #[test]
    fn a_host_gets_its_quota_and_not_one_more() {
        let hosts = Hosts::new(1);
        let slots: Vec<_> = (0..3).map(|_| hosts.acquire(HOST, 3).unwrap()).collect();
        assert_eq!(hosts.acquire(HOST, 3), None);
        assert!(hosts.acquire(Ipv4Addr::new(10, 0, 0, 6), 3).is_some());
        hosts.release(slots[1]);
        assert!(hosts.acquire(HOST, 3).is_some());
    }

    #[test]
    fn more_hosts_than_fit_around_a_slot_are_refused_not_confused() {
        let hosts = Hosts::new(2);
        let admitted = (0..40_000u32)
            .filter_map(|n| hosts.acquire(Ipv4Addr::from_bits(0x0a00_0000 | n), 1))
            .count();
        assert!(admitted > SLOTS * 3 / 4 && admitted <= SLOTS, "{admitted}");
        assert_eq!(hosts.total(), admitted as u64);
    }
}
