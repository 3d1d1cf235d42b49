//! The slow path of one worker: opening, checking and ending sessions.

use flow_table::{EntryId, InsertError, Pass};
use packet::{Datagram, DropReason, External, Instant, Internal, L4, LinkId, Segment, Side};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Policy;
use crate::bonds::Bonds;
use crate::esp::is_barred;
use crate::flow::{CONDEMNED, Direction, NextHop, SYN, UNADMITTED, UNANSWERED};
use crate::handshake::Accepted;
use crate::plan::Planner;
use crate::state::{touch_sctp, touch_tcp};
use crate::tables::{Owners, SessionHit, SessionId, SessionKey, Tables};
use crate::upkeep::settle;

/// What is to become of a packet that has no session yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Translation {
    /// From inside to a remote endpoint: its source becomes external.
    Outbound,
    /// From outside, not TCP: its destination becomes this internal endpoint.
    Inbound(Internal),
    /// From outside: the third segment of a TCP handshake.
    Accepted(Accepted),
    /// From inside to the external endpoint of this internal endpoint: both are rewritten.
    Hairpin(Internal),
    /// From inside to inside, or exempt from inside to a remote endpoint: neither is rewritten.
    Routed,
}

/// The first packet of a session, and where the session's packets go.
#[derive(Clone, Copy, Debug)]
pub struct OpenRequest<'a> {
    /// The packet.
    pub datagram: &'a Datagram,
    /// Its TCP header, if it has one.
    pub segment: Option<Segment>,
    /// Where it arrived; [`LinkId::LOCAL`] from the router's own stack.
    pub ingress: LinkId,
    /// What to do.
    pub translation: Translation,
    /// Next hop of packets like this one.
    pub forward: NextHop,
    /// Next hop of the answers.
    pub reverse: NextHop,
}

/// What became of a session made under another policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revalidation {
    /// It agrees with the policy and says so from now on.
    Current,
    /// It did not and is gone: treat the packet as one without a session.
    Gone,
    /// The packet must be dropped.
    Drop(DropReason),
}

/// How a session stands to a policy that it was not made under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The policy would make it again.
    Agrees,
    /// The policy contradicts it: it must end, and the packet may open another.
    Void,
    /// Its owner is about to end it.
    Condemned,
    /// A hairpin whose target has not sent yet: the side's packets are dropped.
    Waits,
}

impl Standing {
    /// Why packets of such a session are dropped. One that is void makes room, one that agrees lets
    /// them pass.
    #[must_use]
    pub fn refusal(self) -> Option<DropReason> {
        match self {
            Self::Condemned => Some(DropReason::SessionConflict),
            Self::Waits => Some(DropReason::FilterDenied),
            Self::Agrees | Self::Void => None,
        }
    }
}

/// Entries that one worker's tables have room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Sessions.
    pub sessions: usize,
    /// Mappings; those at rest take room.
    pub mappings: usize,
    /// Pairs of mapping and remote address.
    pub contacts: usize,
}

/// One worker's right to open and end sessions.
pub struct Engine {
    pub(crate) tables: Tables,
    pub(crate) owners: Owners,
    pub(crate) rng: StdRng,
    /// Sessions from outside that were not seen to be answered yet.
    pub(crate) unanswered: usize,
    /// When upkeep last looked at an entry.
    pub(crate) upkept: Instant,
    /// When it has one to look at again.
    pub(crate) upkeep_at: Instant,
}

impl Engine {
    pub(crate) fn new(tables: Tables, owners: Owners, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let (upkept, upkeep_at) = (Instant::ZERO, Instant::ZERO);
        Self { tables, owners, rng, unanswered: 0, upkept, upkeep_at }
    }

    /// Draws a number that nobody outside can guess, for a secret of the caller's own.
    pub fn secret(&mut self) -> u64 {
        self.rng.random()
    }

    /// What all workers share.
    #[must_use]
    #[inline]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What this worker could still open.
    #[must_use]
    pub fn room(&self) -> Room {
        Room {
            sessions: self.owners.sessions.free(),
            mappings: self.owners.mappings.free(),
            contacts: self.owners.contacts.free(),
        }
    }

