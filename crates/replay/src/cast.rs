//! Who of a capture plays whom: hosts on the LAN, hosts on the Internet, the router.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use packet::header::{destination_mac, ethernet, source_mac, tcp};
use packet::icmp::embedded;
use packet::{Arp, Datagram, Endpoint, IcmpKind, L4, MacAddr, Offload, Parsed, Protocol, parse};

use crate::run::Side;

/// Who of two hosts that speak to each other is put on the LAN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inside {
    /// The one with a private address; if both or neither have one, the client.
    Private,
    /// The client of the first packet between the two.
    Client,
}

/// A part in the play, with the address that goes with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// A host on the LAN.
    Inside(Ipv4Addr),
    /// A host beyond the WAN.
    Outside(Ipv4Addr),
    /// The router that stood there when the capture was made.
    Router,
    /// No host: a group, a broadcast, or nobody yet.
    Nobody(Ipv4Addr),
}

impl Role {
    fn side(self) -> Option<Side> {
        match self {
            Self::Inside(_) => Some(Side::Lan),
            Self::Outside(_) => Some(Side::Wan),
            Self::Router | Self::Nobody(_) => None,
        }
    }
}

/// The addresses that the parts can be given.
pub(crate) struct Theatre<'a> {
    /// The LAN, with the router's address on it.
    pub(crate) lan: Ipv4Net,
    /// Whether a host beyond the WAN can't have an address.
    pub(crate) is_taken: &'a dyn Fn(Ipv4Addr) -> bool,
}

/// The parts of all addresses of a capture.
#[derive(Default, Debug)]
pub(crate) struct Cast {
    roles: BTreeMap<Ipv4Addr, Role>,
    /// The two parts of an address that speaks to itself, as on a loopback interface: client and server.
    twins: BTreeMap<Ipv4Addr, [Role; 2]>,
    /// The client's port of conversations of an address with itself.
    clients: BTreeMap<(Protocol, u16, u16), u16>,
    /// Hosts for which the LAN has no address left.
    unhoused: BTreeSet<Ipv4Addr>,
    /// Stations that only frames from outside come from.
    outside_macs: BTreeSet<MacAddr>,
}

/// Why a frame does not appear.
pub(crate) const UNHOUSED: &str = "the LAN has no address left for its host";
pub(crate) const OF_ROUTER: &str = "sent by the router that stood there";

