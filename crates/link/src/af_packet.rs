//! AF_PACKET with virtio-net headers: whole super-packets in and out through one socket, and small frames through rings
//! beside it: in by [`crate::rx_ring`], out by [`crate::xdp`].
//!
//! The kernel delivers a copy of every frame of the link to this socket *and* goes on to its own stack
//! with it. So the link has no kernel address, and opening it tells the kernel's stack to stay silent
//! there ([`AfPacket::open`]) and, where that is possible, takes the frame away from it.
//!
//! Frames that hardware merged (LRO) carry no partial checksum and count as invalid: switch LRO off.

use std::fs;
use std::io;
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use packet::{BATCH_MAX, Batch, LinkId, MacAddr, PacketBuf, Pool, PortBitmap};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::ebpf::{Shield, SynFilter};
use crate::rx_ring::{RxRing, Slot};
use crate::sys::{self, Received};
use crate::vnet::{self, HEADER_LEN, VnetHeader};
use crate::xdp::{self, RingError, TxRing};
use crate::{
    ETHERNET_HEADER_LEN, Link, LinkCounters, LinkState, Offloads, OpenError, SendReport, interfaces,
};

/// A received batch ends after this many bytes, also when it holds few frames: 64 super-packets would
/// be 4 MB, over a millisecond during which a small packet waits, and would not stay in the cache
/// between receiving and sending.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Receive and send buffer of the socket (the kernel doubles it for its own overhead). 2 MB lost packets
/// in bursts and 64 MB held more than a second of small packets (bufferbloat).
const SOCKET_BUFFER_BYTES: i32 = 4 * 1024 * 1024;

/// Fewest buffers offered in one system call: more would be taken and returned in vain on a quiet link.
const ASK_MIN: usize = 8;

/// Fewest small frames between others that are worth the ring. A frame costs 0.42 µs there and 0.65 by the socket, but to
/// change between the two costs a system call: with one large frame after each 1, 2, 3, 4, 8 small ones the ring took
/// 1.15, 0.92, 0.94, 0.91, 0.84 of the time.
const RING_RUN_MIN: usize = 4;

/// How small frames come and go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SmallFrames {
    /// By rings of their own, where the link can have them.
    ByRing,
    /// Like all others.
    BySocket,
}

/// The ring for small frames.
enum Ring {
    Open(TxRing),
    /// It is tied to the link when that is up for the first time.
    Later(TxRing),
    /// There is none: nobody wants it, or the link can't have it.
    Never,
}

/// A link of this system, with segmentation and checksum offload.
pub struct AfPacket {
    fd: OwnedFd,
    /// Where short frames arrive; `None` if all come by the socket.
    received: Option<RxRing>,
    ring: Ring,
    programs: Programs,
    name: String,
    index: u32,
    id: LinkId,
    mac: MacAddr,
    mtu: usize,
    /// How many frames to ask for: doubled when a call was filled, halved when it was mostly empty.
    ask: usize,
    /// Longest frame of the last call, as a guess at the next one's.
    len_expected: usize,
    offered: Vec<PacketBuf>,
    counters: LinkCounters,
}

/// What one call received.
#[derive(Default)]
struct Taken {
    /// Buffers that there were for it.
    offered: usize,
    /// Frames, those included that can't be delivered.
    count: usize,
    /// Bytes delivered.
    bytes: usize,
}

/// What the kernel runs for us on the frames of the link.
struct Programs {
    /// `None` where the kernel has no eBPF for us.
    filter: Option<SynFilter>,
    _shield: Option<Shield>,
}

impl AfPacket {
    /// Opens a link and makes the kernel's own stack silent on it; small frames travel by rings if that is possible.
    ///
    /// The link may be down. What keeps the kernel silent is best effort and logged if it fails,
    /// because `/proc/sys` is read-only in some containers: `disable_ipv6`, `arp_ignore`, `rp_filter`.
    ///
    /// # Errors
    /// If the link does not exist, is not Ethernet or has a kernel address, or the process lacks
    /// CAP_NET_RAW.
    pub fn open(link: &str, id: LinkId) -> Result<Self, OpenError> {
        Self::open_with(link, id, SmallFrames::ByRing)
    }

