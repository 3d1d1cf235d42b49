//! The house with everybody in it.

use anyhow::{Context, Result, ensure};
use lab::Namespace;
use lab::house::{Control, House, Programs, Router, Stub, WEB_MAC};

use super::report::{Report, json, show, show_command};

/// The house, its hosts and the router.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) router: Router,
    pub(crate) programs: Programs,
    /// A host with udhcpc.
    pub(crate) alice: Namespace,
    /// A host with dhclient.
    pub(crate) bob: Namespace,
    /// The web server with a reservation.
    pub(crate) web: Namespace,
    /// A host of the other LAN.
    pub(crate) dmz: Namespace,
    // Dropped last: what runs in it goes first.
    pub(crate) house: House,
}

impl Stage {
    /// Builds the house, lets `routerctl` make the zone and starts the router in it; nothing if one of
    /// these steps fails.
    pub(crate) fn build(programs: Programs, report: &mut Report) -> Result<Option<Self>> {
        let house = House::new("demo").context("build the house")?;
        house.write_config(&config(&house))?;
        let control = house.control(&programs);
        let has_zone =
            report.step("routerctl makes the router's zone", || make_zone(&house, &programs));
        if !has_zone {
            return Ok(None);
        }
        let alice = house.lan_host("alice", Stub::Home, None)?;
        let bob = house.lan_host("bob", Stub::Home, None)?;
        let web = house.lan_host("web", Stub::Home, Some(WEB_MAC))?;
        let dmz = house.dmz_host("dmz")?;
        let mut router = None;
        report.step("routerd starts and the WAN gets its lease from the ISP", || {
            show_command("router", "routerd --config router.toml &");
            let started = router.insert(house.start_router(&programs)?);
            started.wait_for_wan()?;
            wan_lease(&house, &control)
        });
        let Some(router) = router else { return Ok(None) };
        Ok(Some(Self { router, programs, alice, bob, web, dmz, house }))
    }

    /// Runs `routerctl`, showing it and what it printed.
    pub(crate) fn ctl(&self, line: &str) -> Result<String> {
        let output = self.ctl_quietly(line)?;
        show(&output);
        Ok(output)
    }

    /// Runs `routerctl`, showing it but not what it printed.
    pub(crate) fn ctl_quietly(&self, line: &str) -> Result<String> {
        show_command("host", &format!("routerctl {line}"));
        Ok(self.control().run(line)?)
    }

    pub(crate) fn control(&self) -> &Control {
        &self.router.control
    }

    /// The configuration file's text.
    pub(crate) fn config(&self) -> Result<String> {
        let path = self.house.config_path();
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// The WAN's address now.
    pub(crate) fn wan_address(&self) -> Result<String> {
        wan_address(self.control())
    }

    /// Leaves everything running and says how to look around.
    pub(crate) fn keep(self) -> Result<()> {
        let Self { router, programs, alice, bob, web, dmz, house } = self;
        let socket = house.socket().display().to_string();
        println!("\nThe lab stays until `cargo xtask demo --clean`. A shell on each host:");
        let own = [&house.isp, &house.remote, &house.host, &house.router];
        for host in own.into_iter().chain([&alice, &bob, &web, &dmz]) {
            println!("  {:7} ip netns exec {} bash", host.label(), host.name());
        }
        println!("The router: {} --socket {socket} status", programs.routerctl.display());
        house.adopt(router.process);
        house.keep()
    }
}

/// The house's configuration, and how its zone is attached.
fn config(house: &House) -> String {
    let (zone, config) = (house.router.name(), house.config());
    format!(
        "{config}
[zone]
name = \"{zone}\"
platform = \"linux\"

[[zone.link]]
name = \"wan0\"
over = \"igb0\"
"
    )
}

fn make_zone(house: &House, programs: &Programs) -> Result<String> {
    let config = house.config_path();
    for verb in ["plan", "apply --service none"] {
        show_command("host", &format!("routerctl zone {verb} --config router.toml"));
        let words = ["zone"].into_iter().chain(verb.split(' ')).chain(["--config"]);
        let argv = [programs.routerctl.as_os_str()].into_iter().chain(words.map(AsRef::as_ref));
        show(house.host.exec_as_host(argv.chain([config.as_os_str()]))?.stdout);
    }
    let links = house.router.exec(["ip", "-j", "address", "show"])?.stdout;
    let links = json(&links)?;
    let links = links.as_array().map(Vec::as_slice).unwrap_or_default();
    let has_link = |name| links.iter().any(|link| link["ifname"] == name);
    for name in ["wan0", "lan0", "lan1"] {
        ensure!(has_link(name), "the zone has no link {name}");
    }
    let has_address = |link: &&serde_json::Value| {
        link["ifname"] != "lo" && link["addr_info"].as_array().is_some_and(|a| !a.is_empty())
    };
    ensure!(!links.iter().any(|link| has_address(&link)), "the kernel has an address in the zone");
    Ok("the zone has wan0, lan0 and lan1, and the kernel no address on them".to_owned())
}

fn wan_lease(house: &House, control: &Control) -> Result<String> {
    show_command("host", "routerctl --json status");
    let status = json(&control.run("--json status")?)?;
    let wan = &status["wan"];
    let address = wan_address(control)?;
    show(format!("\"state\": {}, \"address\": {}", wan["state"], wan["address"]));
    let acknowledged = |line: &str| line.contains("DHCPACK") && line.contains(&address);
    ensure!(house.isp_log().lines().any(acknowledged), "the ISP knows of no lease for {address}");
    let (server, lease) = (&wan["server"], &wan["lease_secs"]);
    Ok(format!("bound to {address} by the ISP's DHCP server {server}, for {lease} s"))
}

fn wan_address(control: &Control) -> Result<String> {
    let status = json(&control.run("--json status")?)?;
    let address = status["wan"]["address"].as_str().context("the WAN has no address")?;
    Ok(address.split('/').next().unwrap_or(address).to_owned())
}
