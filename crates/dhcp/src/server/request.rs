//! What a server does with each kind of message (RFC 2131 §4.3).

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{MessageType, OptionCode};
use packet::{Instant, MacAddr};

use super::book::{Binding, ClientKey, Pending, Phase};
use super::config::Authority;
use super::event::ServerEvent;
use super::reply::{self, Grant};
use super::{Exhaustion, QUARANTINE, Server, names};
use crate::message::Received;
use crate::outbox::Output;
use crate::time::Now;

impl Server {
    pub(super) fn discover(&mut self, message: Received, src_mac: MacAddr, now: Now) {
        let pending = Pending { message, src_mac, conflicts: 0 };
        let key = key_of(&pending.message);
        let address = self.book.address_of(&key);
        let phase = address.and_then(|address| self.book.binding(address)).map(|b| &b.phase);
        // Its probe is under way; the offer comes when that ends.
        if !matches!(phase, Some(Phase::Probing { .. })) {
            self.offer(pending, now);
        }
    }

    /// Chooses an address and offers it, at once if the client has it already or it need not be
    /// probed (DS2).
    pub(super) fn offer(&mut self, pending: Pending, now: Now) {
        let key = key_of(&pending.message);
        let mac = pending.message.chaddr;
        let requested = pending.message.options.address(OptionCode::RequestedIpAddress);
        let previous = self.book.address_of(&key);
        let Some(address) = self.book.choose(&key, mac, requested) else {
            self.note_exhaustion(mac);
            return;
        };
        if let Some(previous) = previous.filter(|previous| *previous != address) {
            self.end(previous);
        }
        let held = self.book.binding(address).filter(|binding| binding.key == key);
        let idle_since = held.and_then(|binding| binding.phase.idle_since());
        match held.map(|binding| &binding.phase) {
            Some(Phase::Active { .. }) => self.send_offer(address, &pending),
            Some(Phase::Offered { .. }) => {
                self.hold_offer(address, key, idle_since, &pending, now);
            }
            _ if self.config.probe_wait.is_zero() => {
                self.hold_offer(address, key, idle_since, &pending, now);
            }
            _ => self.start_probe(address, key, idle_since, pending, now),
        }
    }

    /// Nobody answered the probe: offers the address and holds it for a while (DS3).
    pub(super) fn hold_offer(
        &mut self,
        address: Ipv4Addr,
        key: ClientKey,
        idle_since: Option<Instant>,
        pending: &Pending,
        now: Now,
    ) {
        let phase = Phase::Offered { until: now.instant + OFFER_HOLD, idle_since };
        self.replace(address, Binding { key, mac: pending.message.chaddr, name: None, phase });
        self.send_offer(address, pending);
    }

    pub(super) fn request(&mut self, message: &Received, src_mac: MacAddr, now: Now) {
        let server = message.options.address(OptionCode::ServerIdentifier);
        let requested = message.options.address(OptionCode::RequestedIpAddress);
        let claimed = Some(message.ciaddr).filter(|address| !address.is_unspecified());
        match (server, requested.or(claimed)) {
            (Some(server), _) if server != self.config.address => self.yield_to_other(message),
            (Some(_), Some(address)) => self.confirm(address, message, src_mac, now),
            (None, Some(address)) if self.may_judge(address, message) => {
                self.confirm(address, message, src_mac, now);
            }
            _ => {}
        }
    }

    /// The address is in use by somebody who has no lease for it (DS11).
    pub(super) fn decline(&mut self, message: &Received, now: Now) {
        let server = message.options.address(OptionCode::ServerIdentifier);
        let Some(address) = message.options.address(OptionCode::RequestedIpAddress) else { return };
        let ours = server.is_none_or(|server| server == self.config.address);
        if !ours || !self.is_held_by(address, message) {
            return;
        }
        self.end(address);
        self.book.quarantine(address, now.instant + QUARANTINE);
        self.out.event(ServerEvent::Declined { address, mac: message.chaddr });
    }

    /// The client needs its address no longer (DS12).
    pub(super) fn release_by_client(&mut self, message: &Received, now: Now) {
        let address = message.ciaddr;
        let active = self.book.binding(address).is_some_and(|binding| binding.phase.is_active());
        if !active || !self.is_held_by(address, message) {
            return;
        }
        if let Some(binding) = self.book.binding(address).cloned()
            && let Phase::Active { duration, .. } = binding.phase
        {
            let phase = Phase::Active { until: now.instant, duration };
            self.store(address, &Binding { phase, ..binding });
        }
        self.make_idle(address, now);
    }

    /// The client has an address and wants the settings (DS13).
    pub(super) fn inform(&mut self, message: &Received, src_mac: MacAddr) {
        if self.book.is_assignable(message.ciaddr) {
            let output = reply::inform(&self.config, message, src_mac);
            self.transmit(output);
        }
    }

    fn start_probe(
        &mut self,
        address: Ipv4Addr,
        key: ClientKey,
        idle_since: Option<Instant>,
        pending: Pending,
        now: Now,
    ) {
        let mac = pending.message.chaddr;
        let until = now.instant + self.config.probe_wait;
        let phase = Phase::Probing { until, idle_since, pending: Box::new(pending) };
        self.replace(address, Binding { key, mac, name: None, phase });
        self.out.transmit(Output::Arp {
            sender_mac: self.config.mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target: address,
        });
    }

