use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::header::{put_u16, seal_ipv4};
use crate::{Gso, GsoKind, Offload, PacketBuf, Parsed, PartialChecksum, parse};

const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn builder() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let other = [2, 0, 0, 0, 0, 2];
    PacketBuilder::ethernet2(other, STATION.0).ipv4([10, 0, 0, 2], [198, 51, 100, 7], 64)
}

fn udp_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    builder().udp(5000, 53).write(&mut frame, b"payload").unwrap();
    frame
}

fn tcp_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    let step = builder().tcp(5000, 80, 7, 1000).ack(99).psh();
    step.options_raw(&[1, 1, 1, 0]).unwrap().write(&mut frame, b"payload").unwrap();
    frame
}

fn buffer(frame: &[u8]) -> PacketBuf {
    let mut packet = PacketBuf::small();
    assert!(packet.copy_from(frame));
    packet
}

fn plain(frame: &[u8]) -> Option<Plain> {
    Plain::of(&buffer(frame), STATION, Side::Inside)
}

/// What is said of a plain packet is what the parser says.
fn assert_parsed(packet: &PacketBuf, plain: &Plain, side: Side) {
    let Ok(Parsed::Ipv4(datagram)) = parse(packet.frame(), packet.offload) else {
        panic!("a plain packet has a fault: {plain:?}")
    };
    assert_eq!((usize::from(datagram.l3), usize::from(datagram.l4)), (14, Plain::L4));
    assert_eq!(
        (datagram.ip_len(), datagram.end as usize),
        (plain.ip_len.into(), plain.frame_len())
    );
    assert_eq!((datagram.key(side), datagram), (plain.key, plain.datagram(packet.frame())));
    assert_eq!(datagram.dont_fragment, Plain::dont_fragment(packet.frame()));
    let mut frame = packet.frame().to_vec();
    let segment = match plain.headers(&mut frame) {
        Headers::Tcp(headers) => Some(plain.segment(headers)),
        Headers::Udp(_) => None,
    };
    assert_eq!(Segment::read(packet.frame(), &datagram), segment);
    assert!(datagram.ttl > 1 && packet.offload.gso.is_none());
}

#[test]
fn udp_and_tcp_data_are_plain() {
    for mut frame in [udp_frame(), tcp_frame()] {
        for side in [Side::Inside, Side::Outside] {
            for padding in [0, 10] {
                frame.resize(frame.len() + padding, 0xaa);
                let packet = buffer(&frame);
                let plain = Plain::of(&packet, STATION, side).unwrap();
                assert_parsed(&packet, &plain, side);
            }
        }
    }
}

#[test]
fn what_needs_a_thought_is_not_plain() {
    let ip = |at: usize, value: u8| {
        move |frame: &mut Vec<u8>| {
            frame[14 + at] = value;
            seal_ipv4(frame, 14, 20);
        }
    };
    let tcp = |flags: u8| move |frame: &mut Vec<u8>| frame[34 + tcp::FLAGS] = flags;
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let any: [(&str, Change); 13] = [
        ("another station", Box::new(|frame| frame[5] ^= 1)),
        ("a group", Box::new(|frame| frame[..6].fill(0xff))),
        ("a VLAN", Box::new(|frame| put_u16(frame, 12, 0x8100))),
        ("IPv6", Box::new(ip(0, 0x65))),
        ("options", Box::new(ip(0, 0x46))),
        ("a fragment", Box::new(ip(7, 1))),
        ("more fragments", Box::new(ip(6, 0x20))),
        ("TTL 1", Box::new(ip(8, 1))),
        ("ICMP", Box::new(ip(9, 1))),
        ("longer than the frame", Box::new(ip(3, 255))),
        ("shorter than its headers", Box::new(ip(3, 27))),
        ("port zero", Box::new(|frame| put_u16(frame, 36, 0))),
        ("a wrong checksum", Box::new(|frame| frame[24] ^= 1)),
    ];
    for base in [udp_frame(), tcp_frame()] {
        for (what, change) in &any {
            let mut frame = base.clone();
            change(&mut frame);
            assert_eq!(plain(&frame), None, "{what}");
        }
        for len in 0..base.len() {
            assert_eq!(plain(&base[..len]), None, "{len} bytes");
        }
    }
    for flags in [tcp::SYN, tcp::SYN | tcp::ACK, tcp::FIN | tcp::ACK, tcp::RST | tcp::ACK, 0] {
        let mut frame = tcp_frame();
        tcp(flags)(&mut frame);
        assert_eq!(plain(&frame), None, "flags {flags:#x}");
    }
    let mut frame = udp_frame();
    put_u16(&mut frame, 38, 7);
    assert_eq!(plain(&frame), None, "a UDP length below the header's");
}

#[test]
fn a_partial_checksum_is_plain_where_it_belongs() {
    for (frame, offset) in [(udp_frame(), 6), (tcp_frame(), 16)] {
        let mut packet = buffer(&frame);
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset });
        let plain = Plain::of(&packet, STATION, Side::Inside).unwrap();
        assert_parsed(&packet, &plain, Side::Inside);
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset: offset ^ 2 });
        assert_eq!(Plain::of(&packet, STATION, Side::Inside), None);
        packet.offload = Offload {
            checksum: Some(PartialChecksum { start: 34, offset }),
            gso: Some(Gso { kind: GsoKind::Udp, size: 3 }),
        };
        assert_eq!(Plain::of(&packet, STATION, Side::Inside), None);
    }
}

proptest! {
    #[test]
    fn what_is_plain_parses_and_says_the_same(
        is_tcp in any::<bool>(),
        changes in proptest::collection::vec((0..60_usize, any::<u8>()), 0..4),
        is_sealed in any::<bool>(),
    ) {
        let mut frame = if is_tcp { tcp_frame() } else { udp_frame() };
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if is_sealed {
            seal_ipv4(&mut frame, 14, 20);
        }
        let packet = buffer(&frame);
        if let Some(plain) = Plain::of(&packet, STATION, Side::Outside) {
            assert_parsed(&packet, &plain, Side::Outside);
        }
    }
}
