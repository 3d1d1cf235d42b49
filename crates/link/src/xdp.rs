//! A ring of small frames to send: an AF_XDP socket that only transmits.
//!
//! A frame costs the kernel less here than by `sendmmsg`: there is no message to read and no queueing discipline to ask,
//! and one system call hands over up to 32. The socket is in copy mode and no XDP program is attached, so the link keeps
//! its offloads and nothing is received here.
//!
//! ```text
//!  copy ─► frames, descriptors ─► publish ─┐ sendto: the kernel copies each frame, hands it to the driver, and
//!                                          │ says when the driver is done with it
//!  ring empty ◄── consumed, completed ◄────┘
//! ```
//!
//! **Order**: between two calls of [`TxRing::send`] the ring is empty, so what the same thread sends by another socket
//! comes after it. That holds only where the kernel has no queue in which frames of the two could change places. So a link
//! with a queueing discipline gets no ring; and a ring of which frames were still in the kernel when `sendto` returned
//! (a macvlan on a busy NIC) is lost at once.
//!
//! **Limits**: one ring for each link. The kernel lets one socket have a queue of a link, and another queue would not keep
//! the order. Who watches the link with `tcpdump` does not see what leaves by a ring.

#[allow(unsafe_code, reason = "shares memory with the kernel")]
mod memory;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use packet::{BATCH_MAX, PacketBuf, gso};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socket_with};

use crate::{SendReport, rtnetlink};
use memory::{Descriptor, Shared};

/// Longest frame for the ring. Up to 1514 bytes were no slower by it, but their checksums would have to be made, which a
/// receiver on the same machine never looks at.
pub(crate) const FRAME_MAX: usize = 256;

/// Most frames in one call of [`TxRing::send`].
const RING_LEN: usize = BATCH_MAX;

/// How often a call may end early in one run. The kernel takes 32 frames in each, so more often means that the link
/// takes none.
const AGAIN_MAX: usize = 16;

/// Why a link has no ring, or no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    /// It can be opened when the link is up.
    #[error("the link is down")]
    Down,
    /// The ring would overtake what waits there, or be overtaken.
    #[error("frames wait in a queue ({0})")]
    Queue(String),
    /// The system said no.
    #[error("{step}: {error}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What it said.
        error: io::Error,
    },
}

impl RingError {
    fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| match error.into() {
            error if error.raw_os_error() == Some(libc::ENETDOWN) => Self::Down,
            error => Self::System { step, error },
        }
    }
}

/// What became of the frames of one [`TxRing::send`].
pub(crate) struct Sent {
    /// Their number by fate.
    pub report: SendReport,
    /// Length of those that were sent.
    pub bytes: usize,
    /// The ring is of no use any more.
    pub lost: Option<RingError>,
}

/// An AF_XDP socket with the memory that it shares with the kernel.
pub(crate) struct TxRing {
    fd: OwnedFd,
    rtnetlink: OwnedFd,
    /// Index of the link.
    link: u32,
    shared: Shared,
    /// Descriptors written so far; wraps.
    written: u32,
    /// Completions seen so far; wraps.
    completed: u32,
    /// Descriptors may be in the ring that the kernel has yet to pass over.
    is_dirty: bool,
}

/// How far the kernel came with a run of frames.
#[derive(Default)]
struct Kicked {
    /// Frames that left the ring, from the first on.
    taken: usize,
    /// How many of these the driver refused, and their length.
    refused: usize,
    refused_bytes: usize,
    /// The kernel has looked at the ring, so it may know of descriptors that it did not take yet.
    looked: bool,
    /// What it said in the end, if it did not take all.
    error: Option<Errno>,
}

impl TxRing {
    /// Makes a ring for the link with this index of this namespace; [`Self::bind`] it before the first frame.
    ///
    /// # Errors
    /// If the kernel has no AF_XDP or does not let this process use it.
    pub fn new(link: u32) -> Result<Self, RingError> {
        let rtnetlink = rtnetlink::socket().map_err(RingError::at("open a netlink socket"))?;
        let family = AddressFamily::from_raw(libc::AF_XDP as u16);
        let fd = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map_err(RingError::at("open an AF_XDP socket"))?;
        let shared = Shared::with_kernel(fd.as_fd()).map_err(RingError::at("share memory"))?;
        Ok(Self { fd, rtnetlink, link, shared, written: 0, completed: 0, is_dirty: false })
    }

    /// Ties it to the link.
    ///
    /// # Errors
    /// If the link has a queue or the kernel lets no socket, or no second one, send there like this. [`RingError::Down`]:
    /// try again when it is up.
    pub fn bind(&self) -> Result<(), RingError> {
        let queue = rtnetlink::queueing_discipline(self.rtnetlink.as_fd(), self.link);
        match queue.map_err(RingError::at("ask for the link's queue"))?.as_str() {
            "noqueue" => {}
            // What a link has before it is up for the first time.
            "noop" => return Err(RingError::Down),
            name => return Err(RingError::Queue(name.to_owned())),
        }
        memory::bind(self.fd.as_fd(), self.link).map_err(RingError::at("bind an AF_XDP socket"))
    }

