//! Packets through the router, and those that must not pass.

use anyhow::{Result, ensure};
use lab::house::{DMZ, HOME_ROUTER, ISP, REMOTE, REMOTE_NAME, REMOTE_PAGE};

use super::report::{Report, expect_part, run, run_quietly, show, show_command};
use super::stage::Stage;

pub(crate) fn steps(stage: &Stage, report: &mut Report) {
    report.step("curl through NAT", || {
        let page = run(&stage.alice, &format!("curl -sS --max-time 5 http://{REMOTE_NAME}/"))?;
        expect_part(&page, REMOTE_PAGE, "the page")?;
        Ok(format!("a page from {REMOTE} by its name"))
    });
    report.step("ping through NAT", || {
        let text = run_quietly(&stage.alice, &format!("ping -n -c 5 -i 0.2 -W 2 {REMOTE}"))?;
        let summary: Vec<_> = text.lines().rev().take(2).collect();
        show(format!("{}\n{}", summary[1], summary[0]));
        expect_part(&text, "5 received", "ping")?;
        let average = summary[0].split('/').nth(4).unwrap_or("?");
        Ok(format!("5 of 5 answered, {average} ms on average"))
    });
    report.step("traceroute through NAT", || traceroute(stage));
    report.step("Home reaches the DMZ, the DMZ does not reach home", || zones(stage));
    report.step("nmap from the ISP finds nothing open", || nmap(stage));
}

fn traceroute(stage: &Stage) -> Result<String> {
    let text = run(&stage.alice, &format!("traceroute -n -q 1 -w 2 {REMOTE}"))?;
    let hops: Vec<_> =
        text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    ensure!(hops == [HOME_ROUTER, ISP, REMOTE], "these are not the three hops: {hops:?}");
    Ok("router, ISP, remote host: three hops, each with its address".to_owned())
}

fn zones(stage: &Stage) -> Result<String> {
    let page = run(&stage.alice, &format!("curl -sS --max-time 5 http://{DMZ}/"))?;
    expect_part(&page, "hello from dmz", "the page")?;
    let line = "ping -n -c 2 -i 0.2 -W 1 10.0.0.5";
    show_command(stage.dmz.label(), line);
    ensure!(stage.dmz.exec(line.split(' ')).is_err(), "the DMZ reaches home");
    show("no answer");
    Ok("as `reach` in the configuration says".to_owned())
}

/// Scans every TCP port and the UDP ports of services that routers are known to expose.
fn nmap(stage: &Stage) -> Result<String> {
    let wan = stage.wan_address()?;
    let tcp = format!("nmap -n -Pn -sS -p- -T4 --min-rate 20000 --max-retries 0 -oG - {wan}");
    let udp = format!("nmap -n -Pn -sU -p 53,67,68,69,123,161,500,1900,5351,5353 -oG - {wan}");
    for scan in [tcp, udp] {
        let text = run_quietly(&stage.house.isp, &scan)?;
        let hosts = || text.lines().filter(|line| line.starts_with("Host: "));
        hosts().for_each(show);
        ensure!(hosts().count() > 0, "nmap scanned nothing");
        ensure!(!text.contains("/open/"), "nmap found an open port");
    }
    Ok(format!("0 of 65535 TCP ports open on {wan}, and no UDP service"))
}
