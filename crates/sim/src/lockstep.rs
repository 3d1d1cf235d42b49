//! The real packet path and the plain model, side by side under the same operations.

mod frame;
mod operation;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use packet::header::{ethernet, icmp};
use packet::{DropReason, Endpoint, Instant, LinkId, Offload, Parsed, Protocol, PuntReason, parse};

use crate::bare::Bare;
use crate::model::{Filtering, Lifetimes, NatModel, Packet, Rules, Segment, Verdict};
use crate::{START, fuzz::Input};
pub(crate) use frame::check;
use operation::{Error, Operation};

/// The WAN's addresses: the first at the start, the other after a change.
const WAN: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 2), Ipv4Addr::new(198, 51, 100, 3)];
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// A router on the way to the remote hosts, and one behind the hosts of a LAN.
const MIDDLE: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 33), Ipv4Addr::new(10, 0, 0, 99)];

/// Hosts: two on either LAN, whose number is the third octet.
const HOSTS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 0, 1, 2),
    Ipv4Addr::new(10, 0, 1, 3),
    Ipv4Addr::new(10, 0, 2, 2),
    Ipv4Addr::new(10, 0, 2, 3),
];
/// Few, so that they collide; of every range class and parity.
const PORTS: [u16; 6] = [1000, 1001, 5000, 5001, 5002, 65535];
const REMOTES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(203, 0, 113, 3)];
const REMOTE_PORTS: [u16; 2] = [7, 9000];

/// Forwards that a reload turns on and off: external port, host, port. The first two take ports that hosts use
/// too, the last two lead to one endpoint in turn.
const FORWARDS: [(u16, usize, u16); 4] =
    [(5000, 0, 5000), (5001, 2, 80), (7000, 1, 80), (7000, 3, 80)];

const LIFETIMES: Lifetimes = Lifetimes {
    udp: Duration::from_secs(120),
    tcp_established: Duration::from_secs(7440),
    tcp_transitory: Duration::from_secs(240),
    icmp: Duration::from_secs(60),
    rest: Duration::from_secs(120),
};

/// Time goes on in such steps, so that nothing is just about to end when it is looked at.
const STEP: Duration = Duration::from_secs(10);

/// Room in the router's tables: so much that a quarter, which strangers may take, is enough for every
/// operation of a run.
const SESSIONS: usize = 4 * OPERATIONS_MAX;

/// Operations that one input may ask for.
pub const OPERATIONS_MAX: usize = 120;

/// Runs what `data` says on both.
///
/// **Shape**: the filtering of both LANs, then operations; see [`Operation::read`].
///
/// # Panics
/// If they disagree.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let filtering = [input.pick(&FILTERINGS), input.pick(&FILTERINGS)];
    let mut pair = Lockstep::new(filtering);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        let (operation, pause) = Operation::read(&mut input);
        pair.history.push(operation);
        pair.apply(operation);
        if pause {
            pair.settle(1);
        }
    }
    pair.settle(1);
    let held = pair.model.mappings_held() as u64;
    assert_eq!(pair.router.mappings_counted(), held, "after {:?}", pair.history);
    pair.router.check();
}

const FILTERINGS: [Filtering; 3] = [
    Filtering::EndpointIndependent,
    Filtering::AddressDependent,
    Filtering::AddressAndPortDependent,
];

struct Lockstep {
    router: Bare,
    model: NatModel,
    now: Instant,
    filtering: [Filtering; 2],
    forwards: u8,
    wan: usize,
    /// External endpoints that were seen.
    known: Vec<(Protocol, Endpoint)>,
    /// What was done so far, for whoever reads of a failure.
    history: Vec<Operation>,
}

