//! Any link that `pnet` can open: portable and plain.
//!
//! `pnet` can only wait for a frame, so a thread of the link's own does that and hands copies over through
//! a bounded queue. There are no offloads in either direction: a peer on the same host that leaves
//! checksums or segmentation to its virtual card must have that switched off (on Linux `ethtool -K
//! <peer> tx off tso off gso off`), else its frames are forwarded with wrong checksums or dropped as
//! oversized.
//!
//! States of the wake-up: *quiet* (nothing written to the pipe) and *rung* (one byte is in it). The reader
//! rings after it pushed; the receiver quiets before it pops, and rings again if it leaves
//! frames behind. So the pipe is readable whenever the queue holds a frame.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use packet::{Batch, LARGE_FRAME_MAX, LinkId, MacAddr, PacketBuf, Pool, SMALL_FRAME_MAX};
use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender, NetworkInterface};

use crate::{
    Doorbell, ETHERNET_HEADER_LEN, Link, LinkCounters, LinkState, Offloads, OpenError, SendReport,
    interfaces,
};

/// Frames that wait for the router: 8 batches, 1 MB of buffers at an MTU of 1500.
const QUEUE_PACKETS: usize = 512;

/// How often the reader looks whether it shall end, and how long it rests after an error.
const READ_TIMEOUT: Duration = Duration::from_millis(100);

/// A link through `pnet`, with a reader thread.
pub struct PnetLink {
    name: String,
    id: LinkId,
    mac: MacAddr,
    mtu: usize,
    index: u32,
    sender: Box<dyn DataLinkSender>,
    shared: Arc<Shared>,
    woken: UnixStream,
    reader: Option<JoinHandle<()>>,
    counters: LinkCounters,
}

/// What the reader and the link share.
struct Shared {
    frames: ArrayQueue<PacketBuf>,
    spare: ArrayQueue<PacketBuf>,
    wake: UnixStream,
    bell: Doorbell,
    stop: AtomicBool,
    dropped: AtomicU64,
    oversized: AtomicU64,
}

impl Shared {
    fn new(wake: UnixStream, frame_len_max: usize) -> Arc<Self> {
        let spare = ArrayQueue::new(QUEUE_PACKETS);
        let buffer: fn() -> PacketBuf =
            if frame_len_max <= SMALL_FRAME_MAX { PacketBuf::small } else { PacketBuf::large };
        while spare.push(buffer()).is_ok() {}
        Arc::new(Self {
            frames: ArrayQueue::new(QUEUE_PACKETS),
            spare,
            wake,
            bell: Doorbell::default(),
            stop: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            oversized: AtomicU64::new(0),
        })
    }

    /// Makes the pipe readable.
    fn ring(&self) {
        // A full pipe is readable.
        self.bell.ring(|| drop((&self.wake).write(&[1])));
    }

    /// Empties the pipe.
    fn quiet(&self, mut woken: &UnixStream) {
        self.bell.quiet(|| drop(woken.read(&mut [0; 8])));
    }
}

impl PnetLink {
    /// Opens a link; `mtu` is what the operator knows of it, because `pnet` doesn't.
    ///
    /// # Errors
    /// If the link does not exist or has a kernel address, or the process may not open raw links.
    pub fn open(link: &str, id: LinkId, mtu: usize) -> Result<Self, OpenError> {
        let interface = interfaces::find(link)?;
        let not_ethernet = || OpenError::NotEthernet { link: link.to_owned() };
        let mac = interface.mac.filter(|_| !interface.is_loopback()).ok_or_else(not_ethernet)?;
        let mac = MacAddr(mac.octets());
        let failed = |step| move |error: io::Error| OpenError::system(link, step, error);
        #[cfg(target_os = "linux")]
        crate::af_packet::silence_kernel(link);
        let config = config().map_err(failed("open a packet socket"))?;
        let channel =
            datalink::channel(&interface, config).map_err(failed("open a datalink channel"))?;
        let Channel::Ethernet(sender, receiver) = channel else { return Err(not_ethernet()) };

        let (wake, woken) = UnixStream::pair().map_err(failed("make a wake-up pipe"))?;
        let non_blocking = wake.set_nonblocking(true).and_then(|()| woken.set_nonblocking(true));
        non_blocking.map_err(failed("make a wake-up pipe"))?;
        let frame_len_max = mtu + ETHERNET_HEADER_LEN;
        let shared = Shared::new(wake, frame_len_max);
        let reader = Reader { receiver, shared: Arc::clone(&shared), mac, frame_len_max };
        let reader = std::thread::Builder::new()
            .name(format!("read-{link}"))
            .spawn(move || reader.run())
            .map_err(failed("start the reader thread"))?;
        Ok(Self {
            name: link.to_owned(),
            id,
            mac,
            mtu,
            index: interface.index,
            sender,
            shared,
            woken,
            reader: Some(reader),
            counters: LinkCounters::default(),
        })
    }

    fn interface(&self) -> Option<NetworkInterface> {
        let is_this = |i: &NetworkInterface| i.name == self.name && i.index == self.index;
        datalink::interfaces().into_iter().find(is_this)
    }
}

/// How `pnet` shall open its channel.
fn config() -> io::Result<Config> {
    let config = Config {
        read_buffer_size: LARGE_FRAME_MAX,
        read_timeout: Some(READ_TIMEOUT),
        write_timeout: Some(Duration::ZERO),
        promiscuous: false,
        ..Config::default()
    };
    #[cfg(target_os = "linux")]
    let config = Config { socket_fd: Some(quiet_socket()?), ..config };
    Ok(config)
}

