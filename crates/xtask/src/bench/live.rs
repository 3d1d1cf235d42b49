//! Traffic through the router in a namespace, beside the kernel's nftables masquerade in the same place.
//!
//! Both routers are measured in turn, round by round; a ratio is the median of those of each round, so that what else the
//! machine does from one round to the next does not count. Rows that end in `.cpu` say what all processors together spent
//! on a unit of the work, both ends and the generator included.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::house::{ISP, Programs};

use super::{Bar, Reference, Row, Site};
use crate::measure::connections::Server;
use crate::measure::udp::{Flood, Sink};
use crate::measure::{Direction, Rtt, cpu, iperf, median, median_ratio, ping_every, throughput_of};

const PEER: &str = "nftables masquerade";

/// Streams of a TCP test, and the share of the kernel's throughput that they have to reach.
const TCP: [(u32, f64); 2] = [(1, 0.85), (4, 0.65)];
const UDP_64: Bar = Bar::RatioAtLeast(1.9);
const CONNECTIONS: Bar = Bar::RatioAtLeast(0.8);
const PING_IDLE_P50_MICROS: Bar = Bar::ValueAtMost(40.0);
const PING_IDLE_P99_MICROS: Bar = Bar::ValueAtMost(130.0);
const PING_LOADED_P99_MICROS: Bar = Bar::ValueAtMost(1700.0);
const IDLE_CPU_PERCENT: Bar = Bar::ValueAtMost(0.5);

/// Pings of a round, and the time between two.
const PINGS: u32 = 1000;
const PING_GAP: Duration = Duration::from_millis(2);

/// In a millisecond, which is what ping prints.
const MICROS: f64 = 1e3;

/// Longest time that a load may take beyond its own.
const LOAD_PATIENCE: Duration = Duration::from_secs(10);

/// Seconds that a load is started before, and lasts beyond, what it is to load.
const LOAD_MARGIN_SECS: u32 = 1;

/// What is measured, and how much.
pub(super) struct Plan<'a> {
    pub(super) quick: bool,
    /// What the names of the rows begin with.
    pub(super) only: &'a str,
}

/// What was measured in one run through one router, and the processor time of the whole machine meanwhile.
struct Sample {
    value: f64,
    busy: Duration,
}

/// Runs through both routers, a pair for each round.
struct Pairs(Vec<[Sample; 2]>);

/// A site, and how long it is measured.
struct Bench {
    site: Site,
    rounds: usize,
    secs: u32,
}

/// Measures something; its rows.
type Test = fn(&Bench) -> Result<Vec<Row>>;

/// Measures.
pub(super) fn run(programs: &Programs, plan: &Plan<'_>) -> Result<Vec<Row>> {
    let (rounds, secs) = if plan.quick { (3, 2) } else { (5, 5) };
    let bench = Bench { site: Site::build(programs)?, rounds, secs };
    let tests: [(&str, Test); 9] = [
        ("live.idle_cpu", Bench::idle),
        ("live.ping_idle", Bench::ping_idle),
        ("live.tcp_1.up", |bench| bench.tcp(TCP[0], Direction::Up)),
        ("live.tcp_1.down", |bench| bench.tcp(TCP[0], Direction::Down)),
        ("live.tcp_4.up", |bench| bench.tcp(TCP[1], Direction::Up)),
        ("live.tcp_4.down", |bench| bench.tcp(TCP[1], Direction::Down)),
        ("live.udp_64", Bench::udp),
        ("live.connections", Bench::connections),
        ("live.ping_loaded", Bench::ping_loaded),
    ];
    let mut rows = Vec::new();
    for (name, test) in tests {
        if name.starts_with(plan.only) || plan.only.starts_with(name) {
            println!("{name}");
            rows.extend(test(&bench).with_context(|| name.to_owned())?);
        }
    }
    Ok(rows)
}

