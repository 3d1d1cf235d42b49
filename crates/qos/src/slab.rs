//! Packets in slots of a fixed array, linked by index.

use packet::{Instant, PacketBuf};

/// The index that names nothing.
pub(crate) const NIL: u32 = u32::MAX;

/// A first-in first-out list of slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fifo {
    pub(crate) head: u32,
    tail: u32,
}

impl Default for Fifo {
    fn default() -> Self {
        Self { head: NIL, tail: NIL }
    }
}

struct Slot {
    packet: Option<PacketBuf>,
    enqueued: Instant,
    /// The slot behind this one in its list, or in the free list.
    next: u32,
}

/// The slots. Every slot is in exactly one list: the free one, or that of a queue.
pub(crate) struct Slab {
    slots: Box<[Slot]>,
    free: u32,
}

impl Slab {
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity < NIL as usize, "slots are numbered with 32 bits");
        let after = |index: usize| if index + 1 < capacity { index as u32 + 1 } else { NIL };
        let slots = (0..capacity)
            .map(|index| Slot { packet: None, enqueued: Instant::ZERO, next: after(index) })
            .collect();
        Self { slots, free: if capacity > 0 { 0 } else { NIL } }
    }

    /// Puts a packet at the end of a list.
    ///
    /// # Panics
    /// If no slot is free: the caller keeps fewer packets than there are slots.
    #[inline]
    pub(crate) fn push(&mut self, list: &mut Fifo, packet: PacketBuf, enqueued: Instant) {
        let index = self.free;
        let slot = &mut self.slots[index as usize];
        self.free = slot.next;
        *slot = Slot { packet: Some(packet), enqueued, next: NIL };
        match list.tail {
            NIL => list.head = index,
            tail => self.slots[tail as usize].next = index,
        }
        list.tail = index;
    }

    /// Takes the packet at the front of a list.
    #[inline]
    pub(crate) fn pop(&mut self, list: &mut Fifo) -> Option<(PacketBuf, Instant)> {
        let index = list.head;
        let slot = self.slots.get_mut(index as usize)?;
        let packet = slot.packet.take()?;
        list.head = std::mem::replace(&mut slot.next, self.free);
        if list.head == NIL {
            list.tail = NIL;
        }
        self.free = index;
        Some((packet, slot.enqueued))
    }
}
