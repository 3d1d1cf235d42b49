//! One packet's decision, carried out.

use std::net::Ipv4Addr;

use config::Logging;
use flow_table::Hash;
use forwarding::NeighbourRef;
use nat::{Engine, NextHop, OpenRequest, Relay, Revalidation, SessionHit, Standing, Tables};
use packet::gso;
use packet::header::{ipv4, put_macs, put_u16, seal_ipv4};
use packet::icmp::{self, ErrorKind};
use packet::reset;
use packet::{
    Datagram, DropReason, Headers, Instant, L4, LinkId, MacAddr, PacketBuf, Parsed, Plain,
    PuntReason, Segment, Side, UdpHeaders, parse,
};

use crate::counters::Counters;
use crate::ids::Identifications;
use crate::judge::{self, Judge, Opening, Passage, Ruling, Told};
use crate::limit::IcmpLimit;
use crate::path::Lane;
use crate::rings::Rings;
use crate::rules::{Denial, LOG_PACE, RuleId, RuleMatch, RuleOutcome};
use crate::snapshot::{LinkFacts, Snapshot};
use crate::unsolicited::Unsolicited;
use crate::verdict::Verdict;
use crate::{mss, size};

/// Whom a packet is queued for: fair queueing is by inside host, then by flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tag {
    /// The inside host's address.
    pub host: u32,
    /// The session.
    pub flow: u32,
}

/// What a packet may change.
pub(crate) struct Step<'a> {
    pub engine: &'a mut Engine,
    pub tables: &'a Tables,
    pub limit: &'a mut IcmpLimit,
    pub ids: &'a mut Identifications,
    pub unsolicited: &'a mut Unsolicited,
    pub counters: &'a Counters,
    pub rings: &'a Rings,
    /// When the log has recovered from what was written.
    pub log_full_at: &'a mut u64,
    pub judge: Judge<'a>,
    pub snapshot: &'a Snapshot,
    pub now: Instant,
    pub side: Side,
}

impl<'a> Step<'a> {
    /// What [`Self::pass_on`] leaves, and all other shapes.
    #[inline(never)]
    pub fn consider(&mut self, packet: &mut PacketBuf, lane: &Lane) -> (Verdict, Tag) {
        match lane {
            Lane::Flow(datagram, hash) => self.decide(packet, datagram, *hash),
            Lane::Done(verdict) => (*verdict, Tag::default()),
        }
    }

    /// As [`Self::consider`], for a packet of plain shape.
    #[inline(never)]
    pub fn consider_plain(
        &mut self,
        packet: &mut PacketBuf,
        plain: &Plain,
        hash: Hash,
    ) -> (Verdict, Tag) {
        self.decide(packet, &plain.datagram(packet.frame()), hash)
    }

    /// Looks the packet's flow up, opens one if it may, and rewrites the packet.
    #[inline]
    pub fn decide(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hash: Hash,
    ) -> (Verdict, Tag) {
        let opened = match self.judge.flow_of(datagram, hash) {
            Some(hit) if hit.value().generation() == self.snapshot.generation => Ok(hit),
            Some(hit) => self.check_again(packet, datagram, hit),
            None => self.open(packet, datagram),
        };
        match opened {
            Ok(hit) => (self.forward(packet, datagram, hit), Tag::of(datagram, &hit, self.side)),
            Err(verdict) => (verdict, Tag::default()),
        }
    }

