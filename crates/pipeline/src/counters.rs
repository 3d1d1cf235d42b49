//! What the worker counts and everyone may read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;
use packet::{DropReason, LinkId, PuntReason};

/// Most links of one router: the WAN, sixteen LANs, and the router's own stack.
pub const LINKS_MAX: usize = 18;

/// Position of the router's own stack in per-link arrays.
const LOCAL_INDEX: usize = LINKS_MAX - 1;

/// One number with one writer.
///
/// Relaxed is enough: a reader wants a recent value, and no other data is published by it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may call it.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Recent value.
    #[must_use]
    #[inline]
    pub fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Numbers of one link.
#[derive(Debug)]
pub struct LinkCounts {
    /// Frames received.
    pub rx_packets: Counter,
    /// Bytes received.
    pub rx_bytes: Counter,
    /// Frames handed to the link.
    pub tx_packets: Counter,
    /// Bytes handed to the link.
    pub tx_bytes: Counter,
    /// Frames forwarded from this link.
    pub forwarded: Counter,
    /// Frames answered in place (ICMP errors and resets).
    pub replied: Counter,
    /// Those of them that were answered rather than dropped, by the reason.
    pub answered: [Counter; DropReason::COUNT],
    /// Frames punted, by reason.
    pub punted: [Counter; PuntReason::COUNT],
    /// Fragments that were to wait for the rest of their packet.
    pub held: Counter,
    /// Of those, the ones whose packet became whole. It goes on in place of its last fragment, which is none of these.
    pub reassembled: Counter,
    /// Of those, the ones that waited in vain: they are among the dropped now.
    pub given_up: Counter,
    /// Frames that leave beyond one for each that is forwarded, because packets were cut into fragments.
    pub fragments_added: Counter,
    /// Frames dropped by their verdict or after they were held, by reason.
    pub dropped: [Counter; DropReason::COUNT],
    /// Frames dropped after they were forwarded, replied or injected, by reason; each segment of a
    /// super-packet that was cut counts.
    pub dropped_by_egress: [Counter; DropReason::COUNT],
}

impl LinkCounts {
    /// Frames dropped for `reason`, by their verdict or after it.
    #[must_use]
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason.index()].load() + self.dropped_by_egress[reason.index()].load()
    }

    /// Frames with a verdict. At rest this is what was received: every frame has exactly one, and a fragment that
    /// was held first and dropped later counts as dropped.
    #[must_use]
    pub fn verdicts(&self) -> u64 {
        let sum = |counters: &[Counter]| counters.iter().map(Counter::load).sum::<u64>();
        let sent_on = self.forwarded.load() + self.replied.load() + sum(&self.punted);
        let held = self.held.load().saturating_sub(self.given_up.load());
        sent_on + sum(&self.dropped) + held
    }

    /// Fragments that wait for the rest of their packet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let over = self.reassembled.load() + self.given_up.load();
        self.held.load().saturating_sub(over)
    }
}

impl Default for LinkCounts {
    fn default() -> Self {
        Self {
            rx_packets: Counter::default(),
            rx_bytes: Counter::default(),
            tx_packets: Counter::default(),
            tx_bytes: Counter::default(),
            forwarded: Counter::default(),
            replied: Counter::default(),
            answered: std::array::from_fn(|_| Counter::default()),
            punted: std::array::from_fn(|_| Counter::default()),
            held: Counter::default(),
            reassembled: Counter::default(),
            given_up: Counter::default(),
            fragments_added: Counter::default(),
            dropped: std::array::from_fn(|_| Counter::default()),
            dropped_by_egress: std::array::from_fn(|_| Counter::default()),
        }
    }
}

/// All numbers of one worker.
#[derive(Debug)]
pub struct Counters {
    /// Sessions opened.
    pub opened: Counter,
    /// Packets that would have opened one, but something was full or used up.
    pub refused: Counter,
    /// Matches of rules that were to be logged, but came too fast.
    pub unlogged: Counter,
    /// Segments of connections from outside that passed before there was a session.
    pub relayed: Counter,
    links: Vec<CachePadded<LinkCounts>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            opened: Counter::default(),
            refused: Counter::default(),
            unlogged: Counter::default(),
            relayed: Counter::default(),
            links: (0..LINKS_MAX).map(|_| CachePadded::default()).collect(),
        }
    }
}

impl Counters {
    /// The numbers of a link; [`LinkId::LOCAL`] has its own.
    #[must_use]
    #[inline]
    pub fn link(&self, link: LinkId) -> &LinkCounts {
        &self.links[link.index().min(LOCAL_INDEX)]
    }

    /// Counts one frame dropped by its verdict.
    #[inline]
    pub fn count_drop(&self, ingress: LinkId, reason: DropReason) {
        self.link(ingress).dropped[reason.index()].add(1);
    }

    /// Counts one frame dropped on its way out.
    #[inline]
    pub fn count_egress_drop(&self, ingress: LinkId, reason: DropReason) {
        self.link(ingress).dropped_by_egress[reason.index()].add(1);
    }

    /// Frames dropped for `reason`, before or after their verdict, over all links.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.links.iter().map(|link| link.dropped_for(reason)).sum()
    }

    /// Frames punted for `reason`, over all links.
    #[must_use]
    pub fn punted(&self, reason: PuntReason) -> u64 {
        self.links.iter().map(|link| link.punted[reason.index()].load()).sum()
    }
}
