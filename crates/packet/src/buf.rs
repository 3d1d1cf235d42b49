//! Packet buffers and the pool they come from.

use crate::LinkId;

/// Room in front of a frame for headers that a link prepends (virtio-net: 12 bytes) or a later
/// encapsulation adds.
pub const HEADROOM: usize = 64;

/// Largest frame of a large buffer: a 65,535-byte IP packet, Ethernet header and one VLAN tag, rounded up.
pub const LARGE_FRAME_MAX: usize = 65_536 + 64;

/// Largest frame of a small buffer: every frame of a 1500-byte link, with room to spare.
pub const SMALL_FRAME_MAX: usize = 2048 - HEADROOM;

/// A checksum that the sender left for hardware to finish.
///
/// The field holds the sum of the pseudo-header, not its complement; the rest is
/// the sum over `start..end of packet` (virtio 1.2 §5.1.6.2, `VIRTIO_NET_HDR_F_NEEDS_CSUM`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialChecksum {
    /// Offset from the start of the frame at which summing begins (the transport header).
    pub start: u16,
    /// Offset of the checksum field from `start`.
    pub offset: u16,
}

/// What a super-packet is to be cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv4 whose segments may carry the CWR flag (`VIRTIO_NET_HDR_GSO_ECN`).
    TcpV4Ecn,
    /// UDP datagrams of equal size (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

/// Segmentation left for later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// Which headers each segment repeats.
    pub kind: GsoKind,
    /// Payload bytes per segment.
    pub size: u16,
}

/// Work that the sender of a frame left undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// The transport checksum is partial.
    pub checksum: Option<PartialChecksum>,
    /// The frame stands for several.
    pub gso: Option<Gso>,
}

impl Offload {
    /// Nothing was left undone.
    pub const NONE: Offload = Offload { checksum: None, gso: None };
}

/// What a link can do for a sender: which metadata a frame may carry when it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// Finishes partial checksums.
    pub checksum: bool,
    /// Cuts TCP super-packets, with or without ECN.
    pub tcp_segmentation: bool,
    /// Cuts UDP super-packets.
    pub udp_segmentation: bool,
}

impl Offloads {
    /// Frames must be complete.
    pub const NONE: Offloads =
        Offloads { checksum: false, tcp_segmentation: false, udp_segmentation: false };
    /// Everything that a virtio-net header can say.
    pub const ALL: Offloads =
        Offloads { checksum: true, tcp_segmentation: true, udp_segmentation: true };

    /// Whether a frame with this metadata may be sent as it is.
    #[must_use]
    #[inline]
    pub fn allow(self, offload: Offload) -> bool {
        let checksum = offload.checksum.is_none() || self.checksum;
        let segmentation = match offload.gso.map(|gso| gso.kind) {
            None => true,
            Some(GsoKind::TcpV4 | GsoKind::TcpV4Ecn) => self.tcp_segmentation,
            Some(GsoKind::Udp) => self.udp_segmentation,
        };
        checksum && segmentation
    }
}

/// Where a buffer goes when its frame is done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// The pool of its worker.
    Worker,
    /// The rings between a worker and the control thread.
    Rings,
}

/// An owned frame in a fixed-size buffer with [`HEADROOM`] in front.
///
/// **Shape**: `storage[HEADROOM..HEADROOM + len]` is the frame from its Ethernet header on. The bytes outside
/// hold whatever an earlier frame left; [`crate::parse`] never looks there.
pub struct PacketBuf {
    storage: Box<[u8]>,
    len: u32,
    home: Home,
    /// Work left undone by the sender.
    pub offload: Offload,
    /// The link that the frame arrived on.
    pub ingress: LinkId,
    /// The link that the frame leaves by, once a verdict says so.
    pub egress: LinkId,
    /// Longest fragment of a packet that came in fragments, or is to leave in them: no fragment of it may be a
    /// longer IP packet. `None`: it came whole and leaves so.
    pub fragment_max: Option<u16>,
}

