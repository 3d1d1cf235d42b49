//! The path of a packet: `outbound`, `inbound` and `local`, each a few passes over a batch.

use flow_table::Hash;
use nat::SessionKey;
use packet::header::destination_mac;
use packet::{
    Batch, Datagram, DropReason, Fragment, Instant, LinkId, PacketBuf, Parsed, PuntReason, Side,
    parse,
};

use crate::counters::Counters;
use crate::judge::{self, Judge};
use crate::reassembly::Reassembler;
use crate::snapshot::Snapshot;
use crate::step::{Step, Tag};
use crate::verdict::Verdict;
use crate::worker::Worker;

/// What the first pass found out about a packet.
#[derive(Debug)]
pub(crate) enum Lane {
    /// A packet that may belong to a flow, and where to look for it.
    Flow(Datagram, Hash),
    /// Decided without looking.
    Done(Verdict),
}

/// Translates a batch that came from a LAN.
pub fn outbound(batch: &mut Batch, worker: &mut Worker, snapshot: &Snapshot, now: Instant) {
    run(batch, worker, snapshot, now, Side::Inside);
}

/// Translates a batch that came from the WAN.
pub fn inbound(batch: &mut Batch, worker: &mut Worker, snapshot: &Snapshot, now: Instant) {
    run(batch, worker, snapshot, now, Side::Outside);
}

/// Sends on a batch that the router's own stack made: IP packets behind an Ethernet header to be filled in,
/// with [`LinkId::LOCAL`] as ingress. They leave through the same translation as those of a LAN.
pub fn local(batch: &mut Batch, worker: &mut Worker, snapshot: &Snapshot, now: Instant) {
    run(batch, worker, snapshot, now, Side::Inside);
}

/// The passes: parse, put fragments together, and prefetch buckets; prefetch entries; look up and
/// rewrite. A flow that one packet of the batch opens is found by the next, because looking up comes
/// last.
fn run(batch: &mut Batch, worker: &mut Worker, snapshot: &Snapshot, now: Instant, side: Side) {
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
        lanes,
        verdicts,
        tags,
        rings,
        log_full_at,
        ..
    } = worker;
    lanes.clear();
    verdicts.clear();
    tags.clear();
    let sessions = tables.sessions();
    for packet in batch.packets_mut() {
        let lane = match datagram_of(packet, snapshot, reassembler, (counters, now)) {
            Ok(datagram) => {
                let hash = sessions.hash(&SessionKey(datagram.key(side)));
                sessions.prefetch_bucket(hash);
                Lane::Flow(datagram, hash)
            }
            Err(verdict) => Lane::Done(verdict),
        };
        lanes.push(lane);
    }
    for lane in lanes.iter() {
        if let Lane::Flow(_, hash) = lane {
            sessions.prefetch_entry(*hash);
        }
    }
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
    for (packet, lane) in batch.packets_mut().iter_mut().zip(lanes.iter()) {
        let (verdict, tag) = match lane {
            Lane::Flow(datagram, hash) => step.decide(packet, datagram, *hash),
            Lane::Done(verdict) => (*verdict, Tag::default()),
        };
        verdicts.push(verdict);
        tags.push(tag);
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
