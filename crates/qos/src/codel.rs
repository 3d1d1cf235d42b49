//! CoDel: when to tell a flow that its queue is standing (RFC 8289).

use std::time::Duration;

use packet::Instant;

use crate::Rate;

/// The two times that CoDel is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoDelConfig {
    /// Delay of a queue that is acceptable when it persists.
    pub target: Duration,
    /// How long a delay must persist: a round trip of most flows.
    pub interval: Duration,
    /// Longest packet in bytes: a queue that holds no more than this is never signalled (RFC 8289
    /// §4.2).
    pub mtu: usize,
}

impl CoDelConfig {
    /// What RFC 8289 §4 recommends for the Internet: 5 ms, 100 ms.
    pub const DEFAULT: CoDelConfig = CoDelConfig {
        target: Duration::from_millis(5),
        interval: Duration::from_millis(100),
        mtu: crate::QUANTUM,
    };

    /// The defaults, with a target no shorter than one and a half packets take at `rate`: below
    /// about 3.6 Mbit/s a packet in the making would otherwise count as a standing queue (RFC 8290
    /// §5.2.2).
    #[must_use]
    pub fn for_rate(rate: Rate) -> Self {
        let default = Self::DEFAULT;
        let target = default.target.max(rate.time_of(default.mtu) * 3 / 2);
        let interval = (default.interval + (target - default.target)).max(target * 2);
        Self { target, interval, ..default }
    }
}

/// What is to happen to a packet that was just taken from its queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Send it.
    Deliver,
    /// Signal congestion with it: mark it, or drop it and judge the next one.
    Signal,
}

/// The state of one queue (RFC 8289 §5).
///
/// The RFC's dequeue routine is turned inside out: it is told of each packet taken and says what to
/// do with it, so that it need not know how packets are kept.
#[derive(Clone, Debug, Default)]
pub struct CoDel {
    phase: Phase,
    /// When the delay will have been above target for an interval; `None` while it is below.
    first_above: Option<Instant>,
    /// When the next signal is due.
    signal_next: Instant,
    /// Signals since the phase began.
    count: u32,
    /// `count` when the phase began.
    count_before: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// The delay was below target within the last interval.
    #[default]
    Accepting,
    /// Signalling at `signal_next`.
    Signalling,
    /// A signal was given; if the delay is still too long at the next packet, `signal_next` moves
    /// on.
    Signalled,
}

/// Signals of an earlier phase are a guide if it ended no longer ago than this many intervals.
const MEMORY_INTERVALS: u32 = 16;

impl CoDel {
    /// Judges a packet that waited for `sojourn` and leaves `backlog` bytes behind it in its queue.
    #[inline]
    pub fn judge(
        &mut self,
        config: &CoDelConfig,
        sojourn: Duration,
        backlog: usize,
        now: Instant,
    ) -> Judgement {
        if !self.is_standing(config, sojourn, backlog, now) {
            self.phase = Phase::Accepting;
            return Judgement::Deliver;
        }
        match self.phase {
            Phase::Accepting => {
                self.begin(config, now);
                Judgement::Signal
            }
            Phase::Signalling if now < self.signal_next => Judgement::Deliver,
            Phase::Signalling => self.signal(),
            Phase::Signalled => {
                self.signal_next += spacing(config, self.count);
                self.phase = Phase::Signalling;
                if now < self.signal_next { Judgement::Deliver } else { self.signal() }
            }
        }
    }

    /// Says that the queue was found empty.
    #[inline]
    pub fn handle_empty(&mut self) {
        self.first_above = None;
        self.phase = Phase::Accepting;
    }

    fn is_standing(
        &mut self,
        config: &CoDelConfig,
        sojourn: Duration,
        backlog: usize,
        now: Instant,
    ) -> bool {
        if backlog <= config.mtu || sojourn < config.target {
            self.first_above = None;
            return false;
        }
        now >= *self.first_above.get_or_insert(now + config.interval)
    }

    fn begin(&mut self, config: &CoDelConfig, now: Instant) {
        let signals = self.count.wrapping_sub(self.count_before);
        let is_recent = now.saturating_since(self.signal_next) < config.interval * MEMORY_INTERVALS;
        self.count = if signals > 1 && is_recent { signals } else { 1 };
        self.count_before = self.count;
        self.signal_next = now + spacing(config, self.count);
        self.phase = Phase::Signalling;
    }

    fn signal(&mut self) -> Judgement {
        self.count = self.count.saturating_add(1);
        self.phase = Phase::Signalled;
        Judgement::Signal
    }
}

