//! Ending what is over, a little at a time.

use flow_table::{Keep, Pass};
use packet::Instant;

use crate::Timeouts;
use crate::bonds::Bonds;
use crate::engine::Engine;
use crate::flow::{CONDEMNED, HOLDS_MAPPING, UNANSWERED};
use crate::state::is_over;
use crate::tables::{SessionHit, Tables};

impl Engine {
    /// Ends sessions whose time is over, mappings that have rested and contacts without a session.
    ///
    /// Call it once per batch and when idle. Looks at no more than `budget` entries of each kind,
    /// and at no more than are due: each of this worker's comes round within ten seconds.
    pub fn expire(&mut self, pass: &Pass<'_>, now: Instant, timeouts: &Timeouts, budget: usize) {
        let due = self.due(now).min(budget);
        if due > 0 {
            self.upkept = now;
        }
        let Self { tables, owners, unanswered, .. } = self;
        owners.sessions.scan(pass, due, |hit| {
            let first = hit.value_at(0);
            let lives = !first.happened(CONDEMNED)
                && tables.keeper(pass, &hit).is_some_and(|keeper| !is_over(&keeper, now, timeouts))
                && (!first.happened(UNANSWERED) || is_welcome(tables, pass, &hit, unanswered));
            if !lives {
                tables.release(pass, &Bonds::held_by(&hit), now);
                settle(&hit, unanswered);
            }
            keep_if(lives)
        });
        owners.mappings.scan(pass, due, |hit| keep_if(!hit.value_at(0).retire(now)));
        owners.contacts.scan(pass, due, |hit| keep_if(!hit.value_at(0).retire()));
    }

    /// Whether a session from outside may be opened: a flood of first packets to a forward must not
    /// take the sessions that hosts inside need. Those that were answered count until the next
    /// look.
    pub(crate) fn has_room_for_strangers(&self) -> bool {
        let sessions = &self.owners.sessions;
        let capacity = sessions.len() + sessions.free();
        self.unanswered < capacity.div_ceil(STRANGERS_SHARE)
    }

    /// Entries of a kind to look at, for the time since the last look.
    fn due(&self, now: Instant) -> usize {
        let sessions = self.owners.sessions.len() as u128;
        let per_second = (sessions / ROUND_SECS).max(UPKEEP_PER_SEC_MIN);
        let nanos = now.saturating_since(self.upkept).as_nanos();
        usize::try_from(nanos * per_second / 1_000_000_000).unwrap_or(usize::MAX)
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
) -> bool {
    let is_answered = hit.value_at(1).packets() > 0;
    if hit.value_at(0).has(HOLDS_MAPPING) {
        let bonds = Bonds::of(hit);
        let finds_it = if is_answered {
            tables.join_mapping(pass, &bonds)
        } else {
            tables.is_mapping_held(pass, &bonds)
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
const ROUND_SECS: u128 = 10;

/// Looks per second even if there are few sessions, so that small tables are exact.
const UPKEEP_PER_SEC_MIN: u128 = 100_000;

/// One in this many sessions may be from outside and unanswered: enough for a busy server, whose
/// backlog is far smaller, and leaves the most to those inside.
const STRANGERS_SHARE: usize = 4;
