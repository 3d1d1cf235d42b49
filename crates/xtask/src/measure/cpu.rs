//! Processor time: of the whole machine, and of one program.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Of a tick in `/proc/stat` (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Time that all processors together were busy so far: everything but idle and waiting for a disk.
pub(crate) fn busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    busy_of(&text).context("/proc/stat begins with the sum of all processors")
}

fn busy_of(text: &str) -> Option<Duration> {
    let ticks: Vec<u32> = text
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what guests take is in user already.
    let [user, nice, system, _, _, irq, softirq, ..] = ticks[..] else { return None };
    Some(TICK * (user + nice + system + irq + softirq))
}

/// Share of one core that a process takes while nobody asks anything of it.
#[expect(clippy::disallowed_methods, reason = "a development edge: real programs take real time")]
pub(crate) fn share_of(pid: u32, time: Duration) -> Result<f64> {
    let (start, before) = (Instant::now(), spent(pid)?);
    std::thread::sleep(time);
    let spent = spent(pid)?.saturating_sub(before);
    Ok(spent.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// Processor time of all threads of a process, to the nanosecond.
fn spent(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(&tasks).with_context(|| format!("read {tasks}"))? {
        let path = task?.path().join("schedstat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
        sum += Duration::from_nanos(nanos.with_context(|| path.display().to_string())?);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_processors_are_not_busy() {
        let text = "cpu  100 1 20 5000 300 3 6 7 50 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
        assert_eq!(busy_of(text), Some(TICK * 130));
        assert_eq!(busy_of("intr 5\n"), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the time that a process takes is real")]
    fn a_process_that_works_takes_a_share() {
        let before = spent(std::process::id()).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {}
        assert!(spent(std::process::id()).unwrap() > before);
        assert!(busy().unwrap() > Duration::ZERO);
    }
}
