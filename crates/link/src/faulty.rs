//! A link that loses, duplicates and reorders what it receives.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use packet::{Batch, MacAddr, PacketBuf, Pool};
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::{Link, LinkCounters, LinkState, Offloads, SendReport};

/// How often each fault happens: probabilities per received frame, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// The frame is lost.
    pub loss: f64,
    /// The frame arrives twice.
    pub duplicate: f64,
    /// The frame arrives after the one that follows it.
    pub reorder: f64,
}

/// What a [`FaultyLink`] did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounters {
    /// Frames lost.
    pub lost: u64,
    /// Frames that arrived twice.
    pub duplicated: u64,
    /// Frames held back behind their successor.
    pub reordered: u64,
}

/// A link whose receiving side is faulty; for both directions wrap both ends.
///
/// A frame that is held back comes with the next frame, or with the next call that finds none.
pub struct FaultyLink<L> {
    inner: L,
    faults: Faults,
    random: StdRng,
    received: Batch,
    held: Option<PacketBuf>,
    pending: VecDeque<PacketBuf>,
    counters: FaultCounters,
}

impl<L: Link> FaultyLink<L> {
    /// Wraps a link; the same generator state and the same frames give the same faults.
    pub fn new(inner: L, faults: Faults, random: StdRng) -> Self {
        Self {
            inner,
            faults,
            random,
            received: Batch::new(),
            held: None,
            pending: VecDeque::new(),
            counters: FaultCounters::default(),
        }
    }

    /// The wrapped link.
    pub fn inner_mut(&mut self) -> &mut L {
        &mut self.inner
    }

    /// Changes the faults from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// What was done so far.
    #[must_use]
    pub fn fault_counters(&self) -> FaultCounters {
        self.counters
    }

    fn take_received(&mut self, pool: &mut Pool) {
        if self.received.is_empty() {
            self.pending.extend(self.held.take());
        }
        for packet in self.received.drain() {
            if chance(&mut self.random, self.faults.loss) {
                self.counters.lost += 1;
                pool.put(packet);
                continue;
            }
            let copy = if chance(&mut self.random, self.faults.duplicate) {
                copy_of(&packet, pool)
            } else {
                None
            };
            self.counters.duplicated += u64::from(copy.is_some());
            if self.held.is_none() && chance(&mut self.random, self.faults.reorder) {
                self.counters.reordered += 1;
                self.held = Some(packet);
            } else {
                self.pending.push_back(packet);
                self.pending.extend(self.held.take());
            }
            self.pending.extend(copy);
        }
    }
}

fn chance(random: &mut impl Rng, probability: f64) -> bool {
    // No draw for a fault that is off, so that switching one on leaves the others as they were.
    probability > 0.0 && random.random_bool(probability.min(1.0))
}

/// A second copy, or none if no buffer is free.
fn copy_of(packet: &PacketBuf, pool: &mut Pool) -> Option<PacketBuf> {
    let mut copy = pool.take()?;
    if !copy.copy_from(packet.frame()) {
        pool.put(copy);
        return None;
    }
    copy.offload = packet.offload;
    copy.ingress = packet.ingress;
    Some(copy)
}

impl<L: Link> Link for FaultyLink<L> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn mac(&self) -> MacAddr {
        self.inner.mac()
    }

    fn mtu(&self) -> usize {
        self.inner.mtu()
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn recv(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<usize> {
        if self.pending.is_empty() {
            self.inner.recv(&mut self.received, pool)?;
            self.take_received(pool);
        }
        let count = batch.room().min(self.pending.len());
        for packet in self.pending.drain(..count) {
            batch.push(packet);
        }
        Ok(count)
    }

    fn send(&mut self, packets: &[PacketBuf]) -> SendReport {
        self.inner.send(packets)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.poll_fd()
    }

    fn counters(&mut self) -> LinkCounters {
        self.inner.counters()
    }

    fn state(&mut self) -> LinkState {
        self.inner.state()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::{MemoryEnd, MemoryLink};
    use packet::LinkId;
    use rand::SeedableRng;

    const FRAMES: usize = 200;

    /// Sends numbered frames through a faulty wire; returns the numbers that arrive.
    fn through(faults: Faults, seed: u64) -> (Vec<u8>, FaultCounters) {
        let end = |name| MemoryEnd::new(name, LinkId::WAN, MacAddr::ZERO);
        let (mut a, b) = MemoryLink::pair(end("a"), end("b"));
        let mut b = FaultyLink::new(b, faults, StdRng::seed_from_u64(seed));
        let (mut batch, mut pool) = (Batch::new(), Pool::small(150));
        let mut arrived = Vec::new();
        for number in 0..FRAMES {
            let mut packet = PacketBuf::small();
            assert!(packet.copy_from(&[number as u8; 60]));
            assert_eq!(a.send(&[packet]).sent, 1);
        }
        for _ in 0..FRAMES {
            b.recv(&mut batch, &mut pool).unwrap();
            arrived.extend(batch.packets().iter().map(|packet| packet.frame()[0]));
            batch.recycle(&mut pool);
        }
        assert_eq!(pool.available(), 150, "every buffer is home");
        (arrived, b.fault_counters())
    }

    fn sorted(mut numbers: Vec<u8>) -> Vec<u8> {
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn no_faults_change_nothing() {
        let (arrived, counters) = through(Faults::default(), 1);
        assert_eq!(arrived, (0..FRAMES as u8).collect::<Vec<_>>());
        assert_eq!(counters, FaultCounters::default());
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let faults = Faults { loss: 0.1, duplicate: 0.1, reorder: 0.1 };
        assert_eq!(through(faults, 7), through(faults, 7));
        assert_ne!(through(faults, 7), through(faults, 8));
    }

    #[test]
    fn lost_frames_are_missing() {
        let (arrived, counters) = through(Faults { loss: 0.3, ..Faults::default() }, 2);
        assert_eq!(arrived.len() + counters.lost as usize, FRAMES);
        assert!((30..90).contains(&counters.lost), "{counters:?}");
        assert!(arrived.is_sorted());
    }

    #[test]
    fn duplicated_frames_arrive_twice() {
        let (arrived, counters) = through(Faults { duplicate: 0.5, ..Faults::default() }, 3);
        assert_eq!(arrived.len(), FRAMES + counters.duplicated as usize);
        assert!(counters.duplicated > 0);
    }

    #[test]
    fn reordered_frames_all_arrive() {
        let (arrived, counters) = through(Faults { reorder: 0.3, ..Faults::default() }, 4);
        assert!(!arrived.is_sorted());
        assert!(counters.reordered > 0);
        assert_eq!(sorted(arrived), (0..FRAMES as u8).collect::<Vec<_>>());
    }
}