impl Cast {
    /// Gives every address its part; the same frames always get the same.
    pub(crate) fn of<'a>(
        frames: impl Iterator<Item = &'a [u8]> + Clone,
        inside: Inside,
        theatre: &Theatre<'_>,
    ) -> Self {
        let mut casting = Casting::new(inside, correspondents(frames.clone()));
        frames.clone().for_each(|frame| casting.meet_speakers(frame));
        casting.place_lonely();
        let outside_macs = casting.outside_macs(frames.clone());
        let routers = casting.place_neighbours(frames, &outside_macs);
        let mut cast = Self { clients: casting.clients, outside_macs, ..Self::default() };
        cast.roles.extend(routers.into_iter().map(|address| (address, Role::Router)));
        let mut housing = Housing::new(theatre, &casting.order);
        for (address, side) in casting.order {
            match housing.house(address, side) {
                Some(role) => drop(cast.roles.insert(address, role)),
                None => drop(cast.unhoused.insert(address)),
            }
        }
        for address in casting.selves {
            let client = housing.house(address, Side::Lan);
            let server = housing.house(address, Side::Wan);
            match client.zip(server) {
                Some((client, server)) => drop(cast.twins.insert(address, [client, server])),
                None => drop(cast.unhoused.insert(address)),
            }
        }
        cast
    }

    /// The part of an address.
    pub(crate) fn role(&self, address: Ipv4Addr) -> Role {
        self.roles.get(&address).copied().unwrap_or(Role::Nobody(address))
    }

    /// The parts of source and destination.
    fn pair(&self, source: Ipv4Addr, destination: Ipv4Addr, from: Speaker) -> [Role; 2] {
        match self.twins.get(&source).filter(|_| source == destination) {
            Some([client, server]) if from == Speaker::Client => [*client, *server],
            Some([client, server]) => [*server, *client],
            None => [self.role(source), self.role(destination)],
        }
    }

    /// The parts of a packet's source and destination.
    pub(crate) fn pair_of(
        &self,
        protocol: Protocol,
        source: Endpoint,
        destination: Endpoint,
    ) -> [Role; 2] {
        let conversation = conversation(protocol, source.port, destination.port);
        let is_server = self.clients.get(&conversation).is_some_and(|port| *port != source.port);
        let from = if is_server { Speaker::Server } else { Speaker::Client };
        self.pair(source.address, destination.address, from)
    }

    /// The parts of a datagram's source and destination; an ICMP error comes from where its packet went.
    pub(crate) fn pair_of_datagram(&self, frame: &[u8], datagram: &Datagram) -> [Role; 2] {
        let [source, destination] = [datagram.source, datagram.destination];
        if datagram.transport == L4::Icmp(IcmpKind::Error)
            && source.address == destination.address
            && let Ok(inner) = embedded(frame, datagram)
        {
            let [to, from] = self.pair_of(inner.protocol, inner.source, inner.destination);
            return [from, to];
        }
        self.pair_of(datagram.protocol(), source, destination)
    }

    /// Where a frame arrives.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn side_of(&self, frame: &[u8]) -> Result<Side, &'static str> {
        let (source, addresses) = match parse(frame, Offload::NONE) {
            Ok(Parsed::Ipv4(datagram)) => {
                let [source, _] = self.pair_of_datagram(frame, &datagram);
                (source, [datagram.source.address, datagram.destination.address])
            }
            Ok(Parsed::Fragment(fragment)) => {
                let [source, _] = self.pair(fragment.source, fragment.destination, Speaker::Client);
                (source, [fragment.source, fragment.destination])
            }
            Ok(Parsed::Arp(Arp { sender, target, .. })) => (self.role(sender), [sender, target]),
            Err(_) => return Ok(self.side_of_station(frame)),
        };
        if addresses.iter().any(|address| self.unhoused.contains(address)) {
            return Err(UNHOUSED);
        }
        match source {
            Role::Router => Err(OF_ROUTER),
            role => Ok(role.side().unwrap_or_else(|| self.side_of_station(frame))),
        }
    }

    /// Where a frame whose sender is not known by address arrives.
    fn side_of_station(&self, frame: &[u8]) -> Side {
        let is_outside =
            frame.len() >= ethernet::LEN && self.outside_macs.contains(&source_mac(frame));
        if is_outside { Side::Wan } else { Side::Lan }
    }
}

/// The addresses that both speak and are spoken to.
fn correspondents<'a>(frames: impl Iterator<Item = &'a [u8]>) -> BTreeSet<Ipv4Addr> {
    let (mut sources, mut destinations) = (BTreeSet::new(), BTreeSet::new());
    for frame in frames {
        let (source, destination) = match parse(frame, Offload::NONE) {
            Ok(Parsed::Ipv4(datagram)) => (datagram.source.address, datagram.destination.address),
            Ok(Parsed::Fragment(fragment)) => (fragment.source, fragment.destination),
            Ok(Parsed::Arp(_)) | Err(_) => continue,
        };
        sources.insert(source);
        destinations.insert(destination);
    }
    sources.intersection(&destinations).copied().collect()
}

/// Which end of a conversation speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Client,
    Server,
}

/// The name of a conversation of an address with itself, whichever way it goes.
fn conversation(protocol: Protocol, source: u16, destination: u16) -> (Protocol, u16, u16) {
    (protocol, source.min(destination), source.max(destination))
}

/// Which end sent a packet, if it is the first of its conversation: an answer is told by its flags or type, else by the
/// well-known port that only its source has.
fn speaker_of(datagram: &Datagram) -> Speaker {
    const WELL_KNOWN: u16 = 1024;
    let (source, destination) = (datagram.source.port, datagram.destination.port);
    let is_answer = match datagram.transport {
        L4::Tcp { flags, .. } if flags & tcp::SYN != 0 => flags & tcp::ACK != 0,
        L4::Icmp(kind) => kind == IcmpKind::Reply,
        _ => datagram.protocol().has_ports() && source < WELL_KNOWN && destination >= WELL_KNOWN,
    };
    if is_answer { Speaker::Server } else { Speaker::Client }
}

