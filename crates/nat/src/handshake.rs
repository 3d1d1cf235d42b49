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
use std::sync::atomic::{AtomicU64, Ordering};
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
use crate::tables::Tables;
use crate::window::Window;

/// What is known of a connection from outside before it is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Handshake {
    internal: Endpoint,
    remote: Endpoint,
    external_port: u16,
    /// The external address, see [`Policy::external_at`].
    external_at: u16,
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

impl Answer {
    /// How far `next` is ahead. More than fits is never sent before the third segment: that is
    /// several times the largest window that a connection begins with (RFC 6928).
    fn sent(self) -> u16 {
        u16::try_from(self.next.wrapping_sub(self.initial)).unwrap_or(u16::MAX)
    }
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
        let (remote, external_port) = (datagram.source, datagram.destination.port);
        let external_at =
            policy.place_of(datagram.destination.address).ok_or(DropReason::NoMapping)?;
        let known = self.handshakes.lookup(internal.0, remote, now, policy.timeouts.tcp_opening);
        let known = known.filter(|handshake| {
            (handshake.external_port, handshake.external_at) == (external_port, external_at)
        });
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
                external_port,
                external_at,
                at: stamp(now),
                remote_next,
                remote_scale: scale(segment),
                answer: same.and_then(|handshake| handshake.answer),
            };
            return Ok(relayed(Note::Write(handshake)));
        }
        let known = known.ok_or(DropReason::TcpNoSession)?;
        if segment.has(tcp::RST) {
            let asked = segment.sequence == known.remote_next;
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
        let external = known.external(policy)?.0;
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
        let (source, destination) = (external, datagram.destination);
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
        let explicit = alone.or_else(|| policy.forward_of(Protocol::Tcp, internal));
        let external = match explicit {
            Some(external) => external,
            None => {
                let pair = policy.pool.paired(policy.external?, internal.0.address);
                let key = MappingKey::internal(Protocol::Tcp, internal, pair);
                let hit = self.mappings.lookup(pass, &key)?;
                let (mapping, external) = (hit.value_at(0), External(hit.key_at(1).endpoint()));
                let filtering = policy.filtering_of(mapping.lan(), internal.0.address);
                let admits = mapping.is_held()
                    && self.admits(pass, filtering, Protocol::Tcp, external, remote.address);
                admits.then_some(external)?
            }
        };
        Some(Handshake {
            internal: internal.0,
            remote,
            external_port: external.0.port,
            external_at: policy.place_of(external.0.address)?,
            at: stamp(now),
            remote_next: segment.acknowledgement,
            remote_scale: SCALE_MAX,
            answer: None,
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
        let known = self.pending(pass, internal, remote, now, policy)?;
        known.external(policy)
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
        let external = known.external(policy)?;
        let bound = policy.forward_to(Protocol::Tcp, external).or_else(|| {
            let (to, _) = policy.static_to(external)?;
            (!policy.refuses_strangers(Protocol::Tcp, external)).then_some(to)
        });
        let leads_here = match bound {
            Some(to) => to.0 == internal,
            None => self
                .mapping_between(pass, Protocol::Tcp, Internal(internal), external)
                .is_some_and(|hit| hit.value_at(0).is_held()),
        };
        leads_here.then_some(known)
    }
}

/// The notes.
///
/// **Shape**: sets of two, one cache line each, found by internal and remote endpoint. A note is
/// four words, shared by all workers without locks: the last word carries a sum of all four, so
/// that a note that two workers wrote at once, or that is read while it is written, is none. The
/// newer takes the place of the older.
pub(crate) struct Handshakes {
    sets: Box<[Set]>,
    seed: u64,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([Slot; 2]);

#[derive(Default)]
struct Slot([AtomicU64; 4]);

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
        let mut notes = notes.filter(|note| (note.internal, note.remote) == (internal, remote));
        notes.find(|note| {
            let age = u64::from(stamp(now).wrapping_sub(note.at)) << STAMP;
            Duration::from_nanos(age) <= timeout
        })
    }

    fn write(&self, handshake: &Handshake) {
        let (set, chance) = self.place(handshake.internal, handshake.remote);
        let [first, second] = set.0.each_ref().map(|slot| slot.read(self.seed));
        let is_same = |note: Option<Handshake>| {
            note.is_some_and(|note| {
                (note.internal, note.remote) == (handshake.internal, handshake.remote)
            })
        };
        let age = |note: Option<Handshake>| {
            note.map_or(u16::MAX, |note| handshake.at.wrapping_sub(note.at))
        };
        let way = match age(first).cmp(&age(second)) {
            _ if is_same(first) => 0,
            _ if is_same(second) => 1,
            std::cmp::Ordering::Greater => 0,
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => chance,
        };
        for (word, value) in set.0[way].0.iter().zip(handshake.encode(self.seed)) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn erase(&self, handshake: &Handshake) {
        let (set, _) = self.place(handshake.internal, handshake.remote);
        for slot in &set.0 {
            let note = slot.read(self.seed);
            if note.is_some_and(|note| {
                (note.internal, note.remote) == (handshake.internal, handshake.remote)
            }) {
                slot.0[3].store(0, Ordering::Relaxed);
            }
        }
    }

    /// The set of a connection, and a toss of a coin.
    fn place(&self, internal: Endpoint, remote: Endpoint) -> (&Set, usize) {
        let hash = mix(key_words(internal, remote), self.seed) as usize;
        (&self.sets[hash % SETS], hash / SETS % 2)
    }
}

impl Handshake {
    /// The external endpoint that the remote one speaks with.
    fn external(&self, policy: &Policy) -> Option<External> {
        let address = policy.external_at(self.external_at)?;
        Some(External(Endpoint::new(address, self.external_port)))
    }

    fn encode(&self, seed: u64) -> [u64; 4] {
        let [addresses, ports] = key_words(self.internal, self.remote);
        let answer = self.answer.unwrap_or(Answer { initial: 0, next: 0, scale: 0 });
        let mut words = [
            addresses,
            ports | u64::from(self.external_port) << 16 | u64::from(self.at),
            u64::from(answer.initial) << 32
                | u64::from(answer.sent()) << 16
                | u64::from(self.external_at),
            u64::from(self.remote_next) << 32
                | u64::from(self.answer.is_some()) << 24
                | u64::from(self.remote_scale & 15) << 20
                | u64::from(answer.scale & 15) << 16,
        ];
        words[3] |= sum(words, seed);
        words
    }

    fn decode(words: [u64; 4], seed: u64) -> Option<Self> {
        const SUM: u64 = 0xffff;
        let unsummed = [words[0], words[1], words[2], words[3] & !SUM];
        if words[3] & SUM != sum(unsummed, seed) {
            return None;
        }
        let endpoint = |address: u64, port: u64| {
            Endpoint::new(Ipv4Addr::from_bits(address as u32), port as u16)
        };
        let initial = (words[2] >> 32) as u32;
        let answer = Answer {
            initial,
            next: initial.wrapping_add(words[2] as u32 >> 16),
            scale: (words[3] >> 16) as u8 & 15,
        };
        Some(Self {
            internal: endpoint(words[0] >> 32, words[1] >> 48),
            remote: endpoint(words[0], words[1] >> 32),
            external_port: (words[1] >> 16) as u16,
            external_at: words[2] as u16,
            at: words[1] as u16,
            remote_next: (words[3] >> 32) as u32,
            remote_scale: (words[3] >> 20) as u8 & 15,
            answer: (words[3] >> 24 & 1 == 1).then_some(answer),
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
fn sum(words: [u64; 4], seed: u64) -> u64 {
    let first = mix([words[0], words[1]], seed);
    (mix([first ^ words[2], words[3]], seed) & 0xffff).max(1)
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

/// Sets of two, so that 65,536 handshakes can be under way at once: 2 MiB. At a round trip of 50 ms
/// a flood of a million SYNs a second overwrites about every second one.
const SETS: usize = 32_768;

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: u8, port: u16) -> Endpoint {
        Endpoint::new(Ipv4Addr::new(10, 0, 0, host), port)
    }

    fn handshake() -> Handshake {
        Handshake {
            internal: endpoint(5, 80),
            remote: endpoint(9, 0xfffe),
            external_port: 8080,
            external_at: 300,
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
        assert_eq!(Handshake::decode([0; 4], 7), None);
    }

    #[test]
    fn words_of_two_notes_make_none() {
        let (one, two) = (handshake(), Handshake { internal: endpoint(6, 80), ..handshake() });
        let (one, two) = (one.encode(7), two.encode(7));
        assert_eq!(Handshake::decode([one[0], two[1], one[2], two[3]], 7), None);
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
        let rivals = (1..=u16::MAX).map(|port| Handshake { remote: endpoint(8, port), ..note });
        let mut rivals = rivals.filter(|rival| set(rival) == set(&note));
        table.write(&rivals.next().unwrap());
        assert_eq!(find(now), Some(note), "a set has two places");
        for _ in 0..2 {
            table.write(&Handshake { at: note.at + 1, ..rivals.next().unwrap() });
        }
        assert_eq!(find(now), None, "the oldest goes");
    }
}
