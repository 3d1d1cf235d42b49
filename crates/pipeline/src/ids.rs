//! IP identifications of packets whose source we replace.
//!
//! Two hosts that share an external address do not know of each other's identifications; if both fragment toward
//! one destination, their fragments may be mixed up there (RFC 3022 §6.3). So what may be in fragments, now or
//! further on, gets an identification of ours: unique per source, destination and protocol until 65,536 more were
//! given (RFC 6864 §5.3.1, RFC 7857 §10). An atomic packet keeps its own, which means nothing.

use std::net::Ipv4Addr;

use nat::Engine;
use packet::checksum::{self, Delta};
use packet::gso;
use packet::header::{bytes_at, ethernet, ipv4, put_u16, u16_at};
use packet::{Datagram, PacketBuf, Plain, Protocol};

use crate::size;

/// Counters. Destinations that share one only use it up sooner; all together are 4 KiB of the first-level cache.
const COUNTERS: usize = 2048;

/// A counter per destination, by a keyed hash; where each begins is secret, and so which ones share one.
pub(crate) struct Identifications {
    key: [u64; 2],
    next: Box<[u16; COUNTERS]>,
}

impl Identifications {
    /// Draws the secrets.
    pub fn new(engine: &mut Engine) -> Self {
        let key = [engine.secret() | 1, engine.secret()];
        let mut next = Box::new([0; COUNTERS]);
        for four in next.as_chunks_mut::<4>().0 {
            let secret = engine.secret();
            *four = std::array::from_fn(|index| (secret >> (16 * index)) as u16);
        }
        Self { key, next }
    }

    /// Gives a packet whose addresses were translated an identification, if it needs one and its source is not the
    /// one that chose the old. `datagram` is the packet as it arrived.
    #[inline]
    pub fn renumber(&mut self, packet: &mut PacketBuf, datagram: &Datagram) {
        if size::is_atomic(packet, datagram) {
            return;
        }
        if is_translated(packet.frame(), datagram.l3.into(), datagram.source.address) {
            self.number(packet, datagram);
        }
    }

    /// As [`Self::renumber`] for a packet of plain shape.
    #[inline(always)]
    pub fn renumber_plain(&mut self, headers: &mut [u8], plain: &Plain) {
        if !Plain::dont_fragment(headers)
            && is_translated(headers, ethernet::LEN, plain.key.source().address)
        {
            self.write(headers, ethernet::LEN, plain.key.protocol(), 1);
        }
    }

    /// Gives a packet an identification for its source and destination; a super-packet one for each segment.
    pub fn number(&mut self, packet: &mut PacketBuf, datagram: &Datagram) {
        let (_, count) = gso::wire_size(packet, datagram.headers_len());
        self.write(packet.frame_mut(), usize::from(datagram.l3), datagram.protocol(), count);
    }

    fn write(&mut self, frame: &mut [u8], l3: usize, protocol: Protocol, count: usize) {
        let address = |at| Ipv4Addr::from(bytes_at::<4>(frame, l3 + at));
        let (source, destination) = (address(ipv4::SOURCE), address(ipv4::DESTINATION));
        let new = self.take(source, destination, protocol, count);
        let old = u16_at(frame, l3 + ipv4::IDENTIFICATION);
        if old != new {
            put_u16(frame, l3 + ipv4::IDENTIFICATION, new);
            let delta = Delta::word(old, new);
            checksum::update(frame, l3 + ipv4::CHECKSUM, checksum::apply, delta);
        }
    }

    /// The first of `count` identifications in a row.
    fn take(
        &mut self,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: Protocol,
        count: usize,
    ) -> u16 {
        let addresses = u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits());
        let keyed = (addresses ^ self.key[1]).wrapping_add((protocol as u64) << 56);
        let mixed = (keyed ^ keyed >> 32).wrapping_mul(self.key[0]);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(self.key[0]);
        let next = &mut self.next[(mixed >> 53) as usize % COUNTERS];
        let first = *next;
        *next = first.wrapping_add(count as u16);
        first
    }
}

/// Whether the packet at `l3`, which came from `source`, leaves from another address.
fn is_translated(frame: &[u8], l3: usize, source: Ipv4Addr) -> bool {
    Ipv4Addr::from(bytes_at::<4>(frame, l3 + ipv4::SOURCE)) != source
}
