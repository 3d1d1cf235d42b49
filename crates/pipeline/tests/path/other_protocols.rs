//! ESP, GRE, IPIP, 6in4, SCTP and UDP-Lite, as they are on the wire.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Type, icmpv4};
use icmpv4::DestUnreachableHeader as Unreachable;
use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId, Offload, PartialChecksum, Protocol, PuntReason};
use pipeline::Verdict;

use crate::frames::{Carried, TTL, ep, see};
use crate::rig::{
    A, B, G, GATEWAY, GUEST, HOME, HOME_ADDRESS, HOP, O, OFFICE, R, Rig, WAN_ADDRESS, from, mac,
    router_mac,
};

/// ESP: SPI, sequence number and something sealed.
fn esp(source: Ipv4Addr, destination: Ipv4Addr, spi: u32) -> Vec<u8> {
    let segment = [&spi.to_be_bytes()[..], &[0, 0, 0, 1], b"sealed"].concat();
    from(source).raw(Protocol::Esp, source, destination, &segment)
}

fn gre(source: Ipv4Addr, destination: Ipv4Addr, key: u32) -> Vec<u8> {
    let segment = [&[0x20, 0, 8, 0][..], &key.to_be_bytes(), b"inner"].concat();
    from(source).raw(Protocol::Gre, source, destination, &segment)
}

