//! `cargo xtask test`: every check and test, then one table.
//!
//! A failing step does not keep the next from running. Builds with other flags have target folders of
//! their own, so that no step throws away what another built.

mod conformance;
mod instructions;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::Lab;

use crate::steps::{self, Passed, Step, Table, totals};
use crate::{Outcome, cargo, illumos, interrupt, packages};

const STEPS: &[Step] = &[
    Step { name: "fmt", what: "rustfmt finds nothing to change", command: fmt },
    Step { name: "clippy", what: "clippy has no warning", command: clippy },
    Step { name: "doc", what: "rustdoc has no warning", command: doc },
    Step { name: "build", what: "routerd and routerctl, for the tests", command: build },
    Step { name: "tests", what: "unit, property, scenario, namespace tests", command: tests },
    Step { name: "loom", what: "interleavings of lock-free protocols", command: loom },
    Step { name: "illumos", what: "type-check for illumos", command: illumos::command },
];

/// Crates with lock-free protocols; `crates/README.md` lists these.
const LOCK_FREE: &[&str] = &["flow-table", "nat", "forwarding", "link", "pipeline"];

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
    // `--test` for those of the flow table, which are a program of their own.
    let mut command = with(&["test", "--release", "--no-fail-fast", "--lib", "--test", "loom"]);
    command.args(LOCK_FREE.iter().flat_map(|package| ["-p", package]));
    command.env("RUSTFLAGS", "--cfg loom").arg("--target-dir").arg(cargo::target()?.join("loom"));
    Ok(command)
}

fn with(words: &[&str]) -> Command {
    let mut command = cargo::cargo();
    command.args(words);
    command
}

/// `cargo xtask test`
pub(crate) fn run() -> Result<Outcome> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the namespace tests need root; run: sudo -E env PATH=\"$PATH\" cargo xtask test"
    );
    packages::ensure_installed(packages::HOUSE)?;
    let (mut rows, mut tests) = (Vec::new(), Passed::new());
    for step in STEPS {
        interrupt::check()?;
        rows.push(steps::run(step, &mut tests));
        // A test that was killed could not remove its lab.
        Lab::clean_stale().context("remove what killed tests left")?;
    }
    rows.push(instructions::row()?);
    rows.push(conformance::row(&tests)?);
    let [passed, failed] = totals(&rows);
    println!("\n{}", Table(&rows));
    println!("{passed} passed, {failed} failed");
    Ok(Outcome::of(failed == 0))
}
