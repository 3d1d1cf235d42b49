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

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    const HOME: [u8; 4] = [192, 168, 1, 7];
    const SERVER: [u8; 4] = [203, 0, 113, 80];
    const HOME_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
    const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn mac_of(address: [u8; 4]) -> [u8; 6] {
        if address == SERVER { GATEWAY_MAC } else { HOME_MAC }
    }

    fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(mac_of(from.0), mac_of(to.0))
            .ipv4(from.0, to.0, 64)
            .udp(from.1, to.1)
            .write(&mut frame, b"x")
            .unwrap();
        frame
    }

    fn syn_ack(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(mac_of(from.0), mac_of(to.0))
            .ipv4(from.0, to.0, 64)
            .tcp(from.1, to.1, 1, 1)
            .syn()
            .ack(2)
            .write(&mut frame, b"")
            .unwrap();
        frame
    }

    fn arp_reply(sender: ([u8; 4], [u8; 6]), target: [u8; 4]) -> Vec<u8> {
        let mut frame = [&HOME_MAC[..], &sender.1, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
        for part in [&sender.1[..], &sender.0, &HOME_MAC, &target] {
            frame.extend_from_slice(part);
        }
        frame
    }

    fn cast_on(lan: &str, inside: Inside, frames: &[Vec<u8>]) -> Cast {
        let lan: Ipv4Net = lan.parse().unwrap();
        let is_taken = |address| lan.contains(&address);
        let frames = frames.iter().map(Vec::as_slice);
        Cast::of(frames, inside, &Theatre { lan, is_taken: &is_taken })
    }

    fn cast(inside: Inside, frames: &[Vec<u8>]) -> Cast {
        cast_on("10.0.0.2/24", inside, frames)
    }

    fn inside(last: u8) -> Role {
        Role::Inside([10, 0, 0, last].into())
    }

    fn outside(address: [u8; 4]) -> Role {
        Role::Outside(address.into())
    }

    fn roles<const N: usize>(cast: &Cast, addresses: [[u8; 4]; N]) -> [Role; N] {
        addresses.map(|address| cast.role(address.into()))
    }

    #[test]
    fn the_private_address_is_inside_and_who_has_a_public_one_keeps_it() {
        let cast = cast(Inside::Private, &[udp((SERVER, 5000), (HOME, 6000))]);
        assert_eq!(roles(&cast, [HOME, SERVER]), [inside(1), outside(SERVER)]);
    }

    #[test]
    fn the_client_is_inside_if_addresses_do_not_tell_or_it_is_asked_for() {
        let other = [192, 168, 1, 9];
        let substitute = outside([11, 0, 0, 1]);
        let cases = [
            (
                Inside::Private,
                udp((HOME, 5000), ([9, 9, 9, 9], 6000)),
                [9, 9, 9, 9],
                outside([9, 9, 9, 9]),
            ),
            (Inside::Private, udp((HOME, 5000), (other, 6000)), other, outside(other)),
            (Inside::Private, udp((other, 53), (HOME, 6000)), other, outside(other)),
            (Inside::Private, syn_ack((other, 8080), (HOME, 6000)), other, outside(other)),
            (Inside::Client, udp((HOME, 5000), ([10, 0, 0, 8], 53)), [10, 0, 0, 8], substitute),
        ];
        for (inside_is, frame, server, role) in cases {
            let cast = cast(inside_is, &[frame]);
            assert_eq!(roles(&cast, [HOME, server]), [inside(1), role]);
        }
        let asked = cast(Inside::Client, &[udp((SERVER, 5000), (HOME, 6000))]);
        assert_eq!(roles(&asked, [SERVER, HOME]), [inside(1), outside(HOME)]);
    }

    #[test]
    fn hosts_move_in_by_the_order_of_the_capture_and_not_where_the_router_lives() {
        let others = [[192, 168, 1, 9], [192, 168, 1, 8]];
        let frames = [
            udp((HOME, 5000), (SERVER, 6000)),
            udp((SERVER, 6000), (HOME, 5000)),
            udp((others[0], 5000), (SERVER, 6000)),
            udp((others[1], 5000), (others[0], 6000)),
        ];
        let cast = cast(Inside::Private, &frames);
        let [first, second, third] = roles(&cast, [HOME, others[0], others[1]]);
        assert_eq!([first, second], [inside(1), inside(3)]);
        assert_eq!(third, outside(others[1]), "whom an inside host speaks to is beyond the router");
        let sides: Vec<_> = frames.iter().map(|frame| cast.side_of(frame).unwrap()).collect();
        assert_eq!(sides, [Side::Lan, Side::Wan, Side::Lan, Side::Wan]);
    }

    #[test]
    fn a_full_lan_leaves_hosts_without_a_part() {
        let frames: Vec<_> =
            (7..10).map(|last| udp(([192, 168, 1, last], 5000), (SERVER, 6000))).collect();
        let cast = cast_on("10.0.0.1/30", Inside::Private, &frames);
        let sides = frames.iter().map(|frame| cast.side_of(frame)).collect::<Vec<_>>();
        assert_eq!(sides, [Ok(Side::Lan), Err(UNHOUSED), Err(UNHOUSED)]);
    }

    #[test]
    fn the_router_of_then_is_known_by_its_station_and_does_not_appear() {
        let gateway = [192, 168, 1, 1];
        let frames = [
            udp((HOME, 5000), (SERVER, 6000)),
            udp((SERVER, 6000), (HOME, 5000)),
            arp_reply((gateway, GATEWAY_MAC), HOME),
            arp_reply(([192, 168, 1, 5], [2, 0, 0, 0, 0, 5]), HOME),
            [&HOME_MAC[..], &GATEWAY_MAC, &[0x86, 0xdd]].concat(),
        ];
        let cast = cast(Inside::Private, &frames);
        assert_eq!(roles(&cast, [gateway, [192, 168, 1, 5]]), [Role::Router, inside(3)]);
        assert_eq!(cast.side_of(&frames[2]), Err(OF_ROUTER));
        assert_eq!(cast.side_of(&frames[3]), Ok(Side::Lan));
        assert_eq!(cast.side_of(&frames[4]), Ok(Side::Wan), "what can't be read, by its station");
    }

    #[test]
    fn an_address_that_speaks_to_itself_has_two_parts() {
        let own = [127, 0, 0, 1];
        let (question, answer) = (udp((own, 5000), (own, 53)), udp((own, 53), (own, 5000)));
        let cast = cast(Inside::Private, &[question.clone(), answer.clone()]);
        assert_eq!(
            (cast.side_of(&question), cast.side_of(&answer)),
            (Ok(Side::Lan), Ok(Side::Wan))
        );
        let end = |port| Endpoint::new(own.into(), port);
        let [client, server] = cast.pair_of(Protocol::Udp, end(5000), end(53));
        assert_eq!([client, server], [inside(1), outside([11, 0, 0, 1])]);
        assert_eq!(cast.pair_of(Protocol::Udp, end(53), end(5000)), [server, client]);
    }

    #[test]
    fn groups_are_nobody_unless_they_answer() {
        let group = [239, 1, 2, 3];
        let asked = udp((HOME, 5000), (group, 6000));
        let unanswered = cast(Inside::Private, std::slice::from_ref(&asked));
        assert_eq!(roles(&unanswered, [HOME, group]), [inside(1), Role::Nobody(group.into())]);
        let answered = cast(Inside::Private, &[asked, udp((group, 6000), (HOME, 5000))]);
        assert_eq!(roles(&answered, [HOME, group]), [inside(1), outside(group)]);
    }
}