/// One packet of each protocol without ports.
fn tunnels(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<Vec<u8>> {
    let raw =
        |protocol, byte, len| from(source).raw(protocol, source, destination, &vec![byte; len]);
    vec![
        esp(source, destination, 0xa1),
        gre(source, destination, 42),
        raw(Protocol::Gre, 0, 4),
        raw(Protocol::IpIp, 0x45, 40),
        raw(Protocol::SixInFour, 0x60, 60),
    ]
}

#[test]
fn a_tunnel_leaves_with_the_wan_address_and_its_answer_comes_back() {
    let frames = tunnels(A, R).into_iter().zip(tunnels(R, WAN_ADDRESS));
    for (out, back) in frames {
        let mut rig = Rig::new();
        rig.push(LinkId::WAN, &back).dropped_for(DropReason::NoMapping);
        let seen = rig.push(HOME, &out).forwarded_to(LinkId::WAN);
        assert_eq!((seen.source.address, seen.destination.address), (WAN_ADDRESS, R));
        assert_eq!((seen.from_mac, seen.to_mac), (router_mac(LinkId::WAN), mac(GATEWAY)));
        assert_eq!((seen.ttl, &seen.payload[..]), (TTL - 1, &out[34..]));
        let seen = rig.push(LinkId::WAN, &back).forwarded_to(HOME);
        assert_eq!((seen.source.address, seen.destination.address), (R, A));
        assert_eq!((seen.to_mac, &seen.payload[..]), (mac(A), &back[34..]));
    }
}

#[test]
fn two_ipsec_clients_speak_with_one_peer_by_esp() {
    let mut rig = Rig::new();
    for round in 0..3 {
        for (host, spi) in [(A, 0x100 + round), (B, 0x200 + round)] {
            let out = rig.push(HOME, &esp(host, R, spi)).forwarded_to(LinkId::WAN);
            assert_eq!(out.source.address, WAN_ADDRESS);
            let back = rig.push(LinkId::WAN, &esp(R, WAN_ADDRESS, spi | 0x8000_0000));
            let seen = back.forwarded_to(HOME);
            assert_eq!((seen.destination.address, seen.to_mac), (host, mac(host)));
        }
        // Those of earlier rounds serve on.
        for (host, first) in [(A, 0x100), (B, 0x200)] {
            let back = rig.push(LinkId::WAN, &esp(R, WAN_ADDRESS, first | 0x8000_0000));
            assert_eq!(back.forwarded_to(HOME).destination.address, host);
        }
    }
}

#[test]
fn two_ipsec_clients_speak_with_one_peer_by_nat_traversal() {
    let mut rig = Rig::new();
    for port in [500, 4500] {
        let external = [A, B].map(|host| {
            let out = rig.push(HOME, &from(host).udp(ep(host, port), ep(R, port), b"ike"));
            out.forwarded_to(LinkId::WAN).source
        });
        assert_eq!(external[0], ep(WAN_ADDRESS, port));
        assert_ne!(external[0], external[1]);
        for (host, external) in [A, B].into_iter().zip(external) {
            let back = rig.push(LinkId::WAN, &from(R).udp(ep(R, port), external, b"ike"));
            assert_eq!(back.forwarded_to(HOME).destination, ep(host, port));
        }
    }
}

#[test]
fn a_second_host_is_refused_a_tunnel_that_nothing_tells_apart() {
    for (first, second) in tunnels(A, R).iter().zip(tunnels(B, R)).skip(1) {
        let mut rig = Rig::new();
        rig.push(HOME, first).forwarded_to(LinkId::WAN);
        rig.push(HOME, &second).dropped_for(DropReason::PeerTaken);
        assert_eq!(rig.sessions(), 1);
    }
    let mut rig = Rig::new();
    rig.push(HOME, &gre(A, R, 1)).forwarded_to(LinkId::WAN);
    rig.push(HOME, &gre(B, R, 2)).forwarded_to(LinkId::WAN);
}

/// The one rule of the policy: nothing from home to `R`.
fn refuse_peer(rig: &mut Rig) {
    let home = config::RuleEnd::Lan("home".into());
    let mut rule = config::Rule::between(config::Action::Refuse, home, config::RuleEnd::Anywhere);
    rule.when.destination = vec![config::AddressTerm::Net(ipnet::Ipv4Net::new(R, 32).unwrap())];
    rig.config.policy.rules.push(rule);
    rig.publish();
}

#[test]
fn a_new_rule_ends_tunnels_in_whatever_direction_the_next_packet_comes() {
    let prohibited = Verdict::Reply(ErrorKind::AdministrativelyProhibited);
    for (out, back) in tunnels(A, R).into_iter().zip(tunnels(R, WAN_ADDRESS)) {
        for inside_first in [true, false] {
            let mut rig = Rig::new();
            rig.push(HOME, &out).forwarded_to(LinkId::WAN);
            rig.push(LinkId::WAN, &back).forwarded_to(HOME);
            refuse_peer(&mut rig);
            if inside_first {
                assert_eq!(rig.push(HOME, &out).verdict, prohibited);
            }
            assert!(rig.push(LinkId::WAN, &back).sent.is_empty());
            assert_eq!(rig.push(HOME, &out).verdict, prohibited);
        }
    }
}

#[test]
fn a_reload_keeps_tunnels() {
    let mut rig = Rig::new();
    for (out, back) in tunnels(A, R).into_iter().zip(tunnels(R, WAN_ADDRESS)) {
        rig.push(HOME, &out).forwarded_to(LinkId::WAN);
        rig.push(LinkId::WAN, &back).forwarded_to(HOME);
    }
    let sessions = rig.sessions();
    rig.publish();
    for (out, back) in tunnels(A, R).into_iter().zip(tunnels(R, WAN_ADDRESS)) {
        rig.push(LinkId::WAN, &back).forwarded_to(HOME);
        rig.push(HOME, &out).forwarded_to(LinkId::WAN);
    }
    assert_eq!(rig.sessions(), sessions);
}

#[test]
fn a_tunnel_to_the_wan_address_is_refused_and_one_to_the_lan_address_is_the_routers() {
    let mut rig = Rig::new();
    for frame in tunnels(A, WAN_ADDRESS) {
        rig.push(HOME, &frame).dropped_for(DropReason::HairpinUnsupported);
    }
    for frame in tunnels(A, HOME_ADDRESS) {
        assert_eq!(rig.push(HOME, &frame).punt().reason, PuntReason::Local);
    }
}

#[test]
fn tunnels_between_lans_are_routed_where_the_policy_lets_them() {
    for (there, back) in tunnels(O, A).into_iter().zip(tunnels(A, O)) {
        let mut rig = Rig::new();
        let seen = rig.push(OFFICE, &there).forwarded_to(HOME);
        assert_eq!((seen.source.address, seen.destination.address), (O, A));
        assert_eq!((seen.ttl, &seen.payload[..]), (TTL - 1, &there[34..]));
        let answer = rig.push(HOME, &back);
        if there[14 + 9] == Protocol::Esp as u8 {
            // Nothing shows that it is an answer: the policy judges it by itself.
            assert_eq!(answer.verdict, Verdict::Reply(ErrorKind::AdministrativelyProhibited));
        } else {
            assert_eq!(answer.forwarded_to(OFFICE).source.address, A);
        }
    }
    let mut rig = Rig::new();
    for frame in tunnels(G, A) {
        let out = rig.push(GUEST, &frame);
        assert_eq!(out.verdict, Verdict::Reply(ErrorKind::AdministrativelyProhibited));
    }
}

#[test]
fn no_tunnel_comes_from_a_source_of_another_link() {
    let mut rig = Rig::new();
    let to = |frame: &[u8], link| [&router_mac(link).0[..], &frame[6..]].concat();
    for (frame, owned) in tunnels(G, R).into_iter().zip(tunnels(A, R)) {
        rig.push(HOME, &to(&frame, HOME)).dropped_for(DropReason::SourceSpoofed);
        rig.push(HOME, &owned).forwarded_to(LinkId::WAN);
        rig.push(GUEST, &to(&owned, GUEST)).dropped_for(DropReason::SourceSpoofed);
    }
}

#[test]
fn a_tunnel_packet_too_big_for_the_egress_is_answered_and_errors_from_the_way_come_in() {
    let mut rig = Rig::new();
    let needed = |next_hop_mtu| {
        Icmpv4Type::DestinationUnreachable(Unreachable::FragmentationNeeded { next_hop_mtu })
    };
    let mut way = from(A);
    way.dont_fragment = true;
    for (protocol, byte) in [(Protocol::Esp, 1), (Protocol::IpIp, 0x45)] {
        let big = rig.push(HOME, &way.raw(protocol, A, R, &[byte; 1500]));
        assert_eq!(big.one().1.carried, Carried::Icmp(needed(1500)));
        let out = rig.push(HOME, &way.raw(protocol, A, R, &[byte; 1400]));
        let quote = out.sent[0].1[14..14 + 28].to_vec();
        let error = from(HOP).icmp_about(HOP, WAN_ADDRESS, needed(1300), &quote);
        let seen = rig.push(LinkId::WAN, &error).forwarded_to(HOME);
        assert_eq!((seen.destination.address, seen.carried), (A, Carried::Icmp(needed(1300))));
        let inner = &seen.payload;
        assert_eq!((&inner[12..16], &inner[16..20]), (&A.octets()[..], &R.octets()[..]));
    }
}

/// SCTP's INIT, or INIT ACK, whose CRC is not right.
fn sctp(source: packet::Endpoint, destination: packet::Endpoint, chunk: u8) -> Vec<u8> {
    let mut segment = [source.port, destination.port].map(u16::to_be_bytes).concat();
    segment.extend_from_slice(&[0, 0, 0, 0, 0xaa, 0xbb, 0xcc, 0xdd, chunk, 0, 0, 4]);
    from(source.address).raw(Protocol::Sctp, source.address, destination.address, &segment)
}

#[test]
fn sctp_goes_out_with_its_own_port_or_not_at_all() {
    let mut rig = Rig::new();
    let init = sctp(ep(A, 2905), ep(R, 9), 1);
    let seen = rig.push(HOME, &init).forwarded_to(LinkId::WAN);
    assert_eq!((seen.source.address, &seen.payload[..]), (WAN_ADDRESS, &init[34..]));
    let taken = rig.push(HOME, &sctp(ep(B, 2905), ep(R, 9), 1));
    assert_eq!(taken.verdict, Verdict::Reply(ErrorKind::HostUnreachable));
    let answer = rig.push(LinkId::WAN, &sctp(ep(R, 9), ep(WAN_ADDRESS, 2905), 2));
    assert_eq!(answer.forwarded_to(HOME).destination.address, A);
    let stray = rig.push(HOME, &sctp(ep(B, 2907), ep(R, 9), 6));
    stray.dropped_for(DropReason::SctpNoSession);
}

#[test]
fn an_sctp_checksum_left_to_the_hardware_is_finished_before_it_leaves() {
    let mut rig = Rig::new();
    let offload =
        Offload { checksum: Some(PartialChecksum { start: 34, offset: 8 }), ..Offload::NONE };
    let init = sctp(ep(A, 2905), ep(R, 9), 1);
    rig.push_with(HOME, &init, offload).forwarded_to(LinkId::WAN);
    rig.push_with(HOME, &init, offload);
    let sent = rig.push_with(HOME, &init, offload).sent.remove(0).1;
    let (plain, checksum) = (&init[34..42], &sent[42..46]);
    assert_eq!((&sent[34..42], &sent[46..]), (plain, &init[46..]));
    // CRC32c of the packet with a checksum of zero, worked out by polynomial division by hand.
    let zeroed = [plain, &[0; 4], &init[46..]].concat();
    assert_eq!(checksum, crc32c_by_division(&zeroed));
}

/// RFC 9260 Appendix A, bit by bit.
fn crc32c_by_division(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        for bit in 0..8 {
            let feedback = crc >> 31 ^ u32::from(byte >> bit & 1);
            crc = (crc << 1) ^ (feedback * 0x1edc_6f41);
        }
    }
    (!crc).reverse_bits().to_le_bytes()
}