impl Lockstep {
    fn new(filtering: [Filtering; 2]) -> Self {
        let config = config(filtering, 0);
        let stations: Vec<(LinkId, Ipv4Addr)> = HOSTS
            .iter()
            .map(|host| (lan_of(*host), *host))
            .chain([(LinkId::WAN, GATEWAY)])
            .collect();
        let router = Bare::new(config, &stations, SESSIONS, START);
        let model = NatModel::new(LIFETIMES, rules(filtering, 0, WAN[0]));
        let (known, history) = (Vec::new(), Vec::new());
        Self { router, model, now: START, filtering, forwards: 0, wan: 0, known, history }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Out { protocol, host, port, remote, segment } => {
                let source = Endpoint::new(HOSTS[host], PORTS[port]);
                self.send(lan_of(source.address), &packet(protocol, source, remote, segment));
            }
            Operation::In { protocol, remote, to, segment } => {
                let external = self.external(protocol, to);
                let (source, destination, segment) = match protocol {
                    Protocol::Icmp if segment == Segment::Reply => {
                        (Endpoint::new(remote.address, 0), external, segment)
                    }
                    Protocol::Icmp => {
                        let source = Endpoint::new(remote.address, external.port);
                        (source, Endpoint::new(external.address, 0), segment)
                    }
                    _ => (remote, external, segment),
                };
                self.send(LinkId::WAN, &Packet { protocol, source, destination, segment });
            }
            Operation::Hairpin { protocol, host, port, to, segment } => {
                let source = Endpoint::new(HOSTS[host], PORTS[port]);
                let destination = self.external(protocol, to);
                self.send(lan_of(source.address), &packet(protocol, source, destination, segment));
            }
            Operation::Along { session, side, segment } => {
                let Some(directions) = self.model.pick(session) else { return };
                let (link, mut packet, ..) = directions[side];
                if packet.protocol == Protocol::Tcp {
                    packet.segment = segment;
                }
                self.send(link, &packet);
            }
            Operation::Error { session, side, error } => self.send_error(session, side, error),
            Operation::Wait(steps) => self.settle(steps),
            Operation::Reload { filtering, forwards } => {
                (self.filtering, self.forwards) = (filtering, forwards);
                self.router.reconfigure(config(filtering, forwards));
                self.model.set_rules(rules(filtering, forwards, WAN[self.wan]));
            }
            Operation::NewAddress => {
                self.wan = 1 - self.wan;
                self.router.set_wan(WAN[self.wan]);
                self.model.set_rules(rules(self.filtering, self.forwards, WAN[self.wan]));
            }
        }
        assert_eq!(self.router.stats().sessions, self.model.sessions(), "{:?}", self.history);
    }

    /// An external endpoint that was seen, or that of a forward, or any.
    fn external(&self, protocol: Protocol, to: u16) -> Endpoint {
        let known: Vec<_> = self.known.iter().filter(|(of, _)| *of == protocol).collect();
        let at = usize::from(to % 256);
        match (to / 256 % 8, known.len()) {
            // Ports of the router's own services are no business of the model's.
            (0, _) => Endpoint::new(WAN[self.wan], 20_000 + to % 256),
            (1, _) | (_, 0) => Endpoint::new(WAN[self.wan], FORWARDS[at % FORWARDS.len()].0),
            (_, len) => known[at % len].1,
        }
    }

    /// Sends a packet through both. What may be of a TCP handshake from outside must be of a session: the model
    /// knows no handshakes.
    fn send(&mut self, link: LinkId, packet: &Packet) {
        let answers = matches!(packet.segment, Segment::SynAck | Segment::Reset);
        let is_handshake = packet.protocol == Protocol::Tcp && (link == LinkId::WAN || answers);
        if is_handshake && !self.model.passes(link, packet) {
            return;
        }
        let mut verdict = self.model.receive(link, packet, self.now);
        let (seen, left) = self.exchange(link, &frame::of(link, packet));
        if verdict == Verdict::NeedsPort {
            verdict = match self.port_of(packet) {
                Some(port) => {
                    let opened = self.model.open_as(link, packet, port, self.now);
                    opened.unwrap_or_else(|error| panic!("{error} after {:?}", self.history))
                }
                None => {
                    let refused = self.model.refused_as(link, packet, self.now);
                    refused.unwrap_or_else(|error| panic!("{error} after {:?}", self.history));
                    Verdict::Drop(DropReason::SessionConflict)
                }
            };
        }
        match (verdict, left.as_slice()) {
            (Verdict::Leaves(egress, source, destination), [frame]) => {
                let leaves = frame::endpoints(&frame.1);
                let expected = (egress, source, destination);
                assert_eq!((frame.0, leaves.0, leaves.1), expected, "{:?}", self.history);
                if egress == LinkId::WAN && !self.known.contains(&(packet.protocol, source)) {
                    self.known.push((packet.protocol, source));
                }
                frame::check(&frame.1);
            }
            (expected, []) => {
                assert_eq!(seen, real(expected, packet), "{:?}", self.history);
            }
            (expected, left) => panic!("{left:?} left, not {expected:?}, after {:?}", self.history),
        }
    }

    /// The external port that the router gave a packet's source. A session with another peer may be one of a forward
    /// that is gone.
    fn port_of(&self, packet: &Packet) -> Option<u16> {
        let mut port = None;
        self.router.for_each_session(self.now, |session| {
            let is_its = (session.protocol, session.internal.0, session.remote)
                == (packet.protocol, packet.source, packet.destination);
            if is_its && session.external.0.address == WAN[self.wan] {
                port = Some(session.external.0.port);
            }
        });
        port
    }

    /// Sends an error about a packet of a session, from where that packet went. It goes to the packet's sender,
    /// with the packet inside as that one sent it, and changes nothing.
    fn send_error(&mut self, session: usize, side: usize, error: Error) {
        let Some(directions) = self.model.pick(session) else { return };
        let (sender_link, sent, Verdict::Leaves(link, source, destination), passes) =
            directions[side]
        else {
            return;
        };
        let middle = match link {
            LinkId::WAN => MIDDLE[0],
            LinkId(lan) => Ipv4Addr::from_bits(MIDDLE[1].to_bits() | u32::from(lan) << 8),
        };
        let from = if error.from_the_middle { middle } else { destination.address };
        let about = Packet { source, destination, ..sent };
        let (_, left) = self.exchange(link, &frame::error(link, from, &about, error));
        if !passes {
            assert!(left.is_empty(), "{left:?} left after {:?}", self.history);
            return;
        }
        let [(egress, frame)] = left.as_slice() else {
            panic!("{left:?} left after {:?}", self.history)
        };
        frame::check(frame);
        let Ok(Parsed::Ipv4(outer)) = parse(frame, Offload::NONE) else { unreachable!("checked") };
        let inside = &frame[usize::from(outer.l4) + icmp::LEN..];
        let original = &frame::of(sender_link, &sent)[ethernet::LEN..];
        assert_eq!(inside, &original[..inside.len()], "embedded after {:?}", self.history);
        let is_shown = error.from_the_middle && link == LinkId::WAN;
        let shown = if is_shown { middle } else { sent.destination.address };
        let leaves = (*egress, outer.source.address, outer.destination.address);
        let expected = (sender_link, shown, sent.source.address);
        assert_eq!(leaves, expected, "{:?}", self.history);
    }

    /// Lets steps pass, and upkeep come round at their end.
    fn settle(&mut self, steps: u32) {
        // Who was answered is seen before time brings anything to an end: if one look did both, the order would be that
        // of the table.
        self.router.expire_all(self.now + STEP / 200);
        self.model.expire(self.now);
        self.now += STEP * steps;
        self.router.expire_all(self.now);
        self.model.expire(self.now);
        let (stats, model, history) = (self.router.stats(), &self.model, &self.history);
        assert_eq!(stats.sessions, model.sessions(), "sessions after {history:?}");
        assert_eq!(stats.mappings, model.mappings(), "mappings after {history:?}");
        assert_eq!(stats.contacts, model.contacts(), "contacts after {history:?}");
    }

    fn exchange(
        &mut self,
        link: LinkId,
        frame: &[u8],
    ) -> (pipeline::Verdict, Vec<(LinkId, Vec<u8>)>) {
        let mut left = Vec::new();
        let verdict = self.router.receive(link, frame, Offload::NONE, self.now, |egress, frame| {
            left.push((egress, frame.to_vec()));
        });
        (verdict.expect("a frame of ours fits"), left)
    }
}