    /// Sends frames of at most [`FRAME_MAX`] bytes in order, with their checksums finished.
    ///
    /// # Panics
    /// If a frame is longer, or there are more than a batch.
    pub fn send(&mut self, packets: &[PacketBuf]) -> Sent {
        assert!(packets.len() <= RING_LEN, "more frames than the ring holds");
        if self.is_dirty
            && let Err(error) = self.call()
        {
            return Sent { report: left_for(error, packets.len()), bytes: 0, lost: None };
        }
        self.is_dirty = false;
        for packet in packets {
            self.write(packet);
        }
        self.shared.publish(self.written);
        let kicked = self.kick(packets);
        let (taken, left) = packets.split_at(kicked.taken);
        let mut report = SendReport::default();
        if let Some(error) = kicked.error {
            self.take_back(left.len(), kicked.looked, error);
            report = left_for(error, left.len());
        }
        report.sent = taken.len() - kicked.refused;
        report.refused += kicked.refused;
        let bytes = taken.iter().map(PacketBuf::len).sum::<usize>() - kicked.refused_bytes;
        let lost = self.reap() != taken.len();
        Sent { report, bytes, lost: lost.then(|| RingError::Queue("below the link".to_owned())) }
    }

    /// Copies a frame to its place in the ring.
    fn write(&mut self, packet: &PacketBuf) {
        let (slot, len) = (slot(self.written), packet.len());
        let copy = &mut self.shared.frame_mut(slot)[..len];
        copy.copy_from_slice(packet.frame());
        if let Some(partial) = packet.offload.checksum {
            gso::finish_sum(copy, partial);
        }
        self.shared.describe(slot, Descriptor::Frame { len });
        self.written = self.written.wrapping_add(1);
    }

    /// Makes the kernel take what was published.
    fn kick(&self, packets: &[PacketBuf]) -> Kicked {
        let first = self.written.wrapping_sub(packets.len() as u32);
        let mut kicked = Kicked::default();
        let mut again = 0;
        loop {
            let Err(error) = self.call() else {
                return Kicked { taken: packets.len(), ..kicked };
            };
            let seen = self.shared.consumed().wrapping_sub(first) as usize;
            match error {
                // The driver refused a frame, which is gone; those before it were sent. Since Linux 6.17 the
                // consumer says how many these were, before it may say so only later.
                Errno::BUSY if kicked.taken < packets.len() => {
                    kicked.taken = seen.max(kicked.taken + 1);
                    kicked.refused += 1;
                    kicked.refused_bytes += packets[kicked.taken - 1].len();
                }
                error if is_for_now(error) && again < AGAIN_MAX => {
                    kicked.taken = seen.max(kicked.taken);
                    again += 1;
                }
                error => return Kicked { error: Some(error), ..kicked },
            }
            kicked.looked = true;
        }
    }

    /// Empties the ring of its last `left` descriptors, which the kernel did not take.
    fn take_back(&mut self, left: usize, looked: bool, error: Errno) {
        if !looked && matches!(error, Errno::NETDOWN | Errno::NXIO) {
            self.written = self.written.wrapping_sub(left as u32);
            self.shared.publish(self.written);
            return;
        }
        for back in 1..=left as u32 {
            self.shared.describe(slot(self.written.wrapping_sub(back)), Descriptor::Void);
        }
        self.is_dirty = self.call().is_err();
    }

    /// Frees the places of frames that the driver is done with; returns how many.
    fn reap(&mut self) -> usize {
        let completed = self.shared.reap();
        let reaped = completed.wrapping_sub(self.completed) as usize;
        self.completed = completed;
        reaped
    }

    /// The system call that makes the kernel look at the ring. Success means that the ring is empty.
    fn call(&self) -> Result<(), Errno> {
        loop {
            match rustix::net::send(&self.fd, &[], SendFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                result => return result.map(drop),
            }
        }
    }
}

/// The place in the ring of the descriptor with this number.
fn slot(number: u32) -> usize {
    number as usize % RING_LEN
}

/// What becomes of `count` frames that the kernel left in the ring for this reason.
fn left_for(error: Errno, count: usize) -> SendReport {
    if is_for_now(error) {
        SendReport { would_block: count, ..SendReport::default() }
    } else {
        SendReport { refused: count, ..SendReport::default() }
    }
}

/// Whether the link may take the frame later: no memory, no room in a queue, or so many taken that it is another's turn.
fn is_for_now(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM)
}
