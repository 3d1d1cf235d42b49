//! What would become of a packet, and why: for people who ask.
//!
//! [`explain`] asks the functions that decide, in the order in which the worker asks them, and works on a packet
//! of its own; nothing that packets leave behind (sessions, mappings, quotas, counters, rates) changes by it. So
//! anyone who may look at the tables may ask.
//!
//! Not foreseen is what only the worker knows: whether its budget of ICMP errors is spent, whether a fragment
//! completes its packet, and which of several free ports a new mapping draws.

use std::net::Ipv4Addr;

use flow_table::Pass;
use forwarding::{NeighbourRef, Neighbours, Route};
use nat::{Direction, Foreseen, NextHop, OpenRequest, Origin, SessionHit, SessionInfo};
use nat::{SessionKey, Standing, Tables, Translation};
use packet::icmp::ErrorKind;
use packet::{
    Datagram, DropReason, Endpoint, Instant, LinkId, MacAddr, PacketBuf, Parsed, PuntReason,
    Segment, Side, parse,
};

use crate::egress::Way;
use crate::judge::{Judge, Opening, Passage, Ruling, Told};
use crate::path::{self, Received};
use crate::rules::RuleId;
use crate::snapshot::{LinkFacts, Snapshot};
use crate::step::host_of;
use crate::verdict::Verdict;
use crate::{mss, size};

/// What an explanation looks at.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// Sessions and mappings.
    pub tables: &'a Tables,
    /// A pass of an observer of the tables.
    pub pass: &'a Pass<'a>,
    /// Who is on the links. Whoever is asked about counts as used, as by a packet.
    pub neighbours: &'a Neighbours,
    /// The configuration in force.
    pub snapshot: &'a Snapshot,
    /// The time at which the packet would come.
    pub now: Instant,
}

/// What would become of a packet, and why. What does not apply is `None`.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What would become of it.
    pub verdict: Verdict,
    /// Why it would be dropped, or answered instead.
    pub reason: Option<DropReason>,
    /// Whether its sender would hear of it in six seconds, unless the port is opened until then.
    pub is_answered_late: bool,
    /// The packet as it was read.
    pub datagram: Option<Datagram>,
    /// Its flow.
    pub flow: FlowFate,
    /// What its addresses become.
    pub translated: Option<Translated>,
    /// What allowed or refused it.
    pub decider: Option<Decider>,
    /// The way that it takes.
    pub hop: Option<Hop>,
    /// The MSS that it promises, and what that becomes.
    pub mss: Option<(u16, u16)>,
    /// It leaves in fragments of at most so many bytes.
    pub cut_to: Option<u16>,
    /// Where it is shaped, if that way is.
    pub queue: Option<Queue>,
}

/// The flow of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowFate {
    /// It has none and opens none.
    None,
    /// It is there.
    Known(SessionInfo),
    /// The packet opens it.
    Opens(Direction),
    /// It is of a connection from outside that is not open yet.
    Pending,
    /// It is an error about a packet of a flow.
    About,
}

/// The endpoints that a packet leaves with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translated {
    /// Its source; of a mapping that draws its port, only the address is known.
    pub source: Endpoint,
    /// Its destination.
    pub destination: Endpoint,
    /// Where the external source comes from, if the flow is new.
    pub origin: Option<Origin>,
}

/// What decided whether a flow may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decider {
    /// A rule, by its position in the file, from 0.
    Rule(usize),
    /// No rule; the policy between zones.
    Zones,
    /// No rule; the forward or mapping that leads inside.
    Translation,
}

/// The way that a packet takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The route, if it was found by one.
    pub route: Option<Route>,
    /// The link that it leaves by.
    pub egress: LinkId,
    /// Whom it is handed to there.
    pub next_hop: Ipv4Addr,
    /// The station; `None` while nobody knows it.
    pub mac: Option<MacAddr>,
}

/// A queue of a shaper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queue {
    /// Which shaper.
    pub way: Way,
    /// The inside host that it is queued for; `None`: what has no flow shares one queue.
    pub host: Option<Ipv4Addr>,
}

