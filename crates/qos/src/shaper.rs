//! A fair queue behind a rate.

use packet::{DropReason, Instant, PacketBuf};

use crate::{
    CoDelConfig, FqCodel, FqConfig, FqLimits, FqStats, Overhead, QueueKey, Rate, TokenBucket,
};

/// What a shaper is made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShaperConfig {
    /// The rate to hold on the wire.
    pub rate: Rate,
    /// What the wire adds to each packet.
    pub overhead: Overhead,
    /// The queue.
    pub queue: FqConfig,
}

impl ShaperConfig {
    /// A shaper whose limits and times follow from its rate, for Ethernet frames without VLAN tag.
    #[must_use]
    pub fn for_rate(rate: Rate, overhead: Overhead) -> Self {
        let queue = FqConfig {
            limits: FqLimits::for_rate(rate),
            codel: CoDelConfig::for_rate(rate),
            ipv4_offset: 14,
        };
        Self { rate, overhead, queue }
    }
}

/// The shaper of one direction of one link.
pub struct Shaper {
    bucket: TokenBucket,
    overhead: Overhead,
    queue: FqCodel,
}

impl Shaper {
    /// Makes an empty shaper and takes all the memory that it will need.
    #[must_use]
    pub fn new(config: ShaperConfig, now: Instant) -> Self {
        Self {
            bucket: TokenBucket::new(config.rate, now),
            overhead: config.overhead,
            queue: FqCodel::new(config.queue),
        }
    }

    /// Takes a packet in; see [`FqCodel::enqueue`]. The packet is a single frame, not a
    /// super-packet.
    #[inline]
    pub fn enqueue(
        &mut self,
        packet: PacketBuf,
        key: QueueKey,
        now: Instant,
        dropped: &mut impl FnMut(PacketBuf, DropReason),
    ) {
        debug_assert!(packet.offload.gso.is_none(), "super-packets are split before they queue");
        if self.queue.is_empty() {
            self.bucket.settle(now);
        }
        self.queue.enqueue(packet, key, now, dropped);
    }

    /// Takes the packet that may leave now, if there is one; see [`FqCodel::dequeue`].
    #[inline]
    pub fn dequeue(
        &mut self,
        now: Instant,
        dropped: &mut impl FnMut(PacketBuf, DropReason),
    ) -> Option<PacketBuf> {
        if self.bucket.ready_at(now) > now {
            return None;
        }
        let packet = self.queue.dequeue(now, dropped)?;
        self.bucket.consume(self.overhead.wire_len(packet.len()), now);
        Some(packet)
    }

    /// Takes a packet out whatever its turn and the time; see [`FqCodel::take_any`].
    pub fn take_any(&mut self) -> Option<PacketBuf> {
        self.queue.take_any()
    }

    /// When [`Self::dequeue`] has something to give next; `None` while nothing is queued.
    #[must_use]
    #[inline]
    pub fn next_ready(&self, now: Instant) -> Option<Instant> {
        (!self.queue.is_empty()).then(|| self.bucket.ready_at(now))
    }

    /// Changes the rate, and CoDel's times with it. What is queued stays; so do the limits.
    pub fn set_rate(&mut self, rate: Rate) {
        self.bucket.set_rate(rate);
        self.queue.set_codel(CoDelConfig::for_rate(rate));
    }

    /// The rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.bucket.rate()
    }

    /// Bytes queued, as frames.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.queue.backlog_bytes()
    }

    /// Packets queued.
    #[must_use]
    pub fn backlog_packets(&self) -> usize {
        self.queue.backlog_packets()
    }

    /// Counters of the queue.
    #[must_use]
    pub fn stats(&self) -> &FqStats {
        self.queue.stats()
    }
}

#[cfg(test)]
mod tests;
