//! Forwards: from the Internet, and from inside by the public address. Needs root.

#![cfg(target_os = "linux")]

use anyhow::Result;
use lab::house::{Client, WEB_PAGE};
use tests::house::{Home, curl};

#[test]
fn a_forward_leads_to_its_host_from_outside_and_inside() -> Result<()> {
    let home = Home::boot("fwd")?;
    home.web()?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    let url = format!("http://{}:8080/", home.wan_address()?);
    assert!(curl(&home.house.remote, &url).is_err(), "no forward yet");
    home.ctl("forward add tcp 8080 web:80")?;
    assert_eq!(curl(&home.house.remote, &url)?, WEB_PAGE);
    assert_eq!(curl(&alice, &url)?, WEB_PAGE, "hairpinning");
    home.ctl("forward remove tcp 8080")?;
    assert!(curl(&home.house.remote, &url).is_err(), "no forward any more");
    Ok(())
}

#[test]
fn a_host_reaches_itself_by_its_forward() -> Result<()> {
    let home = Home::boot("fwd")?;
    let web = home.web()?;
    home.ctl("forward add tcp 8080 web:80")?;
    let url = format!("http://{}:8080/", home.wan_address()?);
    assert_eq!(curl(&web, &url)?, WEB_PAGE);
    Ok(())
}

#[test]
fn a_forward_in_the_file_works_and_is_listed() -> Result<()> {
    let house = tests::house::vacant("fwd")?;
    let forward = "[[forward]]\nprotocol = \"tcp\"\nport = 8081\nto = \"web:80\"\n";
    let config = format!("{}\n{forward}", house.config());
    let home = Home::move_in(house, &config)?;
    home.web()?;
    let url = format!("http://{}:8081/", home.wan_address()?);
    assert_eq!(curl(&home.house.remote, &url)?, WEB_PAGE);
    assert!(home.ctl("forward list")?.contains("8081"));
    Ok(())
}

#[test]
fn a_forward_that_is_taken_or_leads_nowhere_is_refused() -> Result<()> {
    let home = Home::boot("fwd")?;
    home.ctl("forward add tcp 8080 web:80")?;
    for line in [
        "forward add tcp 8080 10.0.0.7:80",
        "forward add tcp 8000-9000 10.0.0.7",
        "forward add tcp 8082 203.0.113.9:80",
        "forward remove udp 8080",
    ] {
        let error = home.router.control.run(line).expect_err(line);
        assert_eq!(error.code, Some(1), "{line}");
        assert!(!error.stderr.trim().is_empty(), "{line}: no reason");
    }
    Ok(())
}
