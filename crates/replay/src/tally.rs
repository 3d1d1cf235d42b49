//! What became of the frames.

use std::collections::BTreeMap;
use std::fmt;

use packet::{DropReason, PuntReason};
use pipeline::Counter;
use serde::Serialize;

use crate::router::Router;
use crate::run::Arrival;

/// Counts of one replay, or of several together.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Tally {
    /// Frames that the router was given.
    pub frames: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// Frames sent on.
    pub forwarded: u64,
    /// Frames answered with an ICMP error.
    pub replied: u64,
    /// Frames for the router itself, by reason.
    pub punted: BTreeMap<&'static str, u64>,
    /// Frames dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Fragments whose packet became whole, and was counted in the place of its last fragment.
    pub reassembled: u64,
    /// Fragments that wait for the rest of their packet.
    pub waiting: u64,
    /// Frames that leave beyond one for each that is forwarded, because packets were cut into fragments.
    pub fragments_added: u64,
    /// Frames that left, replies included.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that were forwarded or replied, but dropped by a shaper, by reason.
    pub dropped_by_shaper: BTreeMap<&'static str, u64>,
    /// Flows opened.
    pub flows_opened: u64,
    /// Flows that were there at the end.
    pub flows: u64,
    /// Frames of the capture that are not given to the router, by why.
    pub skipped: BTreeMap<String, u64>,
    /// Frames that the path's own counters contradict, and buffers lost.
    #[serde(skip)]
    faults: Vec<String>,
}

impl Tally {
    /// Counts frames that the router is not given.
    pub(crate) fn skip(&mut self, why: &str, count: u64) {
        match self.skipped.get_mut(why) {
            Some(skipped) => *skipped += count,
            None => drop(self.skipped.insert(why.to_owned(), count)),
        }
    }

    /// Takes the counters of a router that has come to rest.
    pub(crate) fn finish(&mut self, router: &Router) {
        let mut waits = 0;
        for link in router.links() {
            let counts = router.counters.link(link);
            self.forwarded += counts.forwarded.load();
            self.replied += counts.replied.load();
            self.reassembled += counts.reassembled.load();
            self.waiting += counts.waiting();
            self.fragments_added += counts.fragments_added.load();
            add(&mut self.dropped, DropReason::ALL, &counts.dropped, DropReason::name);
            let by_egress = &counts.dropped_by_egress;
            add(&mut self.dropped_by_shaper, DropReason::ALL, by_egress, DropReason::name);
            add(&mut self.punted, PuntReason::ALL, &counts.punted, PuntReason::name);
            waits += counts.punted[PuntReason::NeighbourMissing.index()].load();
            if counts.rx_packets.load() != counts.verdicts() {
                let (rx, verdicts) = (counts.rx_packets.load(), counts.verdicts());
                let name = router.link_name(link);
                self.faults.push(format!("{name}: {rx} frames, but {verdicts} verdicts"));
            }
        }
        // A frame that waited for its neighbour has two verdicts; the second counts.
        let missing = PuntReason::NeighbourMissing.name();
        self.punted.remove(missing);
        if waits > router.again {
            self.punted.insert(missing, waits - router.again);
        }
        self.flows_opened = router.counters.opened.load();
        self.flows = router.tables.stats().sessions as u64;
        let lost = router.buffers_out();
        if lost > 0 {
            self.faults.push(format!("{lost} buffers did not come home"));
        }
    }

    /// Adds the counts of another replay.
    pub fn add(&mut self, other: &Tally) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.forwarded += other.forwarded;
        self.replied += other.replied;
        self.reassembled += other.reassembled;
        self.waiting += other.waiting;
        self.fragments_added += other.fragments_added;
        merge(&mut self.punted, &other.punted);
        merge(&mut self.dropped, &other.dropped);
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        merge(&mut self.dropped_by_shaper, &other.dropped_by_shaper);
        self.flows_opened += other.flows_opened;
        self.flows += other.flows;
        merge(&mut self.skipped, &other.skipped);
        self.faults.extend_from_slice(&other.faults);
    }

    /// What does not add up, if anything: every frame has one verdict or is part of another's, every frame to be sent left or was
    /// dropped by a shaper, every buffer came home.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        let mut faults = self.faults.clone();
        let held = self.reassembled + self.waiting;
        let verdicts =
            self.forwarded + self.replied + sum(&self.punted) + sum(&self.dropped) + held;
        if self.frames != verdicts {
            faults.push(format!("{} frames in, {verdicts} accounted for", self.frames));
        }
        let to_send = self.forwarded + self.replied + self.fragments_added;
        let left = self.sent + sum(&self.dropped_by_shaper);
        if to_send != left {
            faults.push(format!("{to_send} frames to send, {left} sent or dropped by a shaper"));
        }
        (!faults.is_empty()).then(|| faults.join("; "))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, forwarded, replied, sent, flows_opened, flows, .. } = self;
        let (punted, dropped) = (sum(&self.punted), sum(&self.dropped));
        let held = self.reassembled + self.waiting;
        write!(f, "{frames} in = {forwarded} forwarded + {replied} replied + {punted} punted")?;
        write!(f, " + {dropped} dropped")?;
        if held > 0 {
            write!(f, " + {held} parts of packets in fragments")?;
        }
        write!(f, "; {sent} sent; {flows_opened} flows opened, {flows} live")
    }
}

/// One capture from one side.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The file.
    pub capture: String,
    /// Where its frames arrived: `lan`, `wan`, or `both` if each did where its sender belongs.
    pub from: Arrival,
    /// What became of them.
    #[serde(flatten)]
    pub tally: Tally,
    /// What the packet path took, if it was measured and had something to do.
    #[serde(flatten)]
    pub cost: Option<Cost>,
    /// Why nothing was replayed, and what helps, if that is because of the link-layer type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsupported: Option<String>,
    /// Where the file ends early, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

/// What the packet path took, from a batch of received frames to the egress queues.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Cost {
    /// In all, in what the clock counts.
    pub ticks: u64,
    /// On average.
    pub ticks_per_packet: f64,
}

impl Cost {
    /// The cost of so many packets; `None` if there were none.
    #[must_use]
    pub fn of(ticks: u64, packets: u64) -> Option<Self> {
        let per_packet = || (ticks as f64 / packets as f64 * 10.0).round() / 10.0;
        (packets > 0).then(|| Self { ticks, ticks_per_packet: per_packet() })
    }
}

pub(crate) fn sum<K>(counts: &BTreeMap<K, u64>) -> u64 {
    counts.values().sum()
}

fn add<R: Copy>(
    to: &mut BTreeMap<&'static str, u64>,
    reasons: &[R],
    counters: &[Counter],
    name: impl Fn(R) -> &'static str,
) {
    for (reason, counter) in reasons.iter().zip(counters).filter(|(_, c)| c.load() > 0) {
        *to.entry(name(*reason)).or_default() += counter.load();
    }
}

fn merge<K: Ord + Clone>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *to.entry(key.clone()).or_default() += count;
    }
}
