//! Which external ports are taken, written down where a crash does not reach it (RFC 6888 REQ-8).
//!
//! ```text
//!   page 0    one word for each address: address 32 | claim 16 | left 16
//!   then      for each address, for ICMP, TCP and UDP: a word for each port
//!             internal address 32 | internal port 16 | stamp 16           0: free
//! ```
//!
//! A word counts if its stamp is the *claim* of its address, which a run takes when it first makes a
//! mapping under the address, or *left*, the stamp under which [`PortJournal::resume`] gathers
//! what earlier runs left behind. So an address that gives way to another needs no clearing. What
//! was left is held for as long as ports rest: it goes to no other internal endpoint, and its own
//! gets it back first. Then it is forgotten.
//!
//! A mapping's word is written before its first packet leaves and cleared before its port can go
//! to another: one relaxed exchange each, no system call. Every word stands for itself, so a crash at
//! any moment leaves nothing half-written.
//!
//! Limits: as many addresses as the storage was made for; the ports of further ones are not written
//! down. 65,000 claims in a run.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use packet::{Endpoint, External, Instant, Internal, Protocol};

use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, sized};

/// Where a [`PortJournal`] keeps its words: memory that outlives the router.
pub type JournalWords = Arc<dyn AsRef<[AtomicU64]> + Send + Sync>;

/// The journal of one run.
pub struct PortJournal {
    words: JournalWords,
    /// What each internal endpoint had: its key and the external port, sorted.
    former: Box<[(u64, u16)]>,
    /// Until when what was left is held.
    until: Instant,
    /// The claim to be taken next.
    claim: AtomicU32,
    /// The next word to forget, when the time is over.
    hand: AtomicUsize,
}

/// The part of one external address.
#[derive(Clone, Copy)]
struct Segment {
    index: usize,
    claim: u16,
    left: u16,
}

impl Segment {
    fn of(index: usize, header: u64) -> Self {
        Self { index, claim: (header >> 16) as u16, left: header as u16 }
    }
}

impl PortJournal {
    /// What the layout is called, for storage that may hold something else. Native byte order.
    pub const FORMAT: u64 = u64::from_le_bytes(*b"zrports1");

    /// The length of a journal for so many external addresses, in words.
    #[must_use]
    pub const fn words_for(addresses: usize) -> usize {
        assert!(addresses <= HEADERS, "their headers are on one page");
        HEADERS + addresses * SEGMENT
    }

    /// Storage that lasts as long as the process, for so many external addresses.
    #[must_use]
    pub fn in_memory(addresses: usize) -> JournalWords {
        let words: Vec<AtomicU64> =
            (0..Self::words_for(addresses)).map(|_| AtomicU64::new(0)).collect();
        Arc::new(words)
    }

    /// A journal that keeps nothing: after a restart no port is held.
    #[must_use]
    pub fn none() -> Self {
        let words: JournalWords = Arc::new(Vec::new());
        Self::resume(words, Instant::ZERO, Duration::ZERO)
    }

    /// Takes up what earlier runs left, to be held for as long as ports rest. Nobody else may use the
    /// words.
    ///
    /// Whatever they hold makes sense: zeroes are an empty journal, and of garbage most does not
    /// count. A crash on the way loses nothing.
    #[must_use]
    pub fn resume(words: JournalWords, now: Instant, rest: Duration) -> Self {
        let mut former = Vec::new();
        let all = (*words).as_ref();
        for index in 0..addresses_of(all) {
            gather(all, index, &mut former);
        }
        former.sort_unstable();
        let (claim, hand) = (AtomicU32::new(u32::from(LEFT) + 1), AtomicUsize::new(HEADERS));
        Self { words, former: former.into(), until: now + rest, claim, hand }
    }

    /// Ports that are held for those who had them, at about this time; for people.
    #[must_use]
    pub fn held(&self, now: Instant) -> usize {
        if now >= self.until { 0 } else { self.former.len() }
    }

