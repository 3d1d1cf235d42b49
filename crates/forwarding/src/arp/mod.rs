//! The ARP machine: resolves, answers, announces, keeps neighbours fresh (RFC 826, RFC 5227).

mod config;
mod message;
mod output;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use packet::{Instant, LinkId, MacAddr};

pub use config::LinkConfig;
pub use message::{ARP_FRAME_LEN, ArpMessage, ArpOperation};
pub use output::{ArpStats, Event, Released, Resolution};
pub use waiting::{
    FRAMES_PER_NEIGHBOUR_MAX, WAITING_BYTES_MAX, WAITING_FRAME_LEN_MAX, WAITING_MAX, WaitingFrame,
};

use crate::{NEIGHBOURS_MAX, NeighbourWriter, Neighbours};
use output::Outputs;
use waiting::WaitingRoom;

/// Neighbours being resolved at a time; a scan of a subnet that opens more pushes the oldest out. A
/// host that is there answers long before 256 others have been asked for.
pub const INCOMPLETE_MAX: usize = 256;

/// Addresses watched for DHCP at a time: as many offers as a server has under way.
pub const WATCHES_MAX: usize = 64;

/// Neighbours beyond which nobody is learnt who merely asked for us, so that a flood of requests
/// leaves room for neighbours that we have packets for.
const LEARNT_MAX: usize = NEIGHBOURS_MAX / 4 * 3;

/// Requests before giving up, to anyone (broadcast) or to the known station (unicast):
/// RFC 4861 §10 MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT, which serve ARP as well.
const TRIES_MAX: u8 = 3;
/// Time between them: RFC 1122 §2.3.2.1 allows no more than one request per second.
const RETRY: Duration = Duration::from_secs(1);
/// How long an answer is believed: RFC 4861 §10 REACHABLE_TIME; and how often a stale neighbour is
/// looked at.
const REACHABLE: Duration = Duration::from_secs(30);
/// How long an unused neighbour is kept.
const UNUSED_MAX: Duration = Duration::from_mins(5);
/// RFC 5227 §1.1 ANNOUNCE_NUM and ANNOUNCE_INTERVAL.
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// RFC 5227 §1.1 DEFEND_INTERVAL: a conflict is reported and answered at most this often.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// How long a probed address is watched: three probes at two seconds and ANNOUNCE_WAIT (RFC 5227
/// §1.1).
const WATCH: Duration = Duration::from_secs(10);

/// A neighbour's name: the link that it is on and its address.
type Key = (LinkId, Ipv4Addr);

/// What is known of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourState {
    /// Asked for; no MAC address yet. Frames may wait for it. Leaves by an answer or after three
    /// tries.
    Incomplete,
    /// Heard from in the last 30 s.
    Reachable,
    /// Not heard from for 30 s and not used since; leaves when used, heard, or after five minutes.
    Stale,
    /// In use and being asked by unicast whether it is still there; its MAC address is used
    /// meanwhile.
    Probing,
}

/// A neighbour as `routerctl host list` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourInfo {
    /// The link that it is on.
    pub link: LinkId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its station; `None` while incomplete.
    pub mac: Option<MacAddr>,
    /// What is known of it.
    pub state: NeighbourState,
    /// When it was last heard from.
    pub confirmed: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Entry {
    state: State,
    /// The entry's place in `timers`.
    deadline: Instant,
}

#[derive(Clone, Copy)]
enum State {
    Incomplete { tries: u8 },
    Reachable(Known),
    Stale(Known),
    Probing { known: Known, tries: u8 },
}

#[derive(Clone, Copy)]
struct Known {
    mac: MacAddr,
    confirmed: Instant,
}

impl State {
    fn known(self) -> Option<Known> {
        match self {
            State::Incomplete { .. } => None,
            State::Reachable(known) | State::Stale(known) | State::Probing { known, .. } => {
                Some(known)
            }
        }
    }
}

struct Announcement {
    key: Key,
    left: u8,
    due: Instant,
}

