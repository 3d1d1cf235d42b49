//! After start a worker takes no memory: not for a packet, not for a session.

use std::net::Ipv4Addr;
use std::time::Duration;

use allocation_counter::measure;
use packet::{Batch, LinkId, Offloads, Protocol};
use qos::{Overhead, Rate, Shaper, ShaperConfig};

use crate::frames::{ACK, SYN, echo_request, ep, piece, pieces, with_ip};
use crate::rig::{
    A, B, HOME, HOME_ADDRESS, R, Rig, WAN_ADDRESS, WEB, config, config_with, from, web_forward,
};

const PACKETS: u16 = 500;
const INBOUND: u16 = 200;

fn rig(offloads: Offloads) -> Rig {
    let mut config = config();
    config.nat.mappings_per_host_max = 10_000;
    let mut rig = Rig::without_neighbours(config, vec![web_forward()], offloads);
    rig.learn_all();
    rig
}

/// Takes frames through the worker and out again, and says how often that took memory.
fn allocations(rig: &mut Rig, link: LinkId, frames: &[Vec<u8>]) -> u64 {
    let mut batch = Batch::new();
    let mut pass = |rig: &mut Rig| {
        for frame in frames {
            let mut packet = rig.egress.large_pool().take().unwrap();
            assert!(packet.copy_from(frame));
            packet.ingress = link;
            batch.push(packet);
            rig.worker.receive(&mut batch, &mut rig.egress, &rig.snapshot, rig.now);
            rig.now += Duration::from_millis(1);
            rig.worker.expire(&rig.snapshot, rig.now);
            rig.egress.dequeue(rig.now, &rig.counters);
            for link in [LinkId::WAN, HOME] {
                rig.egress.flush(link, &rig.counters, |_| 0);
            }
            while let Some(punted) = rig.rings.poll_punt() {
                rig.rings.put(punted.packet);
            }
        }
    };
    measure(|| pass(rig)).count_total
}

/// An ESP and a GRE packet.
fn sealed(source: Ipv4Addr, destination: Ipv4Addr, spi: u8) -> [Vec<u8>; 2] {
    let raw = |protocol, first| {
        from(source).raw(protocol, source, destination, &[0, 0, 0, first, 0, 0, 0, 1])
    };
    [raw(Protocol::Esp, spi), raw(Protocol::Gre, 0)]
}

#[test]
fn packets_of_established_flows_take_no_memory() {
    let mut rig = rig(Offloads::ALL);
    let out = [
        from(A).udp(ep(A, 5000), ep(R, 1), b"out"),
        from(A).tcp(ep(A, 5000), ep(R, 443), ACK, b"out"),
        from(A).icmp(A, R, echo_request(1)),
    ];
    let out = out.into_iter().chain(sealed(A, R, 7)).collect::<Vec<_>>();
    let back = [
        from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), b"back"),
        from(R).tcp(ep(R, 443), ep(WAN_ADDRESS, 5000), ACK, b"back"),
    ];
    let back = back.into_iter().chain(sealed(R, WAN_ADDRESS, 9)).collect::<Vec<_>>();
    assert_eq!(allocations(&mut rig, HOME, &out), 0, "even the first packets");
    for _ in 0..PACKETS {
        assert_eq!(allocations(&mut rig, HOME, &out), 0);
        assert_eq!(allocations(&mut rig, LinkId::WAN, &back), 0);
    }
    assert_eq!(rig.counters.link(LinkId::WAN).forwarded.load(), u64::from(PACKETS) * 4);
}

#[test]
fn new_sessions_take_no_memory() {
    let mut rig = rig(Offloads::ALL);
    let out: Vec<_> = (0..PACKETS - 2)
        .map(|n| from(A).udp(ep(A, 5000 + n), ep(R, 1 + n), b""))
        .chain(sealed(A, R, 7))
        .collect();
    let (client, web) = (|n| ep(R, 20_000 + n), ep(WAN_ADDRESS, WEB));
    let syns: Vec<_> = (0..INBOUND).map(|n| from(R).tcp(client(n), web, SYN, b"")).collect();
    let answers: Vec<_> =
        (0..INBOUND).map(|n| from(B).tcp(ep(B, 80), client(n), SYN | ACK, b"")).collect();
    let thirds: Vec<_> =
        (0..INBOUND).map(|n| from(R).tcp_at(client(n), web, ACK, (1001, 1001))).collect();
    assert_eq!(allocations(&mut rig, HOME, &out), 0);
    assert_eq!(allocations(&mut rig, LinkId::WAN, &syns), 0);
    assert_eq!(allocations(&mut rig, HOME, &answers), 0);
    assert_eq!(allocations(&mut rig, LinkId::WAN, &thirds), 0);
    assert_eq!(rig.sessions(), usize::from(PACKETS + INBOUND));
}

