//! `cargo xtask demo`: the router between real peers, step by step.
//!
//! The house is `lab`'s; the router's zone in it is made by `routerctl zone apply` on the house's host.
//! Every step ends in one check. Ends with one line, `demo: N of N checks passed`.

mod operations;
mod report;
mod services;
mod speed;
mod stage;
mod traffic;

use anyhow::{Result, ensure};
use clap::Args;
use lab::Lab;

use crate::{Outcome, cargo, interrupt, packages};
use report::Report;
pub(crate) use report::json;
use stage::Stage;

/// What to do with the demo's lab.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Leave everything running at the end and say how to look around.
    #[arg(long, conflicts_with = "clean")]
    keep: bool,
    /// Remove what `--keep` left.
    #[arg(long)]
    clean: bool,
}

const INTRODUCTION: &str = "
A house on one line. Everything below runs now, in network namespaces of this machine: `alice# curl` is
a real curl in the namespace that stands for alice's computer. The router has no kernel address: all the
IP, ARP, ICMP, DHCP, DNS and NAT that it speaks is routerd's own.

  remote ────── isp ═══════ host: NIC igb0 ── wan0 ┐
  203.0.113.10  198.51.100.1                       router ┬ lan0 ── etherstub ┬ alice, bob
                DHCP, DNS, web                            │ 10.0.0.1/24       └ web 10.0.0.5
                                                          └ lan1 ── etherstub ─ dmz 10.0.1.10
                                                            10.0.1.1/24";

/// `cargo xtask demo`
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the demo makes network namespaces and needs root; run: \
         sudo -E env PATH=\"$PATH\" cargo xtask demo"
    );
    if arguments.clean {
        return clean();
    }
    packages::ensure_installed(packages::HOUSE)?;
    let programs = cargo::build_release()?;
    println!("{INTRODUCTION}");
    let mut report = Report::default();
    show(programs, arguments, &mut report)?;
    interrupt::check()?;
    Ok(Outcome::of(report.conclude()))
}

/// Shows everything; without a running router there is nothing to show, and that ends it early.
fn show(programs: lab::house::Programs, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let Some(mut stage) = Stage::build(programs, report)? else { return Ok(()) };
    services::steps(&stage, report);
    traffic::steps(&stage, report);
    operations::forward(&stage, report);
    speed::steps(&stage, report);
    operations::crash(&mut stage, report);
    operations::views(&stage, report);
    if arguments.keep && !interrupt::is_set() {
        return stage.keep();
    }
    operations::remove_zone(&mut stage, report);
    Ok(())
}

fn clean() -> Result<Outcome> {
    let mut removed = Lab::clean_kept()?;
    removed.extend(Lab::clean_stale()?);
    match removed.len() {
        0 => println!("nothing to remove"),
        count => println!("removed {count} namespaces and what ran in them"),
    }
    Ok(Outcome::Passed)
}
