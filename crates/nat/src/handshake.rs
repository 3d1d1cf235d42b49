//! Connections from outside that are not open yet, remembered without a session.
//!
//! A SYN costs its sender nothing and may come from anywhere, so it must cost us nothing that a
//! LAN host could miss: no session, no mapping, no quota (RFC 4987 §2). It is translated by what
//! lets it in alone, and noted in a table of fixed size in which the newer overwrites the older.
//! The server's answer is translated by that note. Only when the remote endpoint acknowledges the
//! answer, which proves that it receives what we send to it, there is a session:
//!
//! ```text
//!   remote                  router                       internal
//!     | --- SYN ------------> note: external port ---------> |
//!     | <---------------------- note: its numbers <- SYN-ACK |
//!     | --- ACK of those ---> session --------------------> |
//! ```
//!
//! Whatever else comes meanwhile from the internal endpoint passes by the note too (a server may
//! speak before the third segment, RFC 7413), from outside only the SYN again and a reset that the
//! answer asked for. A flood overwrites notes; whoever it hits sends its SYN again, or the server
//! its answer, which says all that the note did.

use std::net::Ipv4Addr;
use std::time::Duration;

use flow_table::{Pass, mix};
use packet::header::tcp;
use packet::{
    Datagram, DropReason, Endpoint, External, Instant, Internal, LinkId, PacketBuf, Protocol,
    Segment, Side,
};

use crate::Policy;
use crate::flow::{Direction, Flow, Links, NextHop, Rewrite};
use crate::mapping::MappingKey;
use crate::sync::{AtomicU64, Ordering, sized};
use crate::tables::Tables;
use crate::window::Window;

/// What is known of a connection from outside before it is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Handshake {
    internal: Endpoint,
    remote: Endpoint,
    external: Endpoint,
    /// When it was last written, see [`stamp`].
    at: u16,
    /// The sequence number after the remote SYN.
    remote_next: u32,
    remote_scale: u8,
    answer: Option<Answer>,
}

/// What the internal endpoint has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answer {
    initial: u32,
    next: u32,
    scale: u8,
}

/// A connection from outside that its third segment opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Whom it leads to.
    pub internal: Internal,
    handshake: Handshake,
}

impl Accepted {
    /// What the remote endpoint, and what the internal one, expects so far.
    pub(crate) fn windows(&self) -> [Window; 2] {
        let Handshake { remote_next, remote_scale, answer, .. } = self.handshake;
        let (next, scale) = answer.map_or((0, 0), |answer| (answer.next, answer.scale));
        [Window::of_handshake(next, remote_scale), Window::of_handshake(remote_next, scale)]
    }
}

/// A segment that passes without a session: what becomes of it, and what is noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relay {
    source: Endpoint,
    destination: Endpoint,
    side: Side,
    note: Note,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Note {
    Write(Handshake),
    Erase(Handshake),
}

impl Relay {
    /// Rewrites the packet. The TTL must be above 1.
    pub fn apply(&self, packet: &mut PacketBuf, datagram: &Datagram) {
        let rewrite = Rewrite {
            source: self.source,
            destination: self.destination,
            traits: Direction::Inbound as u8,
            generation: 0,
        };
        let nowhere = NextHop { egress: LinkId::LOCAL, neighbour: 0 };
        let links = Links { ingress: LinkId::LOCAL, next_hop: nowhere };
        Flow::new(datagram.key(self.side), rewrite, links, Instant::ZERO).apply(packet, datagram);
    }

    /// What the packet's source and destination become.
    #[must_use]
    pub fn endpoints(&self) -> (Endpoint, Endpoint) {
        (self.source, self.destination)
    }

    /// Where the packet goes.
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        self.destination.address
    }
}

/// What a TCP segment from outside that has no session may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Pass without a session.
    Relayed(Relay),
    /// Open one.
    Opens(Accepted),
}

