//! The neighbour table: one writer, many readers, atomics only.
//!
//! A slot is a key word and a value word. The value carries a version that grows each time the slot
//! is emptied or filled, so it doubles as a sequence lock for the key and as the proof that a
//! [`NeighbourRef`] still means the neighbour that it was made for.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use packet::{LinkId, MacAddr, MacWord};

/// Slots in the table: every host of a /20, which is more than one broadcast domain bears.
pub const NEIGHBOURS_MAX: usize = if cfg!(loom) { 1 } else { 4096 };

/// Slots that may hold a given neighbour, from its hash on. At three quarters full a window
/// without a free slot is rare, and a look-up reads at most eight cache lines.
const WINDOW: usize = if cfg!(loom) { 1 } else { 16 };

const MAC_BITS: u32 = 48;
const VALID: u64 = 1 << MAC_BITS;
const VERSION_SHIFT: u32 = MAC_BITS + 1;
const VERSION_MASK: u16 = 0x7fff;

/// A reference to a neighbour that a flow entry keeps; 32 bits.
///
/// **Shape**: slot index and the slot's version at the time of look-up. It goes stale when the
/// neighbour leaves, which [`Neighbours::resolve`] notices. After 16,384 reuses of one slot a
/// version comes again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NeighbourRef {
    slot: u16,
    version: u16,
}

impl NeighbourRef {
    /// A reference that never resolves, all bits zero: a slot in use has an odd version.
    pub const NONE: NeighbourRef = NeighbourRef { slot: 0, version: 0 };

    /// The reference as a word, for packing into a flow entry.
    #[must_use]
    #[inline]
    pub const fn to_bits(self) -> u32 {
        (self.slot as u32) << 16 | self.version as u32
    }

    /// The reference that [`Self::to_bits`] made the word from.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self { slot: (bits >> 16) as u16, version: bits as u16 }
    }
}

/// The table as workers see it.
pub struct Neighbours {
    slots: Box<[Slot]>,
}

/// Two slots to a cache line, so that resolving touches one line.
#[repr(align(32))]
#[derive(Default)]
struct Slot {
    /// Link and address. Means nothing unless the value is valid.
    key: AtomicU64,
    /// Version (15 bits), valid (1), MAC (48, the first byte lowest, as they are stored into a frame).
    value: AtomicU64,
    /// Whether a reader came by since the writer last asked.
    used: AtomicBool,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == 32);
const _: () = assert!(NEIGHBOURS_MAX.is_power_of_two() && NEIGHBOURS_MAX <= u16::MAX as usize);

impl Neighbours {
    /// The reference of the neighbour with `address` on `link`, and marks it used. Wait-free.
    ///
    /// `None` also if the slot is being changed this moment: the caller punts, and the control
    /// thread finds out.
    #[must_use]
    #[inline]
    pub fn lookup(&self, link: LinkId, address: Ipv4Addr) -> Option<NeighbourRef> {
        let key = key_of(link, address);
        for index in window(key) {
            let slot = &self.slots[index];
            // Acquire: pairs with the Release of `fill` and `insert`, so the key read next is at
            // least as new as the value.
            let before = slot.value.load(Ordering::Acquire);
            if before & VALID == 0 {
                continue;
            }
            // Acquire: if this reads the key of a later tenant, the load below must see that the
            // slot was emptied in between.
            if slot.key.load(Ordering::Acquire) != key {
                continue;
            }
            let after = slot.value.load(Ordering::Relaxed);
            if version_of(before) == version_of(after) {
                slot.mark_used();
                return Some(NeighbourRef { slot: index as u16, version: version_of(before) });
            }
        }
        None
    }

    /// The neighbour's current MAC address, and marks it used; `None` if the neighbour has left.
    /// Wait-free, one load.
    #[must_use]
    #[inline]
    pub fn resolve(&self, neighbour: NeighbourRef) -> Option<MacAddr> {
        self.resolve_word(neighbour).map(MacAddr::from)
    }

    /// As [`Self::resolve`], for whoever only stores it into a frame.
    #[must_use]
    #[inline(always)]
    pub fn resolve_word(&self, neighbour: NeighbourRef) -> Option<MacWord> {
        let slot = self.slots.get(usize::from(neighbour.slot))?;
        // Relaxed: the word is complete in itself.
        let value = slot.value.load(Ordering::Relaxed);
        if value & VALID == 0 || version_of(value) != neighbour.version {
            return None;
        }
        slot.mark_used();
        Some(MacWord::of_bits(value))
    }
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbours").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Slot {
    /// Writes only if needed, so that busy readers share the line. Relaxed: a hint that orders
    /// nothing.
    #[inline]
    fn mark_used(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

/// Every slot that may hold the neighbour is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no free slot in the neighbour table")
    }
}

