//! Refusing a TCP segment by a reset.

use std::io::Cursor;

use etherparse::PacketBuilder;

use crate::header::{source_mac, tcp, u32_at};
use crate::{Datagram, L4, MacAddr, PacketBuf, icmp};

/// Whether a segment may be answered by a reset: what an ICMP error may be sent about, unless it is a reset
/// itself (RFC 9293 §3.10.7.1).
#[must_use]
pub fn may_answer(frame: &[u8], datagram: &Datagram) -> bool {
    let is_segment = matches!(datagram.transport, L4::Tcp { flags, .. } if flags & tcp::RST == 0);
    is_segment && icmp::may_answer(frame, datagram)
}

/// Replaces a TCP segment by the reset that its destination would answer if it did not listen
/// (RFC 9293 §3.10.7.1).
///
/// The new frame goes back where the old one came from: MAC addresses are `router_mac` to the old source.
///
/// # Panics
/// If the packet is no TCP segment.
pub fn answer(packet: &mut PacketBuf, datagram: &Datagram, router_mac: MacAddr) {
    let L4::Tcp { flags, .. } = datagram.transport else {
        unreachable!("only a segment is reset, {:?} is none", datagram.transport)
    };
    let frame = packet.frame();
    let (sender_mac, l4) = (source_mac(frame), usize::from(datagram.l4));
    let sequence = u32_at(frame, l4 + tcp::SEQUENCE);
    let acknowledged = u32_at(frame, l4 + tcp::ACKNOWLEDGEMENT);
    let is_set = |flag| u32::from(flags & flag != 0);
    let data = datagram.end as usize - datagram.headers_len();
    let length = data as u32 + is_set(tcp::SYN) + is_set(tcp::FIN);

    const TTL: u8 = 64;
    let (source, destination) = (datagram.destination, datagram.source);
    let from = if is_set(tcp::ACK) == 1 { acknowledged } else { 0 };
    let builder = PacketBuilder::ethernet2(router_mac.0, sender_mac.0)
        .ipv4(source.address.octets(), destination.address.octets(), TTL)
        .tcp(source.port, destination.port, from, 0)
        .rst();
    let builder =
        if is_set(tcp::ACK) == 1 { builder } else { builder.ack(sequence.wrapping_add(length)) };
    let len = builder.size(0);
    packet.clear();
    let space = &mut packet.space_mut()[..len];
    builder
        .write(&mut Cursor::new(space), &[])
        .expect("the space is exactly as long as the builder said");
    packet.set_len(len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Offload, Parsed, parse};

    fn segment(build: impl FnOnce(TcpStep) -> TcpStep, payload: &[u8]) -> (PacketBuf, Datagram) {
        let step = PacketBuilder::ethernet2([6, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 1])
            .ipv4([10, 0, 0, 5], [203, 0, 113, 7], 64)
            .tcp(40_000, 25, 1000, 512);
        let mut frame = Vec::new();
        build(step).write(&mut frame, payload).unwrap();
        let mut packet = PacketBuf::small().for_rings();
        assert!(packet.copy_from(&frame));
        let datagram = read(&packet);
        (packet, datagram)
    }

    type TcpStep = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

    fn read(packet: &PacketBuf) -> Datagram {
        match parse(packet.frame(), Offload::NONE).unwrap() {
            Parsed::Ipv4(datagram) => datagram,
            other @ (Parsed::Arp(_) | Parsed::Fragment(_)) => panic!("{other:?}"),
        }
    }

    /// Flags, sequence number and acknowledgement number of the reset.
    fn reset(packet: &mut PacketBuf, datagram: &Datagram) -> (u8, u32, u32) {
        answer(packet, datagram, MacAddr([2, 0, 0, 0, 0, 1]));
        let answered = read(packet);
        assert_eq!(
            (answered.source, answered.destination),
            (datagram.destination, datagram.source)
        );
        let L4::Tcp { flags, .. } = answered.transport else { panic!("{answered:?}") };
        let l4 = usize::from(answered.l4);
        let field = |at| u32_at(packet.frame(), l4 + at);
        (flags, field(tcp::SEQUENCE), field(tcp::ACKNOWLEDGEMENT))
    }

    #[test]
    fn rfc9293_3_10_7_1_a_first_segment_is_acknowledged_by_its_reset() {
        let (mut packet, datagram) = segment(|step| step.syn(), b"");
        assert_eq!(reset(&mut packet, &datagram), (tcp::RST | tcp::ACK, 0, 1001));
        let (mut packet, datagram) = segment(|step| step.syn(), b"early");
        assert_eq!(reset(&mut packet, &datagram), (tcp::RST | tcp::ACK, 0, 1006));
    }

    #[test]
    fn rfc9293_3_10_7_1_a_later_segment_is_reset_where_its_sender_expects_it() {
        let (mut packet, datagram) = segment(|step| step.ack(77), b"data");
        assert_eq!(reset(&mut packet, &datagram), (tcp::RST, 77, 0));
    }

    #[test]
    fn a_reset_is_not_answered_by_another() {
        let (packet, datagram) = segment(|step| step.rst(), b"");
        assert!(!may_answer(packet.frame(), &datagram));
        let (packet, datagram) = segment(|step| step.syn(), b"");
        assert!(may_answer(packet.frame(), &datagram));
    }
}
