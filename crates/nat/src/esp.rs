//! ESP: whose the packets are that come in.
//!
//! An ESP packet names its security association by an SPI that its *receiver* chose (RFC 4303
//! §2.1), so nothing in a packet from outside says which host inside it answers, and neither SPI
//! can be changed. What comes in is therefore learnt (RFC 3715 §2.1 tells what that can't do; NAT
//! traversal over UDP, RFC 3948, needs none of this):
//!
//! - An **association out** is a session as any other: `A > R, SPI x`. Beside that it has one of
//!   [`PEER_ASSOCIATIONS_MAX`] numbered *places* toward its peer, by which those of a peer are found.
//! - An **association in**, `R > E, SPI y`, is a session of its own, in the *answer's place* of the
//!   same number. An unknown SPI goes to the association out toward its peer that has waited longest
//!   for an answer. So hosts that set up or renew their keys one after another each get their own.
//!   Who has waited for more than [`PATIENCE`] yields to those that came later: its peer has nothing
//!   to say, or does not know it.
//! - If none waits, and all that go to the peer are one host's, the packet is that host's: a peer
//!   may use new keys before the host does. Nothing is remembered then, for the host's own first
//!   packet is to wait for that SPI.
//! - Else nobody asked for it: only a 1:1 address that takes strangers gets it, whose host is known.
//!
//! ```text
//!               key 0                    key 1
//!   out         A > R, x    inside       place n of E > R        (rewritten back: R > A)
//!   in          R > E, y    outside      answer's place n of E > R
//! ```
//!
//! An association in lives as long as the one that it answers, whose host keeps it alive. Both are
//! found by keys of packets, without locks; who opens one is its owner.

use std::cmp::Reverse;
use std::net::Ipv4Addr;
use std::time::Duration;

use flow_table::{InsertError, Pass};
use packet::icmp::Embedded;
use packet::{
    Datagram, DropReason, Endpoint, External, FlowKey, Instant, Internal, Protocol, Side,
};

use crate::engine::{Engine, OpenRequest, Translation};
use crate::flow::{CONDEMNED, Direction, Flow, UNANSWERED};
use crate::mapping::ContactKey;
use crate::plan::{Plan, Planner};
use crate::tables::{SessionHit, SessionKey, Tables};
use crate::tick::{Tick, ticks};
use crate::{Inbound, Policy};

/// Associations out toward one peer that can be told apart, of all hosts together. Bounds what a
/// packet with an unknown SPI costs: a look-up for each.
pub(crate) const PEER_ASSOCIATIONS_MAX: u16 = 64;

/// How many of them one host may have: a gateway with sixteen tunnels to one peer, all of which are
/// renewing their keys.
pub(crate) const HOST_ASSOCIATIONS_MAX: usize = 32;

/// How much longer than another an association may have waited and still be answered before it. A
/// peer answers within a round trip, or with the next thing that it has to say.
const PATIENCE: Duration = Duration::from_secs(60);

/// Times to look again for somebody who waits, when other workers give answers to those that were
/// found; each failure means that another worker got on.
const RETRIES: usize = 4;

/// The mark of a session that is no association of a host with a peer: between LANs, or unasked to a
/// 1:1 address. Nobody looks its second name up: the reverse of an ESP packet is the key of another
/// association.
pub(crate) const UNPAIRED: u16 = u16::MAX;

/// The name of place `number`, from 1, among the associations from `external` to `peer`.
fn place(external: Ipv4Addr, peer: Ipv4Addr, number: u16) -> SessionKey {
    let pair = (Endpoint::new(external, 0), Endpoint::new(peer, 0));
    SessionKey(FlowKey::new(Protocol::Esp, pair.0, pair.1, Side::Outside).marked(number))
}

/// The name of what answers place `number`.
fn answer_place(external: Ipv4Addr, peer: Ipv4Addr, number: u16) -> SessionKey {
    let SessionKey(place) = place(external, peer, number);
    SessionKey(place.marked(PEER_ASSOCIATIONS_MAX + number))
}