impl PacketBuf {
    /// Makes an empty buffer for frames of up to [`LARGE_FRAME_MAX`] bytes.
    #[must_use]
    pub fn large() -> Self {
        Self::with_frame_max(LARGE_FRAME_MAX)
    }

    /// Makes an empty buffer for frames of up to [`SMALL_FRAME_MAX`] bytes.
    #[must_use]
    pub fn small() -> Self {
        Self::with_frame_max(SMALL_FRAME_MAX)
    }

    /// Makes this buffer one that goes round in the rings.
    #[must_use]
    pub fn for_rings(self) -> Self {
        Self { home: Home::Rings, ..self }
    }

    /// Where the buffer belongs.
    #[must_use]
    #[inline]
    pub fn home(&self) -> Home {
        self.home
    }

    fn with_frame_max(frame_max: usize) -> Self {
        Self {
            storage: vec![0; HEADROOM + frame_max].into_boxed_slice(),
            len: 0,
            home: Home::Worker,
            offload: Offload::NONE,
            ingress: LinkId::WAN,
            egress: LinkId::WAN,
            fragment_max: None,
        }
    }

    /// The frame.
    #[must_use]
    #[inline]
    pub fn frame(&self) -> &[u8] {
        &self.storage[HEADROOM..HEADROOM + self.len as usize]
    }

    /// The frame, for writing.
    #[inline]
    pub fn frame_mut(&mut self) -> &mut [u8] {
        &mut self.storage[HEADROOM..HEADROOM + self.len as usize]
    }

    /// Length of the frame in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no frame in the buffer.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Longest frame that fits.
    #[must_use]
    #[inline]
    pub fn frame_max(&self) -> usize {
        self.storage.len() - HEADROOM
    }

    /// Whether any packet fits, however long.
    #[must_use]
    #[inline]
    pub fn is_large(&self) -> bool {
        self.frame_max() >= LARGE_FRAME_MAX
    }

    /// All the space a frame may fill, for a link to receive into; follow with [`Self::set_len`].
    #[inline]
    pub fn space_mut(&mut self) -> &mut [u8] {
        &mut self.storage[HEADROOM..]
    }

    /// Says how much of the space holds the frame.
    ///
    /// # Panics
    /// If the frame would not fit the buffer.
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        assert!(HEADROOM + len <= self.storage.len(), "frame longer than its buffer");
        self.len = len as u32;
    }

    /// Drops what of the frame lies behind `len` bytes.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len as u32);
    }

    /// Empties the buffer and forgets what it knew of its frame.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.offload = Offload::NONE;
        self.fragment_max = None;
    }

    /// Replaces the frame by a copy of `frame`; `false` (and empty) if it does not fit.
    #[inline]
    #[must_use]
    pub fn copy_from(&mut self, frame: &[u8]) -> bool {
        self.clear();
        let Some(space) = self.space_mut().get_mut(..frame.len()) else { return false };
        space.copy_from_slice(frame);
        self.len = frame.len() as u32;
        true
    }

    /// A prefix of `N` bytes directly in front of the frame, for a link's own header.
    ///
    /// # Panics
    /// If `N` is larger than the headroom.
    #[inline]
    pub fn headroom_mut<const N: usize>(&mut self) -> &mut [u8; N] {
        let prefix = &mut self.storage[HEADROOM - N..HEADROOM];
        prefix.try_into().expect("the slice is N long by construction")
    }
}

impl std::fmt::Debug for PacketBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut show = f.debug_struct("PacketBuf");
        show.field("len", &self.len).field("ingress", &self.ingress);
        show.field("offload", &self.offload).finish_non_exhaustive()
    }
}

/// A worker's stock of buffers, all of one size.
///
/// The pool makes every buffer at the start; after that [`Pool::take`] and [`Pool::put`] only move them.
pub struct Pool {
    free: Vec<PacketBuf>,
    capacity: usize,
    frame_max: usize,
}

impl Pool {
    /// Makes `count` large buffers. Their memory is zero pages until a frame touches it.
    #[must_use]
    pub fn large(count: usize) -> Self {
        Self::of(count, PacketBuf::large)
    }

