//! The router: reads its configuration, opens its links, and forwards until it is told to stop.
//!
//! Two threads and one more: the *worker* moves packets (`worker`), the *control* thread runs the router's own stack
//! and everything that is slow (`control`), and the control socket's server runs on a thread of its own inside
//! `ctl-api`. They share one snapshot, the flow table and bounded rings (`shared`).
//!
//! `routerd` owns no policy: this crate only wires the others together. It never provisions the host.

mod boot;
mod clock;
mod control;
mod explain;
mod forwards;
mod guard;
mod pace;
mod places;
mod priority;
mod rates;
mod report;
mod requests;
mod shared;
mod wake;
mod worker;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use clap::Parser;
use config::{Config, LoadError, ReportStyle};
use ctl_api::ControlHandle;
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::clock::Clock;
use crate::control::{Control, Signals};
use crate::shared::Command;

/// Userspace router: NAT, firewall, DHCP, DNS and fair queueing in one program.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, required_unless_present = "print_defaults")]
    config: Option<PathBuf>,
    /// Validate the configuration and exit.
    #[arg(long)]
    check: bool,
    /// Write a configuration with every default to standard output and exit.
    #[arg(long)]
    print_defaults: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.print_defaults {
        print!("{}", config::print_defaults());
        return ExitCode::SUCCESS;
    }
    let path = arguments.config.expect("clap requires it");
    let config = match boot::load(&path) {
        Ok(config) => config,
        Err(error) => {
            refuse(&error);
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        println!("{}: valid", path.display());
        return ExitCode::SUCCESS;
    }
    init_log();
    match run(config, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("routerd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(error: &LoadError) {
    let terminal = std::io::stderr().is_terminal();
    let style = if terminal { ReportStyle::Coloured } else { ReportStyle::Plain };
    eprintln!("{}", error.report(style));
    for line in error.lines() {
        eprintln!("routerd: {line}");
    }
}

fn init_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn run(config: Config, path: PathBuf) -> Result<()> {
    let clock = Clock::start();
    let parts = boot::assemble(&config, &path, clock)?;
    let socket = config.control.socket.clone();
    let (worker, rest) = parts.split();
    let (shared, commands) = (Arc::clone(&rest.shared), rest.commands.clone());
    let waker = Arc::clone(&shared);
    let (handle, requests) = ControlHandle::new(move || waker.control.wake());
    let signals = Signals::default();
    handle_signals(&signals, &shared)?;
    let server = match config.control.metrics {
        Some(address) => ctl_api::serve_with_metrics(&socket, address, handle),
        None => ctl_api::serve(&socket, handle),
    };
    let server = server.with_context(|| places::of(&path, "socket", &socket.to_string_lossy()))?;
    info!(socket = %socket.display(), "router running");
    let thread = thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || worker.run())
        .context("start the packet worker")?;
    let outcome = Control::new(config, path, clock, rest, requests, signals)?.run();
    // A worker that failed is gone already.
    let _ = commands.send(Command::Stop);
    shared.worker.wake();
    if thread.join().is_err() {
        anyhow::bail!("the packet worker panicked");
    }
    drop(server);
    outcome
}

/// Each signal sets its flag and then writes to the control thread's pipe.
fn handle_signals(signals: &Signals, shared: &shared::Shared) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let flags = [(SIGTERM, &signals.stop), (SIGINT, &signals.stop), (SIGHUP, &signals.reload)];
    for (signal, flag) in flags {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("handle signals")?;
        let pipe = shared.control.signal_fd().try_clone_to_owned().context("handle signals")?;
        signal_hook::low_level::pipe::register(signal, std::os::unix::net::UnixStream::from(pipe))
            .context("handle signals")?;
    }
    Ok(())
}
