//! What a lab leaves behind when its process is killed, and how that is found again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{command, run};
use crate::namespace::resolver_folder;

/// Start of the name of every namespace that a lab makes; the owner's process id follows.
pub(crate) const NAME_PREFIX: &str = "zr-";

/// The run file of a lab: first line the owner, then one namespace on each line.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
}

impl Record {
    pub(crate) fn create(prefix: &str) -> Result<Self> {
        let folder = folder();
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(prefix);
        let owner = std::process::id();
        let mut file = File::create(&path).with_context(|| format!("{}", path.display()))?;
        writeln!(file, "{owner} {}", start_time(owner).unwrap_or_default())?;
        Ok(Self { path })
    }

    /// Notes a namespace before it is made.
    pub(crate) fn add(&self, namespace: &str) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        writeln!(file, "{namespace}").context("note a namespace in the run file")
    }

    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn folder() -> PathBuf {
    std::env::temp_dir().join("zone-router-lab")
}

/// Start time of a process in clock ticks since boot: with the id it names a process for good.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Removes what labs with a dead owner left.
pub(crate) fn clean() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let Ok(records) = std::fs::read_dir(folder()) else { return Ok(removed) };
    for record in records {
        let path = record?.path();
        if let Some(namespaces) = namespaces_of_dead_owner(&path) {
            for namespace in namespaces {
                remove_namespace(&namespace)?;
                removed.push(namespace);
            }
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(removed)
}

/// The namespaces in a run file, or `None` if the owner lives or the file is not whole yet.
fn namespaces_of_dead_owner(path: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    let (pid, started) = lines.next()?.split_once(' ')?;
    let (pid, started) = (pid.parse().ok()?, started.parse().ok()?);
    if start_time(pid) == Some(started) {
        return None;
    }
    let ours = format!("{NAME_PREFIX}{pid}-");
    Some(lines.filter(|name| name.starts_with(&ours)).map(str::to_owned).collect())
}

/// Ends every process in a namespace and deletes it; a namespace that is gone already is fine.
pub(crate) fn remove_namespace(name: &str) -> Result<()> {
    let _ = std::fs::remove_dir_all(resolver_folder(name));
    if !Path::new("/run/netns").join(name).exists() {
        return Ok(());
    }
    let pids = run(command(None, ["ip", "netns", "pids", name]), b"")?.stdout;
    let others = pids.split_whitespace().filter_map(|pid| pid.parse().ok());
    for pid in
        others.filter(|&pid| pid != std::process::id().cast_signed()).filter_map(Pid::from_raw)
    {
        let _ = kill_process(pid, Signal::KILL);
    }
    let deleted = run(command(None, ["ip", "netns", "delete", name]), b"");
    // Two cleaners may meet at one leftover; whoever comes second finds it gone.
    if Path::new("/run/netns").join(name).exists() {
        deleted?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_owner_keeps_its_namespaces() {
        let own = std::process::id();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let text = format!("{own} {}\nzr-{own}-0-x\n", start_time(own).unwrap());
        std::fs::write(&path, text).unwrap();
        assert_eq!(namespaces_of_dead_owner(&path), None);
    }

    #[test]
    fn a_process_id_that_was_reused_counts_as_dead() {
        let own = std::process::id();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        std::fs::write(&path, format!("{own} 1\nzr-{own}-0-x\neth0\n")).unwrap();
        assert_eq!(namespaces_of_dead_owner(&path), Some(vec![format!("zr-{own}-0-x")]));
    }
}
