//! The nightly toolchain, for what stable has no flag for: sanitizers and the fuzzer.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::cargo;

/// The platform of the sanitizers' runtimes; naming it keeps build scripts free of them.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Cargo of the nightly toolchain.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(cargo::root());
    // What this cargo hands down would send the other one back to its compiler.
    for variable in ["CARGO", "RUSTC", "RUSTC_WRAPPER", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"]
    {
        command.env_remove(variable);
    }
    command
}

/// Makes sure that there is such a toolchain.
pub(crate) fn ensure_installed() -> Result<()> {
    let version = cargo().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = version.is_ok_and(|status| status.success());
    ensure!(is_there, "this needs the nightly toolchain; run: rustup toolchain install nightly");
    Ok(())
}
