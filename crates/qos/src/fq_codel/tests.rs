use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn config(bytes: usize, packets: usize) -> FqConfig {
    FqConfig { limits: FqLimits { bytes, packets }, codel: CoDelConfig::DEFAULT, ipv4_offset: 14 }
}

/// A frame that says which flow it is of and where it stands in it.
fn packet(flow: u32, number: u32, len: usize) -> PacketBuf {
    let mut frame = vec![0; len.max(22)];
    frame[14..18].copy_from_slice(&flow.to_be_bytes());
    frame[18..22].copy_from_slice(&number.to_be_bytes());
    let mut buf = PacketBuf::small();
    assert!(buf.copy_from(&frame));
    buf
}

/// A frame of an ECN-capable flow.
fn ect_packet(len: usize) -> PacketBuf {
    let mut frame = vec![0; len];
    frame[12..17].copy_from_slice(&[8, 0, 0x45, 0b10, 0]);
    let mut buf = PacketBuf::small();
    assert!(buf.copy_from(&frame));
    buf
}

fn name(packet: &PacketBuf) -> (u32, u32) {
    let word = |at: usize| u32::from_be_bytes(packet.frame()[at..at + 4].try_into().unwrap());
    (word(14), word(18))
}

fn key(flow: u32) -> QueueKey {
    QueueKey { host: 1, flow }
}

fn no_drop(packet: PacketBuf, reason: DropReason) {
    panic!("dropped {:?} for {reason:?}", name(&packet));
}

/// Flows that do not share a queue.
fn separate_flows(count: usize) -> Vec<u32> {
    let mut flows = BTreeMap::new();
    for flow in 0.. {
        flows.entry(key(flow).index()).or_insert(flow);
        if flows.len() == count {
            break;
        }
    }
    flows.into_values().collect()
}

fn drain(fq: &mut FqCodel, now: Instant) -> Vec<(u32, u32)> {
    std::iter::from_fn(|| fq.dequeue(now, &mut no_drop)).map(|p| name(&p)).collect()
}

#[test]
fn taking_any_empties_the_queue_with_each_flow_in_order_however_late() {
    let mut fq = FqCodel::new(config(1 << 20, 100));
    for number in 0..10 {
        for flow in [1, 2] {
            fq.enqueue(packet(flow, number, 100), key(flow), Instant::ZERO, &mut no_drop);
        }
    }
    let mut taken: Vec<_> = std::iter::from_fn(|| fq.take_any()).map(|p| name(&p)).collect();
    taken.sort_by_key(|(flow, _)| *flow);
    let expected = [1, 2].into_iter().flat_map(|flow| (0..10).map(move |number| (flow, number)));
    assert_eq!(taken, expected.collect::<Vec<_>>());
    assert_eq!((fq.backlog_bytes(), fq.backlog_packets()), (0, 0));
    assert_eq!(fq.stats().enqueued, fq.stats().delivered);
    fq.enqueue(packet(1, 99, 100), key(1), Instant::ZERO, &mut no_drop);
    assert_eq!(drain(&mut fq, Instant::ZERO), [(1, 99)]);
}

#[test]
fn flows_take_turns_by_bytes() {
    let mut fq = FqCodel::new(config(1 << 20, 1000));
    let flows = separate_flows(2);
    for n in 0..300 {
        fq.enqueue(packet(flows[0], n, 1514), key(flows[0]), Instant::ZERO, &mut no_drop);
        fq.enqueue(packet(flows[1], n, 500), key(flows[1]), Instant::ZERO, &mut no_drop);
    }
    let mut bytes = BTreeMap::new();
    for _ in 0..300 {
        let packet = fq.dequeue(Instant::ZERO, &mut no_drop).unwrap();
        *bytes.entry(name(&packet).0).or_insert(0) += packet.len();
    }
    let difference = bytes[&flows[0]].abs_diff(bytes[&flows[1]]);
    assert!(difference <= 2 * QUANTUM, "{bytes:?}");
}