impl Tables {
    /// What a TCP segment from outside may do that has no session and that
    /// [`Self::resolve_external`] leads to `internal`.
    ///
    /// # Errors
    /// [`DropReason::TcpNoSession`]: neither a first SYN nor the third segment of a handshake.
    pub fn entry(
        &self,
        datagram: &Datagram,
        segment: &Segment,
        internal: Internal,
        now: Instant,
        policy: &Policy,
    ) -> Result<Entry, DropReason> {
        let (remote, external) = (datagram.source, datagram.destination);
        let known = self.handshakes.lookup(internal.0, remote, now, policy.timeouts.tcp_opening);
        let known = known.filter(|handshake| handshake.external == external);
        let relayed = |note| {
            let (source, destination) = (remote, internal.0);
            Entry::Relayed(Relay { source, destination, side: Side::Outside, note })
        };
        if segment.is_first_syn() {
            let remote_next = segment.next();
            // A SYN that is sent again must not forget the answer to the first.
            let same = known.filter(|handshake| handshake.remote_next == remote_next);
            let handshake = Handshake {
                internal: internal.0,
                remote,
                external,
                at: stamp(now),
                remote_next,
                remote_scale: scale(segment),
                answer: same.and_then(|handshake| handshake.answer),
            };
            return Ok(relayed(Note::Write(handshake)));
        }
        let known = known.ok_or(DropReason::TcpNoSession)?;
        if segment.has(tcp::RST) {
            // The server may have ignored what data the SYN carried.
            let behind = known.remote_next.wrapping_sub(segment.sequence);
            let asked = behind <= SYN_DATA_MAX;
            return if asked {
                Ok(relayed(Note::Erase(known)))
            } else {
                Err(DropReason::TcpNoSession)
            };
        }
        let proves = |answer: Answer| {
            let acknowledged = segment.acknowledgement.wrapping_sub(answer.initial);
            (1..=answer.next.wrapping_sub(answer.initial)).contains(&acknowledged)
        };
        if segment.has(tcp::SYN) || !known.answer.is_some_and(proves) {
            return Err(DropReason::TcpNoSession);
        }
        Ok(Entry::Opens(Accepted { internal, handshake: known }))
    }

    /// What becomes of a TCP segment from an internal endpoint that has no session, if it belongs to
    /// a connection from outside that is not open yet.
    #[must_use]
    pub fn answer(
        &self,
        pass: &Pass<'_>,
        datagram: &Datagram,
        segment: &Segment,
        now: Instant,
        policy: &Policy,
    ) -> Option<Relay> {
        if segment.is_first_syn() {
            return None;
        }
        let known = match self.pending(pass, datagram.source, datagram.destination, now, policy) {
            Some(known) => known,
            None => self.recall(pass, datagram, segment, now, policy)?,
        };
        let answer = match known.answer {
            Some(before) if !segment.has(tcp::SYN) || before.initial == segment.sequence => {
                let ahead = |next: u32| next.wrapping_sub(before.initial);
                let next = if ahead(segment.next()) > ahead(before.next) {
                    segment.next()
                } else {
                    before.next
                };
                Some(Answer { next, ..before })
            }
            _ if segment.has(tcp::SYN) => Some(Answer {
                initial: segment.sequence,
                next: segment.next(),
                scale: scale(segment),
            }),
            none => none,
        };
        let note = if segment.has(tcp::RST) {
            Note::Erase(known)
        } else {
            Note::Write(Handshake { answer, at: stamp(now), ..known })
        };
        let (source, destination) = (known.external, datagram.destination);
        Some(Relay { source, destination, side: Side::Inside, note })
    }

    /// Notes what a relayed segment has shown.
    pub fn note(&self, relay: &Relay) {
        match relay.note {
            Note::Write(handshake) => self.handshakes.write(&handshake),
            Note::Erase(handshake) => self.handshakes.erase(&handshake),
        }
    }

