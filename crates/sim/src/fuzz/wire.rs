//! One frame under the parser and everything that trusts its offsets.

use packet::icmp::{self, ErrorKind};
use packet::{
    Datagram, Gso, GsoKind, IcmpKind, L4, Offload, PacketBuf, Parsed, PartialChecksum, gso, parse,
};

use super::{Input, router_mac};

const ROUTER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 1, 1);

/// Parses a frame, cuts it, answers it, reads what it embeds.
///
/// **Shape**: offload metadata (see [`offload`]), then the frame.
///
/// # Panics
/// If an offset leaves the frame, or a frame made of a good one is not good.
pub fn parse_frame(data: &[u8]) {
    let mut input = Input(data);
    let offload = offload(&mut input);
    let frame = input.rest();
    let Ok(Parsed::Ipv4(datagram)) = parse(frame, offload) else { return };
    let (l3, l4) = (usize::from(datagram.l3), usize::from(datagram.l4));
    let end = datagram.end as usize;
    assert!(l3 < l4 && l4 < end && end <= frame.len() && datagram.headers_len() <= end);
    if datagram.transport == L4::Icmp(IcmpKind::Error)
        && let Ok(embedded) = icmp::embedded(frame, &datagram)
    {
        assert!(l4 < embedded.l3 && embedded.l3 < embedded.l4 && embedded.l4 + 4 <= end);
        assert!(embedded.checksum.is_none_or(|at| embedded.l4 <= at && at + 2 <= end));
    }
    let mut packet = PacketBuf::large();
    if !packet.copy_from(frame) {
        return;
    }
    packet.offload = offload;
    cut(&packet, &datagram);
    if icmp::may_answer(frame, &datagram) {
        let kind = ErrorKind::FragmentationNeeded(1400);
        icmp::answer(&mut packet, &datagram, kind, router_mac(1), ROUTER);
        let Ok(Parsed::Ipv4(error)) = parse(packet.frame(), packet.offload) else {
            panic!("an ICMP error of ours does not parse");
        };
        assert!(error.ip_len() <= 576 && !icmp::may_answer(packet.frame(), &error));
        assert!(icmp::embedded(packet.frame(), &error).is_ok());
    }
}

/// Offload metadata: a byte that says which there is, then offsets and sizes.
pub(super) fn offload(input: &mut Input<'_>) -> Offload {
    let flags = input.u8();
    let mut offload = Offload::NONE;
    if flags & 1 != 0 {
        offload.checksum = Some(PartialChecksum { start: input.u16(), offset: input.u16() });
    }
    if flags & 2 != 0 {
        let kind = input.pick(&[GsoKind::TcpV4, GsoKind::TcpV4Ecn, GsoKind::Udp]);
        offload.gso = Some(Gso { kind, size: input.u16() });
    }
    offload
}

/// Every packet that a super-packet stands for is a good one, and together they carry its payload.
fn cut(packet: &PacketBuf, datagram: &Datagram) {
    let Some(segments) = gso::Segments::of(packet, datagram) else { return };
    let mut out = PacketBuf::large();
    let mut payload = 0;
    for index in 0..segments.count() {
        assert!(segments.emit(packet, index, &mut out));
        assert!(out.len() <= segments.frame_len_max());
        let Ok(Parsed::Ipv4(segment)) = parse(out.frame(), Offload::NONE) else {
            panic!("segment {index} does not parse");
        };
        payload += segment.end as usize - segment.headers_len();
    }
    assert_eq!(payload, datagram.end as usize - datagram.headers_len());
}
