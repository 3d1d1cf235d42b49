//! Fragments in, whole packets out.
//!
//! A translator needs the ports of every fragment, and only the first has them; so fragments wait here until their
//! packet is whole, in whatever order they come (RFC 4787 REQ-14), and it then goes on as if it had arrived so.
//!
//! ```text
//!            first of its packet         the last that was missing
//!   (free) ---------------------> waits ---------------------------> (free), the packet goes on
//!                                   |  contradiction
//!                                   +-----------------> refused ---> (free) when its time is over
//!                                   |  time over, or room for another needed
//!                                   +--------------------------------> (free), its fragments are dropped
//! ```
//!
//! **Limits.** Everything is made at the start: a place per packet with a buffer and a list of pieces. No number
//! of fragments takes more, nor touches packets that come whole (REQ-14a). Of one source only a part may wait; when
//! all places are taken, the source with most of them on the link with most of them gives up its oldest.
//!
//! **Overlap.** A fragment that repeats one that is there, byte for byte, is dropped alone: networks duplicate.
//! Any other overlap ends its packet, and what comes of it later is refused too (RFC 5722 §4): two readings of a packet
//! are one too many.
//!
//! No "fragment reassembly time exceeded" is sent: that is for the host that a packet is for (RFC 792).

use std::time::Duration;

use packet::fragment::PAYLOAD_MAX;
use packet::header::{ethernet, ipv4, put_u16, seal_ipv4};
use packet::{DropReason, Fragment, Home, Instant, LinkId, PacketBuf};

use crate::counters::{Counters, LINKS_MAX};
use crate::verdict::Verdict;

/// Packets that may wait for their rest. Fragments come back to back, so one per flow is usual; what a lossy path
/// leaves behind is what fills this. Each has a buffer of 64 KiB, whose memory is touched as used.
pub(crate) const PACKETS_MAX: u8 = 128;

/// Fragments of one packet. The longest packet is 45 at 1500 bytes, 119 at the 576 that every host must take.
const PIECES_MAX: usize = 128;

/// How long a packet may wait (RFC 791 §3.2 suggests so much). Longer would only help an identification that a fast
/// sender uses again to meet what was left of its earlier use (RFC 4963).
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Buckets of sources.
const SOURCES: usize = 256;

/// Where the payload lies in a buffer while the header may still have no options.
const PAYLOAD: usize = ethernet::LEN + ipv4::LEN_MIN;

/// Whose fragments belong together (RFC 791 §3.2), and the link that they came by.
///
/// **Shape**: addresses; identification, protocol, link and a bit that no free place has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key(u64, u64);

impl Key {
    const FREE: Key = Key(0, 0);

    fn of(fragment: &Fragment, link: LinkId) -> Self {
        let addresses = u64::from(fragment.source.to_bits()) << 32;
        let rest = u64::from(fragment.identification) << 32
            | (fragment.protocol as u64) << 16
            | u64::from(link.0) << 8
            | 1;
        Self(addresses | u64::from(fragment.destination.to_bits()), rest)
    }

    /// The bucket of the source, which tells cheaply how many of its packets wait at most. A secret keeps others
    /// from choosing sources that share one.
    fn bucket(self, secret: u64) -> usize {
        let source = self.source() << 8 | u64::from(self.link().0);
        let mixed = (source ^ secret >> 8).wrapping_mul(secret | 1);
        ((mixed ^ mixed >> 32).wrapping_mul(secret | 1) >> (u64::BITS - SOURCES.ilog2())) as usize
    }

    fn source(self) -> u64 {
        self.0 >> 32
    }

    fn link(self) -> LinkId {
        LinkId((self.1 >> 8) as u8)
    }
}

/// Part of a payload that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Piece {
    begin: u16,
    end: u16,
}

/// What is known of a packet.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Pieces that are there.
    pieces: usize,
    /// Bytes that are there.
    bytes: usize,
    /// Bytes that there will be, once the last fragment came.
    total: Option<usize>,
    /// Length of the header of the first fragment, once it came.
    header_len: usize,
    /// Longest fragment.
    fragment_max: u16,
    dont_fragment: bool,
    /// ECN codepoints seen, a bit for each.
    ecn: u8,
    since: Instant,
    /// Why what comes is dropped, if the packet is given up.
    refused: Option<DropReason>,
}