/// Says what would become of a packet that arrived now on its `ingress`.
#[must_use]
pub fn explain(packet: PacketBuf, sight: Sight<'_>) -> Explanation {
    let Sight { tables, pass, neighbours, snapshot, now } = sight;
    let datagram = match path::receive(&packet, snapshot) {
        Ok(Received::Whole(datagram)) => datagram,
        Ok(Received::Part(_)) => return Explanation::of(Verdict::Hold),
        Err(verdict) => return Explanation::of(verdict),
    };
    let side = if packet.ingress == LinkId::WAN { Side::Outside } else { Side::Inside };
    let judge = Judge { tables, neighbours, pass, snapshot, side, now };
    let told = Explanation { datagram: Some(datagram), ..Explanation::of(Verdict::Hold) };
    let mut case = Case { judge, packet, datagram, told };
    let verdict = case.decide();
    case.told.concluded(verdict)
}

/// The source of a frame's packet, where it can be read.
#[must_use]
pub fn source_of(packet: &PacketBuf) -> Option<Ipv4Addr> {
    match parse(packet.frame(), packet.offload).ok()? {
        Parsed::Ipv4(datagram) => Some(datagram.source.address),
        Parsed::Fragment(fragment) => Some(fragment.source),
        Parsed::Arp(arp) => Some(arp.sender),
    }
}

impl Explanation {
    fn of(verdict: Verdict) -> Self {
        let nothing = Self {
            verdict,
            reason: None,
            is_answered_late: false,
            datagram: None,
            flow: FlowFate::None,
            translated: None,
            decider: None,
            hop: None,
            mss: None,
            cut_to: None,
            queue: None,
        };
        nothing.concluded(verdict)
    }

    fn concluded(self, verdict: Verdict) -> Self {
        let reason = match verdict {
            Verdict::Drop(reason) => Some(reason),
            _ => self.reason,
        };
        Self { verdict, reason, ..self }
    }
}

/// A packet, and what was found out about it so far.
struct Case<'a> {
    judge: Judge<'a>,
    /// Becomes what leaves, as far as somebody asks about it.
    packet: PacketBuf,
    datagram: Datagram,
    told: Explanation,
}

/// Mirrors [`Step`](crate::step::Step): the same questions in the same order.
impl<'a> Case<'a> {
    fn decide(&mut self) -> Verdict {
        let key = SessionKey(self.datagram.key(self.judge.side));
        let hash = self.judge.tables.sessions().hash(&key);
        match self.judge.flow_of(&self.datagram, hash) {
            Some(hit) if hit.value().generation() == self.judge.snapshot.generation => {
                self.forward(&hit, None)
            }
            Some(hit) => self.check_again(&hit),
            None => self.first(None),
        }
    }

    fn check_again(&mut self, hit: &SessionHit<'a>) -> Verdict {
        let standing = self.judge.standing(&self.datagram, hit);
        match standing {
            None => self.forward(hit, None),
            Some(Standing::Void) if self.judge.shuts_out(&self.datagram, hit) => self.shut_out(hit),
            Some(Standing::Void) => self.first(Some(hit)),
            Some(standing) => match standing.refusal() {
                Some(reason) => reason.into(),
                None => self.forward(hit, self.judge.rerouted(hit.value())),
            },
        }
    }

    fn shut_out(&mut self, hit: &SessionHit<'a>) -> Verdict {
        if hit.side() == 1 {
            return DropReason::RuleDenied.into();
        }
        match self.judge.first(&self.packet, &self.datagram) {
            Ruling::Open(_) => DropReason::RuleDenied.into(),
            ruling => self.carry(ruling),
        }
    }

