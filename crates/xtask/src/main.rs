//! `cargo xtask`: what a person or a machine does with this repository.
//!
//! - `demo` builds the router, puts it into a house of namespaces with real peers and shows what it does.
//! - `test` runs every check and ends with one table.
//! - `check-illumos` type-checks everything that is meant for illumos.
//! - `fuzz` runs the fuzz targets, `sanitize` the concurrent crates' tests under sanitizers and valgrind.
//! - `bench` measures beside a peer, in the same run.
//!
//! Everything here runs programs and reads what they print; nothing is linked in but `lab`. What a task
//! needs from Debian it installs itself, after saying so. `Ctrl-C` ends any task early and cleanly: see
//! [`interrupt`].

mod bench;
mod cargo;
mod demo;
mod fuzz;
mod illumos;
mod interrupt;
mod measure;
mod nightly;
mod packages;
mod sanitize;
mod steps;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of zone-router.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the router at work between real peers.
    Demo(demo::Arguments),
    /// Run every check and test.
    Test,
    /// Type-check what is meant for illumos.
    CheckIllumos,
    /// Run the fuzz targets, each for a while.
    Fuzz(fuzz::Arguments),
    /// Run the tests of the concurrent crates under sanitizers and valgrind.
    Sanitize,
    /// Measure the router beside a peer.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = interrupt::install().and_then(|()| match arguments.task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test => test::run(),
        Task::CheckIllumos => illumos::run(),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Sanitize => sanitize::run(),
        Task::Bench(arguments) => bench::run(&arguments),
    });
    match outcome {
        _ if interrupt::is_set() => {
            eprintln!("interrupted");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How a task ended that could be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Every check passed.
    Passed,
    /// At least one did not.
    Failed,
}

impl Outcome {
    fn of(has_passed: bool) -> Self {
        if has_passed { Self::Passed } else { Self::Failed }
    }
}

/// What a shell reports for a program that SIGINT ended.
const EXIT_INTERRUPTED: u8 = 130;
