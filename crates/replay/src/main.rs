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
use replay::{Job, Replay, Run, Side, Tally, captures};
use serde::Serialize;

/// Drive the packet path from captures, and account for every frame.
///
/// Exit codes: 0 every frame is accounted for; 1 one is not, or a file can't be used; 2 usage.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration; without one, each capture gets one that suits it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the frames arrive: `both` replays each capture twice, each time on a fresh router.
    #[arg(long, value_enum, default_value_t = From::Both)]
    from: From,
    /// How often each capture is replayed on its router.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    loops: u32,
    /// Write what leaves as pcapng; comments say why it did.
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

impl From {
    fn sides(self) -> &'static [Side] {
        match self {
            Self::Lan => &[Side::Lan],
            Self::Wan => &[Side::Wan],
            Self::Both => &[Side::Lan, Side::Wan],
        }
    }
}

#[derive(Serialize)]
struct Report {
    runs: Vec<Run>,
    total: Tally,
    /// What does not add up; absent if everything does.
    #[serde(skip_serializing_if = "Option::is_none")]
    violation: Option<String>,
    /// Files that are no captures.
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
    let mut replay = Replay::new(config, out);
    let mut report = Report {
        runs: Vec::new(),
        total: Tally::default(),
        violation: None,
        unreadable: Vec::new(),
    };
    for path in captures(&arguments.captures)? {
        for &from in arguments.from.sides() {
            match replay.run(Job { path: &path, from, loops: arguments.loops }) {
                Ok(run) => {
                    note(&run, arguments.json);
                    report.total.add(&run.tally);
                    report.runs.push(run);
                }
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
        println!("{} from {}: {}", run.capture, run.from, run.tally);
    }
    if let Some(violation) = run.tally.violation() {
        eprintln!("replay: {} from {}: {violation}", run.capture, run.from);
    }
    if let Some(damaged) = &run.damaged {
        eprintln!("replay: {damaged}; replayed as far as it goes");
    }
}

fn print(report: &Report, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        let total = &report.total;
        println!("total of {} replays: {total}", report.runs.len());
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