    /// Makes the words of an address usable, in place of another that `is_current` does not want.
    /// `None` if there is no room.
    pub(crate) fn open(
        &self,
        address: Ipv4Addr,
        is_current: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Open<'_>> {
        let words = self.words();
        let headers = &words[..addresses_of(words)];
        for _ in 0..RETRIES {
            let known = find(headers, address);
            let (index, seen) = known.or_else(|| find_or_oldest(headers, address, &is_current))?;
            let segment = Segment::of(index, seen);
            let is_known = address_of(seen) == address;
            if is_known && segment.claim != 0 {
                return Some(Open { journal: self, words, segment });
            }
            let claim = u16::try_from(self.claim.fetch_add(1, Ordering::Relaxed)).ok()?;
            let left = if is_known { segment.left } else { 0 };
            let next = header(address, claim, left);
            // If it fails another worker was quicker, most likely with the same address.
            let _ =
                headers[index].compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        None
    }

    /// The words of an address, to read in; `None` if it has none.
    pub(crate) fn look(&self, address: Ipv4Addr) -> Option<Open<'_>> {
        let words = self.words();
        let headers = &words[..addresses_of(words)];
        let (index, header) = find(headers, address)?;
        Some(Open { journal: self, words, segment: Segment::of(index, header) })
    }