impl std::error::Error for NoRoom {}

/// The only way to change the table. Not `Clone`: the sequence of stores assumes a single writer.
#[derive(Debug)]
pub struct NeighbourWriter {
    table: Arc<Neighbours>,
    len: usize,
}

impl NeighbourWriter {
    /// Makes an empty table.
    #[must_use]
    pub fn new() -> Self {
        let slots = (0..NEIGHBOURS_MAX).map(|_| Slot::default()).collect();
        Self { table: Arc::new(Neighbours { slots }), len: 0 }
    }

    /// The table, for workers.
    #[must_use]
    pub fn table(&self) -> Arc<Neighbours> {
        Arc::clone(&self.table)
    }

    /// Neighbours in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no neighbour.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a neighbour, or changes the MAC address of one; references to it stay good.
    ///
    /// # Errors
    /// [`NoRoom`] if every slot that may hold it is taken; see [`Self::evict_unused`].
    pub fn insert(
        &mut self,
        link: LinkId,
        address: Ipv4Addr,
        mac: MacAddr,
    ) -> Result<NeighbourRef, NoRoom> {
        let key = key_of(link, address);
        if let Some(index) = self.find(key) {
            let slot = &self.table.slots[index];
            let version = version_of(slot.value.load(Ordering::Relaxed));
            // Release: who reads this value, not the one of `fill`, must see the key all the same.
            slot.value.store(value_of(mac, version), Ordering::Release);
            return Ok(NeighbourRef { slot: index as u16, version });
        }
        let index = window(key).find(|&index| !self.is_taken(index)).ok_or(NoRoom)?;
        self.len += 1;
        Ok(self.fill(index, key, mac))
    }

    /// Removes a neighbour, so that references to it go stale; whether it was there.
    pub fn remove(&mut self, link: LinkId, address: Ipv4Addr) -> bool {
        let Some(index) = self.find(key_of(link, address)) else { return false };
        self.empty(index);
        true
    }

    /// Makes room for a neighbour: removes one that no reader used since it was last asked about,
    /// and says which.
    pub fn evict_unused(&mut self, link: LinkId, address: Ipv4Addr) -> Option<(LinkId, Ipv4Addr)> {
        let index = window(key_of(link, address)).find(|&index| {
            self.is_taken(index) && !self.table.slots[index].used.load(Ordering::Relaxed)
        })?;
        let key = self.table.slots[index].key.load(Ordering::Relaxed);
        self.empty(index);
        Some((LinkId((key >> 32) as u8), Ipv4Addr::from(key as u32)))
    }

    /// Whether a reader used the neighbour since this was last asked.
    pub fn take_used(&mut self, link: LinkId, address: Ipv4Addr) -> bool {
        // Relaxed: a hint that orders nothing.
        self.find(key_of(link, address))
            .is_some_and(|index| self.table.slots[index].used.swap(false, Ordering::Relaxed))
    }

    fn find(&self, key: u64) -> Option<usize> {
        // Relaxed: this thread made every store to these words.
        window(key).find(|&index| {
            self.is_taken(index) && self.table.slots[index].key.load(Ordering::Relaxed) == key
        })
    }

    fn is_taken(&self, index: usize) -> bool {
        self.table.slots[index].value.load(Ordering::Relaxed) & VALID != 0
    }

    fn fill(&mut self, index: usize, key: u64, mac: MacAddr) -> NeighbourRef {
        let slot = &self.table.slots[index];
        let version = next_version(version_of(slot.value.load(Ordering::Relaxed)));
        slot.used.store(false, Ordering::Relaxed);
        // Release: pairs with the Acquire of the key in `lookup`. Who reads this key sees that the
        // slot was emptied before.
        slot.key.store(key, Ordering::Release);
        // Release: pairs with the Acquire of the value in `lookup`. Who reads this value sees the
        // key.
        slot.value.store(value_of(mac, version), Ordering::Release);
        NeighbourRef { slot: index as u16, version }
    }

    fn empty(&mut self, index: usize) {
        let slot = &self.table.slots[index];
        let version = next_version(version_of(slot.value.load(Ordering::Relaxed)));
        // Relaxed: what must be ordered after this store is the key of the next tenant, and `fill`
        // releases that.
        slot.value.store(u64::from(version) << VERSION_SHIFT, Ordering::Relaxed);
        self.len -= 1;
    }
}