    /// What a SYN-ACK from inside tells of a SYN whose note was overwritten, if such a SYN would be
    /// let in: else a connection that a flood hit would hang until its ends give up.
    fn recall(
        &self,
        pass: &Pass<'_>,
        datagram: &Datagram,
        segment: &Segment,
        now: Instant,
        policy: &Policy,
    ) -> Option<Handshake> {
        if !segment.has(tcp::SYN) {
            return None;
        }
        let (internal, remote) = (Internal(datagram.source), datagram.destination);
        let is_open = |external: &External| !policy.refuses_strangers(Protocol::Tcp, *external);
        let alone = policy.static_of(internal).filter(is_open);
        let external = match alone.or_else(|| policy.forward_of(Protocol::Tcp, internal)) {
            Some(external) => {
                if let Some(forward) = policy.forward_at(Protocol::Tcp, external) {
                    forward.admits(remote.address, Side::Outside).ok()?;
                }
                external
            }
            None => self.recall_mapping(pass, internal, remote, policy)?,
        };
        Some(Handshake {
            internal: internal.0,
            remote,
            external: external.0,
            at: stamp(now),
            remote_next: segment.acknowledgement,
            remote_scale: SCALE_MAX,
            answer: None,
        })
    }

    /// The external endpoint by which a SYN of `remote` would be let in to `internal`, if not by a
    /// forward: that of a mapping, or of the DMZ host.
    fn recall_mapping(
        &self,
        pass: &Pass<'_>,
        internal: Internal,
        remote: Endpoint,
        policy: &Policy,
    ) -> Option<External> {
        let own = policy.external?;
        let pair = policy.pool.paired(own, internal.0.address);
        let key = MappingKey::internal(Protocol::Tcp, internal, pair);
        let mapped = self.mappings.lookup(pass, &key).and_then(|hit| {
            let (mapping, external) = (hit.value_at(0), External(hit.key_at(1).endpoint()));
            let filtering = policy.filtering_of(mapping.lan(), internal.0.address);
            let admits = mapping.is_held()
                && self.admits(pass, filtering, Protocol::Tcp, external, remote.address);
            admits.then_some(external)
        });
        mapped.or_else(|| {
            let external = External(Endpoint::new(own, internal.0.port));
            let leads_here = policy.dmz_to(Protocol::Tcp, external) == Some(internal);
            leads_here.then_some(external)
        })
    }

    /// The external endpoint by which `remote` knows `internal` in a connection that is not open
    /// yet.
    pub(crate) fn pending_external(
        &self,
        pass: &Pass<'_>,
        internal: Endpoint,
        remote: Endpoint,
        now: Instant,
        policy: &Policy,
    ) -> Option<External> {
        self.pending(pass, internal, remote, now, policy).map(|known| External(known.external))
    }

    /// A handshake, if what let it in still does.
    fn pending(
        &self,
        pass: &Pass<'_>,
        internal: Endpoint,
        remote: Endpoint,
        now: Instant,
        policy: &Policy,
    ) -> Option<Handshake> {
        let known = self.handshakes.lookup(internal, remote, now, policy.timeouts.tcp_opening)?;
        let external = External(known.external);
        if !policy.is_external(known.external.address) {
            return None;
        }
        let internal = Internal(internal);
        let leads_here = match policy.forward_at(Protocol::Tcp, external) {
            Some(forward) => {
                policy.forward_to(Protocol::Tcp, external) == Some(internal)
                    && forward.admits(remote.address, Side::Outside).is_ok()
            }
            None => match policy.static_to(external) {
                Some((to, _)) => {
                    to == internal && !policy.refuses_strangers(Protocol::Tcp, external)
                }
                None => {
                    policy.dmz_to(Protocol::Tcp, external) == Some(internal)
                        || self
                            .mapping_between(pass, Protocol::Tcp, internal, external)
                            .is_some_and(|hit| hit.value_at(0).is_held())
                }
            },
        };
        leads_here.then_some(known)
    }
}

