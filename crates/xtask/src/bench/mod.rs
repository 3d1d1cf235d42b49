//! `cargo xtask bench`: figures beside those of a peer from the same run.

mod figures;
mod flood;
mod growth;
pub(crate) mod instructions;
mod live;
mod memory;
mod plot;
mod table;

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lab::Namespace;
use lab::house::{Client, House, KernelRouter, Programs, Router, Stub};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::{Outcome, cargo, packages};

/// What to measure.
#[derive(Args)]
pub(crate) struct Arguments {
    /// What to measure.
    suite: Suite,
    /// Write the figures to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure for a shorter time.
    #[arg(long)]
    quick: bool,
    /// Measure only rows whose names begin like this (`live` alone).
    #[arg(long, default_value = "live")]
    only: String,
    /// Keep the figures in `benches`: instructions as those that later ones are held against, others as text and plots in
    /// `benches/results`.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// The packet path in memory: time stamp counter ticks per packet, by the number of flows.
    Memory,
    /// The flow table beside other maps, and under two threads.
    Table,
    /// How costs grow in memory: with flows, rules, forwards and hosts.
    Growth,
    /// Instructions per packet of the path in memory, beside those of the commit.
    Instructions,
    /// TCP, datagrams, connections and pings through a router in a namespace, beside the kernel's nftables masquerade.
    Live,
    /// TCP through the router while SYN packets flood its WAN, beside the same flood dropped by nftables.
    Flood,
}

/// A figure.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    value: f64,
    unit: String,
    reference: Option<Reference>,
    /// `None` of a figure that is there to be read.
    bar: Option<Bar>,
}

/// The figure of a peer.
#[derive(Debug)]
struct Reference {
    name: Cow<'static, str>,
    value: f64,
    /// Ours by the peer's.
    ratio: f64,
}

/// What a figure has to reach.
#[derive(Clone, Copy, Debug)]
enum Bar {
    RatioAtLeast(f64),
    RatioAtMost(f64),
    ValueAtMost(f64),
}

impl Row {
    pub(crate) fn holds(&self) -> bool {
        let ratio = self.reference.as_ref().map(|reference| reference.ratio);
        match self.bar {
            Some(Bar::RatioAtLeast(bar)) => ratio.is_some_and(|ratio| ratio >= bar),
            Some(Bar::RatioAtMost(bar)) => ratio.is_some_and(|ratio| ratio <= bar),
            Some(Bar::ValueAtMost(bar)) => self.value <= bar,
            None => true,
        }
    }
}

impl Bar {
    fn number(self) -> f64 {
        match self {
            Self::RatioAtLeast(bar) | Self::RatioAtMost(bar) | Self::ValueAtMost(bar) => bar,
        }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reference = self.reference.as_ref();
        let mut row = serializer.serialize_struct("Row", 8)?;
        row.serialize_field("name", &self.name)?;
        row.serialize_field("value", &self.value)?;
        row.serialize_field("unit", &self.unit)?;
        row.serialize_field("reference", &reference.map(|reference| &reference.name))?;
        row.serialize_field("reference_value", &reference.map(|reference| reference.value))?;
        row.serialize_field("ratio", &reference.map(|reference| reference.ratio))?;
        row.serialize_field("bar", &self.bar.map(Bar::number))?;
        row.serialize_field("holds", &self.holds())?;
        row.end()
    }
}

/// The file that `--json` writes.
#[derive(Debug, serde::Serialize)]
struct Report {
    machine: String,
    rows: Vec<Row>,
}

/// `cargo xtask bench`
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let programs = || {
        packages::ensure_installed(packages::HOUSE)?;
        cargo::build_release()
    };
    let rows = match arguments.suite {
        Suite::Memory => memory::run(arguments.quick)?,
        Suite::Table => table::run(arguments.quick)?,
        Suite::Growth => growth::run(arguments.quick)?,
        Suite::Instructions => instructions::run(arguments.keep)?,
        Suite::Live => {
            let plan = live::Plan { quick: arguments.quick, only: &arguments.only };
            live::run(&programs()?, &plan)?
        }
        Suite::Flood => flood::run(&programs()?, arguments.quick)?,
    };
    let report = Report { machine: machine(), rows };
    print!("\n{report}");
    if arguments.keep {
        keep(&report, arguments.suite)?;
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(Outcome::of(report.rows.iter().all(Row::holds)))
}

/// Writes figures where the repository keeps them.
fn keep(report: &Report, suite: Suite) -> Result<()> {
    let name = match suite {
        Suite::Memory => "memory",
        Suite::Table => "table",
        Suite::Growth => "growth",
        Suite::Live => "live",
        Suite::Flood => "flood",
        // They have a file of their own.
        Suite::Instructions => return Ok(()),
    };
    let folder = cargo::root().join("benches/results");
    let path = folder.join(format!("{name}.txt"));
    fs::write(&path, report.to_string()).with_context(|| format!("write {}", path.display()))?;
    match suite {
        Suite::Memory => memory::plots(&report.rows, &folder),
        Suite::Growth => growth::plots(&report.rows, &folder),
        Suite::Table | Suite::Live | Suite::Flood | Suite::Instructions => Ok(()),
    }
}

/// A house with both routers and a host behind them.
struct Site {
    // Dropped before the house that it runs in.
    router: Router,
    host: Namespace,
    kernel: KernelRouter,
    house: House,
}

impl Site {
    fn build(programs: &Programs) -> Result<Self> {
        let house = House::new("bench")?;
        house.attach_router()?;
        house.write_config(&house.config())?;
        let router = house.start_router(programs)?;
        router.wait_for_wan()?;
        house.start_iperf(&house.isp)?;
        let host = house.lan_host("alice", Stub::Home, None)?;
        house.lease(&host, Client::Udhcpc)?;
        let kernel = KernelRouter::start(&house)?;
        Ok(Self { router, host, kernel, house })
    }
}

/// Processor, number of cores and kernel, as far as the system says.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (processors, kernel) = (read("/proc/cpuinfo"), read("/proc/sys/kernel/osrelease"));
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        for row in &self.rows {
            let Row { name, value, unit, reference, bar } = row;
            write!(f, "{name:32} {value:8.2} {unit:8}")?;
            if let Some(Reference { name, value, ratio }) = reference {
                write!(f, " {name} {value:.2}  ratio {ratio:.2}")?;
            }
            match bar {
                Some(bar) => {
                    let outcome = if row.holds() { "holds" } else { "MISSED" };
                    writeln!(f, ", bar {}: {outcome}", bar.number())?;
                }
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
