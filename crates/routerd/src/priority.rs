//! The worker's share of a processor that others want too.

#[cfg(target_os = "linux")]
use std::num::NonZeroU64;

#[cfg(target_os = "linux")]
use tracing::info;

/// Nice value of the worker: about nine times the weight of an ordinary thread.
///
/// The worker runs for microseconds at a time and everybody's packets wait for it, so it goes first when
/// it wakes. More weight would starve the control thread on a machine with one core during a flood.
#[cfg(target_os = "linux")]
const NICE: i32 = -10;

/// Raises the priority of the calling thread, as far as the system allows; on a system where a nice value
/// belongs to the whole process, its service does that.
pub fn raise() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // A rest of 50 µs would else last 100: sleeps may be up to this much too long, 50 µs by default.
        if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000)) {
            info!(%error, "the packet worker's short sleeps may be longer");
        }
        // No process id means the calling thread: Linux keeps a nice value for each thread.
        if getpriority_process(None).is_ok_and(|nice| nice <= NICE) {
            return;
        }
        if let Err(error) = setpriority_process(None, NICE) {
            info!(%error, nice = NICE, "the packet worker keeps its ordinary priority");
        }
    }
}
