//! Work that hardware would have done: finishing checksums and cutting super-packets.

use crate::header::{ethernet, ipv4, put_u16, put_u32, seal_ipv4, tcp, u16_at, u32_at, udp};
use crate::parse::Datagram;
use crate::{GsoKind, L4, Offload, PacketBuf, PartialChecksum, Protocol, checksum, crc32c};

/// Completes the checksum of a frame that carries a partial one: its transport's, or that of a packet
/// in a tunnel.
///
/// The checksum covers everything from the transport header to the end of the IP packet, so the frame
/// must carry no Ethernet padding; a frame with a partial checksum never does.
pub fn finish_checksum(packet: &mut PacketBuf, datagram: &Datagram) {
    let Some(partial) = packet.offload.checksum.take() else { return };
    let start = usize::from(partial.start);
    let at = start + usize::from(partial.offset);
    let frame = packet.frame_mut();
    let covered = start..datagram.end as usize;
    if let L4::Sctp(_) = datagram.transport {
        put_u32(frame, at, 0);
        let crc = crc32c::of(&frame[covered]);
        frame[at..at + crc.len()].copy_from_slice(&crc);
        return;
    }
    finish_sum(&mut frame[..covered.end], partial);
}

/// Completes an Internet checksum that covers a frame to its end.
///
/// # Panics
/// If the checksum lies outside the frame.
pub fn finish_sum(frame: &mut [u8], partial: PartialChecksum) {
    let start = usize::from(partial.start);
    let value = match !checksum::fold(checksum::sum(&frame[start..], 0)) {
        // Only UDP has its checksum there, and to UDP zero means none (RFC 768).
        0 if usize::from(partial.offset) == udp::CHECKSUM => 0xffff,
        value => value,
    };
    put_u16(frame, start + usize::from(partial.offset), value);
}

/// A super-packet seen as the packets it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    datagram: Datagram,
    kind: GsoKind,
    size: usize,
    headers_len: usize,
    payload_len: usize,
}

impl Segments {
    /// Looks at a frame; `None` if it is not a super-packet.
    #[must_use]
    pub fn of(packet: &PacketBuf, datagram: &Datagram) -> Option<Self> {
        let gso = packet.offload.gso?;
        let headers_len = datagram.headers_len();
        let payload_len = datagram.end as usize - headers_len;
        Some(Self {
            datagram: *datagram,
            kind: gso.kind,
            size: usize::from(gso.size),
            headers_len,
            payload_len,
        })
    }

    /// How many packets it stands for, at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.payload_len.div_ceil(self.size).max(1)
    }

    /// Length of the largest frame.
    #[must_use]
    pub fn frame_len_max(&self) -> usize {
        self.headers_len + self.size.min(self.payload_len)
    }

    /// Writes packet `index` with complete checksums; `false` if `out` is too small for it.
    ///
    /// TCP: the sequence number advances, FIN and PSH stay on the last packet only, CWR on the first
    /// (RFC 3168 §6.1.2). The IP identification counts up as the sender's own segments would.
    #[must_use]
    pub fn emit(&self, source: &PacketBuf, index: usize, out: &mut PacketBuf) -> bool {
        let begin = index * self.size;
        let payload_len = self.size.min(self.payload_len - begin);
        let len = self.headers_len + payload_len;
        if len > out.frame_max() {
            return false;
        }
        out.clear();
        out.ingress = source.ingress;
        out.set_len(len);
        let (input, frame) = (source.frame(), out.frame_mut());
        frame[..self.headers_len].copy_from_slice(&input[..self.headers_len]);
        let from = self.headers_len + begin;
        frame[self.headers_len..].copy_from_slice(&input[from..from + payload_len]);
        self.number(frame, index, begin);
        let last = index + 1 == self.count();
        match self.datagram.transport {
            L4::Tcp { flags, .. } => self.seal_tcp(frame, flags, index == 0, last),
            // Nothing else is ever a super-packet.
            _ => self.seal_udp(frame),
        }
        true
    }

    /// Writes the fields that count: IP length and identification, TCP sequence number.
    fn number(&self, frame: &mut [u8], index: usize, begin: usize) {
        let (l3, l4) = (usize::from(self.datagram.l3), usize::from(self.datagram.l4));
        put_u16(frame, l3 + ipv4::TOTAL_LENGTH, (frame.len() - l3) as u16);
        let identification = u16_at(frame, l3 + ipv4::IDENTIFICATION).wrapping_add(index as u16);
        put_u16(frame, l3 + ipv4::IDENTIFICATION, identification);
        seal_ipv4(frame, l3, l4 - l3);
        if self.kind != GsoKind::Udp {
            let sequence = u32_at(frame, l4 + tcp::SEQUENCE).wrapping_add(begin as u32);
            put_u32(frame, l4 + tcp::SEQUENCE, sequence);
        }
    }

    fn seal_tcp(&self, frame: &mut [u8], flags: u8, first: bool, last: bool) {
        let l4 = usize::from(self.datagram.l4);
        let mut kept = flags;
        if !first {
            kept &= !tcp::CWR;
        }
        if !last {
            kept &= !(tcp::FIN | tcp::PSH);
        }
        frame[l4 + tcp::FLAGS] = kept;
        seal_transport(frame, &self.datagram, tcp::CHECKSUM);
    }

    fn seal_udp(&self, frame: &mut [u8]) {
        let l4 = usize::from(self.datagram.l4);
        put_u16(frame, l4 + udp::LENGTH, (frame.len() - l4) as u16);
        seal_transport(frame, &self.datagram, udp::CHECKSUM);
    }
}

/// Computes and writes the transport checksum of a complete packet that fills `frame`.
pub fn seal_transport(frame: &mut [u8], datagram: &Datagram, field: usize) {
    let l4 = usize::from(datagram.l4);
    put_u16(frame, l4 + field, 0);
    let pseudo = checksum::pseudo_header(
        datagram.source.address.octets(),
        datagram.destination.address.octets(),
        datagram.protocol() as u8,
        (frame.len() - l4) as u16,
    );
    let value = !checksum::fold(checksum::sum(&frame[l4..], u32::from(pseudo)));
    let udp_zero = value == 0 && datagram.protocol() == Protocol::Udp;
    put_u16(frame, l4 + field, if udp_zero { 0xffff } else { value });
}

/// Bytes that a frame will occupy on the wire as Ethernet frames without preamble and FCS, and how many
/// frames those are: a super-packet repeats its headers in each.
#[must_use]
pub fn wire_size(packet: &PacketBuf, headers_len: usize) -> (usize, usize) {
    match packet.offload.gso {
        Some(gso) => {
            let payload = packet.len().saturating_sub(headers_len);
            let frames = payload.div_ceil(usize::from(gso.size).max(1)).max(1);
            (payload + frames * headers_len, frames)
        }
        None => (packet.len().max(ethernet::LEN), 1),
    }
}

/// Whether a link without offloads could send the frame as it is.
#[must_use]
pub fn is_plain(packet: &PacketBuf) -> bool {
    packet.offload == Offload::NONE
}

#[cfg(test)]
mod tests;
