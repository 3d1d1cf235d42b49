//! From verdicts to links: shaping, finishing what the sender left undone, and the send queues.
//!
//! ```text
//! enqueue ─┬─ to the WAN, upload shaped ──► Shaper ─┐ dequeue(now)
//!          ├─ from the WAN, download shaped ► Shaper ┼──► ready[link] ──► Link::send
//!          └─ neither ──────────────────────────────┘
//! ```
//!
//! A shaped packet is cut to wire size and copied to a small buffer before it queues, so that a large
//! buffer never waits and a 64 KiB unit never bursts. An unshaped packet stays as it arrived if its link takes
//! the metadata, and is finished here if not. What is to leave in fragments is cut into them here, in order, on either
//! way (RFC 4787 REQ-13a). Buffers: large ones go home to `large`, small ones to `small`
//! or, when they belong to the rings, back to the rings.

use std::net::Ipv4Addr;
use std::sync::Arc;

use config::Config;
use packet::fragment::Cut;
use packet::gso::{self, Segments};
use packet::header::ethernet;
use packet::{
    Batch, Datagram, DropReason, Home, Instant, LinkId, Offloads, PacketBuf, Parsed, Pool,
    SMALL_FRAME_MAX, parse,
};
use qos::{Overhead, QueueKey, Rate, Shaper, ShaperConfig};

use crate::counters::Counters;
use crate::rings::Rings;
use crate::step::Tag;

/// Buffers for packets that wait in a shaper or were cut for a link without offloads. 8192 packets of 1514
/// bytes are 100 ms at 1 Gbit/s; the memory is only touched when used.
const SMALL_BUFFERS: usize = 8192;

/// What the egress needs to know of a link.
#[derive(Clone, Copy, Debug)]
pub struct EgressLink {
    /// Metadata that frames may carry.
    pub offloads: Offloads,
}

/// The two shapers of a WAN; `None` where a direction is not shaped.
#[derive(Default)]
pub struct Shapers {
    /// To the WAN.
    pub upload: Option<Shaper>,
    /// From the WAN, toward the LANs.
    pub download: Option<Shaper>,
}

/// Which of the shapers a packet passes, if there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// To the WAN.
    Upload,
    /// From the WAN.
    Download,
}

impl Way {
    /// That of a packet between two links; `None` if the WAN is neither.
    #[must_use]
    #[inline]
    pub fn between(ingress: LinkId, egress: LinkId) -> Option<Self> {
        match (egress, ingress) {
            (LinkId::WAN, _) => Some(Self::Upload),
            (_, LinkId::WAN) => Some(Self::Download),
            _ => None,
        }
    }
}

impl Shapers {
    /// Makes the shapers that a configuration asks for.
    #[must_use]
    pub fn of(config: &Config, now: Instant) -> Self {
        let Some(shaper) = &config.wan.shaper else { return Self::default() };
        let overhead = overhead(shaper.overhead);
        let make = |rate: Option<config::Rate>| {
            let rate = Rate::from_bits_per_sec(rate?.bits_per_sec())?;
            Some(Shaper::new(ShaperConfig::for_rate(rate, overhead), now))
        };
        Self { upload: make(shaper.upload), download: make(shaper.download) }
    }
}

fn overhead(overhead: config::Overhead) -> Overhead {
    match overhead {
        config::Overhead::Custom { bytes, mpu } => {
            Overhead { per_packet: bytes, min: mpu, ..Overhead::NONE }
        }
        config::Overhead::Ethernet => Overhead::ETHERNET,
        config::Overhead::Docsis => Overhead::DOCSIS,
        config::Overhead::PppoePtm => Overhead::PPPOE_PTM,
        config::Overhead::BridgedPtm => Overhead::BRIDGED_PTM,
        config::Overhead::Atm => Overhead::PPPOE_LLC_ATM,
        config::Overhead::None => Overhead::NONE,
    }
}

