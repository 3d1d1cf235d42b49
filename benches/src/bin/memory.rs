//! The packet path in memory: figures that `cargo xtask bench memory` makes a table of.
//!
//! `memory FILE [--quick]` prints them as it goes and writes them to the file as JSON.

use std::sync::Barrier;
use std::thread;

use benches::{
    BATCH, Effort, Figures, Mix, Rig, Scale, Site, Traffic, Way, arguments, median, resident,
};
use quanta::Clock;

const WHOLE: Effort = Effort { packets: 1 << 20, runs: 7, flows_max: 10_000_000 };
const QUICK: Effort = Effort { packets: 1 << 18, runs: 3, flows_max: 64_000 };

const FLOWS: [usize; 5] = [1, 1_000, 64_000, 1_000_000, 10_000_000];
/// Of the measurements that are not about the number of flows.
const FEW_FLOWS: usize = 1_000;
const WAYS: [(Way, &str); 2] = [(Way::Outbound, "outbound"), (Way::Inbound, "inbound")];

/// Sessions opened in one run: as many as one external address has ports for, with room to spare.
const OPENED: usize = 48_000;

fn main() -> std::io::Result<()> {
    let (file, is_quick) = arguments("memory")?;
    let effort = if is_quick { QUICK } else { WHOLE };
    let clock = Clock::new();
    let mut figures = Figures::default();
    // First, for no other router has used memory yet.
    let bytes = bytes_per_session(&effort)?;
    for flows in FLOWS.into_iter().filter(|flows| *flows <= effort.flows_max) {
        let mut site = Site::new(flows, Mix::Small, false);
        for (way, name) in WAYS {
            let ticks = site.ticks(&clock, &effort, way, BATCH);
            figures.note(format!("{name}.flows_{flows}"), ticks, "ticks");
        }
    }
    let mut site = Site::new(FEW_FLOWS, Mix::Small, false);
    for batch in [1, 4, 32] {
        figures.note(
            format!("batch_{batch}"),
            site.ticks(&clock, &effort, Way::Outbound, batch),
            "ticks",
        );
    }
    let mut imix = Site::new(FEW_FLOWS, Mix::Imix, false);
    for (way, name) in WAYS {
        figures.note(format!("imix.{name}"), imix.ticks(&clock, &effort, way, BATCH), "ticks");
    }
    let mut shaped = Site::new(FEW_FLOWS, Mix::Small, true);
    let added = WAYS.map(|(way, _)| {
        shaped.ticks(&clock, &effort, way, BATCH) - site.ticks(&clock, &effort, way, BATCH)
    });
    figures.note("shaping_added", added[0].max(added[1]), "ticks");
    for addresses in [1, 32] {
        let ticks = new_session(&clock, &effort, addresses);
        figures.note(format!("new_session.addresses_{addresses}"), ticks, "ticks");
    }
    figures.note("bytes_per_session", bytes, "bytes");
    for (name, than, runs) in two_workers(&clock, &effort) {
        figures.compare(name, "packets/kt", than, &runs);
    }
    figures.write(file)
}

/// Packets in a thousand ticks of two workers of one router, each on a thread, beside those of one alone, and beside two
/// routers that share nothing: more the machine does not give to two threads.
fn two_workers(clock: &Clock, effort: &Effort) -> [(&'static str, &'static str, Vec<[f64; 2]>); 2] {
    let once = Effort { runs: 1, ..*effort };
    let rate = |site: &mut Site| 1e3 / site.ticks(clock, &once, Way::Outbound, BATCH);
    let together = |sites: &mut [Site]| -> f64 {
        let start = &Barrier::new(sites.len());
        thread::scope(|scope| {
            let begin = |site| {
                scope.spawn(move || {
                    start.wait();
                    rate(site)
                })
            };
            let threads: Vec<_> = sites.iter_mut().map(begin).collect();
            threads.into_iter().map(|thread| thread.join().expect("no worker panics")).sum()
        })
    };
    let mut workers = Site::crew(FLOWS_EACH, 2);
    let mut routers = [(); 2].map(|()| Site::new(FLOWS_EACH, Mix::Small, false));
    let (mut beside_one, mut beside_routers) = (Vec::new(), Vec::new());
    for _ in 0..effort.runs {
        let one = rate(&mut workers[0]);
        let both = together(&mut workers);
        beside_one.push([both, one]);
        beside_routers.push([both, together(&mut routers)]);
    }
    [("two_workers", "one", beside_one), ("two_workers_apart", "two routers", beside_routers)]
}

/// Flows of each of two workers: more than a second-level cache holds.
const FLOWS_EACH: usize = 32_000;

/// Ticks that a packet takes which opens a session, the mean of runs. Between them all sessions end, so that the first,
/// in which memory is touched for the first time, does not count.
fn new_session(clock: &Clock, effort: &Effort, addresses: usize) -> f64 {
    let mut rig = Rig::new(&Scale { addresses, ..Scale::of(1 << 17) });
    let mut traffic = Traffic::new(Mix::Small);
    let mut run = |_| {
        let (mut ticks, mut opened) = (0, 0);
        while opened < OPENED {
            rig.load(&mut traffic, Way::Outbound, BATCH, || {
                opened += 1;
                opened - 1
            });
            let start = clock.raw();
            let left = rig.pass();
            ticks += clock.raw() - start;
            assert_eq!(left, BATCH, "every session is opened");
        }
        rig.end_all();
        ticks as f64 / opened as f64
    };
    run(());
    median((0..effort.runs).map(|_| run(())).collect())
}

/// Memory that a router with a full table occupies beyond an empty one's, by session. What was never used occupies
/// none.
fn bytes_per_session(effort: &Effort) -> std::io::Result<f64> {
    let sessions = effort.flows_max.min(1_000_000);
    let (mut rig, mut traffic) = (Rig::new(&Scale::of(sessions)), Traffic::new(Mix::Small));
    let before = resident()?;
    rig.open(&mut traffic, 0..sessions);
    Ok((resident()? - before) as f64 / sessions as f64)
}
