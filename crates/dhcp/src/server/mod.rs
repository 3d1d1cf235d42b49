//! The DHCP server of one LAN (RFC 2131 §4.3).
//!
//! ```text
//!            DISCOVER         no ARP answer        REQUEST             time, RELEASE
//!   (free) ───────────► Probing ─────────► Offered ───────► Active ──────────────► Idle
//!      ▲                   │ ARP answer       │ time           │ DECLINE             │
//!      └──── time ──── Quarantine ◄───────────┼────────────────┘      given to       │
//!      ▲                                      ▼                     another client   │
//!      └───────────────────────────────── (or Idle) ◄────────────────────────────────┘
//! ```
//!
//! A client is filed under its client id, else its MAC; a reservation goes by MAC whatever the id
//! (DS6). There is one binding to a client and one to an address. A machine serves one LAN and is simply
//! not made for the WAN (DS27).
//!
//! Limits: 131,072 pool addresses, 4096 reservations, 64 addresses in quarantine, 20 messages of a
//! station in ten seconds, unconfirmed offers to unknown clients for a quarter of the pool, 32 foreign servers.

mod book;
mod config;
mod event;
mod guard;
mod names;
mod pool;
mod reply;
mod request;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{MessageType, OptionCode};
use packet::{Instant, MacAddr};

use self::book::{Binding, Book, ClientKey, Phase};
use self::guard::Guard;
use self::names::Names;
use crate::frame;
use crate::message::{self, Op, Received};
use crate::outbox::{Outbox, Output};
use crate::time::{Now, remaining};

pub use config::{Authority, Reservation, ServerConfig};
pub use event::{BindingState, BindingView, Host, ServerEvent, StoreRecord, StoredBinding};

/// The server machine of one LAN.
pub struct Server {
    config: ServerConfig,
    book: Book,
    names: Names,
    guard: Guard,
    exhaustion: Exhaustion,
    /// Foreign servers and when each was last told of.
    foreign: BTreeMap<Ipv4Addr, Instant>,
    /// Wall time at the origin of the monotonic clock, as the stored records assume it (DS15).
    unix_origin: u64,
    out: Outbox<StoreRecord, ServerEvent>,
}

impl Server {
    /// Makes a server that goes on with the stored bindings. Runtime reservations kept by storage belong into
    /// `config.reservations`. Hosts with a lease are announced by events.
    #[must_use]
    pub fn new(
        config: ServerConfig,
        stored: impl IntoIterator<Item = StoredBinding>,
        now: Now,
    ) -> Self {
        let mut server = Self {
            book: Book::new(&config),
            names: Names::default(),
            guard: Guard::default(),
            exhaustion: Exhaustion::None,
            foreign: BTreeMap::new(),
            unix_origin: unix_origin(now),
            out: Outbox::new(),
            config,
        };
        server.claim_reserved_names();
        for binding in stored {
            server.load(binding, now);
        }
        server
    }

    /// Takes an Ethernet frame from the LAN; anything but DHCP for this server is ignored.
    pub fn handle_frame(&mut self, frame: &[u8], now: Now) {
        self.note_clock(now);
        let Some(datagram) = frame::parse(frame) else { return };
        let addressing = datagram.addressing;
        let Some(message) = message::decode(datagram.payload) else { return };
        if message.op == Op::Reply {
            self.note_server(&message, addressing.src, addressing.src_mac, now);
            return;
        }
        let for_us = addressing.dst == Ipv4Addr::BROADCAST || addressing.dst == self.config.address;
        let id_len = message.options.bytes(OptionCode::ClientIdentifier).map_or(0, <[u8]>::len);
        let usable = message.chaddr.is_unicast()
            && message.giaddr.is_unspecified()
            && id_len <= CLIENT_ID_MAX;
        if addressing.dst_port != frame::SERVER_PORT
            || !for_us
            || !usable
            || !self.guard.admit(message.chaddr, now.instant)
        {
            return;
        }
        match message.kind {
            MessageType::Discover => self.discover(message, addressing.src_mac, now),
            MessageType::Request => self.request(&message, addressing.src_mac, now),
            MessageType::Decline => self.decline(&message, now),
            MessageType::Release => self.release_by_client(&message, now),
            MessageType::Inform => self.inform(&message, addressing.src_mac),
            _ => {}
        }
    }

