//! A router with flows under measurement.

use quanta::Clock;

use crate::{BATCH, Mix, Random, Rig, Scale, Traffic, Way};

/// How much is measured.
pub struct Effort {
    /// Packets of one run, at least.
    pub packets: usize,
    /// Runs, of which the median counts.
    pub runs: usize,
    /// Flows at most.
    pub flows_max: usize,
}

/// A router with flows.
pub struct Site {
    /// The router.
    pub rig: Rig,
    /// Packets for it.
    pub traffic: Traffic,
    /// The number of the first flow, and how many there are.
    first: usize,
    flows: usize,
    random: Random,
}

impl Site {
    /// Opens the flows.
    #[must_use]
    pub fn new(flows: usize, mix: Mix, shaped: bool) -> Self {
        // A ninth of the table is free, as of one that was made for its load.
        Self::of(flows, mix, Scale { shaped, ..Scale::of((flows * 9 / 8).max(1024)) })
    }

    /// Opens flows in a router of this scale.
    #[must_use]
    pub fn of(flows: usize, mix: Mix, scale: Scale) -> Self {
        let (mut rig, mut traffic) = (Rig::new(&scale), Traffic::of_hosts(mix, scale.hosts));
        rig.open(&mut traffic, 0..flows);
        Self::with(rig, traffic, flows)
    }

    /// Takes a router over in which so many flows are open.
    #[must_use]
    pub fn with(rig: Rig, traffic: Traffic, flows: usize) -> Self {
        Self { rig, traffic, first: 0, flows, random: Random::new(0x1234_5678) }
    }

    /// Opens so many flows of each worker of one router.
    #[must_use]
    pub fn crew(flows: usize, workers: usize) -> Vec<Self> {
        let scale = Scale::of((flows * workers * 9 / 8).max(1024));
        let rigs = Rig::crew(&scale, workers).into_iter().enumerate();
        let of_worker = |(number, mut rig): (usize, Rig)| {
            let (first, mut traffic) = (number * flows, Traffic::new(Mix::Small));
            rig.open(&mut traffic, first..first + flows);
            Self { first, ..Self::with(rig, traffic, flows) }
        };
        rigs.map(of_worker).collect()
    }

    /// Ticks per packet where every flow has one; the mean.
    ///
    /// # Panics
    /// If a packet does not leave.
    pub fn ticks_of_each(&mut self, clock: &Clock, way: Way) -> f64 {
        let Self { rig, traffic, first, flows, .. } = self;
        let mut ticks = 0;
        for start in (0..*flows).step_by(BATCH) {
            let count = BATCH.min(*flows - start);
            let mut next = *first + start..;
            rig.load(traffic, way, count, || next.next().expect("endless"));
            let start = clock.raw();
            let left = rig.pass();
            ticks += clock.raw() - start;
            assert_eq!(left, count, "every packet leaves");
        }
        ticks as f64 / *flows as f64
    }

    /// Ticks per packet: the median of the batches of a run, and of the runs.
    ///
    /// # Panics
    /// If a packet does not leave.
    pub fn ticks(&mut self, clock: &Clock, effort: &Effort, way: Way, batch: usize) -> f64 {
        let Self { rig, traffic, first, flows, random } = self;
        let run = |_| {
            let batches = (0..effort.packets / batch).map(|_| {
                rig.load(traffic, way, batch, || *first + random.below(*flows));
                let start = clock.raw();
                let left = rig.pass();
                let ticks = clock.raw() - start;
                assert_eq!(left, batch, "every packet leaves");
                ticks as f64 / batch as f64
            });
            median(batches.collect())
        };
        median((0..effort.runs).map(run).collect())
    }
}

/// Bytes of this process that are in memory.
///
/// # Errors
/// If the system does not say.
pub fn resident() -> std::io::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    let kib = kib.and_then(|kib| kib.trim().parse::<usize>().ok());
    Ok(kib.ok_or_else(|| std::io::Error::other("no VmRSS in /proc/self/status"))? * 1024)
}

/// The middle of some figures.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
