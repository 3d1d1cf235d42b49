//! Anything at all: no frame panics, each has one verdict, and every buffer comes home (see [`Rig`]'s `drop`).

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Type, icmpv4};
use packet::{DropReason, Gso, GsoKind, LinkId, MacAddr, Offload, Offloads, PartialChecksum};
use pipeline::{Shapers, Verdict};
use proptest::prelude::*;
use qos::{Overhead, Rate, Shaper, ShaperConfig};

use crate::explain::ask;
use crate::frames::{Way, ep, joined, pieces, see};
use crate::rig::{
    A, B, G, GATEWAY, GUEST, HOME, HOME_ADDRESS, O, OFFICE, R, R2, Rig, WAN_ADDRESS, WEB, config,
    mac, router_mac, wan_at, web_forward,
};

const ADDRESSES: [Ipv4Addr; 12] = [
    A,
    B,
    G,
    O,
    R,
    R2,
    GATEWAY,
    WAN_ADDRESS,
    HOME_ADDRESS,
    Ipv4Addr::new(10, 0, 1, 255),
    Ipv4Addr::BROADCAST,
    Ipv4Addr::new(224, 0, 0, 1),
];
const OTHER_WAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 42);
const PORTS: [u16; 8] = [0, 53, 67, 68, 80, WEB, 5000, 5001];

#[derive(Clone, Debug)]
enum Kind {
    Udp,
    Tcp(u8),
    Echo(bool),
    /// About the packet that left last.
    Error(bool),
    /// A protocol and what is behind its ports.
    Other(packet::Protocol, Vec<u8>),
    Noise(Vec<u8>),
}

/// A frame and what is done to it.
#[derive(Clone, Debug)]
struct Shot {
    link: u8,
    kind: Kind,
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    to_all: bool,
    ttl: u8,
    dont_fragment: bool,
    len: usize,
    /// Byte and bits to flip.
    damage: Option<(usize, u8)>,
    /// Length to cut to.
    cut: Option<usize>,
    offload: Offload,
    /// Milliseconds until the next.
    wait: u16,
    local: bool,
    /// Payload per fragment, if it comes in fragments, and whether the last comes first.
    fragments: Option<(usize, bool)>,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Udp),
        4 => any::<u8>().prop_map(Kind::Tcp),
        2 => any::<bool>().prop_map(Kind::Echo),
        2 => any::<bool>().prop_map(Kind::Error),
        3 => (prop::sample::select(&packet::Protocol::ALL[..]), prop::collection::vec(0u8..20, 0..50))
            .prop_map(|(protocol, bytes)| Kind::Other(protocol, bytes)),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Kind::Noise),
    ]
}

fn offload() -> impl Strategy<Value = Offload> {
    let checksum = prop_oneof![
        Just(None),
        (prop_oneof![Just(34u16), any::<u16>()], prop_oneof![Just(6u16), Just(16), any::<u16>()])
            .prop_map(|(start, offset)| Some(PartialChecksum { start, offset })),
    ];
    let kinds = prop_oneof![Just(GsoKind::TcpV4), Just(GsoKind::TcpV4Ecn), Just(GsoKind::Udp)];
    let gso = prop_oneof![
        Just(None),
        (kinds, prop_oneof![Just(0u16), Just(1000), Just(1448), any::<u16>()])
            .prop_map(|(kind, size)| Some(Gso { kind, size })),
    ];
    prop_oneof![
        3 => Just(Offload::NONE),
        2 => (checksum, gso).prop_map(|(checksum, gso)| Offload { checksum, gso }),
    ]
}

fn endpoint() -> impl Strategy<Value = (Ipv4Addr, u16)> {
    (prop::sample::select(&ADDRESSES[..]), prop::sample::select(&PORTS[..]))
}

