use std::fmt::Write as _;
use std::time::Duration;

use super::*;

fn rate(bits: u64) -> Rate {
    Rate::from_bits_per_sec(bits).unwrap()
}

fn packet(len: usize) -> PacketBuf {
    let mut buf = PacketBuf::small();
    buf.set_len(len);
    buf
}

fn no_drop(_: PacketBuf, reason: DropReason) {
    panic!("dropped for {reason:?}");
}

const BULK: usize = 1514;
const VOICE: usize = 214;

/// What a line did with four greedy flows that offer a quarter more than it carries, and a call of
/// 50 packets per second.
struct Outcome {
    /// Wire bytes that left, relative to the rate, in parts per million off.
    rate_error_ppm: i64,
    /// Delays of the call's packets, sorted.
    voice: Vec<Duration>,
    voice_lost: u64,
    bulk_delay: Duration,
}

/// Arrivals of one flow.
struct Source {
    key: QueueKey,
    len: usize,
    gap: Duration,
    next: Instant,
}

fn run(bits: u64, overhead: Overhead) -> Outcome {
    let rate = rate(bits);
    let mut shaper = Shaper::new(ShaperConfig::for_rate(rate, overhead), Instant::ZERO);
    let bulk_gap = rate.time_of(overhead.wire_len(BULK)) * 16 / 5;
    let source = |flow, len, gap| {
        let key = QueueKey { host: 1, flow };
        Source { key, len, gap, next: Instant::ZERO + gap / (flow + 2) }
    };
    let mut sources: Vec<Source> = (0..4).map(|flow| source(flow, BULK, bulk_gap)).collect();
    sources.push(source(4, VOICE, Duration::from_millis(20)));
    // Long enough for 8,000 packets, but no less than 15 of the call.
    let end = Instant::ZERO + (bulk_gap * 2000).max(Duration::from_millis(300));
    let (mut now, mut wire_bytes) = (Instant::ZERO, 0u64);
    let mut waiting = std::collections::VecDeque::new();
    let (mut voice, mut lost) = (Vec::new(), 0);
    loop {
        let arrival = sources.iter().map(|s| s.next).min().unwrap();
        now = shaper.next_ready(now).map_or(arrival, |ready| ready.min(arrival));
        if now >= end {
            break;
        }
        for source in sources.iter_mut().filter(|s| s.next <= now) {
            if source.len == VOICE {
                waiting.push_back(now);
            }
            source.next += source.gap;
            shaper.enqueue(packet(source.len), source.key, now, &mut |p, _| {
                lost += u64::from(p.len() == VOICE);
            });
        }
        let sent = shaper.dequeue(now, &mut |p, _| lost += u64::from(p.len() == VOICE));
        if let Some(packet) = sent {
            wire_bytes += overhead.wire_len(packet.len()) as u64;
            if packet.len() == VOICE && lost == 0 {
                voice.push(now - waiting.pop_front().unwrap());
            }
        }
    }
    voice.sort();
    let due = bits as f64 / 8.0 * end.as_nanos() as f64 / 1e9;
    Outcome {
        rate_error_ppm: ((wire_bytes as f64 / due - 1.0) * 1e6).round() as i64,
        voice,
        voice_lost: lost,
        bulk_delay: shaper.stats().sojourn.percentile(50),
    }
}

#[test]
fn rate_and_delay_table_in_virtual_time() {
    let mut table = String::from("\n");
    let lines = [
        (512_000, "none"),
        (1_000_000, "pppoe-llc-atm"),
        (5_000_000, "docsis"),
        (20_000_000, "none"),
        (20_000_000, "pppoe-ptm"),
        (100_000_000, "ethernet"),
        (1_000_000_000, "ethernet"),
        (10_000_000_000, "none"),
    ];
    for (bits, preset) in lines {
        let outcome = run(bits, Overhead::preset(preset).unwrap());
        let voice_max = outcome.voice.last().unwrap();
        let median = outcome.voice[outcome.voice.len() / 2];
        assert_eq!(outcome.voice_lost, 0, "{bits}");
        writeln!(
            table,
            "{bits:>11} {preset:<13} {:>5} ppm  voice {:>6} µs, at most {:>6} µs",
            outcome.rate_error_ppm,
            median.as_micros(),
            voice_max.as_micros(),
        )
        .unwrap();
    }
    assert_eq!(table, TABLE);
}

