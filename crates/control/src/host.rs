//! The host, behind one trait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::step::{Action, Plan, Step, shell_line};

/// What a command left behind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the command succeeded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == Some(0)
    }
}

/// What a plan needs of a host.
pub trait Host {
    /// Runs a command to its end.
    ///
    /// # Errors
    /// If it could not be started; an exit status is in the output.
    fn run(&mut self, argv: &[String]) -> io::Result<Output>;

    /// Starts a command in the background.
    ///
    /// # Errors
    /// If it could not be started, or its files could not be written.
    fn spawn(&mut self, argv: &[String], pid_file: &Path, log_file: &Path) -> io::Result<()>;

    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// If it exists and could not be read.
    fn read(&mut self, path: &Path) -> io::Result<Option<String>>;

    /// Puts a file in place whole or not at all, and makes its folder.
    ///
    /// # Errors
    /// If it could not be written.
    fn write(&mut self, path: &Path, contents: &str) -> io::Result<()>;

    /// Removes a file; one that is gone already is no failure.
    ///
    /// # Errors
    /// If it could not be removed.
    fn remove(&mut self, path: &Path) -> io::Result<()>;

    /// Whether there is a folder.
    fn has_folder(&mut self, path: &Path) -> bool;
}

/// Why a plan stopped.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}: {failure}", step.reason, step.action.summary())]
pub struct ApplyError {
    /// What was tried, and for what.
    pub step: Box<Step>,
    /// What came of it.
    #[source]
    pub failure: Failure,
    /// Number of steps carried out before. Planning again goes on from there.
    pub done: usize,
}

/// What came of an action that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command said no.
    #[error("{}{}", status.map_or("ended by a signal".into(), |s| format!("exit status {s}")),
        if stderr.is_empty() { String::new() } else { format!(": {}", stderr.trim_end()) })]
    Exit {
        /// Its exit status; `None` if a signal ended it.
        status: Option<i32>,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// The system could not start the command or write the file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Carries a plan out step by step; stops at the first that fails.
///
/// # Errors
/// The step that failed. Nothing is taken back: what exists is found by the next plan.
pub fn apply(plan: &Plan, host: &mut dyn Host) -> Result<(), ApplyError> {
    apply_watched(plan, host, |_| ())
}

/// Like [`apply`]; `watch` sees each step before it is carried out.
///
/// # Errors
/// As [`apply`].
pub fn apply_watched(
    plan: &Plan,
    host: &mut dyn Host,
    mut watch: impl FnMut(&Step),
) -> Result<(), ApplyError> {
    for (index, step) in plan.steps.iter().enumerate() {
        watch(step);
        tracing::info!(reason = %step.reason, action = %step.action.summary(), "apply");
        act(&step.action, host).map_err(|failure| ApplyError {
            step: Box::new(step.clone()),
            failure,
            done: index,
        })?;
    }
    Ok(())
}

fn act(action: &Action, host: &mut dyn Host) -> Result<(), Failure> {
    match action {
        Action::Run(argv) => {
            let output = host.run(argv)?;
            if !output.is_success() {
                return Err(Failure::Exit { status: output.status, stderr: output.stderr });
            }
        }
        Action::Write { path, contents } => host.write(path, contents)?,
        Action::Remove(path) => host.remove(path)?,
        Action::Spawn { argv, pid_file, log_file } => host.spawn(argv, pid_file, log_file)?,
    }
    Ok(())
}

/// Why the state of the host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A command that only reads failed.
    #[error("{command}: {failure}")]
    Command {
        /// What was run.
        command: String,
        /// What came of it.
        #[source]
        failure: Failure,
    },
    /// A command printed something else than it does on the systems that we know.
    #[error("{command} printed what is not understood: {detail}")]
    Unexpected {
        /// What was run.
        command: String,
        /// Where reading stopped.
        detail: String,
    },
    /// A file could not be read.
    #[error("read {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Runs a command that only reads, for its standard output.
pub(crate) fn query(host: &mut dyn Host, argv: &[&str]) -> Result<String, ObserveError> {
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    let failed = |failure| ObserveError::Command { command: shell_line(&argv), failure };
    let output = host.run(&argv).map_err(|error| failed(error.into()))?;
    if !output.is_success() {
        return Err(failed(Failure::Exit { status: output.status, stderr: output.stderr }));
    }
    Ok(output.stdout)
}

/// Reads a file that may not exist.
pub(crate) fn read(host: &mut dyn Host, path: &Path) -> Result<Option<String>, ObserveError> {
    host.read(path)
        .map_err(|source| ObserveError::File { path: path.display().to_string(), source })
}

/// This machine.
#[derive(Clone, Debug, Default)]
pub struct LocalHost {
    prefix: Vec<String>,
}

impl LocalHost {
    /// This machine as our process sees it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This machine as a process in the Linux network namespace `name` sees it.
    ///
    /// Enters by `nsenter`: below `ip netns exec`, which gives its command a mount namespace of its own,
    /// a namespace made by `ip netns add` would be gone with that command.
    #[must_use]
    pub fn in_netns(name: &str) -> Self {
        let enter = ["nsenter", &format!("--net=/run/netns/{name}"), "--"];
        Self { prefix: enter.map(str::to_owned).to_vec() }
    }

    fn command(&self, argv: &[String]) -> io::Result<Command> {
        let mut words = self.prefix.iter().chain(argv);
        let program = words
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
        let mut command = Command::new(program);
        // Messages are matched and shown; they must not depend on who runs us.
        command.args(words).env("LC_ALL", "C").stdin(Stdio::null());
        Ok(command)
    }
}

impl Host for LocalHost {
    fn run(&mut self, argv: &[String]) -> io::Result<Output> {
        let output = self.command(argv)?.output()?;
        Ok(Output {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn spawn(&mut self, argv: &[String], pid_file: &Path, log_file: &Path) -> io::Result<()> {
        for file in [pid_file, log_file] {
            fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(log_file)?;
        let mut command = self.command(argv)?;
        let mut child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let written = self.write(pid_file, &format!("{}\n", child.id()));
        // Whoever stops the process watches its id, which a zombie of ours would keep.
        std::thread::spawn(move || child.wait());
        written
    }

    fn read(&mut self, path: &Path) -> io::Result<Option<String>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, path: &Path, contents: &str) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let mut aside = path.to_owned().into_os_string();
        aside.push(".new");
        let mut file = File::create(&aside)?;
        file.write_all(contents.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(folder)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn has_folder(&mut self, path: &Path) -> bool {
        path.is_dir()
    }
}
