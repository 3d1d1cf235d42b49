//! Round-trip times, as ping sees them.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use lab::Namespace;

use super::{median, quantile};

/// Round-trip times of a run, milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rtt {
    times: Vec<f64>,
}

impl Rtt {
    pub(crate) fn median(&self) -> f64 {
        median(&self.times)
    }

    pub(crate) fn p95(&self) -> f64 {
        quantile(&self.times, 0.95)
    }

    pub(crate) fn p99(&self) -> f64 {
        quantile(&self.times, 0.99)
    }
}

impl fmt::Display for Rtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, p95) = (self.median(), self.p95());
        write!(f, "median {median:.1} ms, p95 {p95:.1} ms of {}", self.times.len())
    }
}

/// Sends `count` pings, one each 50 ms, and returns the times of those that were answered.
pub(crate) fn ping(host: &Namespace, address: &str, count: u32) -> Result<Rtt> {
    ping_every(host, address, count, Duration::from_millis(50))
}

/// The same, with another time between two.
pub(crate) fn ping_every(
    host: &Namespace,
    address: &str,
    count: u32,
    gap: Duration,
) -> Result<Rtt> {
    let line = format!("ping -n -i {} -W 2 -c {count} {address}", gap.as_secs_f64());
    let output = host.exec(line.split(' '))?;
    Ok(Rtt { times: times(&output.stdout) })
}

fn times(output: &str) -> Vec<f64> {
    let after = |line: &str| line.split_once("time=")?.1.split(' ').next()?.parse().ok();
    output.lines().filter_map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_answered_pings_alone() {
        let output = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\
            64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.036 ms\n\
            From 10.0.0.9 icmp_seq=2 Destination Host Unreachable\n\
            64 bytes from 10.0.0.1: icmp_seq=3 ttl=64 time=12.5 ms\n";
        assert_eq!(times(output), [0.036, 12.5]);
    }
}