/// Who an unknown SPI belongs to.
enum Meant<'p> {
    /// The host of the association out in this place, which has no answer yet.
    Waiting(SessionHit<'p>, u16),
    /// The only host that speaks with the peer; one of its associations in.
    Only(SessionHit<'p>),
}

/// The host inside that an association out is of.
fn host_of(out: &SessionHit<'_>) -> Ipv4Addr {
    out.key_at(0).0.source().address
}

/// When an association out was opened: no packet ever touches its second side.
fn opened(out: &SessionHit<'_>) -> Tick {
    out.value_at(1).seen()
}

impl Tables {
    /// The host inside that an ESP packet from outside is for.
    ///
    /// # Errors
    /// [`DropReason::NoMapping`] if nobody can be meant.
    pub(crate) fn resolve_esp(
        &self,
        pass: &Pass<'_>,
        datagram: &Datagram,
    ) -> Result<Internal, DropReason> {
        let address = match self.meant(pass, datagram)? {
            Meant::Waiting(out, _) => host_of(&out),
            Meant::Only(answer) => answer.value_at(0).destination().address,
        };
        Ok(Internal(Endpoint::new(address, datagram.destination.port)))
    }

    /// Whether a host asked for an ESP packet from outside.
    #[must_use]
    pub fn is_esp_asked_for(&self, pass: &Pass<'_>, datagram: &Datagram) -> bool {
        self.meant(pass, datagram).is_ok()
    }

    fn meant<'p>(
        &'p self,
        pass: &'p Pass<'_>,
        datagram: &Datagram,
    ) -> Result<Meant<'p>, DropReason> {
        let (external, peer) = (datagram.destination.address, datagram.source.address);
        let all = || self.associations(pass, external, peer);
        let answer_to =
            |number| self.sessions().lookup(pass, &answer_place(external, peer, number));
        let waiting = || all().filter(|(_, number)| answer_to(*number).is_none());
        if let Some(newest) = waiting().map(|(out, _)| opened(&out)).reduce(Tick::later) {
            let age = |out: &SessionHit<'_>| newest.since(opened(out));
            let patient = waiting().filter(|(out, _)| age(out) <= ticks(PATIENCE));
            let oldest = patient.min_by_key(|(out, _)| Reverse(age(out)));
            return oldest.map(|(out, number)| Meant::Waiting(out, number)).ok_or(LOST);
        }
        let (first, number) = all().next().ok_or(DropReason::NoMapping)?;
        let host = host_of(&first);
        let is_shared = all().any(|(out, _)| host_of(&out) != host);
        let answer = answer_to(number).filter(|_| !is_shared);
        answer.map(Meant::Only).ok_or(DropReason::NoMapping)
    }

    /// The places that an association out of `host` may take, if they are free.
    ///
    /// # Errors
    /// [`DropReason::HostQuota`].
    fn places_for(
        &self,
        pass: &Pass<'_>,
        (external, peer): (Ipv4Addr, Ipv4Addr),
        host: Ipv4Addr,
    ) -> Result<impl Iterator<Item = u16>, DropReason> {
        let all = self.associations(pass, external, peer);
        let of_host = all.filter(|(out, _)| host_of(out) == host).count();
        if of_host >= HOST_ASSOCIATIONS_MAX {
            return Err(DropReason::HostQuota);
        }
        // An answer that has outlived what it answered would be taken for one to us.
        let is_left = move |number: &u16| {
            self.sessions().lookup(pass, &answer_place(external, peer, *number)).is_none()
        };
        Ok((1..=PEER_ASSOCIATIONS_MAX).filter(is_left))
    }

    /// Whether an association out could be opened.
    ///
    /// # Errors
    /// As [`Self::places_for`]; [`DropReason::PeerTaken`] if no place is free.
    pub(crate) fn check_esp_out(&self, pass: &Pass<'_>, plan: &Plan) -> Result<(), DropReason> {
        let [key, _] = plan.keys();
        let ends = (plan.source().address, key.destination().address);
        let mut places = self.places_for(pass, ends, key.source().address)?;
        let is_free =
            |number| self.sessions().lookup(pass, &place(ends.0, ends.1, number)).is_none();
        if places.any(is_free) { Ok(()) } else { Err(DropReason::PeerTaken) }
    }

    /// Whether an ESP packet from outside opens an association in; else it goes to one that is there.
    ///
    /// # Errors
    /// [`DropReason::NoMapping`] or [`DropReason::SessionConflict`].
    pub(crate) fn opens_esp_in(
        &self,
        pass: &Pass<'_>,
        datagram: &Datagram,
    ) -> Result<bool, DropReason> {
        Ok(matches!(self.meant(pass, datagram)?, Meant::Waiting(..)))
    }

    /// The associations out from `external` to `peer`, with the numbers of their places.
    fn associations<'p>(
        &'p self,
        pass: &'p Pass<'_>,
        external: Ipv4Addr,
        peer: Ipv4Addr,
    ) -> impl Iterator<Item = (SessionHit<'p>, u16)> {
        let [contact, _] = contact(external, peer);
        // One look-up tells most strangers from peers, and how many there are to find.
        let known = self.contacts.lookup(pass, &contact).map_or(0, |hit| hit.value_at(0).count());
        let places = if known == 0 { 0 } else { PEER_ASSOCIATIONS_MAX };
        (1..=places)
            .filter_map(move |number| {
                let hit = self.sessions().lookup(pass, &place(external, peer, number))?;
                Some((hit, number))
            })
            .take(known as usize)
            .filter(|(out, _)| !out.value_at(0).happened(CONDEMNED))
    }

    /// The session whose packets keep one alive: the session itself, but of an association in the one
    /// that it answers; `None` if that is gone.
    pub(crate) fn keeper<'p>(
        &'p self,
        pass: &'p Pass<'_>,
        hit: &SessionHit<'p>,
    ) -> Option<SessionHit<'p>> {
        if !is_answer(hit) {
            return Some(*hit);
        }
        let SessionKey(name) = hit.key_at(1);
        let number = name.mark().checked_sub(PEER_ASSOCIATIONS_MAX)?;
        let place = place(name.source().address, name.destination().address, number);
        let out = self.sessions().lookup(pass, &place)?;
        (host_of(&out) == hit.value_at(0).destination().address).then_some(out)
    }

    /// Whether an association out was answered; `false` of any other session.
    pub(crate) fn is_answered(&self, pass: &Pass<'_>, hit: &SessionHit<'_>) -> bool {
        let SessionKey(name) = hit.key_at(1);
        let number = name.mark();
        if name.protocol() != Protocol::Esp || !(1..=PEER_ASSOCIATIONS_MAX).contains(&number) {
            return false;
        }
        let place = answer_place(name.source().address, name.destination().address, number);
        self.sessions().lookup(pass, &place).is_some()
    }

    /// The direction of an ICMP error about an ESP packet: back along the session that it was sent by.
    pub(crate) fn flow_of_esp_error<'p>(
        &'p self,
        pass: &'p Pass<'_>,
        inner: &Embedded,
        side: Side,
        policy: &Policy,
    ) -> Option<(&'p Flow, SessionHit<'p>)> {
        let key_of = |source, side| FlowKey::new(Protocol::Esp, source, inner.destination, side);
        let lookup = |key| self.sessions().lookup(pass, &SessionKey(key));
        if side == Side::Outside {
            let (external, peer) = (inner.source.address, inner.destination.address);
            let is_it = |out: &SessionHit<'_>| {
                let SessionKey(key) = out.key_at(0);
                let ports = (key.source().port, key.destination().port);
                ports == (inner.source.port, inner.destination.port)
            };
            let mut all = self.associations(pass, external, peer);
            return all.find(|(out, _)| is_it(out)).map(|(out, _)| (out.value_at(1), out));
        }
        if let Some(routed) = lookup(key_of(inner.source, Side::Inside)) {
            return Some((routed.value_at(1), routed));
        }
        let host = Internal(inner.destination);
        let external = match policy.static_of(host) {
            Some(external) => external.0,
            None => {
                let pair = policy.pool.paired(policy.external?, host.0.address);
                Endpoint::new(pair, host.0.port)
            }
        };
        let key = FlowKey::new(Protocol::Esp, inner.source, external, Side::Outside);
        let answer = lookup(key)?;
        let is_it = answer.value_at(0).destination() == inner.destination;
        is_it.then(|| (answer.value_at(1), answer))
    }
}

