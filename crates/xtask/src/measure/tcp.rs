//! TCP throughput, as iperf3 sees it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::house::{ISP, KernelRouter};
use lab::{Namespace, Process};
use serde_json::Value;

use super::{median, median_ratio};

/// Longest time that a test may take beyond its own: handshake, exchange of results.
const OVERTIME: Duration = Duration::from_secs(10);

/// Which way the payload goes, seen from the LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the Internet.
    Up,
    /// From the Internet.
    Down,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::Up, Self::Down];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The command line of one test. One congestion control for all, whatever the machine prefers.
pub(crate) fn iperf(server: &str, direction: Direction, secs: u32) -> Vec<String> {
    let mut line = format!("iperf3 --json -C cubic -c {server} -t {secs}");
    if direction == Direction::Down {
        line.push_str(" -R");
    }
    line.split(' ').map(str::to_owned).collect()
}

/// Runs one test; payload bits per second as received.
pub(crate) fn throughput(
    host: &Namespace,
    server: &str,
    direction: Direction,
    secs: u32,
) -> Result<f64> {
    throughput_of(host, server, direction, secs, 1)
}

/// The same with several streams, which are summed up.
pub(crate) fn throughput_of(
    host: &Namespace,
    server: &str,
    direction: Direction,
    secs: u32,
    streams: u32,
) -> Result<f64> {
    let mut line = iperf(server, direction, secs);
    line.extend(["-P".to_owned(), streams.to_string()]);
    received(&host.exec(line)?.stdout)
}

fn received(report: &str) -> Result<f64> {
    let report: Value = serde_json::from_str(report).context("read iperf3's report")?;
    let end = &report["end"];
    let congestion = end["sender_tcp_congestion"].as_str().unwrap_or("cubic");
    ensure!(congestion == "cubic", "iperf3 sent with {congestion}, not with cubic");
    end["sum_received"]["bits_per_second"].as_f64().context("iperf3 reports no throughput")
}

/// Starts a test in the background that loads the line both ways.
pub(crate) fn load(host: &Namespace, server: &str, secs: u32) -> Result<Load> {
    let line = format!("iperf3 --json -C cubic --bidir -c {server} -t {secs}");
    let process = host.spawn(line.split(' '))?;
    Ok(Load { process, deadline: Duration::from_secs(secs.into()) + OVERTIME })
}

/// A test in the background.
pub(crate) struct Load {
    process: Process,
    deadline: Duration,
}

impl Load {
    /// Waits for its end; payload bits per second up and down.
    pub(crate) fn finish(mut self) -> Result<[f64; 2]> {
        let status = self.process.wait(self.deadline)?;
        let report = self.process.log();
        ensure!(status.success(), "iperf3: {status}\n{report}");
        let report: Value = serde_json::from_str(&report).context("read iperf3's report")?;
        let sum = |name: &str| report["end"][name]["bits_per_second"].as_f64();
        let both = sum("sum_received").zip(sum("sum_received_bidir_reverse"));
        both.map(<[f64; 2]>::from).context("iperf3 reports no throughput")
    }
}

/// Both routers' throughput in one direction, medians of alternating runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    pub(crate) direction: Direction,
    /// Bits per second.
    pub(crate) ours: f64,
    /// Bits per second.
    pub(crate) kernel: f64,
    /// Ours by the kernel's, see [`median_ratio`].
    pub(crate) ratio: f64,
}

/// Measures one stream through both routers, in turn, `rounds` times `secs` seconds each way.
pub(crate) fn compare(
    host: &Namespace,
    kernel: &KernelRouter,
    rounds: usize,
    secs: u32,
) -> Result<[Comparison; 2]> {
    let through_kernel = kernel.reach(host)?;
    let measure = |direction| -> Result<Comparison> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(throughput(host, ISP, direction, secs)?);
            theirs.push(throughput(host, through_kernel, direction, secs)?);
        }
        let ratio = median_ratio(&ours, &theirs);
        let (ours, kernel) = (median(&ours), median(&theirs));
        Ok(Comparison { direction, ours, kernel, ratio })
    };
    Ok([measure(Direction::Up)?, measure(Direction::Down)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_congestion_control_is_refused() {
        let report = |congestion: &str| {
            format!(
                r#"{{"end":{{"sum_received":{{"bits_per_second":5.0}},
                "sender_tcp_congestion":"{congestion}"}}}}"#
            )
        };
        assert_eq!(received(&report("cubic")).unwrap(), 5.0);
        assert!(received(&report("bbr")).is_err());
        assert!(received("{}").is_err());
    }
}
