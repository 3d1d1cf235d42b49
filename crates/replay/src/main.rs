//! `replay`: captures through the packet path; see the library for what that means.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use config::{Config, ReportStyle};
use link::CaptureWriter;
use packet::DropReason;
use quanta::Clock;
use replay::{
    Arrival, Checksums, Cost, Inside, Job, Pace, Replay, Run, SEED_DEFAULT, Side, Tally, captures,
};
use serde::Serialize;

/// Drive the packet path from captures, and account for every frame.
///
/// Virtual time follows the capture, whatever the speed, so the same captures with the same seed give the same counts
/// and the same `--out`, byte for byte; what a packet costs is measured and differs.
///
/// Exit codes: 0 every frame is accounted for; 1 one is not, or a file can't be used; 2 usage.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration; without one, each capture gets one that suits it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the frames arrive: `both` replays each capture twice, each time on a fresh router. With `--rewrite`, whose
    /// frames are replayed: `both` is one replay, in which each side's frames arrive there.
    #[arg(long, value_enum, default_value_t = From::Both)]
    from: From,
    /// How often each capture is replayed on its router.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    loops: u32,
    /// Put the hosts of each capture on the networks of the configuration: the inside ones on its first LAN, the others
    /// beyond the WAN, where they answer to the external addresses and ports that the router chose. Addresses in payloads
    /// stay.
    #[arg(long, value_enum, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "private")]
    rewrite: Option<Who>,
    /// Make the checksums of captured packets right first: those that the capturing host sent are often unfinished.
    #[arg(long)]
    fix_checksums: bool,
    /// Whether to wait for the time at which each frame was captured.
    #[arg(long, value_enum, default_value_t = Speed::FlatOut)]
    speed: Speed,
    /// Seed of the router's hashes and ports.
    #[arg(long, value_name = "NUMBER", default_value_t = SEED_DEFAULT)]
    seed: u64,
    /// Write frames as pcapng, with the verdict as comment: what leaves, as it does, and what does not, as it came.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Captures (pcap, pcapng), or folders of them.
    #[arg(required = true, value_name = "CAPTURE|FOLDER")]
    captures: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    Lan,
    Wan,
    Both,
}

