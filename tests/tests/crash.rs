//! kill -9 at any moment loses nothing that was acknowledged. Needs root.

#![cfg(target_os = "linux")]

use anyhow::Result;
use lab::house::{Client, ISP, WEB_PAGE};
use tests::house::{Home, curl, run};

#[test]
fn after_kill_9_the_wan_lease_is_verified_without_discover() -> Result<()> {
    let mut home = Home::boot("crash")?;
    let before = home.wan_address()?;
    let log = home.crash_and_restart()?;
    assert!(log.contains("DHCPREQUEST") && log.contains("DHCPACK"), "{log}");
    assert!(!log.contains("DHCPDISCOVER"), "{log}");
    assert_eq!(home.wan_address()?, before);
    Ok(())
}

#[test]
fn after_kill_9_under_traffic_leases_and_runtime_forwards_are_there() -> Result<()> {
    let mut home = Home::boot("crash")?;
    home.web()?;
    let (alice, lease) = home.host("alice", Client::Udhcpc)?;
    home.ctl("forward add tcp 8080 web:80")?;
    let (leases, forwards) = (home.ctl_json("lease list")?, home.ctl_json("forward list")?);
    home.house.start_iperf(&home.house.isp)?;
    let mut load = alice.spawn(format!("iperf3 -C cubic -c {ISP} -t 20").split(' '))?;
    run(&alice, &format!("ping -n -c 5 -i 0.2 -W 2 {ISP}"))?;
    assert!(load.is_running());
    home.crash_and_restart()?;
    load.kill();
    assert_eq!(addresses(&home.ctl_json("lease list")?), addresses(&leases));
    assert_eq!(home.ctl_json("forward list")?, forwards);
    let url = format!("http://{}:8080/", home.wan_address()?);
    assert_eq!(curl(&home.house.remote, &url)?, WEB_PAGE);
    assert_eq!(curl(&alice, &url)?, WEB_PAGE);
    let (_, other) = home.host("bob", Client::Udhcpc)?;
    assert_ne!(other.address, lease.address, "an address that is leased is not given again");
    Ok(())
}

fn addresses(leases: &serde_json::Value) -> Vec<(String, String)> {
    let text = |lease: &serde_json::Value, key: &str| lease[key].as_str().unwrap_or("-").to_owned();
    let leases = leases.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all: Vec<_> =
        leases.iter().map(|lease| (text(lease, "address"), text(lease, "mac"))).collect();
    all.sort_unstable();
    all
}

#[test]
fn sigterm_ends_the_router_and_it_starts_again() -> Result<()> {
    let mut home = Home::boot("crash")?;
    home.router.process.terminate();
    assert!(!home.house.socket().exists(), "the socket goes with the router");
    home.crash_and_restart()?;
    Ok(())
}