    /// Takes note of an ARP message with this sender, request or reply: the answer to a probe (DS2).
    pub fn handle_arp(&mut self, sender: Ipv4Addr, sender_mac: MacAddr, now: Now) {
        let Some(binding) = self.book.binding(sender) else { return };
        let Phase::Probing { idle_since, pending, .. } = &binding.phase else { return };
        if binding.mac == sender_mac || sender_mac == self.config.mac {
            return;
        }
        let mut pending = pending.clone();
        let was_stored = idle_since.is_some();
        self.out.event(ServerEvent::AddressInUse { address: sender, mac: sender_mac });
        self.book.remove(sender);
        if was_stored {
            self.out.store(StoreRecord::Forget(sender));
        }
        self.book.quarantine(sender, now.instant + QUARANTINE);
        pending.conflicts += 1;
        if pending.conflicts < CONFLICTS_MAX {
            self.offer(*pending, now);
        }
    }

    /// Does what is due; early or repeated calls do nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.note_clock(now);
        while let Some(address) = self.book.due(now.instant) {
            if self.book.lift_quarantine(address) {
                continue;
            }
            self.pass_deadline(address, now);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.book.next_deadline()
    }

    /// Writes the next frame into `buffer` and returns its length in bytes. Yields nothing while
    /// [`Self::poll_store`] holds a record (DS14).
    ///
    /// # Panics
    /// If the buffer is shorter than [`frame::FRAME_MAX`].
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.out.poll_transmit(buffer)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.out.poll_event()
    }

    /// The next record to be made durable before [`Self::poll_transmit`] is called.
    pub fn poll_store(&mut self) -> Option<StoreRecord> {
        self.out.poll_store()
    }

    /// Drops the frames that wait, after a record could not be stored.
    pub fn discard_transmits(&mut self) {
        self.out.discard_transmits();
    }

    /// All reservations, those of the configuration first.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.config.reservations.iter()
    }

    /// All bindings by address, those being probed left out.
    pub fn bindings(&self) -> impl Iterator<Item = BindingView<'_>> {
        self.book.bindings().filter_map(|(address, binding)| {
            let state = match binding.phase {
                Phase::Probing { .. } => return None,
                Phase::Offered { .. } => BindingState::Offered,
                Phase::Active { until, .. } => BindingState::Active { until },
                Phase::Idle { .. } => BindingState::Idle,
            };
            let client_id = match &binding.key {
                ClientKey::Id(id) => Some(id.as_slice()),
                ClientKey::Hardware(_) => None,
            };
            let name = binding.name.as_deref();
            Some(BindingView { address, mac: binding.mac, client_id, name, state })
        })
    }

    /// Keeps an address for a station from now on (DS26), in place of what was kept for either; its client
    /// moves at its next renewal (DS16). Refuses an address that no station of the LAN can have.
    pub fn reserve(&mut self, reservation: Reservation) -> Result<(), NotAssignable> {
        let Reservation { mac, address, .. } = reservation;
        self.release_reserved_name(mac);
        if !self.book.reserve(reservation.clone()) {
            self.claim_reserved_name(mac);
            return Err(NotAssignable { address });
        }
        self.config.reservations.retain(|other| other.mac != mac && other.address != address);
        self.config.reservations.push(reservation.clone());
        self.out.store(StoreRecord::Reservation(reservation));
        self.claim_reserved_name(mac);
        self.rename(address, mac);
        Ok(())
    }

    /// Keeps nothing for a station any more; a lease that it has goes on.
    pub fn unreserve(&mut self, mac: MacAddr) {
        self.release_reserved_name(mac);
        if self.book.unreserve(mac).is_some() {
            self.config.reservations.retain(|other| other.mac != mac);
            self.out.store(StoreRecord::Unreserve(mac));
        }
    }

    /// Ends the binding of an address on command and forgets its client, who may take the address again if it
    /// is still free when it next asks. Reports whether there was one.
    pub fn release(&mut self, address: Ipv4Addr) -> bool {
        self.end(address).is_some()
    }

    /// Takes other settings; leases go on, those outside the subnet end.
    pub fn reconfigure(&mut self, config: ServerConfig, now: Now) {
        self.note_clock(now);
        self.config = config;
        self.exhaustion = Exhaustion::None;
        self.book.configure(&self.config);
        let stranded: Vec<Ipv4Addr> = self
            .book
            .bindings()
            .map(|(address, _)| address)
            .filter(|address| !self.book.is_assignable(*address))
            .collect();
        for address in stranded {
            self.end(address);
        }
        self.claim_reserved_names();
    }

    /// Puts a stored binding back into the book.
    fn load(&mut self, stored: StoredBinding, now: Now) {
        let StoredBinding { address, mac, client_id, name, duration_secs, expires_unix } = stored;
        let left = remaining(duration_secs, expires_unix, now.unix_secs);
        let key = client_id.map_or(ClientKey::Hardware(mac), ClientKey::Id);
        let is_known = self.book.address_of(&key).is_some();
        let ended = left == Some(Duration::ZERO);
        let keep = self.book.is_assignable(address)
            && (!ended || (self.book.allows(address, mac) && !is_known));
        if !keep {
            return;
        }
        if ended {
            let age = now.unix_secs.saturating_sub(expires_unix.unwrap_or_default());
            let since = now.instant - Duration::from_secs(age);
            self.book.put(address, Binding { key, mac, name, phase: Phase::Idle { since } });
            return;
        }
        let until = left.map_or(Instant::NEVER, |left| now.instant + left);
        let duration = duration_secs.map_or(Duration::MAX, |secs| Duration::from_secs(secs.into()));
        let name = name.and_then(|name| self.names.claim(&name, address));
        let phase = Phase::Active { until, duration };
        self.out.event(ServerEvent::HostAppeared(Host { address, mac, name: name.clone() }));
        self.book.put(address, Binding { key, mac, name, phase });
    }

    /// The deadline of a binding has passed.
    fn pass_deadline(&mut self, address: Ipv4Addr, now: Now) {
        let Some(binding) = self.book.binding(address).cloned() else { return };
        match binding.phase {
            Phase::Probing { idle_since, pending, .. } => {
                self.hold_offer(address, binding.key, idle_since, &pending, now);
            }
            Phase::Offered { .. } => self.drop_offer(address),
            Phase::Active { .. } => self.make_idle(address, now),
            Phase::Idle { .. } => {}
        }
    }

    /// Ends a lease but remembers the client (DS12).
    fn make_idle(&mut self, address: Ipv4Addr, now: Now) {
        let Some(binding) = self.book.binding(address).cloned() else { return };
        self.exhaustion = Exhaustion::None;
        self.leave(address, &binding);
        let phase = Phase::Idle { since: now.instant };
        self.book.put(address, Binding { phase, ..binding });
    }

    /// Ends a binding and forgets the client.
    fn end(&mut self, address: Ipv4Addr) -> Option<Binding> {
        let binding = self.book.remove(address)?;
        self.exhaustion = Exhaustion::None;
        if binding.phase.is_active() {
            self.leave(address, &binding);
        }
        if binding.phase.is_active() || binding.phase.idle_since().is_some() {
            self.out.store(StoreRecord::Forget(address));
        }
        Some(binding)
    }

    fn drop_offer(&mut self, address: Ipv4Addr) {
        let Some(binding) = self.book.remove(address) else { return };
        self.exhaustion = Exhaustion::None;
        if let Some(since) = binding.phase.idle_since() {
            self.book.put(address, Binding { phase: Phase::Idle { since }, ..binding });
        }
    }

    fn leave(&mut self, address: Ipv4Addr, binding: &Binding) {
        if let Some(name) = &binding.name {
            self.names.release(name, address);
        }
        let (mac, name) = (binding.mac, binding.name.clone());
        self.out.event(ServerEvent::HostLeft(Host { address, mac, name }));
    }

    fn claim_reserved_names(&mut self) {
        let macs: Vec<MacAddr> = self.config.reservations.iter().map(|each| each.mac).collect();
        for mac in macs {
            self.claim_reserved_name(mac);
        }
    }

    fn claim_reserved_name(&mut self, mac: MacAddr) {
        let Some(reservation) = self.book.reservation(mac) else { return };
        if let Some(name) = reservation.name.as_ref().and_then(|name| names::clean(name.as_bytes()))
        {
            self.names.claim(&name, reservation.address);
        }
    }

    fn release_reserved_name(&mut self, mac: MacAddr) {
        let Some(reservation) = self.book.reservation(mac) else { return };
        let in_use = self.book.binding(reservation.address).is_some_and(|b| b.phase.is_active());
        let name = reservation.name.as_ref().and_then(|name| names::clean(name.as_bytes()));
        if let (Some(name), false) = (name, in_use) {
            self.names.release(&name, reservation.address);
        }
    }

    /// Gives a live host the name that was just reserved for it.
    fn rename(&mut self, address: Ipv4Addr, mac: MacAddr) {
        let wanted = self.book.reservation(mac).and_then(|each| each.name.clone());
        let (Some(wanted), Some(binding)) = (wanted, self.book.binding(address).cloned()) else {
            return;
        };
        if !binding.phase.is_active() || binding.mac != mac {
            return;
        }
        let name =
            names::clean(wanted.as_bytes()).and_then(|name| self.names.claim(&name, address));
        self.update(address, Binding { name, ..binding });
    }

    /// Files a live binding again and tells what changed for others.
    fn update(&mut self, address: Ipv4Addr, binding: Binding) {
        let host =
            |binding: &Binding| Host { address, mac: binding.mac, name: binding.name.clone() };
        let new = host(&binding);
        self.store(address, &binding);
        let old = self.book.put(address, binding).filter(|old| old.phase.is_active());
        let Some(old) = old.as_ref().map(host) else {
            self.out.event(ServerEvent::HostAppeared(new));
            return;
        };
        if let Some(name) = old.name.as_ref().filter(|name| new.name.as_ref() != Some(*name)) {
            self.names.release(name, address);
        }
        if old != new {
            self.out.event(ServerEvent::HostChanged { old, new });
        }
    }

    fn store(&mut self, address: Ipv4Addr, binding: &Binding) {
        let Phase::Active { until, duration } = binding.phase else { return };
        let unix_at = |at: Instant| self.unix_origin.saturating_add(at.as_secs());
        let forever = until == Instant::NEVER;
        self.out.store(StoreRecord::Binding(StoredBinding {
            address,
            mac: binding.mac,
            client_id: match &binding.key {
                ClientKey::Id(id) => Some(id.clone()),
                ClientKey::Hardware(_) => None,
            },
            name: binding.name.clone(),
            duration_secs: (!forever)
                .then(|| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)),
            expires_unix: (!forever).then(|| unix_at(until)),
        }));
    }

    /// After a step of the wall clock the stored ends of leases are wrong: writes them again, so that a
    /// restart finds the leases as long as they are (DS15).
    fn note_clock(&mut self, now: Now) {
        let origin = unix_origin(now);
        if origin.abs_diff(self.unix_origin) < CLOCK_STEP_MIN {
            return;
        }
        tracing::info!(lan = self.config.lan, "wall clock stepped: storing all leases again");
        self.unix_origin = origin;
        let active: Vec<(Ipv4Addr, Binding)> = self
            .book
            .bindings()
            .filter(|(_, binding)| binding.phase.is_active())
            .map(|(address, binding)| (address, binding.clone()))
            .collect();
        for (address, binding) in active {
            self.store(address, &binding);
        }
    }

    /// Somebody else answers DHCP on this LAN (DS23).
    fn note_server(&mut self, message: &Received, src: Ipv4Addr, mac: MacAddr, now: Now) {
        let address = message.options.address(OptionCode::ServerIdentifier).unwrap_or(src);
        if address == self.config.address || mac == self.config.mac {
            return;
        }
        let told = self.foreign.get(&address).copied();
        let recent = |at: Instant| now.instant.saturating_since(at) < FOREIGN_INTERVAL;
        if told.is_some_and(recent) || (told.is_none() && self.foreign.len() >= FOREIGN_MAX) {
            return;
        }
        self.foreign.insert(address, now.instant);
        self.out.event(ServerEvent::ForeignServer { address, mac });
    }

    fn transmit(&mut self, output: Option<Output>) {
        if let Some(output) = output {
            self.out.transmit(output);
        }
    }
}

/// No station of the LAN can have this address, or there are too many reservations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} can't be reserved: it is outside the LAN, the router's own, or one too many")]
pub struct NotAssignable {
    /// The address.
    pub address: Ipv4Addr,
}

/// Whether the operator knows that addresses ran out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Exhaustion {
    None,
    Told,
}

fn unix_origin(now: Now) -> u64 {
    now.unix_secs.saturating_sub(now.instant.as_secs())
}

/// How long nobody gets an address that was found in use (DS11): a misconfigured station has been
/// noticed by then, or not.
const QUARANTINE: Duration = Duration::from_secs(600);
/// Longest client id taken: what one option holds; real ones have 7 to 19 bytes.
const CLIENT_ID_MAX: usize = 255;
/// Addresses found in use in a row before the client has to ask again.
const CONFLICTS_MAX: u32 = 4;
/// Steps of the wall clock below this are drift.
const CLOCK_STEP_MIN: u64 = 60;
/// How often a foreign server is told of.
const FOREIGN_INTERVAL: Duration = Duration::from_secs(3600);
/// Most foreign servers remembered.
const FOREIGN_MAX: usize = 32;
