//! The frames of a capture as the router's neighbours would send them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use config::Config;
use ipnet::Ipv4Net;
use packet::header::{destination_mac, ethernet, put_macs, source_mac};
use packet::icmp::embedded;
use packet::{
    Datagram, Endpoint, FlowKey, Fragment, IcmpKind, Internal, L4, Offload, Parsed, Protocol, parse,
};
use pipeline::Snapshot;

use crate::cast::{Cast, Inside, Role, Theatre};
use crate::rewrite;
use crate::router::{Router, neighbour, station};
use crate::run::Side;

/// Puts the hosts of a capture on the networks of a router.
///
/// Who is outside answers to what it sees: the external endpoints that the router chose. They are looked up after each
/// batch from the LAN, as a sniffer on the WAN would learn them.
pub(crate) struct Stage {
    cast: Cast,
    lan: Ipv4Net,
    /// The external endpoints of internal ones, the latest of each.
    externals: BTreeMap<(Protocol, Endpoint), Endpoint>,
    /// Flows of which the router was given a packet since the last look.
    unseen: Vec<FlowKey>,
}

impl Stage {
    /// Casts the capture for a router.
    ///
    /// # Panics
    /// If the configuration has no LAN, which no valid one is without.
    pub(crate) fn new<'a>(
        frames: impl Iterator<Item = &'a [u8]> + Clone,
        inside: Inside,
        config: &Config,
        snapshot: &Snapshot,
    ) -> Self {
        let lan = config.lans[0].address;
        let is_taken = |address: Ipv4Addr| {
            let is_odd =
                address.is_loopback() || address.is_link_local() || address.octets()[0] >= 240;
            let is_ours = snapshot.is_local(address)
                || config.lans.iter().any(|lan| lan.address.contains(&address))
                || snapshot.nat.is_external(address);
            is_odd || is_ours || snapshot.bogons.contains(address)
        };
        let cast = Cast::of(frames, inside, &Theatre { lan, is_taken: &is_taken });
        Self { cast, lan, externals: BTreeMap::new(), unseen: Vec::new() }
    }

    /// Where a frame arrives.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn side_of(&self, frame: &[u8]) -> Result<Side, &'static str> {
        self.cast.side_of(frame)
    }

    /// Looks up what the router made of the flows that it was given packets of.
    pub(crate) fn look(&mut self, router: &mut Router) {
        for key in self.unseen.drain(..) {
            if let Some(external) = router.external_of(key) {
                self.externals.insert((key.protocol(), key.source()), external);
            }
        }
    }

    /// Writes a frame anew that arrives on `side`; one that can't be read only gets other MAC addresses.
    pub(crate) fn put_on(&mut self, frame: &mut [u8], side: Side, snapshot: &Snapshot) {
        let view = View { stage: self, side, snapshot };
        let (source, key) = match parse(frame, Offload::NONE) {
            Ok(Parsed::Ipv4(datagram)) => view.datagram(frame, &datagram),
            Ok(Parsed::Fragment(fragment)) => view.fragment(frame, &fragment),
            Ok(Parsed::Arp(arp)) => {
                let [sender, target] = [arp.sender, arp.target].map(|address| {
                    let address = view.address(self.cast.role(address));
                    let is_router = snapshot.is_local(address);
                    (if is_router { station(side.link()) } else { neighbour(address) }, address)
                });
                rewrite::arp(frame, sender, target);
                (Some(sender.1), None)
            }
            Err(_) => (None, None),
        };
        self.unseen.extend(key.filter(|_| side == Side::Lan));
        address_to_router(frame, side);
        if let Some(source) = source.filter(|source| !source.is_unspecified()) {
            put_macs(frame, destination_mac(frame), neighbour(source));
        }
    }
}

/// What a network sees of the others.
struct View<'a> {
    stage: &'a Stage,
    side: Side,
    snapshot: &'a Snapshot,
}

/// The source address of a frame, and the flow that it belongs to, after rewriting.
type Sent = (Option<Ipv4Addr>, Option<FlowKey>);

