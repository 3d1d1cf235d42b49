//! Two ends of a wire in memory, for simulation and tests.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::ArrayQueue;
use packet::{Batch, LinkId, MacAddr, PacketBuf, Pool, SMALL_FRAME_MAX};

use crate::{ETHERNET_HEADER_LEN, Link, LinkCounters, LinkState, Offloads, SendReport};

/// Frames that one direction of the wire holds: some batches, as a network card's ring would.
const QUEUE_PACKETS: usize = 1024;

/// What one end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryEnd {
    /// The link's name.
    pub name: String,
    /// What is written on frames that arrive here.
    pub id: LinkId,
    /// The link's MAC address.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: usize,
    /// What the sender at this end may leave undone; the receiver at the other end sees it.
    pub offloads: Offloads,
}

impl MemoryEnd {
    /// An end with the MTU of Ethernet and no offloads.
    #[must_use]
    pub fn new(name: &str, id: LinkId, mac: MacAddr) -> Self {
        Self { name: name.to_owned(), id, mac, mtu: 1500, offloads: Offloads::NONE }
    }
}

/// One end of a wire in memory.
pub struct MemoryLink {
    end: MemoryEnd,
    outgoing: Arc<Direction>,
    incoming: Arc<Direction>,
    is_cut: Arc<AtomicBool>,
    counters: LinkCounters,
}

/// Frames on their way in one direction, and the buffers of those that arrived.
struct Direction {
    frames: ArrayQueue<PacketBuf>,
    spare_small: ArrayQueue<PacketBuf>,
    spare_large: ArrayQueue<PacketBuf>,
}

impl Direction {
    fn new() -> Arc<Self> {
        let queue = || ArrayQueue::new(QUEUE_PACKETS);
        Arc::new(Self { frames: queue(), spare_small: queue(), spare_large: queue() })
    }

    /// A buffer for a frame of `len` bytes, new only until enough have been used once.
    fn buffer(&self, len: usize) -> PacketBuf {
        if len <= SMALL_FRAME_MAX {
            self.spare_small.pop().unwrap_or_else(PacketBuf::small)
        } else {
            self.spare_large.pop().unwrap_or_else(PacketBuf::large)
        }
    }

    fn keep(&self, buffer: PacketBuf) {
        let spare = if buffer.frame_max() == SMALL_FRAME_MAX {
            &self.spare_small
        } else {
            &self.spare_large
        };
        // A full queue means that there are enough spare buffers: this one may go.
        let _ = spare.push(buffer);
    }
}

impl MemoryLink {
    /// Makes a wire and returns its ends.
    #[must_use]
    pub fn pair(a: MemoryEnd, b: MemoryEnd) -> (MemoryLink, MemoryLink) {
        let (forth, back) = (Direction::new(), Direction::new());
        let is_cut = Arc::new(AtomicBool::new(false));
        let link = |end, outgoing: &Arc<Direction>, incoming: &Arc<Direction>| MemoryLink {
            end,
            outgoing: Arc::clone(outgoing),
            incoming: Arc::clone(incoming),
            is_cut: Arc::clone(&is_cut),
            counters: LinkCounters::default(),
        };
        (link(a, &forth, &back), link(b, &back, &forth))
    }

    /// Cuts the wire: both ends are down, what is on the way still arrives.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    /// Mends the wire.
    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::Relaxed);
    }

    fn refuses(&self, packet: &PacketBuf) -> bool {
        let fits =
            packet.offload.gso.is_some() || packet.len() <= self.end.mtu + ETHERNET_HEADER_LEN;
        !fits || !self.end.offloads.allow(packet.offload) || self.is_cut.load(Ordering::Relaxed)
    }
}

impl Link for MemoryLink {
    fn name(&self) -> &str {
        &self.end.name
    }

    fn mac(&self) -> MacAddr {
        self.end.mac
    }

    fn mtu(&self) -> usize {
        self.end.mtu
    }

    fn offloads(&self) -> Offloads {
        self.end.offloads
    }