    /// As [`Self::open`], with a say in how small frames travel.
    ///
    /// # Errors
    /// As [`Self::open`]. That there can be no ring is no error; it is logged.
    pub fn open_with(link: &str, id: LinkId, small: SmallFrames) -> Result<Self, OpenError> {
        interfaces::find(link)?;
        let failed = |step| move |error: io::Error| OpenError::system(link, step, error);
        let fd = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            // Protocol 0: nothing is received before the options below are in force.
            None,
        )
        .map_err(|error| OpenError::system(link, "open a packet socket", error))?;
        let socket = fd.as_fd();
        let index = name_to_index(socket, link)
            .map_err(|error| OpenError::system(link, "find its index", error))?;
        let mac = sys::mac(socket, link).map_err(failed("read its MAC address"))?;
        let mac = mac.ok_or_else(|| OpenError::NotEthernet { link: link.to_owned() })?;
        let mtu = sys::mtu(socket, link).map_err(failed("read its MTU"))?;
        silence_kernel(link);
        set_options(socket).map_err(failed("set the options of a packet socket"))?;
        let received = match small {
            SmallFrames::ByRing => rx_ring(socket, link),
            SmallFrames::BySocket => None,
        };
        let filter = attach_filter(socket, link).map_err(failed("attach a filter"))?;
        sys::bind(socket, index).map_err(failed("bind a packet socket"))?;
        let ring = match small {
            SmallFrames::ByRing => TxRing::new(index)
                .map_or_else(|error| without_ring(link, &error), |ring| tie(ring, link)),
            SmallFrames::BySocket => Ring::Never,
        };
        Ok(Self {
            fd,
            received,
            ring,
            programs: Programs { filter, _shield: shield(index, link) },
            name: link.to_owned(),
            index,
            id,
            mac,
            mtu,
            ask: ASK_MIN,
            len_expected: 0,
            offered: Vec::with_capacity(BATCH_MAX),
            counters: LinkCounters::default(),
        })
    }

    /// Takes from the ring what is there, and from the socket what was too long for it; the bytes.
    fn receive_by_ring(
        &mut self,
        batch: &mut Batch,
        pool: &mut Pool,
        bytes_max: usize,
    ) -> io::Result<usize> {
        let mut bytes = 0;
        while batch.room() > 0 && bytes < bytes_max {
            let Some(ring) = &mut self.received else { break };
            match ring.peek(0) {
                None => break,
                Some(Slot::Whole(header, frame)) => {
                    let Some(mut buffer) = pool.take() else { break };
                    let header = *header;
                    // Every pool's buffers are longer than a slot.
                    let fits = buffer.copy_from(frame);
                    ring.release();
                    if fits {
                        bytes += self.admit(batch, pool, buffer, &header);
                    } else {
                        self.counters.rx_oversized += 1;
                        pool.put(buffer);
                    }
                }
                Some(Slot::AtSocket(_)) => {
                    let ask = ring.at_socket(batch.room(), bytes_max - bytes);
                    match self.receive_from_socket(batch, pool, ask)? {
                        Taken { offered: 0, .. } => break,
                        Taken { count: 0, .. } => self.lose_slot(),
                        taken => bytes += taken.bytes,
                    }
                }
                Some(Slot::Lost) => self.lose_slot(),
            }
        }
        Ok(bytes)
    }

    /// Passes over a frame that the kernel had no room for.
    fn lose_slot(&mut self) {
        self.counters.rx_dropped += 1;
        if let Some(ring) = &mut self.received {
            ring.release();
        }
    }

    /// Receives once; `None` when nothing more is there.
    fn receive_some(
        &mut self,
        batch: &mut Batch,
        pool: &mut Pool,
        bytes_left: usize,
    ) -> io::Result<Option<usize>> {
        let by_bytes = bytes_left.checked_div(self.len_expected).unwrap_or(BATCH_MAX).max(1);
        let ask = self.ask.min(by_bytes).min(batch.room());
        let Taken { offered, count, bytes } = self.receive_from_socket(batch, pool, ask)?;
        if count < offered || offered == 0 {
            if count < self.ask / 4 {
                self.ask = (self.ask / 2).max(ASK_MIN);
            }
            return Ok(None);
        }
        self.ask = (self.ask * 2).min(BATCH_MAX);
        Ok(Some(bytes))
    }

    /// Receives up to so many frames by one call.
    fn receive_from_socket(
        &mut self,
        batch: &mut Batch,
        pool: &mut Pool,
        ask: usize,
    ) -> io::Result<Taken> {
        self.offered.extend((0..ask).map_while(|_| pool.take()));
        let offered = self.offered.len();
        if offered == 0 {
            return Ok(Taken::default());
        }
        let mut headers = [[0; HEADER_LEN]; BATCH_MAX];
        let mut received = [Received::default(); BATCH_MAX];
        let result = retry(|| {
            sys::receive(self.fd.as_fd(), &mut headers[..offered], &mut self.offered, &mut received)
        });
        let count = *result.as_ref().unwrap_or(&0);
        // Each has a slot of the ring, if there is one, that only says so.
        if let Some(ring) = &mut self.received {
            (0..count).for_each(|_| ring.release());
        }
        let bytes = self.deliver(batch, pool, &headers[..count], &received[..count]);
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(Taken { offered, count, bytes }),
        }
    }

    /// Moves what was received to the batch and the rest of the buffers home; returns the bytes.
    fn deliver(
        &mut self,
        batch: &mut Batch,
        pool: &mut Pool,
        headers: &[VnetHeader],
        received: &[Received],
    ) -> usize {
        let mut bytes = 0;
        self.len_expected = 0;
        let mut offered = std::mem::take(&mut self.offered);
        let mut buffers = offered.drain(..);
        for ((header, received), mut buffer) in headers.iter().zip(received).zip(&mut buffers) {
            let len = received.len.saturating_sub(HEADER_LEN);
            self.len_expected = self.len_expected.max(len);
            if received.truncated {
                self.counters.rx_oversized += 1;
                pool.put(buffer);
                continue;
            }
            buffer.set_len(len);
            bytes += self.admit(batch, pool, buffer, header);
        }
        for buffer in buffers {
            pool.put(buffer);
        }
        // Empty, it keeps its room.
        self.offered = offered;
        bytes
    }

    /// Adds a received frame to the batch if its metadata fits it; the bytes added.
    #[inline]
    fn admit(
        &mut self,
        batch: &mut Batch,
        pool: &mut Pool,
        mut buffer: PacketBuf,
        header: &VnetHeader,
    ) -> usize {
        let len = buffer.len();
        match vnet::decode(header, buffer.frame()) {
            Ok(offload) => {
                buffer.offload = offload;
                buffer.ingress = self.id;
                self.counters.count_received(len);
                batch.push(buffer);
                len
            }
            Err(vnet::OffloadInvalid) => {
                self.counters.rx_offload_invalid += 1;
                pool.put(buffer);
                0
            }
        }
    }

    /// Sends up to [`BATCH_MAX`] packets, in runs that go the same way.
    fn send_some(&mut self, packets: &[PacketBuf]) -> SendReport {
        in_parts(packets, |rest| {
            let (len, by_ring) = self.first_run(rest);
            let run = &rest[..len];
            (len, if by_ring { self.send_by_ring(run) } else { self.send_by_socket(run) })
        })
    }

    /// How many packets from the first on go the same way, and whether that is by the ring.
    ///
    /// Few small ones between others go with these.
    fn first_run(&self, packets: &[PacketBuf]) -> (usize, bool) {
        let Ring::Open(_) = self.ring else { return (packets.len(), false) };
        let len_max = (self.mtu + ETHERNET_HEADER_LEN).min(xdp::FRAME_MAX);
        let mut small = 0;
        for (index, packet) in packets.iter().enumerate() {
            let is_small = packet.len() <= len_max && vnet::can_finish(packet);
            match (is_small, small) {
                (true, _) if small + 1 == RING_RUN_MIN && index > small => {
                    return (index - small, false);
                }
                (true, _) => small += 1,
                (false, RING_RUN_MIN..) => return (index, true),
                (false, _) => small = 0,
            }
        }
        (packets.len(), small >= RING_RUN_MIN || small == packets.len())
    }

    fn send_by_ring(&mut self, packets: &[PacketBuf]) -> SendReport {
        let Ring::Open(ring) = &mut self.ring else { return self.send_by_socket(packets) };
        let sent = ring.send(packets);
        self.counters.tx_bytes += sent.bytes as u64;
        self.counters.tx_by_ring += sent.report.sent as u64;
        if let Some(error) = sent.lost {
            self.ring = without_ring(&self.name, &error);
        }
        sent.report
    }

    fn send_by_socket(&mut self, packets: &[PacketBuf]) -> SendReport {
        let mut headers = [[0; HEADER_LEN]; BATCH_MAX];
        let mut report = SendReport::default();
        let mut next = 0;
        // `headers[next..ready]` are valid for the packets at the same places.
        let mut ready = 0;
        while next < packets.len() {
            while let Some(packet) = packets.get(ready) {
                let Ok(header) = vnet::encode(packet.offload, packet.frame()) else { break };
                headers[ready] = header;
                ready += 1;
            }
            if ready == next {
                report.refused += 1;
                next += 1;
                ready = next;
                continue;
            }
            match retry(|| sys::send(self.fd.as_fd(), &headers[next..ready], &packets[next..ready]))
            {
                Ok(sent) => {
                    let bytes: usize = packets[next..next + sent].iter().map(PacketBuf::len).sum();
                    self.counters.tx_bytes += bytes as u64;
                    report.sent += sent;
                    next += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    report.would_block = packets.len() - next;
                    break;
                }
                Err(error) if error.raw_os_error().is_some_and(is_of_link) => {
                    report.refused += packets.len() - next;
                    break;
                }
                Err(_) => {
                    report.refused += 1;
                    next += 1;
                }
            }
        }
        report
    }
}

