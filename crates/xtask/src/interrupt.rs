//! Ctrl-C, `kill` and a closed terminal: the task ends early, and its destructors clean up as always.
//!
//! A thread waits for the signal. It ends what runs in the lab and the program that a task waits for, so
//! that the task's next step fails; the task returns, and whatever it made is dropped.

use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Pause between two rounds of ending what runs: a step may have been about to start one more.
const ROUND: Duration = Duration::from_millis(100);

static IS_SET: AtomicBool = AtomicBool::new(false);

/// The program that [`status`] waits for; taken out before it is reaped, so the number is still its own.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// Takes over the signals that end a program.
///
/// # Errors
/// If the system refuses.
pub(crate) fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("take over SIGINT")?;
    std::thread::spawn(move || {
        if signals.forever().next().is_none() {
            return;
        }
        IS_SET.store(true, Ordering::Relaxed);
        eprintln!("\ninterrupted; cleaning up");
        loop {
            lab::interrupt();
            end_running();
            std::thread::park_timeout(ROUND);
        }
    });
    Ok(())
}

fn end_running() {
    let running = RUNNING.lock().expect("no panic under this lock");
    if let Some(pid) = *running {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Whether a signal came.
pub(crate) fn is_set() -> bool {
    // Relaxed: nothing else is published with it.
    IS_SET.load(Ordering::Relaxed)
}

/// Fails if a signal came.
pub(crate) fn check() -> Result<()> {
    if is_set() {
        bail!("interrupted");
    }
    Ok(())
}

/// Runs a program to its end, which comes early if a signal does.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    check()?;
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("run {name}"))?;
    wait(&mut child)
}

/// Waits for a child, which is ended if a signal comes.
pub(crate) fn wait(child: &mut Child) -> Result<ExitStatus> {
    let pid = Pid::from_child(child);
    *RUNNING.lock().expect("no panic under this lock") = Some(pid);
    // Waits without reaping, so that the number can't be another's while it is signalled.
    let exited = rustix::process::waitid(
        rustix::process::WaitId::Pid(pid),
        rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
    );
    *RUNNING.lock().expect("no panic under this lock") = None;
    exited.context("wait for a program")?;
    Ok(child.wait()?)
}
