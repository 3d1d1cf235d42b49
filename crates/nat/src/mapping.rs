//! Mappings, and who may send to them.

use std::net::Ipv4Addr;
use std::time::Duration;

use flow_table::{Key, mix};
use packet::{Endpoint, External, Instant, Internal, LinkId, Protocol};

use crate::hosts::{HostSlot, Hosts};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::tick::Tick;

/// One of a mapping's two names: its internal endpoint, or its external one.
///
/// **Shape**: the internal name includes the external *address*. So an endpoint whose mapping was
/// made under an address that the WAN no longer has gets a second one, and the first ends with its
/// own sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MappingKey([u64; 2]);

impl MappingKey {
    pub(crate) fn internal(protocol: Protocol, internal: Internal, address: Ipv4Addr) -> Self {
        Self::new(protocol, internal.0, address.to_bits(), INTERNAL)
    }

    pub(crate) fn external(protocol: Protocol, external: External) -> Self {
        Self::new(protocol, external.0, 0, EXTERNAL)
    }

    fn new(protocol: Protocol, endpoint: Endpoint, low: u32, kind: u64) -> Self {
        Self([
            u64::from(endpoint.address.to_bits()) << 32 | u64::from(low),
            u64::from(endpoint.port) << 48 | u64::from(protocol as u8) << 8 | kind,
        ])
    }

    /// The protocol of the endpoint.
    pub(crate) fn protocol(self) -> Option<Protocol> {
        Protocol::from_number((self.0[1] >> 8) as u8)
    }

    /// The endpoint that the key names.
    pub(crate) fn endpoint(self) -> Endpoint {
        Endpoint::new(Ipv4Addr::from_bits((self.0[0] >> 32) as u32), (self.0[1] >> 48) as u16)
    }
}

impl Key for MappingKey {
    fn hash(&self, seed: u64) -> u64 {
        mix(self.0, seed)
    }
}

/// What an internal endpoint's external one needs remembered; side 0's is the one that counts.
///
/// ```text
///             session             last session         port_rest
///   (absent) --------> held by n ------------> at rest ----------> dead, removed by its owner
///                          ^      a session of    |
///                          +--- the same endpoint +
/// ```
///
/// Any worker counts sessions up and down, only the owner of the entry makes it dead: nobody can
/// then hold it. At rest it admits nobody, but its external endpoint can go to no other (RFC 6888
/// REQ-8).
pub(crate) struct Mapping {
    /// High half: the slot of the host's quota. Low half: sessions, or all ones when dead.
    word: AtomicU64,
    /// When the last session ended.
    freed: AtomicU32,
    /// Where the internal endpoint is.
    lan: LinkId,
}

impl Mapping {
    /// A mapping with one session.
    pub(crate) fn held(slot: HostSlot, lan: LinkId) -> Self {
        Self { word: AtomicU64::new(word(slot, 1)), freed: AtomicU32::new(0), lan }
    }

    /// The link of the internal endpoint.
    pub(crate) fn lan(&self) -> LinkId {
        self.lan
    }

    /// Whether a session holds it.
    pub(crate) fn is_held(&self) -> bool {
        !matches!(count(self.word.load(Ordering::Acquire)), 0 | DEAD)
    }

