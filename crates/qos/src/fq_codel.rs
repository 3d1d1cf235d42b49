//! FQ-CoDel: a queue per flow, served in turn, each under CoDel (RFC 8290).

use packet::{DropReason, Instant, PacketBuf};

use crate::codel::{CoDel, CoDelConfig, Judgement};
use crate::slab::{Fifo, NIL, Slab};
use crate::stats::FqStats;
use crate::{Rate, mark_ce};

/// Queues that flows are spread over (RFC 8290 §5.2.5).
pub const QUEUES: usize = 1024;

/// Bytes that a queue may send per turn: a full frame (RFC 8290 §5.2.4).
pub const QUANTUM: usize = 1514;

const _: () = assert!(QUEUES.is_power_of_two());

/// Which queue a packet belongs to. The caller derives both from endpoints on the inside, with a
/// secret, so that translation hides nothing and nobody can aim at a queue (RFC 8290 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct QueueKey {
    /// The host on the inside.
    pub host: u32,
    /// The flow.
    pub flow: u32,
}

impl QueueKey {
    #[inline]
    fn index(self) -> usize {
        let word = u64::from(self.host) << 32 | u64::from(self.flow);
        let mixed = (word ^ word >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (u64::BITS - QUEUES.ilog2())) as usize
    }
}

/// How much may be queued in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FqLimits {
    /// Bytes of frames.
    pub bytes: usize,
    /// Packets: slots are made for this many.
    pub packets: usize,
}

impl FqLimits {
    /// Half a second at `rate`, five times what CoDel needs to get hold of a flow, but room for the
    /// first windows of a dozen flows at least and 16 MiB at most; packets for a mean length of 512
    /// bytes.
    #[must_use]
    pub fn for_rate(rate: Rate) -> Self {
        let half_second = usize::try_from(rate.bits_per_sec() / 16).unwrap_or(usize::MAX);
        let bytes = half_second.clamp(256 << 10, 16 << 20);
        Self { bytes, packets: bytes / 512 }
    }
}

/// What a fair queue is made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FqConfig {
    /// How much may be queued.
    pub limits: FqLimits,
    /// When to signal.
    pub codel: CoDelConfig,
    /// Offset of the IPv4 header in the frames, for marking: 14 without VLAN tags.
    pub ipv4_offset: usize,
}

/// Where a queue stands in the round (RFC 8290 §4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    /// In no list, and empty.
    #[default]
    Idle,
    /// In the list of those that have just become active, served first.
    New,
    /// In the list of those that have had a turn.
    Old,
}

#[derive(Clone, Default)]
struct Queue {
    packets: Fifo,
    /// Bytes that may still be sent in this turn; at or below zero, the turn is over.
    deficit: i64,
    codel: CoDel,
    place: Place,
    /// The queue behind this one in its list.
    next: u32,
}

/// Queues in order of their turns.
struct Round {
    head: u32,
    tail: u32,
}

impl Round {
    const EMPTY: Round = Round { head: NIL, tail: NIL };

    fn push(&mut self, queues: &mut [Queue], index: u32) {
        queues[index as usize].next = NIL;
        match self.tail {
            NIL => self.head = index,
            tail => queues[tail as usize].next = index,
        }
        self.tail = index;
    }

    fn pop(&mut self, queues: &[Queue]) {
        let Some(queue) = queues.get(self.head as usize) else { return };
        self.head = queue.next;
        if self.head == NIL {
            self.tail = NIL;
        }
    }
}

/// The fair queue of one link.
pub struct FqCodel {
    config: FqConfig,
    slab: Slab,
    queues: Box<[Queue]>,
    /// Bytes in each queue, side by side so that the fattest is found in one pass over 4 KiB.
    backlogs: Box<[u32]>,
    new: Round,
    old: Round,
    bytes: usize,
    packets: usize,
    stats: FqStats,
}

impl FqCodel {
    /// Makes an empty queue and takes all the memory that it will need.
    #[must_use]
    pub fn new(config: FqConfig) -> Self {
        Self {
            config,
            // One more, because a packet is taken in before another is dropped for it.
            slab: Slab::new(config.limits.packets + 1),
            queues: vec![Queue::default(); QUEUES].into_boxed_slice(),
            backlogs: vec![0; QUEUES].into_boxed_slice(),
            new: Round::EMPTY,
            old: Round::EMPTY,
            bytes: 0,
            packets: 0,
            stats: FqStats::default(),
        }
    }

    /// Takes a packet in. What must go for it, perhaps itself, is handed to `dropped`: heads of
    /// the fattest queue (RFC 8290 §4.1).
    #[inline]
    pub fn enqueue(
        &mut self,
        packet: PacketBuf,
        key: QueueKey,
        now: Instant,
        dropped: &mut impl FnMut(PacketBuf, DropReason),
    ) {
        let index = key.index();
        let len = packet.len();
        let queue = &mut self.queues[index];
        self.slab.push(&mut queue.packets, packet, now);
        self.backlogs[index] += len as u32;
        self.bytes += len;
        self.packets += 1;
        self.stats.enqueued += 1;
        if queue.place == Place::Idle {
            queue.place = Place::New;
            queue.deficit = QUANTUM as i64;
            self.new.push(&mut self.queues, index as u32);
        }
        if self.is_over_limit() {
            self.relieve(dropped);
        }
    }

