//! The memory that an AF_XDP socket shares with the kernel, and the system calls that set it up.
//!
//! **Shape**: `RING_LEN` places for frames of `FRAME_MAX` bytes; a ring of as many descriptors, of which the router writes the
//! producer and the kernel the consumer; a ring of as many completions, the other way round. Producers and consumers count up and
//! wrap; the kernel masks them.

use std::io;
use std::mem::{offset_of, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Release},
};

use libc::{c_int, socklen_t, xdp_desc, xdp_mmap_offsets, xdp_ring_offset, xdp_umem_reg};

use super::{FRAME_MAX, RING_LEN};
use crate::mapping::Mapping;
use crate::sys;

/// The kernel's smallest unit of frame memory. Several frames lie in one, which is allowed for frames that are only sent,
/// and dense as they are they stay in the cache.
const CHUNK_LEN: usize = 2048;

const FRAMES_LEN: usize = RING_LEN * FRAME_MAX;

const _: () = assert!(RING_LEN.is_power_of_two(), "the kernel wants it");
const _: () = assert!(CHUNK_LEN.is_multiple_of(FRAME_MAX), "no frame lies in two chunks");
const _: () = assert!(FRAMES_LEN.is_multiple_of(CHUNK_LEN), "chunks are whole");
const _: () = assert!(size_of::<xdp_desc>() == 16 && offset_of!(xdp_desc, len) == 8);

/// What is in a place of the ring.
pub(super) enum Descriptor {
    /// The frame of the same place.
    Frame {
        /// Its length.
        len: usize,
    },
    /// Nothing: the kernel passes over it.
    Void,
}

/// Memory of frames, descriptors and completions.
pub(super) struct Shared {
    frames: Mapping,
    descriptors: Queue,
    completions: Queue,
}

impl Shared {
    /// Makes the memory and shows it to the kernel.
    ///
    /// # Errors
    /// If the kernel refuses, for want of memory that may be locked for one.
    pub fn with_kernel(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let frames = Mapping::new(FRAMES_LEN)?;
        // SAFETY: xdp_umem_reg is plain integers for which zero is a value.
        let mut umem: xdp_umem_reg = unsafe { zeroed() };
        umem.addr = frames.address().as_ptr() as u64;
        umem.len = FRAMES_LEN as u64;
        umem.chunk_size = CHUNK_LEN as u32;
        sys::set(socket, libc::SOL_XDP, libc::XDP_UMEM_REG, &umem)?;
        let ring_len = RING_LEN as c_int;
        for (ring, len) in [
            // Nobody fills it, but without it the kernel binds no socket.
            (libc::XDP_UMEM_FILL_RING, 1),
            (libc::XDP_UMEM_COMPLETION_RING, ring_len),
            (libc::XDP_TX_RING, ring_len),
        ] {
            sys::set_option(socket, libc::SOL_XDP, ring, len)?;
        }
        let offsets = offsets(socket)?;
        let (tx, completions) =
            (libc::XDP_PGOFF_TX_RING as u64, libc::XDP_UMEM_PGOFF_COMPLETION_RING);
        Ok(Self {
            frames,
            descriptors: Queue::of(socket, tx, offsets.tx, size_of::<xdp_desc>())?,
            completions: Queue::of(socket, completions, offsets.cr, size_of::<u64>())?,
        })
    }

    /// The room for the frame of a place.
    ///
    /// Whatever the kernel was given from there has to be completed.
    pub fn frame_mut(&mut self, slot: usize) -> &mut [u8; FRAME_MAX] {
        assert!(slot < RING_LEN);
        // SAFETY: the place lies inside the mapping, which is initialised (zeros at first), lives as long as `self` and
        // is mutably borrowed with it; nothing else in this process points there. The kernel only reads from it.
        unsafe { self.frames.address().add(slot * FRAME_MAX).cast().as_mut() }
    }

    /// Writes the descriptor of a place.
    pub fn describe(&mut self, slot: usize, descriptor: Descriptor) {
        assert!(slot < RING_LEN);
        let (addr, len) = match descriptor {
            Descriptor::Frame { len } => (slot * FRAME_MAX, len),
            // Behind the last frame.
            Descriptor::Void => (FRAMES_LEN, FRAME_MAX),
        };
        let descriptor = xdp_desc { addr: addr as u64, len: len as u32, options: 0 };
        let (memory, at) = (&self.descriptors.memory, self.descriptors.offsets.desc as usize);
        // SAFETY: `Queue::of` made the mapping so long that `RING_LEN` descriptors fit behind this offset, which the kernel
        // aligned for them. The kernel reads them only inside system calls of the thread that has `self`.
        unsafe { memory.address().add(at).cast::<xdp_desc>().add(slot).write(descriptor) };
    }

    /// Says how many descriptors were written so far.
    pub fn publish(&self, written: u32) {
        // Pairs with the kernel's acquire before it reads descriptors.
        self.descriptors.producer().store(written, Release);
    }

    /// How many descriptors the kernel says it took so far.
    pub fn consumed(&self) -> u32 {
        // Pairs with the kernel's release after it read descriptors.
        self.descriptors.consumer().load(Acquire)
    }

    /// How many frames are completed so far; gives their places in the ring of completions back.
    pub fn reap(&self) -> u32 {
        // Acquire and release pair with the kernel's around its writes of completions, which nobody reads here:
        // they come in the order in which the frames were sent.
        let completed = self.completions.producer().load(Acquire);
        self.completions.consumer().store(completed, Release);
        completed
    }
}

/// Binds an AF_XDP socket to the first queue of the link with this index, in copy mode.
pub(super) fn bind(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: index,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of::<libc::sockaddr_xdp>() as socklen_t;
    // SAFETY: `address` is a sockaddr_xdp of `len` bytes and outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where the parts of each ring lie in its mapping.
fn offsets(socket: BorrowedFd<'_>) -> io::Result<xdp_mmap_offsets> {
    // SAFETY: xdp_mmap_offsets is plain integers for which zero is a value.
    let mut offsets: xdp_mmap_offsets = unsafe { zeroed() };
    let mut len = size_of::<xdp_mmap_offsets>() as socklen_t;
    // SAFETY: `offsets` is writable for `len` bytes and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            ptr::from_mut(&mut offsets).cast(),
            &mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // Kernels before 5.4 have a shorter shape.
    let is_whole = len as usize == size_of::<xdp_mmap_offsets>();
    if is_whole { Ok(offsets) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// One ring.
struct Queue {
    memory: Mapping,
    offsets: xdp_ring_offset,
}

impl Queue {
    /// Maps the ring that the kernel has at `page_offset`, with entries of `entry_len` bytes.
    fn of(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: xdp_ring_offset,
        entry_len: usize,
    ) -> io::Result<Self> {
        let len = offsets.desc as usize + RING_LEN * entry_len;
        let last = (len - size_of::<AtomicU32>()) as u64;
        let fits = |at: u64| at <= last && at.is_multiple_of(align_of::<AtomicU32>() as u64);
        if !fits(offsets.producer) || !fits(offsets.consumer) || !offsets.desc.is_multiple_of(8) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { memory: Mapping::of_socket(socket, page_offset, len)?, offsets })
    }

    fn producer(&self) -> &AtomicU32 {
        self.counter(self.offsets.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.counter(self.offsets.consumer)
    }

    fn counter(&self, at: u64) -> &AtomicU32 {
        // SAFETY: `of` checked that the offset is inside the mapping and aligned; the mapping lives as long as `self`,
        // and kernel and router access the counter by atomic operations only.
        unsafe { self.memory.address().add(at as usize).cast().as_ref() }
    }
}