    /// Frees the port of a mapping, if it is still this internal endpoint's.
    pub(crate) fn free(&self, protocol: Protocol, internal: Internal, external: External) {
        let words = self.words();
        let headers = &words[..addresses_of(words)];
        let address = external.0.address;
        let Some((index, header)) = find(headers, address) else { return };
        let segment = Segment::of(index, header);
        let Some(at) = place(segment.index, protocol, external.0.port) else { return };
        let own = word(internal.0, segment.claim);
        // Relaxed, like all accesses to the words: each is all there is.
        let _ = words[at].compare_exchange(own, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Forgets what was left, a little at a time, once it has been held long enough.
    pub(crate) fn forget(&self, now: Instant) {
        let words = self.words();
        let from = self.hand.load(Ordering::Relaxed);
        if now < self.until || from >= words.len() {
            return;
        }
        let from = self.hand.fetch_add(FORGET, Ordering::Relaxed);
        let Some(rest) = words.get(from..) else { return };
        for old in &rest[..FORGET.min(rest.len())] {
            let seen = old.load(Ordering::Relaxed);
            if stamp_of(seen) == LEFT {
                let _ = old.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Whose a port is in this run, by what is written down.
    #[cfg(all(test, loom))]
    pub(crate) fn owner(
        &self,
        address: Ipv4Addr,
        protocol: Protocol,
        port: u16,
    ) -> Option<Internal> {
        let Segment { index, claim, .. } = self.look(address)?.segment;
        let word = self.words()[place(index, protocol, port)?].load(Ordering::Relaxed);
        (word != 0 && stamp_of(word) == claim).then(|| Internal(owner_of(word)))
    }

    fn words(&self) -> &[AtomicU64] {
        (*self.words).as_ref()
    }
}

impl std::fmt::Debug for PortJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PortJournal").field("former", &self.former.len()).finish_non_exhaustive()
    }
}

/// The words of one external address.
pub(crate) struct Open<'a> {
    journal: &'a PortJournal,
    words: &'a [AtomicU64],
    segment: Segment,
}

impl Open<'_> {
    /// Whether a port is held for another internal endpoint, from before the start.
    pub(crate) fn is_held(
        &self,
        protocol: Protocol,
        port: u16,
        internal: Internal,
        now: Instant,
    ) -> bool {
        now < self.journal.until
            && self.left_at(protocol, port).is_some_and(|owner| owner != internal.0)
    }

    /// The port that is held for an internal endpoint.
    pub(crate) fn former(
        &self,
        protocol: Protocol,
        internal: Internal,
        now: Instant,
    ) -> Option<u16> {
        if now >= self.journal.until {
            return None;
        }
        let key = key(self.segment.index, lane(protocol)?, internal.0);
        let former = &self.journal.former;
        let first = former.partition_point(|(other, _)| *other < key);
        let (_, port) = former.get(first).filter(|(other, _)| *other == key)?;
        self.left_at(protocol, *port).filter(|owner| *owner == internal.0).map(|_| *port)
    }

    /// Writes down whose a port is.
    pub(crate) fn take(&self, protocol: Protocol, port: u16, internal: Internal) {
        if let Some(at) = place(self.segment.index, protocol, port) {
            // A store would do, but loom does not know that none comes in the midst of an exchange, as
            // that of `forget`.
            self.words[at].swap(word(internal.0, self.segment.claim), Ordering::Relaxed);
        }
    }

    /// Whose a port was before the start.
    fn left_at(&self, protocol: Protocol, port: u16) -> Option<Endpoint> {
        let at = place(self.segment.index, protocol, port)?;
        let word = self.words[at].load(Ordering::Relaxed);
        let left = self.segment.left;
        (left != 0 && stamp_of(word) == left).then(|| owner_of(word))
    }
}

/// Brings the words of one address that count under one stamp, and clears the others.
fn gather(words: &[AtomicU64], index: usize, former: &mut Vec<(u64, u16)>) {
    let seen = words[index].load(Ordering::Relaxed);
    let Segment { claim, left, .. } = Segment::of(index, seen);
    let address = address_of(seen);
    let ports = &words[HEADERS + index * SEGMENT..][..SEGMENT];
    if address.is_unspecified() {
        return;
    }
    let counts = |stamp| stamp != 0 && (stamp == claim || (stamp, left) == (LEFT, LEFT));
    for word in ports {
        let seen = word.load(Ordering::Relaxed);
        if seen != 0 && !counts(stamp_of(seen)) {
            word.store(0, Ordering::Relaxed);
        }
    }
    // Each step leaves a header under which the same words count, should it be the last one.
    words[index].store(header(address, claim, LEFT), Ordering::Relaxed);
    for (at, word) in ports.iter().enumerate() {
        let seen = word.load(Ordering::Relaxed);
        if seen != 0 {
            let owner = owner_of(seen);
            word.store(self::word(owner, LEFT), Ordering::Relaxed);
            former.push((key(index, at / PORTS, owner), (at % PORTS) as u16));
        }
    }
    words[index].store(header(address, 0, LEFT), Ordering::Relaxed);
}

fn addresses_of(words: &[AtomicU64]) -> usize {
    words.len().saturating_sub(HEADERS) / SEGMENT
}

/// The number of an address's words, and their header.
fn find(headers: &[AtomicU64], address: Ipv4Addr) -> Option<(usize, u64)> {
    let mut seen = headers.iter().map(|header| header.load(Ordering::Relaxed)).enumerate();
    seen.find(|(_, header)| address_of(*header) == address)
}

/// The words of an address, or else those to give up: some that nobody has, else those of the address that
/// has had them longest and is not current.
///
/// Looks at each header once. If another worker takes the address up meanwhile, this sees it, or chooses the
/// same words and loses them to it: an address never gets two places.
fn find_or_oldest(
    headers: &[AtomicU64],
    address: Ipv4Addr,
    is_current: impl Fn(Ipv4Addr) -> bool,
) -> Option<(usize, u64)> {
    let seen = headers.iter().map(|header| header.load(Ordering::Relaxed)).enumerate();
    let usable = seen.filter(|(_, header)| {
        let other = address_of(*header);
        other == address || !is_current(other)
    });
    usable.min_by_key(|(index, header)| {
        let other = address_of(*header);
        let claim = Segment::of(*index, *header).claim;
        (other != address, !other.is_unspecified(), claim)
    })
}

fn header(address: Ipv4Addr, claim: u16, left: u16) -> u64 {
    u64::from(address.to_bits()) << 32 | u64::from(claim) << 16 | u64::from(left)
}

fn address_of(header: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits((header >> 32) as u32)
}

fn word(owner: Endpoint, stamp: u16) -> u64 {
    header(owner.address, owner.port, stamp)
}

fn owner_of(word: u64) -> Endpoint {
    Endpoint::new(Ipv4Addr::from_bits((word >> 32) as u32), (word >> 16) as u16)
}

fn stamp_of(word: u64) -> u16 {
    word as u16
}

fn place(segment: usize, protocol: Protocol, port: u16) -> Option<usize> {
    Some(HEADERS + segment * SEGMENT + lane(protocol)? * PORTS + usize::from(port))
}

/// The protocol's ports within a segment; `None` for one whose ports are not written down.
fn lane(protocol: Protocol) -> Option<usize> {
    match protocol {
        Protocol::Icmp => Some(0),
        Protocol::Tcp => Some(1),
        Protocol::Udp => Some(2),
        _ => None,
    }
}

fn key(segment: usize, lane: usize, owner: Endpoint) -> u64 {
    let place = (segment * LANES + lane) as u64;
    place << 48 | u64::from(owner.address.to_bits()) << 16 | u64::from(owner.port)
}

const PORTS: usize = sized(65_536, 4);
const LANES: usize = 3;
const SEGMENT: usize = LANES * PORTS;

/// Words of page 0, of which each address has one.
const HEADERS: usize = sized(512, 2);

/// The stamp of what earlier runs left.
const LEFT: u16 = 1;

/// Attempts against other workers that take up an address.
const RETRIES: usize = 4;

/// Words looked at per call when forgetting: a microsecond, and done after some hundred calls.
const FORGET: usize = 4096;

#[cfg(test)]
#[cfg(loom)]
mod interleavings {
    use loom::thread;

