//! Leases: the router as client of a real server, and as server of real clients. Needs root.

#![cfg(target_os = "linux")]

use anyhow::Result;
use lab::house::{Client, HOME_ROUTER, ISP, ISP_SUBNET, WEB};
use tests::house::{Home, eventually};

#[test]
fn the_wan_gets_its_lease_from_dnsmasq() -> Result<()> {
    let home = Home::boot("dhcp")?;
    let wan = home.ctl_json("wan show")?;
    let address = home.wan_address()?;
    assert!(address.starts_with(ISP_SUBNET), "{wan}");
    assert_eq!(wan["state"], "bound");
    assert_eq!(wan["gateway"], ISP);
    assert_eq!(wan["server"], ISP);
    assert_eq!(wan["lease_secs"], 3600);
    let leases = std::fs::read_to_string(home.house.isp_leases())?;
    assert!(leases.contains(&address), "{leases}");
    Ok(())
}

#[test]
fn udhcpc_gets_address_router_dns_and_domain() -> Result<()> {
    let home = Home::boot("dhcp")?;
    let (_, lease) = home.host("alice", Client::Udhcpc)?;
    assert!(lease.address.starts_with("10.0.0.1"), "{lease}");
    assert_eq!((&*lease.router, &*lease.dns), (HOME_ROUTER, HOME_ROUTER));
    Ok(())
}

#[test]
fn dhclient_gets_address_router_dns_and_domain() -> Result<()> {
    let home = Home::boot("dhcp")?;
    let (_, lease) = home.host("bob", Client::Dhclient)?;
    assert!(lease.address.starts_with("10.0.0.1"), "{lease}");
    assert_eq!((&*lease.router, &*lease.dns), (HOME_ROUTER, HOME_ROUTER));
    Ok(())
}

#[test]
fn two_hosts_get_different_addresses_and_are_listed_by_name() -> Result<()> {
    let home = Home::boot("dhcp")?;
    let (_, alice) = home.host("alice", Client::Udhcpc)?;
    let (_, bob) = home.host("bob", Client::Dhclient)?;
    assert_ne!(alice.address, bob.address);
    let leases = home.ctl_json("lease list")?;
    let held = |name: &str, address: &str| {
        leases.as_array().is_some_and(|all| {
            all.iter().any(|lease| {
                lease["name"] == name && lease["address"] == address && lease["state"] == "bound"
            })
        })
    };
    assert!(held("alice", &alice.address) && held("bob", &bob.address), "{leases}");
    Ok(())
}

#[test]
fn a_host_with_a_reservation_gets_that_address() -> Result<()> {
    let home = Home::boot("dhcp")?;
    home.web()?;
    let leases = home.ctl_json("lease list")?;
    let web = leases.as_array().and_then(|all| all.iter().find(|lease| lease["address"] == WEB));
    assert_eq!(web.map(|lease| &lease["state"]), Some(&"bound".into()), "{leases}");
    Ok(())
}

#[test]
fn wan_release_gives_the_lease_back_and_renew_gets_one_again() -> Result<()> {
    let home = Home::boot("dhcp")?;
    home.ctl("wan release")?;
    eventually("the WAN is without address", || {
        Ok(home.ctl_json("status")?["wan"]["address"].is_null())
    })?;
    eventually("the ISP hears of it", || Ok(home.house.isp_log().contains("DHCPRELEASE")))?;
    home.ctl("wan renew")?;
    home.router.wait_for_wan()
}