impl Default for NeighbourWriter {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
fn key_of(link: LinkId, address: Ipv4Addr) -> u64 {
    u64::from(link.0) << 32 | u64::from(u32::from(address))
}

/// The slots that may hold `key`, by Fibonacci hashing: hosts of a subnet are consecutive numbers,
/// which it spreads evenly.
#[inline]
fn window(key: u64) -> impl Iterator<Item = usize> {
    let home = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
    (0..WINDOW).map(move |step| (home + step) & (NEIGHBOURS_MAX - 1))
}

#[inline]
fn version_of(value: u64) -> u16 {
    (value >> VERSION_SHIFT) as u16 & VERSION_MASK
}

#[inline]
fn next_version(version: u16) -> u16 {
    version.wrapping_add(1) & VERSION_MASK
}

#[inline]
fn value_of(mac: MacAddr, version: u16) -> u64 {
    u64::from(version) << VERSION_SHIFT | VALID | MacWord::from(mac).to_bits()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LAN: LinkId = LinkId(1);

    fn address(n: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + n)
    }

    fn mac(n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([2, 0, a, b, c, d])
    }

    #[test]
    fn a_reference_follows_a_change_of_mac() {
        let mut writer = NeighbourWriter::new();
        let table = writer.table();
        writer.insert(LAN, address(1), mac(1)).unwrap();
        let neighbour = table.lookup(LAN, address(1)).unwrap();
        assert_eq!(table.resolve(neighbour), Some(mac(1)));
        assert_eq!(writer.insert(LAN, address(1), mac(2)), Ok(neighbour));
        assert_eq!(table.resolve(neighbour), Some(mac(2)));
        assert_eq!(writer.len(), 1);
    }

    #[test]
    fn a_reference_goes_stale_when_the_slot_is_removed_or_reused() {
        let mut writer = NeighbourWriter::new();
        let table = writer.table();
        let old = writer.insert(LAN, address(1), mac(1)).unwrap();
        assert!(writer.remove(LAN, address(1)));
        assert_eq!(table.resolve(old), None);
        assert_eq!(table.lookup(LAN, address(1)), None);
        let new = writer.insert(LAN, address(1), mac(9)).unwrap();
        assert_eq!(new.slot, old.slot);
        assert_eq!(table.resolve(old), None);
        assert_eq!(table.resolve(new), Some(mac(9)));
    }

    #[test]
    fn the_same_address_on_two_links_is_two_neighbours() {
        let mut writer = NeighbourWriter::new();
        writer.insert(LinkId(0), address(1), mac(1)).unwrap();
        writer.insert(LinkId(1), address(1), mac(2)).unwrap();
        let table = writer.table();
        let on = |link| table.resolve(table.lookup(LinkId(link), address(1)).unwrap());
        assert_eq!((on(0), on(1)), (Some(mac(1)), Some(mac(2))));
        assert_eq!(table.lookup(LinkId(2), address(1)), None);
    }

    #[test]
    fn the_empty_reference_never_resolves() {
        let table = NeighbourWriter::new().table();
        assert_eq!(NeighbourRef::NONE, NeighbourRef::from_bits(0));
        assert_eq!(table.resolve(NeighbourRef::NONE), None);
        let some = NeighbourRef { slot: 0x0123, version: 0x4567 };
        assert_eq!(NeighbourRef::from_bits(some.to_bits()), some);
    }

    #[test]
    fn readers_mark_what_they_use() {
        let mut writer = NeighbourWriter::new();
        let neighbour = writer.insert(LAN, address(1), mac(1)).unwrap();
        assert!(!writer.take_used(LAN, address(1)));
        assert!(writer.table().resolve(neighbour).is_some());
        assert!(writer.take_used(LAN, address(1)));
        assert!(!writer.take_used(LAN, address(1)));
        assert!(writer.table().lookup(LAN, address(1)).is_some());
        assert!(writer.take_used(LAN, address(1)));
    }

    #[test]
    fn three_quarters_of_the_slots_can_be_filled_with_consecutive_hosts() {
        let mut writer = NeighbourWriter::new();
        for n in 0..NEIGHBOURS_MAX as u32 * 3 / 4 {
            writer.insert(LAN, address(n), mac(n)).unwrap();
        }
    }

    #[test]
    fn eviction_spares_what_is_in_use() {
        let mut writer = NeighbourWriter::new();
        let table = writer.table();
        // Neighbours whose windows begin at the same slot.
        let home = window(key_of(LAN, address(0))).next();
        let mut crowd = (0..).map(address).filter(|&a| window(key_of(LAN, a)).next() == home);
        let tenants: Vec<_> = crowd.by_ref().take(WINDOW).collect();
        for &tenant in &tenants {
            writer.insert(LAN, tenant, mac(1)).unwrap();
        }
        let newcomer = crowd.next().unwrap();
        assert_eq!(writer.insert(LAN, newcomer, mac(2)), Err(NoRoom));
        for &tenant in tenants.iter().filter(|&&t| t != tenants[5]) {
            assert!(table.lookup(LAN, tenant).is_some());
        }
        assert_eq!(writer.evict_unused(LAN, newcomer), Some((LAN, tenants[5])));
        assert!(writer.insert(LAN, newcomer, mac(2)).is_ok());
        assert!(table.lookup(LAN, newcomer).is_some());
        assert_eq!(writer.evict_unused(LAN, newcomer), None);
    }