    fn forward(&mut self, hit: &SessionHit<'a>, neighbour: Option<NeighbourRef>) -> Verdict {
        let flow = hit.value();
        let Judge { tables, pass, snapshot, now, .. } = self.judge;
        self.told.flow = FlowFate::Known(tables.info(pass, hit, now, &snapshot.nat.timeouts));
        let known = NeighbourRef::from_bits(flow.next_hop().neighbour);
        let neighbour = neighbour.unwrap_or(known);
        match self.judge.passage_by(&self.packet, &self.datagram, hit, neighbour) {
            Ok(Passage::Out(egress, mac) | Passage::OutAnew(egress, mac, _)) => {
                self.translate(flow.source(), flow.destination(), None);
                self.send((flow.next_hop().egress, egress, mac), flow.destination().address, true)
            }
            Ok(Passage::Deliver) => {
                self.translate(flow.source(), flow.destination(), None);
                Verdict::Punt(PuntReason::Local)
            }
            Err(ruling) => self.carry(ruling),
        }
    }

    /// A packet that no flow is known for, or none but one that ends.
    fn first(&mut self, ending: Option<&SessionHit<'a>>) -> Verdict {
        match self.judge.first(&self.packet, &self.datagram) {
            Ruling::Open(opening) => self.open(&opening, ending),
            ruling => self.carry(ruling),
        }
    }

    fn open(&mut self, opening: &Opening, ending: Option<&SessionHit<'a>>) -> Verdict {
        let Opening { translation, forward, reverse, rule } = *opening;
        let (packet, datagram) = (&self.packet, &self.datagram);
        let is_own = packet.ingress == LinkId::LOCAL;
        let allowed = match translation {
            Translation::Outbound | Translation::Routed => (!is_own).then_some(Decider::Zones),
            _ => Some(Decider::Translation),
        };
        let segment = Segment::read(packet.frame(), datagram);
        let ingress = packet.ingress;
        let request = OpenRequest { datagram, segment, ingress, translation, forward, reverse };
        let Judge { tables, pass, snapshot, now, .. } = self.judge;
        let foreseen = tables.foresee(pass, &request, &snapshot.nat, now, ending);
        self.told.decider = rule.map(|rule| self.rule(rule)).or(allowed);
        match foreseen {
            Ok(Foreseen { direction, source, destination, origin }) => {
                self.told.flow = FlowFate::Opens(direction);
                self.translate(source, destination, origin);
                self.address(forward, destination.address, true)
            }
            Err(reason) => self.carry(self.judge.refused(reason)),
        }
    }

    /// What becomes of a packet that opens no flow.
    fn carry(&mut self, ruling: Ruling) -> Verdict {
        match ruling {
            Ruling::Final(verdict) => self.end(verdict),
            Ruling::Local(rule) => {
                self.told.decider = rule.map(|rule| self.rule(rule));
                Verdict::Punt(PuntReason::Local)
            }
            Ruling::Denied(denial) => {
                self.told.decider = Some(self.rule(denial.rule));
                match denial.told(&self.datagram) {
                    Told::Nothing => denial.reason.into(),
                    Told::Reset => self.reset(denial.reason),
                    Told::Icmp(kind) => self.reply(kind, denial.reason),
                }
            }
            Ruling::Answer(kind, otherwise) => self.reply(kind, otherwise),
            Ruling::AnswerLater(reason) => {
                self.told.is_answered_late = true;
                reason.into()
            }
            Ruling::Own(hop) => self.address(hop, self.datagram.destination.address, false),
            Ruling::Relay(relay, hop) => {
                self.told.flow = FlowFate::Pending;
                if self.judge.side == Side::Outside {
                    self.told.decider = Some(Decider::Translation);
                }
                let (source, destination) = relay.endpoints();
                self.translate(source, destination, None);
                self.address(hop, destination.address, false)
            }
            Ruling::Error => self.translate_error(),
            Ruling::PendingError(error, hop) => {
                self.told.flow = FlowFate::Pending;
                self.packet.set_len(self.datagram.end as usize);
                error.apply(&mut self.packet, &self.datagram);
                self.read_again();
                self.address(hop, error.destination(), false)
            }
            Ruling::Open(_) => unreachable!("the caller opens flows"),
        }
    }

