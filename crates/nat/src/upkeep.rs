//! Ending what is over, a little at a time.

use std::time::Duration;

use flow_table::{Keep, Pass};
use packet::Instant;

use crate::Timeouts;
use crate::bonds::Bonds;
use crate::engine::Engine;
use crate::flow::{CONDEMNED, HOLDS_MAPPING, UNANSWERED};
use crate::state::is_over;
use crate::tables::{Owners, SessionHit, Tables};

impl Engine {
    /// Ends sessions whose time is over, mappings that have rested and contacts without a session.
    ///
    /// Call it once per batch and when idle. Looks at no more than `budget` entries of each kind,
    /// and at no more than are due: each of this worker's comes round within ten seconds. The
    /// result is whether more was due, so that a worker with nothing else to do goes on.
    pub fn expire(
        &mut self,
        pass: &Pass<'_>,
        now: Instant,
        timeouts: &Timeouts,
        budget: usize,
    ) -> bool {
        let owed = self.due(now);
        let due = owed.min(budget);
        if due == 0 {
            return false;
        }
        // What the budget does not cover stays owed.
        self.upkept = now - self.time_of(owed - due);
        let look = Duration::from_nanos(NANOS_PER_SEC.div_ceil(self.looks_per_sec()));
        self.upkeep_at = self.upkept + look;
        let Self { tables, owners, unanswered, .. } = self;
        owners.sessions.scan(pass, due, |hit| {
            let first = hit.value_at(0);
            let lives = !first.happened(CONDEMNED)
                && tables.keeper(pass, &hit).is_some_and(|keeper| !is_over(&keeper, now, timeouts))
                && (!first.happened(UNANSWERED) || is_welcome(tables, pass, &hit, unanswered, now));
            if !lives {
                tables.release_session(pass, &hit, now);
                settle(&hit, unanswered);
            }
            keep_if(lives)
        });
        owners.mappings.scan(pass, due, |hit| {
            let is_over = hit.value_at(0).retire(now, timeouts.port_rest);
            if is_over {
                tables.bury(&hit);
            }
            keep_if(!is_over)
        });
        owners.contacts.scan(pass, due, |hit| keep_if(!hit.value_at(0).retire()));
        tables.journal.forget(now);
        owed > due
    }

    /// Whether a session from outside may be opened: a flood of first packets to a forward must not
    /// take the sessions that hosts inside need. Those that were answered count until the next
    /// look.
    pub(crate) fn has_room_for_strangers(&self) -> bool {
        let sessions = &self.owners.sessions;
        let capacity = sessions.len() + sessions.free();
        self.unanswered < capacity.div_ceil(STRANGERS_SHARE)
    }

    /// Whether [`Self::expire`] has anything to do.
    #[must_use]
    #[inline]
    pub fn is_upkeep_due(&self, now: Instant) -> bool {
        now >= self.upkeep_at
    }

    /// Entries of a kind to look at, for the time since the last look; never more than come round.
    #[inline]
    fn due(&self, now: Instant) -> usize {
        // No product of a time of a round and the looks of the largest table is beyond 64 bits.
        let nanos = now.saturating_since(self.upkept).min(ROUND).as_nanos() as u64;
        let due = nanos * self.looks_per_sec() / NANOS_PER_SEC;
        usize::try_from(due).unwrap_or(usize::MAX).min(self.round())
    }

    /// The time in which so many looks fall due.
    fn time_of(&self, looks: usize) -> Duration {
        let nanos = looks as u128 * u128::from(NANOS_PER_SEC) / u128::from(self.looks_per_sec());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    #[inline]
    fn looks_per_sec(&self) -> u64 {
        (self.round() as u64 / ROUND.as_secs()).max(UPKEEP_PER_SEC_MIN)
    }

    /// Looks that take every kind round once.
    fn round(&self) -> usize {
        let Owners { sessions, mappings, contacts } = &self.owners;
        sessions.round().max(mappings.round()).max(contacts.round())
    }
}

/// Looks after a session that came from outside and counts as unanswered; `false` if it must end.
///
/// Until it is answered it does not hold the mapping that let it in, or anybody could keep a
/// mapping alive from outside (RFC 4787 §4.3, RFC 7857 §7).
fn is_welcome(
    tables: &Tables,
    pass: &Pass<'_>,
    hit: &SessionHit<'_>,
    unanswered: &mut usize,
    now: Instant,
) -> bool {
    let is_answered = hit.value_at(1).packets() > 0;
    if hit.value_at(0).has(HOLDS_MAPPING) {
        let bonds = Bonds::of(hit);
        let finds_it = if is_answered {
            tables.join_mapping(pass, &bonds)
        } else {
            tables.is_mapping_held(pass, &bonds, now)
        };
        if !finds_it {
            return false;
        }
    }
    if is_answered {
        settle(hit, unanswered);
    }
    true
}

/// Ends a session's counting as unanswered.
pub(crate) fn settle(hit: &SessionHit<'_>, unanswered: &mut usize) {
    let first = hit.value_at(0);
    if first.happened(UNANSWERED) {
        first.forget(UNANSWERED);
        *unanswered -= 1;
    }
}

fn keep_if(lives: bool) -> Keep {
    if lives { Keep::Yes } else { Keep::No }
}

/// How long upkeep takes to come round in a large table: what a timeout may be late by. A look
/// costs a cache miss, so that 1 % of a core keeps up with a million sessions.
pub(crate) const ROUND: Duration = Duration::from_secs(10);

/// Looks per second even if there are few sessions, so that small tables are exact.
const UPKEEP_PER_SEC_MIN: u64 = 100_000;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// One in this many sessions may be from outside and unanswered: enough for a busy server, whose
/// backlog is far smaller, and leaves the most to those inside.
const STRANGERS_SHARE: usize = 4;
