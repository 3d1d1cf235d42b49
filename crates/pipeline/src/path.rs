//! The path of a packet: a few passes over a batch.

use flow_table::{Hash, Lookups, Table};
use nat::{Flow, SessionKey};
use packet::header::{bytes_at, destination_mac, ethernet, ipv4};
use packet::{
    Batch, Datagram, DropReason, Fragment, Instant, LinkId, PacketBuf, Parsed, Plain, PuntReason,
    Side, parse,
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

/// What all packets of a batch have in common, where all were of the usual shape, of known flows, and for one link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Common {
    /// The link that all leave by.
    pub egress: LinkId,
    /// Whether checksums are left to be finished.
    pub some_are_partial: bool,
}

/// The passes: parse, put fragments together, and prefetch buckets; prefetch entries; look up and
/// rewrite. A flow that one packet of the batch opens is found by the next, because looking up comes
/// last: what the second pass found is a hint that is tried first.
pub(crate) fn run(
    batch: &mut Batch,
    worker: &mut Worker,
    snapshot: &Snapshot,
    now: Instant,
    side: Side,
) -> Option<Common> {
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
    lanes.clear();
    read(packets, slots, sessions, snapshot, side, |packet| {
        let lane = unusual(packet, snapshot, reassembler, sessions, (counters, now, side));
        lanes.push(lane);
    });
    let pass = participant.pass();
    let mut lookups = sessions.lookups(&pass);
    for (index, slot) in slots.iter().enumerate() {
        if slot.is_plain {
            lookups.fetch(index, slot.hash);
        }
    }
    for lane in lanes.iter() {
        if let Lane::Flow(_, hash) = lane {
            sessions.prefetch_entry(*hash);
        }
    }
    let judge = Judge { tables, neighbours, pass: &pass, snapshot, side, now };
    let step = Step {
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
    decide(packets, slots, lanes, &lookups, step)
}

/// The first pass. What is not plain is for `other`.
#[inline(always)]
fn read(
    packets: &mut [PacketBuf],
    slots: &mut [Slot],
    sessions: &Table<SessionKey, Flow>,
    snapshot: &Snapshot,
    side: Side,
    mut other: impl FnMut(&mut PacketBuf),
) {
    let hasher = sessions.hasher();
    let Some(first) = packets.first() else { return };
    let station = snapshot.link(first.ingress).map(|link| link.mac);
    for (packet, slot) in packets.iter_mut().zip(slots.iter_mut()) {
        slot.is_plain = false;
        if let Some(mac) = station
            && let Some(plain) = Plain::of(packet, mac, side)
        {
            let hash = hasher.hash(&SessionKey(plain.key));
            sessions.prefetch_bucket(hash);
            (slot.plain.key, slot.plain.ip_len) = (plain.key, plain.ip_len);
            (slot.hash, slot.is_plain) = (hash, true);
        } else {
            other(packet);
        }
    }
}

/// The last pass.
#[inline(always)]
fn decide<'a>(
    packets: &mut [PacketBuf],
    slots: &mut [Slot],
    lanes: &[Lane],
    lookups: &Lookups<'a, SessionKey, Flow>,
    mut step: Step<'a>,
) -> Option<Common> {
    let (mut egresses, mut some_are_partial, mut lanes) = (Links::default(), false, lanes.iter());
    for (index, (packet, slot)) in packets.iter_mut().zip(slots).enumerate() {
        if !slot.is_plain {
            let lane = lanes.next().expect("what is not plain has a lane");
            (slot.verdict, slot.tag) = step.consider(packet, lane);
            egresses.add_other();
            continue;
        }
        if let Some(hit) = lookups.confirm(index, slot.hash, &SessionKey(slot.plain.key))
            && let Some(egress) = step.pass_on(packet, &slot.plain, hit)
        {
            slot.verdict = Verdict::Forward(egress);
            slot.tag.flow = hit.id().index() as u32;
            egresses.add(egress);
            some_are_partial |= packet.offload.checksum.is_some();
            continue;
        }
        (slot.verdict, slot.tag) = step.consider_plain(packet, slot.hash);
        egresses.add_other();
    }
    Some(Common { egress: egresses.only()?, some_are_partial })
}

/// The links that packets leave by, of at most 64.
#[derive(Default)]
struct Links(u64);

impl Links {
    /// Stands for whatever is not simply sent on.
    const OTHER: u64 = 1 << 63;

    #[inline(always)]
    fn add(&mut self, link: LinkId) {
        self.0 |= 1 << (link.0 % 64);
    }

    #[inline(always)]
    fn add_other(&mut self) {
        self.0 |= Self::OTHER;
    }

    /// The one link, if all leave by it.
    fn only(&self) -> Option<LinkId> {
        let is_one = self.0.is_power_of_two() && self.0 != Self::OTHER;
        is_one.then(|| LinkId(self.0.trailing_zeros() as u8))
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