prop_compose! {
    fn shot()(
        (link, kind, source, destination) in (0u8..4, kind(), endpoint(), endpoint()),
        (to_all, ttl) in (prop::bool::weighted(0.05), prop_oneof![5 => Just(64u8), 1 => 0u8..3]),
        (dont_fragment, len) in (any::<bool>(), prop_oneof![6 => 0usize..64, 1 => 1400usize..40_000]),
        damage in prop::option::weighted(0.15, (0usize..80, 1u8..)),
        cut in prop::option::weighted(0.1, 0usize..90),
        offload in offload(),
        wait in prop_oneof![5 => 0u16..20, 1 => 0u16..60_000],
        local in prop::bool::weighted(0.1),
        fragments in prop::option::weighted(0.2, ((1usize..200).prop_map(|units| units * 8), any::<bool>())),
    ) -> Shot {
        Shot {
            link, kind, source, destination, to_all, ttl, dont_fragment, len, damage, cut, offload,
            wait, local, fragments,
        }
    }
}

fn frame(shot: &Shot, last: &[u8]) -> Vec<u8> {
    let link = LinkId(shot.link);
    let to = if shot.to_all { MacAddr::BROADCAST } else { router_mac(link) };
    let mut way = Way::new(mac(shot.source.0), to);
    (way.ttl, way.dont_fragment) = (shot.ttl, shot.dont_fragment);
    let (source, destination) =
        (ep(shot.source.0, shot.source.1), ep(shot.destination.0, shot.destination.1));
    let payload = vec![0x5a; shot.len];
    let mut frame = match &shot.kind {
        Kind::Udp => way.udp(source, destination, &payload),
        Kind::Tcp(flags) => {
            let mut frame = way.tcp(source, destination, 0x10, &payload);
            frame[14 + 20 + 13] = *flags;
            frame
        }
        Kind::Echo(reply) => {
            let echo = etherparse::IcmpEchoHeader { id: shot.source.1, seq: 1 };
            let kind =
                if *reply { Icmpv4Type::EchoReply(echo) } else { Icmpv4Type::EchoRequest(echo) };
            way.icmp(source.address, destination.address, kind)
        }
        Kind::Error(needed) => {
            use icmpv4::DestUnreachableHeader::{FragmentationNeeded, Port};
            let code = if *needed { FragmentationNeeded { next_hop_mtu: 1300 } } else { Port };
            let kind = Icmpv4Type::DestinationUnreachable(code);
            let quote = last.get(14..last.len().min(562)).unwrap_or_default();
            way.icmp_about(source.address, destination.address, kind, quote)
        }
        Kind::Other(protocol, bytes) => {
            let ports = [source.port, destination.port].map(u16::to_be_bytes).concat();
            let segment = [&ports, &bytes[..]].concat();
            way.raw(*protocol, source.address, destination.address, &segment)
        }
        Kind::Noise(bytes) => bytes.clone(),
    };
    if let Some((at, bits)) = shot.damage {
        let len = frame.len();
        if let Some(byte) = frame.get_mut(at % len.max(1)) {
            *byte ^= bits;
        }
    }
    if let Some(len) = shot.cut {
        frame.truncate(len);
    }
    frame
}

/// Frames that a damaged one might have become are not checked for their checksums.
fn is_sound(shot: &Shot) -> bool {
    let whole = shot.damage.is_none() && shot.cut.is_none();
    let is_right = !matches!(shot.kind, Kind::Noise(_) | Kind::Tcp(_) | Kind::Other(..));
    whole && shot.offload == Offload::NONE && is_right
}

fn fire(rig: &mut Rig, shots: &[Shot]) {
    let mut last = Vec::new();
    for shot in shots {
        let frame = frame(shot, &last);
        let (link, offload) = if shot.local && frame.len() <= packet::SMALL_FRAME_MAX {
            (LinkId::LOCAL, Offload::NONE)
        } else {
            (LinkId(shot.link), shot.offload)
        };
        let comes_whole = link == LinkId::LOCAL || shot.fragments.is_none() || !is_sound(shot);
        let told = comes_whole.then(|| ask(rig, link, &frame, offload).verdict);
        let out = if shot.local && frame.len() <= packet::SMALL_FRAME_MAX {
            rig.send_local(&frame)
        } else if let Some((payload_max, reversed)) = shot.fragments.filter(|_| is_sound(shot)) {
            let mut parts = pieces(&frame, payload_max);
            if reversed {
                parts.reverse();
            }
            let outs = parts.iter().map(|part| rig.push(LinkId(shot.link), part));
            outs.last().expect("a frame is at least one fragment")
        } else {
            rig.push_with(LinkId(shot.link), &frame, shot.offload)
        };
        if let Some(told) = told {
            assert_as_told(told, out.verdict);
        }
        // What leaves a shaper now may have been damaged before.
        if is_sound(shot) && rig.egress.shapers_mut().upload.is_none() && !out.sent.is_empty() {
            see(&joined(out.sent.iter().map(|(_, frame)| frame.as_slice())));
        }
        assert_translated(rig, &out.sent);
        last = out.sent.into_iter().next().map_or(last, |(_, frame)| frame);
        rig.worker.expire(&rig.snapshot, rig.now);
        rig.advance(std::time::Duration::from_millis(shot.wait.into()));
    }
}