impl Engine {
    /// Opens a session for an ESP packet: [`Engine::open`] for what has no ports.
    pub(crate) fn open_esp<'p>(
        &mut self,
        pass: &'p Pass<'_>,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<SessionHit<'p>, DropReason> {
        match request.translation {
            Translation::Outbound | Translation::Routed => {}
            Translation::Inbound(_) => return self.open_esp_in(pass, request, policy, now),
            Translation::Accepted(_) => return Err(DropReason::NoMapping),
            Translation::Hairpin(_) => return Err(DropReason::HairpinUnsupported),
        }
        let host = self.admit_host(request, policy, now)?;
        let opened = self.open_esp_from_inside(pass, request, policy, now);
        if !matches!(opened, Ok((_, true))) {
            self.tables.sessions_of.release_one(host);
        }
        opened.map(|(hit, _)| hit)
    }

    /// Opens a session for an ESP packet from inside; says whether it is new.
    fn open_esp_from_inside<'p>(
        &mut self,
        pass: &'p Pass<'_>,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<(SessionHit<'p>, bool), DropReason> {
        let plan = self.plan(pass, request, policy, now)?;
        let opened = if request.translation == Translation::Routed {
            let [key, _] = plan.keys();
            let keys = [key, key.marked(UNPAIRED)].map(SessionKey);
            let values = plan.flows(request, policy, now);
            finish(self.owners.sessions.insert(pass, keys, values), &plan)
        } else {
            self.open_esp_out(pass, request, &plan, policy, now)
        };
        if !matches!(opened, Ok((_, true))) {
            self.tables.release(pass, &plan.bonds(), now);
        }
        opened
    }

    /// Opens an association out in the first place that is free; says whether it is new.
    fn open_esp_out<'p>(
        &mut self,
        pass: &'p Pass<'_>,
        request: &OpenRequest<'_>,
        plan: &Plan,
        policy: &Policy,
        now: Instant,
    ) -> Result<(SessionHit<'p>, bool), DropReason> {
        let [key, _] = plan.keys();
        let (host, peer) = (key.source().address, key.destination().address);
        let external = plan.source().address;
        for number in self.tables.places_for(pass, (external, peer), host)? {
            let keys = [SessionKey(key), place(external, peer, number)];
            let values = plan.flows(request, policy, now);
            match self.owners.sessions.insert(pass, keys, values) {
                Err(InsertError::Exists { side: 1, .. }) => {}
                other => return finish(other, plan),
            }
        }
        Err(DropReason::PeerTaken)
    }

    fn open_esp_in<'p>(
        &mut self,
        pass: &'p Pass<'_>,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<SessionHit<'p>, DropReason> {
        let datagram = request.datagram;
        let (external, peer) = (datagram.destination.address, datagram.source.address);
        for _ in 0..RETRIES {
            let meant = match self.tables.meant(pass, datagram) {
                Err(DropReason::NoMapping) => {
                    return self.open_esp_unasked(pass, request, policy, now);
                }
                meant => meant?,
            };
            let (host, number) = match meant {
                Meant::Only(answer) => {
                    let key = answer.key_at(0);
                    return self.owners.sessions.lookup(pass, &key).ok_or(LOST);
                }
                Meant::Waiting(out, number) => (host_of(&out), number),
            };
            if request.translation != inbound_to(host, datagram) {
                return Err(LOST);
            }
            let plan = Plan::of_esp_in(datagram, host, request.forward.egress);
            let [key, _] = plan.keys();
            let keys = [SessionKey(key), answer_place(external, peer, number)];
            let values = plan.flows(request, policy, now);
            let holder = self.admit_host(request, policy, now)?;
            let inserted = self.owners.sessions.insert(pass, keys, values);
            let is_lost = matches!(inserted, Err(InsertError::Exists { side: 1, .. }));
            let opened = finish(inserted, &plan);
            if !matches!(opened, Ok((_, true))) {
                self.tables.sessions_of.release_one(holder);
            }
            if !is_lost {
                return opened.map(|(hit, _)| hit);
            }
        }
        Err(LOST)
    }

    /// Opens a session for an ESP packet to a 1:1 address that takes strangers.
    fn open_esp_unasked<'p>(
        &mut self,
        pass: &'p Pass<'_>,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<SessionHit<'p>, DropReason> {
        let datagram = request.datagram;
        let host = match policy.static_to(External(datagram.destination)) {
            Some((internal, Inbound::Allowed)) => internal.0.address,
            Some((_, Inbound::Refused)) | None => return Err(DropReason::NoMapping),
        };
        if request.translation != inbound_to(host, datagram) {
            return Err(LOST);
        }
        if !self.has_room_for_strangers() {
            return Err(DropReason::SessionTableFull);
        }
        let plan = Plan::of_esp_in(datagram, host, request.forward.egress);
        let [key, _] = plan.keys();
        let keys = [key, key.marked(UNPAIRED)].map(SessionKey);
        let values = plan.flows(request, policy, now);
        let holder = self.admit_host(request, policy, now)?;
        let opened = finish(self.owners.sessions.insert(pass, keys, values), &plan);
        match opened {
            Ok((hit, true)) => {
                hit.value().note(UNANSWERED);
                self.unanswered += 1;
            }
            Ok((_, false)) | Err(_) => self.tables.sessions_of.release_one(holder),
        }
        opened.map(|(hit, _)| hit)
    }
}

