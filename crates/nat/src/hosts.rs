//! How many mappings each internal address holds.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use packet::Protocol;

use crate::Policy;

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
///
/// `of_protocol` counts each slot's mappings by protocol. These are counted up after the slot and
/// down before it, so they are 0 when the slot is anybody's.
pub(crate) struct Hosts {
    slots: Box<[AtomicU64]>,
    of_protocol: Box<[[AtomicU32; PROTOCOLS]]>,
    seed: u64,
}

/// Which slot was counted up, and for which protocol.
///
/// **Shape**: the slot in the low 24 bits, the protocol's place in [`Protocol::ALL`] above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HostSlot(pub(crate) u32);

impl HostSlot {
    /// Of what is not counted.
    pub(crate) const NONE: HostSlot = HostSlot(u32::MAX);
}

impl Hosts {
    pub(crate) fn new(seed: u64) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        let of_protocol = (0..SLOTS).map(|_| Default::default()).collect();
        Self { slots, of_protocol, seed }
    }

    /// Counts one more mapping of `host`, unless it has as many as the policy allows it, or the
    /// slots around are all taken.
    pub(crate) fn acquire(
        &self,
        host: Ipv4Addr,
        protocol: Protocol,
        policy: &Policy,
    ) -> Option<HostSlot> {
        let at = self.acquire_slot(host, policy.mappings_per_host_max)?;
        let place = place_of(protocol);
        let count = &self.of_protocol[at][place];
        let before = count.fetch_add(1, Ordering::Relaxed);
        let slot = HostSlot(at as u32 | (place as u32) << PLACE_SHIFT);
        if before >= policy.mappings_per_host_max_of.of(protocol) {
            self.release(slot);
            return None;
        }
        Some(slot)
    }

    fn acquire_slot(&self, host: Ipv4Addr, max: u32) -> Option<usize> {
        let home = flow_table::mix([u64::from(host.to_bits()), 0], self.seed) as usize;
        for _ in 0..RETRIES {
            let at = self.place(host, home)?;
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
                self.slots[at].compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed);
            if swap.is_ok() {
                return Some(at);
            }
        }
        None
    }

    /// Counts one less.
    pub(crate) fn release(&self, slot: HostSlot) {
        if slot != HostSlot::NONE {
            let (at, place) = (slot.0 & SLOT_MASK, slot.0 >> PLACE_SHIFT);
            self.of_protocol[at as usize][place as usize].fetch_sub(1, Ordering::Relaxed);
            // Release pairs with the acquire of whoever takes the slot over: the count of the
            // protocol is then down as well.
            let before = self.slots[at as usize].fetch_sub(1, Ordering::Release);
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

    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.slots.iter().map(|slot| u64::from(slot.load(Ordering::Relaxed) as u32)).sum()
    }
}

fn place_of(protocol: Protocol) -> usize {
    let place = Protocol::ALL.iter().position(|other| *other == protocol);
    place.expect("`ALL` has every protocol")
}

fn owner(word: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits((word >> 32) as u32)
}

const PROTOCOLS: usize = Protocol::ALL.len();
const PLACE_SHIFT: u32 = 24;
const SLOT_MASK: u32 = (1 << PLACE_SHIFT) - 1;
const _: () = assert!(SLOTS <= SLOT_MASK as usize && PROTOCOLS < 1 << (32 - PLACE_SHIFT));

/// Attempts against other workers at the same word; each failure means that another one succeeded.
const RETRIES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProtocolQuotas;
    use crate::tests::policy;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn at_most(max: u32) -> Policy {
        Policy { mappings_per_host_max: max, ..policy() }
    }

    fn acquire(hosts: &Hosts, host: Ipv4Addr, max: u32) -> Option<HostSlot> {
        hosts.acquire(host, Protocol::Udp, &at_most(max))
    }

    #[test]
    fn a_host_gets_its_quota_and_not_one_more() {
        let hosts = Hosts::new(1);
        let slots: Vec<_> = (0..3).map(|_| acquire(&hosts, HOST, 3).unwrap()).collect();
        assert_eq!(acquire(&hosts, HOST, 3), None);
        assert!(acquire(&hosts, Ipv4Addr::new(10, 0, 0, 6), 3).is_some());
        hosts.release(slots[1]);
        assert!(acquire(&hosts, HOST, 3).is_some());
    }

    #[test]
    fn more_hosts_than_fit_around_a_slot_are_refused_not_confused() {
        let hosts = Hosts::new(2);
        let admitted = (0..40_000u32)
            .filter_map(|n| acquire(&hosts, Ipv4Addr::from_bits(0x0a00_0000 | n), 1))
            .count();
        assert!(admitted > SLOTS * 3 / 4 && admitted <= SLOTS, "{admitted}");
        assert_eq!(hosts.total(), admitted as u64);
    }

    #[test]
    fn req6888_4b_each_protocol_has_a_quota_of_its_own_within_that_of_the_host() {
        let hosts = Hosts::new(1);
        let of = ProtocolQuotas { udp: 2, ..ProtocolQuotas::NONE };
        let policy = Policy { mappings_per_host_max_of: of, ..at_most(4) };
        let take = |protocol| hosts.acquire(HOST, protocol, &policy);
        let first = take(Protocol::Udp).unwrap();
        assert!(take(Protocol::Udp).is_some() && take(Protocol::Udp).is_none());
        assert!(take(Protocol::Tcp).is_some() && take(Protocol::Icmp).is_some());
        assert_eq!(take(Protocol::Tcp), None, "four in all");
        hosts.release(first);
        assert!(take(Protocol::Udp).is_some());
        assert_eq!(hosts.total(), 4);
    }
}