    fn recv(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<usize> {
        let before = batch.len();
        while batch.room() > 0 {
            let Some(mut buffer) = pool.take() else { break };
            let Some(arrived) = self.incoming.frames.pop() else {
                pool.put(buffer);
                break;
            };
            if buffer.copy_from(arrived.frame()) {
                buffer.offload = arrived.offload;
                buffer.ingress = self.end.id;
                self.counters.count_received(buffer.len());
                batch.push(buffer);
            } else {
                self.counters.rx_oversized += 1;
                pool.put(buffer);
            }
            self.incoming.keep(arrived);
        }
        Ok(batch.len() - before)
    }

    fn send(&mut self, packets: &[PacketBuf]) -> SendReport {
        let mut report = SendReport::default();
        for (index, packet) in packets.iter().enumerate() {
            if self.refuses(packet) {
                report.refused += 1;
                continue;
            }
            if self.outgoing.frames.is_full() {
                report.would_block = packets.len() - index;
                break;
            }
            let mut copy = self.outgoing.buffer(packet.len());
            let fits = copy.copy_from(packet.frame());
            copy.offload = packet.offload;
            // Only this end pushes, so a queue that had room still has.
            if fits && self.outgoing.frames.push(copy).is_ok() {
                report.sent += 1;
                self.counters.tx_bytes += packet.len() as u64;
            } else {
                report.refused += 1;
            }
        }
        self.counters.count_send(report);
        report
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn counters(&mut self) -> LinkCounters {
        self.counters
    }

    fn state(&mut self) -> LinkState {
        if self.is_cut.load(Ordering::Relaxed) { LinkState::Down } else { LinkState::Up }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use packet::{BATCH_MAX, Gso, GsoKind, Offload, PartialChecksum};

    fn pair(offloads: Offloads) -> (MemoryLink, MemoryLink) {
        let end = |name, id| MemoryEnd {
            offloads,
            ..MemoryEnd::new(name, LinkId(id), MacAddr([2, 0, 0, 0, 0, id]))
        };
        MemoryLink::pair(end("a", 0), end("b", 1))
    }

    fn packet(len: usize) -> PacketBuf {
        let mut packet = PacketBuf::large();
        assert!(packet.copy_from(&vec![len as u8; len]));
        packet
    }

    #[test]
    fn frames_arrive_at_the_other_end_in_order() {
        let (mut a, mut b) = pair(Offloads::NONE);
        assert_eq!(a.send(&[packet(60), packet(61)]).sent, 2);
        let (mut batch, mut pool) = (Batch::new(), Pool::small(4));
        assert_eq!(b.recv(&mut batch, &mut pool).unwrap(), 2);
        let seen: Vec<_> = batch.packets().iter().map(|p| (p.len(), p.ingress)).collect();
        assert_eq!(seen, [(60, LinkId(1)), (61, LinkId(1))]);
        assert_eq!(a.recv(&mut Batch::new(), &mut pool).unwrap(), 0);
    }

    #[test]
    fn metadata_crosses_only_where_the_offload_is_allowed() {
        let mut large = packet(40_000);
        large.offload = Offload {
            checksum: Some(PartialChecksum { start: 34, offset: 16 }),
            gso: Some(Gso { kind: GsoKind::TcpV4, size: 1460 }),
        };
        let large = [large];
        let (mut a, mut b) = pair(Offloads::ALL);
        assert_eq!(a.send(&large).sent, 1);
        let (mut batch, mut pool) = (Batch::new(), Pool::large(1));
        assert_eq!(b.recv(&mut batch, &mut pool).unwrap(), 1);
        assert_eq!(batch.packets()[0].offload, large[0].offload);
        let (mut plain, _b) = pair(Offloads::NONE);
        assert_eq!(plain.send(&large).refused, 1);
    }

    #[test]
    fn a_frame_beyond_the_mtu_is_refused_and_the_next_goes_on() {
        let (mut a, _b) = pair(Offloads::NONE);
        let report = a.send(&[packet(1514), packet(1515), packet(60)]);
        assert_eq!((report.sent, report.refused), (2, 1));
        assert_eq!(a.counters().tx_bytes, 1574);
    }

    #[test]
    fn a_full_wire_leaves_the_rest_of_the_slice() {
        let (mut a, mut b) = pair(Offloads::NONE);
        let packets: Vec<_> = (0..QUEUE_PACKETS + 3).map(|_| packet(60)).collect();
        let report = a.send(&packets);
        assert_eq!((report.sent, report.would_block), (QUEUE_PACKETS, 3));
        let (mut batch, mut pool) = (Batch::new(), Pool::small(BATCH_MAX + 1));
        assert_eq!(b.recv(&mut batch, &mut pool).unwrap(), BATCH_MAX);
        assert_eq!(a.send(&packets[QUEUE_PACKETS..]).sent, 3);
    }

    #[test]
    fn a_cut_wire_is_down_at_both_ends_until_it_is_mended() {
        let (mut a, mut b) = pair(Offloads::NONE);
        b.cut();
        assert_eq!((a.state(), b.state()), (LinkState::Down, LinkState::Down));
        assert_eq!(a.send(&[packet(60)]).refused, 1);
        a.mend();
        assert_eq!(b.state(), LinkState::Up);
        assert_eq!(a.send(&[packet(60)]).sent, 1);
    }

    #[test]
    fn a_frame_longer_than_a_buffer_is_counted() {
        let (mut a, mut b) = pair(Offloads::NONE);
        a.end.mtu = 9000;
        assert_eq!(a.send(&[packet(9000)]).sent, 1);
        let (mut batch, mut pool) = (Batch::new(), Pool::small(1));
        assert_eq!(b.recv(&mut batch, &mut pool).unwrap(), 0);
        assert_eq!((b.counters().rx_oversized, pool.available()), (1, 1));
    }
}
