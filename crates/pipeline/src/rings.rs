//! The bounded rings between a worker and the control thread.
//!
//! Buffers go round: the worker takes an empty one from `free`, copies a frame into it and pushes it to
//! `punt`; the control thread reads it and gives the buffer back, or fills one itself and pushes it to
//! `inject`, and the worker gives that one back after sending. So neither side allocates, and a ring that
//! runs full costs a counted drop, never a wait.

use std::net::Ipv4Addr;

use crossbeam::queue::ArrayQueue;
use packet::{LinkId, PacketBuf, PuntReason, SMALL_FRAME_MAX};

use crate::rules::RuleMatch;

/// Frames that may wait for the control thread. At 2 KiB each they are a burst of DHCP, ARP and DNS from a
/// few hundred hosts at once; more would only delay what is behind.
pub const RING_LEN: usize = 512;

/// Buffers for frames that came in fragments: big pings, and packets that wait for a neighbour. At 64 KiB each, so
/// few, because nothing that matters to the router is so long.
const LARGE_BUFFERS: usize = 16;

/// Matches of rules that may wait for the control thread: those of a burst and of the seconds until it wakes.
const MATCHES_LEN: usize = 256;

/// A frame for the router itself.
#[derive(Debug)]
pub struct Punted {
    /// Why it left the worker.
    pub reason: PuntReason,
    /// The frame, complete: no partial checksum, no super-packet. `ingress` says where it came from.
    pub packet: PacketBuf,
    /// [`PuntReason::NeighbourMissing`]: the link and address whose MAC is wanted.
    pub wanted: Option<(LinkId, Ipv4Addr)>,
}

/// What the control thread gives the worker.
#[derive(Debug)]
pub enum Inject {
    /// A whole frame for a link, such as ARP or DHCP.
    Send(LinkId, PacketBuf),
    /// An IP packet of the router itself behind an Ethernet header to be filled in.
    Route(PacketBuf),
    /// A frame that waited for a neighbour: to be treated as if it arrived now on its `ingress`.
    Receive(PacketBuf),
}

/// The rings of one worker.
#[derive(Debug)]
pub struct Rings {
    free: ArrayQueue<PacketBuf>,
    free_large: ArrayQueue<PacketBuf>,
    punt: ArrayQueue<Punted>,
    inject: ArrayQueue<Inject>,
    matches: ArrayQueue<RuleMatch>,
}

impl Default for Rings {
    fn default() -> Self {
        Self::new()
    }
}

impl Rings {
    /// Makes the rings and the buffers that go round in them.
    #[must_use]
    pub fn new() -> Self {
        let free = ArrayQueue::new(2 * RING_LEN);
        while free.push(PacketBuf::small().for_rings()).is_ok() {}
        let free_large = ArrayQueue::new(LARGE_BUFFERS);
        while free_large.push(PacketBuf::large().for_rings()).is_ok() {}
        let (punt, inject) = (ArrayQueue::new(RING_LEN), ArrayQueue::new(RING_LEN));
        Self { free, free_large, punt, inject, matches: ArrayQueue::new(MATCHES_LEN) }
    }

    /// Takes an empty buffer for a small frame.
    #[must_use]
    pub fn take(&self) -> Option<PacketBuf> {
        self.free.pop()
    }

    /// Takes an empty buffer for a frame of `len` bytes.
    #[must_use]
    pub fn take_for(&self, len: usize) -> Option<PacketBuf> {
        if len <= SMALL_FRAME_MAX { self.take() } else { self.free_large.pop() }
    }

    /// Gives a buffer back.
    pub fn put(&self, mut packet: PacketBuf) {
        packet.clear();
        let free = if packet.is_large() { &self.free_large } else { &self.free };
        // The ring has room for every buffer that was ever made, so this can't fail.
        let _ = free.push(packet);
    }

    /// Buffers that wait in a ring or that someone holds.
    #[must_use]
    pub fn buffers_out(&self) -> usize {
        let out = |free: &ArrayQueue<PacketBuf>| free.capacity() - free.len();
        out(&self.free) + out(&self.free_large)
    }

    /// Hands a frame to the control thread; `false` if the ring is full.
    pub fn punt(&self, punted: Punted) -> bool {
        match self.punt.push(punted) {
            Ok(()) => true,
            Err(back) => {
                self.put(back.packet);
                false
            }
        }
    }

    /// Next frame for the control thread.
    #[must_use]
    pub fn poll_punt(&self) -> Option<Punted> {
        self.punt.pop()
    }

    /// Hands a packet to the worker; `false` if the ring is full.
    pub fn inject(&self, inject: Inject) -> bool {
        match self.inject.push(inject) {
            Ok(()) => true,
            Err(Inject::Send(_, packet) | Inject::Route(packet) | Inject::Receive(packet)) => {
                self.put(packet);
                false
            }
        }
    }

    /// Next packet for the worker.
    #[must_use]
    pub fn poll_inject(&self) -> Option<Inject> {
        self.inject.pop()
    }

    /// Hands a match of a rule to the control thread; `false` if the ring is full.
    pub fn log(&self, entry: RuleMatch) -> bool {
        self.matches.push(entry).is_ok()
    }

    /// Next match of a rule to be written down.
    #[must_use]
    pub fn poll_log(&self) -> Option<RuleMatch> {
        self.matches.pop()
    }

    /// Whether the control thread has something to read.
    #[must_use]
    pub fn has_punts(&self) -> bool {
        !self.punt.is_empty()
    }

    /// Whether the worker has something to read.
    #[must_use]
    pub fn has_injects(&self) -> bool {
        !self.inject.is_empty()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_refuses_and_loses_no_buffer() {
        let rings = Rings::new();
        let mut pushed = 0;
        while let Some(packet) = rings.take() {
            if !rings.punt(Punted { reason: PuntReason::Arp, packet, wanted: None }) {
                break;
            }
            pushed += 1;
        }
        assert_eq!(pushed, RING_LEN);
        let mut home = 0;
        while rings.take().is_some() {
            home += 1;
        }
        assert_eq!(home, RING_LEN);
    }
}
