//! Who has which address: bindings, reservations, quarantine, and what they leave free.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use hashbrown::HashMap;
use ipnet::Ipv4Net;
use packet::{Instant, MacAddr};

use super::config::{Reservation, ServerConfig};
use super::pool::{Pool, is_host_of};
use crate::message::Received;

/// What a binding is filed under: the client id if the client has one, else its MAC address (DS6).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum ClientKey {
    Id(Vec<u8>),
    Hardware(MacAddr),
}

/// An address and the client it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub key: ClientKey,
    pub mac: MacAddr,
    pub name: Option<String>,
    pub phase: Phase,
}

/// How firmly an address belongs to its client.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Chosen; ARP is asked whether somebody uses it. `idle_since` if the client had it before.
    Probing { until: Instant, idle_since: Option<Instant>, pending: Box<Pending> },
    /// Offered and held for the client's answer (DS3).
    Offered { until: Instant, idle_since: Option<Instant> },
    /// Leased; [`Instant::NEVER`] for ever.
    Active { until: Instant, duration: Duration },
    /// Free, but the client gets it again if nobody else needs it (DS1, DS12).
    Idle { since: Instant },
}

/// A DISCOVER that waits for the outcome of a probe.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub message: Received,
    pub src_mac: MacAddr,
    /// Addresses that turned out to be used.
    pub conflicts: u32,
}

impl Phase {
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Phase::Probing { until, .. }
            | Phase::Offered { until, .. }
            | Phase::Active { until, .. } => (*until != Instant::NEVER).then_some(*until),
            Phase::Idle { .. } => None,
        }
    }

    pub fn is_active(&self) -> bool {
        matches!(self, Phase::Active { .. })
    }

    /// Since when the client has done without, if the address would stay in memory.
    pub fn idle_since(&self) -> Option<Instant> {
        match self {
            Phase::Probing { idle_since, .. } | Phase::Offered { idle_since, .. } => *idle_since,
            Phase::Idle { since } => Some(*since),
            Phase::Active { .. } => None,
        }
    }

    fn is_unconfirmed(&self) -> bool {
        matches!(self, Phase::Probing { .. } | Phase::Offered { .. })
    }
}

/// All bindings of a LAN with the indexes that keep each question cheap.
///
/// Every binding is in `bindings` and, as its phase says, in `deadlines` or `idle`; `by_client` leads each
/// client to one binding. Only `put` and `remove` touch them, together.
#[derive(Debug)]
pub(super) struct Book {
    subnet: Ipv4Net,
    server: Ipv4Addr,
    pool: Pool,
    bindings: BTreeMap<Ipv4Addr, Binding>,
    by_client: HashMap<ClientKey, Ipv4Addr>,
    deadlines: BTreeSet<(Instant, Ipv4Addr)>,
    idle: BTreeSet<(Instant, Ipv4Addr)>,
    quarantine: BTreeMap<Ipv4Addr, Instant>,
    reservations: HashMap<MacAddr, Reservation>,
    reserved: HashMap<Ipv4Addr, MacAddr>,
    unconfirmed: usize,
}

impl Book {
    pub fn new(config: &ServerConfig) -> Self {
        let mut book = Self {
            subnet: config.subnet,
            server: config.address,
            pool: Pool::default(),
            bindings: BTreeMap::new(),
            by_client: HashMap::new(),
            deadlines: BTreeSet::new(),
            idle: BTreeSet::new(),
            quarantine: BTreeMap::new(),
            reservations: HashMap::new(),
            reserved: HashMap::new(),
            unconfirmed: 0,
        };
        book.configure(config);
        book
    }

    /// Takes another pool and other reservations; bindings stay.
    pub fn configure(&mut self, config: &ServerConfig) {
        (self.subnet, self.server) = (config.subnet, config.address);
        self.pool = Pool::new(config.subnet, &config.pools);
        self.pool.take(config.address);
        self.reservations.clear();
        self.reserved.clear();
        for address in self.bindings.keys().chain(self.quarantine.keys()) {
            self.pool.take(*address);
        }
        for reservation in &config.reservations {
            self.reserve(reservation.clone());
        }
    }

    /// Keeps an address for a station, in place of what was kept for either. Refuses an address that no
    /// station of the subnet can have.
    pub fn reserve(&mut self, reservation: Reservation) -> bool {
        let Reservation { mac, address, .. } = reservation;
        let full = self.reservations.len() >= RESERVATIONS_MAX;
        if !self.is_assignable(address) || full {
            return false;
        }
        self.unreserve(mac);
        if let Some(other) = self.reserved.get(&address).copied() {
            self.unreserve(other);
        }
        self.pool.take(address);
        self.reserved.insert(address, mac);
        self.reservations.insert(mac, reservation);
        true
    }

    /// Keeps nothing for a station any more.
    pub fn unreserve(&mut self, mac: MacAddr) -> Option<Reservation> {
        let reservation = self.reservations.remove(&mac)?;
        self.reserved.remove(&reservation.address);
        self.free_in_pool(reservation.address);
        Some(reservation)
    }

    pub fn reservation(&self, mac: MacAddr) -> Option<&Reservation> {
        self.reservations.get(&mac)
    }