#[test]
fn a_flow_that_sends_little_goes_first() {
    let mut fq = FqCodel::new(config(1 << 20, 1000));
    let flows = separate_flows(3);
    for n in 0..50 {
        for &bulk in &flows[..2] {
            fq.enqueue(packet(bulk, n, 1514), key(bulk), Instant::ZERO, &mut no_drop);
        }
    }
    for _ in 0..10 {
        fq.dequeue(Instant::ZERO, &mut no_drop).unwrap();
    }
    fq.enqueue(packet(flows[2], 0, 200), key(flows[2]), Instant::ZERO, &mut no_drop);
    // The bulk flow whose turn it is may end it; then comes the sparse one.
    let next: Vec<u32> =
        (0..2).map(|_| name(&fq.dequeue(Instant::ZERO, &mut no_drop).unwrap()).0).collect();
    assert!(next.contains(&flows[2]), "{next:?}");
}

#[test]
fn a_flow_that_always_has_one_packet_does_not_starve_the_others() {
    let mut fq = FqCodel::new(config(1 << 20, 1000));
    let flows = separate_flows(2);
    for n in 0..100 {
        fq.enqueue(packet(flows[0], n, 1514), key(flows[0]), Instant::ZERO, &mut no_drop);
    }
    let mut bulk = 0;
    for n in 0..200 {
        fq.enqueue(packet(flows[1], n, 1514), key(flows[1]), Instant::ZERO, &mut no_drop);
        bulk += u32::from(name(&fq.dequeue(Instant::ZERO, &mut no_drop).unwrap()).0 == flows[0]);
    }
    assert!(bulk >= 95, "{bulk}");
}

#[test]
fn overflow_takes_the_head_of_the_fattest_queue() {
    let mut fq = FqCodel::new(config(1 << 20, 100));
    let flows = separate_flows(2);
    for n in 0..99 {
        fq.enqueue(packet(flows[0], n, 1000), key(flows[0]), Instant::ZERO, &mut no_drop);
    }
    fq.enqueue(packet(flows[1], 0, 1000), key(flows[1]), Instant::ZERO, &mut no_drop);
    let mut dropped = Vec::new();
    fq.enqueue(packet(flows[1], 1, 1000), key(flows[1]), Instant::ZERO, &mut |p, reason| {
        dropped.push((name(&p), reason));
    });
    assert_eq!(dropped, [((flows[0], 0), DropReason::QueueFull)]);
    assert_eq!(fq.backlog_packets(), 100);
    assert_eq!(fq.stats().drops_overflow, 1);
}

#[test]
fn a_long_packet_may_cost_several_short_ones() {
    let mut fq = FqCodel::new(config(10_000, 1000));
    let flows = separate_flows(2);
    for n in 0..100 {
        fq.enqueue(packet(flows[0], n, 100), key(flows[0]), Instant::ZERO, &mut no_drop);
    }
    let mut dropped = 0;
    fq.enqueue(packet(flows[1], 0, 1514), key(flows[1]), Instant::ZERO, &mut |_, _| dropped += 1);
    assert_eq!(dropped, 16);
    assert!(fq.backlog_bytes() <= 10_000);
}

#[test]
fn a_standing_queue_is_marked_if_it_can_be_and_cut_if_not() {
    for is_ect in [true, false] {
        let mut fq = FqCodel::new(config(1 << 20, 1000));
        let mut now = Instant::ZERO;
        let mut dropped = 0;
        for n in 0..500 {
            let arrival = if is_ect { ect_packet(1514) } else { packet(1, n, 1514) };
            fq.enqueue(arrival, key(1), now, &mut no_drop);
            now += Duration::from_millis(1);
            if n % 2 == 0 {
                fq.dequeue(now, &mut |_, reason| {
                    assert_eq!(reason, DropReason::CodelDrop);
                    dropped += 1;
                });
            }
        }
        let stats = fq.stats();
        assert_eq!(stats.drops_codel, dropped);
        assert_eq!((stats.marks > 0, dropped > 0), (is_ect, !is_ect));
        assert!(stats.sojourn.percentile(50) > Duration::from_millis(5));
    }
}

#[test]
fn both_halves_of_the_key_choose_the_queue() {
    let base = QueueKey { host: 7, flow: 7 }.index();
    let by_host = (0..64).filter(|&host| QueueKey { host, flow: 7 }.index() != base).count();
    let by_flow = (0..64).filter(|&flow| QueueKey { host: 7, flow }.index() != base).count();
    assert!(by_host >= 60 && by_flow >= 60);
}

