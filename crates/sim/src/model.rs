//! What a translator must do, as plainly as it can be said.

mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use packet::{DropReason, Endpoint, Instant, LinkId, Protocol, Side};

pub use session::Segment;
use session::{Direction, Key, Session};

/// Which remote endpoints a mapping admits (RFC 4787 §5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filtering {
    /// All.
    EndpointIndependent,
    /// Those whose address the internal endpoint has a flow to.
    AddressDependent,
    /// Those that the internal endpoint has a flow to.
    AddressAndPortDependent,
}

/// How long things last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    /// A UDP session without outbound packets.
    pub udp: Duration,
    /// A TCP session between handshake and the second FIN.
    pub tcp_established: Duration,
    /// A TCP session before and after that.
    pub tcp_transitory: Duration,
    /// An ICMP query session.
    pub icmp: Duration,
    /// An external port that nobody uses any more, before another endpoint may get it.
    pub rest: Duration,
}

/// What the operator decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The WAN address.
    pub external: Ipv4Addr,
    /// By LAN.
    pub filtering: BTreeMap<LinkId, Filtering>,
    /// Explicit mappings: protocol, external port, internal endpoint.
    pub forwards: Vec<(Protocol, u16, Endpoint)>,
}

/// A packet as it arrives. ICMP queries: the identifier is the port of the host that asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Where it says that it comes from.
    pub source: Endpoint,
    /// Where it goes.
    pub destination: Endpoint,
    /// What it says beside that.
    pub segment: Segment,
}

/// What must become of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It leaves by this link, from and to these endpoints.
    Leaves(LinkId, Endpoint, Endpoint),
    /// It opens a session, and its source needs an external port that [`NatModel::open_as`] is to be
    /// told; nothing has happened yet.
    NeedsPort,
    /// It is for the router itself.
    Router,
    /// It is for an address of the WAN's subnet that nobody has.
    Nobody,
    /// It is dropped.
    Drop(DropReason),
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    /// `None` for one whose only session was refused before anybody saw its port.
    port: Option<u16>,
    lan: LinkId,
    /// When its last session ended; `None` while it has one.
    freed: Option<Instant>,
}

/// Protocol, internal endpoint, and the WAN address under which the mapping was made.
type MappingKey = (Protocol, Endpoint, Ipv4Addr);

/// A NAT44 without limits: RFC 4787, 5382 and 5508 as far as endpoints, filters and lifetimes go. TCP that begins
/// outside is not among it: its handshakes are not sessions.
///
/// Two maps hold the state, mappings and sessions. The other two are their inversions: mappings by
/// external port, and sessions by the key of their answers.
pub struct NatModel {
    lifetimes: Lifetimes,
    rules: Rules,
    mappings: BTreeMap<MappingKey, Mapping>,
    ports: BTreeMap<(Protocol, Endpoint), MappingKey>,
    /// By the key of the first packet.
    sessions: BTreeMap<Key, Session>,
    answers: BTreeMap<Key, Key>,
}

