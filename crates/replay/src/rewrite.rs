//! Other addresses and ports in a frame, its checksums kept as right or wrong as they were.

use std::net::Ipv4Addr;

use packet::checksum::{self, Delta, update};
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

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use packet::{Offload, Parsed, parse};

    type Ends = ([u8; 4], u16, [u8; 4], u16);

    const BEFORE: Ends = ([192, 168, 1, 7], 40_000, [203, 0, 113, 80], 443);
    const AFTER: Ends = ([10, 0, 255, 254], 65_535, [11, 0, 0, 1], 1);

    fn endpoints((source, from, destination, to): Ends) -> (Endpoint, Endpoint) {
        (Endpoint::new(source.into(), from), Endpoint::new(destination.into(), to))
    }

    fn builder(
        (source, _, destination, _): Ends,
    ) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, destination, 64)
    }

    fn tcp_frame(ends: Ends) -> Vec<u8> {
        let mut frame = Vec::new();
        builder(ends).tcp(ends.1, ends.3, 7, 8).ack(9).write(&mut frame, b"odd").unwrap();
        frame
    }

    fn udp_frame(ends: Ends, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        builder(ends).udp(ends.1, ends.3).write(&mut frame, payload).unwrap();
        frame
    }

    fn echo(ends: Ends, id: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        builder(ends).icmpv4_echo_request(id, 3).write(&mut frame, b"odd").unwrap();
        frame
    }

    /// An error of `router` about what it was sent.
    fn unreachable(router: [u8; 4], about: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let to = *about[26..30].first_chunk::<4>().unwrap();
        let kind = etherparse::icmpv4::DestUnreachableHeader::Host;
        builder((router, 0, to, 0))
            .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(kind))
            .write(&mut frame, &about[14..])
            .unwrap();
        frame
    }

    fn parsed(frame: &[u8]) -> Datagram {
        match parse(frame, Offload::NONE) {
            Ok(Parsed::Ipv4(datagram)) => datagram,
            other => panic!("{other:?}"),
        }
    }

    fn rewritten(mut frame: Vec<u8>, ends: Ends) -> Vec<u8> {
        let (from, to) = endpoints(ends);
        let before = parsed(&frame);
        datagram(&mut frame, &before, from, to);
        frame
    }

    #[test]
    fn a_packet_becomes_what_it_would_have_been_between_the_others() {
        assert_eq!(rewritten(tcp_frame(BEFORE), AFTER), tcp_frame(AFTER));
        assert_eq!(rewritten(udp_frame(BEFORE, b"odd"), AFTER), udp_frame(AFTER, b"odd"));
        assert_eq!(rewritten(echo(BEFORE, 5), AFTER), echo(AFTER, 65_535));
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_and_none_stays_none() {
        for checksum in [0x1234, 0] {
            let mut frame = udp_frame(BEFORE, b"odd");
            put_u16(&mut frame, 40, checksum);
            let there = rewritten(frame.clone(), AFTER);
            assert_ne!(there, udp_frame(AFTER, b"odd"));
            assert_eq!(u16_at(&there, 40) == 0, checksum == 0);
            assert_eq!(rewritten(there, BEFORE), frame);
        }
    }

    #[test]
    fn an_error_is_about_the_packet_that_the_others_sent() {
        let (router, other_router) = ([203, 0, 113, 1], [11, 0, 0, 9]);
        let cases = [
            (tcp_frame(BEFORE), tcp_frame(AFTER), endpoints(AFTER)),
            (udp_frame(BEFORE, b"odd"), udp_frame(AFTER, b"odd"), endpoints(AFTER)),
            (echo(BEFORE, 5), echo(AFTER, 6), endpoints((AFTER.0, 6, AFTER.2, 0))),
        ];
        for (before, after, inner) in cases {
            let mut frame = unreachable(router, &before);
            let datagram = parsed(&frame);
            let embedded = packet::icmp::embedded(&frame, &datagram).unwrap();
            let outer = (other_router.into(), AFTER.0.into());
            error(&mut frame, &datagram, &embedded, outer, inner);
            assert_eq!(frame, unreachable(other_router, &after));
        }
    }

    #[test]
    fn an_error_that_quotes_eight_bytes_has_right_checksums() {
        let quote = &tcp_frame(BEFORE)[..14 + 28];
        let mut frame = unreachable([203, 0, 113, 1], quote);
        let datagram = parsed(&frame);
        let embedded = packet::icmp::embedded(&frame, &datagram).unwrap();
        let outer = ([11, 0, 0, 9].into(), AFTER.0.into());
        error(&mut frame, &datagram, &embedded, outer, endpoints(AFTER));
        // Reading them checks the message's sum and that of the header in it.
        let again = packet::icmp::embedded(&frame, &parsed(&frame)).unwrap();
        assert_eq!((again.source, again.destination), endpoints(AFTER));
    }

    #[test]
    fn the_parts_of_a_packet_make_up_the_packet_between_the_others() {
        let (before, after) = (udp_frame(BEFORE, &[7; 100]), udp_frame(AFTER, &[7; 100]));
        let (from, to) = endpoints(AFTER);
        for (begin, end, flags) in [(0, 48, ipv4::MORE_FRAGMENTS), (48, 108, 6)] {
            let mut part = before[..34].to_vec();
            put_u16(&mut part, 14 + ipv4::TOTAL_LENGTH, 20 + (end - begin) as u16);
            put_u16(&mut part, 14 + ipv4::FRAGMENT, flags);
            packet::header::seal_ipv4(&mut part, 14, 20);
            part.extend_from_slice(&before[34 + begin..34 + end]);
            let Ok(Parsed::Fragment(read)) = parse(&part, Offload::NONE) else { panic!() };
            fragment(&mut part, &read, from, to);
            assert_eq!(part[34..], after[34 + begin..34 + end]);
            assert_eq!(checksum::of(&part[14..34]), 0);
        }
    }

    #[test]
    fn a_station_that_a_question_leaves_open_stays_open() {
        let mut frame = [&[0xff; 6][..], &[2; 6], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
        frame.extend_from_slice(&[[2; 10].as_slice(), &[0; 6], &[9; 4]].concat());
        let (sender, target) =
            ((MacAddr([6; 6]), [10, 0, 0, 1].into()), (MacAddr([8; 6]), [10, 0, 0, 2].into()));
        arp(&mut frame, sender, target);
        let Ok(Parsed::Arp(read)) = parse(&frame, Offload::NONE) else { panic!() };
        assert_eq!(((read.sender_mac, read.sender), read.target), (sender, target.1));
        assert_eq!(read.target_mac, MacAddr::ZERO);
        frame[32] = 1;
        arp(&mut frame, sender, target);
        let Ok(Parsed::Arp(read)) = parse(&frame, Offload::NONE) else { panic!() };
        assert_eq!((read.target_mac, read.target), target);
    }
}
