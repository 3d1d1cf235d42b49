//! Frames by an independent hand.

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, NetSlice, PacketBuilder, SlicedPacket};
use etherparse::{Icmpv4Type, TransportSlice};
use packet::MacAddr;

pub const A: u16 = 1;
pub const PTR: u16 = 12;

const ETHERNET: usize = 14;

pub fn mac(last: u8) -> MacAddr {
    MacAddr([6, 0, 0, 0, 0, last])
}

pub fn router_mac(link: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, link])
}

pub fn arp(
    operation: ArpOperation,
    (sender_mac, sender): (MacAddr, Ipv4Addr),
    (target_mac, target): (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let arp = ArpEthIpv4Packet {
        operation,
        sender_mac: sender_mac.0,
        sender_ipv4: sender.octets(),
        target_mac: target_mac.0,
        target_ipv4: target.octets(),
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(sender_mac.0, [0xff; 6]).arp(arp.into()).write(&mut frame).unwrap();
    frame
}

pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(9).0, router_mac(1).0)
        .ipv4(from.0.octets(), to.0.octets(), 64)
        .udp(from.1, to.1);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

pub fn ping(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    ping_with(from, to, b"are you there")
}

pub fn ping_with(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(9).0, router_mac(1).0)
        .ipv4(from.octets(), to.octets(), 64)
        .icmpv4_echo_request(7, 1);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// An IP packet behind an Ethernet header.
pub fn framed(packet: &[u8]) -> Vec<u8> {
    let mut frame = [&router_mac(1).0[..], &mac(9).0, &[8, 0]].concat();
    frame.extend_from_slice(packet);
    frame
}

/// What a frame says, to one who knows only etherparse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
    pub icmp: Option<Icmpv4Type>,
    pub payload: Vec<u8>,
}

#[track_caller]
pub fn see(frame: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = sliced.net else { panic!("not IPv4: {frame:?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let (ports, icmp, payload) = match sliced.transport.unwrap() {
        TransportSlice::Udp(udp) => {
            let expected = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
            assert_eq!(udp.checksum(), expected);
            ((udp.source_port(), udp.destination_port()), None, udp.payload())
        }
        TransportSlice::Tcp(tcp) => {
            ((tcp.source_port(), tcp.destination_port()), None, tcp.payload())
        }
        TransportSlice::Icmpv4(icmp) => {
            assert_eq!(icmp.icmp_type().calc_checksum(icmp.payload()), icmp.checksum());
            ((0, 0), Some(icmp.icmp_type()), icmp.payload())
        }
        other => panic!("{other:?}"),
    };
    Seen {
        source: (header.source.into(), ports.0),
        destination: (header.destination.into(), ports.1),
        icmp,
        payload: payload.to_vec(),
    }
}

/// The IP packet in a frame.
pub fn unframed(frame: &[u8]) -> &[u8] {
    &frame[ETHERNET..]
}

fn name(dotted: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in dotted.split('.') {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A DNS query with the recursion bit.
pub fn query(id: u16, dotted: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(name(dotted));
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// An answer to a query: one address with a TTL of 300 s. An OPT record of the query is left out.
pub fn answer(query: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let name_len = query[12..].iter().position(|octet| *octet == 0).unwrap() + 1;
    let mut message = query[..12 + name_len + 4].to_vec();
    message[2] = 0x81;
    message[3] = 0x80;
    message[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
    message.extend(address.octets());
    message
}

/// A truncated answer to a query.
pub fn truncated(query: &[u8]) -> Vec<u8> {
    let mut message = answer(query, Ipv4Addr::UNSPECIFIED);
    message.truncate(message.len() - 16);
    message[2] |= 2;
    message[7] = 0;
    message
}

/// Response code and number of answers.
pub fn outcome(message: &[u8]) -> (u8, u16) {
    assert_ne!(message[2] & 0x80, 0, "a response");
    (message[3] & 15, u16::from_be_bytes([message[6], message[7]]))
}

/// The address in an answer to a query without EDNS; `None` unless there is one record.
pub fn address(message: &[u8]) -> Option<Ipv4Addr> {
    let octets = message.last_chunk::<4>().unwrap();
    (outcome(message) == (0, 1)).then(|| Ipv4Addr::from(*octets))
}

/// Whether a message mentions a label.
pub fn mentions(message: &[u8], label: &str) -> bool {
    let wire = [&[label.len() as u8], label.as_bytes()].concat();
    message.windows(wire.len()).any(|window| window == wire)
}