impl NatModel {
    /// Makes a model without sessions.
    #[must_use]
    pub fn new(lifetimes: Lifetimes, rules: Rules) -> Self {
        let (mappings, ports) = (BTreeMap::new(), BTreeMap::new());
        let (sessions, answers) = (BTreeMap::new(), BTreeMap::new());
        Self { lifetimes, rules, mappings, ports, sessions, answers }
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Other rules from now on. Sessions that they contradict end with their next packet.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// A packet that arrived on a link.
    pub fn receive(&mut self, link: LinkId, packet: &Packet, now: Instant) -> Verdict {
        self.receive_as(link, packet, None, now)
    }

    /// A packet for which [`Self::receive`] said [`Verdict::NeedsPort`], and the port that its source was
    /// given.
    ///
    /// # Errors
    /// What is wrong with the port: it belongs to another endpoint (REQ-1, REQ-3, RFC 6888 REQ-8), is of
    /// another range or parity (REQ-3a, REQ-4), or was not preserved although it was free (§4.2.1).
    pub fn open_as(
        &mut self,
        link: LinkId,
        packet: &Packet,
        port: u16,
        now: Instant,
    ) -> Result<Verdict, String> {
        let internal = packet.source;
        let name = (packet.protocol, Endpoint::new(self.rules.external, port));
        if let Some((_, holder, _)) = self.ports.get(&name) {
            return Err(format!("port {port} of {holder} was given to {internal}"));
        }
        if self.is_forwarded(packet.protocol, port) {
            return Err(format!("port {port} of a forward was given to {internal}"));
        }
        if (port < 1024, port % 2) != (internal.port < 1024, internal.port % 2) {
            return Err(format!("{internal} was given port {port} of another class"));
        }
        let is_new = !self.mappings.contains_key(&(name.0, internal, self.rules.external));
        if is_new && port != internal.port && self.preserved(name.0, internal).is_some() {
            return Err(format!("{internal} was given port {port} though its own was free"));
        }
        Ok(self.receive_as(link, packet, Some(port), now))
    }

    /// A packet for which [`Self::receive`] said [`Verdict::NeedsPort`], and which was refused because the port
    /// that its source was given belongs to a session that is over but for its next packet.
    ///
    /// # Errors
    /// If there is no such session.
    pub fn refused_as(
        &mut self,
        link: LinkId,
        packet: &Packet,
        now: Instant,
    ) -> Result<(), String> {
        let peer = packet.destination;
        let mut over = self.sessions.values().filter(|s| !s.agrees(&self.rules));
        if !over.any(|session| {
            session.peer == peer && session.external.port % 2 == packet.source.port % 2
        }) {
            return Err(format!("{packet:?} conflicts with no session"));
        }
        let key = (packet.protocol, packet.source, self.rules.external);
        self.mappings.insert(key, Mapping { port: None, lan: link, freed: Some(now) });
        Ok(())
    }

    fn receive_as(
        &mut self,
        link: LinkId,
        packet: &Packet,
        port: Option<u16>,
        now: Instant,
    ) -> Verdict {
        let side = if link == LinkId::WAN { Side::Outside } else { Side::Inside };
        let key = (packet.protocol, side, packet.source, packet.destination);
        if let Some(first) = self.first_key(key) {
            if self.sessions[&first].agrees(&self.rules) {
                let session = self.sessions.get_mut(&first).expect("it was just there");
                return session.pass(usize::from(first != key), packet.segment, now);
            }
            self.remove(first, now);
        }
        match side {
            Side::Inside => self.first_from_inside(link, packet, port, now),
            Side::Outside => self.first_from_outside(packet, now),
        }
    }

    /// The key of the first packet of the session that a packet with this key belongs to.
    fn first_key(&self, key: Key) -> Option<Key> {
        if self.sessions.contains_key(&key) { Some(key) } else { self.answers.get(&key).copied() }
    }

    fn first_from_inside(
        &mut self,
        link: LinkId,
        packet: &Packet,
        port: Option<u16>,
        now: Instant,
    ) -> Verdict {
        let Packet { protocol, source, destination, segment } = *packet;
        let mut session = Session::new(Direction::Outbound, protocol, link, source, now);
        session.peer = destination;
        if destination.address == self.rules.external {
            match self.target(protocol, destination, segment) {
                Ok((target, holds)) => session.hairpin_to(target, holds),
                Err(DropReason::NoMapping) => return Verdict::Router,
                Err(reason) => return Verdict::Drop(reason),
            }
        } else if destination.address.octets()[..3] == self.rules.external.octets()[..3] {
            return Verdict::Nobody;
        }
        match segment {
            Segment::SynAck | Segment::Reset => return Verdict::Drop(DropReason::TcpNoSession),
            Segment::Ack | Segment::Fin => session.picked_up = true,
            Segment::Syn | Segment::Query | Segment::Reply => {}
        }
        match self.stand_in(link, protocol, source, port) {
            Ok((external, holds)) => (session.external, session.holds) = (external, holds),
            Err(verdict) => return verdict,
        }
        let filtering = self.rules.filtering[&link];
        session.contact = filtering == Filtering::AddressDependent && session.holds;
        if let Some(target) = session.target {
            if (source, session.external) == (target, destination) {
                return self.refuse(&session, DropReason::Land, now);
            }
            let remote = session.external.address;
            session.waits = session.holds_target && !self.admits(protocol, destination, remote);
        }
        self.open(session, segment, now)
    }

    fn first_from_outside(&mut self, packet: &Packet, now: Instant) -> Verdict {
        let Packet { protocol, source, destination, segment } = *packet;
        if destination.address != self.rules.external {
            return Verdict::Drop(DropReason::PolicyDenied);
        }
        if segment == Segment::Query && protocol == Protocol::Icmp {
            return Verdict::Router;
        }
        let (internal, holds) = match self.target(protocol, destination, segment) {
            Ok(target) => target,
            Err(reason) => return Verdict::Drop(reason),
        };
        if holds && !self.admits(protocol, destination, source.address) {
            return Verdict::Drop(DropReason::FilterDenied);
        }
        let lan = lan_of(internal);
        let mut session = Session::new(Direction::Inbound, protocol, lan, internal, now);
        (session.external, session.peer, session.holds) = (destination, source, holds);
        self.open(session, segment, now)
    }

    /// Who is behind an external endpoint, and whether by a mapping.
    fn target(
        &self,
        protocol: Protocol,
        external: Endpoint,
        segment: Segment,
    ) -> Result<(Endpoint, bool), DropReason> {
        if protocol == Protocol::Icmp {
            return Err(DropReason::NoMapping);
        }
        let found = match self.rules.forward_to(protocol, external.port) {
            Some(internal) => (internal, false),
            None => {
                let key = self.ports.get(&(protocol, external)).ok_or(DropReason::NoMapping)?;
                if self.mappings[key].freed.is_some() {
                    return Err(DropReason::NoMapping);
                }
                (key.1, true)
            }
        };
        let opens =
            !matches!(segment, Segment::SynAck | Segment::Ack | Segment::Fin | Segment::Reset);
        if opens { Ok(found) } else { Err(DropReason::TcpNoSession) }
    }

    /// Whether the mapping with this external endpoint takes packets from an address that no session of it
    /// speaks with.
    fn admits(&self, protocol: Protocol, external: Endpoint, remote: Ipv4Addr) -> bool {
        let key = self.ports[&(protocol, external)];
        match self.rules.filtering[&self.mappings[&key].lan] {
            Filtering::EndpointIndependent => true,
            Filtering::AddressAndPortDependent => false,
            Filtering::AddressDependent => self.opened_by(protocol, key.1).any(|session| {
                session.contact && session.external == external && session.peer.address == remote
            }),
        }
    }

    /// The sessions that an internal endpoint began.
    fn opened_by(&self, protocol: Protocol, internal: Endpoint) -> impl Iterator<Item = &Session> {
        let key = |address, port| (protocol, Side::Inside, internal, Endpoint::new(address, port));
        let first = key(Ipv4Addr::UNSPECIFIED, 0);
        self.sessions.range(first..=key(Ipv4Addr::BROADCAST, u16::MAX)).map(|(_, session)| session)
    }

    /// What stands for an internal endpoint that sends, and whether that is a mapping, which is in use from
    /// now on.
    fn stand_in(
        &mut self,
        lan: LinkId,
        protocol: Protocol,
        internal: Endpoint,
        given: Option<u16>,
    ) -> Result<(Endpoint, bool), Verdict> {
        let external = |port| Endpoint::new(self.rules.external, port);
        if let Some(port) = self.rules.forward_of(protocol, internal) {
            return Ok((external(port), false));
        }
        let key = (protocol, internal, self.rules.external);
        let (exists, known) = match self.mappings.get(&key) {
            Some(mapping) => (true, mapping.port),
            None => (false, None),
        };
        if let Some(port) = known.filter(|port| self.is_forwarded(protocol, *port)) {
            // Its sessions end one by one, then it can go.
            if self.mappings[&key].freed.is_some() {
                self.mappings.remove(&key);
                self.ports.remove(&(protocol, external(port)));
            }
            return Err(Verdict::Drop(DropReason::PortsExhausted));
        }
        let preserved = if exists { None } else { self.preserved(protocol, internal) };
        let port = known.or(given).or(preserved).ok_or(Verdict::NeedsPort)?;
        let external = external(port);
        self.mappings.insert(key, Mapping { port: Some(port), lan, freed: None });
        self.ports.insert((protocol, external), key);
        Ok((external, true))
    }

    /// The internal port itself, where it is free outside.
    fn preserved(&self, protocol: Protocol, internal: Endpoint) -> Option<u16> {
        let port = internal.port;
        let external = Endpoint::new(self.rules.external, port);
        let is_free = port != 0
            && !self.ports.contains_key(&(protocol, external))
            && !self.is_forwarded(protocol, port);
        is_free.then_some(port)
    }

    fn is_forwarded(&self, protocol: Protocol, port: u16) -> bool {
        self.rules.forward_to(protocol, port).is_some()
    }

    fn open(&mut self, mut session: Session, segment: Segment, now: Instant) -> Verdict {
        let [first, answer] = session.keys();
        if self.first_key(answer).is_some() {
            return self.refuse(&session, DropReason::SessionConflict, now);
        }
        let verdict = if session.waits {
            session.follow(0, segment, now);
            Verdict::Drop(DropReason::FilterDenied)
        } else {
            session.pass(0, segment, now)
        };
        self.answers.insert(answer, first);
        self.sessions.insert(first, session);
        verdict
    }

    /// A session that does not come about gives back what it held.
    fn refuse(&mut self, session: &Session, reason: DropReason, now: Instant) -> Verdict {
        self.rest_unless_held(session, now);
        Verdict::Drop(reason)
    }

    fn remove(&mut self, first: Key, now: Instant) {
        let session = self.sessions.remove(&first).expect("the caller found it");
        self.answers.remove(&session.keys()[1]);
        self.rest_unless_held(&session, now);
    }

    /// Lets the mappings of a session that is gone rest, unless another session holds them.
    fn rest_unless_held(&mut self, gone: &Session, now: Instant) {
        for key in gone.held() {
            let is_held = self.sessions.values().any(|session| session.held().contains(&key));
            if let Some(mapping) = self.mappings.get_mut(&key).filter(|_| !is_held) {
                mapping.freed = Some(now);
            }
        }
    }

    /// Ends what is over: sessions, then those from outside that nobody answered and whose mapping has been at
    /// rest for a while, then mappings that have rested.
    pub fn expire(&mut self, now: Instant) {
        let Self { lifetimes, mappings, ports, sessions, answers, .. } = self;
        for session in sessions.values_mut() {
            session.counts = session.direction != Direction::Inbound || session.sides[1].spoke;
        }
        sessions.retain(|_, session| !session.is_over(lifetimes, now));
        let held: BTreeSet<MappingKey> = sessions.values().flat_map(Session::held).collect();
        let rests = |freed: Option<Instant>, span| {
            freed.is_some_and(|freed| now.saturating_since(freed) > span)
        };
        for (key, mapping) in mappings.iter_mut() {
            if held.contains(key) {
                mapping.freed = None;
            } else {
                mapping.freed.get_or_insert(now);
            }
        }
        sessions.retain(|_, session| {
            session.counts
                || session.mapping().is_none_or(|key| {
                    mappings.get(&key).is_some_and(|mapping| !rests(mapping.freed, STRANGERS_STAY))
                })
        });
        answers.retain(|_, first| sessions.contains_key(first));
        mappings.retain(|key, mapping| {
            let lives = !rests(mapping.freed, lifetimes.rest);
            if let Some(port) = mapping.port.filter(|_| !lives) {
                ports.remove(&(key.0, Endpoint::new(key.2, port)));
            }
            lives
        });
    }

    /// Whether a packet is one of a session.
    #[must_use]
    pub fn passes(&self, link: LinkId, packet: &Packet) -> bool {
        let side = if link == LinkId::WAN { Side::Outside } else { Side::Inside };
        let key = (packet.protocol, side, packet.source, packet.destination);
        self.first_key(key).is_some_and(|first| self.sessions[&first].agrees(&self.rules))
    }

    /// The `index`th session, counted round: its two directions, each as what arrives, what leaves, and whether an
    /// error about it is let through. One about an answer is not while the first sender waits for answers.
    #[must_use]
    pub fn pick(&self, index: usize) -> Option<[(LinkId, Packet, Verdict, bool); 2]> {
        let session = self.sessions.values().nth(index % self.sessions.len().max(1))?;
        let agrees = session.agrees(&self.rules);
        let [(link, packet, verdict), back] = session.directions();
        let there = (link, packet, verdict, agrees);
        Some([there, (back.0, back.1, back.2, agrees && !session.is_blocked())])
    }

    /// Sessions that there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Mappings that there are, those at rest included.
    #[must_use]
    pub fn mappings(&self) -> usize {
        self.mappings.len()
    }

    /// Mappings in use.
    #[must_use]
    pub fn mappings_held(&self) -> usize {
        self.mappings.values().filter(|mapping| mapping.freed.is_none()).count()
    }

    /// Pairs of external endpoint and remote address that sessions were opened for under address-dependent
    /// filtering.
    #[must_use]
    pub fn contacts(&self) -> usize {
        let with_contact = self.sessions.values().filter(|session| session.contact);
        let pairs = with_contact.map(|s| (s.protocol, s.external, s.peer.address));
        pairs.collect::<BTreeSet<_>>().len()
    }
}

impl Rules {
    fn forward_to(&self, protocol: Protocol, port: u16) -> Option<Endpoint> {
        let found = self.forwards.iter().find(|(of, at, _)| (*of, *at) == (protocol, port));
        found.map(|(_, _, internal)| *internal)
    }

    fn forward_of(&self, protocol: Protocol, internal: Endpoint) -> Option<u16> {
        let found = self.forwards.iter().find(|(of, _, to)| (*of, *to) == (protocol, internal));
        found.map(|(_, port, _)| *port)
    }
}

/// For how long a session from outside that nobody answered stays when its mapping goes to rest.
const STRANGERS_STAY: Duration = Duration::from_secs(10);

/// The LAN of a host: the third octet is its number.
fn lan_of(internal: Endpoint) -> LinkId {
    LinkId(internal.address.octets()[2])
}
