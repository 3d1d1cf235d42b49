use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::header::ethernet;
use crate::{Datagram, Offload, Parsed, parse};

const L3: usize = ethernet::LEN;
const L4: usize = L3 + ipv4::LEN_MIN;

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

fn udp(len: usize) -> PacketBuf {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 0, 0, 2], [198, 51, 100, 7], 64)
        .udp(5000, 53)
        .write(&mut bytes, &payload(len))
        .unwrap();
    // Not atomic, so that it may be cut.
    put_u16(&mut bytes, L3 + ipv4::FRAGMENT, 0);
    put_u16(&mut bytes, L3 + ipv4::IDENTIFICATION, 0xbeef);
    seal_ipv4(&mut bytes, L3, ipv4::LEN_MIN);
    let mut packet = PacketBuf::large();
    assert!(packet.copy_from(&bytes));
    packet
}

/// Puts IP options into a packet, which must fill words.
fn with_options(packet: &PacketBuf, options: &[u8]) -> PacketBuf {
    let mut bytes = packet.frame().to_vec();
    bytes.splice(L4..L4, options.iter().copied());
    bytes[L3] = 0x45 + (options.len() / 4) as u8;
    let total = (bytes.len() - L3) as u16;
    put_u16(&mut bytes, L3 + ipv4::TOTAL_LENGTH, total);
    seal_ipv4(&mut bytes, L3, ipv4::LEN_MIN + options.len());
    let mut packet = PacketBuf::large();
    assert!(packet.copy_from(&bytes));
    packet
}

fn whole(packet: &PacketBuf) -> Datagram {
    match parse(packet.frame(), Offload::NONE) {
        Ok(Parsed::Ipv4(datagram)) => datagram,
        other => panic!("{other:?}"),
    }
}

fn fragment(frame: &[u8]) -> Fragment {
    match parse(frame, Offload::NONE) {
        Ok(Parsed::Fragment(fragment)) => fragment,
        other => panic!("{other:?}"),
    }
}

fn cut(packet: &PacketBuf, ip_len_max: usize) -> Vec<Vec<u8>> {
    let datagram = whole(packet);
    let (l3, l4) = (usize::from(datagram.l3), usize::from(datagram.l4));
    let cut = Cut::of(packet.frame(), l3, l4, datagram.end as usize, ip_len_max);
    let mut out = PacketBuf::large();
    let emit = |index| {
        // What an earlier frame left in the buffer must not show.
        assert!(out.copy_from(&[0xee; 3000]));
        assert!(cut.emit(packet, index, &mut out));
        out.frame().to_vec()
    };
    (0..cut.count()).map(emit).collect()
}

/// The payload that fragments in order stand for.
fn joined(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let fragment = fragment(frame);
        assert_eq!(usize::from(fragment.offset), whole.len());
        assert_eq!(fragment.more, index + 1 < frames.len());
        assert_eq!(fragment.identification, 0xbeef);
        whole.extend_from_slice(&frame[usize::from(fragment.payload)..fragment.end as usize]);
    }
    whole
}

/// A first fragment with this flags word and so many bytes behind the IP header.
fn piece(word: u16, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = udp(len).frame()[..L4 + len].to_vec();
    put_u16(&mut bytes, L3 + ipv4::TOTAL_LENGTH, (ipv4::LEN_MIN + len) as u16);
    put_u16(&mut bytes, L3 + ipv4::FRAGMENT, word);
    bytes[L3 + ipv4::PROTOCOL] = protocol;
    seal_ipv4(&mut bytes, L3, ipv4::LEN_MIN);
    bytes
}

fn refusal(frame: &[u8]) -> DropReason {
    parse(frame, Offload::NONE).expect_err("the fragment should be refused")
}

#[test]
fn a_fragment_yields_its_place_and_its_packet() {
    let frames = cut(&udp(3000), 1500);
    assert_eq!(frames.len(), 3);
    let second = fragment(&frames[1]);
    assert_eq!((second.offset, second.len(), second.more), (1480, 1480, true));
    assert_eq!(second.source, Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!(second.destination, Ipv4Addr::new(198, 51, 100, 7));
    assert_eq!((second.protocol, second.dont_fragment), (Protocol::Udp, false));
    assert_eq!((second.ip_len(), second.is_empty()), (1500, false));
}

#[test]
fn a_cut_packet_is_the_packet_again_when_joined() {
    let packet = udp(4000);
    for ip_len_max in [68, 576, 1280, 1400, 1500] {
        let frames = cut(&packet, ip_len_max);
        assert!(frames.iter().all(|frame| frame.len() - L3 <= ip_len_max));
        assert_eq!(joined(&frames), packet.frame()[L4..], "{ip_len_max}");
    }
}

#[test]
fn a_packet_that_fits_is_not_cut() {
    let packet = udp(1472);
    let frames = cut(&packet, 1500);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0], packet.frame());
}

