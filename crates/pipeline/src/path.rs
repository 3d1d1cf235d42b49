//! The path of a packet: a few passes over a batch.

use std::ops::Range;

use flow_table::{Hash, Lookups, Table};
use nat::{Flow, SessionKey};
use packet::header::{bytes_at, destination_mac, ethernet, ipv4};
use packet::{
    Batch, Datagram, DropReason, Fragment, Instant, LinkId, MacAddr, PacketBuf, Parsed, Plain,
    PuntReason, Side, parse,
};

use crate::counters::Counters;
use crate::judge::{self, Judge};
use crate::reassembly::Reassembler;
use crate::snapshot::Snapshot;
use crate::step::{Step, Tag, host_of};
use crate::verdict::Verdict;
use crate::worker::Worker;

/// What the first pass found out about a packet of another shape than [`Plain`].
#[derive(Debug)]
pub(crate) enum Lane {
    /// A packet that may belong to a flow, and where to look for it.
    Flow(Datagram, Hash),
    /// Decided without looking.
    Done(Verdict),
}

/// A packet's place in the passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// What it is, if it is of plain shape.
    plain: Plain,
    hash: Hash,
    is_plain: bool,
    /// Whom it is queued for; of a plain packet's only the flow, see [`Slot::tag`].
    tag: Tag,
    /// What becomes of it.
    pub verdict: Verdict,
}

impl Slot {
    /// Of no packet.
    pub const EMPTY: Slot = Slot {
        plain: Plain::NONE,
        hash: Hash::NONE,
        is_plain: false,
        tag: Tag { host: 0, flow: 0 },
        verdict: Verdict::Hold,
    };

    /// Whom the packet, by now rewritten, is queued for. Of a plain one this is only worked out where it matters.
    #[inline]
    pub fn tag(&self, packet: &PacketBuf, side: Side) -> Tag {
        if !self.is_plain {
            return self.tag;
        }
        let destination = bytes_at::<4>(packet.frame(), ethernet::LEN + ipv4::DESTINATION);
        let host = host_of(self.plain.key.source().address, destination.into(), side);
        Tag { host: host.to_bits(), flow: self.tag.flow }
    }
}

/// The passes: parse, put fragments together, and prefetch buckets; prefetch entries; look up and
/// rewrite. A flow that one packet of the batch opens is found by the next, because looking up comes
/// last: what the second pass found is a hint that is tried first.
///
/// The batch goes through in groups, each pass a group ahead of the next: what is prefetched is used before it is crowded
/// out, and memory is asked for at an even pace, for a core has no more than a dozen misses under way.
///
/// Returns the link that all packets leave by, where all were of the usual shape, of known flows, and for one link.
pub(crate) fn run(
    batch: &mut Batch,
    worker: &mut Worker,
    snapshot: &Snapshot,
    now: Instant,
    side: Side,
) -> Option<LinkId> {
    let Worker {
        engine,
        tables,
        participant,
        neighbours,
        limit,
        ids,
        reassembler,
        unsolicited,
        counters,
        slots,
        lanes,
        rings,
        log_full_at,
        ..
    } = worker;
    let sessions = tables.sessions();
    let packets = batch.packets_mut();
    let slots = &mut slots[..packets.len()];
    let station = snapshot.link(packets.first()?.ingress).map(|link| link.mac);
    lanes.clear();
    let pass = participant.pass();
    let judge = Judge { tables, neighbours, pass: &pass, snapshot, side, now };
    let mut step = Step {
        engine,
        tables,
        limit,
        ids,
        unsolicited,
        counters,
        rings,
        log_full_at,
        judge,
        snapshot,
        now,
        side,
    };
    let unusual = |packet: &mut PacketBuf| {
        unusual(packet, snapshot, reassembler, sessions, (counters, now, side))
    };
    let mut groups = Groups {
        packets,
        slots,
        lanes,
        lanes_fetched: 0,
        lanes_decided: 0,
        lookups: sessions.lookups(&pass),
        links: Links::NONE,
    };
    groups.pass_all(sessions, (station, side), unusual, &mut step);
    groups.links.only()
}

