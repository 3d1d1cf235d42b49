//! What holds for all packets.

use std::collections::BTreeMap;

use etherparse::{Icmpv4Type, icmpv4};
use packet::PartialChecksum;
use packet::checksum::pseudo_header;
use packet::header::{bytes_at, ipv4, put_u16, seal_ipv4, tcp, u16_at, udp};
use proptest::prelude::*;

use super::*;

/// Exchanges source and destination; no checksum changes by that.
fn swap(packet: &mut PacketBuf) {
    let l4 = usize::from(datagram(packet).l4);
    let frame = packet.frame_mut();
    let (source, destination) =
        (bytes_at::<4>(frame, 14 + ipv4::SOURCE), bytes_at::<4>(frame, 14 + ipv4::DESTINATION));
    frame[14 + ipv4::SOURCE..][..4].copy_from_slice(&destination);
    frame[14 + ipv4::DESTINATION..][..4].copy_from_slice(&source);
    let ports = (u16_at(frame, l4), u16_at(frame, l4 + 2));
    put_u16(frame, l4, ports.1);
    put_u16(frame, l4 + 2, ports.0);
}

fn lower_ttl(packet: &mut PacketBuf, by: u8) {
    let frame = packet.frame_mut();
    frame[14 + ipv4::TTL] -= by;
    seal_ipv4(frame, 14, 20);
}

fn build(protocol: Protocol, source: Endpoint, destination: Endpoint, payload: &[u8]) -> PacketBuf {
    let step = builder(source.address, destination.address);
    let mut frame = Vec::new();
    match protocol {
        Protocol::Tcp => step
            .tcp(source.port, destination.port, 1, 1000)
            .syn()
            .write(&mut frame, payload)
            .unwrap(),
        Protocol::UdpLite => {
            let coverage = 8 + payload.len() as u16 / 2;
            return udp_lite(source, destination, coverage, payload);
        }
        _ => step.udp(source.port, destination.port).write(&mut frame, payload).unwrap(),
    }
    buffer(&frame)
}

/// What the sender left of the transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    /// All of it.
    Full,
    /// Nothing, as UDP may.
    Zero,
    /// The sum of the pseudo-header, as a sender with offload does.
    Partial,
}

fn any_left() -> impl Strategy<Value = Left> {
    prop_oneof![Just(Left::Full), Just(Left::Zero), Just(Left::Partial)]
}

fn leave(packet: &mut PacketBuf, left: Left) {
    let Datagram { l4, end, source, destination, .. } = datagram(packet);
    let protocol = datagram(packet).protocol();
    let offset = if protocol == Protocol::Tcp { tcp::CHECKSUM } else { udp::CHECKSUM };
    let at = usize::from(l4) + offset;
    match left {
        Left::Zero if protocol == Protocol::Udp => put_u16(packet.frame_mut(), at, 0),
        Left::Full | Left::Zero => {}
        Left::Partial => {
            let length = (end - u32::from(l4)) as u16;
            let (source, destination) = (source.address.octets(), destination.address.octets());
            let sum = pseudo_header(source, destination, protocol as u8, length);
            put_u16(packet.frame_mut(), at, sum);
            packet.offload.checksum = Some(PartialChecksum { start: l4, offset: offset as u16 });
        }
    }
}

/// The IP packet in a frame.
fn ip_packet(packet: &PacketBuf) -> &[u8] {
    &packet.frame()[14..]
}

fn any_protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::UdpLite)]
}

/// A packet whose ports nobody changes; reversing it leaves all behind the IP header as it is, but
/// that SCTP's ports trade places.
fn untouched(protocol: Protocol, host: Ipv4Addr, id: u32, payload: &[u8]) -> PacketBuf {
    match protocol {
        Protocol::Sctp => sctp(ep(host, id as u16 | 1), ep(R, 9), 1),
        Protocol::Gre => gre(host, R, (!id.is_multiple_of(3)).then_some(id)),
        Protocol::Esp => esp(host, R, id | 1),
        _ => ip(protocol, host, R, [&[0x45; 40][..], payload].concat()),
    }
}

