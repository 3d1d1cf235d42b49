//! Sending allocates nothing. Needs root.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use etherparse::PacketBuilder;
use lab::Lab;
use link::{AfPacket, Link};
use packet::{Gso, GsoKind, LinkId, PacketBuf, PartialChecksum};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local integer without
// destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[test]
fn sending_allocates_nothing_by_either_path() {
    let lab = Lab::new("alloc").unwrap();
    let (ours, peer) = (lab.namespace("ours").unwrap(), lab.namespace("peer").unwrap());
    lab.veth((&ours, "wan0"), (&peer, "eth0")).unwrap();
    let mut link = ours.enter(|| AfPacket::open("wan0", LinkId::WAN)).unwrap().unwrap();
    let checksum = Some(PartialChecksum { start: 34, offset: 6 });
    let mut packets: Vec<_> = (0..60).map(|_| packet(20)).chain([packet(1000)]).collect();
    packets[10].offload.checksum = checksum;
    // One that our side refuses, one that the kernel refuses, one that it cuts.
    packets[20].offload.gso = Some(Gso { kind: GsoKind::Udp, size: 5 });
    packets.push(packet(2000));
    packets.push(packet(3000));
    packets[62].offload.checksum = checksum;
    packets[62].offload.gso = Some(Gso { kind: GsoKind::Udp, size: 1000 });

    let before = ALLOCATIONS.get();
    assert_ne!(before, 0);
    let reports: [_; 100] = std::array::from_fn(|_| link.send(&packets));
    assert_eq!(ALLOCATIONS.get(), before);
    assert!(reports.iter().all(|report| report.would_block == 0), "{reports:?}");
    let counters = link.counters();
    assert_eq!((counters.tx_packets, counters.tx_by_ring), (6100, 5900));
}

fn packet(payload_len: usize) -> PacketBuf {
    let builder =
        PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(7, 7);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0x55; payload_len]).unwrap();
    let mut packet = PacketBuf::large();
    assert!(packet.copy_from(&frame));
    packet
}