    /// Adds a session to a mapping that has one.
    pub(crate) fn join(&self) -> bool {
        let joined = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            (!matches!(count(word), 0 | DEAD)).then(|| word + 1)
        });
        joined.is_ok()
    }

    /// Wakes a mapping at rest with a first session, whose host is counted in `slot`.
    pub(crate) fn wake(&self, slot: HostSlot) -> bool {
        let woken = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |current| {
            (count(current) == 0).then(|| word(slot, 1))
        });
        woken.is_ok()
    }

    /// Takes a session away. With the last one the mapping goes to rest: `true`.
    pub(crate) fn release(&self, hosts: &Hosts, now: Instant) -> bool {
        // Stored with every release: who sees the count at 0 also sees this.
        self.freed.store(Tick::at(now).0, Ordering::Relaxed);
        let last = |current| count(current) == 1;
        let before = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |current| {
            debug_assert!(!matches!(count(current), 0 | DEAD), "released more often than held");
            Some(if last(current) { word(HostSlot::NONE, 0) } else { current - 1 })
        });
        if let Ok(before) = before
            && last(before)
        {
            hosts.release(HostSlot((before >> 32) as u32));
            return true;
        }
        false
    }

    /// Makes a mapping that has rested long enough dead. For the owner of the entry, who must
    /// remove it then.
    pub(crate) fn retire(&self, now: Instant, rest: Duration) -> bool {
        let rest = if self.lan == LinkId::LOCAL { Duration::ZERO } else { rest };
        self.has_rested(now, rest) && self.kill()
    }

    /// Whether it has been at rest for so long, or is dead.
    pub(crate) fn has_rested(&self, now: Instant, rest: Duration) -> bool {
        // Acquire pairs with the release that brought the count to 0, after it had stored `freed`.
        !self.is_held()
            && (rest == Duration::ZERO
                || Tick::at(now).is_past(Tick(self.freed.load(Ordering::Relaxed)), rest))
    }

    /// Makes a mapping at rest dead, however short its rest. As for [`Self::retire`].
    pub(crate) fn kill(&self) -> bool {
        let vacant = word(HostSlot::NONE, 0);
        self.word.compare_exchange(vacant, u64::MAX, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// A mapping has had traffic with a remote address: kept only for LANs whose filtering is
/// address-dependent, and of ESP, where it counts the associations toward a peer.
///
/// **Shape**: external address and remote address, external port, protocol. An entry needs two
/// names; nobody looks the second up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ContactKey([u64; 2]);

impl ContactKey {
    pub(crate) fn new(protocol: Protocol, external: External, remote: Ipv4Addr) -> [Self; 2] {
        let addresses = u64::from(external.0.address.to_bits()) << 32 | u64::from(remote.to_bits());
        // An ESP packet's is an SPI, which is no part of the endpoint.
        let port = if protocol == Protocol::Esp { 0 } else { external.0.port };
        let rest = u64::from(port) << 48 | u64::from(protocol as u8) << 8;
        [Self([addresses, rest]), Self([addresses, rest | 1])]
    }
}

impl Key for ContactKey {
    fn hash(&self, seed: u64) -> u64 {
        mix(self.0, seed)
    }
}

/// Sessions that a contact stands for; side 0's counts. Counted like a mapping's, but without rest.
pub(crate) struct Contact(AtomicU32);

impl Contact {
    /// A contact with one session.
    pub(crate) fn held() -> Self {
        Self(AtomicU32::new(1))
    }

    pub(crate) fn is_held(&self) -> bool {
        self.count() > 0
    }

    /// How many sessions it stands for.
    pub(crate) fn count(&self) -> u32 {
        match self.0.load(Ordering::Relaxed) {
            DEAD => 0,
            count => count,
        }
    }

    /// Adds a session, unless the contact is dead.
    pub(crate) fn join(&self) -> bool {
        let add = |count| (count != DEAD).then(|| count + 1);
        // Relaxed, like all accesses to the word: it is all there is.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub(crate) fn release(&self) {
        let take = |count| if count == DEAD { None } else { u32::checked_sub(count, 1) };
        // Nothing to take: the session held an entry that lost the race for its key.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    }

    /// Makes a contact without sessions dead. For the owner of the entry, who must remove it then.
    pub(crate) fn retire(&self) -> bool {
        self.0.compare_exchange(0, DEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn word(slot: HostSlot, sessions: u32) -> u64 {
    u64::from(slot.0) << 32 | u64::from(sessions)
}

fn count(word: u64) -> u32 {
    word as u32
}

const INTERNAL: u64 = 0;
const EXTERNAL: u64 = 1;
const DEAD: u32 = u32::MAX;

#[cfg(test)]
#[cfg(loom)]
mod interleavings {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::sync::explore;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
    const LAN: LinkId = LinkId(1);
    const NOW: Instant = Instant::from_secs(1000);
    const REST: Duration = Duration::from_secs(120);

    /// A mapping with one session, and the quota that it is counted in.
    fn held() -> (Arc<Hosts>, Arc<Mapping>) {
        let hosts = Hosts::new(crate::hosts::SLOTS, 1);
        let slot = hosts.acquire(HOST, 2).unwrap();
        (Arc::new(hosts), Arc::new(Mapping::held(slot, LAN)))
    }

    #[test]
    fn the_last_session_leaves_or_the_next_joins_and_the_quota_agrees() {
        explore(3, || {
            let (hosts, mapping) = held();
            let (there, counted) = (Arc::clone(&mapping), Arc::clone(&hosts));
            let leaving = thread::spawn(move || there.release(&counted, NOW));
            let joined = mapping.join();
            let rests = leaving.join().unwrap();
            assert!(joined != rests);
            assert_eq!((mapping.is_held(), hosts.count(HOST)), (joined, u32::from(joined)));
        });
    }

    #[test]
    fn of_two_sessions_that_leave_at_once_one_is_the_last() {
        explore(3, || {
            let (hosts, mapping) = held();
            assert!(mapping.join());
            let (there, counted) = (Arc::clone(&mapping), Arc::clone(&hosts));
            let leaving = thread::spawn(move || there.release(&counted, NOW));
            let rests = mapping.release(&hosts, NOW);
            assert!(rests != leaving.join().unwrap());
            assert_eq!(hosts.count(HOST), 0);
        });
    }

    #[test]
    fn a_mapping_at_rest_is_woken_once_or_dies() {
        explore(3, || {
            let (hosts, mapping) = held();
            assert!(mapping.release(&hosts, NOW));
            let wakers = [1, 2].map(|_| {
                let (mapping, hosts) = (Arc::clone(&mapping), Arc::clone(&hosts));
                thread::spawn(move || {
                    let slot = hosts.acquire(HOST, 2).unwrap();
                    let woken = mapping.wake(slot);
                    if !woken {
                        hosts.release(slot);
                    }
                    woken
                })
            });
            let dies = mapping.kill();
            let woken = wakers.map(|waker| waker.join().unwrap());
            assert_eq!(woken.iter().filter(|woken| **woken).count(), usize::from(!dies));
            assert_eq!((mapping.is_held(), hosts.count(HOST)), (!dies, u32::from(!dies)));
            assert!(!dies || !mapping.join() && !mapping.wake(HostSlot::NONE));
        });
    }

    #[test]
    fn a_mapping_is_not_retired_before_it_rested_since_its_last_session() {
        explore(3, || {
            let (hosts, mapping) = held();
            let there = Arc::clone(&mapping);
            let upkeep = thread::spawn(move || there.retire(NOW, REST));
            assert!(mapping.release(&hosts, NOW));
            assert!(!upkeep.join().unwrap());
            assert!(mapping.retire(NOW + 2 * REST, REST));
        });
    }

    #[test]
    fn a_contact_is_joined_or_dies() {
        explore(3, || {
            let contact = Arc::new(Contact::held());
            let there = Arc::clone(&contact);
            let upkeep = thread::spawn(move || there.retire());
            let last = Arc::clone(&contact);
            let leaving = thread::spawn(move || last.release());
            let joined = contact.join();
            let dies = upkeep.join().unwrap();
            leaving.join().unwrap();
            assert!(!dies || !joined);
            assert_eq!(contact.count(), u32::from(joined));
            assert_eq!(contact.retire(), !joined && !dies);
        });
    }
}