#[test]
fn udp_lite_is_mapped_and_its_checksum_follows() {
    let mut rig = Rig::new();
    let lite = |source: packet::Endpoint, destination: packet::Endpoint| {
        let segment = [source.port, destination.port, 8, 0x1234].map(u16::to_be_bytes).concat();
        from(source.address).raw(Protocol::UdpLite, source.address, destination.address, &segment)
    };
    let ports = |payload: &[u8]| {
        let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
        (port(0), port(2))
    };
    for (host, sent) in [(A, 0), (B, 1)] {
        let frame = lite(ep(host, 5000), ep(R, 9));
        let seen = rig.push(HOME, &frame).forwarded_to(LinkId::WAN);
        let (external, remote) = ports(&seen.payload);
        assert_eq!((seen.source.address, remote), (WAN_ADDRESS, 9));
        assert_eq!(external == 5000, sent == 0, "{external}");
        // Whatever the checksum was wrong by, it still is.
        assert_eq!(excess(&frame), excess_of(&seen));
        let back = rig.push(LinkId::WAN, &lite(ep(R, 9), ep(WAN_ADDRESS, external)));
        let seen = back.forwarded_to(HOME);
        assert_eq!((seen.destination.address, ports(&seen.payload)), (host, (9, 5000)));
    }
}

/// What the covered words of a UDP-Lite packet and its pseudo-header sum up to, checksum included.
fn excess(frame: &[u8]) -> u32 {
    excess_of(&see(frame))
}

fn excess_of(seen: &crate::frames::Seen) -> u32 {
    let addresses = [seen.source.address.octets(), seen.destination.address.octets()].concat();
    let words = [&addresses, &seen.payload[..8]].concat();
    let sum: u32 =
        words.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    match (sum & 0xffff) + (sum >> 16) {
        sum if sum > 0xffff => sum - 0xffff,
        sum => sum,
    }
}