    /// Opens a session for a packet that has none. The caller then treats the packet as one that
    /// hit it.
    ///
    /// # Errors
    /// Why the packet must be dropped. After [`DropReason::FilterDenied`] of a hairpin there is a
    /// session nevertheless: the target may now send, as any remote endpoint might (RFC 4787
    /// REQ-9).
    pub fn open<'p>(
        &mut self,
        pass: &'p Pass<'_>,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<SessionHit<'p>, DropReason> {
        if request.datagram.transport == L4::Esp {
            return self.open_esp(pass, request, policy, now);
        }
        if matches!(request.translation, Translation::Inbound(_)) && !self.has_room_for_strangers()
        {
            return Err(DropReason::SessionTableFull);
        }
        let host = self.admit_host(request, policy, now)?;
        let plan = match self.plan(pass, request, policy, now) {
            Ok(plan) => plan,
            Err(reason) => {
                self.tables.sessions_of.release_one(host);
                return Err(reason);
            }
        };
        let values = plan.flows(request, policy, now);
        match self.owners.sessions.insert(pass, plan.keys().map(SessionKey), values) {
            Ok(hit) if plan.traits() & UNADMITTED != 0 => {
                match (&request.segment, request.datagram.transport) {
                    (Some(segment), _) => touch_tcp(hit, segment, now, 0, 0),
                    (None, L4::Sctp(chunk)) => touch_sctp(&hit, chunk, now, 0, 0),
                    (None, _) => {}
                }
                Err(DropReason::FilterDenied)
            }
            Ok(hit) => {
                match request.translation {
                    Translation::Inbound(_) => {
                        hit.value().note(UNANSWERED);
                        self.unanswered += 1;
                    }
                    Translation::Accepted(accepted) => shake_hands(&hit, &accepted),
                    Translation::Outbound | Translation::Hairpin(_) | Translation::Routed => {}
                }
                Ok(hit)
            }
            Err(error) => {
                self.tables.sessions_of.release_one(host);
                self.tables.release(pass, &plan.bonds(), now);
                match error {
                    InsertError::Exists { side: 0, hit } if plan.agrees_with(&hit) => {
                        if is_unadmitted(&hit) {
                            Err(DropReason::FilterDenied)
                        } else {
                            Ok(hit)
                        }
                    }
                    InsertError::Exists { side, .. } => Err(plan.conflict(side)),
                    InsertError::Full | InsertError::BucketFull => {
                        Err(DropReason::SessionTableFull)
                    }
                }
            }
        }
    }

    /// Checks a session whose side has another generation than the policy. Filters of the caller's
    /// own come first.
    pub fn revalidate(
        &mut self,
        pass: &Pass<'_>,
        hit: &SessionHit<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Revalidation {
        let [first, second] = [hit.value_at(0), hit.value_at(1)];
        let standing = standing(hit, policy);
        if matches!(standing, Standing::Waits | Standing::Agrees) {
            second.set_generation(policy.generation);
        }
        if let Some(reason) = standing.refusal() {
            return Revalidation::Drop(reason);
        }
        match standing {
            Standing::Void => self.void(pass, hit, now),
            Standing::Agrees | Standing::Waits | Standing::Condemned => {
                if !first.has(UNADMITTED) || second.packets() > 0 {
                    first.set_generation(policy.generation);
                }
                Revalidation::Current
            }
        }
    }

    /// Ends a session that a packet showed to be void, or has its owner end it.
    pub fn void(&mut self, pass: &Pass<'_>, hit: &SessionHit<'_>, now: Instant) -> Revalidation {
        if self.owners.sessions.owns(hit.id()) {
            // Already gone if an earlier packet of the batch was here before.
            self.end(pass, hit.id(), now);
            return Revalidation::Gone;
        }
        hit.value_at(0).note(CONDEMNED);
        Revalidation::Drop(DropReason::SessionConflict)
    }

    /// Ends a session of this worker; `false` if it is another's or gone, even if another session
    /// has its place meanwhile.
    pub fn kill(&mut self, pass: &Pass<'_>, id: SessionId, now: Instant) -> bool {
        id.find(&self.tables, pass).is_some() && self.end(pass, id.entry, now)
    }

    /// Ends the session that is in a place of this worker now.
    pub(crate) fn end(&mut self, pass: &Pass<'_>, id: EntryId, now: Instant) -> bool {
        if !self.owners.sessions.owns(id) {
            return false;
        }
        let Some(hit) = self.tables.sessions().by_id(pass, id) else { return false };
        self.tables.release_session(pass, &hit, now);
        settle(&hit, &mut self.unanswered);
        self.owners.sessions.remove(pass, id)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("tables", &self.tables).finish_non_exhaustive()
    }
}

/// Gives a session what its first two segments have shown.
fn shake_hands(hit: &SessionHit<'_>, accepted: &Accepted) {
    for (side, window) in accepted.windows().into_iter().enumerate() {
        hit.value_at(side).note(SYN);
        hit.value_at(side).set_window(window);
    }
}

/// Says how a session stands to a policy, for a packet of the side of `hit`; changes nothing.
#[must_use]
pub fn standing(hit: &SessionHit<'_>, policy: &Policy) -> Standing {
    if hit.value_at(0).happened(CONDEMNED) {
        Standing::Condemned
    } else if !Bonds::of(hit).agrees_with(policy)
        || !is_admitted(hit, policy)
        || is_barred(hit, policy)
        || !exemption_agrees(hit, policy)
    {
        Standing::Void
    } else if is_unadmitted(hit) {
        Standing::Waits
    } else {
        Standing::Agrees
    }
}

/// Whether the policy still lets a session leave untranslated, or still has it translated.
fn exemption_agrees(hit: &SessionHit<'_>, policy: &Policy) -> bool {
    let (key, first) = (hit.key_at(0).0, hit.value_at(0));
    let is_exempt = || policy.exempts(key.protocol(), key.source(), key.destination());
    match first.direction() {
        Direction::Routed if first.next_hop().egress == LinkId::WAN => {
            policy.external.is_some() && is_exempt()
        }
        // What the router itself says is always translated.
        Direction::Outbound if first.ingress() != LinkId::LOCAL => !is_exempt(),
        Direction::Routed | Direction::Outbound | Direction::Inbound | Direction::Hairpin => true,
    }
}

/// Whether the forward that a session came in by would still let it in.
fn is_admitted(hit: &SessionHit<'_>, policy: &Policy) -> bool {
    let side = match hit.value_at(0).direction() {
        Direction::Inbound => Side::Outside,
        Direction::Hairpin => Side::Inside,
        Direction::Outbound | Direction::Routed => return true,
    };
    let key = hit.key_at(0).0;
    let forward = policy.forward_at(key.protocol(), External(key.destination()));
    forward.is_none_or(|forward| forward.admits(key.source().address, side).is_ok())
}

/// Whether a packet of this side of a hairpin session must wait until its target has sent.
fn is_unadmitted(hit: &SessionHit<'_>) -> bool {
    hit.side() == 0 && hit.value().has(UNADMITTED) && hit.other().packets() == 0
}
