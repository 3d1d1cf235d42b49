//! What a packet costs in the fair queue and in the shaper, by number of flows.
#![allow(missing_docs, reason = "criterion_group makes a public function")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use packet::{DropReason, Instant, PacketBuf, Pool};
use qos::{FqCodel, Overhead, QueueKey, Rate, Shaper, ShaperConfig};

/// Packets that enter, and then leave, per round.
const BURST: usize = 64;
const FRAME_LEN: usize = 1514;

fn config() -> ShaperConfig {
    let rate = Rate::from_bits_per_sec(10_000_000_000).expect("10 Gbit/s is in range");
    ShaperConfig::for_rate(rate, Overhead::ETHERNET)
}

fn frame(pool: &mut Pool) -> PacketBuf {
    let mut packet = pool.take().expect("every packet of the last round came home");
    packet.set_len(FRAME_LEN);
    packet
}

/// The key of the next packet: flows in an order that is no order of their numbers.
fn next_key(state: &mut u32, flows: u32) -> QueueKey {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let flow = (*state >> 8) % flows;
    QueueKey { host: flow & 0xff, flow }
}

fn no_drop(_: PacketBuf, reason: DropReason) {
    panic!("dropped for {reason:?}");
}

/// Fills and drains a burst, behind as many packets as `standing` says.
fn fair_queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("qos");
    group.throughput(Throughput::Elements(BURST as u64));
    for (flows, standing) in [(1, 0), (10_000, 0), (10_000, 8192)] {
        let id = BenchmarkId::new("fq_codel", format!("flows_{flows}/standing_{standing}"));
        group.bench_function(id, |bencher| {
            let mut pool = Pool::small(standing + BURST);
            let mut config = config().queue;
            // With random arrivals some queue always stands; what is measured is the queueing.
            config.codel.target = Duration::from_secs(3600);
            let mut fq = FqCodel::new(config);
            let (mut state, mut now) = (1, Instant::ZERO);
            for _ in 0..standing {
                fq.enqueue(frame(&mut pool), next_key(&mut state, flows), now, &mut no_drop);
            }
            bencher.iter(|| {
                now += Duration::from_micros(5);
                for _ in 0..BURST {
                    let key = next_key(&mut state, flows);
                    fq.enqueue(frame(&mut pool), key, now, &mut no_drop);
                }
                for _ in 0..BURST {
                    let packet = fq.dequeue(now, &mut no_drop).expect("as many as came in");
                    pool.put(black_box(packet));
                }
            });
        });
    }
    group.finish();
}

/// The same through a token bucket, each packet at the time when it may leave.
fn shaper(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("qos");
    group.throughput(Throughput::Elements(BURST as u64));
    for flows in [1, 10_000] {
        group.bench_function(BenchmarkId::new("shaper", format!("flows_{flows}")), |bencher| {
            let mut pool = Pool::small(BURST);
            let mut shaper = Shaper::new(config(), Instant::ZERO);
            let (mut state, mut now) = (1, Instant::ZERO);
            bencher.iter(|| {
                for _ in 0..BURST {
                    let key = next_key(&mut state, flows);
                    shaper.enqueue(frame(&mut pool), key, now, &mut no_drop);
                }
                while let Some(ready) = shaper.next_ready(now) {
                    now = ready;
                    if let Some(packet) = shaper.dequeue(now, &mut no_drop) {
                        pool.put(black_box(packet));
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fair_queue, shaper);
criterion_main!(benches);