/// The notes.
///
/// **Shape**: sets of three, two cache lines each, found by internal and remote endpoint. A note is
/// five words, shared by all workers without locks: the last carries a sum of all, so that a note
/// that two workers wrote at once, or that is read while it is written, is none. The newer takes
/// the place of the oldest.
pub(crate) struct Handshakes {
    sets: Box<[Set]>,
    seed: u64,
}

#[derive(Default)]
#[repr(align(128))]
struct Set([Slot; WAYS]);

#[derive(Default)]
struct Slot([AtomicU64; WORDS]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Set>() == 128);

impl Slot {
    fn read(&self, seed: u64) -> Option<Handshake> {
        // Relaxed: the sum says whether the words belong together, they order no other access.
        Handshake::decode(self.0.each_ref().map(|word| word.load(Ordering::Relaxed)), seed)
    }
}

impl Handshakes {
    pub(crate) fn new(seed: u64) -> Self {
        Self { sets: (0..SETS).map(|_| Set::default()).collect(), seed }
    }

    fn lookup(
        &self,
        internal: Endpoint,
        remote: Endpoint,
        now: Instant,
        timeout: Duration,
    ) -> Option<Handshake> {
        let (set, _) = self.place(internal, remote);
        let notes = set.0.iter().filter_map(|slot| slot.read(self.seed));
        let mut notes = notes.filter(|note| note.is_of(internal, remote));
        notes.find(|note| {
            let age = u64::from(stamp(now).wrapping_sub(note.at)) << STAMP;
            Duration::from_nanos(age) <= timeout
        })
    }

    fn write(&self, handshake: &Handshake) {
        let (set, chance) = self.place(handshake.internal, handshake.remote);
        // Begun anywhere, so that chance decides between notes of one age.
        let mut ways = (0..WAYS).map(|way| (way + chance) % WAYS);
        let rank = |way: &usize| match set.0[*way].read(self.seed) {
            Some(note) if note.is_of(handshake.internal, handshake.remote) => u32::MAX,
            None => u32::from(u16::MAX) + 1,
            Some(note) => u32::from(handshake.at.wrapping_sub(note.at)),
        };
        let first = ways.next().unwrap_or(0);
        let way = ways.fold(first, |best, way| if rank(&way) > rank(&best) { way } else { best });
        for (word, value) in set.0[way].0.iter().zip(handshake.encode(self.seed)) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn erase(&self, handshake: &Handshake) {
        let (set, _) = self.place(handshake.internal, handshake.remote);
        for slot in &set.0 {
            let note = slot.read(self.seed);
            if note.is_some_and(|note| note.is_of(handshake.internal, handshake.remote)) {
                slot.0[WORDS - 1].store(0, Ordering::Relaxed);
            }
        }
    }

    /// The set of a connection, and a throw of a die.
    fn place(&self, internal: Endpoint, remote: Endpoint) -> (&Set, usize) {
        let hash = mix(key_words(internal, remote), self.seed) as usize;
        (&self.sets[hash % SETS], hash / SETS % WAYS)
    }
}

impl Handshake {
    fn is_of(&self, internal: Endpoint, remote: Endpoint) -> bool {
        (self.internal, self.remote) == (internal, remote)
    }

    fn encode(&self, seed: u64) -> [u64; WORDS] {
        let [addresses, ports] = key_words(self.internal, self.remote);
        let answer = self.answer.unwrap_or(Answer { initial: 0, next: 0, scale: 0 });
        let mut words = [
            addresses,
            ports | u64::from(self.remote_next),
            u64::from(self.external.address.to_bits()) << 32
                | u64::from(self.external.port) << 16
                | u64::from(self.at),
            u64::from(answer.initial) << 32 | u64::from(answer.next),
            u64::from(self.answer.is_some()) << 48
                | u64::from(self.remote_scale) << 40
                | u64::from(answer.scale) << 32,
        ];
        words[4] |= sum(words, seed);
        words
    }