/// The send side of one worker.
pub struct Egress {
    links: Vec<EgressLink>,
    ready: Vec<Vec<PacketBuf>>,
    shapers: Shapers,
    large: Pool,
    small: Pool,
    /// For a segment of a super-packet that is cut into fragments.
    segment: PacketBuf,
    rings: Arc<Rings>,
}

/// Longest fragment made here: small buffers hold them.
const FRAGMENT_MAX: usize = SMALL_FRAME_MAX - ethernet::LEN;

impl Egress {
    /// Makes the send side for `links`, with `large_buffers` for receiving into.
    #[must_use]
    pub fn new(
        links: Vec<EgressLink>,
        shapers: Shapers,
        large_buffers: usize,
        rings: Arc<Rings>,
    ) -> Self {
        let room = SMALL_BUFFERS + large_buffers;
        let ready = links.iter().map(|_| Vec::with_capacity(room)).collect();
        let (large, small) = (Pool::large(large_buffers), Pool::small(SMALL_BUFFERS));
        Self { links, ready, shapers, large, small, segment: PacketBuf::large(), rings }
    }

    /// The pool that links receive into.
    pub fn large_pool(&mut self) -> &mut Pool {
        &mut self.large
    }

    /// Queues a packet for its `egress` link, through a shaper if its direction has one.
    pub fn enqueue(&mut self, packet: PacketBuf, tag: Tag, now: Instant, counters: &Counters) {
        if self.is_shaped(packet.ingress, packet.egress) {
            self.shape(packet, tag, now, counters);
        } else {
            self.send_now(packet, counters);
        }
    }