    #[test]
    fn a_reader_never_sees_the_mac_of_another_neighbour() {
        let mut writer = NeighbourWriter::new();
        let table = writer.table();
        let home = window(key_of(LAN, address(0))).next();
        let rivals: Vec<u32> =
            (0..).filter(|&n| window(key_of(LAN, address(n))).next() == home).take(2).collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for &rival in &rivals {
                let (table, stop) = (&table, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(neighbour) = table.lookup(LAN, address(rival)) else { continue };
                        if let Some(seen) = table.resolve(neighbour) {
                            assert_eq!(seen, mac(rival));
                        }
                    }
                });
            }
            // A part of them where a sanitizer watches (`cargo xtask sanitize`).
            let divisor = std::env::var("STRESS_DIVISOR").map_or(1, |it| it.parse().unwrap());
            for turn in 0..200_000usize / divisor {
                let rival = rivals[turn % 2];
                writer.insert(LAN, address(rival), mac(rival)).unwrap();
                writer.remove(LAN, address(rival));
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_map(
            steps in proptest::collection::vec((0u8..3, 0u8..2, 0u32..40, 1u32..9), 0..200),
        ) {
            let mut writer = NeighbourWriter::new();
            let table = writer.table();
            let mut model = BTreeMap::new();
            for (verb, link, host, station) in steps {
                let (link, host) = (LinkId(link), address(host));
                if verb == 0 {
                    let was_there = model.remove(&(link, host)).is_some();
                    prop_assert_eq!(writer.remove(link, host), was_there);
                } else if writer.insert(link, host, mac(station)).is_ok() {
                    model.insert((link, host), mac(station));
                }
                let found = table.lookup(link, host).and_then(|n| table.resolve(n));
                prop_assert_eq!(found, model.get(&(link, host)).copied());
                prop_assert_eq!(writer.len(), model.len());
            }
        }
    }
}

#[cfg(test)]
#[cfg(loom)]
mod interleavings {
    use loom::thread;

    use super::*;

    const LAN: LinkId = LinkId(1);
    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);

    /// The `n`th MAC address of a neighbour.
    fn mac(address: Ipv4Addr, n: u8) -> MacAddr {
        let [a, b, c, d] = address.octets();
        MacAddr([a, b, c, d, 0, n])
    }

    /// Readers run in spawned threads: loom forgets what they read before the writer, which reads too, runs.
    fn explore(test: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(test);
    }

    #[test]
    fn a_reader_never_sees_the_mac_of_another_neighbour() {
        explore(|| {
            let mut writer = NeighbourWriter::new();
            let table = writer.table();
            writer.insert(LAN, A, mac(A, 1)).unwrap();
            let readers = [A, B].map(|address| {
                let table = Arc::clone(&table);
                thread::spawn(move || {
                    let found = table.lookup(LAN, address).and_then(|known| table.resolve(known));
                    assert!(found.is_none_or(|found| (1..=2).any(|n| found == mac(address, n))));
                })
            });
            assert!(writer.remove(LAN, A));
            writer.insert(LAN, B, mac(B, 1)).unwrap();
            writer.insert(LAN, B, mac(B, 2)).unwrap();
            for reader in readers {
                reader.join().unwrap();
            }
        });
    }

    #[test]
    fn a_reference_follows_its_neighbour_and_then_goes_stale_for_good() {
        explore(|| {
            let mut writer = NeighbourWriter::new();
            let table = writer.table();
            let known = writer.insert(LAN, A, mac(A, 1)).unwrap();
            let reading = Arc::clone(&table);
            let reader = thread::spawn(move || {
                let life = [Some(mac(A, 1)), Some(mac(A, 2)), None];
                let age = |seen| life.iter().position(|step| *step == seen).unwrap();
                let seen = [(); 2].map(|()| age(reading.resolve(known)));
                assert!(seen[0] <= seen[1]);
            });
            writer.insert(LAN, A, mac(A, 2)).unwrap();
            assert!(writer.remove(LAN, A));
            writer.insert(LAN, A, mac(A, 3)).unwrap();
            reader.join().unwrap();
            assert_eq!(table.resolve(known), None);
        });
    }
}
