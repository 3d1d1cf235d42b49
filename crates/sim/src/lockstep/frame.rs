//! Packets of the model as frames, and back.

use std::net::Ipv4Addr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use packet::header::{ethernet, ipv4};
use packet::{Endpoint, LinkId, Offload, Parsed, Protocol, parse};

use super::operation::Error;
use crate::bare::Bare;
use crate::model::{Packet, Segment};

/// Sequence number of every SYN. What follows has the next, so that all of it is in any window.
const SYN_SEQUENCE: u32 = 1000;
const WINDOW: u16 = 4096;
const TTL: u8 = 64;

/// A packet as it arrives on a link.
pub(super) fn of(link: LinkId, packet: &Packet) -> Vec<u8> {
    let Packet { protocol, source, destination, segment } = *packet;
    let builder = PacketBuilder::ethernet2(Bare::station(source.address).0, Bare::mac(link).0)
        .ipv4(source.address.octets(), destination.address.octets(), TTL);
    let mut frame = Vec::new();
    let written = match protocol {
        Protocol::Udp => builder.udp(source.port, destination.port).write(&mut frame, b"lockstep"),
        Protocol::Icmp if segment == Segment::Reply => {
            builder.icmpv4_echo_reply(destination.port, 1).write(&mut frame, b"lockstep")
        }
        Protocol::Icmp => {
            builder.icmpv4_echo_request(source.port, 1).write(&mut frame, b"lockstep")
        }
        Protocol::Tcp => {
            let next = SYN_SEQUENCE + 1;
            let opens = matches!(segment, Segment::Syn | Segment::SynAck);
            let sequence = if opens { SYN_SEQUENCE } else { next };
            let tcp = builder.tcp(source.port, destination.port, sequence, WINDOW);
            let tcp = match segment {
                Segment::Syn => tcp.syn(),
                Segment::SynAck => tcp.syn().ack(next),
                Segment::Fin => tcp.fin().ack(next),
                Segment::Reset => tcp.rst().ack(next),
                Segment::Ack | Segment::Query | Segment::Reply => tcp.ack(next),
            };
            tcp.write(&mut frame, b"")
        }
        other => unreachable!("the model does not speak {other}"),
    };
    written.expect("a vector has room");
    frame
}

/// An ICMP error about a packet, from a host or router, as it arrives on a link.
pub(super) fn error(link: LinkId, from: Ipv4Addr, about: &Packet, error: Error) -> Vec<u8> {
    let whole = of(link, about);
    let inside = &whole[ethernet::LEN..];
    let inside = if error.is_short { &inside[..ipv4::LEN_MIN + 8] } else { inside };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(Bare::station(from).0, Bare::mac(link).0)
        .ipv4(from.octets(), about.source.address.octets(), TTL)
        .icmpv4_raw(error.kind.0, error.kind.1, [0, 0, 5, 0])
        .write(&mut frame, inside)
        .expect("a vector has room");
    frame
}

/// Source and destination of a frame that left.
pub(super) fn endpoints(frame: &[u8]) -> (Endpoint, Endpoint) {
    match parse(frame, Offload::NONE) {
        Ok(Parsed::Ipv4(datagram)) => (datagram.source, datagram.destination),
        other => panic!("{other:?} left"),
    }
}

/// The checksums of what leaves.
pub(crate) fn check(frame: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).expect("what leaves is whole");
    let ip = sliced.net.as_ref().and_then(|net| net.ipv4_ref()).expect("IPv4 left");
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IP checksum");
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
            let full = udp.to_header().calc_checksum_ipv4(&header, udp.payload());
            assert_eq!(Ok(udp.checksum()), full, "UDP checksum");
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let full = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload());
            assert_eq!(Ok(tcp.checksum()), full, "TCP checksum");
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let sum = Sum16BitWords::new().add_slice(icmp.slice()).ones_complement();
            assert_eq!(sum, 0, "ICMP checksum");
        }
        other => assert!(other.is_some(), "a packet without transport left"),
    }
}