/// Who is inside.
#[derive(Clone, Copy, ValueEnum)]
enum Who {
    /// Of two hosts that speak to each other the one with a private address; if that says nothing, the client.
    Private,
    /// The client of the first packet between two hosts.
    Client,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Speed {
    /// As the timestamps of the capture say.
    Recorded,
    /// As fast as it goes.
    FlatOut,
}

impl Arguments {
    /// The replays of each capture.
    fn arrivals(&self) -> Vec<Arrival> {
        let sides = match self.from {
            From::Lan => vec![Side::Lan],
            From::Wan => vec![Side::Wan],
            From::Both => vec![Side::Lan, Side::Wan],
        };
        let inside = match self.rewrite {
            None => return sides.into_iter().map(Arrival::All).collect(),
            Some(Who::Private) => Inside::Private,
            Some(Who::Client) => Inside::Client,
        };
        let only = if let [side] = *sides { Some(side) } else { None };
        vec![Arrival::Rewritten { inside, only }]
    }
}

#[derive(Serialize)]
struct Report {
    runs: Vec<Run>,
    total: Tally,
    /// What the packet path took, of all runs.
    #[serde(flatten)]
    cost: Option<Cost>,
    /// What the clock counts: the processor's time-stamp counter (`tsc`), or nanoseconds (`ns`) where there is none.
    ticks_unit: &'static str,
    /// What does not add up; absent if everything does.
    #[serde(skip_serializing_if = "Option::is_none")]
    violation: Option<String>,
    /// Files that are no captures, or none that can be replayed.
    unreadable: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match replay(&arguments) {
        Ok(report) => {
            let whole = report.violation.is_none() && report.unreadable.is_empty();
            if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("replay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn replay(arguments: &Arguments) -> Result<Report> {
    let config = arguments.config.as_deref().map(load).transpose()?;
    let out = arguments.out.as_deref().map(create).transpose()?;
    let clock = Clock::new();
    let mut report = Report {
        runs: Vec::new(),
        total: Tally::default(),
        cost: None,
        ticks_unit: unit(&clock),
        violation: None,
        unreadable: Vec::new(),
    };
    let mut replay = Replay::new(config, out).with_seed(arguments.seed);
    if arguments.fix_checksums {
        replay = replay.with_checksums(Checksums::Fixed);
    }
    replay = replay.with_clock(Box::new(move || clock.raw()));
    if arguments.speed == Speed::Recorded {
        replay = replay.with_pace(recorded());
    }
    for path in captures(&arguments.captures)? {
        for arrival in arguments.arrivals() {
            match replay.run(Job { path: &path, arrival, loops: arguments.loops }) {
                Ok(run) => report.add(run, arguments.json),
                Err(error) => {
                    report.unreadable.push(format!("{error:#}"));
                    break;
                }
            }
        }
    }
    report.violation = report.total.violation();
    replay.finish().context("--out")?;
    print(&report, arguments.json)?;
    Ok(report)
}

/// What a clock's raw readings count: they are nanoseconds if they need no conversion.
fn unit(clock: &Clock) -> &'static str {
    const LONG: u64 = 1 << 40;
    if clock.delta_as_nanos(0, LONG) == LONG { "ns" } else { "tsc" }
}

/// Waits for the times of a capture.
fn recorded() -> Pace {
    let clock = Clock::new();
    let mut begun = clock.now();
    Box::new(move |due| {
        if due.is_zero() {
            begun = clock.now();
        }
        #[expect(clippy::disallowed_methods, reason = "there is nothing else to wait for")]
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    })
}

impl Report {
    fn add(&mut self, run: Run, json: bool) {
        note(&run, json);
        self.total.add(&run.tally);
        let ticks = [self.cost, run.cost].iter().flatten().map(|cost| cost.ticks).sum();
        self.cost = Cost::of(ticks, self.total.frames);
        // The replay from the other side says the same.
        if let Some(why) = run.unsupported.as_ref().filter(|why| !self.unreadable.contains(why)) {
            self.unreadable.push(why.clone());
        }
        self.runs.push(run);
    }
}

fn load(path: &std::path::Path) -> Result<Config> {
    let terminal = std::io::stderr().is_terminal();
    let style = if terminal { ReportStyle::Coloured } else { ReportStyle::Plain };
    config::load(path).map_err(|error| anyhow::anyhow!("{}", error.report(style)))
}

fn create(path: &std::path::Path) -> Result<CaptureWriter<Box<dyn Write>>> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let writer: Box<dyn Write> = Box::new(BufWriter::new(file));
    CaptureWriter::new(writer, "replay").with_context(|| path.display().to_string())
}

fn note(run: &Run, json: bool) {
    if !json {
        println!("{} from {}: {}", run.capture, run.from, counted(&run.tally, run.cost));
    }
    if let Some(violation) = run.tally.violation() {
        eprintln!("replay: {} from {}: {violation}", run.capture, run.from);
    }
    if let Some(damaged) = &run.damaged {
        eprintln!("replay: {damaged}; replayed as far as it goes");
    }
}

fn counted(tally: &Tally, cost: Option<Cost>) -> String {
    match cost {
        Some(Cost { ticks_per_packet, .. }) => {
            format!("{tally}; {ticks_per_packet} ticks a packet")
        }
        None => tally.to_string(),
    }
}

fn print(report: &Report, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        let total = &report.total;
        let unit = report.ticks_unit;
        println!(
            "total of {} replays: {} ({unit})",
            report.runs.len(),
            counted(total, report.cost)
        );
        for (reason, count) in &total.punted {
            println!("  {count:>9} punted   {reason}");
        }
        for (name, count) in &total.dropped {
            let sentence = DropReason::ALL.iter().find(|reason| reason.name() == *name);
            println!("  {count:>9} dropped  {name}: {}", sentence.map_or("", |r| r.sentence()));
        }
        for (why, count) in &total.skipped {
            println!("  {count:>9} skipped  {why}");
        }
    }
    for file in &report.unreadable {
        eprintln!("replay: {file}");
    }
    if let Some(violation) = &report.violation {
        eprintln!("replay: frames are unaccounted for: {violation}");
    }
    Ok(())
}
