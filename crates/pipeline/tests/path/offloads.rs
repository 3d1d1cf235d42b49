//! Super-packets and partial checksums.

use etherparse::TcpOptionElement::MaximumSegmentSize;
use packet::icmp::ErrorKind;
use packet::{DropReason, Gso, GsoKind, LinkId, Offload, Offloads, PartialChecksum, checksum};
use pipeline::Verdict;

use crate::frames::{ACK, Carried, FIN, SYN, ep, see};
use crate::rig::{A, G, GUEST, HOME, HOME_ADDRESS, O, OFFICE, R, Rig, WAN_ADDRESS, config, from};

const L4: usize = 14 + 20;
const MSS: u16 = 1448;

/// Leaves the transport checksum as a sender with offloads does: the pseudo-header's sum alone.
fn leave_partial(frame: &mut [u8], offset: usize) -> PartialChecksum {
    let octets = |at: usize| [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
    let len = (frame.len() - L4) as u16;
    let sum = checksum::pseudo_header(octets(26), octets(30), frame[23], len);
    frame[L4 + offset..][..2].copy_from_slice(&sum.to_be_bytes());
    PartialChecksum { start: L4 as u16, offset: offset as u16 }
}

/// A TCP super-packet of `len` payload bytes that counts up.
fn super_segment(mut frame: Vec<u8>) -> (Vec<u8>, Offload) {
    let checksum = Some(leave_partial(&mut frame, 16));
    let gso = Some(Gso { kind: GsoKind::TcpV4, size: MSS });
    (frame, Offload { checksum, gso })
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index / 7) as u8).collect()
}

/// Puts segments together again, checking that each is whole and in sequence.
fn joined<'a>(frames: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut whole = Vec::new();
    let mut begin = None;
    for frame in frames {
        let seen = see(frame);
        let Carried::Tcp { sequence, .. } = seen.carried else { panic!("{seen:?}") };
        let begin = *begin.get_or_insert(sequence);
        assert_eq!(sequence, begin + whole.len() as u32);
        whole.extend(seen.payload);
    }
    whole
}

fn without_offloads() -> Rig {
    let mut rig = Rig::without_neighbours(config(), Vec::new(), Offloads::NONE);
    rig.learn_all();
    rig
}

#[test]
fn a_super_packet_passes_whole_where_the_egress_takes_it() {
    let mut rig = Rig::new();
    let data = payload(63_000);
    let (frame, offload) = super_segment(from(A).tcp(ep(A, 40000), ep(R, 443), ACK, &data));
    let mut packet = rig.egress.large_pool().take().unwrap();
    assert!(packet.copy_from(&frame));
    (packet.offload, packet.ingress) = (offload, HOME);
    let mut batch = packet::Batch::new();
    batch.push(packet);
    rig.worker.receive(&mut batch, &mut rig.egress, &rig.snapshot, rig.now);
    let sent = rig.flush_with_offload();
    assert_eq!(sent.len(), 1);
    let (link, mut frame, left) = sent.into_iter().next().unwrap();
    assert_eq!((link, left), (LinkId::WAN, offload));
    // What the partial checksum holds is right if finishing it is.
    let sum = !checksum::fold(checksum::sum(&frame[L4..], 0));
    frame[L4 + 16..][..2].copy_from_slice(&sum.to_be_bytes());
    let seen = see(&frame);
    assert_eq!((seen.source, seen.payload), (ep(WAN_ADDRESS, 40000), data));
}

#[test]
fn a_super_packet_is_cut_where_the_egress_takes_none() {
    let mut rig = without_offloads();
    let data = payload(63_000);
    let (frame, offload) = super_segment(from(A).tcp(ep(A, 40000), ep(R, 443), ACK, &data));
    let out = rig.push_with(HOME, &frame, offload);
    assert_eq!(out.verdict, Verdict::Forward(LinkId::WAN));
    assert_eq!(out.sent.len(), data.len().div_ceil(usize::from(MSS)));
    assert!(out.sent.iter().all(|(link, _)| *link == LinkId::WAN));
    assert_eq!(joined(out.sent.iter().map(|(_, frame)| frame.as_slice())), data);
    assert_eq!(see(&out.sent[3].1).source, ep(WAN_ADDRESS, 40000));
}

#[test]
fn a_udp_super_packet_is_cut_into_datagrams() {
    let mut rig = without_offloads();
    let data = payload(5 * 1200 + 10);
    let mut frame = from(A).udp(ep(A, 40000), ep(R, 443), &data);
    let checksum = Some(leave_partial(&mut frame, 6));
    let gso = Some(Gso { kind: GsoKind::Udp, size: 1200 });
    let out = rig.push_with(HOME, &frame, Offload { checksum, gso });
    let payloads: Vec<Vec<u8>> = out.sent.iter().map(|(_, frame)| see(frame).payload).collect();
    assert_eq!((payloads.len(), payloads[5].len()), (6, 10));
    assert_eq!(payloads.concat(), data);
}