    /// Takes the packet whose turn it is. What CoDel drops on the way is handed to `dropped`.
    #[inline]
    pub fn dequeue(
        &mut self,
        now: Instant,
        dropped: &mut impl FnMut(PacketBuf, DropReason),
    ) -> Option<PacketBuf> {
        loop {
            let index = if self.new.head == NIL { self.old.head } else { self.new.head };
            let queue = self.queues.get_mut(index as usize)?;
            if queue.deficit <= 0 {
                queue.deficit += QUANTUM as i64;
                self.leave_round(index);
                self.join_old(index);
                continue;
            }
            if let Some(packet) = self.pull(index as usize, now, dropped) {
                self.queues[index as usize].deficit -= packet.len() as i64;
                return Some(packet);
            }
            let was_new = self.queues[index as usize].place == Place::New;
            self.leave_round(index);
            // A queue that has just been served as new has to pass through the old ones, or a flow
            // that sends one packet at a time would always come first (RFC 8290 §4.2).
            if was_new && self.old.head != NIL {
                self.join_old(index);
            }
        }
    }

    /// Takes a packet of any flow, each flow's in order, past rounds and CoDel: to empty a queue whose
    /// successor is in place.
    pub fn take_any(&mut self) -> Option<PacketBuf> {
        let index = self.backlogs.iter().position(|&bytes| bytes > 0)?;
        let (packet, _) = self.pop(index)?;
        self.stats.delivered += 1;
        self.stats.delivered_bytes += packet.len() as u64;
        Some(packet)
    }

    /// Bytes queued, as frames.
    #[must_use]
    #[inline]
    pub fn backlog_bytes(&self) -> usize {
        self.bytes
    }

    /// Packets queued.
    #[must_use]
    #[inline]
    pub fn backlog_packets(&self) -> usize {
        self.packets
    }

    /// Whether nothing is queued.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &FqStats {
        &self.stats
    }

    /// Changes when to signal, for a line whose rate has changed.
    pub fn set_codel(&mut self, codel: CoDelConfig) {
        self.config.codel = codel;
    }

    /// Takes the first packet of a queue that CoDel lets pass.
    fn pull(
        &mut self,
        index: usize,
        now: Instant,
        dropped: &mut impl FnMut(PacketBuf, DropReason),
    ) -> Option<PacketBuf> {
        loop {
            let Some((mut packet, enqueued)) = self.pop(index) else {
                self.queues[index].codel.handle_empty();
                return None;
            };
            let sojourn = now.saturating_since(enqueued);
            let backlog = self.backlogs[index] as usize;
            let judgement =
                self.queues[index].codel.judge(&self.config.codel, sojourn, backlog, now);
            if judgement == Judgement::Signal {
                if !mark_ce(packet.frame_mut(), self.config.ipv4_offset) {
                    self.stats.count_drop(DropReason::CodelDrop);
                    dropped(packet, DropReason::CodelDrop);
                    continue;
                }
                self.stats.marks += 1;
            }
            self.stats.delivered += 1;
            self.stats.delivered_bytes += packet.len() as u64;
            self.stats.sojourn.record(now.nanos_since(enqueued));
            return Some(packet);
        }
    }

    #[inline]
    fn pop(&mut self, index: usize) -> Option<(PacketBuf, Instant)> {
        let (packet, enqueued) = self.slab.pop(&mut self.queues[index].packets)?;
        self.backlogs[index] -= packet.len() as u32;
        self.bytes -= packet.len();
        self.packets -= 1;
        Some((packet, enqueued))
    }

    fn is_over_limit(&self) -> bool {
        self.packets > self.config.limits.packets || self.bytes > self.config.limits.bytes
    }

    /// Drops from the fattest queue until the limits hold again or it is empty: one packet came in,
    /// so a few small ones go at most.
    fn relieve(&mut self, dropped: &mut impl FnMut(PacketBuf, DropReason)) {
        let most = self.backlogs.iter().copied().max().unwrap_or(0);
        let Some(fattest) = self.backlogs.iter().position(|&bytes| bytes == most) else { return };
        while self.is_over_limit()
            && let Some((packet, _)) = self.pop(fattest)
        {
            self.stats.count_drop(DropReason::QueueFull);
            dropped(packet, DropReason::QueueFull);
        }
    }

    fn leave_round(&mut self, index: u32) {
        let place = std::mem::take(&mut self.queues[index as usize].place);
        match place {
            Place::New => self.new.pop(&self.queues),
            Place::Old => self.old.pop(&self.queues),
            Place::Idle => {}
        }
    }

    fn join_old(&mut self, index: u32) {
        self.queues[index as usize].place = Place::Old;
        self.old.push(&mut self.queues, index);
    }
}

#[cfg(test)]
mod tests;
