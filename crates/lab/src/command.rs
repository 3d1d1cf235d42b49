//! Commands that end by themselves.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Longest time that a command run with `exec` may take; a hung peer must not hang the test.
const EXEC_DEADLINE: Duration = Duration::from_secs(120);

/// What a command that succeeded wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output, lossily UTF-8.
    pub stdout: String,
    /// Standard error, lossily UTF-8.
    pub stderr: String,
}

/// A command did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{argv}` {outcome}\n{stdout}{stderr}")]
pub struct CommandFailed {
    /// The command line.
    pub argv: String,
    /// The exit code, if it exited.
    pub code: Option<i32>,
    /// What happened, such as "exit status: 1".
    pub outcome: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Finds a program, or names the Debian package that has it.
///
/// # Errors
/// If it is not installed.
pub fn require(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    match found {
        Some(file) => Ok(file),
        None => bail!("missing: {program}; install it with: apt-get install {}", package(program)),
    }
}

/// The Debian package of a program, where the names differ.
fn package(program: &str) -> &str {
    match program {
        "ip" | "tc" | "bridge" => "iproute2",
        "sysctl" => "procps",
        "dnsmasq" => "dnsmasq-base",
        "dhclient" => "isc-dhcp-client",
        "nft" => "nftables",
        "dig" | "nsupdate" => "dnsutils",
        "ping" => "iputils-ping",
        "nc" => "netcat-openbsd",
        other => other,
    }
}

/// Refuses to start anything more after an interruption.
pub(crate) fn check_interrupted(argv: &str) -> Result<(), CommandFailed> {
    if crate::is_interrupted() {
        let (stdout, stderr) = (String::new(), String::new());
        let outcome = "did not run: interrupted".to_owned();
        return Err(CommandFailed { argv: argv.to_owned(), code: None, outcome, stdout, stderr });
    }
    Ok(())
}

/// A command line to run, possibly inside a namespace.
pub(crate) fn command<I, S>(namespace: Option<&str>, argv: I) -> (Command, String)
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let inside = namespace.into_iter().flat_map(|name| ["ip", "netns", "exec", name]);
    let mut words: Vec<_> = inside.map(|word| OsStr::new(word).to_owned()).collect();
    words.extend(argv.into_iter().map(|word| word.as_ref().to_owned()));
    let shown: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).process_group(0);
    (command, shown.join(" "))
}

/// Runs a command to its end.
///
/// Output goes through files, not pipes: a daemon that the command leaves behind would keep a pipe open.
pub(crate) fn run(
    (mut command, argv): (Command, String),
    input: &[u8],
) -> Result<Output, CommandFailed> {
    let outcome = run_captured(&mut command, input);
    let failed = |outcome, code, stdout, stderr| {
        Err(CommandFailed { argv: argv.clone(), code, outcome, stdout, stderr })
    };
    match outcome {
        Err(error) => failed(format!("did not run: {error}"), None, String::new(), String::new()),
        Ok((None, stdout, stderr)) => {
            failed(format!("did not end within {EXEC_DEADLINE:?}"), None, stdout, stderr)
        }
        Ok((Some(status), stdout, stderr)) if status.success() => Ok(Output { stdout, stderr }),
        Ok((Some(status), stdout, stderr)) => {
            failed(status.to_string(), status.code(), stdout, stderr)
        }
    }
}

fn run_captured(
    command: &mut Command,
    input: &[u8],
) -> std::io::Result<(Option<ExitStatus>, String, String)> {
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    if !input.is_empty() {
        let mut stdin = tempfile::tempfile()?;
        stdin.write_all(input)?;
        stdin.rewind()?;
        command.stdin(stdin);
    }
    let mut child = command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()?;
    let status = if wait_for_exit(&child, EXEC_DEADLINE)? {
        Some(child.wait()?)
    } else {
        end_group(&mut child);
        None
    };
    Ok((status, read_all(&mut stdout)?, read_all(&mut stderr)?))
}

fn read_all(file: &mut std::fs::File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits until the child has exited, without reaping it; `false` after `deadline`.
pub(crate) fn wait_for_exit(child: &Child, deadline: Duration) -> std::io::Result<bool> {
    let pidfd = pidfd_open(pid_of(child), PidfdFlags::empty())?;
    let timeout = deadline.try_into().ok();
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref())? > 0)
}

/// Kills what is left of the child's process group, then reaps the child.
///
/// The group is signalled before the child is reaped: until then its number can't be reused.
pub(crate) fn end_group(child: &mut Child) {
    let _ = kill_process_group(pid_of(child), Signal::KILL);
    let _ = child.wait();
}

/// The child's process id, which is also its group's.
pub(crate) fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Reads a whole log without moving the position that it shares with its writer.
pub(crate) fn read_log(log: &File) -> String {
    let mut bytes =
        vec![0; log.metadata().map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(0))];
    let mut filled = 0;
    while filled < bytes.len() {
        match log.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    String::from_utf8_lossy(&bytes[..filled]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = require("no-such-program-here").unwrap_err().to_string();
        assert!(error.starts_with("missing: no-such-program-here"), "{error}");
        assert!(error.ends_with("apt-get install no-such-program-here"), "{error}");
    }

    #[test]
    fn a_failed_command_keeps_argv_status_and_stderr() {
        let failed = run(command(None, ["sh", "-c", "echo why >&2; exit 3"]), b"").unwrap_err();
        assert_eq!(failed.code, Some(3));
        assert_eq!(failed.stderr, "why\n");
        assert_eq!(failed.argv, "sh -c echo why >&2; exit 3");
    }

    #[test]
    fn a_command_reads_its_input() {
        assert_eq!(run(command(None, ["cat"]), b"text").unwrap().stdout, "text");
    }
}