    /// Makes `count` small buffers.
    #[must_use]
    pub fn small(count: usize) -> Self {
        Self::of(count, PacketBuf::small)
    }

    fn of(count: usize, make: fn() -> PacketBuf) -> Self {
        let free: Vec<PacketBuf> = (0..count).map(|_| make()).collect();
        let frame_max = free.first().map_or(0, PacketBuf::frame_max);
        Self { free, capacity: count, frame_max }
    }

    /// Takes an empty buffer, or `None` if all are out.
    #[inline]
    pub fn take(&mut self) -> Option<PacketBuf> {
        self.free.pop()
    }

    /// Brings a buffer home.
    ///
    /// # Panics
    /// If the buffer is not of this pool's size, or the pool already has all its buffers.
    #[inline]
    pub fn put(&mut self, buf: PacketBuf) {
        assert!(buf.frame_max() == self.frame_max, "a buffer of another pool came home");
        assert!(self.free.len() < self.capacity, "more buffers came home than went out");
        // Cleared where it comes to lie: what was just written in parts is slow to be copied as a whole.
        self.free.push_mut(buf).clear();
    }

    /// Brings several buffers home, which leave `bufs`; `false`, and nothing done, if not all of them are a worker's and
    /// of this pool's size.
    ///
    /// # Panics
    /// If the pool would then have more than all its buffers.
    #[must_use]
    pub fn put_all(&mut self, bufs: &mut Vec<PacketBuf>) -> bool {
        let is_of_here =
            |buf: &PacketBuf| buf.home == Home::Worker && buf.frame_max() == self.frame_max;
        if !bufs.iter().all(is_of_here) {
            return false;
        }
        let count = self.free.len() + bufs.len();
        assert!(count <= self.capacity, "more buffers came home than went out");
        bufs.iter_mut().for_each(PacketBuf::clear);
        self.free.append(bufs);
        true
    }

    /// Buffers at home.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Buffers at home and out.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_does_not_fit_leaves_the_buffer_empty() {
        let mut buf = PacketBuf::small();
        assert!(buf.copy_from(&[7; 60]));
        assert_eq!(buf.frame(), [7; 60]);
        assert!(!buf.copy_from(&[7; SMALL_FRAME_MAX + 1]));
        assert!(buf.is_empty());
    }

    #[test]
    fn a_buffer_comes_home_clean() {
        let mut pool = Pool::small(1);
        let mut buf = pool.take().unwrap();
        assert!(pool.take().is_none());
        assert!(buf.copy_from(&[1; 64]));
        buf.offload.gso = Some(Gso { kind: GsoKind::Udp, size: 100 });
        pool.put(buf);
        let buf = pool.take().unwrap();
        assert!(buf.is_empty());
        assert_eq!(buf.offload, Offload::NONE);
    }

    #[test]
    fn several_come_home_together_or_none_does() {
        let mut pool = Pool::small(3);
        let mut out: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert!(out[1].copy_from(&[1; 64]));
        out.push(PacketBuf::small().for_rings());
        assert!(!pool.put_all(&mut out) && out.len() == 4 && out[1].len() == 64);
        out[3] = PacketBuf::large();
        assert!(!pool.put_all(&mut out) && pool.available() == 0);
        out.truncate(3);
        assert!(pool.put_all(&mut out) && out.is_empty());
        assert!((0..3).all(|_| pool.take().is_some_and(|buf| buf.is_empty())));
    }

    #[test]
    #[should_panic(expected = "another pool")]
    fn a_buffer_of_another_size_is_refused() {
        let mut pool = Pool::small(1);
        let _out = pool.take();
        pool.put(PacketBuf::large());
    }

    #[test]
    fn headroom_lies_directly_before_the_frame() {
        let mut buf = PacketBuf::small();
        assert!(buf.copy_from(&[9; 60]));
        *buf.headroom_mut::<10>() = [5; 10];
        assert_eq!(buf.frame(), [9; 60]);
    }
}
