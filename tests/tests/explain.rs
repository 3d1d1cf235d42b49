//! What becomes of a packet, asked of the running router before and after. Needs root.

#![cfg(target_os = "linux")]

use anyhow::Result;
use lab::house::{Client, REMOTE, WEB_PAGE};
use tests::house::{Home, curl};

#[test]
fn a_flow_is_explained_before_and_while_it_is_there() -> Result<()> {
    let home = Home::boot("why")?;
    let (alice, lease) = home.host("alice", Client::Udhcpc)?;
    let (from, to) = (format!("{}:40000", lease.address), format!("{REMOTE}:80"));
    let question = format!("explain tcp {from} {to}");
    // Makes the neighbours known.
    curl(&alice, &format!("http://{REMOTE}/"))?;
    let flows = home.ctl_json("status")?["flows"]["opened"].clone();
    let told = home.ctl_json(&question)?;
    assert_eq!((&told["verdict"], &told["flow"]), (&"forward".into(), &"opens".into()), "{told}");
    assert_eq!(told["translation"]["source"], home.wan_address()?.as_str(), "{told}");
    assert_eq!(told["translation"]["source_port"], 40000, "{told}");
    assert_eq!(told["route"]["link"], "wan0", "{told}");
    assert_eq!(home.ctl_json("status")?["flows"]["opened"], flows, "asking opens nothing");
    curl(&alice, &format!("--local-port 40000 http://{REMOTE}/"))?;
    let told = home.ctl_json(&question)?;
    assert_eq!(told["flow"], "known", "{told}");
    assert_eq!(told["session"]["internal"], from.as_str(), "{told}");
    let text = home.ctl(&question)?;
    assert!(text.contains("verdict   forward: It leaves by wan0."), "{text}");
    Ok(())
}

#[test]
fn a_knock_at_a_closed_port_and_at_a_forward_are_explained() -> Result<()> {
    let home = Home::boot("why")?;
    home.web()?;
    let address = home.wan_address()?;
    let question = format!("explain tcp {REMOTE}:40000 {address}:8080");
    let told = home.ctl_json(&question)?;
    assert_eq!(told["verdict"], "drop", "{told}");
    assert_eq!((&told["reason"], &told["from"]), (&"no-mapping".into(), &"wan0".into()), "{told}");
    assert_eq!(home.dropped("no-mapping")?, 0, "asking drops nothing");
    home.ctl("forward add tcp 8080 web:80")?;
    assert_eq!(curl(&home.house.remote, &format!("http://{address}:8080/"))?, WEB_PAGE);
    let told = home.ctl_json(&question)?;
    assert_eq!((&told["verdict"], &told["flow"]), (&"forward".into(), &"pending".into()), "{told}");
    assert_eq!(told["translation"]["destination"], "10.0.0.5:80", "{told}");
    assert_eq!(told["decided_by"]["by"], "translation", "{told}");
    Ok(())
}

#[test]
fn a_question_that_names_nothing_known_is_refused() -> Result<()> {
    let home = Home::boot("why")?;
    for line in [
        "explain tcp 10.0.0.7:40000 203.0.113.10:443 --from attic",
        "explain udp 10.0.0.7 203.0.113.10:53",
        "explain --frame 0208",
        "explain --frame 020",
    ] {
        let error = home.router.control.run(line).expect_err(line);
        assert_eq!(error.code, Some(1), "{line}");
        assert!(!error.stderr.trim().is_empty(), "{line}: no reason");
    }
    Ok(())
}