    fn decode(words: [u64; WORDS], seed: u64) -> Option<Self> {
        const SUM: u64 = u32::MAX as u64;
        let unsummed = [words[0], words[1], words[2], words[3], words[4] & !SUM];
        if words[4] & SUM != sum(unsummed, seed) {
            return None;
        }
        let endpoint = |address: u64, port: u64| {
            Endpoint::new(Ipv4Addr::from_bits(address as u32), port as u16)
        };
        let answer = Answer {
            initial: (words[3] >> 32) as u32,
            next: words[3] as u32,
            scale: (words[4] >> 32) as u8,
        };
        Some(Self {
            internal: endpoint(words[0] >> 32, words[1] >> 48),
            remote: endpoint(words[0], words[1] >> 32),
            external: endpoint(words[2] >> 32, words[2] >> 16),
            at: words[2] as u16,
            remote_next: words[1] as u32,
            remote_scale: (words[4] >> 40) as u8,
            answer: (words[4] >> 48 & 1 == 1).then_some(answer),
        })
    }
}

fn key_words(internal: Endpoint, remote: Endpoint) -> [u64; 2] {
    [
        u64::from(internal.address.to_bits()) << 32 | u64::from(remote.address.to_bits()),
        u64::from(internal.port) << 48 | u64::from(remote.port) << 32,
    ]
}

/// Never 0 for what is written, so that an erased or new slot holds nothing.
fn sum(words: [u64; WORDS], seed: u64) -> u64 {
    let key = mix([words[0], words[1]], seed);
    let rest = mix([words[2], words[3]], seed);
    (mix([key ^ words[4], rest], seed) & u64::from(u32::MAX)).max(1)
}

fn scale(segment: &Segment) -> u8 {
    segment.window_scale.map_or(0, |scale| scale.min(SCALE_MAX))
}

/// Coarse time: 2^30 ns, 16 bits, so that a note is mistaken for a fresh one after 19 hours at the
/// earliest, and then lets nothing pass but what the internal endpoint itself sends.
fn stamp(now: Instant) -> u16 {
    (now.as_nanos() >> STAMP) as u16
}

const STAMP: u32 = 30;

/// Largest shift of a window (RFC 7323 §2.3).
const SCALE_MAX: u8 = 14;

/// 98,304 handshakes can be under way at once, in 4 MiB. At a round trip of 50 ms a flood of a
/// million SYNs a second overwrites about two in five.
const SETS: usize = sized(32_768, 1);

/// Notes of a set: as many as two cache lines hold.
const WAYS: usize = sized(3, 1);

const WORDS: usize = 5;

/// Most data that a SYN carries: that of one packet, even of a jumbo frame.
const SYN_DATA_MAX: u32 = 9000;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn endpoint(host: u8, port: u16) -> Endpoint {
        Endpoint::new(Ipv4Addr::new(10, 0, 0, host), port)
    }

    fn handshake() -> Handshake {
        Handshake {
            internal: endpoint(5, 80),
            remote: endpoint(9, 0xfffe),
            external: endpoint(7, 8080),
            at: stamp(Instant::from_secs(100_000)),
            remote_next: 0xdead_beef,
            remote_scale: 7,
            answer: Some(Answer { initial: u32::MAX, next: 1, scale: 14 }),
        }
    }

    #[test]
    fn a_note_says_what_was_written() {
        for answer in [None, handshake().answer] {
            let note = Handshake { answer, ..handshake() };
            assert_eq!(Handshake::decode(note.encode(7), 7), Some(note));
        }
        assert_eq!(Handshake::decode([0; WORDS], 7), None);
    }

