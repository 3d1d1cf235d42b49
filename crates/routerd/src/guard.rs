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
use pipeline::{Counters, Snapshot, Worker};
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
    /// Ticks in a row that speak for a change.
    streak: u32,
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
        let (wanted, state) = (PortBitmap::new(), State::Off);
        Self { looked_at: now, unasked: 0, guarded: 0, streak: 0, state, wanted, slice: 0 }
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
        match self.state {
            State::Off => {
                let address = snapshot.nat.external.filter(|_| self.lasts(came >= flood, ONSET));
                if let Some(address) = address {
                    (self.state, self.slice) = (State::Gathering(address), 0);
                }
            }
            State::Gathering(address) => {
                self.look_up(address, worker, snapshot);
                if self.slice == 0 {
                    self.guarded = link.counters().rx_guarded;
                    self.state = State::On(address);
                    info!(link = link.name(), %address, "a flood of connection attempts: guarded");
                }
            }
            State::On(address) => {
                let guarded = link.counters().rx_guarded;
                let dropped = guarded.wrapping_sub(std::mem::replace(&mut self.guarded, guarded));
                counts.dropped[DropReason::SynFlood.index()].add(dropped);
                counts.rx_packets.add(dropped);
                self.look_up(address, worker, snapshot);
                let is_over = self.lasts(dropped < flood, CALM);
                if is_over || snapshot.nat.external != Some(address) {
                    link.guard(None);
                    (self.state, self.streak) = (State::Off, 0);
                    info!(link = link.name(), %address, "the flood has ended");
                } else if !link.guard(Some((address, &self.wanted))) {
                    // A link that can't; look again after as long as a flood has to last.
                    (self.state, self.streak) = (State::Off, 0);
                }
            }
        }
    }

    /// Whether something is so for the `count`th time in a row.
    fn lasts(&mut self, is_so: bool, count: u32) -> bool {
        self.streak = if is_so { self.streak + 1 } else { 0 };
        let lasts = self.streak >= count;
        if lasts {
            self.streak = 0;
        }
        lasts
    }

    fn look_up(&mut self, address: Ipv4Addr, worker: &mut Worker, snapshot: &Snapshot) {
        let len = (1 << 16) / SLICES;
        let first = self.slice * len;
        let ports = first as u16..=(first + len - 1) as u16;
        worker.note_wanted(snapshot, address, ports, &mut self.wanted);
        self.slice = (self.slice + 1) % SLICES;
    }
}
