//! A house with the router under test in it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::house::{Client, House, Lease, Programs, Router, Stub};
use lab::{Namespace, wait_until};
use serde_json::Value;

/// Folder of the programs to test; unset, they are built first.
const PROGRAMS_VARIABLE: &str = "ZONE_ROUTER_PROGRAMS";

/// Longest time until what a test did shows in what the router reports.
pub const SOON: Duration = Duration::from_secs(5);

/// The programs under test, built once for all tests of a program.
///
/// # Errors
/// If they do not build.
pub fn programs() -> Result<Programs> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| find_programs().map_err(|error| format!("{error:#}")));
    Programs::in_folder(folder.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?)
}

fn find_programs() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(PROGRAMS_VARIABLE) {
        return Ok(folder.into());
    }
    // This program is in `TARGET/PROFILE/deps`; theirs are to be in `TARGET/PROFILE`.
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).context("this test is not in a target folder")?;
    let target = folder.parent().context("this test is not in a target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "-p", "routerd", "-p", "routerctl", "--target-dir"]).arg(target);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().context("run cargo build")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the programs under test do not build:\n{errors}");
    Ok(folder.to_owned())
}

/// A house whose router is under test.
#[derive(Debug)]
pub struct Home {
    /// The running router.
    pub router: Router,
    /// The programs under test.
    pub programs: Programs,
    /// The house.
    pub house: House,
}

impl Home {
    /// Boots the router with the house's usual configuration and waits for its WAN.
    ///
    /// # Errors
    /// Without root, or if the router does not come up.
    pub fn boot(label: &str) -> Result<Self> {
        let house = vacant(label)?;
        let config = house.config();
        Self::move_in(house, &config)
    }

    /// Boots the router in a vacant house and waits for its WAN.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn move_in(house: House, config: &str) -> Result<Self> {
        let programs = programs()?;
        house.write_config(config)?;
        let router = house.start_router(&programs)?;
        router.wait_for_wan()?;
        Ok(Self { router, programs, house })
    }

    /// Runs `routerctl`.
    ///
    /// # Errors
    /// If it does not succeed.
    pub fn ctl(&self, line: &str) -> Result<String> {
        Ok(self.router.control.run(line)?)
    }

    /// Runs `routerctl --json`.
    ///
    /// # Errors
    /// If it does not succeed or prints something else than JSON.
    pub fn ctl_json(&self, line: &str) -> Result<Value> {
        let text = self.ctl(&format!("--json {line}"))?;
        serde_json::from_str(&text).with_context(|| format!("routerctl --json {line}: {text}"))
    }

    /// The WAN's address now.
    ///
    /// # Errors
    /// If it has none.
    pub fn wan_address(&self) -> Result<String> {
        let status = self.ctl_json("status")?;
        let address = status["wan"]["address"].as_str().context("the WAN has no address")?;
        Ok(address.split('/').next().unwrap_or(address).to_owned())
    }

    /// How many packets were dropped for a reason so far, on all links.
    ///
    /// # Errors
    /// If the router does not say.
    pub fn dropped(&self, reason: &str) -> Result<u64> {
        let drops = self.ctl_json("drops")?;
        let drops = drops.as_array().context("drops are a list")?;
        let counts = drops.iter().filter(|drop| drop["reason"] == reason);
        Ok(counts.filter_map(|drop| drop["count"].as_u64()).sum())
    }

    /// A host of the home LAN with a lease.
    ///
    /// # Errors
    /// If it gets none.
    pub fn host(&self, label: &str, client: Client) -> Result<(Namespace, Lease)> {
        let host = self.house.lan_host(label, Stub::Home, None)?;
        let lease = self.house.lease(&host, client)?;
        Ok((host, lease))
    }

    /// The web server of the home LAN, on the address that is reserved for it.
    ///
    /// # Errors
    /// If it does not get it.
    pub fn web(&self) -> Result<Namespace> {
        let web = self.house.lan_host("web", Stub::Home, Some(lab::house::WEB_MAC))?;
        let lease = self.house.lease(&web, Client::Udhcpc)?;
        ensure!(lease.address == lab::house::WEB, "web leased {lease}");
        self.house.start_web_server(&web, "web")?;
        Ok(web)
    }

    /// Kills the router, starts it again and waits for its WAN; returns what the ISP's DHCP server
    /// logged meanwhile.
    ///
    /// # Errors
    /// If it does not come up again.
    pub fn crash_and_restart(&mut self) -> Result<String> {
        let before = self.house.isp_log().len();
        self.router.process.kill();
        self.router = self.house.start_router(&self.programs)?;
        self.router.wait_for_wan()?;
        Ok(self.house.isp_log().split_off(before))
    }
}

/// A house whose zone has its links and no router yet.
///
/// # Errors
/// Without root.
pub fn vacant(label: &str) -> Result<House> {
    let house = House::new(label)?;
    house.attach_router()?;
    Ok(house)
}

/// Runs a command line on a host; what it printed.
///
/// # Errors
/// If it does not succeed.
pub fn run(host: &Namespace, line: &str) -> Result<String> {
    Ok(host.exec(line.split(' '))?.stdout)
}

/// Fetches a page with curl.
///
/// # Errors
/// If there is none within five seconds.
pub fn curl(host: &Namespace, url: &str) -> Result<String> {
    Ok(run(host, &format!("curl -sS --max-time 5 {url}"))?.trim_end().to_owned())
}

/// Waits until something that the router reports holds.
///
/// # Errors
/// If it does not soon.
pub fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_until(SOON, what, || holds().unwrap_or(false))
}