    #[test]
    fn words_of_two_notes_make_none() {
        let (one, two) = (handshake(), Handshake { internal: endpoint(6, 81), ..handshake() });
        let (one, two) = (one.encode(7), two.encode(7));
        assert_eq!(Handshake::decode([one[0], two[1], one[2], two[3], one[4]], 7), None);
    }

    #[test]
    fn a_note_is_found_until_it_is_old_erased_or_overwritten() {
        let table = Handshakes::new(3);
        let note = handshake();
        let (now, timeout) = (Instant::from_secs(100_000), Duration::from_secs(240));
        let find = |now| table.lookup(note.internal, note.remote, now, timeout);
        assert_eq!(find(now), None);
        table.write(&note);
        assert_eq!(find(now + Duration::from_secs(230)), Some(note));
        assert_eq!(find(now + Duration::from_secs(250)), None);
        assert_eq!(table.lookup(note.internal, endpoint(9, 1), now, timeout), None);
        table.erase(&note);
        assert_eq!(find(now), None);
        table.write(&note);
        let set = |note: &Handshake| std::ptr::from_ref(table.place(note.internal, note.remote).0);
        let remotes =
            (20..40).flat_map(|host| (1..=u16::MAX).map(move |port| endpoint(host, port)));
        let rivals = remotes.map(|remote| Handshake { remote, ..note });
        let mut rivals = rivals.filter(|rival| set(rival) == set(&note));
        for _ in 1..WAYS {
            table.write(&rivals.next().unwrap());
            assert_eq!(find(now), Some(note), "a set has places");
        }
        for _ in 0..WAYS {
            table.write(&Handshake { at: note.at + 1, ..rivals.next().unwrap() });
        }
        assert_eq!(find(now), None, "the oldest goes");
    }
}

#[cfg(all(test, loom))]
mod interleavings {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::sync::explore;

    const NOW: Instant = Instant::from_secs(100_000);

    /// Two notes of one connection, which differ in every word that is not its name.
    fn notes() -> [Handshake; 2] {
        let endpoint = |host, port| Endpoint::new(Ipv4Addr::new(10, 0, 0, host), port);
        let first = Handshake {
            internal: endpoint(5, 80),
            remote: endpoint(9, 4000),
            external: endpoint(7, 8080),
            at: stamp(NOW),
            remote_next: 1,
            remote_scale: 7,
            answer: None,
        };
        let second = Handshake {
            external: endpoint(8, 8081),
            remote_next: 1000,
            remote_scale: 2,
            answer: Some(Answer { initial: 1, next: 2, scale: 3 }),
            ..first
        };
        [first, second]
    }

    fn find(table: &Handshakes) -> Option<Handshake> {
        let [note, _] = notes();
        table.lookup(note.internal, note.remote, NOW, Duration::from_secs(240))
    }

    #[test]
    fn a_note_that_two_workers_write_is_one_of_theirs_or_none() {
        explore(2, || {
            let table = Arc::new(Handshakes::new(3));
            let writing = notes().map(|note| {
                let table = Arc::clone(&table);
                thread::spawn(move || table.write(&note))
            });
            let is_whole = |seen: Option<Handshake>| seen.is_none_or(|it| notes().contains(&it));
            assert!(is_whole(find(&table)));
            for writing in writing {
                writing.join().unwrap();
            }
            assert!(is_whole(find(&table)));
        });
    }

    #[test]
    fn a_note_that_is_erased_while_the_next_is_written_does_not_come_back() {
        explore(2, || {
            let table = Arc::new(Handshakes::new(3));
            let [first, second] = notes();
            table.write(&first);
            let erasing = Arc::clone(&table);
            let erasing = thread::spawn(move || erasing.erase(&first));
            let writing = Arc::clone(&table);
            let writing = thread::spawn(move || writing.write(&second));
            assert!(find(&table).is_none_or(|seen| [first, second].contains(&seen)));
            erasing.join().unwrap();
            writing.join().unwrap();
            assert!(find(&table).is_none_or(|seen| seen == second));
        });
    }
}
