//! Other addresses and ports in a frame, its checksums kept as right or wrong as they were.

use std::net::Ipv4Addr;

use packet::checksum::{self, Delta};
use packet::header::{
    bytes_at, ethernet, icmp, ipv4, put_u16, put_u32, tcp, u16_at, u32_at, udp, udp_lite,
};
use packet::icmp::Embedded;
use packet::{Datagram, Endpoint, Fragment, IcmpKind, L4, MacAddr, Protocol};

/// Offsets of the addresses in an ARP message for IPv4 over Ethernet (RFC 826).
mod arp {
    pub(super) const SENDER_MAC: usize = 8;
    pub(super) const SENDER: usize = 14;
    pub(super) const TARGET_MAC: usize = 18;
    pub(super) const TARGET: usize = 24;
}

/// Gives a whole packet other endpoints. ICMP queries take the identifier from the endpoint that has it; protocols
/// without ports, and SCTP, whose ports no translation changes, only take the addresses.
pub(crate) fn datagram(frame: &mut [u8], datagram: &Datagram, from: Endpoint, to: Endpoint) {
    let addresses = addresses(frame, datagram.l3.into(), from.address, to.address);
    let l4 = usize::from(datagram.l4);
    match datagram.transport {
        L4::Tcp { .. } => {
            let all = addresses.and(ports(frame, l4, from, to));
            update(frame, l4 + tcp::CHECKSUM, checksum::apply, all);
        }
        L4::Udp | L4::UdpLite => {
            let all = addresses.and(ports(frame, l4, from, to));
            update(frame, l4 + udp::CHECKSUM, checksum::apply_udp, all);
        }
        L4::Icmp(IcmpKind::Request) => identifier(frame, l4, from.port),
        L4::Icmp(IcmpKind::Reply) => identifier(frame, l4, to.port),
        L4::Icmp(IcmpKind::Error) | L4::Sctp(_) | L4::Gre | L4::Esp | L4::IpIp | L4::SixInFour => {}
    }
}

/// The ports of a fragment, if it is the first of its packet and they can be changed in it.
///
/// A checksum that covers them must be in it as well: not in every first fragment of TCP, but in all that
/// [`packet::parse`] takes.
pub(crate) fn ports_of(frame: &[u8], fragment: &Fragment) -> Option<(u16, u16)> {
    let has_ports = matches!(fragment.protocol, Protocol::Tcp | Protocol::Udp | Protocol::UdpLite);
    let l4 = usize::from(fragment.payload);
    (has_ports && fragment.offset == 0)
        .then(|| (u16_at(frame, l4 + tcp::SOURCE), u16_at(frame, l4 + tcp::DESTINATION)))
}

/// Gives a part of a packet other endpoints: only the first has the ports, and the checksum.
pub(crate) fn fragment(frame: &mut [u8], fragment: &Fragment, from: Endpoint, to: Endpoint) {
    let has_ports = ports_of(frame, fragment).is_some();
    let addresses = addresses(frame, fragment.l3.into(), from.address, to.address);
    if has_ports {
        let l4 = usize::from(fragment.payload);
        let all = addresses.and(ports(frame, l4, from, to));
        let (field, adjust) = checksum_of(fragment.protocol);
        update(frame, l4 + field, adjust, all);
    }
}

/// Gives an ICMP error other addresses, and the packet in it other endpoints (RFC 3022 §4.3).
pub(crate) fn error(
    frame: &mut [u8],
    datagram: &Datagram,
    embedded: &Embedded,
    (from, to): (Ipv4Addr, Ipv4Addr),
    (inner_from, inner_to): (Endpoint, Endpoint),
) {
    let field_before = u16_at(frame, embedded.l3 + ipv4::CHECKSUM);
    let inner = addresses(frame, embedded.l3, inner_from.address, inner_to.address);
    let field = u16_at(frame, embedded.l3 + ipv4::CHECKSUM);
    let mut message = inner.and(Delta::word(field_before, field));
    let mut covered = inner;
    match embedded.protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::UdpLite => {
            let ports = ports(frame, embedded.l4, inner_from, inner_to);
            message = message.and(ports);
            covered = covered.and(ports);
        }
        Protocol::Icmp => {
            // Of the two ports one is the identifier and the other is zero.
            let identifier = inner_from.port | inner_to.port;
            covered = replace_u16(frame, embedded.l4 + icmp::IDENTIFIER, identifier);
            message = message.and(covered);
        }
        _ => covered = Delta::NONE,
    }
    if let Some(at) = embedded.checksum {
        let adjust = checksum_of(embedded.protocol).1;
        let new = adjust(u16_at(frame, at), covered);
        message = message.and(replace_u16(frame, at, new));
    }
    addresses(frame, datagram.l3.into(), from, to);
    update(frame, usize::from(datagram.l4) + icmp::CHECKSUM, checksum::apply, message);
}

/// Gives an ARP message another sender and target. A target's station that the message leaves open stays open.
pub(crate) fn arp(frame: &mut [u8], sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) {
    let message = &mut frame[ethernet::LEN..];
    message[arp::SENDER_MAC..][..6].copy_from_slice(&sender.0.0);
    put_u32(message, arp::SENDER, sender.1.into());
    if bytes_at::<6>(message, arp::TARGET_MAC) != [0; 6] {
        message[arp::TARGET_MAC..][..6].copy_from_slice(&target.0.0);
    }
    put_u32(message, arp::TARGET, target.1.into());
}

/// Where a protocol's checksum is, and how it changes.
fn checksum_of(protocol: Protocol) -> (usize, fn(u16, Delta) -> u16) {
    match protocol {
        Protocol::Udp => (udp::CHECKSUM, checksum::apply_udp),
        Protocol::UdpLite => (udp_lite::CHECKSUM, checksum::apply_udp),
        _ => (tcp::CHECKSUM, checksum::apply),
    }
}

/// Replaces the addresses of the IP header at `l3` and mends its checksum; says what changed.
fn addresses(frame: &mut [u8], l3: usize, from: Ipv4Addr, to: Ipv4Addr) -> Delta {
    let delta = replace_u32(frame, l3 + ipv4::SOURCE, from.into()).and(replace_u32(
        frame,
        l3 + ipv4::DESTINATION,
        to.into(),
    ));
    update(frame, l3 + ipv4::CHECKSUM, checksum::apply, delta);
    delta
}

fn ports(frame: &mut [u8], l4: usize, from: Endpoint, to: Endpoint) -> Delta {
    replace_u16(frame, l4 + tcp::SOURCE, from.port).and(replace_u16(
        frame,
        l4 + tcp::DESTINATION,
        to.port,
    ))
}

fn identifier(frame: &mut [u8], l4: usize, identifier: u16) {
    let delta = replace_u16(frame, l4 + icmp::IDENTIFIER, identifier);
    update(frame, l4 + icmp::CHECKSUM, checksum::apply, delta);
}

fn update(frame: &mut [u8], at: usize, adjust: impl Fn(u16, Delta) -> u16, delta: Delta) {
    let new = adjust(u16_at(frame, at), delta);
    put_u16(frame, at, new);
}

fn replace_u16(frame: &mut [u8], at: usize, new: u16) -> Delta {
    let old = u16_at(frame, at);
    put_u16(frame, at, new);
    Delta::word(old, new)
}

fn replace_u32(frame: &mut [u8], at: usize, new: u32) -> Delta {
    let old = u32_at(frame, at);
    put_u32(frame, at, new);
    Delta::long(old, new)
}