#[test]
fn only_options_with_the_copied_flag_are_in_every_fragment() {
    // No operation, record route (not copied), a security option (copied), no operation, end.
    let options = [1, 7, 7, 4, 0, 0, 0, 0, 130, 3, 9, 0];
    let frames = cut(&with_options(&udp(2000), &options), 1500);
    let (first, second) = (fragment(&frames[0]), fragment(&frames[1]));
    assert_eq!(usize::from(first.payload), L4 + options.len());
    assert_eq!(frames[0][L4..L4 + options.len()], options);
    assert_eq!(usize::from(second.payload), L4 + 4);
    assert_eq!(frames[1][L4..L4 + 4], [130, 3, 9, 0]);
    assert_eq!(second.offset as usize, first.len());
}

#[test]
fn malformed_options_end_with_the_fixed_header() {
    for options in [[130, 0, 0, 0], [130, 9, 0, 0], [0, 130, 2, 0]] {
        let frames = cut(&with_options(&udp(2000), &options), 1500);
        assert_eq!(usize::from(fragment(&frames[1]).payload), L4, "{options:?}");
    }
}

#[test]
fn a_fragment_of_another_length_than_units_is_refused_unless_it_is_the_last() {
    assert_eq!(refusal(&piece(0x2000, 17, 63)), DropReason::FragmentLength);
    assert_eq!(refusal(&piece(0x2000, 17, 0)), DropReason::FragmentLength);
    assert_eq!(refusal(&piece(100, 17, 0)), DropReason::FragmentLength);
    assert_eq!(fragment(&piece(100, 17, 63)).len(), 63);
}

#[test]
fn a_fragment_beyond_the_longest_packet_is_refused() {
    assert_eq!(refusal(&piece(0x1fff, 1, 8)), DropReason::FragmentTooLong);
    assert_eq!(refusal(&piece(0x3fff, 1, 8)), DropReason::FragmentTooLong);
    // The last byte that any packet can have.
    let last = (PAYLOAD_MAX / UNIT) as u16;
    assert!(!fragment(&piece(last, 1, PAYLOAD_MAX % UNIT)).more);
    assert_eq!(refusal(&piece(last, 1, PAYLOAD_MAX % UNIT + 1)), DropReason::FragmentTooLong);
}

#[test]
fn a_split_transport_header_is_refused() {
    assert_eq!(refusal(&piece(0x2000, 6, 16)), DropReason::FragmentTiny);
    assert_eq!(refusal(&piece(0x2001, 6, 64)), DropReason::FragmentTiny, "RFC 1858 §4");
    // A data offset of 15 words, of which the first fragment holds six.
    let mut long = piece(0x2000, 6, 24);
    long[L4 + tcp::DATA_OFFSET] = 0xf0;
    assert_eq!(refusal(&long), DropReason::FragmentTiny);
    assert_eq!(fragment(&piece(0x2000, 17, 8)).len(), 8);
    assert_eq!(fragment(&piece(0x2001, 17, 64)).offset, 8);
}

#[test]
fn a_fragment_of_an_unknown_protocol_or_with_work_left_undone_is_refused() {
    assert_eq!(refusal(&piece(0x2000, 99, 64)), DropReason::ProtocolUnsupported);
    let checksum = Some(crate::PartialChecksum { start: L4 as u16, offset: 6 });
    let undone = parse(&piece(0x2000, 17, 64), Offload { checksum, gso: None });
    assert_eq!(undone, Err(DropReason::OffloadInvalid));
}

proptest! {
    #[test]
    fn whatever_the_length_and_the_link_nothing_is_lost(len in 0usize..65_000, ip_len_max in 68usize..9000) {
        let packet = udp(len);
        let frames = cut(&packet, ip_len_max);
        prop_assert!(frames.iter().all(|frame| frame.len() - L3 <= ip_len_max));
        if frames.len() > 1 {
            prop_assert_eq!(joined(&frames), &packet.frame()[L4..]);
        } else {
            prop_assert_eq!(&frames[0][..], packet.frame());
        }
    }
}