    /// Rewrites a packet of plain shape and of a known flow, if there is nothing to consider: what [`Self::decide`]
    /// would do, in a fraction of the instructions. `None`, and nothing done, where there may be.
    #[inline(always)]
    pub fn pass_on(
        &mut self,
        packet: &mut PacketBuf,
        plain: &Plain,
        hit: SessionHit<'a>,
    ) -> Option<LinkId> {
        let flow = hit.value();
        let next = flow.next_hop();
        let egress = self.snapshot.link(next.egress)?;
        let is_clear = flow.generation() == self.snapshot.generation
            && flow.ingress() == packet.ingress
            && plain.ip_len <= egress.mtu;
        if !is_clear {
            return None;
        }
        let mac = self.judge.neighbours.resolve_word(NeighbourRef::from_bits(next.neighbour))?;
        self.assert_agreed(packet, &hit, (egress, mac.into()));
        let (bytes, is_partial) = (packet.len() as u64, packet.offload.checksum.is_some());
        packet.truncate(plain.frame_len());
        packet.egress = next.egress;
        match plain.headers(packet.frame_mut()) {
            Headers::Udp(headers) => {
                flow.touch(self.now, bytes, 1);
                flow.apply_plain_udp(headers, is_partial);
                mac.put_before(egress.mac, headers);
                self.ids.renumber_plain(headers, plain);
            }
            Headers::Tcp(headers) => {
                nat::touch_tcp(hit, &plain.segment(headers), self.now, bytes, 1);
                flow.apply_plain_tcp(headers, is_partial);
                let headers: &mut UdpHeaders = headers.first_chunk_mut().expect("TCP's are longer");
                mac.put_before(egress.mac, headers);
                self.ids.renumber_plain(headers, plain);
            }
        }
        Some(next.egress)
    }

    /// In a debug build, whoever decides must be of the same opinion.
    #[inline(always)]
    fn assert_agreed(
        &self,
        packet: &PacketBuf,
        hit: &SessionHit<'a>,
        (egress, mac): (&LinkFacts, MacAddr),
    ) {
        if cfg!(debug_assertions) {
            let Ok(Parsed::Ipv4(datagram)) = parse(packet.frame(), packet.offload) else {
                panic!("a plain packet has no fault")
            };
            match self.judge.passage(packet, &datagram, hit) {
                Ok(Passage::Out(link, to)) => assert_eq!((link, to), (egress, mac)),
                _ => panic!("the judge does not let it pass"),
            }
        }
    }

