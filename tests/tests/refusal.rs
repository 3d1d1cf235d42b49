//! Bad input: refused with one clear message (file, line, remedy) and exit code 1. Needs root.

#![cfg(target_os = "linux")]

use std::time::Duration;

use anyhow::Result;
use lab::house::{House, Programs};
use lab::{CommandFailed, Process};
use tests::house::{Home, programs, vacant};

/// Longest time that a router may take to refuse.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(5);

/// Starts the router on a configuration that it has to refuse; what it said.
fn refusal(house: &House, config: &str) -> Result<String> {
    house.write_config(config)?;
    refused(house.spawn_router(&programs()?)?)
}

fn refused(mut process: Process) -> Result<String> {
    let status = process.wait(REFUSAL_DEADLINE)?;
    assert_eq!(status.code(), Some(1), "{}", process.log());
    Ok(process.log())
}

/// The last line of the configuration that starts with `text`, from 1.
fn line_of(config: &str, text: &str) -> usize {
    let lines: Vec<_> = config.lines().collect();
    lines.iter().rposition(|line| line.starts_with(text)).expect("the text is there") + 1
}

/// Checks that a configuration is refused, by the router and by `--check`, with the place of `at` and a
/// remedy that contains `remedy`.
fn check(house: &House, config: &str, at: &str, remedy: &str) -> Result<()> {
    let message = refusal(house, config)?;
    let place = format!("router.toml:{}: ", line_of(config, at));
    assert!(message.contains(&place), "{place} is not in:\n{message}");
    assert!(message.contains(remedy), "{remedy:?} is not in:\n{message}");
    let Programs { routerd, routerctl } = programs()?;
    let file = house.config_path();
    let arguments = ["--check".as_ref(), "--config".as_ref(), file.as_os_str()];
    let daemon = house.host.exec([routerd.as_os_str()].into_iter().chain(arguments));
    let words = ["config".as_ref(), "check".as_ref(), file.as_os_str()];
    let control = house.host.exec([routerctl.as_os_str()].into_iter().chain(words));
    for outcome in [daemon, control] {
        let CommandFailed { code, stderr, argv, .. } = outcome.expect_err("is refused");
        assert_eq!(code, Some(1), "{argv}: {stderr}");
        assert!(stderr.contains(&place), "{argv}: {place} is not in:\n{stderr}");
    }
    Ok(())
}

#[test]
fn configurations_that_cannot_work_are_refused_with_place_and_remedy() -> Result<()> {
    let house = vacant("bad")?;
    let good = house.config();
    let replaced = |from: &str, to: &str| good.replace(from, to);
    let added = |text: &str| format!("{good}\n{text}");
    let forward =
        |to: &str| added(&format!("[[forward]]\nprotocol = \"tcp\"\nport = 8080\nto = \"{to}\"\n"));
    let static_wan = "mode = \"static\"\naddress = \"10.0.0.200/24\"\ngateway = \"10.0.0.201\"\n";
    for (config, at, remedy) in [
        (replaced("ping = true", "pign = true"), "pign", "ping"),
        (replaced("mode = \"dhcp\"", "mode = \"dhpc\""), "mode = \"dhpc\"", "dhcp"),
        (replaced("10.0.0.100-10.0.0.199", "10.9.0.100-10.9.0.199"), "pool", "10.0.0."),
        (replaced("10.0.1.1/24", "10.0.0.9/24"), "address = \"10.0.0.9/24\"", "10."),
        (replaced("link = \"lan1\"", "link = \"lan0\""), "link = \"lan0\"", "link"),
        (forward("nobody:80"), "to = \"nobody:80\"", "reserve `nobody`"),
        (forward("203.0.113.9:80"), "to = \"203.0.113.9:80\"", "10.0."),
        (added("[nat.timeouts]\nudp = \"5s\"\n"), "udp", "allow_short_timeouts"),
        (added("[[[\n"), "[[[", "key = value"),
        (replaced("mode = \"dhcp\"\n", static_wan), "address = \"10.0.0.1/24\"", "subnet"),
    ] {
        check(&house, &config, at, remedy)?;
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_named() -> Result<()> {
    let house = vacant("bad")?;
    let message = refused(house.spawn_router(&programs()?)?)?;
    assert!(message.contains("router.toml"), "{message}");
    assert!(message.contains("cannot be read"), "{message}");
    Ok(())
}

#[test]
fn a_link_that_does_not_exist_is_named() -> Result<()> {
    let house = vacant("bad")?;
    let message = refusal(&house, &house.config().replace("\"wan0\"", "\"wan7\""))?;
    assert!(message.contains("wan7 does not exist"), "{message}");
    Ok(())
}

#[test]
fn a_link_with_a_kernel_address_is_refused_with_the_command_that_removes_it() -> Result<()> {
    let house = vacant("bad")?;
    house.router.exec(["ip", "address", "add", "10.0.0.1/24", "dev", "lan0"])?;
    let message = refusal(&house, &house.config())?;
    assert!(message.contains("ip addr del 10.0.0.1/24 dev lan0"), "{message}");
    Ok(())
}

#[test]
fn a_control_socket_in_use_is_refused_and_its_owner_goes_on() -> Result<()> {
    let home = Home::boot("bad")?;
    let other_state = home.house.file("other-state").display().to_string();
    let state = home.house.file("state").display().to_string();
    let config = home.house.config().replace(&state, &other_state);
    let message = refusal(&home.house, &config)?;
    assert!(message.contains("control.sock"), "{message}");
    home.ctl("status")?;
    Ok(())
}

#[test]
fn a_state_folder_in_use_is_refused_and_its_owner_goes_on() -> Result<()> {
    let home = Home::boot("bad")?;
    let config = home.house.config().replace("control.sock", "other.sock");
    let message = refusal(&home.house, &config)?;
    assert!(message.contains("state.redb is in use"), "{message}");
    home.ctl("status")?;
    Ok(())
}

#[test]
fn without_privilege_the_missing_capability_is_named() -> Result<()> {
    let house = vacant("bad")?;
    let config = house.write_config(&house.config())?;
    let routerd = programs()?.routerd;
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all";
    let words = nobody.split(' ').map(AsRef::as_ref);
    let argv = words.chain([routerd.as_os_str(), "--config".as_ref(), config.as_os_str()]);
    let message = refused(house.router.spawn(argv)?)?;
    assert!(message.contains("CAP_NET_RAW"), "{message}");
    Ok(())
}

#[test]
fn routerctl_without_a_router_says_so() -> Result<()> {
    let house = vacant("bad")?;
    let error = house.control(&programs()?).run("status").expect_err("nobody answers");
    assert_eq!(error.code, Some(1));
    assert!(error.stderr.contains("control.sock"), "{}", error.stderr);
    Ok(())
}
