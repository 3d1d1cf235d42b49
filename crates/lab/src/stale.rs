//! What a lab leaves behind when its process is killed, and how that is found again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{command, run};
use crate::namespace::resolver_folder;

/// Start of the name of every namespace that a lab makes; the owner's process id follows.
pub(crate) const NAME_PREFIX: &str = "zr-";

/// Attempts to make a folder; each failure needs another lab that ends in the same instant.
const CREATE_ATTEMPTS_MAX: u32 = 10;

/// First word of the run file of a lab that stays without an owner.
const KEPT: &str = "kept";

/// Namespaces of this process's labs, for [`end_all_processes`].
static LIVE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The run file of a lab: first line the owner, then one namespace on each line.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
}

impl Record {
    pub(crate) fn create(prefix: &str) -> Result<Self> {
        let folder = folder();
        let path = folder.join(prefix);
        create_folder(&files(&path))?;
        let owner = std::process::id();
        let mut file = File::create(&path).with_context(|| format!("{}", path.display()))?;
        writeln!(file, "{owner} {}", start_time(owner).unwrap_or_default())?;
        Ok(Self { path })
    }

    /// Notes a namespace before it is made.
    pub(crate) fn add(&self, namespace: &str) -> Result<()> {
        LIVE.lock().expect("no panic under this lock").push(namespace.to_owned());
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        writeln!(file, "{namespace}").context("note a namespace in the run file")
    }

    /// Where the lab keeps files; it goes with the record.
    pub(crate) fn files(&self) -> PathBuf {
        files(&self.path)
    }

    /// Says that nobody owns the lab from now on and that it stays until [`clean_kept`].
    pub(crate) fn keep(&self) -> Result<()> {
        let text = std::fs::read_to_string(&self.path)?;
        let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
        let kept = format!("{KEPT} {}\n{rest}", std::process::id());
        std::fs::write(&self.path, kept).context("note in the run file that the lab stays")
    }

    pub(crate) fn remove(&self) {
        remove_record(&self.path);
    }
}

fn remove_record(path: &Path) {
    let _ = std::fs::remove_file(path);
    remove_folder(&files(path));
}

/// Makes a folder and its parent, which another lab may be removing because it is empty.
pub(crate) fn create_folder(path: &Path) -> std::io::Result<()> {
    let mut outcome = Ok(());
    for _ in 0..CREATE_ATTEMPTS_MAX {
        outcome = std::fs::create_dir_all(path);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Removes a folder with all that is in it, and its parent if that was the last.
pub(crate) fn remove_folder(path: &Path) {
    let _ = std::fs::remove_dir_all(path);
    if let Some(parent) = path.parent() {
        let _ = std::fs::remove_dir(parent);
    }
}

fn files(record: &Path) -> PathBuf {
    record.with_extension("files")
}

fn folder() -> PathBuf {
    std::env::temp_dir().join("zone-router-lab")
}

/// Start time of a process in clock ticks since boot: with the id it names a process for good.
fn start_time(pid: u32) -> Option<u64> {
    start_time_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The start time in a line of `/proc/PID/stat`, unless the process only waits to be reaped.
fn start_time_in(stat: &str) -> Option<u64> {
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace();
    let state = after_name.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    after_name.nth(18)?.parse().ok()
}

/// Removes what labs with a dead owner left.
pub(crate) fn clean() -> Result<Vec<String>> {
    clean_where(namespaces_of_dead_owner)
}

/// Removes labs that were kept on purpose.
pub(crate) fn clean_kept() -> Result<Vec<String>> {
    clean_where(namespaces_kept)
}

/// Removes the labs in whose run file `namespaces` finds any.
fn clean_where(namespaces: impl Fn(&Path) -> Option<Vec<String>>) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let Ok(records) = std::fs::read_dir(folder()) else { return Ok(removed) };
    for record in records {
        let path = record?.path();
        let Some(namespaces) = namespaces(&path) else { continue };
        for namespace in namespaces {
            remove_namespace(&namespace)?;
            removed.push(namespace);
        }
        remove_record(&path);
    }
    Ok(removed)
}

/// The namespaces in the run file of a lab that was kept.
fn namespaces_kept(path: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.strip_prefix(KEPT)?.trim().parse().ok()?;
    Some(namespaces_of(pid, lines))
}

/// The names that a lab of the process `pid` can have given.
fn namespaces_of<'a>(pid: u32, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let ours = format!("{NAME_PREFIX}{pid}-");
    names.filter(|name| name.starts_with(&ours)).map(str::to_owned).collect()
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
    Some(namespaces_of(pid, lines))
}

/// Ends every process in a namespace and deletes it; a namespace that is gone already is fine.
pub(crate) fn remove_namespace(name: &str) -> Result<()> {
    remove_folder(&resolver_folder(name));
    if !Path::new("/run/netns").join(name).exists() {
        return Ok(());
    }
    end_processes(name)?;
    let deleted = run(command(None, ["ip", "netns", "delete", name]), b"");
    // Two cleaners may meet at one leftover; whoever comes second finds it gone.
    if Path::new("/run/netns").join(name).exists() {
        deleted?;
    }
    Ok(())
}

/// Ends every process in every namespace that this process's labs have.
pub(crate) fn end_all_processes() {
    let names = LIVE.lock().expect("no panic under this lock").clone();
    for name in names.iter().filter(|name| Path::new("/run/netns").join(name).exists()) {
        let _ = end_processes(name);
    }
}

fn end_processes(namespace: &str) -> Result<()> {
    let pids = run(command(None, ["ip", "netns", "pids", namespace]), b"")?.stdout;
    let own = std::process::id().cast_signed();
    let others =
        pids.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != own);
    for pid in others.filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
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
    fn an_owner_that_nobody_reaped_counts_as_dead() {
        let stat = |state: &str| {
            format!("7 (a) b) {state} {}", (4..=22).map(|n| format!("{n} ")).collect::<String>())
        };
        assert_eq!(start_time_in(&stat("S")), Some(22));
        assert_eq!(start_time_in(&stat("Z")), None);
    }

    #[test]
    fn a_kept_lab_is_nobodys_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        std::fs::write(&path, "1 1\nzr-1-0-x\n").unwrap();
        let record = Record { path };
        record.keep().unwrap();
        assert_eq!(namespaces_of_dead_owner(&record.path), None);
        let own = std::process::id();
        std::fs::write(&record.path, format!("{KEPT} {own}\nzr-{own}-0-x\neth0\n")).unwrap();
        assert_eq!(namespaces_kept(&record.path), Some(vec![format!("zr-{own}-0-x")]));
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