/// The packet path's word for what becomes of a packet.
fn real(verdict: Verdict, packet: &Packet) -> pipeline::Verdict {
    match verdict {
        Verdict::Router => pipeline::Verdict::Punt(PuntReason::Local),
        Verdict::Nobody => pipeline::Verdict::Resolve(LinkId::WAN, packet.destination.address),
        Verdict::Drop(reason) => pipeline::Verdict::Drop(reason),
        Verdict::Leaves(link, ..) => pipeline::Verdict::Forward(link),
        Verdict::NeedsPort => unreachable!("the port is known by now"),
    }
}

fn packet(protocol: Protocol, source: Endpoint, to: Endpoint, segment: Segment) -> Packet {
    let port = if protocol == Protocol::Icmp { 0 } else { to.port };
    Packet { protocol, source, destination: Endpoint::new(to.address, port), segment }
}

fn lan_of(host: Ipv4Addr) -> LinkId {
    LinkId(host.octets()[2])
}

fn forwards(mask: u8) -> impl Iterator<Item = (u16, Endpoint)> {
    let chosen = FORWARDS.into_iter().enumerate().filter(move |(bit, _)| mask >> bit & 1 == 1);
    let mut seen = Vec::new();
    chosen.filter_map(move |(_, (external, host, port))| {
        let is_new = !seen.contains(&external);
        seen.push(external);
        is_new.then(|| (external, Endpoint::new(HOSTS[host], port)))
    })
}