    /// Queues all packets of a batch, none of them for fragments nor a super-packet, that came by `ingress` and leave
    /// by `egress` past any shaper; `false`, and nothing done, if they can't be queued as they are.
    pub(crate) fn take_all(
        &mut self,
        batch: &mut Batch,
        (ingress, egress): (LinkId, LinkId),
    ) -> bool {
        if self.is_shaped(ingress, egress) {
            return false;
        }
        match self.links.get(egress.index()) {
            Some(link) if link.offloads.checksum || batch.packets().iter().all(is_summed) => {
                batch.append_to(&mut self.ready[egress.index()]);
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn is_shaped(&self, ingress: LinkId, egress: LinkId) -> bool {
        match Way::between(ingress, egress) {
            Some(Way::Upload) => self.shapers.upload.is_some(),
            Some(Way::Download) => self.shapers.download.is_some(),
            None => false,
        }
    }

    /// Cuts a packet to wire size and queues the parts in its direction's shaper.
    fn shape(&mut self, mut packet: PacketBuf, tag: Tag, now: Instant, counters: &Counters) {
        let key = QueueKey { host: tag.host, flow: tag.flow };
        let toward_wan = packet.egress == LinkId::WAN;
        let Self { shapers, small, large, segment, rings, .. } = self;
        let shaper = if toward_wan { &mut shapers.upload } else { &mut shapers.download };
        let Some(shaper) = shaper else { return };
        let outcome = plain_copies(&mut packet, small, segment, counters, |small, copy| {
            shaper.enqueue(copy, key, now, &mut |dropped, reason| {
                counters.count_egress_drop(dropped.ingress, reason);
                small.put(dropped);
            });
        });
        if let Err(reason) = outcome {
            counters.count_egress_drop(packet.ingress, reason);
        }
        put_home(packet, large, small, rings);
    }

    /// Queues a packet for its `egress` link past the shapers.
    pub fn send_now(&mut self, mut packet: PacketBuf, counters: &Counters) {
        let Self { links, ready, small, large, segment, rings, .. } = self;
        let Some(link) = links.get(packet.egress.index()) else {
            counters.count_egress_drop(packet.ingress, DropReason::LinkDown);
            return put_home(packet, large, small, rings);
        };
        let queue = &mut ready[packet.egress.index()];
        if packet.fragment_max.is_none() && link.offloads.allow(packet.offload) {
            queue.push(packet);
            return;
        }
        let push = |_: &mut Pool, copy| queue.push(copy);
        if let Err(reason) = plain_copies(&mut packet, small, segment, counters, push) {
            counters.count_egress_drop(packet.ingress, reason);
        }
        put_home(packet, large, small, rings);
    }

    /// Moves what the shapers release by now to the send queues.
    pub fn dequeue(&mut self, now: Instant, counters: &Counters) {
        let Self { shapers, ready, small, .. } = self;
        for shaper in [&mut shapers.upload, &mut shapers.download].into_iter().flatten() {
            let mut on_drop = |dropped: PacketBuf, reason| {
                counters.count_egress_drop(dropped.ingress, reason);
                small.put(dropped);
            };
            while let Some(packet) = shaper.dequeue(now, &mut on_drop) {
                ready[packet.egress.index()].push(packet);
            }
        }
    }

    /// When a shaper will release its next packet.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let next = |shaper: &Option<Shaper>| shaper.as_ref().and_then(|s| s.next_ready(now));
        Instant::earliest(next(&self.shapers.upload), next(&self.shapers.download))
    }

    /// Sends what is ready for a link. `send` returns how many frames the link refused.
    pub fn flush(
        &mut self,
        link: LinkId,
        counters: &Counters,
        send: impl FnOnce(&mut [PacketBuf]) -> usize,
    ) {
        let Self { ready, large, small, rings, .. } = self;
        let Some(queue) = ready.get_mut(link.index()) else { return };
        if queue.is_empty() {
            return;
        }
        let counts = counters.link(link);
        counts.tx_packets.add(queue.len() as u64);
        counts.tx_bytes.add(queue.iter().map(|packet| packet.len() as u64).sum());
        let refused = send(queue);
        counts.dropped_by_egress[DropReason::LinkSend.index()].add(refused as u64);
        // Mostly they are all of one size.
        if !large.put_all(queue) && !small.put_all(queue) {
            for packet in queue.drain(..) {
                put_home(packet, large, small, rings);
            }
        }
    }

    /// Buffers of the worker that wait in a shaper or a send queue, or that someone holds.
    #[must_use]
    pub fn buffers_out(&self) -> usize {
        let out = |pool: &Pool| pool.capacity() - pool.available();
        out(&self.large) + out(&self.small)
    }

    /// Brings a buffer home.
    pub fn recycle(&mut self, packet: PacketBuf) {
        put_home(packet, &mut self.large, &mut self.small, &self.rings);
    }

    /// The shapers, to look at or to replace.
    pub fn shapers_mut(&mut self) -> &mut Shapers {
        &mut self.shapers
    }

    /// Drops what waits for the WAN under a source address that must not leave any more. What else waits in the
    /// upload shaper is sent at once, each flow in order.
    pub(crate) fn forsake(&mut self, is_lost: impl Fn(Ipv4Addr) -> bool, counters: &Counters) {
        let Self { ready, shapers, large, small, rings, .. } = self;
        let queue = &mut ready[LinkId::WAN.index()];
        while let Some(packet) = shapers.upload.as_mut().and_then(Shaper::take_any) {
            queue.push(packet);
        }
        for packet in queue.extract_if(.., |packet| comes_from(packet, &is_lost)) {
            counters.count_egress_drop(packet.ingress, DropReason::AddressLost);
            put_home(packet, large, small, rings);
        }
    }

    /// Replaces the shapers; what waited in the old ones is sent at once, each flow in order.
    pub fn replace_shapers(&mut self, shapers: Shapers) {
        let old = std::mem::replace(&mut self.shapers, shapers);
        for mut shaper in [old.upload, old.download].into_iter().flatten() {
            while let Some(packet) = shaper.take_any() {
                self.ready[packet.egress.index()].push(packet);
            }
        }
    }
}

/// Makes frames with complete checksums of a packet, which any link can send: one, one per segment, or fragments of
/// either.
fn plain_copies(
    packet: &mut PacketBuf,
    small: &mut Pool,
    segment: &mut PacketBuf,
    counters: &Counters,
    push: impl FnMut(&mut Pool, PacketBuf),
) -> Result<(), DropReason> {
    let mut copies =
        Copies { small, counters, ingress: packet.ingress, egress: packet.egress, push };
    if packet.fragment_max.is_none() && gso::is_plain(packet) {
        return copies.push(|copy| copy.copy_from(packet.frame()));
    }
    let parsed = parse(packet.frame(), packet.offload)?;
    let Parsed::Ipv4(datagram) = parsed else {
        return copies.push(|copy| copy.copy_from(packet.frame()));
    };
    let Some(segments) = Segments::of(packet, &datagram) else {
        gso::finish_checksum(packet, &datagram);
        return match packet.fragment_max {
            None => copies.push(|copy| copy.copy_from(packet.frame())),
            Some(fragment_max) => copies.push_cut(packet, &datagram, fragment_max),
        };
    };
    (0..segments.count()).try_for_each(|index| match packet.fragment_max {
        None => copies.push(|copy| segments.emit(packet, index, copy)),
        Some(fragment_max) => {
            let fits = segments.emit(packet, index, segment);
            debug_assert!(fits, "no segment is longer than its super-packet");
            let datagram = Datagram { end: segment.len() as u32, ..datagram };
            copies.push_cut(segment, &datagram, fragment_max)
        }
    })
}

/// Where copies of a packet come from and go.
struct Copies<'a, P> {
    small: &'a mut Pool,
    counters: &'a Counters,
    ingress: LinkId,
    egress: LinkId,
    push: P,
}

impl<P: FnMut(&mut Pool, PacketBuf)> Copies<'_, P> {
    fn push(&mut self, write: impl FnOnce(&mut PacketBuf) -> bool) -> Result<(), DropReason> {
        let mut copy = self.small.take().ok_or(DropReason::BuffersExhausted)?;
        if !write(&mut copy) {
            self.small.put(copy);
            return Err(DropReason::TooBig);
        }
        (copy.ingress, copy.egress) = (self.ingress, self.egress);
        (self.push)(self.small, copy);
        Ok(())
    }

