//! `cargo xtask fuzz`: each fuzz target for a while, then one table.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{Outcome, cargo, interrupt, nightly};

/// What to fuzz.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Targets; all, if none is named.
    targets: Vec<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Longest input in bytes.
    #[arg(long, default_value_t = 4096)]
    len_max: usize,
    /// Add to the committed corpus what reaches code that nothing in it reached.
    #[arg(long)]
    keep: bool,
}

/// How a target did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    executions: Option<u64>,
    per_second: Option<u64>,
    /// Edges of the program's flow that some input took.
    coverage: Option<u64>,
}

impl Figures {
    /// Reads a line of the fuzzer: `stat::number_of_executed_units: 12`, or `#12 NEW cov: 34 ft: ...`.
    fn read(&mut self, line: &str) {
        let number = |name: &str| line.strip_prefix(name)?.trim().parse().ok();
        if let Some(executions) = number("stat::number_of_executed_units:") {
            self.executions = Some(executions);
        }
        if let Some(per_second) = number("stat::average_exec_per_sec:") {
            self.per_second = Some(per_second);
        }
        let edges = line.split_once(" cov: ").and_then(|(_, rest)| rest.split(' ').next());
        if let Some(edges) = edges.filter(|_| line.starts_with('#')) {
            self.coverage = edges.parse().ok().or(self.coverage);
        }
    }
}

struct Row {
    target: String,
    figures: Figures,
    has_passed: bool,
}

/// `cargo xtask fuzz`
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    nightly::ensure_installed()?;
    ensure_fuzzer()?;
    let all = targets()?;
    for wanted in &arguments.targets {
        ensure!(all.contains(wanted), "no target {wanted}; there are: {}", all.join(", "));
    }
    let chosen = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    let mut rows = Vec::new();
    for target in chosen {
        interrupt::check()?;
        println!("\n== {target}: {} s", arguments.seconds);
        rows.push(fuzz(target, arguments)?);
        if arguments.keep {
            keep(target)?;
        }
    }
    println!("\n{}", Table(&rows));
    Ok(Outcome::of(rows.iter().all(|row| row.has_passed)))
}

/// Installs cargo-fuzz if it is not there.
fn ensure_fuzzer() -> Result<()> {
    let version = nightly::cargo()
        .args(["fuzz", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if version.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    println!("cargo-fuzz is missing and will be installed: cargo install cargo-fuzz --locked");
    let status = interrupt::status(cargo::cargo().args(["install", "cargo-fuzz", "--locked"]))?;
    ensure!(status.success(), "cargo install cargo-fuzz: {status}");
    Ok(())
}

/// The names of all targets, in order.
fn targets() -> Result<Vec<String>> {
    let folder = cargo::root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// What a target's run finds goes here, not into the committed corpus.
fn found(target: &str) -> Result<PathBuf> {
    let folder = cargo::target()?.join("fuzz-corpus").join(target);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

fn committed(target: &str) -> PathBuf {
    cargo::root().join("fuzz/corpus").join(target)
}

fn command(target: &str) -> Command {
    let mut command = nightly::cargo();
    command.args(["fuzz", "run", "--fuzz-dir"]).arg(cargo::root().join("fuzz")).arg(target);
    command
}

fn fuzz(target: &str, arguments: &Arguments) -> Result<Row> {
    let mut command = command(target);
    command.arg(found(target)?).arg(committed(target)).args(["--", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={}", arguments.seconds));
    command.arg(format!("-max_len={}", arguments.len_max));
    let mut child = command.stderr(Stdio::piped()).spawn().context("run the fuzzer")?;
    let output = child.stderr.take().context("read what the fuzzer prints")?;
    let mut figures = Figures::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        figures.read(&line);
        // The rest is news by the second.
        if !line.starts_with('#') {
            println!("{line}");
        }
    }
    let status = interrupt::wait(&mut child)?;
    Ok(Row { target: target.to_owned(), figures, has_passed: status.success() })
}

/// Takes into the committed corpus what adds to its coverage.
fn keep(target: &str) -> Result<()> {
    let mut command = command(target);
    command.arg(committed(target)).arg(found(target)?).args(["--", "-merge=1"]);
    let status = interrupt::status(&mut command)?;
    ensure!(status.success(), "merge the corpora of {target}: {status}");
    Ok(())
}

struct Table<'a>(&'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:14} {:>12} {:>10} {:>9}  result",
            "target", "executions", "per second", "coverage"
        )?;
        for Row { target, figures, has_passed } in self.0 {
            let shown = |figure: Option<u64>| figure.map_or("-".to_owned(), |f| f.to_string());
            let result = if *has_passed { "ok" } else { "CRASHED: see fuzz/artifacts" };
            let [executions, per_second, coverage] =
                [figures.executions, figures.per_second, figures.coverage].map(shown);
            writeln!(f, "{target:14} {executions:>12} {per_second:>10} {coverage:>9}  {result}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzers_figures_are_read() {
        let mut figures = Figures::default();
        for line in [
            "#2\tINITED cov: 110 ft: 120 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#9\tNEW    cov: 130 ft: 150 corp: 2/9b lim: 4 exec/s: 0 rss: 31Mb",
            "stat::number_of_executed_units: 4711",
            "stat::average_exec_per_sec:     78",
        ] {
            figures.read(line);
        }
        let expected =
            Figures { executions: Some(4711), per_second: Some(78), coverage: Some(130) };
        assert_eq!(figures, expected);
    }

    #[test]
    fn every_target_has_its_corpus() {
        let targets = targets().unwrap();
        assert!(targets.len() >= 9, "{targets:?}");
        for target in targets {
            assert!(committed(&target).is_dir(), "{target} has no corpus");
        }
    }
}
