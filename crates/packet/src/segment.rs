//! What a TCP header says to somebody who follows the connection.

use crate::header::{tcp, u8_at, u16_at, u32_at};
use crate::{Datagram, L4};

/// The fields of a TCP segment by which its place in the connection is judged (RFC 9293 §3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Flags byte.
    pub flags: u8,
    /// Sequence number of the first octet.
    pub sequence: u32,
    /// Acknowledgement number; means nothing without ACK.
    pub acknowledgement: u32,
    /// Window field as sent, not scaled.
    pub window: u16,
    /// Octets of data; of a super-packet all of them.
    pub data_len: u32,
    /// Shift of the window scale option (RFC 7323 §2.2); looked for in a SYN only.
    pub window_scale: Option<u8>,
}

impl Segment {
    /// Reads the TCP header of a parsed frame; `None` if the packet is not TCP.
    #[must_use]
    #[inline]
    pub fn read(frame: &[u8], datagram: &Datagram) -> Option<Self> {
        let L4::Tcp { flags, header_len } = datagram.transport else { return None };
        let l4 = usize::from(datagram.l4);
        let headers = datagram.headers_len() as u32;
        let window_scale = if flags & tcp::SYN == 0 {
            None
        } else {
            window_scale(&frame[l4 + tcp::LEN_MIN..l4 + usize::from(header_len)])
        };
        Some(Self {
            flags,
            sequence: u32_at(frame, l4 + tcp::SEQUENCE),
            acknowledgement: u32_at(frame, l4 + tcp::ACKNOWLEDGEMENT),
            window: u16_at(frame, l4 + tcp::WINDOW),
            data_len: datagram.end - headers,
            window_scale,
        })
    }

    /// Whether any of these flags is set.
    #[must_use]
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether it asks for a connection: SYN without ACK.
    #[must_use]
    #[inline]
    pub fn is_first_syn(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK) == tcp::SYN
    }

    /// The sequence number after the segment: SYN and FIN count one each.
    #[must_use]
    #[inline]
    pub fn next(&self) -> u32 {
        let marks = u32::from(self.has(tcp::SYN)) + u32::from(self.has(tcp::FIN));
        self.sequence.wrapping_add(self.data_len).wrapping_add(marks)
    }
}

/// Shift of the window scale option; a malformed list ends the search.
#[cold]
fn window_scale(options: &[u8]) -> Option<u8> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const SCALE: u8 = 3;
    const SCALE_LEN: u8 = 3;
    let mut at = 0;
    while at < options.len() {
        match u8_at(options, at) {
            END => return None,
            NOP => at += 1,
            kind => {
                let len = *options.get(at + 1)?;
                if kind == SCALE {
                    return if len == SCALE_LEN { options.get(at + 2).copied() } else { None };
                }
                at += usize::from(len.max(2));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Offload, Parsed, parse};
    use etherparse::{PacketBuilder, TcpOptionElement as Opt};

    fn segment(options: &[Opt], syn: bool, data: &[u8]) -> Option<Segment> {
        let mut frame = Vec::new();
        let mut tcp = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 2], [198, 51, 100, 7], 64)
            .tcp(5000, 80, 0xffff_fffe, 1000)
            .ack(77);
        if syn {
            tcp = tcp.syn();
        }
        tcp.options(options).unwrap().write(&mut frame, data).unwrap();
        // Padding of a short frame is no data.
        frame.extend_from_slice(&[0; 6]);
        let Ok(Parsed::Ipv4(datagram)) = parse(&frame, Offload::NONE) else { panic!() };
        Segment::read(&frame, &datagram)
    }

    #[test]
    fn a_segment_says_what_its_header_says() {
        let scale = [Opt::Noop, Opt::MaximumSegmentSize(1460), Opt::WindowScale(7)];
        let syn = segment(&scale, true, b"").unwrap();
        assert_eq!((syn.sequence, syn.acknowledgement, syn.window), (0xffff_fffe, 77, 1000));
        assert_eq!((syn.window_scale, syn.data_len, syn.next()), (Some(7), 0, 0xffff_ffff));
        let data = segment(&scale, false, b"data").unwrap();
        assert_eq!((data.window_scale, data.data_len, data.next()), (None, 4, 2));
        assert!(!data.is_first_syn() && data.has(tcp::ACK) && !data.has(tcp::SYN));
    }

    #[test]
    fn malformed_options_have_no_window_scale() {
        for options in [&[3][..], &[3, 3], &[3, 4, 1, 1], &[0, 3, 3, 7], &[2, 4, 5], &[8, 0]] {
            assert_eq!(window_scale(options), None, "{options:?}");
        }
        assert_eq!(window_scale(&[1, 1, 3, 3, 14]), Some(14));
    }
}
