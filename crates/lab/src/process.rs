//! A peer that runs until it is dropped.

use std::fs::File;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, kill_process, kill_process_group};

use crate::command::{end_group, pid_of, read_log, wait_for_exit};

/// How long a process may take to end after SIGTERM before SIGKILL: enough to write a state file.
const TERMINATE_DEADLINE: Duration = Duration::from_secs(2);

/// A running program and its process group; dropping it ends both.
#[derive(Debug)]
pub struct Process {
    child: Child,
    argv: String,
    /// Has no name, so nothing is left of it whatever ends us.
    log: File,
    status: Option<ExitStatus>,
}

impl Process {
    pub(crate) fn start((mut command, argv): (Command, String)) -> Result<Self> {
        let log = tempfile::tempfile()?;
        rustix::fs::fcntl_setfl(&log, rustix::fs::OFlags::APPEND)?;
        command.stdout(log.try_clone()?).stderr(log.try_clone()?);
        let child = command.spawn().with_context(|| format!("start `{argv}`"))?;
        Ok(Self { child, argv, log, status: None })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far to standard output and standard error.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.status.is_none() && matches!(wait_for_exit(&self.child, Duration::ZERO), Ok(false))
    }

    /// Waits until it exits by itself.
    ///
    /// # Errors
    /// If it still runs after `deadline`; the log is in the message.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        if !wait_for_exit(&self.child, deadline)? {
            bail!("`{}` still runs after {deadline:?}\n{}", self.argv, self.log());
        }
        end_group_children(&self.child);
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }

    /// Sends a signal to the process (not to its children).
    ///
    /// # Errors
    /// If it has been reaped already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.status.is_some() {
            bail!("`{}` has exited already", self.argv);
        }
        kill_process(pid_of(&self.child), signal).with_context(|| format!("signal `{}`", self.argv))
    }

    /// Ends it with SIGTERM, after two seconds with SIGKILL, and waits for it.
    pub fn terminate(&mut self) {
        if self.status.is_some() {
            return;
        }
        let _ = kill_process_group(pid_of(&self.child), Signal::TERM);
        let _ = wait_for_exit(&self.child, TERMINATE_DEADLINE);
        self.kill();
    }

    /// Lets it run on without an owner; its namespace ends it when that is removed.
    pub fn detach(self) {
        std::mem::forget(self);
    }

    /// Ends it and its children with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            end_group(&mut self.child);
            self.status = self.child.wait().ok();
        }
    }
}

/// Children that outlived a process which ended by itself.
fn end_group_children(child: &Child) {
    let _ = kill_process_group(pid_of(child), Signal::KILL);
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate();
    }
}
