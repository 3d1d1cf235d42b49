//! Instructions per packet, counted by callgrind: a figure that no neighbour on the machine disturbs.
//!
//! `benches/instructions.txt` holds what they were. A change that adds more than a few in a hundred must say so by
//! changing the file, too.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Bar, Reference, Row};
use crate::{cargo, interrupt, packages};

/// What a count may be of the committed one.
const RATIO_MAX: f64 = 1.03;

/// The workloads of the program `instructions` of `benches`.
const WORKLOADS: [&str; 7] =
    ["outbound", "inbound", "batch_1", "imix", "shaped", "new_session", "new_session_of_32"];

/// Counts; with `keep` the counts are written to the file that holds what they were.
pub(crate) fn run(keep: bool) -> Result<Vec<Row>> {
    packages::ensure_installed(packages::VALGRIND)?;
    let target = cargo::target()?;
    let mut build = cargo::cargo();
    build.args(["build", "--release", "-p", "benches", "--bin", "instructions"]);
    let status = interrupt::status(build.arg("--target-dir").arg(&target))?;
    ensure!(status.success(), "cargo build: {status}");
    let committed = committed()?;
    let mut rows = Vec::new();
    for name in WORKLOADS {
        let value = count(&target.join("release/instructions"), name)?;
        let before = committed.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        let before = if keep { Some(value) } else { before };
        println!("{name:20} {value:8.1}");
        rows.push(row(name, value, before));
    }
    if keep {
        let lines = rows.iter().map(|row| format!("{} {:.1}\n", row.name, row.value));
        fs::write(file(), lines.collect::<String>()).context("write the counts")?;
    }
    Ok(rows)
}

/// A count without a committed one misses its bar: a workload can't go unnoticed.
fn row(name: &str, value: f64, before: Option<f64>) -> Row {
    let reference = before.map(|before| Reference {
        name: "committed".into(),
        value: before,
        ratio: value / before,
    });
    let bar = Some(Bar::RatioAtMost(RATIO_MAX));
    Row { name: name.into(), value, unit: "instructions".into(), reference, bar }
}

fn file() -> PathBuf {
    cargo::root().join("benches/instructions.txt")
}

fn committed() -> Result<Vec<(String, f64)>> {
    let text = fs::read_to_string(file()).with_context(|| format!("read {}", file().display()))?;
    text.lines()
        .map(|line| {
            let (name, value) = line.split_once(' ').context("a name and a number")?;
            Ok((name.to_owned(), value.parse().context("a number")?))
        })
        .collect::<Result<_>>()
        .with_context(|| file().display().to_string())
}

/// Instructions per packet within `Rig::pass`.
fn count(program: &std::path::Path, workload: &str) -> Result<f64> {
    interrupt::check()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=benches::rig::Rig::pass")
        .arg(program)
        .arg(workload)
        .output()
        .context("run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {}: {said}", output.status);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")).map(|line| line.1);
    let collected: f64 = collected.context("valgrind counted nothing")?.trim().parse()?;
    let packets: f64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    ensure!(collected > 0.0 && packets > 0.0, "nothing passed in Rig::pass");
    Ok(collected / packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_may_grow_by_three_in_a_hundred_and_must_be_known() {
        assert!(row("outbound", 103.0, Some(100.0)).holds());
        assert!(!row("outbound", 103.1, Some(100.0)).holds());
        assert!(!row("outbound", 100.0, None).holds());
    }
}