/// Time between signals: the drop rate grows linearly, as TCP's throughput needs (RFC 8289 §3.3).
fn spacing(config: &CoDelConfig, count: u32) -> Duration {
    let nanos = config.interval.as_nanos() as f64 / f64::from(count).sqrt();
    Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// RFC 8289 §5 step by step: a queue of (arrival, length), dequeued as the RFC's text has it.
    #[derive(Default)]
    struct Model {
        queue: VecDeque<(u64, usize)>,
        bytes: usize,
        first_above: u64,
        drop_next: u64,
        count: u32,
        lastcount: u32,
        dropping: bool,
        dropped: Vec<u64>,
    }

    const TARGET: u64 = 5_000_000;
    const INTERVAL: u64 = 100_000_000;

    fn law(t: u64, count: u32) -> u64 {
        t + (INTERVAL as f64 / f64::from(count).sqrt()) as u64
    }

    impl Model {
        fn take(&mut self, now: u64) -> (Option<u64>, bool) {
            let Some((arrival, len)) = self.queue.pop_front() else {
                self.first_above = 0;
                return (None, false);
            };
            self.bytes -= len;
            let mut ok_to_drop = false;
            if now - arrival < TARGET || self.bytes <= CoDelConfig::DEFAULT.mtu {
                self.first_above = 0;
            } else if self.first_above == 0 {
                self.first_above = now + INTERVAL;
            } else if now >= self.first_above {
                ok_to_drop = true;
            }
            (Some(arrival), ok_to_drop)
        }

        fn dequeue(&mut self, now: u64) -> Option<u64> {
            let (mut packet, mut ok_to_drop) = self.take(now);
            if self.dropping {
                self.dropping = ok_to_drop;
                while now >= self.drop_next && self.dropping {
                    self.dropped.extend(packet);
                    self.count += 1;
                    (packet, ok_to_drop) = self.take(now);
                    self.dropping = ok_to_drop;
                    if ok_to_drop {
                        self.drop_next = law(self.drop_next, self.count);
                    }
                }
            } else if ok_to_drop {
                self.dropped.extend(packet);
                (packet, _) = self.take(now);
                self.dropping = true;
                let delta = self.count - self.lastcount;
                let is_recent = now.saturating_sub(self.drop_next) < 16 * INTERVAL;
                self.count = if delta > 1 && is_recent { delta } else { 1 };
                self.drop_next = law(now, self.count);
                self.lastcount = self.count;
            }
            packet
        }
    }

    /// The same queue, judged packet by packet.
    #[derive(Default)]
    struct Ours {
        queue: VecDeque<(u64, usize)>,
        bytes: usize,
        codel: CoDel,
        dropped: Vec<u64>,
    }

    impl Ours {
        fn dequeue(&mut self, now: u64) -> Option<u64> {
            loop {
                let Some((arrival, len)) = self.queue.pop_front() else {
                    self.codel.handle_empty();
                    return None;
                };
                self.bytes -= len;
                let sojourn = Duration::from_nanos(now - arrival);
                let at = Instant::from_nanos(now);
                match self.codel.judge(&CoDelConfig::DEFAULT, sojourn, self.bytes, at) {
                    Judgement::Deliver => return Some(arrival),
                    Judgement::Signal => self.dropped.push(arrival),
                }
            }
        }
    }

    /// Phases of load: (packets, time between arrivals, time between departures), in microseconds.
    fn run(phases: &[(u32, u64, u64)]) -> (Vec<u64>, Vec<u64>) {
        let (mut model, mut ours) = (Model::default(), Ours::default());
        let (mut arrival, mut departure) = (1_000_000_000, 1_000_000_000);
        let mut delivered = Vec::new();
        for &(packets, arrival_gap, departure_gap) in phases {
            for n in 0..packets {
                arrival += arrival_gap * 1000 + u64::from(n % 7);
                while departure < arrival {
                    let packet = model.dequeue(departure);
                    assert_eq!(ours.dequeue(departure), packet);
                    delivered.extend(packet);
                    departure += departure_gap * 1000;
                }
                let len = if n % 5 == 0 { 100 } else { 1514 };
                model.queue.push_back((arrival, len));
                model.bytes += len;
                ours.queue.push_back((arrival, len));
                ours.bytes += len;
            }
        }
        assert_eq!(ours.dropped, model.dropped);
        (delivered, ours.dropped)
    }

    #[test]
    fn a_burst_that_drains_within_an_interval_is_left_alone() {
        // 60 packets at once, then few: the queue is gone after 90 ms.
        let (delivered, dropped) = run(&[(60, 0, 1200), (100, 6000, 1200)]);
        assert!(dropped.is_empty());
        assert!(delivered.len() > 150);
    }

    #[test]
    fn a_standing_queue_is_signalled_after_an_interval_and_then_ever_faster() {
        let (_, dropped) = run(&[(3000, 1000, 1100)]);
        assert!(dropped.len() > 20);
        let gaps: Vec<u64> = dropped.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps[0] > 50_000_000 && gaps[gaps.len() - 1] < gaps[0] / 2);
    }

    #[test]
    fn a_queue_of_one_packet_is_never_signalled() {
        let mut codel = CoDel::default();
        for second in 0..100 {
            let judgement = codel.judge(
                &CoDelConfig::DEFAULT,
                Duration::from_secs(1),
                CoDelConfig::DEFAULT.mtu,
                Instant::from_secs(second),
            );
            assert_eq!(judgement, Judgement::Deliver);
        }
    }

    #[test]
    fn the_target_of_a_slow_line_leaves_room_for_a_packet() {
        let at = |bits| CoDelConfig::for_rate(Rate::from_bits_per_sec(bits).unwrap());
        assert_eq!(at(20_000_000), CoDelConfig::DEFAULT);
        assert_eq!(at(1_000_000).target, Duration::from_micros(18_168));
        assert_eq!(at(1_000_000).interval, Duration::from_micros(113_168));
        assert!(at(64_000).interval >= at(64_000).target * 2);
    }

    proptest! {
        #[test]
        fn decisions_are_those_of_the_rfc(
            phases in proptest::collection::vec((1u32..600, 0u64..3000, 100u64..3000), 1..8),
        ) {
            run(&phases);
        }
    }
}