#[test]
fn consecutive_keys_spread_evenly() {
    for host_bits in [0, 4] {
        let mut load = vec![0u32; QUEUES];
        for n in 0..QUEUES as u32 * 16 {
            let host = n & ((1 << host_bits) - 1);
            load[QueueKey { host, flow: n >> host_bits }.index()] += 1;
        }
        assert!(load.iter().all(|&packets| packets < 64), "{:?}", load.iter().max());
    }
}

#[test]
fn limits_follow_the_rate() {
    let at = |bits| FqLimits::for_rate(Rate::from_bits_per_sec(bits).unwrap());
    assert_eq!(at(64_000), FqLimits { bytes: 256 << 10, packets: 512 });
    assert_eq!(at(20_000_000).bytes, 1_250_000);
    assert_eq!(at(10_000_000_000), FqLimits { bytes: 16 << 20, packets: 32_768 });
}

#[derive(Clone, Debug)]
enum Step {
    Enqueue { flow: u32, len: usize },
    Dequeue,
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0u32..30, 22usize..1900).prop_map(|(flow, len)| Step::Enqueue { flow, len }),
        4 => Just(Step::Dequeue),
        1 => (0u64..50).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn packets_are_conserved_in_order_and_within_the_limits(
        steps in proptest::collection::vec(any_step(), 0..600),
    ) {
        const BYTES: usize = 40_000;
        const PACKETS: usize = 60;
        let mut fq = FqCodel::new(config(BYTES, PACKETS));
        let mut now = Instant::ZERO;
        let mut model: BTreeMap<u32, VecDeque<(u32, usize)>> = BTreeMap::new();
        let mut gone = Vec::new();
        for (number, step) in (0u32..).zip(steps) {
            match step {
                Step::Enqueue { flow, len } => {
                    model.entry(flow).or_default().push_back((number, len));
                    let mut sink = |p, _| gone.push(name(&p));
                    fq.enqueue(packet(flow, number, len), key(flow), now, &mut sink);
                }
                Step::Dequeue => {
                    let had = fq.backlog_packets();
                    let packet = fq.dequeue(now, &mut |p, _| gone.push(name(&p)));
                    prop_assert!(packet.is_some() || had == gone.len());
                    gone.extend(packet.map(|p| name(&p)));
                }
                Step::Wait(millis) => now += Duration::from_millis(millis),
            }
            // Whatever left, delivered or dropped, was the oldest of its flow.
            for (flow, number) in gone.drain(..) {
                let oldest = model.get_mut(&flow).and_then(VecDeque::pop_front);
                prop_assert_eq!(oldest.map(|(number, _)| number), Some(number));
            }
            let packets: usize = model.values().map(VecDeque::len).sum();
            let bytes: usize = model.values().flatten().map(|&(_, len)| len).sum();
            prop_assert_eq!((fq.backlog_packets(), fq.backlog_bytes()), (packets, bytes));
            prop_assert!(packets <= PACKETS && bytes <= BYTES);
            for queue in fq.queues.iter().filter(|queue| queue.place != Place::Idle) {
                prop_assert!(queue.deficit > -1900 && queue.deficit <= QUANTUM as i64);
            }
        }
    }

    #[test]
    fn nobody_with_packets_waits_longer_than_a_round(
        lens in proptest::collection::vec(60usize..=1514, 2..40),
    ) {
        let flows = separate_flows(lens.len());
        let mut fq = FqCodel::new(config(1 << 24, 10_000));
        for (&flow, &len) in flows.iter().zip(&lens) {
            for n in 0..60 {
                fq.enqueue(packet(flow, n, len), key(flow), Instant::ZERO, &mut no_drop);
            }
        }
        // In a round everybody sends a quantum and at most the rest of a packet.
        let round: usize = lens.iter().map(|len| QUANTUM / len + 2).sum();
        let mut last: BTreeMap<u32, usize> = flows.iter().map(|&flow| (flow, 0)).collect();
        for (turn, (flow, number)) in drain(&mut fq, Instant::ZERO).into_iter().enumerate() {
            prop_assert!(turn - last[&flow] <= 2 * round, "{flow} waited from {}", last[&flow]);
            last.insert(flow, turn);
            if number == 59 {
                break;
            }
        }
    }
}