proptest! {
    #[test]
    fn translate_then_untranslate_is_identity(
        protocol in any_protocol(),
        host in 0x0a00_0001u32..0x0aff_fffe,
        ports in (1u16.., 1u16..),
        external in any::<u32>(),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        collides: bool,
        left in any_left(),
    ) {
        // No hardware finishes a checksum of UDP-Lite, so no sender leaves one.
        let left = if protocol == Protocol::UdpLite { Left::Full } else { left };
        let external = Ipv4Addr::from_bits(external | 0x8000_0000);
        let mut rig = Rig::sized(64, 1, Policy { external: Some(external), ..policy() });
        let (internal, remote) = (ep(Ipv4Addr::from_bits(host), ports.0), ep(R, ports.1));
        if collides {
            rig.send(LAN, build(protocol, ep(B, ports.0), remote, b"")).unwrap();
        }
        let mut packet = build(protocol, internal, remote, &payload);
        leave(&mut packet, left);
        let offload = packet.offload;
        for ingress in [LAN, LinkId::WAN] {
            rig.pass(ingress, &mut packet).unwrap();
            prop_assert_eq!(packet.offload, offload);
            if left == Left::Partial {
                let mut expected = buffer(packet.frame());
                leave(&mut expected, left);
                prop_assert_eq!(packet.frame(), expected.frame(), "still the pseudo-header's sum");
            } else {
                assert_checksums(packet.frame());
            }
            swap(&mut packet);
        }
        let mut original = build(protocol, internal, remote, &payload);
        leave(&mut original, left);
        lower_ttl(&mut original, 2);
        prop_assert_eq!(packet.frame(), original.frame());
    }

    #[test]
    fn translate_then_untranslate_is_identity_where_no_port_is_changed(
        protocol in prop_oneof![
            Just(Protocol::Sctp),
            Just(Protocol::Gre),
            Just(Protocol::Esp),
            Just(Protocol::IpIp),
            Just(Protocol::SixInFour),
        ],
        host in 0x0a00_0001u32..0x0aff_fffe,
        id: u32,
        external in any::<u32>(),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let external = Ipv4Addr::from_bits(external | 0x8000_0000);
        let mut rig = Rig::sized(64, 1, Policy { external: Some(external), ..policy() });
        let original = untouched(protocol, Ipv4Addr::from_bits(host), id, &payload);
        let mut packet = buffer(original.frame());
        rig.pass(LAN, &mut packet).unwrap();
        assert_checksums(packet.frame());
        prop_assert_eq!(&packet.frame()[34..], &original.frame()[34..]);
        let turn = |packet: &mut PacketBuf| {
            let ports: Vec<u8> = packet.frame()[34..38].to_vec();
            swap(packet);
            if protocol != Protocol::Sctp {
                packet.frame_mut()[34..38].copy_from_slice(&ports);
            }
        };
        turn(&mut packet);
        rig.pass(LinkId::WAN, &mut packet).unwrap();
        assert_checksums(packet.frame());
        turn(&mut packet);
        let mut expected = buffer(original.frame());
        lower_ttl(&mut expected, 2);
        prop_assert_eq!(packet.frame(), expected.frame());
    }

    #[test]
    fn an_icmp_query_comes_back_as_it_went(id: u16, host in 0x0a00_0001u32..0x0aff_fffe) {
        let mut rig = Rig::sized(64, 1, policy());
        let host = Ipv4Addr::from_bits(host);
        rig.pass(LAN, &mut echo(B, R, id)).unwrap();
        let mut request = echo(host, R, id);
        rig.pass(LAN, &mut request).unwrap();
        assert_checksums(request.frame());
        let mut reply = echo_reply(R, E, datagram(&request).source.port);
        rig.pass(LinkId::WAN, &mut reply).unwrap();
        let mut expected = echo_reply(R, host, id);
        lower_ttl(&mut expected, 1);
        prop_assert_eq!(reply.frame(), expected.frame());
    }

    #[test]
    fn an_error_carries_what_was_sent_and_nothing_of_the_other_side(
        protocol in prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Icmp)],
        host in 0x0a00_0004u32..0x0a00_ffff,
        ports in (1u16.., 1u16..),
        payload in proptest::collection::vec(any::<u8>(), 0..100),
        zero: bool,
        kept in 28usize..200,
        behind in proptest::collection::vec(any::<u8>(), 0..40),
        outward: bool,
    ) {
        let internal = ep(Ipv4Addr::from_bits(host), ports.0);
        let remote = ep(R, ports.1);
        let mut rig = Rig::sized(64, 1, with_forwards(vec![forward(Protocol::Udp, 9, internal)]));
        // What is sent, from where, and to where an error about it comes back.
        let (mut original, ingress, back) = match (protocol, outward) {
            (Protocol::Icmp, _) => (echo(internal.address, R, ports.0), LAN, LinkId::WAN),
            (Protocol::Udp, true) => {
                (build(protocol, remote, ep(E, 9), &payload), LinkId::WAN, LAN)
            }
            _ => (build(protocol, internal, remote, &payload), LAN, LinkId::WAN),
        };
        if zero && protocol == Protocol::Udp {
            leave(&mut original, Left::Zero);
        }
        let mut seen = buffer(original.frame());
        rig.pass(ingress, &mut seen).unwrap();
        let whole = ip_packet(&seen).len();
        // Half a checksum can't be adjusted: TCP's is at 36.
        let kept = match kept.min(whole) {
            37 => 36,
            kept => kept,
        };
        let mut embedded = ip_packet(&seen)[..kept].to_vec();
        if kept == whole {
            embedded.extend(&behind);
        }
        let (from, to) = (datagram(&seen).destination.address, datagram(&seen).source.address);
        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
        let mut frame = Vec::new();
        builder(from, to).icmpv4(kind).write(&mut frame, &embedded).unwrap();
        let mut error = buffer(&frame);
        rig.pass(back, &mut error).unwrap();
        assert_checksums(error.frame());
        let arrived = datagram(&error);
        let ends = (arrived.source.address, arrived.destination.address);
        let sent = datagram(&original);
        prop_assert_eq!(ends, (sent.destination.address, sent.source.address));
        let inside = &error.frame()[usize::from(arrived.l4) + 8..];
        lower_ttl(&mut original, 1);
        prop_assert_eq!(&inside[..kept], &ip_packet(&original)[..kept]);
        prop_assert_eq!(&inside[kept..], &embedded[kept..]);
    }

    #[test]
    fn no_two_internal_endpoints_share_an_external_one(
        steps in proptest::collection::vec((0u8..6, 0u8..12, 0u8..3, 0u16..400), 1..120),
    ) {
        let mut rig = Rig::sized(256, 1, with_filtering(Filtering::EndpointIndependent));
        for (host, port, remote, wait) in steps {
            let internal = ep(Ipv4Addr::new(10, 0, 0, 2 + host), 1018 + u16::from(port));
            let remote = ep(Ipv4Addr::new(198, 51, 100, remote), 7);
            if let Ok((external, _)) = rig.udp_out(internal, remote) {
                prop_assert_eq!(external.port < 1024, internal.port < 1024);
                prop_assert_eq!(external.port % 2, internal.port % 2);
            }
            rig.now += secs(u64::from(wait / 10));
            rig.expire();
            let (mut by_internal, mut by_external) = (BTreeMap::new(), BTreeMap::new());
            for session in rig.sessions() {
                let (internal, external) = (session.internal.0, session.external.0);
                prop_assert_eq!(*by_internal.entry(internal).or_insert(external), external);
                prop_assert_eq!(*by_external.entry(external).or_insert(internal), internal);
            }
            prop_assert_eq!(rig.tables.hosts.total(), by_internal.len() as u64);
        }
    }
}