    use super::*;
    use crate::sync::explore;

    const X: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    const Y: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
    const PORT: u16 = 3;

    fn host(n: u8) -> Internal {
        Internal(Endpoint::new(Ipv4Addr::new(10, 0, 0, n), 5000))
    }

    fn journal(words: &JournalWords) -> Arc<PortJournal> {
        Arc::new(PortJournal::resume(Arc::clone(words), Instant::ZERO, Duration::ZERO))
    }

    /// Which addresses have words.
    fn addresses(journal: &PortJournal) -> Vec<Ipv4Addr> {
        let headers = journal.words()[..HEADERS].iter();
        let mut all: Vec<_> =
            headers.map(|header| address_of(header.load(Ordering::Relaxed))).collect();
        all.sort_unstable();
        all
    }

    /// Writes down a port of `address` for a host; the number of its words.
    fn take(journal: &PortJournal, address: Ipv4Addr, owner: Internal) -> Option<usize> {
        let open = journal.open(address, |other| [X, Y].contains(&other))?;
        open.take(Protocol::Udp, PORT, owner);
        Some(open.segment.index)
    }

    #[test]
    fn an_address_that_several_workers_take_up_has_one_place() {
        explore(3, || {
            let journal = journal(&PortJournal::in_memory(HEADERS));
            let workers = [1, 2].map(|n| {
                let journal = Arc::clone(&journal);
                thread::spawn(move || take(&journal, X, host(n)))
            });
            let places = workers.map(|worker| worker.join().unwrap());
            assert!(places[0].is_some() && places[0] == places[1]);
            assert_eq!(addresses(&journal), [Ipv4Addr::UNSPECIFIED, X]);
        });
    }

    #[test]
    fn two_addresses_that_are_taken_up_at_once_have_a_place_each() {
        explore(3, || {
            let journal = journal(&PortJournal::in_memory(HEADERS));
            let other = Arc::clone(&journal);
            let other = thread::spawn(move || take(&other, Y, host(2)));
            let places = [take(&journal, X, host(1)), other.join().unwrap()];
            assert!(places[0] != places[1] && places.iter().all(Option::is_some), "{places:?}");
            assert_eq!(addresses(&journal), [X, Y]);
        });
    }

    #[test]
    fn what_is_forgotten_is_not_what_was_taken_meanwhile() {
        explore(3, || {
            let words = PortJournal::in_memory(HEADERS);
            take(&journal(&words), X, host(1)).unwrap();
            let journal = journal(&words);
            let forgetting = Arc::clone(&journal);
            let forgetting = thread::spawn(move || forgetting.forget(Instant::from_secs(1)));
            let index = take(&journal, X, host(2)).unwrap();
            forgetting.join().unwrap();
            let at = place(index, Protocol::Udp, PORT).unwrap();
            let word = journal.words()[at].load(Ordering::Relaxed);
            assert_eq!(owner_of(word), host(2).0);
            assert!(stamp_of(word) > LEFT);
        });
    }
}
