//! Flows of LAN hosts to the Internet, with real programs at both ends. Needs root.

#![cfg(target_os = "linux")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use lab::house::{Client, HOME_ROUTER, ISP, REMOTE, REMOTE_PAGE};
use lab::{Namespace, wait_until};
use tests::house::{Home, curl, eventually, run};

/// Longest time that a datagram may take through the lab.
const DATAGRAM_DEADLINE: Duration = Duration::from_secs(2);

fn socket(host: &Namespace, address: &str) -> Result<UdpSocket> {
    let socket = host.enter(|| UdpSocket::bind(address))??;
    socket.set_read_timeout(Some(DATAGRAM_DEADLINE))?;
    Ok(socket)
}

/// Waits for a UDP session: its first datagram may have to wait for the gateway's address.
fn has_flow(home: &Home, port: u16) -> Result<()> {
    eventually("the session is listed", || {
        let flows = home.ctl_json(&format!("flow list --protocol udp --port {port}"))?;
        Ok(flows.as_array().is_some_and(|all| !all.is_empty()))
    })
}

#[test]
fn curl_loads_a_page_from_behind_the_isp() -> Result<()> {
    let home = Home::boot("nat")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    assert_eq!(curl(&alice, &format!("http://{REMOTE}/"))?, REMOTE_PAGE);
    Ok(())
}

#[test]
fn ping_reaches_the_isp_the_remote_host_and_the_router() -> Result<()> {
    let home = Home::boot("nat")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    for address in [ISP, REMOTE, HOME_ROUTER] {
        run(&alice, &format!("ping -n -c 3 -i 0.2 -W 2 {address}"))?;
    }
    Ok(())
}

#[test]
fn large_pings_pass_in_fragments_and_the_router_answers_them() -> Result<()> {
    let home = Home::boot("nat")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    for size in [3000, 20_000] {
        for address in [REMOTE, HOME_ROUTER] {
            run(&alice, &format!("ping -n -c 2 -i 0.2 -W 2 -s {size} {address}"))?;
        }
    }
    Ok(())
}

#[test]
fn traceroute_shows_every_hop_by_udp_and_icmp() -> Result<()> {
    let home = Home::boot("nat")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    for kind in ["", "-I "] {
        let text = run(&alice, &format!("traceroute {kind}-n -q 1 -w 2 {REMOTE}"))?;
        let hops: Vec<_> =
            text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops, [HOME_ROUTER, ISP, REMOTE], "{text}");
    }
    Ok(())
}

#[test]
fn a_udp_endpoint_looks_the_same_to_two_remotes_and_gets_their_answers() -> Result<()> {
    let home = Home::boot("nat")?;
    let (alice, lease) = home.host("alice", Client::Udhcpc)?;
    let inside = socket(&alice, &format!("{}:4000", lease.address))?;
    let servers = [
        (socket(&home.house.remote, "0.0.0.0:7000")?, format!("{REMOTE}:7000")),
        (socket(&home.house.isp, &format!("{ISP}:7000"))?, format!("{ISP}:7000")),
    ];
    let mut seen: Vec<SocketAddr> = Vec::new();
    for (server, address) in &servers {
        let mut bytes = [0; 16];
        inside.send_to(b"question", address)?;
        let (_, from) = server.recv_from(&mut bytes)?;
        server.send_to(b"answer", from)?;
        let (len, answerer) = inside.recv_from(&mut bytes)?;
        assert_eq!((&bytes[..len], answerer.to_string()), (&b"answer"[..], address.clone()));
        seen.push(from);
    }
    assert_eq!(seen[0], seen[1], "REQ-1: endpoint-independent mapping");
    assert_eq!(seen[0].ip().to_string(), home.wan_address()?);
    assert_eq!(seen[0].port(), 4000, "a free port is preserved");
    Ok(())
}

#[test]
fn a_closed_remote_port_is_reported_to_the_host_inside() -> Result<()> {
    let home = Home::boot("nat")?;
    let (alice, lease) = home.host("alice", Client::Udhcpc)?;
    let inside = socket(&alice, &format!("{}:0", lease.address))?;
    inside.connect(format!("{REMOTE}:9"))?;
    inside.send(b"anyone?")?;
    let refused = |socket: &UdpSocket| {
        socket.recv(&mut [0; 16]).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    wait_until(DATAGRAM_DEADLINE, "the ICMP error arrives", || refused(&inside))
}

#[test]
fn flow_list_shows_sessions_in_the_promised_words() -> Result<()> {
    let home = Home::boot("nat")?;
    let (alice, lease) = home.host("alice", Client::Udhcpc)?;
    let inside = socket(&alice, &format!("{}:4001", lease.address))?;
    inside.send_to(b"hello", format!("{REMOTE}:9"))?;
    run(&alice, &format!("ping -n -c 1 -W 2 {REMOTE}"))?;
    let wan = home.wan_address()?;
    has_flow(&home, 4001)?;
    let flows = home.ctl_json("flow list")?;
    let flows = flows.as_array().expect("an array");
    let find = |protocol: &str| flows.iter().find(|flow| flow["protocol"] == protocol);
    let udp = find("udp").expect("the datagram's session");
    assert_eq!(udp["internal"], format!("{}:4001", lease.address));
    assert_eq!(udp["external"], format!("{wan}:4001"));
    assert_eq!(udp["remote"], format!("{REMOTE}:9"));
    assert_eq!(udp["direction"], "outbound");
    let icmp = find("icmp").expect("the ping's session");
    let id = |end: &str| icmp[end].as_str().and_then(|text| text.rsplit_once(':')).map(|p| p.1);
    assert!(id("internal").is_some() && id("external").is_some(), "{icmp}");
    let protocols = home.ctl_json("flow list --protocol udp")?;
    assert!(protocols.as_array().expect("an array").iter().all(|f| f["protocol"] == "udp"));
    Ok(())
}

#[test]
fn flow_kill_ends_a_session() -> Result<()> {
    let home = Home::boot("nat")?;
    let (alice, lease) = home.host("alice", Client::Udhcpc)?;
    let inside = socket(&alice, &format!("{}:4002", lease.address))?;
    inside.send_to(b"hello", format!("{REMOTE}:9"))?;
    has_flow(&home, 4002)?;
    let killed = home.ctl_json(&format!("flow kill --host {} --protocol udp", lease.address))?;
    assert_eq!(killed["killed"], 1);
    assert_eq!(home.ctl_json("flow list --protocol udp --port 4002")?, serde_json::json!([]));
    Ok(())
}
