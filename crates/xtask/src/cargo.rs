//! Cargo, as the tasks call it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::house::Programs;

use crate::interrupt;

/// The repository.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    // The task's own crate is two levels below.
    manifest.ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo's target folder: this program is in `debug` or `release` there.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find this program")?;
    let folder = program.ancestors().nth(2).context("this program is not in a target folder")?;
    Ok(folder.to_path_buf())
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Builds the router's programs as a user would.
pub(crate) fn build_release() -> Result<Programs> {
    let words = ["build", "--release", "-p", "routerd", "-p", "routerctl"];
    println!("$ cargo {}", words.join(" "));
    let target = target()?;
    let status = interrupt::status(cargo().args(words).arg("--target-dir").arg(&target))?;
    ensure!(status.success(), "cargo build: {status}");
    Programs::in_folder(&target.join("release"))
}