    /// Whether a station could have this address at all.
    pub fn is_assignable(&self, address: Ipv4Addr) -> bool {
        is_host_of(self.subnet, address) && address != self.server
    }

    /// Whether this station may have this address, if nobody holds it.
    pub fn allows(&self, address: Ipv4Addr, mac: MacAddr) -> bool {
        let kept = match self.reserved.get(&address) {
            Some(owner) => *owner == mac,
            None => self.pool.contains(address),
        };
        kept && self.is_assignable(address) && !self.quarantine.contains_key(&address)
    }

    pub fn binding(&self, address: Ipv4Addr) -> Option<&Binding> {
        self.bindings.get(&address)
    }

    pub fn bindings(&self) -> impl Iterator<Item = (Ipv4Addr, &Binding)> {
        self.bindings.iter().map(|(address, binding)| (*address, binding))
    }

    pub fn address_of(&self, key: &ClientKey) -> Option<Ipv4Addr> {
        self.by_client.get(key).copied()
    }

    /// Whether the address is free for this client: held by nobody, by itself, by another identity
    /// of the same station, or only remembered for somebody else.
    pub fn is_free_for(&self, address: Ipv4Addr, key: &ClientKey, mac: MacAddr) -> bool {
        self.bindings.get(&address).is_none_or(|binding| {
            binding.key == *key || binding.mac == mac || matches!(binding.phase, Phase::Idle { .. })
        })
    }

    /// Chooses an address for a client: its reservation, its binding now or before, the one it asks
    /// for, one that nobody ever had, the one free for longest (RFC 2131 §4.3.1, DS1).
    pub fn choose(
        &mut self,
        key: &ClientKey,
        mac: MacAddr,
        requested: Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        let reserved = self.reservations.get(&mac).map(|reservation| reservation.address);
        let previous = self.address_of(key);
        let known = [reserved, previous, requested]
            .into_iter()
            .flatten()
            .find(|address| self.allows(*address, mac) && self.is_free_for(*address, key, mac));
        if known.is_some() {
            return known;
        }
        if self.unconfirmed >= UNCONFIRMED_MIN.max(self.pool.len() / 4) {
            return None;
        }
        self.pool.first_free().or_else(|| {
            let mut oldest = self.idle.iter().map(|(_, address)| *address);
            oldest.find(|address| self.allows(*address, mac))
        })
    }

    /// Files a binding, in place of whatever was at its address, and returns that.
    pub fn put(&mut self, address: Ipv4Addr, binding: Binding) -> Option<Binding> {
        let old = self.unlink(address);
        self.pool.take(address);
        if let Some(until) = binding.phase.deadline() {
            self.deadlines.insert((until, address));
        }
        if let Phase::Idle { since } = binding.phase {
            self.idle.insert((since, address));
        }
        self.unconfirmed += usize::from(binding.phase.is_unconfirmed());
        self.by_client.insert(binding.key.clone(), address);
        self.bindings.insert(address, binding);
        old
    }

    /// Takes a binding out; its address is free.
    pub fn remove(&mut self, address: Ipv4Addr) -> Option<Binding> {
        let old = self.unlink(address);
        self.free_in_pool(address);
        old
    }

    /// Keeps everybody away from an address for a while.
    pub fn quarantine(&mut self, address: Ipv4Addr, until: Instant) {
        self.lift_quarantine(address);
        if self.quarantine.len() < QUARANTINE_MAX {
            self.pool.take(address);
            self.quarantine.insert(address, until);
            self.deadlines.insert((until, address));
        }
    }

    /// Reports whether the address was in quarantine.
    pub fn lift_quarantine(&mut self, address: Ipv4Addr) -> bool {
        let Some(until) = self.quarantine.remove(&address) else { return false };
        self.deadlines.remove(&(until, address));
        self.free_in_pool(address);
        true
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The address whose deadline is due.
    pub fn due(&self, now: Instant) -> Option<Ipv4Addr> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, address)| *address)
    }

    fn unlink(&mut self, address: Ipv4Addr) -> Option<Binding> {
        let binding = self.bindings.remove(&address)?;
        if let Some(until) = binding.phase.deadline() {
            self.deadlines.remove(&(until, address));
        }
        if let Phase::Idle { since } = binding.phase {
            self.idle.remove(&(since, address));
        }
        self.unconfirmed -= usize::from(binding.phase.is_unconfirmed());
        if self.by_client.get(&binding.key) == Some(&address) {
            self.by_client.remove(&binding.key);
        }
        Some(binding)
    }

    fn free_in_pool(&mut self, address: Ipv4Addr) {
        let kept = self.bindings.contains_key(&address)
            || self.quarantine.contains_key(&address)
            || self.reserved.contains_key(&address)
            || address == self.server;
        if !kept {
            self.pool.give_back(address);
        }
    }
}

/// Most reservations: nobody writes more by hand.
const RESERVATIONS_MAX: usize = 4096;
/// Most addresses in quarantine; a station that declines everything must not empty the pool.
const QUARANTINE_MAX: usize = 64;
/// Unconfirmed offers to unknown clients that are always allowed; beyond, a quarter of the pool (DS24).
const UNCONFIRMED_MIN: usize = 16;