/// What became of a frame is what was foretold, as far as that can be: the budget of answers, and the fragments
/// that wait, are the worker's own.
fn assert_as_told(told: Verdict, became: Verdict) {
    let is_answer = matches!(told, Verdict::Reply(_) | Verdict::Reset);
    let is_over_budget = became == Verdict::Drop(DropReason::IcmpRateLimited);
    if told == Verdict::Hold {
        return;
    }
    assert!(told == became || is_answer && is_over_budget, "{told:?} was foretold: {became:?}");
}

/// Whatever leaves the WAN does so under the address that it has now.
fn assert_translated(rig: &Rig, sent: &[(LinkId, Vec<u8>)]) {
    for (_, frame) in sent.iter().filter(|(link, _)| *link == LinkId::WAN) {
        let source: [u8; 4] = *frame[26..].first_chunk().unwrap();
        assert_eq!(Some(Ipv4Addr::from(source)), rig.snapshot.nat.external);
    }
}

fn slow(rig: &Rig) -> Option<Shaper> {
    let rate = Rate::from_bits_per_sec(1_000_000).unwrap();
    Some(Shaper::new(ShaperConfig::for_rate(rate, Overhead::NONE), rig.now))
}

/// Every established flow has a frame that it would take; with these the random ones meet flows.
fn warm_up(rig: &mut Rig) {
    for (protocol, segment) in [(packet::Protocol::Gre, [0; 8]), (packet::Protocol::Esp, [1; 8])] {
        let frame = Way::new(mac(A), router_mac(HOME)).raw(protocol, A, R, &segment);
        assert_eq!(rig.push(HOME, &frame).verdict, Verdict::Forward(LinkId::WAN));
    }
    let flow = |host, link| {
        let way = Way::new(mac(host), router_mac(link));
        (link, way.udp(ep(host, 5000), ep(R, 53), b"x"))
    };
    for (link, frame) in [flow(A, HOME), flow(G, GUEST), flow(O, OFFICE)] {
        assert_eq!(rig.push(link, &frame).verdict, Verdict::Forward(LinkId::WAN));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_untranslated_while_the_wan_address_comes_goes_and_changes(
        rounds in prop::collection::vec((prop::collection::vec(shot(), 1..8), 0u8..4), 1..12),
        shaped in any::<bool>(),
    ) {
        let mut rig = Rig::of(config(), vec![web_forward()]);
        if shaped {
            rig.egress.shapers_mut().upload = slow(&rig);
        }
        warm_up(&mut rig);
        for (shots, change) in rounds {
            match change {
                0 => rig.runtime.wan = None,
                1 => rig.runtime.wan = Some(wan_at(WAN_ADDRESS, GATEWAY)),
                2 => rig.runtime.wan = Some(wan_at(OTHER_WAN_ADDRESS, GATEWAY)),
                _ => {}
            }
            rig.publish();
            if rig.runtime.wan.is_some() {
                rig.learn(LinkId::WAN, GATEWAY);
            }
            fire(&mut rig, &shots);
        }
    }

    #[test]
    fn no_frame_panics_and_each_has_one_verdict(
        shots in prop::collection::vec(shot(), 1..60),
        plain in any::<bool>(),
        shaped in any::<bool>(),
    ) {
        let offloads = if plain { Offloads::NONE } else { Offloads::ALL };
        let mut rig = Rig::without_neighbours(config(), vec![web_forward()], offloads);
        rig.learn_all();
        if shaped {
            *rig.egress.shapers_mut() = Shapers { upload: slow(&rig), download: slow(&rig) };
        }
        warm_up(&mut rig);
        fire(&mut rig, &shots);
    }
}
