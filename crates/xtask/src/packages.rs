//! Debian packages that a task needs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::interrupt;

/// A file that shows that a package is there, and the package.
type Need = (&'static str, &'static str);

/// What a house needs: the namespaces and the peers in it.
pub(crate) const HOUSE: &[Need] = &[
    ("ip", "iproute2"),
    ("sysctl", "procps"),
    ("nsenter", "util-linux"),
    ("busybox", "busybox"),
    ("udhcpc", "udhcpc"),
    ("dhclient", "isc-dhcp-client"),
    ("dnsmasq", "dnsmasq-base"),
    ("dig", "bind9-dnsutils"),
    ("curl", "curl"),
    ("ping", "iputils-ping"),
    ("traceroute", "traceroute"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("nmap", "nmap"),
    ("hping3", "hping3"),
    ("ethtool", "ethtool"),
    ("turnutils_natdiscovery", "coturn"),
];

/// The compiler that knows illumos and has the sources of its standard library.
pub(crate) const ILLUMOS: &[Need] = &[
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/std/Cargo.toml", "rust-web-src"),
];

/// What watches the memory of test programs, and counts instructions.
pub(crate) const VALGRIND: &[Need] = &[("valgrind", "valgrind")];

/// Makes sure that these are there; says what it installs before it does.
pub(crate) fn ensure_installed(needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    println!(
        "These Debian packages are missing and will be installed (none starts a service): {list}"
    );
    let command = format!("apt-get install --no-install-recommends {list}");
    ensure!(rustix::process::geteuid().is_root(), "installing needs root; run: sudo {command}");
    ensure!(lab::require("apt-get").is_ok(), "this is no Debian: install what these packages hold");
    let _policy = NoServices::begin()?;
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], &missing[..]].concat())?;
    let still = self::missing(needs);
    if !still.is_empty() {
        bail!("still missing after the installation: {}", still.join(" "));
    }
    Ok(())
}

/// The packages that are not there, each once.
fn missing(needs: &[Need]) -> Vec<&'static str> {
    let is_missing = |(file, _): &&Need| {
        if file.starts_with('/') { !Path::new(file).exists() } else { lab::require(file).is_err() }
    };
    let mut missing: Vec<_> =
        needs.iter().filter(is_missing).map(|(_, package)| *package).collect();
    missing.dedup();
    missing
}

/// Runs apt-get in a process group of its own: Ctrl-C must not leave a package half configured.
fn apt(words: &[&str]) -> Result<()> {
    interrupt::check()?;
    println!("$ apt-get {}", words.join(" "));
    let status = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=60"])
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .status()
        .context("run apt-get")?;
    ensure!(status.success(), "apt-get {}: {status}", words.join(" "));
    Ok(())
}

/// Keeps packages from starting services while it lives (invoke-rc.d(8)).
struct NoServices {
    is_ours: bool,
}

/// What Debian's maintainer scripts ask before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Says no ("action forbidden by policy") to everything.
const POLICY_TEXT: &str =
    "#!/bin/sh\n# Made by zone-router's cargo xtask; safe to remove.\nexit 101\n";

impl NoServices {
    fn begin() -> Result<Self> {
        if let Ok(text) = fs::read_to_string(POLICY) {
            // An earlier run that was killed left ours; anybody else's stays.
            return Ok(Self { is_ours: text == POLICY_TEXT });
        }
        let policy = Self { is_ours: true };
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY)
            .and_then(|mut file| {
                file.set_permissions(fs::Permissions::from_mode(0o755))?;
                file.write_all(POLICY_TEXT.as_bytes())
            })
            .with_context(|| format!("write {POLICY}"))?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_several_programs_need_is_named_once() {
        let needs: &[Need] =
            &[("/no/a", "one"), ("/no/b", "one"), ("sh", "dash"), ("/no/c", "two")];
        assert_eq!(missing(needs), ["one", "two"]);
    }
}
