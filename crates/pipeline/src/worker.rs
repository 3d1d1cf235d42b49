//! What a worker owns, and what becomes of its verdicts.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use flow_table::Participant;
use forwarding::Neighbours;
use nat::{Engine, Tables};
use packet::gso::{self, Segments};
use packet::{
    BATCH_MAX, Batch, DropReason, Endpoint, External, Instant, LinkId, PacketBuf, Parsed,
    PortBitmap, Protocol, PuntReason, Side, parse,
};

use crate::counters::Counters;
use crate::egress::Egress;
use crate::ids::Identifications;
use crate::limit::IcmpLimit;
use crate::path::{self, Lane, Slot};
use crate::reassembly::{self, Reassembler};
use crate::rings::{Inject, Punted, Rings};
use crate::snapshot::Snapshot;
use crate::unsolicited::Unsolicited;
use crate::verdict::Verdict;

/// Sessions looked at for expiry in one batch. A full table of a million is swept in 16,000 batches, which
/// is well under a second at any rate that could fill it.
const EXPIRE_BUDGET: usize = 64;

/// Packets that the router's own stack may send between two batches, so that it can't delay transit.
const INJECT_BUDGET: usize = 32;

/// One packet worker: its engine, its view of the shared tables, and its scratch space.
pub struct Worker {
    pub(crate) engine: Engine,
    pub(crate) tables: Tables,
    pub(crate) participant: Participant,
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) limit: IcmpLimit,
    pub(crate) ids: Identifications,
    pub(crate) reassembler: Reassembler,
    pub(crate) unsolicited: Unsolicited,
    pub(crate) slots: Box<[Slot; BATCH_MAX]>,
    /// Of the packets of a batch that are not plain, in order.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) rings: Arc<Rings>,
    /// See [`Step::log_full_at`](crate::step::Step::log_full_at).
    pub(crate) log_full_at: u64,
    one: Batch,
    /// Packets of the last batch.
    received: usize,
    /// The WAN address under which packets were last sent on.
    wan: Option<Ipv4Addr>,
}

impl Worker {
    /// Makes a worker of an engine.
    ///
    /// # Errors
    /// If the epoch domain has no place for one more participant.
    pub fn new(
        engine: Engine,
        neighbours: Arc<Neighbours>,
        rings: Arc<Rings>,
    ) -> Result<Self, flow_table::ParticipantsExhausted> {
        Self::sized(engine, neighbours, rings, reassembly::PACKETS_MAX)
    }

    /// As [`Self::new`], with room for another number of packets that wait for their fragments. A quarter of them
    /// may be of one source. Each has 64 KiB, which is most of the time that it takes to make a worker.
    ///
    /// # Errors
    /// As [`Self::new`].
    ///
    /// # Panics
    /// If not one packet of a source may wait.
    pub fn sized(
        mut engine: Engine,
        neighbours: Arc<Neighbours>,
        rings: Arc<Rings>,
        packets_waiting_max: u8,
    ) -> Result<Self, flow_table::ParticipantsExhausted> {
        assert!(packets_waiting_max >= 4, "a quarter must be one");
        let tables = engine.tables().clone();
        Ok(Self {
            ids: Identifications::new(&mut engine),
            reassembler: Reassembler::new(packets_waiting_max, engine.secret()),
            engine,
            participant: tables.domain().participant()?,
            tables,
            neighbours,
            limit: IcmpLimit::default(),
            unsolicited: Unsolicited::new(),
            slots: Box::new([Slot::EMPTY; BATCH_MAX]),
            received: 0,
            lanes: Vec::with_capacity(BATCH_MAX),
            counters: Arc::new(Counters::default()),
            rings,
            log_full_at: 0,
            one: Batch::new(),
            wan: None,
        })
    }