/// Packets that go through the passes together.
const GROUP: usize = 32;

/// A batch on its way through the passes.
struct Groups<'b, 'a> {
    packets: &'b mut [PacketBuf],
    slots: &'b mut [Slot],
    /// Of those that are not plain, in order; how many the second and the last pass have seen.
    lanes: &'b mut Vec<Lane>,
    lanes_fetched: usize,
    lanes_decided: usize,
    lookups: Lookups<'a, SessionKey, Flow>,
    links: Links,
}

impl<'a> Groups<'_, 'a> {
    #[inline(always)]
    fn pass_all(
        &mut self,
        sessions: &Table<SessionKey, Flow>,
        at: (Option<MacAddr>, Side),
        mut unusual: impl FnMut(&mut PacketBuf) -> Lane,
        step: &mut Step<'a>,
    ) {
        let len = self.packets.len();
        // A batch of one group has none to wait for.
        let lag = if len > GROUP { GROUP } else { 0 };
        let group = |start: usize| (start < len).then(|| start..(start + GROUP).min(len));
        let mut start = 0;
        while start < len + 2 * lag {
            if let Some(group) = group(start) {
                self.read(group, sessions, at, &mut unusual);
            }
            if let Some(group) = group(start.wrapping_sub(lag)) {
                self.fetch(group, sessions);
            }
            if let Some(group) = group(start.wrapping_sub(2 * lag)) {
                self.decide(group, step);
            }
            start += GROUP;
        }
    }

    /// The first pass. What is not plain is for `unusual`.
    #[inline(always)]
    fn read(
        &mut self,
        group: Range<usize>,
        sessions: &Table<SessionKey, Flow>,
        (station, side): (Option<MacAddr>, Side),
        unusual: &mut impl FnMut(&mut PacketBuf) -> Lane,
    ) {
        let hasher = sessions.hasher();
        let slots = &mut self.slots[group.clone()];
        for (packet, slot) in self.packets[group].iter_mut().zip(slots) {
            slot.is_plain = false;
            if let Some(station) = station
                && let Some(plain) = Plain::of(packet, station, side)
            {
                let hash = hasher.hash(&SessionKey(plain.key));
                sessions.prefetch_bucket(hash);
                (slot.plain.key, slot.plain.ip_len) = (plain.key, plain.ip_len);
                (slot.hash, slot.is_plain) = (hash, true);
            } else {
                self.lanes.push(unusual(packet));
            }
        }
    }

    /// The second pass.
    #[inline(always)]
    fn fetch(&mut self, group: Range<usize>, sessions: &Table<SessionKey, Flow>) {
        for (slot, index) in self.slots[group.clone()].iter().zip(group) {
            if slot.is_plain {
                self.lookups.fetch(index, slot.hash);
                continue;
            }
            if let Some(Lane::Flow(_, hash)) = self.lanes.get(self.lanes_fetched) {
                sessions.prefetch_entry(*hash);
            }
            self.lanes_fetched += 1;
        }
    }

    /// The last pass.
    #[inline(always)]
    fn decide(&mut self, group: Range<usize>, step: &mut Step<'a>) {
        let mut slots = self.slots[group.clone()].iter_mut();
        let start = group.start;
        for (index, packet) in self.packets[group].iter_mut().enumerate() {
            let slot = slots.next().expect("a packet has a slot");
            if !slot.is_plain {
                let lane = &self.lanes[self.lanes_decided];
                self.lanes_decided += 1;
                (slot.verdict, slot.tag) = step.consider(packet, lane);
                self.links.add_other();
                continue;
            }
            let key = SessionKey(slot.plain.key);
            if let Some(hit) = self.lookups.confirm(start + index, slot.hash, &key)
                && let Some(link) = step.pass_on(packet, &slot.plain, hit)
            {
                slot.verdict = Verdict::Forward(link);
                slot.tag.flow = hit.id().index() as u32;
                self.links.add(link);
                continue;
            }
            (slot.verdict, slot.tag) = step.consider_plain(packet, &slot.plain, slot.hash);
            self.links.add_other();
        }
    }
}