/// A packet socket for `pnet`, which owns it from then on: one that hears neither other links before
/// it is bound (`pnet`'s own does) nor what it sends.
#[cfg(target_os = "linux")]
fn quiet_socket() -> io::Result<i32> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    use std::os::fd::IntoRawFd;

    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    crate::sys::set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    crate::sys::refuse_tagged(socket.as_fd())?;
    Ok(socket.into_raw_fd())
}

/// The thread that waits for frames.
struct Reader {
    receiver: Box<dyn DataLinkReceiver>,
    shared: Arc<Shared>,
    mac: MacAddr,
    frame_len_max: usize,
}

impl Reader {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.receiver.next() {
                Ok(frame) => take(&self.shared, frame, self.mac, self.frame_len_max),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Down or gone; `state` tells. It may come back.
                    tracing::debug!(%error, "receive");
                    std::thread::park_timeout(READ_TIMEOUT);
                }
            }
        }
    }
}

/// Queues a copy of a received frame.
fn take(shared: &Shared, frame: &[u8], own: MacAddr, frame_len_max: usize) {
    // BPF devices show us what we sent.
    if frame.get(6..12) == Some(&own.0) {
        return;
    }
    if frame.len() > frame_len_max {
        shared.oversized.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Some(mut buffer) = shared.spare.pop() else {
        shared.dropped.fetch_add(1, Ordering::Relaxed);
        return;
    };
    // There are as many buffers as places in either queue, so neither push can fail.
    let unused = if buffer.copy_from(frame) {
        shared.frames.push(buffer).err()
    } else {
        shared.oversized.fetch_add(1, Ordering::Relaxed);
        Some(buffer)
    };
    if let Some(buffer) = unused {
        let _ = shared.spare.push(buffer);
    }
    shared.ring();
}

impl Link for PnetLink {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    fn recv(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<usize> {
        let before = batch.len();
        self.shared.quiet(&self.woken);
        while batch.room() > 0 {
            let Some(mut buffer) = pool.take() else { break };
            let Some(received) = self.shared.frames.pop() else {
                pool.put(buffer);
                break;
            };
            if buffer.copy_from(received.frame()) {
                buffer.ingress = self.id;
                self.counters.count_received(buffer.len());
                batch.push(buffer);
            } else {
                self.counters.rx_oversized += 1;
                pool.put(buffer);
            }
            let _ = self.shared.spare.push(received);
        }
        if !self.shared.frames.is_empty() {
            self.shared.ring();
        }
        Ok(batch.len() - before)
    }

    fn send(&mut self, packets: &[PacketBuf]) -> SendReport {
        let mut report = SendReport::default();
        for (index, packet) in packets.iter().enumerate() {
            let fits = packet.len() <= self.mtu + ETHERNET_HEADER_LEN
                && self.offloads().allow(packet.offload);
            match fits.then(|| self.sender.send_to(packet.frame(), None)).flatten() {
                Some(Ok(())) => {
                    report.sent += 1;
                    self.counters.tx_bytes += packet.len() as u64;
                }
                Some(Err(error)) if is_busy(&error) => {
                    report.would_block = packets.len() - index;
                    break;
                }
                Some(Err(_)) | None => report.refused += 1,
            }
        }
        self.counters.count_send(report);
        report
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.woken.as_fd())
    }

    fn counters(&mut self) -> LinkCounters {
        LinkCounters {
            rx_dropped: self.shared.dropped.load(Ordering::Relaxed),
            rx_oversized: self.counters.rx_oversized
                + self.shared.oversized.load(Ordering::Relaxed),
            ..self.counters
        }
    }

    fn state(&mut self) -> LinkState {
        match self.interface() {
            None => LinkState::Gone,
            Some(interface) if interface.is_up() && interface.is_running() => LinkState::Up,
            Some(_) => LinkState::Down,
        }
    }
}

/// Whether a send failed only because the link can take no more for now.
fn is_busy(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

impl Drop for PnetLink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.thread().unpark();
            // The reader has nothing to report; if it panicked, that is on record already.
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn shared() -> (Arc<Shared>, UnixStream) {
        let (wake, woken) = UnixStream::pair().unwrap();
        wake.set_nonblocking(true).unwrap();
        woken.set_nonblocking(true).unwrap();
        (Shared::new(wake, 1514), woken)
    }

    #[test]
    fn the_pipe_is_readable_once_however_many_frames_came() {
        let (shared, mut woken) = shared();
        for _ in 0..3 {
            take(&shared, &[1; 60], OWN, 1514);
        }
        assert_eq!(woken.read(&mut [0; 8]).unwrap(), 1);
        assert_eq!(woken.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_frame_after_the_quiet_rings_again() {
        let (shared, mut woken) = shared();
        take(&shared, &[1; 60], OWN, 1514);
        shared.quiet(&woken);
        take(&shared, &[1; 60], OWN, 1514);
        assert_eq!(woken.read(&mut [0; 8]).unwrap(), 1);
    }

    #[test]
    fn frames_from_our_own_address_are_our_own() {
        let (shared, _woken) = shared();
        let mut frame = [1; 60];
        frame[6..12].copy_from_slice(&OWN.0);
        take(&shared, &frame, OWN, 1514);
        assert!(shared.frames.is_empty());
    }

    #[test]
    fn frames_that_do_not_fit_or_find_no_place_are_counted() {
        let (shared, _woken) = shared();
        take(&shared, &[1; 1515], OWN, 1514);
        for _ in 0..QUEUE_PACKETS + 2 {
            take(&shared, &[1; 1514], OWN, 1514);
        }
        assert_eq!(shared.oversized.load(Ordering::Relaxed), 1);
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 2);
        assert_eq!(shared.frames.len(), QUEUE_PACKETS);
    }
}