    /// The numbers that this worker keeps.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The verdicts on the last batch, in its order.
    pub fn verdicts(&self) -> impl ExactSizeIterator<Item = Verdict> + '_ {
        self.slots[..self.received].iter().map(|slot| slot.verdict)
    }

    /// Takes a batch from a link all the way into the egress queues. All packets of the batch must have come
    /// from the same link.
    pub fn receive(
        &mut self,
        batch: &mut Batch,
        egress: &mut Egress,
        snapshot: &Snapshot,
        now: Instant,
    ) {
        let Some(first) = batch.packets().first() else { return };
        let ingress = first.ingress;
        self.notice_address(egress, snapshot);
        let link = self.counters.link(ingress);
        link.rx_packets.add(batch.len() as u64);
        link.rx_bytes.add(batch.packets().iter().map(|packet| packet.len() as u64).sum());
        self.received = batch.len();
        let side = if ingress == LinkId::WAN { Side::Outside } else { Side::Inside };
        let common = path::run(batch, self, snapshot, now, side);
        let packets = batch.len() as u64;
        if common.is_some_and(|link| egress.take_all(batch, (ingress, link))) {
            self.counters.link(ingress).forwarded.add(packets);
            return;
        }
        self.dispatch(batch, egress, now, side);
    }

    /// Whatever waits under a WAN address that was lost must not leave.
    fn notice_address(&mut self, egress: &mut Egress, snapshot: &Snapshot) {
        if self.wan != snapshot.nat.external {
            let lost = std::mem::replace(&mut self.wan, snapshot.nat.external);
            if let Some(address) = lost {
                let nat = &snapshot.nat;
                // Further addresses go down with the link's own, and exempt flows as well.
                let may_stay = |source: Ipv4Addr| {
                    source.is_unspecified()
                        || nat.is_external(source)
                        || nat.external.is_some() && !nat.exemptions.is_empty()
                };
                let is_lost = |source| source == address || !may_stay(source);
                egress.forsake(is_lost, &self.counters);
            }
        }
    }

    /// Carries out the verdicts, and counts each: the only place that does.
    fn dispatch(&mut self, batch: &mut Batch, egress: &mut Egress, now: Instant, side: Side) {
        for (index, mut packet) in batch.drain().enumerate() {
            let counts = self.counters.link(packet.ingress);
            let slot = &self.slots[index];
            match slot.verdict {
                Verdict::Forward(link) => {
                    counts.forwarded.add(1);
                    packet.egress = link;
                    let tag = slot.tag(&packet, side);
                    egress.enqueue(packet, tag, now, &self.counters);
                    continue;
                }
                Verdict::Reply(_) | Verdict::Reset => {
                    counts.replied.add(1);
                    packet.egress = packet.ingress;
                    egress.send_now(packet, &self.counters);
                    continue;
                }
                Verdict::Punt(reason) => self.punt(&packet, reason, None),
                Verdict::Resolve(link, address) => {
                    self.punt(&packet, PuntReason::NeighbourMissing, Some((link, address)));
                }
                Verdict::Hold => counts.held.add(1),
                Verdict::Drop(reason) => self.counters.count_drop(packet.ingress, reason),
            }
            egress.recycle(packet);
        }
    }

    /// Copies a packet to the control thread, finished and cut as hardware would have.
    fn punt(&self, packet: &PacketBuf, reason: PuntReason, wanted: Option<(LinkId, Ipv4Addr)>) {
        let outcome = match parse(packet.frame(), packet.offload) {
            Ok(Parsed::Ipv4(datagram)) => match Segments::of(packet, &datagram) {
                Some(segments) => (0..segments.count()).try_for_each(|index| {
                    let mut copy = self.rings.take().ok_or(DropReason::PuntRingFull)?;
                    if !segments.emit(packet, index, &mut copy) {
                        self.rings.put(copy);
                        return Err(DropReason::PuntTooLarge);
                    }
                    self.push_punt(copy, reason, wanted)
                }),
                None => self.copy_punt(packet, Some(&datagram), reason, wanted),
            },
            Ok(Parsed::Arp(_) | Parsed::Fragment(_)) | Err(_) => {
                self.copy_punt(packet, None, reason, wanted)
            }
        };
        match outcome {
            Ok(()) => self.counters.link(packet.ingress).punted[reason.index()].add(1),
            Err(reason) => self.counters.count_drop(packet.ingress, reason),
        }
    }

    fn copy_punt(
        &self,
        packet: &PacketBuf,
        datagram: Option<&packet::Datagram>,
        reason: PuntReason,
        wanted: Option<(LinkId, Ipv4Addr)>,
    ) -> Result<(), DropReason> {
        let mut copy = self.rings.take_for(packet.len()).ok_or(DropReason::PuntRingFull)?;
        if !copy.copy_from(packet.frame()) {
            self.rings.put(copy);
            return Err(DropReason::PuntTooLarge);
        }
        copy.offload = packet.offload;
        if let Some(datagram) = datagram {
            gso::finish_checksum(&mut copy, datagram);
        }
        copy.ingress = packet.ingress;
        self.push_punt(copy, reason, wanted)
    }

    fn push_punt(
        &self,
        mut packet: PacketBuf,
        reason: PuntReason,
        wanted: Option<(LinkId, Ipv4Addr)>,
    ) -> Result<(), DropReason> {
        packet.offload = packet::Offload::NONE;
        if self.rings.punt(Punted { reason, packet, wanted }) {
            Ok(())
        } else {
            Err(DropReason::PuntRingFull)
        }
    }

    /// Takes what the control thread injected, a bounded number; returns how many there were.
    pub fn take_injected(
        &mut self,
        egress: &mut Egress,
        snapshot: &Snapshot,
        now: Instant,
    ) -> usize {
        self.notice_address(egress, snapshot);
        let rings = Arc::clone(&self.rings);
        for taken in 0..INJECT_BUDGET {
            let Some(inject) = rings.poll_inject() else { return taken };
            match inject {
                Inject::Send(link, mut packet) => {
                    packet.ingress = LinkId::LOCAL;
                    packet.egress = link;
                    egress.send_now(packet, &self.counters);
                }
                Inject::Route(mut packet) => {
                    packet.ingress = LinkId::LOCAL;
                    self.receive_one(packet, egress, snapshot, now);
                }
                Inject::Receive(packet) => self.receive_one(packet, egress, snapshot, now),
            }
        }
        INJECT_BUDGET
    }

    fn receive_one(
        &mut self,
        packet: PacketBuf,
        egress: &mut Egress,
        snapshot: &Snapshot,
        now: Instant,
    ) {
        let mut one = std::mem::take(&mut self.one);
        one.push(packet);
        self.receive(&mut one, egress, snapshot, now);
        self.one = one;
    }

    /// Packets whose fragments wait for their rest; those in pieces that were refused count until their time is over.
    #[must_use]
    pub fn packets_waiting(&self) -> usize {
        self.reassembler.waiting()
    }

    /// When [`Self::answer_unsolicited`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.unsolicited.poll_timeout()
    }

    /// Answers the SYNs from outside whose six seconds are over (RFC 5382 REQ-4).
    pub fn answer_unsolicited(&mut self, egress: &mut Egress, snapshot: &Snapshot, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            let pass = self.participant.pass();
            let out = (egress, &*self.counters);
            self.unsolicited.answer((&self.tables, &pass), &mut self.limit, out, snapshot, now);
        }
    }

    /// Expires a bounded number of sessions, and fragments whose rest did not come; to be called once per batch and
    /// when idle. Returns whether there was more to do.
    pub fn expire(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        self.reassembler.expire(now, &self.counters);
        // A pass has its price, and most batches have nothing to look at.
        if !self.engine.is_upkeep_due(now) {
            return false;
        }
        let pass = self.participant.pass();
        self.engine.expire(&pass, now, &snapshot.nat.timeouts, EXPIRE_BUDGET)
    }

    /// Notes on which of `ports` of an external address somebody may answer a TCP connection from outside.
    pub fn note_wanted(
        &mut self,
        snapshot: &Snapshot,
        address: Ipv4Addr,
        ports: RangeInclusive<u16>,
        wanted: &mut PortBitmap,
    ) {
        let pass = self.participant.pass();
        for port in ports {
            let external = External(Endpoint::new(address, port));
            let has_taker = self.tables.has_taker(&pass, Protocol::Tcp, external, &snapshot.nat);
            wanted.put(port, has_taker);
        }
    }

    /// What this worker could still open.
    #[must_use]
    pub fn room(&self) -> nat::Room {
        self.engine.room()
    }

    /// Ends a session; returns whether there was one.
    pub fn kill(&mut self, id: nat::SessionId, now: Instant) -> bool {
        let pass = self.participant.pass();
        self.engine.kill(&pass, id, now)
    }
}
