//! The WAN in its other moods: static, unplugged, reconfigured. Needs root.

#![cfg(target_os = "linux")]

use anyhow::Result;
use lab::house::{Client, ISP, REMOTE, REMOTE_NAME};
use rustix::process::Signal;
use tests::house::{Home, eventually, run, vacant};

#[test]
fn a_static_wan_needs_no_lease_and_asks_the_servers_of_the_file() -> Result<()> {
    let house = vacant("wan")?;
    let keys = format!("mode = \"static\"\naddress = \"198.51.100.50/24\"\ngateway = \"{ISP}\"\n");
    let dns = format!("[dns]\nupstream = [\"{ISP}\"]\n");
    let config = house.config().replace("mode = \"dhcp\"\n", &keys).replace("[dns]\n", &dns);
    let home = Home::move_in(house, &config)?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    run(&alice, &format!("ping -n -c 1 -W 2 {REMOTE}"))?;
    assert_eq!(run(&alice, &format!("dig +short {REMOTE_NAME}"))?.trim(), REMOTE);
    assert!(!home.house.isp_log().contains("DHCPDISCOVER"));
    let wan = home.ctl_json("wan show")?;
    assert_eq!((&wan["state"], &wan["gateway"]), (&"static".into(), &ISP.into()));
    Ok(())
}

#[test]
fn a_wan_cable_that_is_pulled_and_plugged_in_again_works_again() -> Result<()> {
    let home = Home::boot("wan")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    let before = home.wan_address()?;
    run(&home.house.isp, "ip link set dev cust0 down")?;
    eventually("the link is reported down", || {
        Ok(home.ctl_json("status")?["links"][0]["state"] == "down")
    })?;
    run(&home.house.isp, "ip link set dev cust0 up")?;
    home.router.wait_for_wan()?;
    assert_eq!(home.wan_address()?, before);
    run(&alice, &format!("ping -n -c 1 -W 2 {REMOTE}"))?;
    Ok(())
}

#[test]
fn ping_false_keeps_the_wan_silent_and_flows_alive() -> Result<()> {
    let house = vacant("wan")?;
    let config = house.config().replace("ping = true", "ping = false");
    let home = Home::move_in(house, &config)?;
    let wan = home.wan_address()?;
    assert!(run(&home.house.isp, &format!("ping -n -c 1 -W 1 {wan}")).is_err());
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    run(&alice, &format!("ping -n -c 1 -W 2 {REMOTE}"))?;
    Ok(())
}

#[test]
fn sighup_puts_a_good_file_in_force_and_refuses_a_bad_one_whole() -> Result<()> {
    let home = Home::boot("wan")?;
    let shapers = || Ok::<_, anyhow::Error>(home.ctl_json("qos")?.as_array().map(Vec::len));
    assert_eq!(shapers()?, Some(0));
    let good = home.house.config();
    let shaper = "[wan.shaper]\ndownload = \"50Mbit/s\"\nupload = \"20Mbit/s\"\n";
    home.house.write_config(&format!("{good}\n{shaper}"))?;
    home.router.process.signal(Signal::HUP)?;
    eventually("both directions are shaped", || Ok(shapers()? == Some(2)))?;
    home.house.write_config(&good.replace("ping = true", "pign = true"))?;
    home.router.process.signal(Signal::HUP)?;
    eventually("the refusal is logged", || Ok(home.router.process.log().contains("pign")))?;
    assert_eq!(shapers()?, Some(2), "the running configuration stays");
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    run(&alice, &format!("ping -n -c 1 -W 2 {REMOTE}"))?;
    Ok(())
}