/// The links that packets leave by: the bits that are set in some, and in all.
struct Links {
    some: u8,
    all: u8,
}

impl Links {
    const NONE: Links = Links { some: 0, all: u8::MAX };

    #[inline(always)]
    fn add(&mut self, link: LinkId) {
        self.some |= link.0;
        self.all &= link.0;
    }

    /// For whatever is not simply sent on.
    #[inline(always)]
    fn add_other(&mut self) {
        (self.some, self.all) = (u8::MAX, 0);
    }

    /// The one link, if all leave by it.
    fn only(&self) -> Option<LinkId> {
        (self.some == self.all).then_some(LinkId(self.some))
    }
}

/// Reads a packet of another shape than [`Plain`].
#[inline(never)]
fn unusual(
    packet: &mut PacketBuf,
    snapshot: &Snapshot,
    reassembler: &mut Reassembler,
    sessions: &Table<SessionKey, Flow>,
    (counters, now, side): (&Counters, Instant, Side),
) -> Lane {
    match datagram_of(packet, snapshot, reassembler, (counters, now)) {
        Ok(datagram) => {
            let hash = sessions.hash(&SessionKey(datagram.key(side)));
            sessions.prefetch_bucket(hash);
            Lane::Flow(datagram, hash)
        }
        Err(verdict) => Lane::Done(verdict),
    }
}

/// The datagram that a frame carries, or completes.
#[inline]
fn datagram_of(
    packet: &mut PacketBuf,
    snapshot: &Snapshot,
    reassembler: &mut Reassembler,
    (counters, now): (&Counters, Instant),
) -> Result<Datagram, Verdict> {
    match receive(packet, snapshot)? {
        Received::Whole(datagram) => Ok(datagram),
        Received::Part(fragment) => {
            reassembler.take(packet, &fragment, now, counters)?;
            whole(packet)
        }
    }
}

/// An IP packet that may be judged, or wait until it can be.
pub(crate) enum Received {
    /// It is whole.
    Whole(Datagram),
    /// A part of one that may wait for the others.
    Part(Fragment),
}

/// Reads a frame, and sorts out what is not for the router or can't be judged.
#[inline]
pub(crate) fn receive(packet: &PacketBuf, snapshot: &Snapshot) -> Result<Received, Verdict> {
    match admit(packet, snapshot)? {
        Parsed::Ipv4(datagram) => Ok(Received::Whole(datagram)),
        Parsed::Arp(_) => Err(Verdict::Punt(PuntReason::Arp)),
        Parsed::Fragment(fragment) => {
            judge::may_wait(snapshot, packet, &fragment)?;
            Ok(Received::Part(fragment))
        }
    }
}

/// Parses a frame and sorts out what is not for the router.
#[inline]
fn admit(packet: &PacketBuf, snapshot: &Snapshot) -> Result<Parsed, Verdict> {
    let parsed = parse(packet.frame(), packet.offload)?;
    if packet.ingress != LinkId::LOCAL {
        let destination = destination_mac(packet.frame());
        let link = snapshot.link(packet.ingress).ok_or(DropReason::LinkDown)?;
        if destination != link.mac && !destination.is_group() {
            return Err(DropReason::NotForUs.into());
        }
    }
    Ok(parsed)
}

/// Parses a packet that was put together from fragments: only now its transport header can be read.
#[cold]
fn whole(packet: &PacketBuf) -> Result<Datagram, Verdict> {
    match parse(packet.frame(), packet.offload)? {
        Parsed::Ipv4(datagram) => Ok(datagram),
        Parsed::Arp(_) | Parsed::Fragment(_) => unreachable!("a whole packet was made"),
    }
}