#[test]
fn rules_that_refuse_limit_and_log_take_no_memory() {
    let tail = r#"
        [policy.set]
        mail = ["203.0.113.0/24", "198.18.0.0/16"]
        [[policy.rule]]
        action = "refuse"
        from = "home"
        protocol = "both"
        port = [25, "587-588"]
        destination = "@mail"
        log = true
        [[policy.rule]]
        action = "allow"
        from = "home"
        rate = "1/s"
        log = true
    "#;
    let mut rig = Rig::of(config_with(tail), Vec::new());
    let refused: Vec<_> = (0..PACKETS)
        .flat_map(|n| {
            let source = ep(A, 5000 + n);
            let syn = from(A).tcp(source, ep(R, 25), SYN, b"");
            [syn, from(A).udp(source, ep(R, 587), b""), from(A).udp(source, ep(R, 1), b"")]
        })
        .collect();
    assert_eq!(allocations(&mut rig, HOME, &refused), 0);
    assert!(rig.counters.unlogged.load() > 0);
}

#[test]
fn expiry_drops_errors_and_punts_take_no_memory() {
    let mut rig = rig(Offloads::ALL);
    let flows: Vec<_> = (0..PACKETS).map(|n| from(A).udp(ep(A, 5000 + n), ep(R, 1), b"")).collect();
    allocations(&mut rig, HOME, &flows);
    rig.advance(Duration::from_secs(600));
    let strangers: Vec<_> =
        (0..PACKETS).map(|n| from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 40_000 + n), b"")).collect();
    assert_eq!(allocations(&mut rig, LinkId::WAN, &strangers), 0);
    assert_eq!(rig.sessions(), 0);
    let mut expiring = from(A);
    expiring.ttl = 1;
    let errors = vec![expiring.udp(ep(A, 5000), ep(R, 1), b""); 100];
    assert_eq!(allocations(&mut rig, HOME, &errors), 0);
    let pings = vec![from(R).icmp(R, WAN_ADDRESS, echo_request(1)); 100];
    assert_eq!(allocations(&mut rig, LinkId::WAN, &pings), 0);
}

#[test]
fn shaping_takes_no_memory() {
    let mut rig = rig(Offloads::NONE);
    let rate = Rate::from_bits_per_sec(4_000_000).unwrap();
    let shaper = Shaper::new(ShaperConfig::for_rate(rate, Overhead::NONE), rig.now);
    rig.egress.shapers_mut().upload = Some(shaper);
    let frames: Vec<_> =
        (0..PACKETS).map(|n| from(A).udp(ep(A, 5000 + n % 7), ep(R, 1), &[0; 1000])).collect();
    assert_eq!(allocations(&mut rig, HOME, &frames), 0);
}

#[test]
fn fragments_take_no_memory() {
    let mut rig = rig(Offloads::NONE);
    rig.runtime.links[0].mtu = 1400;
    rig.publish();
    let whole = |id| {
        let frame = from(A).udp(ep(A, 5000), ep(R, 1), &[7; 9000]);
        with_ip(&frame, |header| header.identification = id)
    };
    let out: Vec<_> = (0..20).flat_map(|id| pieces(&whole(id), 1480)).collect();
    assert_eq!(allocations(&mut rig, HOME, &out), 0, "put together, translated, cut again");
    assert_eq!(rig.counters.link(HOME).forwarded.load(), 20);
    let strays: Vec<_> = (0..PACKETS).map(|id| piece(&whole(id), 0..1480)).collect();
    assert_eq!(allocations(&mut rig, HOME, &strays), 0, "held and evicted");
    rig.advance(Duration::from_secs(60));
    let late = [piece(&whole(1), 1480..2960), piece(&whole(1), 1472..2952)];
    assert_eq!(allocations(&mut rig, HOME, &late), 0, "timed out and refused");
    let cut = from(A).udp(ep(A, 5000), ep(R, 1), &[7; 1472]);
    assert_eq!(allocations(&mut rig, HOME, &[cut]), 0, "cut");
    let ping = from(A).icmp_about(A, HOME_ADDRESS, echo_request(1), &[7; 9000]);
    assert_eq!(allocations(&mut rig, HOME, &pieces(&ping, 1480)), 0, "for the router itself");
}