    /// Files a binding that is not active; a host that was active there under another identity leaves.
    fn replace(&mut self, address: Ipv4Addr, binding: Binding) {
        if let Some(old) = self.book.put(address, binding)
            && old.phase.is_active()
        {
            self.leave(address, &old);
        }
    }

    fn send_offer(&mut self, address: Ipv4Addr, pending: &Pending) {
        let name = self.wanted_name(address, &pending.message);
        let grant =
            Grant { address, duration: self.duration(&pending.message), name: name.as_deref() };
        let kind = MessageType::Offer;
        let output = reply::grant(&self.config, kind, &pending.message, pending.src_mac, &grant);
        self.transmit(output);
    }

    /// The client took another server's offer; ours is free again.
    fn yield_to_other(&mut self, message: &Received) {
        let Some(address) = self.book.address_of(&key_of(message)) else { return };
        let offered = |binding: &Binding| matches!(binding.phase, Phase::Offered { .. });
        if self.book.binding(address).is_some_and(offered) {
            self.drop_offer(address);
        }
    }

    /// Whether this server answers a client that names no server: always if it knows the client, or that
    /// the address belongs elsewhere; else if no other server could know better (DS7, DS8).
    fn may_judge(&self, address: Ipv4Addr, message: &Received) -> bool {
        self.config.authority == Authority::Sole
            || !self.config.subnet.contains(&address)
            || self.book.address_of(&key_of(message)).is_some()
    }

    /// Gives a client the address it wants, or tells it no.
    fn confirm(&mut self, address: Ipv4Addr, message: &Received, src_mac: MacAddr, now: Now) {
        if let Some(why) = self.objection(address, message) {
            tracing::debug!(lan = self.config.lan, mac = %message.chaddr, %address, why, "NAK");
            let output = reply::nak(&self.config, message, why);
            self.transmit(output);
            return;
        }
        let key = key_of(message);
        if let Some(other) = self.book.address_of(&key).filter(|other| *other != address) {
            self.end(other);
        }
        // A renewal need not repeat the name.
        let held = self.book.binding(address).filter(|binding| binding.key == key);
        let old_name = held.and_then(|binding| binding.name.clone());
        let name = self
            .wanted_name(address, message)
            .or(old_name)
            .and_then(|name| self.names.claim(&name, address));
        let duration = self.duration(message);
        let until = now.instant + duration;
        let phase = Phase::Active { until, duration };
        self.update(address, Binding { key, mac: message.chaddr, name: name.clone(), phase });
        let grant = Grant { address, duration, name: name.as_deref() };
        let output = reply::grant(&self.config, MessageType::Ack, message, src_mac, &grant);
        self.transmit(output);
    }

    /// Why a client can't have an address, if so (DS7, DS8, DS16).
    fn objection(&self, address: Ipv4Addr, message: &Received) -> Option<&'static str> {
        let (key, mac) = (key_of(message), message.chaddr);
        if !self.config.subnet.contains(&address) {
            return Some("wrong network");
        }
        let reserved = self.book.reservation(mac).map(|reservation| reservation.address);
        let should_move = reserved.is_some_and(|reserved| {
            reserved != address
                && self.book.allows(reserved, mac)
                && self.book.is_free_for(reserved, &key, mac)
        });
        if should_move {
            return Some("another address is reserved for this station");
        }
        if !self.book.allows(address, mac) {
            return Some("address not available");
        }
        if !self.book.is_free_for(address, &key, mac) {
            return Some("address in use");
        }
        None
    }

    fn is_held_by(&self, address: Ipv4Addr, message: &Received) -> bool {
        self.book.binding(address).is_some_and(|binding| {
            let held = matches!(binding.phase, Phase::Offered { .. } | Phase::Active { .. });
            held && (binding.key == key_of(message) || binding.mac == message.chaddr)
        })
    }

    /// The name a host is to have: as reserved, else as it calls itself.
    fn wanted_name(&self, address: Ipv4Addr, message: &Received) -> Option<String> {
        let reservation = self.book.reservation(message.chaddr);
        reservation
            .filter(|reservation| reservation.address == address)
            .and_then(|reservation| names::clean(reservation.name.as_ref()?.as_bytes()))
            .or_else(|| names::name_of(&message.options))
    }

    /// The configured length of lease, or a shorter one if the client asks for it.
    fn duration(&self, message: &Received) -> Duration {
        let configured = self.config.lease;
        match message.options.seconds(OptionCode::AddressLeaseTime) {
            Some(secs) => {
                let least = configured.min(LEASE_MIN);
                Duration::from_secs(secs.into()).clamp(least, configured)
            }
            None => configured,
        }
    }

    fn note_exhaustion(&mut self, mac: MacAddr) {
        if self.exhaustion == Exhaustion::None {
            self.exhaustion = Exhaustion::Told;
            self.out.event(ServerEvent::PoolExhausted { mac });
        }
    }
}

fn key_of(message: &Received) -> ClientKey {
    match message.options.bytes(OptionCode::ClientIdentifier) {
        Some(id) if !id.is_empty() => ClientKey::Id(id.to_vec()),
        _ => ClientKey::Hardware(message.chaddr),
    }
}

/// How long an offer is held: a client that collects offers and loses a packet or two has answered.
const OFFER_HOLD: Duration = Duration::from_secs(30);
/// Shortest lease a client may ask for; shorter ones would only be traffic.
const LEASE_MIN: Duration = Duration::from_secs(60);
