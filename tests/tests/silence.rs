//! What must not answer does not. Needs root.

#![cfg(target_os = "linux")]

use std::time::Duration;

use anyhow::{Context, Result};
use lab::house::{Client, HOME_ROUTER, ISP_SUBNET, Stub};
use lab::wait_until;
use tests::house::{Home, run};

/// Longest time until a flood is taken for one, on a machine that has much else to do.
const GUARDED_BY: Duration = Duration::from_secs(20);

#[test]
fn nmap_from_the_isp_finds_nothing_open_or_closed() -> Result<()> {
    let home = Home::boot("quiet")?;
    let wan = home.wan_address()?;
    let scan = "nmap -n -Pn -sS -p- -T4 --min-rate 20000 --max-retries 0 -oG -";
    let found = run(&home.house.isp, &format!("{scan} {wan}"))?;
    assert!(found.contains("Ignored State: filtered (65535)"), "{found}");
    assert!(!found.contains("/open/") && !found.contains("/closed/"), "{found}");
    Ok(())
}

/// Counts what arrives from the router and names an address of a LAN: as its source, or in what an ICMP error quotes.
const LEAKS: &str = "table netdev leaks {
    chain ingress {
        type filter hook ingress device \"cust0\" priority 0; policy accept;
        ip saddr 10.0.0.0/8 counter
        ip protocol icmp icmp type { 3, 11, 12 } @th,160,8 10 counter
        ip protocol icmp icmp type { 3, 11, 12 } @th,192,8 10 counter
        ip saddr 198.51.100.0/24 counter
    }
}
";

#[test]
fn nmap_of_the_top_ports_from_the_isp_finds_nothing_open_and_sees_no_address_of_a_lan() -> Result<()>
{
    let home = Home::boot("quiet")?;
    let wan = home.wan_address()?;
    // Mappings that the scan may meet.
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    run(&alice, &format!("curl -s --max-time 5 http://{}/", lab::house::REMOTE))?;
    run(&alice, &format!("ping -n -c 2 -i 0.2 -W 2 {}", lab::house::ISP))?;
    home.house.isp.exec_with_input(["nft", "-f", "-"], LEAKS)?;
    let scan = "nmap -n -Pn -sS -sU --top-ports 1000 -T4 --min-rate 2000 --max-retries 1";
    let found = run(&home.house.isp, &format!("{scan} {wan}"))?;
    assert!(found.contains("All 2000 scanned ports"), "{found}");
    assert!(found.contains("1000 filtered tcp ports (no-response)"), "{found}");
    assert!(found.contains("1000 open|filtered udp ports (no-response)"), "{found}");
    // An answer of the router's, so that the counters are known to count.
    run(&home.house.isp, &format!("ping -n -c 1 -W 2 {wan}"))?;
    let counted = run(&home.house.isp, "nft -j list table netdev leaks")?;
    let counted: serde_json::Value = serde_json::from_str(&counted)?;
    let rules = counted["nftables"].as_array().context("nft lists the table")?.iter();
    let counters = rules.filter_map(|entry| entry["rule"]["expr"].as_array()?.last());
    let packets: Vec<_> = counters.filter_map(|last| last["counter"]["packets"].as_u64()).collect();
    let [leaks @ .., answers] = &*packets else { anyhow::bail!("no counters: {counted}") };
    assert_eq!(leaks, [0, 0, 0], "packets with an address of a LAN");
    assert!(*answers > 0, "the ISP's link saw no packet of the router's");
    Ok(())
}

#[test]
fn a_syn_flood_from_the_isp_opens_no_session_and_ends_no_transfer() -> Result<()> {
    let home = Home::boot("quiet")?;
    let wan = home.wan_address()?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    home.house.start_iperf(&home.house.isp)?;
    let opened = || -> Result<u64> {
        home.ctl_json("status")?["flows"]["opened"].as_u64().context("opened flows are counted")
    };
    let before = opened()?;
    let flood = home.house.flood(&wan)?;
    let transfer = format!("iperf3 -c {} -R -n 64M", lab::house::ISP);
    run(&alice, &transfer)?;
    drop(flood);
    let unasked = home.dropped("no-mapping")? + home.dropped("syn-flood")?;
    assert!(unasked > 1000, "only {unasked} packets of the flood were dropped");
    // The two connections of the transfer, and what the router may have asked by itself.
    let opened = opened()? - before;
    assert!(opened < 20, "{opened} sessions");
    Ok(())
}

