//! `routerctl`: provisions the router's zone and runs the router day to day.
//!
//! Nouns that the running router answers (`status`, `forward`, `lease`, `flow`, ...) are one request each
//! over the control socket; `zone` and `config check` work on this host and its files and need no
//! router. What is printed for people comes from [`render`]; `--json` prints the types of `ctl_api` as
//! they came. Exit status: 0 done, 1 refused or failed with the reason on standard error, 2 usage.

mod args;
mod ask;
mod explain;
mod render;
mod table;
mod zone;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, ConfigVerb, Noun};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("routerctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let text = match &args.noun {
        Noun::Zone { verb } => return zone::run(verb, args.json),
        Noun::Config { verb: ConfigVerb::Check { file } } => zone::check(file, args.json)?,
        _ => ask::run(args)?,
    };
    print(&text)
}

/// Writes to standard output. A reader that has seen enough is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
