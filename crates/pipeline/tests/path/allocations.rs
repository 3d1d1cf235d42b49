//! After start a worker takes no memory: not for a packet, not for a session.

use std::time::Duration;

use allocation_counter::measure;
use packet::{Batch, LinkId, Offloads};
use qos::{Overhead, Rate, Shaper, ShaperConfig};

use crate::frames::{ACK, SYN, echo_request, ep};
use crate::rig::{A, B, HOME, R, Rig, WAN_ADDRESS, WEB, config, from, web_forward};

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

#[test]
fn packets_of_established_flows_take_no_memory() {
    let mut rig = rig(Offloads::ALL);
    let out = [
        from(A).udp(ep(A, 5000), ep(R, 1), b"out"),
        from(A).tcp(ep(A, 5000), ep(R, 443), ACK, b"out"),
        from(A).icmp(A, R, echo_request(1)),
    ];
    let back = [
        from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), b"back"),
        from(R).tcp(ep(R, 443), ep(WAN_ADDRESS, 5000), ACK, b"back"),
    ];
    assert_eq!(allocations(&mut rig, HOME, &out), 0, "even the first packets");
    for _ in 0..PACKETS {
        assert_eq!(allocations(&mut rig, HOME, &out), 0);
        assert_eq!(allocations(&mut rig, LinkId::WAN, &back), 0);
    }
    assert_eq!(rig.counters.link(LinkId::WAN).forwarded.load(), u64::from(PACKETS) * 2);
}

#[test]
fn new_sessions_take_no_memory() {
    let mut rig = rig(Offloads::ALL);
    let out: Vec<_> =
        (0..PACKETS).map(|n| from(A).udp(ep(A, 5000 + n), ep(R, 1 + n), b"")).collect();
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
