//! How many mappings or sessions each internal address holds, and how fast it opens them.

use std::net::Ipv4Addr;

use packet::{Instant, Protocol};

use crate::Policy;
use crate::policy::Rate;
use crate::sync::{AtomicU32, AtomicU64, Ordering, sized};

/// Internal addresses that can be told apart at once: four times what a /20 of LANs holds. 8 bytes
/// each.
pub(crate) const SLOTS: usize = sized(16_384, 2);

/// Slots that an address may be in, so that a search is bounded by two cache lines.
const PROBES: usize = sized(16, 2);

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
/// **Shape**: the slot in the low 24 bits; above, 0 if it counts for no protocol, else one more than
/// the protocol's place in [`Protocol::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HostSlot(pub(crate) u32);

impl HostSlot {
    /// Of what is not counted.
    pub(crate) const NONE: HostSlot = HostSlot(u32::MAX);
}

impl Hosts {
    /// Makes room for `hosts` addresses, or a few more.
    pub(crate) fn new(hosts: usize, seed: u64) -> Self {
        let slots = slots(hosts);
        let of_protocol = slots.iter().map(|_| Default::default()).collect();
        Self { slots, of_protocol, seed }
    }

    /// Counts one more mapping of `host`, unless it has as many as the policy allows it, or the
    /// slots around are all taken.
    pub(crate) fn acquire_mapping(
        &self,
        host: Ipv4Addr,
        protocol: Protocol,
        policy: &Policy,
    ) -> Option<HostSlot> {
        let max_of = policy.mappings_per_host_max_of.of(protocol);
        self.count_mapping(host, protocol, policy.mappings_per_host_max, max_of)
    }

    /// Counts one more mapping of `host` whatever it has, unless the slots around are all taken.
    pub(crate) fn acquire_mapping_anyway(
        &self,
        host: Ipv4Addr,
        protocol: Protocol,
    ) -> Option<HostSlot> {
        self.count_mapping(host, protocol, u32::MAX, u32::MAX)
    }

    fn count_mapping(
        &self,
        host: Ipv4Addr,
        protocol: Protocol,
        max: u32,
        max_of: u32,
    ) -> Option<HostSlot> {
        let HostSlot(at) = self.acquire(host, max)?;
        let place = place_of(protocol);
        let before = self.of_protocol[at as usize][place].fetch_add(1, Ordering::Relaxed);
        let slot = HostSlot(at | (place as u32 + 1) << PLACE_SHIFT);
        if before >= max_of {
            self.release(slot);
            return None;
        }
        Some(slot)
    }