impl Bench {
    /// Runs `test`, which is told the address of the ISP that the router in question leads to, through both in turn.
    fn pairs(&self, mut test: impl FnMut(&str) -> Result<f64>) -> Result<Pairs> {
        let through_kernel = self.site.kernel.reach(&self.site.host)?;
        let mut sample = |address| -> Result<Sample> {
            let before = cpu::busy()?;
            let value = test(address)?;
            Ok(Sample { value, busy: cpu::busy()?.saturating_sub(before) })
        };
        let rounds = (0..self.rounds).map(|_| Ok([sample(ISP)?, sample(through_kernel)?]));
        Ok(Pairs(rounds.collect::<Result<_>>()?))
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.secs.into())
    }

    /// What the router takes of a core while there is nothing to do. The kernel's takes nothing.
    fn idle(&self) -> Result<Vec<Row>> {
        let pid = self.site.router.process.pid();
        let shares = (0..self.rounds).map(|_| Ok(100.0 * cpu::share_of(pid, self.time())?));
        let shares: Vec<f64> = shares.collect::<Result<_>>()?;
        let value = median(&shares);
        let (name, unit, bar) = ("live.idle_cpu".into(), "%".into(), Some(IDLE_CPU_PERCENT));
        Ok(vec![Row { name, value, unit, reference: None, bar }])
    }

    fn ping_idle(&self) -> Result<Vec<Row>> {
        let ping = |address: &str| ping_every(&self.site.host, address, PINGS, PING_GAP);
        let [p50, p99] = self.pings(ping)?;
        let p50 = p50.row("live.ping_idle_p50", "us", Some(PING_IDLE_P50_MICROS));
        Ok(vec![p50, p99.row("live.ping_idle_p99", "us", Some(PING_IDLE_P99_MICROS))])
    }

    /// While one stream goes to the Internet by the same router.
    fn ping_loaded(&self) -> Result<Vec<Row>> {
        let host = &self.site.host;
        let secs = (PING_GAP * PINGS).as_secs() as u32 + 2 * LOAD_MARGIN_SECS;
        let [p50, p99] = self.pings(|address| {
            let mut load = host.spawn(iperf(address, Direction::Up, secs))?;
            // Not counted: the stream is still finding its rate.
            ping_every(host, address, PINGS / 2 * LOAD_MARGIN_SECS, PING_GAP)?;
            let times = ping_every(host, address, PINGS, PING_GAP)?;
            let status = load.wait(LOAD_PATIENCE)?;
            ensure!(status.success(), "iperf3: {status}\n{}", load.log());
            Ok(times)
        })?;
        let p50 = p50.row("live.ping_loaded_p50", "us", None);
        Ok(vec![p50, p99.row("live.ping_loaded_p99", "us", Some(PING_LOADED_P99_MICROS))])
    }

    /// The 50th and the 99th percentile of each run, microseconds.
    fn pings(&self, ping: impl Fn(&str) -> Result<Rtt>) -> Result<[Pairs; 2]> {
        let mut p50 = Vec::new();
        let p99 = self.pairs(|address| {
            let times = ping(address)?;
            p50.push(Sample { value: times.median() * MICROS, busy: Duration::ZERO });
            Ok(times.p99() * MICROS)
        })?;
        let mut p50 = p50.into_iter();
        let pairs = std::iter::from_fn(|| Some([p50.next()?, p50.next()?]));
        Ok([Pairs(pairs.collect()), p99])
    }

    fn tcp(&self, (streams, bar): (u32, f64), direction: Direction) -> Result<Vec<Row>> {
        let (host, secs) = (&self.site.host, self.secs);
        let pairs = self.pairs(|address| {
            let bits = throughput_of(host, address, direction, secs, streams)?;
            Ok(bits / 1e9)
        })?;
        let name = format!("live.tcp_{streams}.{}", direction.word());
        // Gigabits per second for so many seconds, in bytes.
        let cost = pairs.cost(&name, "s/GB", f64::from(secs) / 8.0);
        Ok(vec![pairs.row(&name, "Gbit/s", Some(Bar::RatioAtLeast(bar))), cost])
    }

    fn udp(&self) -> Result<Vec<Row>> {
        let sink = Sink::open(&self.site.house.isp)?;
        let secs = self.time().as_secs_f64();
        let pairs = self.pairs(|address| {
            let Flood { sent, arrived } = sink.flood(&self.site.host, address, self.time())?;
            println!("  {address}: {sent} sent, {arrived} arrived");
            Ok(arrived as f64 / secs / 1e6)
        })?;
        let cost = pairs.cost("live.udp_64", "s/Mpkt", secs);
        Ok(vec![pairs.row("live.udp_64", "Mpkt/s", Some(UDP_64)), cost])
    }

    fn connections(&self) -> Result<Vec<Row>> {
        let server = Server::open(&self.site.house.isp)?;
        let secs = self.time().as_secs_f64();
        let pairs = self.pairs(|address| {
            let opened = server.serve(&self.site.host, address, self.time())?;
            Ok(opened as f64 / secs / 1e3)
        })?;
        let cost = pairs.cost("live.connections", "ms", secs);
        Ok(vec![pairs.row("live.connections", "1000/s", Some(CONNECTIONS)), cost])
    }
}

impl Pairs {
    fn row(&self, name: &str, unit: &str, bar: Option<Bar>) -> Row {
        self.row_of(name.to_owned(), unit, bar, |sample| sample.value)
    }

    /// The processor time of a unit, where each sample's value times `per_value` is how many there were.
    fn cost(&self, name: &str, unit: &str, per_value: f64) -> Row {
        let cost = |sample: &Sample| sample.busy.as_secs_f64() / (sample.value * per_value);
        self.row_of(format!("{name}.cpu"), unit, None, cost)
    }

    fn row_of(
        &self,
        name: String,
        unit: &str,
        bar: Option<Bar>,
        value: impl Fn(&Sample) -> f64,
    ) -> Row {
        let of =
            |which: usize| -> Vec<f64> { self.0.iter().map(|pair| value(&pair[which])).collect() };
        let (ours, kernel) = (of(0), of(1));
        let ratio = median_ratio(&ours, &kernel);
        let reference = Reference { name: PEER.into(), value: median(&kernel), ratio };
        Row { name, value: median(&ours), unit: unit.into(), reference: Some(reference), bar }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: f64) -> Sample {
        Sample { value, busy: Duration::from_secs(3) }
    }

    #[test]
    fn a_ratio_is_that_of_a_round_and_a_cost_that_of_a_unit() {
        let pairs = Pairs(vec![
            [sample(2.0), sample(4.0)],
            [sample(30.0), sample(50.0)],
            [sample(1.0), sample(1.0)],
        ]);
        let row = pairs.row("live.udp_64", "Mpkt/s", Some(Bar::RatioAtLeast(0.6)));
        let reference = row.reference.as_ref().unwrap();
        assert_eq!((row.value, reference.value, reference.ratio), (2.0, 4.0, 0.6));
        assert!(row.holds());
        let cost = pairs.cost("live.udp_64", "s/Mpkt", 3.0);
        assert_eq!((cost.name.as_str(), cost.value), ("live.udp_64.cpu", 0.5));
        assert_eq!(cost.reference.unwrap().value, 0.25);
    }
}