fn rules(filtering: [Filtering; 2], mask: u8, external: Ipv4Addr) -> Rules {
    let filtering: BTreeMap<LinkId, Filtering> = (1..).map(LinkId).zip(filtering).collect();
    let both = [Protocol::Tcp, Protocol::Udp];
    let forwards =
        forwards(mask).flat_map(|(port, to)| both.map(|protocol| (protocol, port, to))).collect();
    Rules { external, filtering, forwards }
}

thread_local! {
    /// Configurations that were read already.
    static CONFIGS: RefCell<BTreeMap<(String, u8), config::Config>> =
        const { RefCell::new(BTreeMap::new()) };
}

fn config(filtering: [Filtering; 2], mask: u8) -> config::Config {
    let [home, guest] = filtering.map(|filtering| match filtering {
        Filtering::EndpointIndependent => "endpoint-independent",
        Filtering::AddressDependent => "address-dependent",
        Filtering::AddressAndPortDependent => "address-and-port-dependent",
    });
    let wan = WAN[0];
    let text = format!(
        r#"
[wan]
link = "wan0"
mode = "static"
address = "{wan}/24"
gateway = "{GATEWAY}"
[[lan]]
name = "home"
link = "lan1"
address = "10.0.1.1/24"
filtering = "{home}"
[[lan]]
name = "guest"
link = "lan2"
address = "10.0.2.1/24"
filtering = "{guest}"
[nat]
icmp_refusals = "silent"
[nat.timeouts]
udp = "120s"
"#
    );
    let read = || {
        let forwards = forwards(mask)
            .map(|(port, to)| {
                format!("[[forward]]\nprotocol = \"both\"\nport = {port}\nto = \"{to}\"\n")
            })
            .collect::<String>();
        config::parse("lockstep", &(text.clone() + &forwards)).expect("the text above is right")
    };
    CONFIGS.with_borrow_mut(|configs| {
        configs.entry((format!("{home} {guest}"), mask)).or_insert_with(read).clone()
    })
}