#[test]
fn a_forward_answers_while_the_link_drops_a_syn_flood() -> Result<()> {
    let home = Home::boot("quiet")?;
    let wan = home.wan_address()?;
    let _web = home.web()?;
    home.ctl("forward add tcp 8080 web:80")?;
    let get = format!("curl -s --max-time 5 http://{wan}:8080/");
    let _flood = home.house.flood(&wan)?;
    let is_guarded = || home.dropped("syn-flood").is_ok_and(|count| count > 0);
    wait_until(GUARDED_BY, "the link drops the flood", is_guarded)?;
    assert_eq!(run(&home.house.isp, &get)?.trim_end(), lab::house::WEB_PAGE);
    Ok(())
}

#[test]
fn no_router_service_answers_on_the_wan_over_udp() -> Result<()> {
    let home = Home::boot("quiet")?;
    let wan = home.wan_address()?;
    let scan = "nmap -n -Pn -sU -p 53,67,68,69,123,161,500,1900,5351,5353 --max-retries 0 -oG -";
    let found = run(&home.house.isp, &format!("{scan} {wan}"))?;
    assert!(!found.contains("/open/") && !found.contains("/closed/"), "{found}");
    Ok(())
}

#[test]
fn the_kernel_of_the_zone_says_nothing_when_the_router_is_gone() -> Result<()> {
    let mut home = Home::boot("quiet")?;
    let wan = home.wan_address()?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    run(&alice, &format!("ping -n -c 1 -W 2 {HOME_ROUTER}"))?;
    run(&home.house.isp, &format!("ping -n -c 1 -W 2 {wan}"))?;
    home.router.process.kill();
    let sent = || -> Result<Vec<u64>> {
        ["wan0", "lan0", "lan1"].into_iter().map(|link| sent_by(&home, link)).collect()
    };
    let before = sent()?;
    for host in [&alice, &home.house.isp] {
        run(host, "ip neighbour flush all")?;
    }
    assert!(run(&alice, &format!("ping -n -c 2 -i 0.2 -W 1 {HOME_ROUTER}")).is_err());
    assert!(run(&home.house.isp, &format!("ping -n -c 2 -i 0.2 -W 1 {wan}")).is_err());
    assert!(run(&alice, &format!("curl -s --max-time 1 http://{HOME_ROUTER}/")).is_err());
    assert_eq!(sent()?, before, "packets sent on wan0, lan0, lan1");
    Ok(())
}

/// Packets that a link of the zone sent so far.
fn sent_by(home: &Home, link: &str) -> Result<u64> {
    let text = run(&home.house.router, &format!("ip -j -s link show dev {link}"))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    links[0]["stats64"]["tx"]["packets"].as_u64().context("the link counts packets")
}

#[test]
fn the_dmz_reaches_the_internet_but_not_home_and_home_reaches_the_dmz() -> Result<()> {
    let home = Home::boot("quiet")?;
    let dmz = home.house.dmz_host("dmz")?;
    let (alice, lease) = home.host("alice", Client::Udhcpc)?;
    assert!(home.wan_address()?.starts_with(ISP_SUBNET));
    run(&dmz, &format!("ping -n -c 1 -W 2 {}", lab::house::REMOTE))?;
    run(&alice, &format!("ping -n -c 1 -W 2 {}", lab::house::DMZ))?;
    let ping = format!("ping -n -c 1 -W 1 {}", lease.address);
    let refused = dmz.exec(ping.split(' ')).expect_err("the DMZ does not reach home");
    assert!(refused.stdout.contains("Packet filtered"), "{}", refused.stdout);
    Ok(())
}

#[test]
fn a_lan_without_dhcp_in_its_configuration_gives_no_lease() -> Result<()> {
    let home = Home::boot("quiet")?;
    let dmz = home.house.lan_host("dmz", Stub::Dmz, None)?;
    let line = "udhcpc -i eth0 -f -n -q -t 2 -T 1 -s /bin/true";
    assert!(run(&dmz, line).is_err(), "no lease");
    Ok(())
}
