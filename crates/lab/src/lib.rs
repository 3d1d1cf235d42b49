//! Development only: network namespaces with real peers in them, which remove themselves.
//!
//! A [`Lab`] owns namespaces whose names carry the owner's process id (`zr-<pid>-<n>-<label>`). Links
//! exist only inside those namespaces; the root namespace is never touched. Dropping a [`Process`] ends
//! it and its children, dropping the lab ends whatever still runs in its namespaces and deletes them, so
//! a failed assertion cleans up like a success. What no destructor survives (`SIGKILL`, `SIGINT`) is in
//! a run file under the system's temporary directory: the next [`Lab::new`], or
//! [`Lab::clean_stale`], removes what dead owners left.
//!
//! Every namespace starts with `lo` up, IPv6 off, and a `resolv.conf` of its own, so that no DHCP client
//! inside can rewrite the machine's. Offloads keep their defaults: super-packets and partial checksums
//! are part of what is tested.
//!
//! Needs root and iproute2. Non-goals: speed, portability (Linux only).

#![cfg(target_os = "linux")]

mod command;
pub mod house;
mod namespace;
mod process;
mod stale;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use command::{CommandFailed, Output, require};
pub use namespace::{End, Namespace};
pub use process::Process;

/// Interval at which [`wait_until`] looks again: short against any protocol timer, cheap to run.
const WAIT_STEP: Duration = Duration::from_millis(10);

/// Numbers the labs of this process.
static LABS: AtomicU32 = AtomicU32::new(0);

/// Namespaces and links that live as long as this value.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    record: stale::Record,
    namespaces: Mutex<Vec<Namespace>>,
    is_kept: bool,
}

impl Lab {
    /// Starts an empty lab; `label` is only for people who read `ip netns`.
    ///
    /// # Errors
    /// Without root or iproute2; leftovers of dead owners that can't be removed don't matter here.
    pub fn new(label: &str) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces and needs root: run it as root or with sudo"
        );
        require("ip")?;
        let _ = Self::clean_stale();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}{}-{number}-{label}", stale::NAME_PREFIX, std::process::id());
        let record = stale::Record::create(&prefix).context("create the lab's run file")?;
        Ok(Self { prefix, record, namespaces: Mutex::new(Vec::new()), is_kept: false })
    }

    /// Makes a namespace with `lo` up and IPv6 off.
    ///
    /// # Errors
    /// If a command fails.
    pub fn namespace(&self, label: &str) -> Result<Namespace> {
        let name = format!("{}-{label}", self.prefix);
        self.record.add(&name)?;
        let namespace = Namespace::create(name, label)?;
        self.namespaces.lock().expect("no panic under this lock").push(namespace.clone());
        Ok(namespace)
    }

    /// A handle for a namespace that a program under test will make; it is removed with the lab too.
    ///
    /// # Errors
    /// If its name can't be noted.
    pub fn reserve(&self, label: &str) -> Result<Namespace> {
        let name = format!("{}-{label}", self.prefix);
        self.record.add(&name)?;
        let namespace = Namespace::reserved(name, label)?;
        self.namespaces.lock().expect("no panic under this lock").push(namespace.clone());
        Ok(namespace)
    }

    /// A folder for files of the lab, removed with it.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.record.files()
    }

    /// Leaves everything in place, for [`Lab::clean_kept`] to remove.
    ///
    /// # Errors
    /// If that can't be noted; then the lab is removed.
    pub fn keep(mut self) -> Result<()> {
        self.record.keep()?;
        self.namespaces.get_mut().unwrap_or_else(|lock| lock.into_inner()).clear();
        self.is_kept = true;
        Ok(())
    }

    /// Makes a veth pair between two namespaces and sets both ends up.
    ///
    /// An end is `(&namespace, "name")` or `(&namespace, "name", "02:00:00:00:00:01")`.
    ///
    /// # Errors
    /// If a name is taken or longer than 15 bytes, or a MAC address is malformed.
    pub fn veth<'a>(&self, a: impl Into<End<'a>>, b: impl Into<End<'a>>) -> Result<()> {
        let (a, b) = (a.into(), b.into());
        let mut argv = vec!["ip", "link", "add", "name", a.link];
        argv.extend(a.mac.iter().flat_map(|mac| ["address", mac]));
        argv.extend(["type", "veth", "peer", "name", b.link]);
        argv.extend(b.mac.iter().flat_map(|mac| ["address", mac]));
        argv.extend(["netns", b.namespace.name()]);
        a.namespace.exec(argv).context("make a veth pair")?;
        for end in [&a, &b] {
            end.namespace.exec(["ip", "link", "set", "dev", end.link, "up"])?;
        }
        Ok(())
    }

    /// Makes a bridge in `namespace`, sets it up and makes `ports` its members.
    ///
    /// # Errors
    /// If a port does not exist.
    pub fn bridge(&self, namespace: &Namespace, name: &str, ports: &[&str]) -> Result<()> {
        let forward_delay_zero = ["type", "bridge", "stp_state", "0", "forward_delay", "0"];
        namespace
            .exec(["ip", "link", "add", "name", name].into_iter().chain(forward_delay_zero))?;
        namespace.exec(["ip", "link", "set", "dev", name, "up"])?;
        for port in ports {
            namespace.exec(["ip", "link", "set", "dev", port, "master", name])?;
            namespace.exec(["ip", "link", "set", "dev", port, "up"])?;
        }
        Ok(())
    }

    /// Removes namespaces and processes of labs whose owner is dead; returns the namespaces' names.
    ///
    /// # Errors
    /// If the run files can't be listed or a namespace can't be deleted.
    pub fn clean_stale() -> Result<Vec<String>> {
        stale::clean()
    }

    /// Removes the labs that were kept; returns the namespaces' names.
    ///
    /// # Errors
    /// As [`Lab::clean_stale`].
    pub fn clean_kept() -> Result<Vec<String>> {
        stale::clean_kept()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let namespaces = self.namespaces.get_mut().unwrap_or_else(|lock| lock.into_inner());
        let mut all_gone = true;
        for namespace in namespaces.drain(..) {
            if let Err(error) = stale::remove_namespace(namespace.name()) {
                eprintln!("lab: {} is left behind: {error:#}", namespace.name());
                all_gone = false;
            }
        }
        if all_gone {
            self.record.remove();
        }
    }
}

/// Set once somebody wants this process to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes the work of other threads fail soon: ends every process in the labs of this process, and no
/// further one starts. Destructors then remove the labs as usual.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
    stale::end_all_processes();
}

/// Whether [`interrupt`] was called.
#[must_use]
pub fn is_interrupted() -> bool {
    // Relaxed: nothing else is published with it.
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Waits until `condition` holds.
///
/// # Errors
/// After `deadline`, naming `what` was awaited; sooner if [`interrupt`] is called.
#[expect(clippy::disallowed_methods, reason = "a development edge: real peers take real time")]
pub fn wait_until(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    let start = Instant::now();
    while !condition() {
        ensure!(!is_interrupted(), "interrupted: {what}");
        ensure!(start.elapsed() < deadline, "gave up after {deadline:?}: {what}");
        std::thread::sleep(WAIT_STEP);
    }
    Ok(())
}