struct Watch {
    key: Key,
    until: Instant,
}

/// The ARP machine of all links (sans-IO; the contract is in `crates/README.md`).
///
/// One `handle_*` call, then drain [`Self::poll_transmit`], [`Self::poll_released`] and
/// [`Self::poll_event`].
pub struct ArpMachine {
    links: Vec<LinkConfig>,
    writer: NeighbourWriter,
    entries: BTreeMap<Key, Entry>,
    timers: BTreeSet<(Instant, Key)>,
    /// Incomplete entries, oldest first.
    incomplete: VecDeque<Key>,
    waiting: WaitingRoom,
    announcements: Vec<Announcement>,
    /// When a conflict over an address of ours was last answered.
    defended: Vec<(Key, Instant)>,
    watches: VecDeque<Watch>,
    outputs: Outputs,
}

impl ArpMachine {
    /// Makes the machine and announces the addresses of all links.
    #[must_use]
    pub fn new(links: Vec<LinkConfig>, now: Instant) -> Self {
        let mut machine = Self {
            links: Vec::new(),
            writer: NeighbourWriter::new(),
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            incomplete: VecDeque::new(),
            waiting: WaitingRoom::default(),
            announcements: Vec::new(),
            defended: Vec::new(),
            watches: VecDeque::new(),
            outputs: Outputs::default(),
        };
        for mut link in links {
            let (id, addresses) = (link.id, std::mem::take(&mut link.addresses));
            machine.links.push(link);
            machine.set_addresses(id, addresses, now);
        }
        machine
    }

    /// The table that this machine keeps, for workers.
    #[must_use]
    pub fn neighbours(&self) -> Arc<Neighbours> {
        self.writer.table()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> ArpStats {
        self.outputs.stats
    }

    /// Every neighbour, in order of link and address.
    pub fn iter(&self) -> impl Iterator<Item = NeighbourInfo> + '_ {
        self.entries.iter().map(|(&(link, address), entry)| NeighbourInfo {
            link,
            address,
            mac: entry.state.known().map(|known| known.mac),
            state: match entry.state {
                State::Incomplete { .. } => NeighbourState::Incomplete,
                State::Reachable(_) => NeighbourState::Reachable,
                State::Stale(_) => NeighbourState::Stale,
                State::Probing { .. } => NeighbourState::Probing,
            },
            confirmed: entry.state.known().map(|known| known.confirmed),
        })
    }

    /// Replaces a link's addresses: announces new ones (RFC 5227 §2.3), and forgets neighbours that
    /// are on no subnet of the link any more.
    pub fn set_addresses(&mut self, link: LinkId, addresses: Vec<Ipv4Net>, now: Instant) {
        let Some(config) = self.links.iter_mut().find(|l| l.id == link) else { return };
        if config.addresses == addresses {
            return;
        }
        let before = std::mem::replace(&mut config.addresses, addresses);
        let config = config.clone();
        self.announcements.retain(|a| a.key.0 != link || config.owns(a.key.1));
        self.defended.retain(|(key, _)| key.0 != link || config.owns(key.1));
        for net in &config.addresses {
            if !before.iter().any(|old| old.addr() == net.addr()) {
                let key = (link, net.addr());
                self.announcements.push(Announcement { key, left: ANNOUNCEMENTS, due: now });
            }
        }
        let strangers = self.entries.range((link, Ipv4Addr::UNSPECIFIED)..);
        let strangers = strangers.map(|(&key, _)| key).take_while(|key| key.0 == link);
        let strangers: Vec<Key> = strangers.filter(|key| !config.may_be_host(key.1)).collect();
        for key in strangers {
            self.remove(key);
        }
        self.announce(now);
    }

    /// Forgets every neighbour on a link that went down or away.
    pub fn flush(&mut self, link: LinkId) {
        let entries = self.entries.range((link, Ipv4Addr::UNSPECIFIED)..);
        let keys = entries.map(|(&key, _)| key).take_while(|key| key.0 == link);
        for key in keys.collect::<Vec<_>>() {
            self.remove(key);
        }
    }

