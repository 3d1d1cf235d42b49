//! What the control thread and the worker share, and what they say to each other.

use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, Sender, bounded};
use link::{LinkCounters, LinkState};
use nat::{SessionId, Tables};
use packet::{LinkId, MacAddr};
use pipeline::{Counters, Rings, Shapers, Snapshot};

use crate::wake::Waker;

/// Commands that may wait for the worker; it drains them at every batch.
const COMMANDS_MAX: usize = 1024;

/// Link events that may wait for the control thread.
const EVENTS_MAX: usize = 256;

/// Seen by both threads.
pub struct Shared {
    /// The running configuration and routes.
    pub snapshot: ArcSwap<Snapshot>,
    /// Sessions, mappings.
    pub tables: Tables,
    /// The worker's numbers.
    pub counters: Arc<Counters>,
    /// Frames to and from the router's own stack.
    pub rings: Arc<Rings>,
    /// Wakes the worker.
    pub worker: Waker,
    /// Wakes the control thread.
    pub control: Waker,
}

/// From the control thread to the worker.
pub enum Command {
    /// End a session.
    Kill(SessionId),
    /// Shape differently.
    Shape(Shapers),
    /// Tell what only the worker knows.
    Report(Sender<Report>),
    /// Finish.
    Stop,
}

/// From the worker to the control thread.
#[derive(Debug)]
pub enum LinkEvent {
    /// A link's carrier came or went, or the link vanished.
    State(LinkId, LinkState),
    /// A vanished link is back, perhaps with another station address.
    Reopened(LinkId, MacAddr, usize),
    /// The worker can't go on.
    Failed(String),
}

/// What only the worker knows.
#[derive(Debug, Default)]
pub struct Report {
    /// Counters of the links by [`LinkId`].
    pub links: Vec<(LinkState, LinkCounters)>,
    /// The upload shaper.
    pub upload: Option<ShaperReport>,
    /// The download shaper.
    pub download: Option<ShaperReport>,
}

/// State of one shaper.
#[derive(Debug, Clone)]
pub struct ShaperReport {
    pub rate_bits_per_sec: u64,
    pub backlog_bytes: usize,
    pub backlog_packets: usize,
    pub stats: qos::FqStats,
}

/// The two ends of the mailbox between the threads.
pub struct Mailbox {
    pub commands: (Sender<Command>, Receiver<Command>),
    pub events: (Sender<LinkEvent>, Receiver<LinkEvent>),
}

impl Mailbox {
    pub fn new() -> Self {
        Self { commands: bounded(COMMANDS_MAX), events: bounded(EVENTS_MAX) }
    }
}