impl View<'_> {
    fn datagram(&self, frame: &mut [u8], datagram: &Datagram) -> Sent {
        let protocol = datagram.protocol();
        let [source, destination] = self.stage.cast.pair_of_datagram(frame, datagram);
        let destination = self.addressee(frame, destination);
        let from = self.endpoint(source, protocol, datagram.source.port);
        let to = self.endpoint(destination, protocol, datagram.destination.port);
        let is_error = datagram.transport == L4::Icmp(IcmpKind::Error);
        if !is_error {
            rewrite::datagram(frame, datagram, from, to);
        } else if let Ok(inner) = embedded(frame, datagram) {
            let cast = &self.stage.cast;
            let inner_roles = cast.pair_of(inner.protocol, inner.source, inner.destination);
            let inner_from = self.endpoint(inner_roles[0], inner.protocol, inner.source.port);
            let inner_to = self.endpoint(inner_roles[1], inner.protocol, inner.destination.port);
            // The error goes to where the packet in it came from, by whatever address that has here.
            let to = if inner_roles[0] == destination { inner_from.address } else { to.address };
            let outer = (from.address, to);
            rewrite::error(frame, datagram, &inner, outer, (inner_from, inner_to));
        } else {
            rewrite::datagram(frame, datagram, from, to);
        }
        let key = FlowKey::new(protocol, from, to, packet::Side::Inside);
        (Some(from.address), (!is_error).then_some(key))
    }

    fn fragment(&self, frame: &mut [u8], fragment: &Fragment) -> Sent {
        let ports = rewrite::ports_of(frame, fragment);
        let (source_port, destination_port) = ports.unwrap_or_default();
        let source = Endpoint::new(fragment.source, source_port);
        let destination = Endpoint::new(fragment.destination, destination_port);
        let [source_role, destination_role] =
            self.stage.cast.pair_of(fragment.protocol, source, destination);
        let destination_role = self.addressee(frame, destination_role);
        let from = self.endpoint(source_role, fragment.protocol, source_port);
        let to = self.endpoint(destination_role, fragment.protocol, destination_port);
        rewrite::fragment(frame, fragment, from, to);
        let key = FlowKey::new(fragment.protocol, from, to, packet::Side::Inside);
        (Some(from.address), ports.map(|_| key))
    }

    /// Whom a frame is for: the broadcast of the network that it was captured on becomes that of the LAN.
    fn addressee(&self, frame: &[u8], role: Role) -> Role {
        match role {
            Role::Nobody(address)
                if self.side == Side::Lan
                    && destination_mac(frame).is_group()
                    && !address.is_multicast()
                    && !address.is_broadcast() =>
            {
                Role::Nobody(self.stage.lan.broadcast())
            }
            role => role,
        }
    }

    /// The endpoint by which somebody's port is known on this side.
    fn endpoint(&self, role: Role, protocol: Protocol, port: u16) -> Endpoint {
        match (role, self.side) {
            (Role::Inside(address), Side::Wan) => {
                self.external(protocol, Endpoint::new(address, port))
            }
            _ => Endpoint::new(self.address(role), port),
        }
    }

    /// The address by which somebody is known on this side.
    fn address(&self, role: Role) -> Ipv4Addr {
        let Self { stage, side, snapshot } = self;
        let external = snapshot.nat.external;
        match (role, side) {
            (Role::Inside(address), Side::Wan) => self.paired(address),
            (Role::Inside(address) | Role::Outside(address), _) => address,
            (Role::Router, Side::Lan) => stage.lan.addr(),
            (Role::Router, Side::Wan) => external.unwrap_or(Ipv4Addr::UNSPECIFIED),
            (Role::Nobody(address), _) => address,
        }
    }

    /// What stands outside for an internal endpoint: what the router made of it, or would if a forward or a 1:1 address
    /// says so; else its host's address and the same port, where nobody may answer.
    fn external(&self, protocol: Protocol, internal: Endpoint) -> Endpoint {
        if let Some(external) = self.stage.externals.get(&(protocol, internal)) {
            return *external;
        }
        let nat = &self.snapshot.nat;
        match nat.forwards.reverse(protocol, Internal(internal)).zip(nat.external) {
            Some(((address, port), own)) => Endpoint::new(address.unwrap_or(own), port),
            None => Endpoint::new(self.paired(internal.address), internal.port),
        }
    }

    /// The external address of a host; its own while there is none.
    fn paired(&self, host: Ipv4Addr) -> Ipv4Addr {
        let nat = &self.snapshot.nat;
        let of_its_own = nat.statics.of(host).map(|one| one.external);
        let shared = || nat.external.map(|own| nat.pool.paired(own, host));
        of_its_own.or_else(shared).unwrap_or(host)
    }
}

/// A capture was made at some other station; frames for it are to be for the router.
pub(crate) fn address_to_router(frame: &mut [u8], side: Side) {
    if frame.len() >= ethernet::LEN && !destination_mac(frame).is_group() {
        let source = source_mac(frame);
        put_macs(frame, station(side.link()), source);
    }
}
