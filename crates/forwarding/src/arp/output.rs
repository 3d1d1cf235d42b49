//! What the machine has to say, waiting to be polled.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use packet::{LinkId, MacAddr};

use super::message::{ARP_FRAME_LEN, ArpMessage};
use super::waiting::{WAITING_MAX, WaitingFrame};
use super::{INCOMPLETE_MAX, Key};

/// Frames to send that may pile up: one timeout may re-ask for every incomplete neighbour at once,
/// and probe as many again. Losing one costs a retry.
const TRANSMIT_MAX: usize = 2 * INCOMPLETE_MAX;
/// Events that may pile up: a flushed link may lose a thousand hosts at once.
const EVENTS_MAX: usize = 1024;
/// Released frames that may pile up: all that waited.
const RELEASED_MAX: usize = WAITING_MAX;

/// Something that happened on a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A neighbour is known from now on.
    NeighbourAppeared {
        /// Its link.
        link: LinkId,
        /// Its address.
        address: Ipv4Addr,
        /// Its station.
        mac: MacAddr,
    },
    /// Another station has a neighbour's address now.
    NeighbourChanged {
        /// Its link.
        link: LinkId,
        /// Its address.
        address: Ipv4Addr,
        /// Its station from now on.
        mac: MacAddr,
        /// Its station until now.
        was: MacAddr,
    },
    /// A neighbour stopped answering, was unused for long, or had to make room.
    NeighbourLeft {
        /// Its link.
        link: LinkId,
        /// Its address.
        address: Ipv4Addr,
        /// The station that it had.
        mac: MacAddr,
    },
    /// Another station claims an address of ours (RFC 5227 §2.4). At most once in 10 s per address.
    AddressConflict {
        /// The link.
        link: LinkId,
        /// Our address.
        address: Ipv4Addr,
        /// The other station.
        mac: MacAddr,
    },
    /// An address that was probed is in use, or is being probed by another.
    Sighted {
        /// The link.
        link: LinkId,
        /// The probed address.
        address: Ipv4Addr,
        /// The station that uses or probes it.
        mac: MacAddr,
    },
}

/// How waiting for a neighbour ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// It answered: inject the frame again.
    Resolved,
    /// It did not: the sender may be told that the host is unreachable (RFC 1812 §5.2.7.1).
    Failed,
}

/// A frame that waits no longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    /// The link that it was to leave on.
    pub egress: LinkId,
    /// The neighbour that it waited for.
    pub next_hop: Ipv4Addr,
    /// The frame, as it was handed in.
    pub frame: WaitingFrame,
    /// How the wait ended.
    pub resolution: Resolution,
}

/// Counters of the ARP machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ArpStats {
    /// Frames that are no ARP message for IPv4 over Ethernet.
    pub malformed: u64,
    /// Messages from a station that claims an address of ours.
    pub conflicts: u64,
    /// Neighbours that found no room in the table.
    pub table_full: u64,
    /// Waiting frames dropped for being too many or too long.
    pub frames_dropped: u64,
    /// Messages, frames and events dropped because the machine was not drained.
    pub outputs_dropped: u64,
}

#[derive(Default)]
pub(super) struct Outputs {
    pub(super) frames: VecDeque<(LinkId, [u8; ARP_FRAME_LEN])>,
    pub(super) released: VecDeque<Released>,
    pub(super) events: VecDeque<Event>,
    pub(super) stats: ArpStats,
}

impl Outputs {
    pub(super) fn transmit(&mut self, link: LinkId, to: MacAddr, message: &ArpMessage) {
        self.stats.outputs_dropped +=
            push_bounded(&mut self.frames, (link, message.emit(to)), TRANSMIT_MAX);
    }

    pub(super) fn event(&mut self, event: Event) {
        self.stats.outputs_dropped += push_bounded(&mut self.events, event, EVENTS_MAX);
    }

    pub(super) fn release(
        &mut self,
        (egress, next_hop): Key,
        frames: impl IntoIterator<Item = WaitingFrame>,
        resolution: Resolution,
    ) {
        for frame in frames {
            let released = Released { egress, next_hop, frame, resolution };
            self.stats.outputs_dropped += push_bounded(&mut self.released, released, RELEASED_MAX);
        }
    }
}

/// Adds at the back and drops from the front what exceeds `max`; returns how many were dropped.
fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) -> u64 {
    let dropped = queue.len() >= max && queue.pop_front().is_some();
    queue.push_back(item);
    u64::from(dropped)
}
