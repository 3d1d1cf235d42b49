//! How fast, and how long it takes while it is fast.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::house::{ISP, KernelRouter, REMOTE};
use lab::wait_until;
use rustix::process::Signal;

use super::report::{Report, json, run_quietly, show, show_command};
use super::stage::Stage;
use crate::measure::{Comparison, Direction, Rtt, compare, iperf, load, ping};

/// Rounds of the throughput comparison; in each, both routers have their turn.
const ROUNDS: usize = 5;

/// Seconds of one turn.
const TURN_SECS: u32 = 2;

/// Seconds for which the line is loaded while pings measure it.
const LOAD_SECS: u32 = 7;

/// Pings before the measurement: time for the queues to fill.
const WARM_UP_PINGS: u32 = 40;

/// Pings of the measurement: as many as fit under the load.
const PINGS: u32 = 70;

/// With the shaper, the line's own buffers have to stay this empty, milliseconds at p95. FQ-CoDel aims
/// at 5 ms in each direction; a full packet on the 18 Mbit/s uplink takes 0.7 ms.
const LOADED_MS_MAX: f64 = 30.0;

/// Without it, the line's buffers have to be seen filling, else the comparison shows nothing.
const BLOATED_MS_MIN: f64 = 60.0;

/// Longest time until a changed configuration is in force.
const RELOAD_DEADLINE: Duration = Duration::from_secs(5);

/// A little below what [`Line`] carries, so that the queue is the router's.
const SHAPER: &str = "
[wan.shaper]
download = \"45Mbit/s\"
upload = \"18Mbit/s\"
overhead = \"ethernet\"
";

pub(crate) fn steps(stage: &Stage, report: &mut Report) {
    throughput(stage, report);
    latency(stage, report);
}

fn throughput(stage: &Stage, report: &mut Report) {
    let mut measured = None;
    for direction in Direction::BOTH {
        let title = format!("iperf3 {}: routerd beside the kernel's nftables", direction.word());
        report.step(&title, || {
            if measured.is_none() {
                measured = Some(measure(stage)?);
            }
            let all = measured.iter().flatten();
            let ours = all.copied().find(|one| one.direction == direction);
            judge(ours.context("not measured")?)
        });
    }
}

fn measure(stage: &Stage) -> Result<[Comparison; 2]> {
    let Stage { house, alice, .. } = stage;
    house.start_iperf(&house.isp)?;
    let kernel = KernelRouter::start(house)?;
    let through_kernel = kernel.reach(alice)?;
    for server in [ISP, through_kernel] {
        for direction in Direction::BOTH {
            show_command(alice.label(), &iperf(server, direction, TURN_SECS).join(" "));
        }
    }
    show(format!(
        "one stream, cubic, {ROUNDS} turns each in alternation, medians; {through_kernel} is the same \
         server\nby way of a kernel router on the same etherstub and NIC (ip_forward, nft masquerade)"
    ));
    compare(alice, &kernel, ROUNDS, TURN_SECS)
}

/// What tells a path on which super-packets stay whole from one on which they are cut, on any machine: that is a tenth.
/// How fast it is on this one is for `cargo xtask bench live` to say.
const RATIO_MIN: f64 = 0.25;

fn judge(measured: Comparison) -> Result<String> {
    let Comparison { ours, kernel, .. } = measured;
    let figure = format!(
        "routerd {:.2} Gbit/s, kernel {:.2} Gbit/s: {:.2} of the kernel",
        ours / 1e9,
        kernel / 1e9,
        measured.ratio
    );
    ensure!(measured.ratio >= RATIO_MIN, "{figure}; at least {RATIO_MIN} is wanted");
    Ok(figure)
}

/// A modem with deep buffers on both sides of the ISP, while it lives.
struct Line<'a>(&'a Stage);

impl<'a> Line<'a> {
    fn begin(stage: &'a Stage) -> Result<Self> {
        let line = Self(stage);
        for (link, rate) in [("cust0", 50), ("up0", 20)] {
            // A quarter of a second at the download's rate, and 0.6 s at the upload's.
            let queue = format!("tbf rate {rate}mbit burst 16kb limit 1500000");
            run_quietly(&stage.house.isp, &format!("tc qdisc add dev {link} root {queue}"))?;
        }
        Ok(line)
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        for link in ["cust0", "up0"] {
            // Not there if it could not be added.
            let _ = self.0.house.isp.exec(["tc", "qdisc", "del", "dev", link, "root"]);
        }
    }
}

/// What one round of load did.
struct Loaded {
    rtt: Rtt,
    megabits: [f64; 2],
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [up, down] = self.megabits;
        write!(f, "{}, with {up:.0} Mbit/s up and {down:.0} down", self.rtt)
    }
}

fn latency(stage: &Stage, report: &mut Report) {
    let mut line = None;
    report.step("Latency under load, shaper off: the line's buffers fill", || {
        stage.house.start_iperf(&stage.house.remote)?;
        line = Some(Line::begin(stage)?);
        let loaded = loaded(stage)?;
        ensure!(loaded.rtt.median() >= BLOATED_MS_MIN, "{loaded}: the buffers did not fill");
        Ok(loaded.to_string())
    });
    report.step("Latency under load, shaper on: they stay empty", || {
        ensure!(line.is_some(), "there is no line to load");
        reload(stage, &format!("{}{SHAPER}", stage.config()?), 2)?;
        let loaded = loaded(stage)?;
        ensure!(loaded.rtt.p95() <= LOADED_MS_MAX, "{loaded}: over {LOADED_MS_MAX} ms");
        Ok(loaded.to_string())
    });
    drop(line);
    report.step("The shaper is switched off again by a reload", || {
        let config = stage.config()?;
        let before = config.strip_suffix(SHAPER).unwrap_or(&config);
        reload(stage, before, 0)?;
        Ok("nothing is shaped".to_owned())
    });
}

fn loaded(stage: &Stage) -> Result<Loaded> {
    let alice = &stage.alice;
    show_command(alice.label(), &format!("iperf3 -C cubic --bidir -c {REMOTE} -t {LOAD_SECS} &"));
    show_command(alice.label(), &format!("ping -n -i 0.05 -c {PINGS} {REMOTE}"));
    let load = load(alice, REMOTE, LOAD_SECS)?;
    ping(alice, REMOTE, WARM_UP_PINGS)?;
    let rtt = ping(alice, REMOTE, PINGS)?;
    let megabits = load.finish()?.map(|bits| bits / 1e6);
    Ok(Loaded { rtt, megabits })
}

/// Changes the configuration and waits until `shapers` directions are shaped.
fn reload(stage: &Stage, config: &str, shapers: usize) -> Result<()> {
    stage.house.write_config(config)?;
    show_command("router", "kill -HUP $(pidof routerd)");
    stage.router.process.signal(Signal::HUP)?;
    wait_until(RELOAD_DEADLINE, "the configuration is in force", || {
        let status = stage.control().run("--json status").map_err(anyhow::Error::from);
        let status = status.and_then(|text| json(&text)).unwrap_or_default();
        status["shapers"].as_array().is_some_and(|shaped| shaped.len() == shapers)
    })
}