impl Link for AfPacket {
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
        Offloads::ALL
    }

    fn recv(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<usize> {
        let before = batch.len();
        if self.received.is_some() {
            self.receive_by_ring(batch, pool, BATCH_BYTES_MAX)?;
            if batch.len() > before {
                return Ok(batch.len() - before);
            }
            // What became of the link only the socket says.
            return sys::take_error(self.fd.as_fd()).map_or(Ok(0), Err);
        }
        let mut bytes_left = BATCH_BYTES_MAX;
        while batch.room() > 0 && bytes_left > 0 {
            match self.receive_some(batch, pool, bytes_left)? {
                Some(bytes) => bytes_left = bytes_left.saturating_sub(bytes),
                None => break,
            }
        }
        Ok(batch.len() - before)
    }

    fn send(&mut self, packets: &[PacketBuf]) -> SendReport {
        let report = in_parts(packets, |rest| {
            let len = rest.len().min(BATCH_MAX);
            (len, self.send_some(&rest[..len]))
        });
        self.counters.count_send(report);
        report
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn guard(&mut self, wanted: Option<(Ipv4Addr, &PortBitmap)>) -> bool {
        let Some(filter) = &self.programs.filter else { return false };
        filter.set(wanted);
        true
    }

    fn counters(&mut self) -> LinkCounters {
        if let Some(filter) = &self.programs.filter {
            self.counters.rx_guarded = filter.dropped();
        }
        match sys::statistics(self.fd.as_fd()) {
            Ok(statistics) => self.counters.rx_dropped += u64::from(statistics.drops),
            Err(error) => tracing::debug!(link = self.name, %error, "packet socket statistics"),
        }
        self.counters
    }

    fn state(&mut self) -> LinkState {
        let socket = self.fd.as_fd();
        // A link of the same name may have been made anew; this socket does not belong to it.
        if name_to_index(socket, &self.name) != Ok(self.index) {
            return LinkState::Gone;
        }
        if let Ok(mtu) = sys::mtu(socket, &self.name) {
            self.mtu = mtu;
        }
        const PASSES: i32 = libc::IFF_UP | libc::IFF_RUNNING;
        match sys::flags(socket, &self.name) {
            Ok(flags) if flags & PASSES == PASSES => {
                self.ring = match mem::replace(&mut self.ring, Ring::Never) {
                    Ring::Later(ring) => tie(ring, &self.name),
                    ring => ring,
                };
                LinkState::Up
            }
            _ => LinkState::Down,
        }
    }
}

fn set_options(socket: BorrowedFd<'_>) -> io::Result<()> {
    sys::set_option(socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    // Else every frame that is sent comes back as received.
    sys::set_option(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    for (forced, clamped) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        // Beyond the system's limit only with CAP_NET_ADMIN; up to it is better than the default.
        sys::set_option(socket, libc::SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
            .or_else(|_| sys::set_option(socket, libc::SOL_SOCKET, clamped, SOCKET_BUFFER_BYTES))?;
    }
    Ok(())
}

/// Sends packets in parts from the first on, until the link can take no more. `send` says how many it was for.
fn in_parts(
    packets: &[PacketBuf],
    mut send: impl FnMut(&[PacketBuf]) -> (usize, SendReport),
) -> SendReport {
    let mut total = SendReport::default();
    let mut rest = packets;
    while !rest.is_empty() && total.would_block == 0 {
        let (len, part) = send(rest);
        total.sent += part.sent;
        total.refused += part.refused;
        total.would_block = part.would_block;
        rest = &rest[len..];
    }
    if total.would_block > 0 {
        total.would_block += rest.len();
    }
    total
}

/// The ring for received frames, if the kernel has one for us.
fn rx_ring(socket: BorrowedFd<'_>, link: &str) -> Option<RxRing> {
    let ring = RxRing::new(socket);
    if let Err(error) = &ring {
        tracing::info!(link, %error, "no receive ring: each frame is fetched by a call");
    }
    ring.ok()
}

/// Ties a ring to its link if that can be now.
fn tie(ring: TxRing, link: &str) -> Ring {
    match ring.bind() {
        Ok(()) => Ring::Open(ring),
        Err(RingError::Down) => Ring::Later(ring),
        Err(error) => without_ring(link, &error),
    }
}

fn without_ring(link: &str, error: &RingError) -> Ring {
    tracing::info!(link, %error, "no AF_XDP ring: small frames leave like all others");
    Ring::Never
}

/// Keeps the kernel's stack off the link, if the kernel has the means; it says nothing there in any case.
fn shield(index: u32, link: &str) -> Option<Shield> {
    let shield = Shield::attach(index);
    if let Err(error) = &shield {
        tracing::info!(link, %error, "no tcx: the kernel's stack looks at each frame too");
    }
    shield.ok()
}

/// Attaches what keeps tagged frames out, by the means that the kernel has.
fn attach_filter(socket: BorrowedFd<'_>, link: &str) -> io::Result<Option<SynFilter>> {
    match SynFilter::attach(socket) {
        Ok(filter) => Ok(Some(filter)),
        Err(error) => {
            tracing::info!(link, %error, "no eBPF: a SYN flood will cost more");
            sys::refuse_tagged(socket).map(|()| None)
        }
    }
}

/// Tells the kernel's stack to answer nothing on the link, whatever addresses it has elsewhere.
pub(crate) fn silence_kernel(link: &str) {
    let settings = [
        // No router solicitations, no neighbour discovery, no link-local address.
        ("ipv6", "disable_ipv6", "1"),
        // No ARP reply for an address that the kernel has on another link.
        ("ipv4", "arp_ignore", "8"),
        // No route leads back over a link without address, so every IPv4 source fails this check.
        ("ipv4", "rp_filter", "1"),
    ];
    for (family, setting, value) in settings {
        let path = format!("/proc/sys/net/{family}/conf/{link}/{setting}");
        if fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
            continue;
        }
        match fs::write(&path, value) {
            Ok(()) => tracing::info!(link, setting, value, "the kernel is silent on this link"),
            // Without IPv6 in the kernel there is nothing to switch off.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(link, setting, value, %error, "the kernel may answer on this link");
            }
        }
    }
}

/// Whether an error concerns the link rather than the packet.
fn is_of_link(errno: i32) -> bool {
    matches!(errno, libc::ENETDOWN | libc::ENXIO | libc::ENODEV)
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
