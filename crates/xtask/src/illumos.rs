//! Type-checks, for illumos, every crate that is meant to run there.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{Outcome, cargo, interrupt, packages};

/// Crates that only Linux has a use for: they make namespaces, or drive those that do.
const LINUX_ONLY: &[&str] = &["lab", "xtask", "tests", "benches"];

/// The target of OmniOS and SmartOS.
const TARGET: &str = "x86_64-unknown-illumos";

/// `cargo xtask check-illumos`
pub(crate) fn run() -> Result<Outcome> {
    let mut command = command()?;
    println!("$ {}", shown(&command));
    let status = interrupt::status(&mut command)?;
    if status.success() {
        println!("check-illumos: every crate but {} type-checks", LINUX_ONLY.join(", "));
    }
    Ok(Outcome::of(status.success()))
}

/// The command that checks; the toolchain that it needs is there when it is returned.
pub(crate) fn command() -> Result<Command> {
    let mut command = if has_rustup_target() {
        cargo::cargo()
    } else {
        packages::ensure_installed(packages::ILLUMOS)?;
        debian_cargo()
    };
    command.args(["check", "--workspace", "--target", TARGET, "--target-dir"]);
    command.arg(cargo::target()?.join("illumos"));
    for package in LINUX_ONLY {
        command.args(["--exclude", package]);
    }
    Ok(command)
}

/// Whether the toolchain in use comes with a standard library for illumos.
fn has_rustup_target() -> bool {
    let list = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .current_dir(cargo::root())
        .stderr(Stdio::null())
        .output();
    list.is_ok_and(|list| String::from_utf8_lossy(&list.stdout).lines().any(|line| line == TARGET))
}

/// Debian's own cargo and compiler, which build the standard library from source.
fn debian_cargo() -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    command.current_dir(cargo::root());
    // What rustup's cargo hands down would send this one back to rustup's compiler.
    for variable in ["CARGO", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", Path::new("/usr/bin/rustc"));
    command.arg("-Zbuild-std=std,panic_abort");
    command
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