/// Another worker was faster; the peer's next packet finds what it did.
const LOST: DropReason = DropReason::SessionConflict;

fn inbound_to(host: Ipv4Addr, datagram: &Datagram) -> Translation {
    Translation::Inbound(Internal(Endpoint::new(host, datagram.destination.port)))
}

type Inserted<'p> = Result<SessionHit<'p>, InsertError<'p, SessionKey, Flow>>;

/// What an insertion came to: a session, new or the same by another worker, or why there is none.
fn finish<'p>(inserted: Inserted<'p>, plan: &Plan) -> Result<(SessionHit<'p>, bool), DropReason> {
    match inserted {
        Ok(hit) => Ok((hit, true)),
        Err(InsertError::Exists { side: 0, hit }) if plan.agrees_with(&hit) => Ok((hit, false)),
        Err(InsertError::Exists { .. }) => Err(DropReason::SessionConflict),
        Err(InsertError::Full | InsertError::BucketFull) => Err(DropReason::SessionTableFull),
    }
}

/// Whether a session is an association in that answers one out.
#[must_use]
pub fn is_answer(hit: &SessionHit<'_>) -> bool {
    comes_in(hit) && hit.key_at(1).0.mark() != UNPAIRED
}

/// Whether nobody may open an ESP session from outside any more that nobody inside asked for.
pub(crate) fn is_barred(hit: &SessionHit<'_>, policy: &Policy) -> bool {
    let external = External(hit.key_at(0).0.destination());
    comes_in(hit) && !is_answer(hit) && policy.refuses_strangers(Protocol::Esp, external)
}

fn comes_in(hit: &SessionHit<'_>) -> bool {
    hit.key_at(0).0.protocol() == Protocol::Esp && hit.value_at(0).direction() == Direction::Inbound
}

/// The contact that counts the associations out from `external` to `peer`.
fn contact(external: Ipv4Addr, peer: Ipv4Addr) -> [ContactKey; 2] {
    ContactKey::new(Protocol::Esp, External(Endpoint::new(external, 0)), peer)
}