/// The sides of all addresses, as they become known.
struct Casting {
    inside: Inside,
    /// See [`correspondents`].
    correspondents: BTreeSet<Ipv4Addr>,
    sides: BTreeMap<Ipv4Addr, Side>,
    /// The same in the order in which they became known.
    order: Vec<(Ipv4Addr, Side)>,
    /// Addresses that speak to themselves.
    selves: Vec<Ipv4Addr>,
    clients: BTreeMap<(Protocol, u16, u16), u16>,
    /// Those that speak to nobody in particular.
    lonely: Vec<Ipv4Addr>,
}

impl Casting {
    fn new(inside: Inside, correspondents: BTreeSet<Ipv4Addr>) -> Self {
        Self {
            inside,
            correspondents,
            sides: BTreeMap::new(),
            order: Vec::new(),
            selves: Vec::new(),
            clients: BTreeMap::new(),
            lonely: Vec::new(),
        }
    }

    /// Whether an address can be one host's. In captures that were made anonymous any can.
    fn is_host(&self, address: Ipv4Addr) -> bool {
        let is_plain = address.octets()[0] != 0 && !address.is_multicast();
        let is_one = !address.is_unspecified() && !address.is_broadcast();
        is_one && (is_plain || self.correspondents.contains(&address))
    }

    fn put(&mut self, address: Ipv4Addr, side: Side) {
        if self.sides.insert(address, side).is_none() {
            self.order.push((address, side));
        }
    }

    fn meet_speakers(&mut self, frame: &[u8]) {
        let (source, destination, from) = match parse(frame, Offload::NONE) {
            Ok(Parsed::Ipv4(datagram)) => {
                if datagram.transport == L4::Icmp(IcmpKind::Error)
                    && let Ok(inner) = embedded(frame, &datagram)
                {
                    let (source, destination) = (inner.source.address, inner.destination.address);
                    self.meet(source, destination, frame);
                }
                if datagram.source.address == datagram.destination.address {
                    self.meet_self(&datagram);
                    return;
                }
                let (source, destination) = (datagram.source.address, datagram.destination.address);
                (source, destination, speaker_of(&datagram))
            }
            Ok(Parsed::Fragment(fragment)) => {
                (fragment.source, fragment.destination, Speaker::Client)
            }
            Ok(Parsed::Arp(_)) | Err(_) => return,
        };
        match from {
            Speaker::Client => self.meet(source, destination, frame),
            Speaker::Server => self.meet(destination, source, frame),
        }
    }

    /// Puts the two ends of a conversation on different sides, unless both are placed already.
    fn meet(&mut self, client: Ipv4Addr, server: Ipv4Addr, frame: &[u8]) {
        let is_to_one = !destination_mac(frame).is_group();
        match (self.is_host(client), self.is_host(server)) {
            (true, true) if is_to_one && client != server => {}
            (true, _) => return self.lonely.push(client),
            _ => return,
        }
        let known = |address| self.sides.get(&address).copied();
        match (known(client), known(server)) {
            (None, None) => {
                let server_is_at_home = is_private(server) && !is_private(client);
                let is_reversed = self.inside == Inside::Private && server_is_at_home;
                let (home, away) = if is_reversed { (server, client) } else { (client, server) };
                self.put(home, Side::Lan);
                self.put(away, Side::Wan);
            }
            (Some(side), None) => self.put(server, side.other()),
            (None, Some(side)) => self.put(client, side.other()),
            (Some(_), Some(_)) => {}
        }
    }

    fn meet_self(&mut self, datagram: &Datagram) {
        let address = datagram.source.address;
        if !self.is_host(address) || datagram.transport == L4::Icmp(IcmpKind::Error) {
            return;
        }
        if !self.selves.contains(&address) {
            self.selves.push(address);
        }
        let (source, destination) = (datagram.source.port, datagram.destination.port);
        let client = match speaker_of(datagram) {
            Speaker::Client => source,
            Speaker::Server => destination,
        };
        let conversation = conversation(datagram.protocol(), source, destination);
        self.clients.entry(conversation).or_insert(client);
    }

