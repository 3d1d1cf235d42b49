//! What kind of translator the router is, as coturn's `turnutils_natdiscovery` sees it (RFC 5780), beside
//! the kernel's masquerade in the same house. Needs root.

#![cfg(target_os = "linux")]

use anyhow::Result;
use lab::house::{Behaviour, Client, Dependence, KernelRouter, Stub};
use lab::{Namespace, wait_until};
use rustix::process::Signal;
use tests::house::{Home, SOON, vacant};

/// The usual configuration, with another filtering of the home LAN.
fn filtering(config: &str, filtering: Dependence) -> String {
    config.replacen("reach =", &format!("filtering = \"{filtering}\"\nreach ="), 1)
}

/// Puts a configuration in force while everything goes on.
fn reload(home: &Home, config: &str) -> Result<()> {
    let before = home.ctl_json("status")?["config_generation"].clone();
    home.house.write_config(config)?;
    home.router.process.signal(Signal::HUP)?;
    wait_until(SOON, "the configuration is in force", || {
        home.ctl_json("status").is_ok_and(|status| status["config_generation"] != before)
    })
}

fn show(who: &str, found: Behaviour) {
    let Behaviour { mapping, filtering, hairpins } = found;
    println!("{who:28} {mapping:22} {filtering:28} {}", if hairpins { "yes" } else { "no" });
}

#[test]
fn req4787_1_8_coturn_finds_each_filtering_as_configured_where_the_kernel_has_one() -> Result<()> {
    let house = vacant("stun")?;
    house.start_stun_server()?;
    let config = house.config();
    let home = Home::move_in(house, &filtering(&config, Dependence::EndpointIndependent))?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    println!("{:28} {:22} {:28} hairpinning", "translator", "mapping", "filtering");
    for wanted in Dependence::ALL {
        reload(&home, &filtering(&config, wanted))?;
        let found = home.house.discover(&alice)?;
        show(&format!("routerd, {wanted}"), found);
        let expected = Behaviour {
            mapping: Dependence::EndpointIndependent,
            filtering: wanted,
            // The packet passes the target's filter as if it came from outside (REQ-9a), and coturn's
            // target has not sent to its own address before.
            hairpins: wanted == Dependence::EndpointIndependent,
        };
        assert_eq!(found, expected);
    }
    let found = home.house.discover(&behind_the_kernel(&home)?)?;
    show("nftables masquerade", found);
    // What it is there for: were the kernel as open, the comparison would show nothing.
    assert_eq!(found.filtering, Dependence::AddressAndPortDependent);
    assert!(!found.hairpins);
    Ok(())
}

fn behind_the_kernel(home: &Home) -> Result<Namespace> {
    let kernel = KernelRouter::start(&home.house)?;
    let carol = home.house.lan_host("carol", Stub::Home, None)?;
    kernel.move_in(&carol, "10.0.0.50")?;
    Ok(carol)
}
