//! `cargo xtask sanitize`: tests of the concurrent crates under the sanitizers and valgrind.
//!
//! - AddressSanitizer sees accesses outside of what is allocated, in our code and in what is inlined into it.
//! - ThreadSanitizer sees accesses that nothing orders. The standard library comes without its instrumentation (its
//!   sources are not part of the toolchain). Atomics are inlined into our code, and so are seen; what the library
//!   orders within itself is not, and would be reported as a race: `suppressions.txt` names that, function by
//!   function. Optimised a little, for what is inlined is instrumented.
//! - memcheck runs the plain test programs and sees uninitialised reads and leaks.
//!
//! Fences are no part of what ThreadSanitizer knows; those of the flow table are for loom (`cargo xtask test`).

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::steps::{self, Passed, Table, totals};
use crate::{Outcome, cargo, interrupt, nightly, packages};

/// Crates of which several threads share something, and which of their tests.
const CRATES: &[(&str, &[&str])] = &[
    ("flow-table", ALL),
    ("nat", ALL),
    ("forwarding", ALL),
    ("pipeline", &["--test", "path", "--", "workers"]),
];

const ALL: &[&str] = &["--lib", "--tests"];

/// Cargo's tests under a tool.
type Watched = fn() -> Result<Command>;

/// What watches their tests.
const TOOLS: &[(&str, Watched)] =
    &[("address", address), ("thread", thread), ("memcheck", memcheck)];

fn address() -> Result<Command> {
    sanitized("address", "-Zsanitizer=address")
}

fn thread() -> Result<Command> {
    let flags = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer";
    let mut command = sanitized("thread", flags)?;
    let suppressions = cargo::root().join("crates/xtask/src/suppressions.txt");
    // All races of a program, not only the first. Where memory came from is seldom worth the time.
    let options = format!("suppressions={} halt_on_error=0", suppressions.display());
    command.env("TSAN_OPTIONS", options);
    Ok(command)
}

/// Cargo's tests with a sanitizer.
fn sanitized(name: &str, flags: &str) -> Result<Command> {
    let mut command = nightly::cargo();
    command.args(["test", "--target", nightly::TARGET, "--target-dir"]).arg(target(name)?);
    command.env("RUSTFLAGS", flags);
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    shorten(&mut command, "4", "16");
    Ok(command)
}

fn memcheck() -> Result<Command> {
    packages::ensure_installed(packages::VALGRIND)?;
    let mut command = cargo::cargo();
    // --quiet: errors only; what is reachable or possibly lost at the end is libtest's. Threads take turns, and a
    // fair lock lets those that wait for another have their end.
    let runner = "valgrind --quiet --error-exitcode=99 --leak-check=full --fair-sched=yes \
                  --show-leak-kinds=definite --errors-for-leak-kinds=definite";
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner);
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    command.args(["test", "--target", nightly::TARGET, "--target-dir"]).arg(target("memcheck")?);
    shorten(&mut command, "20", "4");
    Ok(command)
}

/// Makes tests do less of the same where each step costs many times as much: stress tests this part of their
/// rounds, properties so many cases.
fn shorten(command: &mut Command, divisor: &str, cases: &str) {
    command.env("STRESS_DIVISOR", divisor).env("PROPTEST_CASES", cases);
}

fn target(name: &str) -> Result<PathBuf> {
    Ok(cargo::target()?.join("sanitize").join(name))
}

/// `cargo xtask sanitize`
pub(crate) fn run() -> Result<Outcome> {
    nightly::ensure_installed()?;
    let (mut rows, mut tests) = (Vec::new(), Passed::new());
    for (tool, command) in TOOLS {
        for (package, of_it) in CRATES {
            interrupt::check()?;
            let command = command().map(|mut command| {
                command.args(["-p", package, "--no-fail-fast"]).args(*of_it);
                command
            });
            rows.push(steps::run_command(tool, package, command, &mut tests));
        }
    }
    let [passed, failed] = totals(&rows);
    println!("\n{}", Table(&rows));
    println!("{passed} passed, {failed} failed");
    Ok(Outcome::of(failed == 0))
}
