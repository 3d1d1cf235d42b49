//! The router in its zone.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{DMZ_ROUTER, HOME_ROUTER, House, Stub, WEB, WEB_MAC};
use crate::{CommandFailed, Namespace, Process, wait_until};

/// Longest time from the start of `routerd` until its control socket answers.
const SOCKET_DEADLINE: Duration = Duration::from_secs(10);

/// Longest time until the WAN has its lease: DISCOVER, REQUEST and the ARP probes take a second; a lost
/// packet costs four more (RFC 2131 §4.1).
const WAN_DEADLINE: Duration = Duration::from_secs(15);

/// The programs under test.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The router.
    pub routerd: PathBuf,
    /// Its remote control.
    pub routerctl: PathBuf,
}

impl Programs {
    /// Those in a folder.
    ///
    /// # Errors
    /// If one is not there.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let programs =
            Self { routerd: folder.join("routerd"), routerctl: folder.join("routerctl") };
        for program in [&programs.routerd, &programs.routerctl] {
            if !program.is_file() {
                bail!(
                    "{} is missing; build it: cargo build -p routerd -p routerctl",
                    program.display()
                );
            }
        }
        Ok(programs)
    }
}

/// A router that runs in the house's zone.
#[derive(Debug)]
pub struct Router {
    /// The running `routerd`.
    pub process: Process,
    /// Its remote control.
    pub control: Control,
}

/// `routerctl` for the house's router, run on the host.
#[derive(Debug, Clone)]
pub struct Control {
    host: Namespace,
    routerctl: PathBuf,
    socket: PathBuf,
}

impl House {
    /// The configuration for this house: WAN by DHCP, home with DHCP and a reservation for `web`, a DMZ
    /// that home reaches but not the other way round.
    #[must_use]
    pub fn config(&self) -> String {
        let (socket, state) = (self.socket(), self.file("state"));
        format!(
            r#"[control]
socket = "{socket}"
state = "{state}"

[wan]
link = "wan0"
mode = "dhcp"
ping = true

[[lan]]
name = "home"
link = "{home}"
address = "{HOME_ROUTER}/24"
reach = ["dmz"]
[lan.dhcp]
pool = "10.0.0.100-10.0.0.199"
lease = "12h"
[[lan.dhcp.reservation]]
mac = "{WEB_MAC}"
address = "{WEB}"
name = "web"

[[lan]]
name = "dmz"
link = "{dmz}"
address = "{DMZ_ROUTER}/24"

[dns]
domain = "home.arpa"
"#,
            socket = socket.display(),
            state = state.display(),
            home = Stub::Home.router_link(),
            dmz = Stub::Dmz.router_link(),
        )
    }

    /// The control socket that [`Self::config`] names.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.file("control.sock")
    }

    /// Where [`Self::write_config`] writes.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.file("router.toml")
    }

    /// Writes a configuration.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write_config(&self, text: &str) -> Result<PathBuf> {
        let path = self.config_path();
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Starts the router on the configuration that was written last and waits for its control socket.
    ///
    /// # Errors
    /// If it exits or does not answer; its log is in the message.
    pub fn start_router(&self, programs: &Programs) -> Result<Router> {
        let mut process = self.spawn_router(programs)?;
        let control = self.control(programs);
        let mut has_exited = false;
        let outcome = wait_until(SOCKET_DEADLINE, "the control socket answers", || {
            has_exited = !process.is_running();
            has_exited || control.run("--json status").is_ok()
        });
        if has_exited {
            bail!("routerd exited\n{}", process.log());
        }
        outcome.with_context(|| process.log())?;
        Ok(Router { process, control })
    }

    /// Starts the router and returns at once.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn_router(&self, programs: &Programs) -> Result<Process> {
        let config = self.config_path();
        self.router.spawn([programs.routerd.as_os_str(), "--config".as_ref(), config.as_ref()])
    }

    /// The remote control of this house's router, which need not run.
    #[must_use]
    pub fn control(&self, programs: &Programs) -> Control {
        let routerctl = programs.routerctl.clone();
        Control { host: self.host.clone(), routerctl, socket: self.socket() }
    }
}

impl Control {
    /// Runs `routerctl` with these words, separated by spaces; returns what it printed.
    ///
    /// # Errors
    /// If it exits with another status than 0.
    pub fn run(&self, line: &str) -> Result<String, CommandFailed> {
        let socket = ["--socket".as_ref(), self.socket.as_os_str()];
        let words = line.split(' ').map(OsStr::new);
        let argv = [self.routerctl.as_os_str()].into_iter().chain(socket).chain(words);
        self.host.exec(argv).map(|output| output.stdout)
    }
}

impl Router {
    /// Waits until the WAN has an address.
    ///
    /// # Errors
    /// After 15 s; the router's log is in the message.
    pub fn wait_for_wan(&self) -> Result<()> {
        let is_up = || {
            let status = self.control.run("--json status").unwrap_or_default();
            let compact: String = status.split_whitespace().collect();
            ["\"state\":\"bound\"", "\"state\":\"static\""].iter().any(|up| compact.contains(up))
        };
        wait_until(WAN_DEADLINE, "the WAN has an address", is_up)
            .with_context(|| self.process.log())
    }
}