/// A packet on its way to be whole.
struct Place {
    progress: Progress,
    /// Ascending and apart.
    pieces: Box<[Piece; PIECES_MAX]>,
    /// Options of the first fragment.
    options: [u8; ipv4::LEN_MAX - ipv4::LEN_MIN],
    buffer: PacketBuf,
}

/// The packets of one worker that wait for fragments.
pub(crate) struct Reassembler {
    /// Apart from the places, to be searched fast.
    keys: Box<[Key]>,
    places: Box<[Place]>,
    /// Packets of one source that may wait: a quarter.
    per_source_max: u8,
    secret: u64,
    by_source: [u8; SOURCES],
    by_link: [u8; LINKS_MAX],
    /// No place's time is over before.
    due: Instant,
}

impl Reassembler {
    /// Makes all buffers, for so many packets.
    pub fn new(packets_max: u8, secret: u64) -> Self {
        Self {
            per_source_max: packets_max / 4,
            secret,
            keys: vec![Key::FREE; packets_max.into()].into(),
            places: (0..packets_max).map(|_| Place::new()).collect(),
            by_source: [0; SOURCES],
            by_link: [0; LINKS_MAX],
            due: Instant::NEVER,
        }
    }

    /// Takes a fragment in. If it makes its packet whole, `packet` is that now; its own buffer stays here instead.
    ///
    /// # Errors
    /// [`Verdict::Hold`] if more fragments are needed; [`Verdict::Drop`] if it can be no part of a packet.
    #[cold]
    pub fn take(
        &mut self,
        packet: &mut PacketBuf,
        fragment: &Fragment,
        now: Instant,
        counters: &Counters,
    ) -> Result<(), Verdict> {
        let is_received = packet.home() == Home::Worker && packet.ingress.index() < LINKS_MAX;
        if !is_received || !packet.is_large() {
            return Err(DropReason::FragmentLocal.into());
        }
        let key = Key::of(fragment, packet.ingress);
        let index = match self.keys.iter().position(|other| *other == key) {
            Some(index) => index,
            None => self.begin(key, now, counters),
        };
        let place = &mut self.places[index];
        if let Some(reason) = place.progress.refused {
            return Err(reason.into());
        }
        let waited = place.progress.pieces;
        match place.add(packet.frame(), fragment).and_then(|()| place.finish()) {
            Ok(true) => {
                place.hand_over(packet);
                counters.link(packet.ingress).reassembled.add(waited as u64);
                self.free(index);
                Ok(())
            }
            Ok(false) => Err(Verdict::Hold),
            Err(DropReason::FragmentDuplicate) => Err(DropReason::FragmentDuplicate.into()),
            Err(reason) => {
                // The fragment itself has its verdict from the caller.
                place.progress.pieces = waited;
                place.refuse(key.link(), reason, counters);
                Err(reason.into())
            }
        }
    }

    /// Gives up packets whose time is over; to be called once per batch and when idle.
    pub fn expire(&mut self, now: Instant, counters: &Counters) {
        if now < self.due {
            return;
        }
        self.due = Instant::NEVER;
        for index in 0..self.keys.len() {
            if self.keys[index] == Key::FREE {
                continue;
            }
            let over = self.places[index].progress.since + WAIT_MAX;
            if over <= now {
                self.give_up(index, DropReason::FragmentTimeout, counters);
            } else {
                self.due = self.due.min(over);
            }
        }
    }

    /// Packets that wait, those included that are given up.
    pub fn waiting(&self) -> usize {
        self.keys.iter().filter(|key| **key != Key::FREE).count()
    }

    /// Finds a place for a new packet, making room if need be.
    fn begin(&mut self, key: Key, now: Instant, counters: &Counters) -> usize {
        let bucket = key.bucket(self.secret);
        let is_sibling = |other: Key| other.source() == key.source() && other.link() == key.link();
        let max = self.per_source_max;
        if self.by_source[bucket] >= max
            && self.keys.iter().filter(|other| is_sibling(**other)).count() >= max.into()
        {
            self.evict(is_sibling, counters);
        }
        let free = |keys: &[Key]| keys.iter().position(|key| *key == Key::FREE);
        let index = match free(&self.keys) {
            Some(index) => index,
            None => self.evict(|_| true, counters),
        };
        self.keys[index] = key;
        self.by_source[bucket] += 1;
        self.by_link[key.link().index()] += 1;
        self.places[index].progress = Progress::starting(now);
        self.due = self.due.min(now + WAIT_MAX);
        index
    }

