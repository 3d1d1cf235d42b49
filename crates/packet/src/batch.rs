//! A batch: what a link hands over in one call.

use crate::{PacketBuf, Pool};

/// Most packets in one batch. Enough that fixed costs per batch disappear (below 10 % at 32, see the
/// performance study), few enough that the headers stay in the first-level cache.
pub const BATCH_MAX: usize = 64;

/// Packets that travel through the passes together, in order of arrival.
#[derive(Debug, Default)]
pub struct Batch {
    packets: Vec<PacketBuf>,
}

impl Batch {
    /// Makes an empty batch with room for [`BATCH_MAX`] packets.
    #[must_use]
    pub fn new() -> Self {
        Self { packets: Vec::with_capacity(BATCH_MAX) }
    }

    /// Adds a packet at the end.
    ///
    /// # Panics
    /// If the batch is full.
    #[inline]
    pub fn push(&mut self, packet: PacketBuf) {
        assert!(self.packets.len() < BATCH_MAX, "batch overfilled");
        self.packets.push(packet);
    }

    /// The packets.
    #[must_use]
    #[inline]
    pub fn packets(&self) -> &[PacketBuf] {
        &self.packets
    }

    /// The packets, for rewriting.
    #[inline]
    pub fn packets_mut(&mut self) -> &mut [PacketBuf] {
        &mut self.packets
    }

    /// Number of packets.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is no packet.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Room left.
    #[must_use]
    #[inline]
    pub fn room(&self) -> usize {
        BATCH_MAX - self.packets.len()
    }

    /// Takes all packets out, in order.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = PacketBuf> + '_ {
        self.packets.drain(..)
    }

    /// Moves all packets behind those of `queue`, in order.
    #[inline]
    pub fn append_to(&mut self, queue: &mut Vec<PacketBuf>) {
        queue.append(&mut self.packets);
    }

    /// Sends every packet home.
    pub fn recycle(&mut self, pool: &mut Pool) {
        for packet in self.packets.drain(..) {
            pool.put(packet);
        }
    }
}
