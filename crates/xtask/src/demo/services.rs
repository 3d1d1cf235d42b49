//! Leases and names.

use anyhow::{Result, ensure};
use lab::Namespace;
use lab::house::{Client, HOME_ROUTER, REMOTE, REMOTE_NAME, WEB};

use super::report::{Report, run, show, show_command};
use super::stage::Stage;

pub(crate) fn steps(stage: &Stage, report: &mut Report) {
    report.step("A LAN host gets its lease by udhcpc", || {
        lease(stage, &stage.alice, Client::Udhcpc, "10.0.0.1")
    });
    report.step("Another gets its lease by dhclient", || {
        lease(stage, &stage.bob, Client::Dhclient, "10.0.0.1")
    });
    report.step("The web server gets the address that is reserved for it", || {
        let figure = lease(stage, &stage.web, Client::Udhcpc, WEB)?;
        stage.house.start_web_server(&stage.web, "web")?;
        Ok(figure)
    });
    report.step("dig resolves an outside name", || digs(stage, REMOTE_NAME, REMOTE));
    report.step("dig resolves the name of a lease", || {
        let address = address_of(&stage.bob)?;
        digs(stage, "bob.home.arpa", &address)
    });
    report.step("dig resolves an address back to its name", || {
        let address = address_of(&stage.bob)?;
        digs(stage, &format!("-x {address}"), "bob.home.arpa.")
    });
}

/// Gets a lease whose address starts with `wanted`.
fn lease(stage: &Stage, host: &Namespace, client: Client, wanted: &str) -> Result<String> {
    show_command(host.label(), &stage.house.lease_command(host, client));
    let lease = stage.house.lease(host, client)?;
    show(&lease);
    ensure!(lease.address.starts_with(wanted), "the address is not {wanted}...");
    ensure!(lease.router == HOME_ROUTER, "the gateway is not {HOME_ROUTER}");
    Ok(format!("{} leased {}", host.label(), lease.address))
}

/// Asks for a name over UDP and over TCP.
fn digs(stage: &Stage, question: &str, wanted: &str) -> Result<String> {
    for transport in ["+notcp", "+tcp"] {
        let answer = run(&stage.alice, &format!("dig +short {transport} {question}"))?;
        ensure!(answer.trim() == wanted, "{transport}: {:?} is not {wanted}", answer.trim());
    }
    Ok(format!("{wanted}, over UDP and over TCP"))
}

/// The IPv4 address of a host's `eth0`.
fn address_of(host: &Namespace) -> Result<String> {
    let line = host.exec(["ip", "-4", "-o", "address", "show", "dev", "eth0"])?.stdout;
    let mut words = line.split_whitespace().skip_while(|word| *word != "inet").skip(1);
    let prefix = words.next().unwrap_or_default();
    ensure!(!prefix.is_empty(), "{} has no address", host.label());
    Ok(prefix.split('/').next().unwrap_or(prefix).to_owned())
}
