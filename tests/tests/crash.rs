//! kill -9 at any moment loses nothing that was acknowledged. Needs root.

#![cfg(target_os = "linux")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::Namespace;
use lab::house::{Client, ISP, REMOTE, WEB_PAGE};
use tests::house::{Home, curl, run};

/// Longest time that a datagram may take through the lab, the search for its next hop included.
const DATAGRAM_DEADLINE: Duration = Duration::from_secs(5);

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

/// A socket on one port of a host, whatever its address.
fn socket(host: &Namespace, port: u16) -> Result<UdpSocket> {
    let socket = host.enter(|| UdpSocket::bind(("0.0.0.0", port)))??;
    socket.set_read_timeout(Some(DATAGRAM_DEADLINE))?;
    Ok(socket)
}

/// How a socket looks to a server outside.
fn seen(inside: &UdpSocket, server: &UdpSocket) -> Result<SocketAddr> {
    inside.send_to(b"who am I?", (REMOTE, 7000)).context("send")?;
    let (_, from) = server.recv_from(&mut [0; 16]).context("the datagram arrives")?;
    server.send_to(b"you", from)?;
    inside.recv(&mut [0; 16]).context("the answer arrives")?;
    Ok(from)
}

#[test]
fn req6888_8_after_kill_9_under_traffic_ports_go_back_to_their_hosts_and_to_no_other() -> Result<()>
{
    let mut home = Home::boot("crash")?;
    let server = socket(&home.house.remote, 7000)?;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| home.host(name, Client::Udhcpc));
    let [(alice, _), (bob, _), (carol, _)] = [alice?, bob?, carol?];
    let [of_alice, of_bob, of_carol] =
        [socket(&alice, 4000)?, socket(&bob, 4000)?, socket(&carol, 4000)?];
    let (first, second) = (seen(&of_alice, &server)?, seen(&of_bob, &server)?);
    assert_eq!(first.port(), 4000);
    assert_ne!(second.port(), 4000, "no overloading");
    home.house.start_iperf(&home.house.isp)?;
    let mut load = alice.spawn(format!("iperf3 -C cubic -c {ISP} -t 20").split(' '))?;
    run(&carol, &format!("ping -n -c 5 -i 0.2 -W 2 {ISP}"))?;
    assert!(load.is_running());
    home.crash_and_restart()?;
    load.kill();
    let third = seen(&of_carol, &server)?;
    assert_ne!(third, first, "alice's is held");
    assert_ne!(third, second, "bob's is held");
    assert_eq!(seen(&of_bob, &server)?, second);
    assert_eq!(seen(&of_alice, &server)?, first);
    Ok(())
}

#[test]
fn a_damaged_port_journal_is_set_aside_and_the_router_starts() -> Result<()> {
    let mut home = Home::boot("crash")?;
    let server = socket(&home.house.remote, 7000)?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    let inside = socket(&alice, 4000)?;
    let before = seen(&inside, &server)?;
    home.router.process.kill();
    let journal = home.house.file("state").join("ports.journal");
    std::fs::write(&journal, b"not a journal")?;
    home.crash_and_restart()?;
    let log = home.router.process.log();
    assert!(log.contains("port journal was unusable"), "{log}");
    assert_eq!(std::fs::read(journal.with_extension("journal.damaged"))?, b"not a journal");
    assert_eq!(seen(&inside, &server)?, before);
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
