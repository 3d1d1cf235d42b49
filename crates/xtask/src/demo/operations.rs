//! Forwards, crash, views, and the end of the zone.

use anyhow::{Context, Result, ensure};
use lab::house::{ISP, REMOTE, WEB_PAGE};
use serde_json::Value;

use super::report::{Report, expect_part, json, run, show, show_command};
use super::stage::Stage;
use crate::measure::load;

/// Seconds of load in the middle of which the router is killed.
const LOAD_SECS: u32 = 10;

pub(crate) fn forward(stage: &Stage, report: &mut Report) {
    report.step("routerctl adds a forward", || {
        stage.ctl("forward add tcp 8080 web:80")?;
        let list = stage.ctl("forward list")?;
        expect_part(&list, "8080", "the list")?;
        Ok("tcp 8080 leads to web:80".to_owned())
    });
    report.step("The forward is reached from the Internet", || {
        fetch(stage, &stage.house.remote)?;
        Ok(format!("{REMOTE} sees the page of `web`"))
    });
    report.step("The forward is reached from inside by the public address", || {
        fetch(stage, &stage.alice)?;
        Ok("alice sees it too (hairpinning)".to_owned())
    });
}

fn fetch(stage: &Stage, from: &lab::Namespace) -> Result<()> {
    let wan = stage.wan_address()?;
    let page = run(from, &format!("curl -sS --max-time 5 http://{wan}:8080/"))?;
    expect_part(&page, WEB_PAGE, "the page")
}

/// What has to be the same after a crash.
struct Durable {
    wan: String,
    leases: Vec<String>,
    forwards: Value,
}

impl Durable {
    fn read(stage: &Stage) -> Result<Self> {
        let list = |noun: &str| json(&stage.control().run(&format!("--json {noun} list"))?);
        let leases = list("lease")?;
        let leases = leases.as_array().context("the leases are no list")?;
        let address = |lease: &Value| lease["address"].as_str().map(str::to_owned);
        let mut leases: Vec<_> = leases.iter().filter_map(address).collect();
        leases.sort_unstable();
        Ok(Self { wan: stage.wan_address()?, leases, forwards: list("forward")? })
    }
}

pub(crate) fn crash(stage: &mut Stage, report: &mut Report) {
    report.step("kill -9 under traffic, and everything is still there", || {
        let before = Durable::read(stage)?;
        ensure!(!before.leases.is_empty(), "there is no lease to lose");
        let traffic = load(&stage.alice, ISP, LOAD_SECS)?;
        run(&stage.bob, &format!("ping -n -q -c 5 -i 0.2 -W 2 {REMOTE}"))?;
        let log_before = stage.house.isp_log().len();
        show_command("router", "kill -9 $(pidof routerd); routerd --config router.toml &");
        stage.router.process.kill();
        drop(traffic);
        stage.router = stage.house.start_router(&stage.programs)?;
        stage.router.wait_for_wan()?;
        let log = stage.house.isp_log().split_off(log_before);
        let spoken: Vec<_> = log.lines().filter_map(dhcp_word).collect();
        show(format!("the ISP's DHCP server heard and said: {}", spoken.join(", ")));
        ensure!(spoken.contains(&"DHCPACK"), "the ISP confirmed no lease");
        ensure!(!spoken.contains(&"DHCPDISCOVER"), "the lease was asked for anew");
        let after = Durable::read(stage)?;
        ensure!(after.wan == before.wan, "the WAN address changed to {}", after.wan);
        ensure!(after.leases == before.leases, "leases are {:?}", after.leases);
        ensure!(after.forwards == before.forwards, "forwards are {}", after.forwards);
        fetch(stage, &stage.house.remote)?;
        let (wan, leases) = (after.wan, after.leases.len());
        Ok(format!("{wan} verified without DISCOVER, {leases} leases and the forward kept"))
    });
}

/// The DHCP message that a line of dnsmasq's log is about.
fn dhcp_word(line: &str) -> Option<&str> {
    let word = line.split(|c: char| !c.is_ascii_uppercase()).find(|w| w.starts_with("DHCP"))?;
    (word.len() > "DHCP".len()).then_some(word)
}

pub(crate) fn views(stage: &Stage, report: &mut Report) {
    report.step("routerctl shows everything at a glance", || {
        let wan = stage.wan_address()?;
        expect_part(&stage.ctl("status")?, &wan, "the status")?;
        Ok("one screen".to_owned())
    });
    report.step("routerctl lists flows and says why packets were dropped", || {
        run(&stage.alice, &format!("ping -n -q -c 1 -W 2 {REMOTE}"))?;
        let wan = stage.wan_address()?;
        // Nobody asked for this one.
        let uninvited = ["curl", "-s", "--max-time", "0.5", &format!("http://{wan}:9/")];
        ensure!(stage.house.isp.exec(uninvited).is_err(), "port 9 of the WAN answers");
        stage.ctl("flow list")?;
        let flows = json(&stage.control().run("--json flow list")?)?;
        let is_ping = |flow: &Value| flow["protocol"] == "icmp" && flow["direction"] == "outbound";
        ensure!(flows.as_array().is_some_and(|all| all.iter().any(is_ping)), "no flow is the ping");
        stage.ctl("drops")?;
        let drops = json(&stage.control().run("--json drops")?)?;
        let is_uninvited = |drop: &&Value| drop["reason"] == "no-mapping";
        let drops = drops.as_array().map(Vec::as_slice).unwrap_or_default();
        let uninvited = drops.iter().find(is_uninvited).context("no drop is called no-mapping")?;
        Ok(format!("{} uninvited packets, counted as no-mapping", uninvited["count"]))
    });
}

pub(crate) fn remove_zone(stage: &mut Stage, report: &mut Report) {
    report.step("routerctl removes the zone", || {
        let Stage { router, programs, house, .. } = stage;
        router.process.terminate();
        // Etherstubs stay as long as somebody else is attached to them.
        for host in ["p-alice", "p-bob", "p-web", "p-dmz", "r-kernel"] {
            let _ = house.host.exec(["ip", "link", "del", "dev", host]);
        }
        show_command("host", "routerctl zone destroy --config router.toml");
        let routerctl = programs.routerctl.as_os_str();
        let words = ["zone", "destroy", "--config"].map(AsRef::as_ref);
        let config = house.config_path();
        let argv = [routerctl].into_iter().chain(words).chain([config.as_os_str()]);
        show(house.host.exec_as_host(argv)?.stdout);
        let zones = house.host.exec(["ip", "netns", "list"])?.stdout;
        ensure!(!zones.contains(house.router.name()), "the namespace is still there");
        let links = house.host.exec(["ip", "-o", "link", "show"])?.stdout;
        ensure!(!links.contains("zrstub"), "an etherstub is still there");
        Ok("its namespace, links and etherstubs are gone".to_owned())
    });
}