    /// Pushes the fragments of a packet, the first first.
    fn push_cut(
        &mut self,
        packet: &PacketBuf,
        datagram: &Datagram,
        fragment_max: u16,
    ) -> Result<(), DropReason> {
        let (l3, l4) = (usize::from(datagram.l3), usize::from(datagram.l4));
        let ip_len_max = usize::from(fragment_max).min(FRAGMENT_MAX);
        let cut = Cut::of(packet.frame(), l3, l4, datagram.end as usize, ip_len_max);
        (0..cut.count()).try_for_each(|index| {
            self.counters.link(self.ingress).fragments_added.add(u64::from(index > 0));
            self.push(|copy| cut.emit(packet, index, copy))
        })
    }
}

/// Whether a packet's source is such an address, or can't be told.
fn comes_from(packet: &PacketBuf, is_such: impl Fn(Ipv4Addr) -> bool) -> bool {
    match parse(packet.frame(), packet.offload) {
        Ok(Parsed::Ipv4(datagram)) => is_such(datagram.source.address),
        Ok(Parsed::Fragment(fragment)) => is_such(fragment.source),
        Ok(Parsed::Arp(_)) => false,
        Err(_) => true,
    }
}

/// Whether the sender left no checksum to be finished.
#[inline]
fn is_summed(packet: &PacketBuf) -> bool {
    packet.offload.checksum.is_none()
}

#[inline]
fn put_home(packet: PacketBuf, large: &mut Pool, small: &mut Pool, rings: &Rings) {
    match packet.home() {
        Home::Rings => rings.put(packet),
        Home::Worker if packet.frame_max() > SMALL_FRAME_MAX => large.put(packet),
        Home::Worker => small.put(packet),
    }
}
