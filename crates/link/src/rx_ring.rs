//! A ring of received frames: the kernel writes each short one where we read it, and no call fetches it (TPACKET_V2).
//!
//! ```text
//!  slot  ┌ status, lengths, offset │ address │ virtio-net header │ frame, as far as it fits     ┐
//!        └──────────────────────────── SLOT_LEN ────────────────────────────────────────────────┘
//!  status: KERNEL ──► USER  written by the kernel, release │ ours until we store KERNEL, release
//! ```
//!
//! A frame that is longer than its slot has the status COPY besides, and is whole at the socket: the frames there are those
//! of the slots so marked, in their order. So super-packets need no slots of 64 KiB and are copied once, and small frames
//! need no system call.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::BorrowedFd;
use std::slice;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Release},
};

use libc::{c_int, tpacket_req, tpacket2_hdr};

use crate::mapping::Mapping;
use crate::sys;
use crate::vnet::{HEADER_LEN, VnetHeader};

/// Room for a frame with what the kernel writes before it. What a link of 1500 bytes carries fits.
const SLOT_LEN: usize = 2048;

/// Slots: 4 ms at half a million frames a second, less than the socket's buffer held.
const SLOTS: usize = 2048;

/// Memory is asked for in blocks that the kernel can still find when it is short of it.
const BLOCK_LEN: usize = 16 * 1024;

const _: () =
    assert!(BLOCK_LEN.is_multiple_of(SLOT_LEN) && (SLOTS * SLOT_LEN).is_multiple_of(BLOCK_LEN));
const _: () = assert!(offset_of!(tpacket2_hdr, tp_status) == 0 && size_of::<tpacket2_hdr>() == 32);

/// Slots that the kernel shares with us.
pub(crate) struct RxRing {
    memory: Mapping,
    /// The slot that the kernel fills next, as far as we know.
    next: usize,
}

/// What the kernel wrote to a slot.
pub(crate) enum Slot<'a> {
    /// A whole frame, with the header in front of it.
    Whole(&'a VnetHeader, &'a [u8]),
    /// A frame of so many bytes that is at the socket.
    AtSocket(usize),
    /// A frame that fitted neither here nor there.
    Lost,
}

impl RxRing {
    /// Gives a packet socket a ring. Its virtio-net headers must be on, and it must not be bound yet.
    ///
    /// # Errors
    /// If the kernel refuses, for want of memory for one.
    pub(crate) fn new(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let set = |name, value| sys::set_option(socket, libc::SOL_PACKET, name, value);
        set(libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2 as c_int)?;
        // Any value but 0: frames that a slot can't hold go to the socket whole.
        set(libc::PACKET_COPY_THRESH, 1)?;
        let request = tpacket_req {
            tp_block_size: BLOCK_LEN as u32,
            tp_block_nr: (SLOTS * SLOT_LEN / BLOCK_LEN) as u32,
            tp_frame_size: SLOT_LEN as u32,
            tp_frame_nr: SLOTS as u32,
        };
        sys::set(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        Ok(Self { memory: Mapping::of_socket(socket, 0, SLOTS * SLOT_LEN)?, next: 0 })
    }

    /// The next slot, or one behind it; `None` if the kernel has written nothing there.
    pub(crate) fn peek(&self, ahead: usize) -> Option<Slot<'_>> {
        if ahead >= SLOTS {
            return None;
        }
        let at = (self.next + ahead) % SLOTS * SLOT_LEN;
        // Acquire pairs with the kernel's release: what it wrote to the slot comes before the status.
        let status = self.status(at).load(Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot lies inside the mapping and is aligned for the header, which is plain integers. While the
        // status says that the slot is ours, the kernel writes nothing to it.
        let header = unsafe { self.memory.address().add(at).cast::<tpacket2_hdr>().read() };
        let (len, written) = (header.tp_len as usize, header.tp_snaplen as usize);
        let start = usize::from(header.tp_mac);
        if written == len && start >= HEADER_LEN && start + written <= SLOT_LEN {
            // SAFETY: both lie inside the slot, as was just checked; nothing writes to it before `release`, which borrows
            // this value mutably.
            let (header, frame) = unsafe {
                let frame = self.memory.address().add(at + start);
                let header = frame.sub(HEADER_LEN).cast::<VnetHeader>().as_ref();
                (header, slice::from_raw_parts(frame.as_ptr(), written))
            };
            return Some(Slot::Whole(header, frame));
        }
        Some(if status & libc::TP_STATUS_COPY != 0 { Slot::AtSocket(len) } else { Slot::Lost })
    }

    /// How many frames from the next on are at the socket, up to so many frames or bytes, but one at least.
    pub(crate) fn at_socket(&self, frames_max: usize, bytes_max: usize) -> usize {
        let mut bytes = 0;
        let run = (0..frames_max).take_while(|&ahead| match self.peek(ahead) {
            Some(Slot::AtSocket(len)) if ahead == 0 || bytes < bytes_max => {
                bytes += len;
                true
            }
            _ => false,
        });
        run.count()
    }

    /// Gives the next slot back.
    pub(crate) fn release(&mut self) {
        // Release pairs with the kernel's acquire: what we read comes before what it writes next.
        self.status(self.next * SLOT_LEN).store(libc::TP_STATUS_KERNEL, Release);
        self.next = (self.next + 1) % SLOTS;
    }

    fn status(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the slot lies inside the mapping, which is aligned to pages and lives as long as `self`; kernel and
        // router access the first word of a slot by atomic operations only, but for the read of a whole header in `peek`,
        // when the slot is ours.
        unsafe { self.memory.address().add(at).cast().as_ref() }
    }
}