    /// Counts one more for `host`, unless it has `max` already or the slots around are all taken.
    pub(crate) fn acquire(&self, host: Ipv4Addr, max: u32) -> Option<HostSlot> {
        let home = self.home(host);
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
                return Some(HostSlot(at as u32));
            }
        }
        None
    }

    /// Whether [`Self::acquire`] would count one more; counts nothing.
    pub(crate) fn admits(&self, host: Ipv4Addr, max: u32) -> bool {
        self.place(host, self.home(host)).is_some() && self.count(host) < max
    }

    /// Whether [`Self::acquire_mapping`] would count one more; counts nothing.
    pub(crate) fn admits_mapping(
        &self,
        host: Ipv4Addr,
        protocol: Protocol,
        policy: &Policy,
    ) -> bool {
        let max = policy.mappings_per_host_max_of.of(protocol);
        self.admits(host, policy.mappings_per_host_max)
            && self.place(host, self.home(host)).is_some_and(|at| {
                self.of_protocol[at][place_of(protocol)].load(Ordering::Relaxed) < max
            })
    }

    /// Counts one less.
    pub(crate) fn release(&self, slot: HostSlot) {
        if slot != HostSlot::NONE {
            let (at, place) = (slot.0 & SLOT_MASK, slot.0 >> PLACE_SHIFT);
            if let Some(place) = place.checked_sub(1) {
                self.of_protocol[at as usize][place as usize].fetch_sub(1, Ordering::Relaxed);
            }
            // Release pairs with the acquire of whoever takes the slot over: the count of the
            // protocol is then down as well.
            let before = self.slots[at as usize].fetch_sub(1, Ordering::Release);
            debug_assert!(before as u32 > 0, "released more often than acquired");
        }
    }

    /// Counts one less for a host that has its slot still; nobody has none.
    pub(crate) fn release_one(&self, host: Option<Ipv4Addr>) {
        let Some(host) = host else { return };
        let home = self.home(host);
        for probe in 0..PROBES {
            let slot = &self.slots[(home + probe) & (self.slots.len() - 1)];
            let less = |word| (owner(word) == host && word as u32 != 0).then(|| word - 1);
            if slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
                return;
            }
        }
        debug_assert!(false, "released more often than acquired");
    }

    /// How many are counted for `host`.
    pub(crate) fn count(&self, host: Ipv4Addr) -> u32 {
        let at = self.place(host, self.home(host));
        let word = at.map_or(0, |at| self.slots[at].load(Ordering::Relaxed));
        if owner(word) == host { word as u32 } else { 0 }
    }

    fn home(&self, host: Ipv4Addr) -> usize {
        flow_table::mix([u64::from(host.to_bits()), 0], self.seed) as usize
    }

    /// The slot of `host`, or else the first that nobody has.
    fn place(&self, host: Ipv4Addr, home: usize) -> Option<usize> {
        let mut vacant = None;
        for probe in 0..PROBES {
            let at = (home + probe) & (self.slots.len() - 1);
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

fn place_of(protocol: Protocol) -> usize {
    let place = Protocol::ALL.iter().position(|other| *other == protocol);
    place.expect("`ALL` has every protocol")
}

/// A token bucket per internal address, shared by all workers without locks.
///
/// **Shape**: each slot holds 20 bits of the address's hash, then 44 bits of the time at which its
/// bucket is full, in units of 64 ns; a slot whose bucket is full is anybody's. Two addresses with
/// the same 20 bits and the same slots share a bucket: one in some ten thousand pairs does.
pub(crate) struct Rates {
    slots: Box<[AtomicU64]>,
    seed: u64,
}

impl Rates {
    /// Makes room for `hosts` addresses, or a few more.
    pub(crate) fn new(hosts: usize, seed: u64) -> Self {
        Self { slots: slots(hosts), seed }
    }

    /// Whether `host` may open one more now.
    pub(crate) fn admits(&self, host: Ipv4Addr, rate: Rate, now: Instant) -> bool {
        self.next(host, rate, now).is_some()
    }

    /// Takes one; `false` if there is none, or the slots around are all others'.
    pub(crate) fn take(&self, host: Ipv4Addr, rate: Rate, now: Instant) -> bool {
        for _ in 0..RETRIES {
            let Some((at, word, next)) = self.next(host, rate, now) else { return false };
            // Relaxed: the word is all there is.
            let swap =
                self.slots[at].compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            if swap.is_ok() {
                return true;
            }
        }
        false
    }

    /// The slot of `host`, what it holds, and what it holds after one more.
    fn next(&self, host: Ipv4Addr, rate: Rate, now: Instant) -> Option<(usize, u64, u64)> {
        let hash = flow_table::mix([u64::from(host.to_bits()), 1], self.seed);
        let (home, tag) = (hash as usize, hash >> TIME_BITS);
        let now = now.as_nanos() >> UNIT & TIME;
        let cost = (UNITS_PER_SEC / u64::from(rate.per_second)).max(1);
        let depth = (cost * u64::from(rate.burst)).min(DEPTH_MAX);
        // What lies further ahead than a bucket is deep lies behind, by the wrap. A slot that was
        // never used is vacant at any time.
        let ahead = |word: u64| {
            let ahead = (word & TIME).wrapping_sub(now) & TIME;
            if word == 0 || ahead > depth { 0 } else { ahead }
        };
        let mut place = None;
        for probe in 0..PROBES {
            let at = (home + probe) & (self.slots.len() - 1);
            let word = self.slots[at].load(Ordering::Relaxed);
            let ahead = ahead(word);
            // Of a bucket that is full, too, the host has no other.
            if word != 0 && word >> TIME_BITS == tag {
                place = Some((at, word, ahead));
                break;
            } else if ahead == 0 {
                place = place.or(Some((at, word, 0)));
            }
        }
        let (at, word, ahead) = place?;
        let full_in = ahead + cost;
        (full_in <= depth).then_some((at, word, tag << TIME_BITS | (now + full_in) & TIME))
    }
}

/// A slot's time: 44 bits of 64 ns wrap after 13 days, far more than a bucket is deep.
const TIME_BITS: u32 = 44;
const TIME: u64 = (1 << TIME_BITS) - 1;
const UNIT: u32 = 6;
/// The deepest bucket in units of time: a quarter of the clock, three days.
const DEPTH_MAX: u64 = TIME / 4;
const UNITS_PER_SEC: u64 = 1_000_000_000 >> UNIT;

/// A power of two of slots, which is cheap to go round in.
fn slots(hosts: usize) -> Box<[AtomicU64]> {
    let count = hosts.next_power_of_two().clamp(PROBES, SLOTS);
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

fn owner(word: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits((word >> 32) as u32)
}

const PROTOCOLS: usize = Protocol::ALL.len();
const PLACE_SHIFT: u32 = 24;
const SLOT_MASK: u32 = (1 << PLACE_SHIFT) - 1;
const _: () = assert!(SLOTS <= SLOT_MASK as usize && PROTOCOLS < 255);
const _: () = assert!(SLOTS.is_power_of_two() && PROBES.is_power_of_two());

/// Attempts against other workers at the same word; each failure means that another one succeeded.
const RETRIES: usize = 64;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::ProtocolQuotas;
    use crate::tests::policy;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn at_most(max: u32) -> Policy {
        Policy { mappings_per_host_max: max, ..policy() }
    }

    fn acquire(hosts: &Hosts, host: Ipv4Addr, max: u32) -> Option<HostSlot> {
        hosts.acquire_mapping(host, Protocol::Udp, &at_most(max))
    }

    #[test]
    fn a_host_gets_its_quota_and_not_one_more() {
        let hosts = Hosts::new(SLOTS, 1);
        let slots: Vec<_> = (0..3).map(|_| acquire(&hosts, HOST, 3).unwrap()).collect();
        assert_eq!(acquire(&hosts, HOST, 3), None);
        assert!(acquire(&hosts, Ipv4Addr::new(10, 0, 0, 6), 3).is_some());
        hosts.release(slots[1]);
        assert!(acquire(&hosts, HOST, 3).is_some());
    }

    #[test]
    fn a_count_is_given_back_by_name() {
        let hosts = Hosts::new(SLOTS, 1);
        assert!(hosts.acquire(HOST, 2).is_some() && hosts.acquire(HOST, 2).is_some());
        assert_eq!((hosts.count(HOST), hosts.acquire(HOST, 2)), (2, None));
        hosts.release_one(Some(HOST));
        hosts.release_one(None);
        assert_eq!(hosts.count(HOST), 1);
        assert!(hosts.acquire(HOST, 2).is_some());
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let rates = Rates::new(SLOTS, 1);
        let rate = Rate { per_second: 100, burst: 30 };
        let at = |ms: u64| Instant::from_millis(5000 + ms);
        assert_eq!((0..1000).filter(|_| rates.take(HOST, rate, at(0))).count(), 30);
        assert!(!rates.admits(HOST, rate, at(5)) && rates.admits(HOST, rate, at(11)));
        assert!(rates.take(Ipv4Addr::new(10, 0, 0, 6), rate, at(0)), "another's bucket");
        let second = (1..=1000).filter(|ms| rates.take(HOST, rate, at(*ms))).count();
        assert!((99..=101).contains(&second), "{second}");
        let later = (0..1000).filter(|_| rates.take(HOST, rate, at(600_000))).count();
        assert_eq!(later, 30, "rest fills no more than a bucket");
    }

    #[test]
    fn a_bucket_is_right_across_the_wrap_of_its_clock() {
        let rates = Rates::new(SLOTS, 1);
        let rate = Rate { per_second: 10, burst: 5 };
        let wrap = Instant::from_secs((TIME / UNITS_PER_SEC) - 1);
        let taken = (0..40u32)
            .filter(|n| rates.take(HOST, rate, wrap + std::time::Duration::from_millis(100) * *n));
        assert_eq!(taken.count(), 40);
        // A bucket deeper than the way to the wrap: what was never used is full all the same.
        let deep = Rate { per_second: 10, burst: 10_000_000 };
        assert!((0..1000u32).all(|n| rates.take(Ipv4Addr::from_bits(n), deep, wrap)));
    }

    #[test]
    fn more_hosts_than_fit_around_a_slot_are_refused_not_confused() {
        let hosts = Hosts::new(SLOTS, 2);
        let admitted = (0..40_000u32)
            .filter_map(|n| acquire(&hosts, Ipv4Addr::from_bits(0x0a00_0000 | n), 1))
            .count();
        assert!(admitted > SLOTS * 3 / 4 && admitted <= SLOTS, "{admitted}");
        assert_eq!(hosts.total(), admitted as u64);
    }

    #[test]
    fn a_small_table_holds_as_many_hosts_as_it_is_made_for() {
        let hosts = Hosts::new(PROBES, 1);
        let admitted = (0..1000u32)
            .filter_map(|n| acquire(&hosts, Ipv4Addr::from_bits(0x0a00_0000 | n), 1))
            .count();
        assert_eq!(admitted, PROBES, "every slot is around every other");
        assert_eq!(Hosts::new(PROBES + 1, 1).slots.len(), 2 * PROBES);
    }

    #[test]
    fn req6888_4b_each_protocol_has_a_quota_of_its_own_within_that_of_the_host() {
        let hosts = Hosts::new(SLOTS, 1);
        let of = ProtocolQuotas { udp: 2, ..ProtocolQuotas::NONE };
        let policy = Policy { mappings_per_host_max_of: of, ..at_most(4) };
        let take = |protocol| hosts.acquire_mapping(HOST, protocol, &policy);
        let first = take(Protocol::Udp).unwrap();
        assert!(take(Protocol::Udp).is_some() && take(Protocol::Udp).is_none());
        assert!(take(Protocol::Tcp).is_some() && take(Protocol::Icmp).is_some());
        assert_eq!(take(Protocol::Tcp), None, "four in all");
        hosts.release(first);
        assert!(take(Protocol::Udp).is_some());
        assert_eq!(hosts.total(), 4);
    }
}

#[cfg(test)]
#[cfg(loom)]
mod interleavings {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::sync::explore;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
    const C: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const RATE: Rate = Rate { per_second: 1, burst: 1 };
    const NOW: Instant = Instant::from_secs(1000);

    /// Runs `other` in a second thread while `own` runs in this one.
    fn both<T: 'static>(other: impl FnOnce() -> T + 'static, own: impl FnOnce() -> T) -> [T; 2] {
        let other = thread::spawn(other);
        let own = own();
        [own, other.join().unwrap()]
    }

    #[test]
    fn of_the_last_place_of_a_quota_one_worker_gets_it() {
        explore(3, || {
            let hosts = Arc::new(Hosts::new(SLOTS, 1));
            hosts.acquire(A, 2).unwrap();
            let there = Arc::clone(&hosts);
            let got = both(move || there.acquire(A, 2), || hosts.acquire(A, 2));
            assert_eq!(got.iter().flatten().count(), 1);
            assert_eq!((hosts.count(A), hosts.total()), (2, 2));
        });
    }

    #[test]
    fn a_new_host_that_two_workers_meet_is_counted_once_for_each() {
        explore(3, || {
            let hosts = Arc::new(Hosts::new(SLOTS, 1));
            let there = Arc::clone(&hosts);
            let take = |hosts: &Hosts, host| hosts.acquire(host, 2).is_some();
            let taken = both(move || take(&there, A), || take(&hosts, A) && take(&hosts, B));
            assert_eq!(taken, [true; 2]);
            assert_eq!([A, B].map(|host| hosts.count(host)), [2, 1]);
        });
    }

    #[test]
    fn what_workers_count_up_and_down_at_once_comes_out_even() {
        explore(3, || {
            let hosts = Arc::new(Hosts::new(SLOTS, 1));
            let there = Arc::clone(&hosts);
            let [_, given] = both(
                move || {
                    let slot = there.acquire(A, 2);
                    there.release_one(slot.map(|_| A));
                    slot.is_some()
                },
                || {
                    let slot = hosts.acquire(A, 2);
                    slot.inspect(|slot| hosts.release(*slot)).is_some()
                },
            );
            assert!(given);
            assert_eq!(hosts.total(), 0);
        });
    }

    #[test]
    fn a_slot_changes_hands_without_the_counts_by_protocol_of_its_last_host() {
        explore(3, || {
            let hosts = Arc::new(Hosts::new(SLOTS, 1));
            let place = place_of(Protocol::Udp);
            // The other slot is taken for good, so that B has to wait for A's.
            hosts.acquire(C, 1).unwrap();
            let HostSlot(at) = hosts.acquire(A, 1).unwrap();
            hosts.of_protocol[at as usize][place].store(1, Ordering::Relaxed);
            let there = Arc::clone(&hosts);
            let slot = HostSlot(at | (place as u32 + 1) << PLACE_SHIFT);
            let releasing = thread::spawn(move || there.release(slot));
            if let Some(HostSlot(taken)) = hosts.acquire(B, 1) {
                let counted = &hosts.of_protocol[taken as usize][place];
                assert_eq!((taken, counted.load(Ordering::Relaxed)), (at, 0));
            }
            releasing.join().unwrap();
        });
    }

    #[test]
    fn of_the_last_token_of_a_bucket_one_worker_gets_it() {
        explore(3, || {
            let rates = Arc::new(Rates::new(SLOTS, 1));
            let there = Arc::clone(&rates);
            let taken = both(move || there.take(A, RATE, NOW), || rates.take(A, RATE, NOW));
            assert!(taken[0] != taken[1]);
            assert!(!rates.admits(A, RATE, NOW));
        });
    }

    #[test]
    fn two_hosts_that_want_one_vacant_bucket_get_one_each() {
        explore(3, || {
            let rates = Arc::new(Rates::new(SLOTS, 1));
            let bucket = |host| rates.next(host, RATE, NOW).map(|(at, ..)| at);
            let mut others = (1..).map(|n| Ipv4Addr::from_bits(A.to_bits() + n));
            let other = others.find(|other| bucket(*other) == bucket(A)).unwrap();
            let there = Arc::clone(&rates);
            let taken = both(move || there.take(A, RATE, NOW), || rates.take(other, RATE, NOW));
            assert_eq!(taken, [true; 2]);
            assert_eq!([A, other].map(|host| rates.admits(host, RATE, NOW)), [false; 2]);
        });
    }
}