    /// Who only speaks to groups is heard on the LAN, if nobody knows better.
    fn place_lonely(&mut self) {
        for address in std::mem::take(&mut self.lonely) {
            if !self.sides.contains_key(&address) {
                self.put(address, Side::Lan);
            }
        }
    }

    /// The stations that send what comes from outside, and nothing else: the last router before the LAN.
    fn outside_macs<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) -> BTreeSet<MacAddr> {
        let mut of_side = [BTreeSet::new(), BTreeSet::new()];
        for frame in frames {
            let source = match parse(frame, Offload::NONE) {
                Ok(Parsed::Ipv4(datagram)) => datagram.source.address,
                Ok(Parsed::Fragment(fragment)) => fragment.source,
                Ok(Parsed::Arp(_)) | Err(_) => continue,
            };
            match self.sides.get(&source) {
                Some(Side::Lan) => of_side[0].insert(source_mac(frame)),
                Some(Side::Wan) => of_side[1].insert(source_mac(frame)),
                None => false,
            };
        }
        let [inside, outside] = of_side;
        outside.difference(&inside).copied().collect()
    }

    /// Places those of whom only ARP speaks. One whose station sends what comes from outside is the router of then, and
    /// returned; the others are neighbours on the LAN, who never answered if they come last.
    fn place_neighbours<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a [u8]>,
        outside_macs: &BTreeSet<MacAddr>,
    ) -> BTreeSet<Ipv4Addr> {
        let (mut routers, mut asked_for) = (BTreeSet::new(), Vec::new());
        for frame in frames {
            let Ok(Parsed::Arp(arp)) = parse(frame, Offload::NONE) else { continue };
            if self.is_host(arp.target) {
                asked_for.push(arp.target);
            }
            if !self.is_host(arp.sender) || self.sides.contains_key(&arp.sender) {
                continue;
            }
            if outside_macs.contains(&arp.sender_mac) {
                routers.insert(arp.sender);
            } else {
                self.put(arp.sender, Side::Lan);
            }
        }
        for address in asked_for {
            if !routers.contains(&address) && !self.sides.contains_key(&address) {
                self.put(address, Side::Lan);
            }
        }
        routers
    }
}

/// Hands out addresses.
struct Housing<'a> {
    theatre: &'a Theatre<'a>,
    lan: Box<dyn Iterator<Item = Ipv4Addr>>,
    substitutes: Box<dyn Iterator<Item = Ipv4Addr>>,
    /// Addresses of the capture that hosts keep.
    kept: BTreeSet<Ipv4Addr>,
}

/// Where hosts live that can't keep their address beyond the WAN: a range that is global but seldom met.
const SUBSTITUTES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(11, 0, 0, 0), 8);

impl<'a> Housing<'a> {
    fn new(theatre: &'a Theatre<'a>, order: &[(Ipv4Addr, Side)]) -> Self {
        let router = theatre.lan.addr();
        let outside = order.iter().filter(|(_, side)| *side == Side::Wan);
        Self {
            theatre,
            lan: Box::new(theatre.lan.hosts().filter(move |address| *address != router)),
            substitutes: Box::new(SUBSTITUTES.hosts()),
            kept: outside.map(|(address, _)| *address).collect(),
        }
    }

    fn house(&mut self, address: Ipv4Addr, side: Side) -> Option<Role> {
        let is_taken = self.theatre.is_taken;
        match side {
            Side::Lan => self.lan.next().map(Role::Inside),
            Side::Wan if self.kept.contains(&address) && !is_taken(address) => {
                Some(Role::Outside(address))
            }
            Side::Wan => {
                let kept = &self.kept;
                let is_free = |address: &Ipv4Addr| !is_taken(*address) && !kept.contains(address);
                self.substitutes.find(is_free).map(Role::Outside)
            }
        }
    }
}

/// Whether an address only means something where it was seen.
fn is_private(address: Ipv4Addr) -> bool {
    address.is_private() || address.is_link_local() || address.is_loopback()
}