#[test]
fn a_partial_checksum_is_right_once_it_is_finished_both_ways_and_between_lans() {
    let mut rig = without_offloads();
    let external = ep(WAN_ADDRESS, 5000);
    let cases = [
        (HOME, from(A).udp(ep(A, 5000), ep(R, 1), b"odd"), 6),
        (LinkId::WAN, from(R).udp(ep(R, 1), external, b"odd"), 6),
        (HOME, from(A).tcp(ep(A, 5000), ep(R, 80), SYN, b""), 16),
        (LinkId::WAN, from(R).tcp(ep(R, 80), external, SYN | ACK, b""), 16),
        (OFFICE, from(O).tcp(ep(O, 5000), ep(A, 80), SYN, b""), 16),
    ];
    for (link, mut frame, offset) in cases {
        let checksum = Some(leave_partial(&mut frame, offset));
        let out = rig.push_with(link, &frame, Offload { checksum, gso: None });
        out.one();
    }
}

#[test]
fn a_partial_checksum_survives_the_clamped_mss() {
    let mut rig = without_offloads();
    rig.runtime.links[0].mtu = 1400;
    rig.publish();
    let options = [MaximumSegmentSize(1460)];
    let mut frame = from(A).tcp_with(ep(A, 5000), ep(R, 80), SYN, &options, b"");
    let checksum = Some(leave_partial(&mut frame, 16));
    let out = rig.push_with(HOME, &frame, Offload { checksum, gso: None });
    assert!(matches!(out.one().1.carried, Carried::Tcp { mss: Some(1360), .. }));
}

#[test]
fn an_error_about_a_super_packet_or_partial_checksum_quotes_a_whole_head() {
    let mut rig = Rig::new();
    let mut way = from(A);
    way.ttl = 1;
    let data = payload(20_000);
    let (frame, offload) = super_segment(way.tcp(ep(A, 40000), ep(R, 443), ACK, &data));
    let out = rig.push_with(HOME, &frame, offload);
    assert_eq!(out.one().1.embedded(), (ep(A, 40000), ep(R, 443)));
    let mut frame = way.udp(ep(A, 5000), ep(R, 1), b"short");
    let checksum = Some(leave_partial(&mut frame, 6));
    let out = rig.push_with(HOME, &frame, Offload { checksum, gso: None });
    assert_eq!(out.one().1.embedded(), (ep(A, 5000), ep(R, 1)));
}

#[test]
fn a_super_packet_fits_if_its_segments_do() {
    let mut rig = Rig::new();
    rig.runtime.links[0].mtu = 1400;
    rig.publish();
    let mut way = from(A);
    way.dont_fragment = true;
    let tcp = |way: crate::frames::Way| way.tcp(ep(A, 40000), ep(R, 443), ACK, &payload(9000));
    let (frame, mut offload) = super_segment(tcp(way));
    let out = rig.push_with(HOME, &frame, offload);
    assert_eq!(out.verdict, Verdict::Reply(ErrorKind::FragmentationNeeded(1400)));
    offload.gso = Some(Gso { kind: GsoKind::TcpV4, size: 1360 });
    let out = rig.push_with(HOME, &frame, offload);
    assert_eq!(out.verdict, Verdict::Forward(LinkId::WAN));
}

#[test]
fn offload_metadata_that_contradicts_the_headers_is_dropped() {
    let mut rig = Rig::new();
    let frame = from(A).udp(ep(A, 5000), ep(R, 1), &payload(3000));
    let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1000 });
    let out = rig.push_with(HOME, &frame, Offload { checksum: None, gso });
    out.dropped_for(DropReason::OffloadInvalid);
}

#[test]
fn super_packets_for_the_router_are_punted_in_segments() {
    let mut rig = Rig::new();
    let data = payload(4000);
    let tcp = from(A).tcp(ep(A, 40000), ep(HOME_ADDRESS, 53), ACK | FIN, &data);
    let (frame, offload) = super_segment(tcp);
    let out = rig.push_with(HOME, &frame, offload);
    assert_eq!(out.punted.len(), 3);
    assert_eq!(joined(out.punted.iter().map(|punt| punt.frame.as_slice())), data);
    assert!(out.punted.iter().all(|punt| punt.ingress == HOME));
}

#[test]
fn flows_count_what_is_on_the_wire() {
    let mut rig = Rig::new();
    let (frame, offload) =
        super_segment(from(G).tcp(ep(G, 40000), ep(R, 443), ACK, &payload(4 * usize::from(MSS))));
    rig.push_with(GUEST, &frame, offload);
    let mut participant = rig.tables.domain().participant().unwrap();
    let timeouts = &rig.snapshot.nat.timeouts;
    rig.tables.for_each_session(&participant.pass(), rig.now, timeouts, |session| {
        assert_eq!(session.packets, [4, 0]);
        assert_eq!(session.bytes, [4 * (u64::from(MSS) + 54), 0]);
    });
}