    /// Gives up the oldest packet of the source that has most, on the link that has most.
    fn evict(&mut self, may: impl Fn(Key) -> bool, counters: &Counters) -> usize {
        let weight = |index: &usize| {
            let key = self.keys[*index];
            let (by_link, by_source) =
                (self.by_link[key.link().index()], self.by_source[key.bucket(self.secret)]);
            let age = std::cmp::Reverse(self.places[*index].progress.since);
            (by_link, by_source, age)
        };
        let taken = (0..self.keys.len())
            .filter(|index| self.keys[*index] != Key::FREE && may(self.keys[*index]));
        let victim = taken.max_by_key(weight).expect("evicted only where one is taken");
        self.give_up(victim, DropReason::FragmentEvicted, counters);
        victim
    }

    fn give_up(&mut self, index: usize, reason: DropReason, counters: &Counters) {
        self.places[index].refuse(self.keys[index].link(), reason, counters);
        self.free(index);
    }

    fn free(&mut self, index: usize) {
        let key = std::mem::replace(&mut self.keys[index], Key::FREE);
        self.by_source[key.bucket(self.secret)] -= 1;
        self.by_link[key.link().index()] -= 1;
    }
}

impl Progress {
    fn starting(now: Instant) -> Self {
        Self {
            pieces: 0,
            bytes: 0,
            total: None,
            header_len: 0,
            fragment_max: 0,
            dont_fragment: false,
            ecn: 0,
            since: now,
            refused: None,
        }
    }
}

impl Place {
    fn new() -> Self {
        Self {
            progress: Progress::starting(Instant::ZERO),
            pieces: Box::new([Piece::default(); PIECES_MAX]),
            options: [0; ipv4::LEN_MAX - ipv4::LEN_MIN],
            buffer: PacketBuf::large(),
        }
    }

    /// Puts a fragment where it belongs.
    fn add(&mut self, frame: &[u8], fragment: &Fragment) -> Result<(), DropReason> {
        let (begin, end) =
            (usize::from(fragment.offset), usize::from(fragment.offset) + fragment.len());
        debug_assert!(end <= PAYLOAD_MAX, "parse refuses what ends beyond any packet");
        let data = &frame[usize::from(fragment.payload)..fragment.end as usize];
        let piece = Piece { begin: begin as u16, end: end as u16 };
        let at = self.position(piece, data)?;
        self.check_end(fragment, end)?;
        let Progress { pieces, .. } = self.progress;
        if pieces == PIECES_MAX {
            return Err(DropReason::FragmentPieces);
        }
        self.pieces.copy_within(at..pieces, at + 1);
        self.pieces[at] = piece;
        self.buffer.space_mut()[PAYLOAD + begin..PAYLOAD + end].copy_from_slice(data);
        if begin == 0 {
            self.keep_header(&frame[..usize::from(fragment.payload)]);
        }
        let progress = &mut self.progress;
        progress.pieces += 1;
        progress.bytes += data.len();
        progress.fragment_max = progress.fragment_max.max(fragment.ip_len() as u16);
        progress.dont_fragment |= fragment.dont_fragment;
        progress.ecn |= 1 << (fragment.tos & 3);
        if !fragment.more {
            progress.total = Some(end);
        }
        Ok(())
    }

    /// Where a piece belongs among those that are there, none of which it may overlap.
    fn position(&mut self, piece: Piece, data: &[u8]) -> Result<usize, DropReason> {
        let there = &self.pieces[..self.progress.pieces];
        let at = there.partition_point(|other| other.begin < piece.begin);
        if there.get(at) == Some(&piece) {
            let (begin, end) = (usize::from(piece.begin), usize::from(piece.end));
            let same = self.buffer.space_mut()[PAYLOAD + begin..PAYLOAD + end] == *data;
            return Err(if same {
                DropReason::FragmentDuplicate
            } else {
                DropReason::FragmentOverlap
            });
        }
        let before = at.checked_sub(1).map(|before| there[before]);
        let overlaps = before.is_some_and(|before| before.end > piece.begin)
            || there.get(at).is_some_and(|behind| behind.begin < piece.end);
        if overlaps { Err(DropReason::FragmentOverlap) } else { Ok(at) }
    }

