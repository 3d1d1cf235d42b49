//! `cargo xtask sanitize`: tests of the concurrent crates under the sanitizers and valgrind.
//!
//! - AddressSanitizer sees accesses outside of what is allocated, in our code and in what is inlined into it.
//! - ThreadSanitizer sees accesses that nothing orders. The standard library comes without its instrumentation (its
//!   sources are not part of the toolchain), so what it orders by itself is not seen and reported as a race; such
//!   reports name the standard library, and [`SUPPRESSED`] leaves them out. It is also blind to
//!   fences, of which the flow table has none.
//! - memcheck runs the plain test programs and sees uninitialised reads and leaks.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::{self, Passed, Step, Table, totals};
use crate::{Outcome, cargo, interrupt, nightly, packages};

const STEPS: &[Step] = &[
    Step { name: "address", what: "flow-table, nat: AddressSanitizer", command: address },
    Step { name: "thread", what: "flow-table, nat: ThreadSanitizer", command: thread },
    Step { name: "memcheck", what: "flow-table, nat: valgrind memcheck", command: memcheck },
];

/// Cases per property where each costs twenty times as much.
const CASES: &str = "16";

/// What ThreadSanitizer is not to report: see the module.
const SUPPRESSED: &str =
    "race:std::\nrace:core::sync::atomic::fence\nrace:test::\nrace:alloc::sync\n";

fn address() -> Result<Command> {
    sanitized("address", "-Zsanitizer=address")
}

fn thread() -> Result<Command> {
    let flags = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer";
    let mut command = sanitized("thread", flags)?;
    let file = target("thread")?.join("suppressions");
    std::fs::create_dir_all(target("thread")?).context("make the target folder")?;
    std::fs::write(&file, SUPPRESSED).with_context(|| format!("write {}", file.display()))?;
    let options = format!("suppressions={} halt_on_error=1", file.display());
    command.env("TSAN_OPTIONS", options);
    Ok(command)
}

/// The unit and other tests of the concurrent crates, with a sanitizer.
fn sanitized(name: &str, flags: &str) -> Result<Command> {
    let mut command = nightly::cargo();
    command.env("RUSTFLAGS", flags).env("PROPTEST_CASES", CASES);
    command.args(["test", "-p", "flow-table", "-p", "nat", "--lib", "--tests", "--no-fail-fast"]);
    command.args(["--target", nightly::TARGET, "--target-dir"]).arg(target(name)?);
    Ok(command)
}

fn memcheck() -> Result<Command> {
    packages::ensure_installed(packages::MEMCHECK)?;
    let mut command = cargo::cargo();
    command.env("PROPTEST_CASES", CASES);
    // --quiet: errors only; what is still reachable at the end is libtest's.
    let runner =
        "valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite";
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner);
    command.args(["test", "-p", "flow-table", "-p", "nat", "--lib", "--tests", "--no-fail-fast"]);
    command.args(["--target", nightly::TARGET, "--target-dir"]).arg(target("memcheck")?);
    Ok(command)
}

fn target(name: &str) -> Result<PathBuf> {
    Ok(cargo::target()?.join("sanitize").join(name))
}

/// `cargo xtask sanitize`
pub(crate) fn run() -> Result<Outcome> {
    nightly::ensure_installed()?;
    let (mut rows, mut tests) = (Vec::new(), Passed::new());
    for step in STEPS {
        interrupt::check()?;
        rows.push(steps::run(step, &mut tests));
    }
    let [passed, failed] = totals(&rows);
    println!("\n{}", Table(&rows));
    println!("{passed} passed, {failed} failed");
    Ok(Outcome::of(failed == 0))
}