/// One packet of the end of the run is what the rate is off by. A call that needs less than its
/// share waits for one packet in the making; at 512 kbit/s it needs nearly all of it, and waits for
/// its turn.
const TABLE: &str = "
     512000 none            -66 ppm  voice  23681 µs, at most  95119 µs
    1000000 pppoe-llc-atm    28 ppm  voice  17109 µs, at most  43917 µs
    5000000 docsis          -65 ppm  voice   1312 µs, at most   5507 µs
   20000000 none            -90 ppm  voice    305 µs, at most    603 µs
   20000000 pppoe-ptm        -5 ppm  voice    318 µs, at most    620 µs
  100000000 ethernet         30 ppm  voice     63 µs, at most    119 µs
 1000000000 ethernet          0 ppm  voice      4 µs, at most      8 µs
10000000000 none              0 ppm  voice      0 µs, at most      1 µs
";

#[test]
fn even_flows_that_do_not_slow_down_are_cut_back() {
    // They do not slow down, so the delay is what the growing drop rate makes of it.
    let outcome = run(20_000_000, Overhead::NONE);
    assert!(outcome.bulk_delay < Duration::from_millis(300), "{:?}", outcome.bulk_delay);
}

#[test]
fn an_empty_shaper_has_no_next_packet() {
    let mut shaper =
        Shaper::new(ShaperConfig::for_rate(rate(1_000_000), Overhead::NONE), Instant::ZERO);
    assert_eq!(shaper.next_ready(Instant::ZERO), None);
    assert!(shaper.dequeue(Instant::from_secs(1), &mut no_drop).is_none());
}

#[test]
fn idle_time_is_not_saved_up() {
    let mut shaper =
        Shaper::new(ShaperConfig::for_rate(rate(1_000_000), Overhead::NONE), Instant::ZERO);
    let now = Instant::from_secs(60);
    let key = QueueKey { host: 0, flow: 0 };
    for _ in 0..2 {
        shaper.enqueue(packet(1250), key, now, &mut no_drop);
    }
    assert!(shaper.dequeue(now, &mut no_drop).is_some());
    assert!(shaper.dequeue(now, &mut no_drop).is_none());
    let next = now + Duration::from_millis(10);
    assert_eq!(shaper.next_ready(now), Some(next));
    assert!(shaper.dequeue(next, &mut no_drop).is_some());
    assert_eq!((shaper.backlog_packets(), shaper.backlog_bytes()), (0, 0));
}

#[test]
fn a_worker_that_wakes_late_keeps_the_rate() {
    let rate = rate(100_000_000);
    let mut shaper = Shaper::new(ShaperConfig::for_rate(rate, Overhead::NONE), Instant::ZERO);
    let key = QueueKey { host: 0, flow: 0 };
    let mut sent = 0u64;
    // Wakes every millisecond for ten seconds; 8.26 packets fit into each.
    for millis in 0..10_000 {
        let now = Instant::from_millis(millis);
        while shaper.backlog_packets() < 50 {
            shaper.enqueue(packet(BULK), key, now, &mut |_, _| {});
        }
        while let Some(packet) = shaper.dequeue(now, &mut |_, _| {}) {
            sent += packet.len() as u64;
        }
    }
    let share = sent as f64 * 8.0 / 1e9;
    assert!((0.9999..1.0001).contains(&share), "{share}");
}

#[test]
fn a_new_rate_holds_at_once() {
    let mut shaper =
        Shaper::new(ShaperConfig::for_rate(rate(1_000_000), Overhead::NONE), Instant::ZERO);
    let key = QueueKey { host: 0, flow: 0 };
    for _ in 0..3 {
        shaper.enqueue(packet(1250), key, Instant::ZERO, &mut no_drop);
    }
    assert!(shaper.dequeue(Instant::ZERO, &mut no_drop).is_some());
    shaper.set_rate(rate(10_000_000));
    let now = Instant::from_millis(10);
    assert!(shaper.dequeue(now, &mut no_drop).is_some());
    assert_eq!(shaper.next_ready(now), Some(Instant::from_millis(11)));
}