    /// There is one end, and nothing lies behind it.
    fn check_end(&self, fragment: &Fragment, end: usize) -> Result<(), DropReason> {
        let Progress { pieces, total, .. } = self.progress;
        let fits = match (total, fragment.more) {
            (Some(total), true) => end < total,
            (Some(_), false) => false,
            (None, true) => true,
            (None, false) => pieces == 0 || usize::from(self.pieces[pieces - 1].end) <= end,
        };
        if fits { Ok(()) } else { Err(DropReason::FragmentMismatch) }
    }

    /// The whole packet's headers are those of the first fragment (RFC 791 §3.2).
    fn keep_header(&mut self, headers: &[u8]) {
        let (fixed, options) = headers.split_at(PAYLOAD);
        self.buffer.space_mut()[..PAYLOAD].copy_from_slice(fixed);
        self.options[..options.len()].copy_from_slice(options);
        self.progress.header_len = ipv4::LEN_MIN + options.len();
    }

    /// Makes the packet of its pieces, if all are there.
    fn finish(&mut self) -> Result<bool, DropReason> {
        let Progress { bytes, total, header_len, dont_fragment, ecn, .. } = self.progress;
        if total != Some(bytes) {
            return Ok(false);
        }
        let ip_len = header_len + bytes;
        let ip_len_field = u16::try_from(ip_len).map_err(|_| DropReason::FragmentTooLong)?;
        let options_len = header_len - ipv4::LEN_MIN;
        self.buffer.set_len(ethernet::LEN + ip_len);
        let frame = self.buffer.frame_mut();
        if options_len > 0 {
            frame.copy_within(PAYLOAD..PAYLOAD + bytes, PAYLOAD + options_len);
            frame[PAYLOAD..PAYLOAD + options_len].copy_from_slice(&self.options[..options_len]);
        }
        let header = &mut frame[ethernet::LEN..];
        put_u16(header, ipv4::TOTAL_LENGTH, ip_len_field);
        put_u16(header, ipv4::FRAGMENT, if dont_fragment { ipv4::DONT_FRAGMENT } else { 0 });
        header[ipv4::TOS] = header[ipv4::TOS] & !3 | joint_ecn(ecn)?;
        seal_ipv4(frame, ethernet::LEN, header_len);
        Ok(true)
    }

    /// Exchanges the buffer of the packet that is whole for that of its last fragment.
    fn hand_over(&mut self, packet: &mut PacketBuf) {
        self.buffer.ingress = packet.ingress;
        self.buffer.fragment_max = Some(self.progress.fragment_max);
        std::mem::swap(&mut self.buffer, packet);
        self.buffer.clear();
    }

    /// Gives the packet up: fragments that waited are dropped, those that come will be.
    fn refuse(&mut self, link: LinkId, reason: DropReason, counters: &Counters) {
        let waited = self.progress.pieces as u64;
        counters.link(link).given_up.add(waited);
        counters.link(link).dropped[reason.index()].add(waited);
        self.progress.pieces = 0;
        self.progress.refused = Some(reason);
    }
}

/// The ECN codepoint of a packet whose fragments carried these (RFC 3168 §5.3): congestion that one met, all met;
/// but of a packet that is no part of ECN none may have been marked.
fn joint_ecn(seen: u8) -> Result<u8, DropReason> {
    const NOT_CAPABLE: u8 = 1;
    const CAPABLE_1: u8 = 1 << 1;
    const MARKED: u8 = 1 << 3;
    match seen {
        _ if seen & MARKED != 0 && seen & NOT_CAPABLE != 0 => Err(DropReason::FragmentMismatch),
        _ if seen & MARKED != 0 => Ok(3),
        _ if seen & NOT_CAPABLE != 0 => Ok(0),
        _ if seen & CAPABLE_1 != 0 => Ok(1),
        _ => Ok(2),
    }
}