    /// Forgets one neighbour, whose address now belongs to another host (DS26).
    pub fn forget(&mut self, link: LinkId, address: Ipv4Addr) {
        self.remove((link, address));
    }

    /// Asks whether anyone on `link` uses `address`, as one who does not own it (RFC 5227 §2.1.1;
    /// DC4, DS2): sends one probe, and reports every sighting of the address in the next 10 s as
    /// [`Event::Sighted`].
    pub fn probe(&mut self, link: LinkId, address: Ipv4Addr, now: Instant) {
        let Some(config) = self.link(link) else { return };
        let message = ArpMessage {
            operation: ArpOperation::Request,
            sender_mac: config.mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: MacAddr::ZERO,
            target: address,
        };
        self.outputs.transmit(link, MacAddr::BROADCAST, &message);
        let key = (link, address);
        self.watches.retain(|watch| watch.until > now && watch.key != key);
        if self.watches.len() >= WATCHES_MAX {
            self.watches.pop_front();
        }
        self.watches.push_back(Watch { key, until: now + WATCH });
    }

    /// Takes an ARP frame that arrived on `link`, from its Ethernet header on.
    ///
    /// A new neighbour is learnt only from a request for an address of ours (RFC 826) by a host of
    /// the link's subnets; a known one is updated by whatever it says.
    pub fn handle_arp(&mut self, frame: &[u8], link: LinkId, now: Instant) {
        let Some(message) = ArpMessage::parse(frame) else {
            self.outputs.stats.malformed += 1;
            return;
        };
        let Some(config) = self.link(link) else { return };
        if message.sender_mac == config.mac {
            return;
        }
        let (mac, is_conflict) = (config.mac, config.owns(message.sender));
        let is_for_us = config.owns(message.target);
        let is_request = message.operation == ArpOperation::Request;
        let is_newcomer_welcome = is_request && is_for_us && config.may_be_host(message.sender);
        self.report_sighting(link, &message, now);
        if is_conflict {
            self.defend((link, message.sender), message.sender_mac, now);
            return;
        }
        let key = (link, message.sender);
        if self.entries.contains_key(&key) {
            self.confirm(key, message.sender_mac, now);
        } else if is_newcomer_welcome {
            self.learn(key, message.sender_mac, now);
        }
        if is_request && is_for_us {
            let reply = ArpMessage {
                operation: ArpOperation::Reply,
                sender_mac: mac,
                sender: message.target,
                target_mac: message.sender_mac,
                target: message.sender,
            };
            self.outputs.transmit(link, message.sender_mac, &reply);
        }
    }

    /// Takes a frame whose next hop on `egress` no worker could look up; it comes back from
    /// [`Self::poll_released`] when the next hop has answered or has failed to, or is dropped and
    /// counted if too many wait.
    pub fn handle_unresolved(
        &mut self,
        egress: LinkId,
        next_hop: Ipv4Addr,
        frame: WaitingFrame,
        now: Instant,
    ) {
        let key = (egress, next_hop);
        if frame.frame.len() > WAITING_FRAME_LEN_MAX {
            self.outputs.stats.frames_dropped += 1;
            return;
        }
        if !self.link(egress).is_some_and(|link| link.may_be_next_hop(next_hop)) {
            self.outputs.release(key, [frame], Resolution::Failed);
            return;
        }
        match self.entries.get(&key).map(|entry| entry.state) {
            Some(State::Incomplete { .. }) => {
                self.outputs.stats.frames_dropped += self.waiting.push(key, frame);
            }
            Some(_) => self.outputs.release(key, [frame], Resolution::Resolved),
            None => {
                if self.incomplete.len() >= INCOMPLETE_MAX
                    && let Some(&oldest) = self.incomplete.front()
                {
                    self.remove(oldest);
                }
                self.outputs.stats.frames_dropped += self.waiting.push(key, frame);
                self.incomplete.push_back(key);
                self.ask(key, MacAddr::BROADCAST);
                self.schedule(key, State::Incomplete { tries: 1 }, now + RETRY);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, key)) = self.timers.first() {
            if deadline > now {
                break;
            }
            self.expire(key, now);
        }
        self.announce(now);
    }

