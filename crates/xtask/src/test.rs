//! `cargo xtask test`: every check and test, then one table.
//!
//! A failing step does not keep the next from running. Builds with other flags have target folders of
//! their own, so that no step throws away what another built.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::Lab;

use crate::{Outcome, cargo, illumos, interrupt, packages};

/// A step of the run.
struct Step {
    name: &'static str,
    what: &'static str,
    command: fn() -> Result<Command>,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", what: "rustfmt finds nothing to change", command: fmt },
    Step { name: "clippy", what: "clippy has no warning", command: clippy },
    Step { name: "doc", what: "rustdoc has no warning", command: doc },
    Step { name: "build", what: "routerd and routerctl, for the tests", command: build },
    Step { name: "tests", what: "unit, property, scenario, namespace tests", command: tests },
    Step { name: "loom", what: "interleavings of the flow table", command: loom },
    Step { name: "illumos", what: "type-check for illumos", command: illumos::command },
];

/// Where namespace tests find the programs; without it they build them.
const PROGRAMS_VARIABLE: &str = "ZONE_ROUTER_PROGRAMS";

fn fmt() -> Result<Command> {
    Ok(with(&["fmt", "--all", "--check"]))
}

fn clippy() -> Result<Command> {
    Ok(with(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn doc() -> Result<Command> {
    let mut command = with(&["doc", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    Ok(command)
}

fn build() -> Result<Command> {
    Ok(with(&["build", "-p", "routerd", "-p", "routerctl"]))
}

fn tests() -> Result<Command> {
    let mut command = with(&["test", "--workspace", "--no-fail-fast"]);
    command.env(PROGRAMS_VARIABLE, cargo::target()?.join("debug"));
    Ok(command)
}

fn loom() -> Result<Command> {
    let mut command = with(&["test", "-p", "flow-table", "--release", "--test", "loom"]);
    command.env("RUSTFLAGS", "--cfg loom").arg("--target-dir").arg(cargo::target()?.join("loom"));
    Ok(command)
}

fn with(words: &[&str]) -> Command {
    let mut command = cargo::cargo();
    command.args(words);
    command
}

/// How a step went.
struct Row {
    step: &'static Step,
    passed: u64,
    failed: u64,
    took: Duration,
}

/// `cargo xtask test`
pub(crate) fn run() -> Result<Outcome> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the namespace tests need root; run: sudo -E env PATH=\"$PATH\" cargo xtask test"
    );
    packages::ensure_installed(packages::HOUSE)?;
    let mut rows = Vec::new();
    for step in STEPS {
        interrupt::check()?;
        rows.push(run_step(step));
        // A test that was killed could not remove its lab.
        Lab::clean_stale().context("remove what killed tests left")?;
    }
    let [passed, failed] = totals(&rows);
    println!("\n{}", Table(&rows));
    println!("{passed} passed, {failed} failed");
    Ok(Outcome::of(failed == 0))
}

fn totals(rows: &[Row]) -> [u64; 2] {
    [rows.iter().map(|row| row.passed).sum(), rows.iter().map(|row| row.failed).sum()]
}

#[expect(clippy::disallowed_methods, reason = "a development edge: the table shows real time")]
fn run_step(step: &'static Step) -> Row {
    let start = Instant::now();
    println!("\n== {}: {}", step.name, step.what);
    let [passed, failed] = match (step.command)().and_then(|command| count(command, step)) {
        Ok(counts) => counts,
        Err(error) => {
            println!("{}: {error:#}", step.name);
            [0, 1]
        }
    };
    Row { step, passed, failed, took: start.elapsed() }
}

/// Runs a step; tests that passed and failed, where the step runs tests, else itself as one.
fn count(mut command: Command, step: &Step) -> Result<[u64; 2]> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("run cargo")?;
    let output = child.stdout.take().context("read what cargo prints")?;
    let mut counts = None;
    let mut copy = std::io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        copy.write_all(&line).and_then(|()| copy.write_all(b"\n"))?;
        if let Some(result) = test_result(&String::from_utf8_lossy(&line)) {
            let [passed, failed] = counts.unwrap_or([0, 0]);
            counts = Some([passed + result[0], failed + result[1]]);
        }
    }
    let status = interrupt::wait(&mut child)?;
    let has_succeeded = status.success();
    let [passed, failed] = counts.unwrap_or([u64::from(has_succeeded), 0]);
    // Such as a test that does not build, or a test program that a signal ended.
    let failed = if has_succeeded { failed } else { failed.max(1) };
    if failed > 0 {
        println!("{}: failed ({status})", step.name);
    }
    Ok([passed, failed])
}

/// Reads `test result: ok. 12 passed; 0 failed; ...`.
fn test_result(line: &str) -> Option<[u64; 2]> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = counts.split("; ");
    let mut next = |word| parts.next()?.strip_suffix(word)?.trim().parse().ok();
    Some([next("passed")?, next("failed")?])
}

struct Table<'a>(&'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:8} {:42} {:>7} {:>7} {:>8}  result",
            "step", "what ran", "passed", "failed", "time"
        )?;
        for Row { step, passed, failed, took } in self.0 {
            let result = if *failed == 0 { "ok" } else { "FAILED" };
            let (name, what, secs) = (step.name, step.what, took.as_secs_f64());
            writeln!(f, "{name:8} {what:42} {passed:7} {failed:7} {secs:6.0} s  {result}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_a_test_program_are_read() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(test_result(line), Some([12, 3]));
        assert_eq!(test_result("test dhcp::tests::x ... ok"), None);
    }

    #[test]
    fn a_step_that_runs_no_tests_counts_as_one() {
        let mut good = Command::new("true");
        good.arg("x");
        assert_eq!(count(good, &STEPS[0]).unwrap(), [1, 0]);
        assert_eq!(count(Command::new("false"), &STEPS[0]).unwrap(), [0, 1]);
    }
}
