//! The DNS forwarder as dig sees it. Needs root.

#![cfg(target_os = "linux")]

use anyhow::Result;
use lab::Namespace;
use lab::house::{Client, HOME_ROUTER, REMOTE, REMOTE_NAME, WEB};
use tests::house::{Home, run};

const TRANSPORTS: [&str; 2] = ["+notcp", "+tcp"];

fn dig(host: &Namespace, question: &str) -> Result<String> {
    let line = format!("dig @{HOME_ROUTER} +time=2 +tries=2 +short {question}");
    Ok(run(host, &line)?.trim().to_owned())
}

#[test]
fn an_outside_name_resolves_over_udp_and_tcp() -> Result<()> {
    let home = Home::boot("dns")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    for transport in TRANSPORTS {
        assert_eq!(dig(&alice, &format!("{transport} {REMOTE_NAME}"))?, REMOTE, "{transport}");
    }
    Ok(())
}

#[test]
fn the_second_question_is_answered_from_the_cache() -> Result<()> {
    let home = Home::boot("dns")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    let asked = || home.house.isp_log().matches("query[A] www.example.net").count();
    dig(&alice, REMOTE_NAME)?;
    let once = asked();
    assert!(once >= 1);
    dig(&alice, REMOTE_NAME)?;
    assert_eq!(asked(), once);
    assert_eq!(home.ctl_json("dns")?["hits"], 1);
    Ok(())
}

#[test]
fn a_lease_has_a_name_and_its_address_leads_back_to_it() -> Result<()> {
    let home = Home::boot("dns")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    let (_, bob) = home.host("bob", Client::Dhclient)?;
    for transport in TRANSPORTS {
        assert_eq!(dig(&alice, &format!("{transport} bob.home.arpa"))?, bob.address);
        let name = dig(&alice, &format!("{transport} -x {}", bob.address))?;
        assert_eq!(name, "bob.home.arpa.");
    }
    Ok(())
}

#[test]
fn a_reservation_has_a_name_before_its_host_appears() -> Result<()> {
    let home = Home::boot("dns")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    assert_eq!(dig(&alice, "web.home.arpa")?, WEB);
    assert_eq!(dig(&alice, &format!("-x {WEB}"))?, "web.home.arpa.");
    Ok(())
}

#[test]
fn an_unknown_local_name_is_denied_and_never_asked_outside() -> Result<()> {
    let home = Home::boot("dns")?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    let line = format!("dig @{HOME_ROUTER} +time=2 nobody.home.arpa");
    let answer = run(&alice, &line)?;
    assert!(answer.contains("status: NXDOMAIN"), "{answer}");
    assert!(!home.house.isp_log().contains("home.arpa"));
    Ok(())
}

#[test]
fn the_wan_side_gets_no_answer() -> Result<()> {
    let home = Home::boot("dns")?;
    let wan = home.wan_address()?;
    for transport in TRANSPORTS {
        let line = format!("dig @{wan} {transport} +time=1 +tries=1 +short {REMOTE_NAME}");
        assert!(run(&home.house.isp, &line).is_err(), "{transport}");
    }
    Ok(())
}
