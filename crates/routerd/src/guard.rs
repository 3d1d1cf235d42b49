//! Against a flood of connection attempts: the WAN's link drops them before they cost a wake-up.
//!
//! Each SYN to a port that nobody answers on costs the worker microseconds, mostly for being woken, and a flood of
//! them takes the processor away from everybody's flows. So when more than [`FLOOD_PER_MS`] unasked packets a
//! millisecond come, the worker tells the link which ports of the WAN's address somebody may answer on, and the link
//! drops SYNs to the others ([`Link::guard`]) until the flood has ended.
//!
//! Off ── flood for [`ONSET`] ticks ──► Gathering ── all ports looked up ──► On ── calm for [`CALM`] ticks ──► Off
//!
//! Limits: the WAN's own address, not the others of a pool. While the guard is on, a mapping that is new
//! is unknown to the link for up to [`SLICES`] ticks, and nobody hears that a SYN was refused (RFC 5382 §4.3, REQ-4
//! leaves that open to a policy).

use std::net::Ipv4Addr;
use std::time::Duration;

use link::Link;
use packet::{DropReason, Instant, LinkId, PortBitmap};
use pipeline::{Counters, LinkCounts, Snapshot, Worker};
use tracing::info;

/// How often the guard looks.
const TICK: Duration = Duration::from_millis(10);

/// Unasked packets a millisecond that are a flood.
const FLOOD_PER_MS: u64 = 5;

/// Ticks of flood until the guard takes it for one.
const ONSET: u32 = 5;

/// Ticks without a flood until the guard takes it for over.
const CALM: u32 = 100;

/// In how many ticks all ports are looked up, so that no tick takes long.
const SLICES: usize = 16;

/// The guard of the WAN's link.
pub struct FloodGuard {
    looked_at: Instant,
    /// What the counters said then.
    unasked: u64,
    guarded: u64,
    alarm: Alarm,
    state: State,
    wanted: PortBitmap,
    /// The slice of ports to be looked up next.
    slice: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Off,
    Gathering(Ipv4Addr),
    On(Ipv4Addr),
}

impl FloodGuard {
    /// A guard that is off.
    pub fn new(now: Instant) -> Self {
        let (alarm, wanted) = (Alarm::default(), PortBitmap::new());
        Self { looked_at: now, unasked: 0, guarded: 0, alarm, state: State::Off, wanted, slice: 0 }
    }

    /// Longest time until the next [`Self::turn`]; `None` while packets bring it about.
    pub fn tick(&self) -> Option<Duration> {
        (self.state != State::Off).then_some(TICK)
    }

    /// Looks at what came since the last time, at most once a tick.
    pub fn turn(
        &mut self,
        link: &mut dyn Link,
        worker: &mut Worker,
        snapshot: &Snapshot,
        counters: &Counters,
        now: Instant,
    ) {
        let elapsed = now.saturating_since(self.looked_at);
        if elapsed < TICK {
            return;
        }
        self.looked_at = now;
        let flood = FLOOD_PER_MS * elapsed.as_millis() as u64;
        let counts = counters.link(LinkId::WAN);
        let unasked = counts.dropped_for(DropReason::NoMapping);
        let came = unasked.wrapping_sub(std::mem::replace(&mut self.unasked, unasked));
        let is_flood = match self.state {
            State::On(_) => self.count(link, counts) >= flood,
            State::Off | State::Gathering(_) => came >= flood,
        };
        let is_raised = self.alarm.turn(is_flood);
        self.state = match (snapshot.nat.external.filter(|_| is_raised), self.state) {
            (None, State::On(address)) => {
                link.guard(None);
                info!(link = link.name(), %address, "the flood has ended");
                State::Off
            }
            (None, State::Off | State::Gathering(_)) => State::Off,
            (Some(address), State::On(guarded)) if guarded == address => {
                self.look_up(address, worker, snapshot);
                // Said again each time, for new ports and to a link that was opened again.
                link.guard(Some((address, &self.wanted)));
                State::On(address)
            }
            (Some(address), State::Gathering(asked_for)) if asked_for == address => {
                self.look_up(address, worker, snapshot);
                if self.slice == 0 {
                    self.guarded = link.counters().rx_guarded;
                    link.guard(Some((address, &self.wanted)));
                    info!(link = link.name(), %address, "a flood of connection attempts: guarded");
                    State::On(address)
                } else {
                    State::Gathering(address)
                }
            }
            // A new flood or a new address, if the link can do anything about it.
            (Some(address), _) => {
                self.slice = 0;
                if link.guard(None) { State::Gathering(address) } else { State::Off }
            }
        };
    }

    /// Counts what the link dropped since the last time.
    fn count(&mut self, link: &mut dyn Link, counts: &LinkCounts) -> u64 {
        let guarded = link.counters().rx_guarded;
        // Less than before: the link was opened again, and counts from zero.
        let dropped = guarded.saturating_sub(self.guarded);
        self.guarded = guarded;
        counts.dropped[DropReason::SynFlood.index()].add(dropped);
        counts.rx_packets.add(dropped);
        dropped
    }

    fn look_up(&mut self, address: Ipv4Addr, worker: &mut Worker, snapshot: &Snapshot) {
        let len = (1 << 16) / SLICES;
        let first = self.slice * len;
        let ports = first as u16..=(first + len - 1) as u16;
        worker.note_wanted(snapshot, address, ports, &mut self.wanted);
        self.slice = (self.slice + 1) % SLICES;
    }
}

/// Slow to be raised, so that a burst does not, and slower to be lowered, so that a pause does not.
#[derive(Default)]
struct Alarm {
    is_raised: bool,
    /// Ticks in a row that speak for a change.
    streak: u32,
}

impl Alarm {
    /// Takes note of one tick; whether there is a flood, all in all.
    fn turn(&mut self, is_flood: bool) -> bool {
        self.streak = if is_flood == self.is_raised { 0 } else { self.streak + 1 };
        if self.streak == if self.is_raised { CALM } else { ONSET } {
            (self.is_raised, self.streak) = (is_flood, 0);
        }
        self.is_raised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_to_last_and_so_has_the_calm_after_it() {
        let mut alarm = Alarm::default();
        let mut turns = |count, is_flood| (0..count).map(|_| alarm.turn(is_flood)).last();
        assert_eq!(turns(ONSET - 1, true), Some(false));
        assert_eq!(turns(1, false), Some(false));
        assert_eq!(turns(ONSET - 1, true), Some(false), "a burst and another");
        assert_eq!(turns(1, true), Some(true));
        assert_eq!(turns(CALM - 1, false), Some(true));
        assert_eq!(turns(1, true), Some(true));
        assert_eq!(turns(CALM - 1, false), Some(true), "a pause and another");
        assert_eq!(turns(1, false), Some(false));
    }
}