    fn end(&mut self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Resolve(egress, next_hop) => {
                let route = self.judge.snapshot.routes.lookup(self.datagram.destination.address);
                let route = route.filter(|route| route.egress == egress).copied();
                self.told.hop = Some(Hop { route, egress, next_hop, mac: None });
            }
            Verdict::Drop(DropReason::PolicyDenied) => self.told.decider = Some(Decider::Zones),
            _ => {}
        }
        verdict
    }

    fn translate_error(&mut self) -> Verdict {
        let Judge { tables, pass, snapshot, side, .. } = self.judge;
        self.told.flow = FlowFate::About;
        self.packet.set_len(self.datagram.end as usize);
        let datagram = &self.datagram;
        match tables.translate_error(pass, &mut self.packet, datagram, side, &snapshot.nat) {
            Ok(hop) => {
                let destination = self.read_again();
                if hop.egress == LinkId::LOCAL {
                    return Verdict::Punt(PuntReason::Local);
                }
                self.address(hop, destination, false)
            }
            Err(reason) => reason.into(),
        }
    }

    /// Reads what the packet was rewritten to; its destination.
    fn read_again(&mut self) -> Ipv4Addr {
        if let Ok(Parsed::Ipv4(now)) = parse(self.packet.frame(), self.packet.offload) {
            self.translate(now.source, now.destination, None);
            return now.destination.address;
        }
        self.datagram.destination.address
    }

    fn address(&mut self, hop: NextHop, destination: Ipv4Addr, has_flow: bool) -> Verdict {
        match self.judge.addressed(hop) {
            Ok((egress, mac)) => self.send((hop.egress, egress, mac), destination, has_flow),
            Err(reason) => reason.into(),
        }
    }

    /// The packet leaves by this link, to this station; `destination` is what it has then.
    fn send(
        &mut self,
        (link, egress, mac): (LinkId, &LinkFacts, MacAddr),
        destination: Ipv4Addr,
        has_flow: bool,
    ) -> Verdict {
        let snapshot = self.judge.snapshot;
        let route = snapshot.routes.lookup(destination).filter(|route| route.egress == link);
        let next_hop = route.map_or(destination, |route| route.next_hop(destination));
        self.told.hop = Some(Hop { route: route.copied(), egress: link, next_hop, mac: Some(mac) });
        self.packet.set_len(self.datagram.end as usize);
        if let Some(mss_max) = snapshot.mss_max(self.packet.ingress, link) {
            let before = mss::promised(&self.packet, &self.datagram);
            mss::clamp(&mut self.packet, &self.datagram, mss_max);
            let after = mss::promised(&self.packet, &self.datagram);
            self.told.mss = before.zip(after);
        }
        size::fit(&mut self.packet, &self.datagram, egress.mtu);
        self.told.cut_to = self.packet.fragment_max;
        let host =
            has_flow.then(|| host_of(self.datagram.source.address, destination, self.judge.side));
        let way = Way::between(self.packet.ingress, link);
        self.told.queue = way.map(|way| Queue { way, host });
        Verdict::Forward(link)
    }

    fn reply(&mut self, kind: ErrorKind, otherwise: DropReason) -> Verdict {
        if otherwise == DropReason::PolicyDenied {
            self.told.decider = Some(Decider::Zones);
        }
        self.told.reason = Some(otherwise);
        match self.judge.answers_from(&self.packet, &self.datagram) {
            Some(_) => Verdict::Reply(kind),
            None => otherwise.into(),
        }
    }

    fn reset(&mut self, otherwise: DropReason) -> Verdict {
        self.told.reason = Some(otherwise);
        match self.judge.resets_from(&self.packet, &self.datagram) {
            Some(_) => Verdict::Reset,
            None => otherwise.into(),
        }
    }

    fn translate(&mut self, source: Endpoint, destination: Endpoint, origin: Option<Origin>) {
        self.told.translated = Some(Translated { source, destination, origin });
    }

    fn rule(&self, rule: RuleId) -> Decider {
        Decider::Rule(self.judge.snapshot.rules.index_of(rule))
    }
}