    /// When [`Self::handle_timeout`] has something to do next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let announcement = self.announcements.iter().map(|a| a.due).min();
        Instant::earliest(self.timers.first().map(|&(deadline, _)| deadline), announcement)
    }

    /// Writes the next frame to send into `buffer` and says on which link and how long it is;
    /// `None` if there is none or `buffer` is shorter than [`ARP_FRAME_LEN`].
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<(LinkId, usize)> {
        let space = buffer.get_mut(..ARP_FRAME_LEN)?;
        let (link, frame) = self.outputs.frames.pop_front()?;
        space.copy_from_slice(&frame);
        Some((link, ARP_FRAME_LEN))
    }

    /// The next frame that waits no longer.
    pub fn poll_released(&mut self) -> Option<Released> {
        self.outputs.released.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.outputs.events.pop_front()
    }

    fn link(&self, link: LinkId) -> Option<&LinkConfig> {
        self.links.iter().find(|config| config.id == link)
    }

    fn report_sighting(&mut self, link: LinkId, message: &ArpMessage, now: Instant) {
        let address = match message.operation {
            // Someone else probes for the address: as good as using it (RFC 5227 §2.1.1).
            ArpOperation::Request if message.sender.is_unspecified() => message.target,
            _ => message.sender,
        };
        if self.watches.iter().any(|w| w.key == (link, address) && w.until > now) {
            self.outputs.event(Event::Sighted { link, address, mac: message.sender_mac });
        }
    }

    /// RFC 5227 §2.4 (b): one announcement, then silence for DEFEND_INTERVAL.
    fn defend(&mut self, key: Key, mac: MacAddr, now: Instant) {
        self.outputs.stats.conflicts += 1;
        self.defended.retain(|(_, at)| now.saturating_since(*at) < DEFEND_INTERVAL);
        if self.defended.iter().any(|(defended, _)| *defended == key) {
            return;
        }
        self.defended.push((key, now));
        let (link, address) = key;
        self.outputs.event(Event::AddressConflict { link, address, mac });
        self.send_announcement(key);
    }

    /// A host that asked for us is about to be spoken to (RFC 826, "packet reception").
    fn learn(&mut self, key: Key, mac: MacAddr, now: Instant) {
        let (link, address) = key;
        if self.writer.len() >= LEARNT_MAX || self.writer.insert(link, address, mac).is_err() {
            self.outputs.stats.table_full += 1;
            return;
        }
        self.outputs.event(Event::NeighbourAppeared { link, address, mac });
        self.schedule(key, State::Reachable(Known { mac, confirmed: now }), now + REACHABLE);
    }

    /// A neighbour of which there is an entry was heard.
    fn confirm(&mut self, key: Key, mac: MacAddr, now: Instant) {
        let (link, address) = key;
        let before = self.entries.get(&key).and_then(|entry| entry.state.known());
        match before {
            Some(known) if known.mac == mac => {}
            Some(known) => {
                // It has a slot, so this cannot fail for want of one.
                let written = self.writer.insert(link, address, mac);
                debug_assert!(written.is_ok(), "a known neighbour has a slot");
                self.outputs.event(Event::NeighbourChanged { link, address, mac, was: known.mac });
            }
            None => {
                if !self.insert_evicting(key, mac) {
                    self.outputs.stats.table_full += 1;
                    self.remove(key);
                    return;
                }
                self.incomplete.retain(|other| *other != key);
                self.outputs.event(Event::NeighbourAppeared { link, address, mac });
                let frames = self.waiting.take(key);
                self.outputs.release(key, frames, Resolution::Resolved);
            }
        }
        self.schedule(key, State::Reachable(Known { mac, confirmed: now }), now + REACHABLE);
    }

    /// Fills a slot for a neighbour that packets wait for, at the cost of one that nobody uses.
    fn insert_evicting(&mut self, key: Key, mac: MacAddr) -> bool {
        if self.writer.insert(key.0, key.1, mac).is_ok() {
            return true;
        }
        let Some(victim) = self.writer.evict_unused(key.0, key.1) else { return false };
        self.remove(victim);
        self.writer.insert(key.0, key.1, mac).is_ok()
    }

    fn expire(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.entries.get(&key).copied() else { return };
        let is_used = self.writer.take_used(key.0, key.1);
        match entry.state {
            State::Incomplete { tries } if tries < TRIES_MAX => {
                self.ask(key, MacAddr::BROADCAST);
                self.schedule(key, State::Incomplete { tries: tries + 1 }, now + RETRY);
            }
            State::Probing { known, tries } if tries < TRIES_MAX => {
                self.ask(key, known.mac);
                self.schedule(key, State::Probing { known, tries: tries + 1 }, now + RETRY);
            }
            State::Incomplete { .. } | State::Probing { .. } => self.remove(key),
            State::Reachable(known) | State::Stale(known) if is_used => {
                self.ask(key, known.mac);
                self.schedule(key, State::Probing { known, tries: 1 }, now + RETRY);
            }
            State::Stale(known) if now.saturating_since(known.confirmed) >= UNUSED_MAX => {
                self.remove(key);
            }
            State::Reachable(known) | State::Stale(known) => {
                self.schedule(key, State::Stale(known), now + REACHABLE);
            }
        }
    }

    /// Forgets an entry; frames that wait for it come back failed.
    fn remove(&mut self, key: Key) {
        let Some(entry) = self.entries.remove(&key) else { return };
        self.timers.remove(&(entry.deadline, key));
        let (link, address) = key;
        match entry.state.known() {
            Some(known) => {
                self.writer.remove(link, address);
                self.outputs.event(Event::NeighbourLeft { link, address, mac: known.mac });
            }
            None => {
                self.incomplete.retain(|other| *other != key);
                let frames = self.waiting.take(key);
                self.outputs.release(key, frames, Resolution::Failed);
            }
        }
    }

    fn schedule(&mut self, key: Key, state: State, deadline: Instant) {
        if let Some(before) = self.entries.insert(key, Entry { state, deadline }) {
            self.timers.remove(&(before.deadline, key));
        }
        self.timers.insert((deadline, key));
    }

    /// Sends a request for a neighbour.
    fn ask(&mut self, key: Key, to: MacAddr) {
        let (link, target) = key;
        let Some(config) = self.link(link) else { return };
        let Some(sender) = config.source_for(target) else { return };
        let message = ArpMessage {
            operation: ArpOperation::Request,
            sender_mac: config.mac,
            sender,
            target_mac: MacAddr::ZERO,
            target,
        };
        self.outputs.transmit(link, to, &message);
    }

    fn announce(&mut self, now: Instant) {
        let mut announcements = std::mem::take(&mut self.announcements);
        announcements.retain_mut(|announcement| {
            if announcement.due <= now {
                self.send_announcement(announcement.key);
                announcement.left -= 1;
                announcement.due = now + ANNOUNCE_INTERVAL;
            }
            announcement.left > 0
        });
        self.announcements = announcements;
    }

    /// A request for our own address, which every cache on the link learns from (RFC 5227 §2.3).
    fn send_announcement(&mut self, key: Key) {
        let (link, address) = key;
        let Some(config) = self.link(link) else { return };
        let message = ArpMessage {
            operation: ArpOperation::Request,
            sender_mac: config.mac,
            sender: address,
            target_mac: MacAddr::ZERO,
            target: address,
        };
        self.outputs.transmit(link, MacAddr::BROADCAST, &message);
    }
}