    /// Checks a flow that was made under another configuration. What no longer agrees is opened anew, if it
    /// may.
    #[cold]
    fn check_again(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hit: SessionHit<'a>,
    ) -> Result<SessionHit<'a>, Verdict> {
        match self.judge.standing(datagram, &hit) {
            // The next packet of the other direction will tell.
            None => return Ok(hit),
            Some(Standing::Void) if self.judge.shuts_out(datagram, &hit) => {
                return Err(self.shut_out(packet, datagram, &hit));
            }
            Some(Standing::Void) => {
                return match self.engine.void(self.judge.pass, &hit, self.now) {
                    Revalidation::Drop(reason) => Err(reason.into()),
                    Revalidation::Current | Revalidation::Gone => self.open(packet, datagram),
                };
            }
            Some(Standing::Agrees | Standing::Condemned | Standing::Waits) => {}
        }
        match self.engine.revalidate(self.judge.pass, &hit, &self.snapshot.nat, self.now) {
            Revalidation::Current => {
                self.reroute(&hit);
                Ok(hit)
            }
            Revalidation::Gone => self.open(packet, datagram),
            Revalidation::Drop(reason) => Err(reason.into()),
        }
    }

    /// Refuses a packet of a flow from outside that rules now forbid. The flow stays, mute, until its time is over:
    /// without it the host's next packet would open one outwards, by which the stranger were in again.
    fn shut_out(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hit: &SessionHit<'a>,
    ) -> Verdict {
        if hit.side() == 1 {
            return DropReason::RuleDenied.into();
        }
        match self.judge.first(packet, datagram) {
            Ruling::Open(_) => DropReason::RuleDenied.into(),
            ruling => self.refuse(packet, datagram, ruling),
        }
    }

    /// Points both directions of a flow at the next hops of today's routes.
    fn reroute(&self, hit: &SessionHit<'a>) {
        for flow in [hit.value_at(0), hit.value_at(1)] {
            if let Some(neighbour) = self.judge.rerouted(flow) {
                flow.set_neighbour(neighbour.to_bits());
            }
        }
    }

    /// Rewrites a packet of a flow. Until the neighbour is known the packet stays untouched, for it may come
    /// back from the control thread.
    #[inline]
    fn forward(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hit: SessionHit<'a>,
    ) -> Verdict {
        match self.judge.passage(packet, datagram, &hit) {
            Ok(Passage::Out(egress, mac)) => self.send(packet, datagram, hit, (egress, mac)),
            Ok(Passage::OutAnew(egress, mac, neighbour)) => {
                hit.value().set_neighbour(neighbour.to_bits());
                self.send(packet, datagram, hit, (egress, mac))
            }
            Ok(Passage::Deliver) => self.deliver(packet, datagram, hit),
            Err(ruling) => self.refuse(packet, datagram, ruling),
        }
    }

    #[inline]
    fn send(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hit: SessionHit<'a>,
        (egress, mac): (&LinkFacts, MacAddr),
    ) -> Verdict {
        let flow = hit.value();
        let link = flow.next_hop().egress;
        self.note(packet, datagram, hit);
        packet.set_len(datagram.end as usize);
        if let Some(mss_max) = self.snapshot.mss_max(packet.ingress, link) {
            mss::clamp(packet, datagram, mss_max);
        }
        flow.apply(packet, datagram);
        put_macs(packet.frame_mut(), mac, egress.mac);
        size::fit(packet, datagram, egress.mtu);
        self.ids.renumber(packet, datagram);
        Verdict::Forward(link)
    }

    /// Rewrites a packet of a flow of the router itself. What arrives has arrived, however low its TTL.
    fn deliver(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hit: SessionHit<'a>,
    ) -> Verdict {
        self.note(packet, datagram, hit);
        if datagram.ttl <= 1 {
            let (l3, l4) = (usize::from(datagram.l3), usize::from(datagram.l4));
            let frame = packet.frame_mut();
            // The rewrite lowers it.
            frame[l3 + ipv4::TTL] = 2;
            seal_ipv4(frame, l3, l4 - l3);
        }
        if let Some(mss_max) = self.snapshot.mss_max(packet.ingress, LinkId::LOCAL) {
            mss::clamp(packet, datagram, mss_max);
        }
        hit.value().apply(packet, datagram);
        Verdict::Punt(PuntReason::Local)
    }

    /// Counts a packet and follows its connection's state.
    #[inline]
    fn note(&self, packet: &PacketBuf, datagram: &Datagram, hit: SessionHit<'a>) {
        let (bytes, packets) = gso::wire_size(packet, datagram.headers_len());
        let (bytes, packets) = (bytes as u64, packets as u64);
        match (Segment::read(packet.frame(), datagram), datagram.transport) {
            (Some(segment), _) => nat::touch_tcp(hit, &segment, self.now, bytes, packets),
            (None, L4::Sctp(chunk)) => nat::touch_sctp(&hit, chunk, self.now, bytes, packets),
            (None, _) => hit.value().touch(self.now, bytes, packets),
        }
    }

    #[cold]
    fn open(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
    ) -> Result<SessionHit<'a>, Verdict> {
        match self.judge.first(packet, datagram) {
            Ruling::Open(opening) => self.open_flow(packet, datagram, opening),
            ruling => Err(self.refuse(packet, datagram, ruling)),
        }
    }

    fn open_flow(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        opening: Opening,
    ) -> Result<SessionHit<'a>, Verdict> {
        let Opening { translation, forward, reverse, rule } = opening;
        let (ingress, segment) = (packet.ingress, Segment::read(packet.frame(), datagram));
        let request = OpenRequest { datagram, segment, ingress, translation, forward, reverse };
        match self.engine.open(self.judge.pass, &request, &self.snapshot.nat, self.now) {
            Ok(opened) => {
                self.counters.opened.add(1);
                self.note_allowed(datagram, ingress, rule);
                Ok(opened)
            }
            Err(reason) => {
                self.counters.refused.add(u64::from(judge::is_shortage(reason)));
                Err(self.refuse(packet, datagram, self.judge.refused(reason)))
            }
        }
    }

    fn note_allowed(&mut self, datagram: &Datagram, ingress: LinkId, rule: Option<RuleId>) {
        let Some(rule) = rule else { return };
        if self.snapshot.rules.note_allowed(rule, self.now) == Logging::On {
            self.log(datagram, ingress, rule, RuleOutcome::Allowed);
        }
    }

    /// Carries a rule's refusal out.
    fn deny(&mut self, packet: &mut PacketBuf, datagram: &Datagram, denial: Denial) -> Verdict {
        if self.snapshot.rules.note_denied(&denial) == Logging::On {
            let outcome = match denial.reason {
                DropReason::RuleRate => RuleOutcome::Limited,
                _ => RuleOutcome::Refused,
            };
            self.log(datagram, packet.ingress, denial.rule, outcome);
        }
        match denial.told(datagram) {
            Told::Nothing => denial.reason.into(),
            Told::Reset => self.reset(packet, datagram, denial.reason),
            Told::Icmp(kind) => self.reply(packet, datagram, kind, denial.reason),
        }
    }

    /// Hands a match to the control thread, which writes it down; what comes too fast is only counted.
    fn log(&mut self, datagram: &Datagram, ingress: LinkId, rule: RuleId, outcome: RuleOutcome) {
        let entry = RuleMatch {
            index: self.snapshot.rules.index_of(rule),
            outcome,
            ingress,
            protocol: datagram.protocol() as u8,
            source: datagram.source,
            destination: datagram.destination,
        };
        if LOG_PACE.admits(*self.log_full_at, self.now) && self.rings.log(entry) {
            *self.log_full_at = LOG_PACE.spend(*self.log_full_at, self.now);
        } else {
            self.counters.unlogged.add(1);
        }
    }

    /// Carries out a ruling that opens no flow.
    fn refuse(&mut self, packet: &mut PacketBuf, datagram: &Datagram, ruling: Ruling) -> Verdict {
        match ruling {
            Ruling::Final(verdict) => verdict,
            Ruling::Local(rule) => {
                self.note_allowed(datagram, packet.ingress, rule);
                Verdict::Punt(PuntReason::Local)
            }
            Ruling::Denied(denial) => self.deny(packet, datagram, denial),
            Ruling::Answer(kind, otherwise) => self.reply(packet, datagram, kind, otherwise),
            Ruling::Own(hop) => self.send_own(packet, datagram, hop),
            Ruling::AnswerLater(reason) => {
                self.unsolicited.push(packet, datagram, self.now);
                reason.into()
            }
            Ruling::Error => self.translate_error(packet, datagram),
            Ruling::Relay(relay, hop) => self.relay(packet, datagram, &relay, hop),
            Ruling::PendingError(error, hop) => {
                packet.set_len(datagram.end as usize);
                error.apply(packet, datagram);
                self.address(packet, datagram, hop)
            }
            Ruling::Open(_) => unreachable!("the caller opens flows"),
        }
    }

    /// Rewrites a segment of a connection from outside that is not open yet. Until the neighbour is
    /// known the packet stays untouched, and nothing is noted.
    fn relay(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        relay: &Relay,
        hop: NextHop,
    ) -> Verdict {
        packet.set_len(datagram.end as usize);
        let verdict = self.address(packet, datagram, hop);
        if verdict != Verdict::Forward(hop.egress) {
            return verdict;
        }
        if let Some(mss_max) = self.snapshot.mss_max(packet.ingress, hop.egress) {
            mss::clamp(packet, datagram, mss_max);
        }
        relay.apply(packet, datagram);
        self.ids.renumber(packet, datagram);
        self.tables.note(relay);
        self.counters.relayed.add(1);
        verdict
    }

    /// Translates an ICMP error by the flow of the packet that it embeds.
    fn translate_error(&mut self, packet: &mut PacketBuf, datagram: &Datagram) -> Verdict {
        packet.set_len(datagram.end as usize);
        let nat = &self.snapshot.nat;
        match self.tables.translate_error(self.judge.pass, packet, datagram, self.side, nat) {
            Ok(hop) if hop.egress == LinkId::LOCAL => Verdict::Punt(PuntReason::Local),
            Ok(hop) => self.address(packet, datagram, hop),
            Err(reason) => reason.into(),
        }
    }

    /// Sends the router's own packet on. Whoever made a packet may cut it, even if nobody else may.
    fn send_own(&mut self, packet: &mut PacketBuf, datagram: &Datagram, hop: NextHop) -> Verdict {
        let mtu = self.snapshot.link(hop.egress).map_or(u16::MAX, |egress| egress.mtu);
        if datagram.dont_fragment && !size::fits(packet, datagram, mtu) {
            let (l3, l4) = (usize::from(datagram.l3), usize::from(datagram.l4));
            let frame = packet.frame_mut();
            put_u16(frame, l3 + ipv4::FRAGMENT, 0);
            seal_ipv4(frame, l3, l4 - l3);
            self.ids.number(packet, datagram);
        }
        if let Some(mss_max) = self.snapshot.mss_max(LinkId::LOCAL, hop.egress) {
            mss::clamp(packet, datagram, mss_max);
        }
        self.address(packet, datagram, hop)
    }

    /// Writes the MAC addresses of a packet that is otherwise ready.
    fn address(&mut self, packet: &mut PacketBuf, datagram: &Datagram, hop: NextHop) -> Verdict {
        match self.judge.addressed(hop) {
            Ok((egress, mac)) => {
                put_macs(packet.frame_mut(), mac, egress.mac);
                size::fit(packet, datagram, egress.mtu);
                self.ids.renumber(packet, datagram);
                Verdict::Forward(hop.egress)
            }
            Err(reason) => reason.into(),
        }
    }

    /// Turns the packet into an ICMP error about itself, if one may be sent.
    fn reply(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        kind: ErrorKind,
        otherwise: DropReason,
    ) -> Verdict {
        let Some((mac, address)) = self.judge.answers_from(packet, datagram) else {
            return otherwise.into();
        };
        let is_refusal = judge::is_shortage(otherwise) || otherwise == DropReason::PolicyDenied;
        let admitted = if is_refusal {
            self.limit.admit_refusal(self.now)
        } else {
            self.limit.admit(self.now)
        };
        if !admitted {
            return DropReason::IcmpRateLimited.into();
        }
        icmp::answer(packet, datagram, kind, mac, address);
        self.counters.link(packet.ingress).answered[otherwise.index()].add(1);
        Verdict::Reply(kind)
    }

    /// Turns a segment into the reset that answers it, if one may be sent.
    fn reset(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        otherwise: DropReason,
    ) -> Verdict {
        let Some(mac) = self.judge.resets_from(packet, datagram) else { return otherwise.into() };
        if !self.limit.admit(self.now) {
            return DropReason::IcmpRateLimited.into();
        }
        reset::answer(packet, datagram, mac);
        self.counters.link(packet.ingress).answered[otherwise.index()].add(1);
        Verdict::Reset
    }
}

impl Tag {
    /// Whom a packet of a flow is queued for.
    #[inline]
    fn of(datagram: &Datagram, hit: &SessionHit<'_>, side: Side) -> Self {
        let host = host_of(datagram.source.address, hit.value().destination().address, side);
        Self { host: u32::from(host), flow: hit.id().index() as u32 }
    }
}

/// The inside host that a packet is queued for, which came from `source` and leaves for `destination`.
#[inline]
pub(crate) fn host_of(source: Ipv4Addr, destination: Ipv4Addr, side: Side) -> Ipv4Addr {
    match side {
        Side::Inside => source,
        Side::Outside => destination,
    }
}
