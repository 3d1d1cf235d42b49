//! The network edge: where frames enter and leave the router.
//!
//! A [`Link`] moves batches of frames between a [`Pool`] and the outside. It knows nothing of IP, with one
//! exception: work that a peer left undone (partial checksums, segmentation) travels beside the frame
//! as [`packet::Offload`], and a link checks that this metadata fits the frame before anyone relies on it.
//!
//! | backend | offloads | poll | for |
//! |---|---|---|---|
//! | [`AfPacket`] (Linux) | checksum, TCP and UDP segmentation | yes | production |
//! | [`PnetLink`] | none | yes | any system that `pnet` knows |
//! | [`MemoryLink`] | as configured | no | simulation and tests |
//! | [`PcapLink`] | none | no | replay |
//!
//! Cross-cutting behaviour wraps a link and is a link: [`FaultyLink`] loses, duplicates and reorders,
//! [`CaptureLink`] records.
//!
//! **Threads**: a link belongs to one thread at a time. Only [`PnetLink`] has a thread of its own.
//!
//! **Limits**: a batch holds at most [`packet::BATCH_MAX`] frames, and a backend that receives
//! super-packets also stops a batch at a number of bytes, so that a small packet never waits behind
//! megabytes of others.
//!
//! **Unsafe**: only in `sys`, which wraps the system calls that no crate of ours wraps, in `ebpf`, `mapping`, `rx_ring` and
//! `xdp::memory`, which share memory with a program in the kernel and with the kernel, and in `pages`.

#[cfg(target_os = "linux")]
mod af_packet;
mod capture;
mod doorbell;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "loads programs into the kernel and shares memory with one")]
mod ebpf;
mod encapsulation;
mod faulty;
mod interfaces;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "maps memory that is shared with the kernel")]
mod mapping;
mod memory;
#[allow(unsafe_code, reason = "gives the system advice about memory that is not its own")]
mod pages;
mod pcap_file;
mod pnet_link;
#[cfg(target_os = "linux")]
mod rtnetlink;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "shares memory with the kernel")]
mod rx_ring;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the one module that calls the operating system directly")]
mod sys;
#[cfg(target_os = "linux")]
mod vnet;
#[cfg(target_os = "linux")]
mod xdp;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

pub use packet::Offloads;
use packet::{Batch, MacAddr, PacketBuf, Pool, PortBitmap};

#[cfg(target_os = "linux")]
pub use af_packet::{AfPacket, BATCH_BYTES_MAX, SmallFrames};
pub use capture::{CaptureLink, PcapLink};
pub use doorbell::Doorbell;
pub use encapsulation::{LinkType, NotEthernet, to_ethernet};
pub use faulty::{FaultCounters, Faults, FaultyLink};
pub use interfaces::{Interface, OpenError, interfaces};
pub use memory::{MemoryEnd, MemoryLink};
pub use pages::prefer_large_pages;
pub use pcap_file::{CaptureError, CaptureWriter, CapturedFrame, Direction, Frames, read_frames};
pub use pnet_link::PnetLink;

/// Length of an Ethernet header, which an MTU does not count.
pub const ETHERNET_HEADER_LEN: usize = 14;

/// A place where frames come in and go out.
pub trait Link: Send {
    /// The link's name, as the operating system shows it.
    fn name(&self) -> &str;

    /// The link's MAC address.
    fn mac(&self) -> MacAddr;

    /// Largest IP packet that goes out as one frame, in bytes; may change with [`Link::state`].
    fn mtu(&self) -> usize;

    /// Which work may be left undone in frames given to [`Link::send`].
    fn offloads(&self) -> Offloads;

    /// Adds the frames that are there to `batch`, without waiting, in buffers from `pool`.
    ///
    /// Returns how many were added: 0 if none is there, the batch is full or the pool is empty. A frame
    /// that can't be delivered is skipped and counted. After an error, the frames that were received
    /// before it are in the batch.
    ///
    /// # Errors
    /// If the operating system reports a failure of the link itself, such as `ENETDOWN` once when
    /// it goes down; ask [`Link::state`] and go on.
    fn recv(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<usize>;

    /// Sends `packets` in order; the caller keeps the buffers.
    ///
    /// A packet that is refused is skipped and counted. When the link can take no more for now, the
    /// rest stays unsent: these are the last [`SendReport::would_block`] packets of the slice.
    fn send(&mut self, packets: &[PacketBuf]) -> SendReport;

    /// What stays readable while there is something to receive; `None` if the link can't be polled.
    ///
    /// Poll it level-triggered: a batch that is full leaves frames behind.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Drops, before they cost the receiver anything, TCP segments that only ask for a connection (SYN without ACK) with
    /// an address on a port that is not in the set; with `None` no more. Returns whether the link can do that.
    ///
    /// For as long as attempts come in a flood: the router itself knows better what to do with each.
    fn guard(&mut self, _wanted: Option<(Ipv4Addr, &PortBitmap)>) -> bool {
        false
    }

    /// What happened so far.
    fn counters(&mut self) -> LinkCounters;

    /// Whether frames can pass now.
    fn state(&mut self) -> LinkState;
}

/// What became of the packets given to [`Link::send`]; the three add up to all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendReport {
    /// Taken by the operating system.
    pub sent: usize,
    /// Skipped: longer than the MTU allows, metadata that contradicts the frame, or no queue space.
    pub refused: usize,
    /// Not tried, at the end of the slice: the link can take no more for now.
    pub would_block: usize,
}

/// What a link counted since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkCounters {
    /// Frames delivered (a super-packet is one).
    pub rx_packets: u64,
    /// Bytes delivered, Ethernet headers included.
    pub rx_bytes: u64,
    /// Frames that found the receive queue full.
    pub rx_dropped: u64,
    /// Frames longer than a buffer, or than the link's MTU where it has no segmentation offload.
    pub rx_oversized: u64,
    /// Frames whose offload metadata contradicts them ([`packet::DropReason::OffloadInvalid`]).
    pub rx_offload_invalid: u64,
    /// Frames that [`Link::guard`] dropped.
    pub rx_guarded: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Those of them that left by a ring for small frames ([`SmallFrames::ByRing`]).
    pub tx_by_ring: u64,
    /// Bytes sent, Ethernet headers included.
    pub tx_bytes: u64,
    /// Packets refused ([`packet::DropReason::LinkSend`]).
    pub tx_refused: u64,
    /// Times that a packet had to stay with the caller because the link was busy.
    pub tx_would_block: u64,
}

impl LinkCounters {
    /// Adds what a call to [`Link::send`] did, except the bytes.
    pub(crate) fn count_send(&mut self, report: SendReport) {
        self.tx_packets += report.sent as u64;
        self.tx_refused += report.refused as u64;
        self.tx_would_block += report.would_block as u64;
    }

    /// Adds a delivered frame.
    pub(crate) fn count_received(&mut self, len: usize) {
        self.rx_packets += 1;
        self.rx_bytes += len as u64;
    }
}

/// Whether frames can pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// Set up, and the carrier is there.
    Up,
    /// Not set up, or no carrier; resumes by itself.
    Down,
    /// The link was removed; open a new one.
    Gone,
}
