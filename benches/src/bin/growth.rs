//! How costs grow: figures that `cargo xtask bench growth` makes a table and plots of.
//!
//! `growth FILE [--quick]` prints them as it goes and writes them to the file as JSON. A figure with a reference is meant
//! to be read by its ratio: the two were measured in turn, so that what else the machine does meanwhile does not count.

use std::time::Duration;

use benches::{
    BATCH, Effort, Figures, HOSTS, Mix, Rig, Scale, Site, Traffic, Way, arguments, median, resident,
};
use quanta::Clock;

const FLOWS: [usize; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const COUNTS: [usize; 5] = [1, 10, 100, 1_000, 10_000];
/// Neighbours that the router knows at most are 4,096.
const HOST_COUNTS: [usize; 4] = [1, 10, HOSTS, 3_000];

/// Of the measurements that are not about the number of flows.
const FEW_FLOWS: usize = 1_000;

/// Sessions of which it is asked what each occupies: smaller tables lie in memory that the allocator keeps when one is gone.
const OCCUPANTS_MIN: usize = 1_000_000;

/// Past every timeout, and every mapping's rest.
const LONG: Duration = Duration::from_secs(3600);

fn main() -> std::io::Result<()> {
    let (file, is_quick) = arguments("growth")?;
    let effort = if is_quick {
        Effort { packets: 1 << 14, runs: 3, flows_max: 100_000 }
    } else {
        Effort { packets: 1 << 17, runs: 7, flows_max: 10_000_000 }
    };
    let clock = Clock::new();
    let mut notes = Figures::default();
    by_flows(&mut notes, &clock, &effort)?;
    reload(&mut notes, &clock, &effort);
    let scale = Scale::of(1 << 16);
    by_count(&mut notes, &clock, &effort, "rules", |rules| Scale { rules, ..scale });
    by_count(&mut notes, &clock, &effort, "forwards", |forwards| Scale { forwards, ..scale });
    by_hosts(&mut notes, &clock, &effort);
    notes.write(file)
}

/// A packet, a session's memory and a session's end, by the number of flows.
fn by_flows(notes: &mut Figures, clock: &Clock, effort: &Effort) -> std::io::Result<()> {
    let (mut ends, mut occupied) = (Vec::new(), Vec::new());
    for flows in FLOWS.into_iter().filter(|flows| *flows <= effort.flows_max) {
        let scale = Scale::of((flows * 9 / 8).max(1024));
        let (mut rig, mut traffic) = (Rig::new(&scale), Traffic::new(Mix::Small));
        let before = resident()?;
        rig.open(&mut traffic, 0..flows);
        let bytes = resident()?.saturating_sub(before) as f64 / flows as f64;
        let mut site = Site::with(rig, traffic, flows);
        let ticks = site.ticks(clock, effort, Way::Outbound, BATCH);
        notes.note(format!("flows_{flows}.packet"), ticks, "ticks");
        if flows >= OCCUPANTS_MIN {
            occupied.push((flows, bytes));
        }
        let (per_session, rare) = end_all(&mut site.rig, clock, flows);
        notes.note(format!("flows_{flows}.end"), per_session, "ticks");
        notes.note(format!("flows_{flows}.upkeep_p999"), rare, "ticks");
        ends.push((flows, per_session));
    }
    for pair in occupied.windows(2) {
        let [(few, before), (flows, bytes)] = pair else { continue };
        let than = format!("with {few}");
        notes.compare(format!("flows_{flows}.bytes"), "bytes", &than, &[[*bytes, *before]]);
    }
    // Both tables are beyond any cache.
    if let [.., (few, before), (flows, ticks)] = ends[..]
        && few >= 1_000_000
    {
        let than = format!("with {few}");
        notes.compare(format!("flows_{flows}.end_growth"), "ticks", &than, &[[ticks, before]]);
    }
    Ok(())
}

/// Ends all sessions; ticks for each, and of a call that looks at a bounded number, the thousandth longest: longer is what
/// the machine did besides.
fn end_all(rig: &mut Rig, clock: &Clock, flows: usize) -> (f64, f64) {
    let mut calls = Vec::new();
    while rig.tables().stats().sessions > 0 {
        rig.advance(LONG);
        loop {
            let start = clock.raw();
            let is_more = rig.expire();
            calls.push(clock.raw() - start);
            if !is_more {
                break;
            }
        }
    }
    calls.sort_unstable();
    let rare = calls[calls.len() - 1 - calls.len() / 1000];
    (calls.iter().sum::<u64>() as f64 / flows as f64, rare as f64)
}

/// What a new configuration costs with many flows: to make, which no packet waits for, and the first packet of each flow.
fn reload(notes: &mut Figures, clock: &Clock, effort: &Effort) {
    let flows = effort.flows_max.min(1_000_000);
    let mut site = Site::new(flows, Mix::Small, false);
    let (mut makings, mut firsts) = (Vec::new(), Vec::new());
    for _ in 0..effort.runs {
        let start = clock.raw();
        site.rig.reload();
        makings.push(clock.delta(start, clock.raw()).as_secs_f64() * 1e3);
        let first = site.ticks_of_each(clock, Way::Outbound);
        firsts.push([first, site.ticks_of_each(clock, Way::Outbound)]);
    }
    notes.note(format!("reload.flows_{flows}.make"), median(makings), "ms");
    notes.compare(format!("reload.flows_{flows}.packet"), "ticks", "later packets", &firsts);
}

/// Packets of known flows and of new ones, and the making of a configuration, by what is in it.
fn by_count(
    notes: &mut Figures,
    clock: &Clock,
    effort: &Effort,
    what: &str,
    scale: impl Fn(usize) -> Scale,
) {
    let mut sites: Vec<_> = COUNTS
        .into_iter()
        .map(|count| (count, Site::of(FEW_FLOWS, Mix::Small, scale(count)), Vec::new()))
        .collect();
    // All in turn, so that each is beside the first.
    for _ in 0..effort.runs {
        for (_, site, runs) in &mut sites {
            runs.push(Run {
                known: site.ticks(clock, &Effort { runs: 1, ..*effort }, Way::Outbound, BATCH),
                new: new_sessions(clock, site),
                make: making(clock, site),
            });
        }
    }
    let pairs = |at: usize, than: usize, of: fn(&Run) -> f64| -> Vec<[f64; 2]> {
        sites[at].2.iter().zip(&sites[than].2).map(|(run, other)| [of(run), of(other)]).collect()
    };
    let mut later = Vec::new();
    for (at, (count, ..)) in sites.iter().enumerate() {
        let than = format!("with {}", COUNTS[0]);
        let known = pairs(at, 0, |run| run.known);
        later.push((format!("{what}_{count}.known_flow"), "ticks", than, known));
        let before = at.saturating_sub(1);
        let than = format!("with {}", COUNTS[before]);
        let new = pairs(at, before, |run| run.new);
        later.push((format!("{what}_{count}.new_flow"), "ticks", than.clone(), new));
        later.push((format!("{what}_{count}.make"), "us", than, pairs(at, before, |run| run.make)));
    }
    for (name, unit, than, runs) in later {
        notes.compare(name, unit, &than, &runs);
    }
}

/// What was measured of one configuration in one turn.
struct Run {
    known: f64,
    new: f64,
    make: f64,
}

/// Flows opened in one turn.
const OPENED: usize = 4_096;

/// Ticks of a packet that opens a session, where the first flows are known.
fn new_sessions(clock: &Clock, site: &mut Site) -> f64 {
    let mut ticks = 0;
    for first in (0..OPENED).step_by(BATCH) {
        let mut next = FEW_FLOWS + first..;
        site.rig.load(&mut site.traffic, Way::Outbound, BATCH, || next.next().expect("endless"));
        let start = clock.raw();
        let left = site.rig.pass();
        ticks += clock.raw() - start;
        assert_eq!(left, BATCH, "every session is opened");
    }
    // The same flows are new again in the next turn.
    site.rig.end_all();
    let numbers = 0..FEW_FLOWS;
    site.rig.open(&mut site.traffic, numbers);
    ticks as f64 / OPENED as f64
}

/// Microseconds to make a configuration ready.
fn making(clock: &Clock, site: &mut Site) -> f64 {
    let start = clock.raw();
    site.rig.reload();
    let micros = clock.delta(start, clock.raw()).as_secs_f64() * 1e6;
    site.ticks_of_each(clock, Way::Outbound);
    micros
}

/// A packet, by the number of hosts that the same flows are of.
fn by_hosts(notes: &mut Figures, clock: &Clock, effort: &Effort) {
    let mut sites: Vec<_> = HOST_COUNTS
        .into_iter()
        .map(|hosts| {
            let scale = Scale { hosts, ..Scale::of(1 << 15) };
            (Site::of(HOST_FLOWS, Mix::Small, scale), Vec::new())
        })
        .collect();
    for _ in 0..effort.runs {
        for (site, ticks) in &mut sites {
            let once = Effort { runs: 1, ..*effort };
            ticks.push(site.ticks(clock, &once, Way::Inbound, BATCH));
        }
    }
    let (_, first) = &sites[0];
    for ((_, ticks), hosts) in sites.iter().zip(HOST_COUNTS) {
        let runs: Vec<_> = ticks.iter().zip(first).map(|(own, first)| [*own, *first]).collect();
        notes.compare(format!("hosts_{hosts}.known_flow"), "ticks", "with 1", &runs);
    }
}

/// So many that the largest number of hosts has one each.
const HOST_FLOWS: usize = 3_000;
