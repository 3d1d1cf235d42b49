//! The end of an exchange: what is kept of an answer, and what each waiting client gets.

use std::time::Duration;

use packet::Instant;

use crate::answer::{Age, Answer, Kept, Scope};
use crate::cache::Span;
use crate::forwarder::{self, Forwarder, TYPE_NONE};
use crate::inflight::{Fidelity, Pending, Waiter};
use crate::query::Treatment;
use crate::reply::{self, Ask, ExtendedError, Head, Spelling};
use crate::wire::Rcode;

/// How long servers are left alone about a name when all failed (RFC 8767 §4).
const RECHECK_AFTER: Duration = Duration::from_secs(30);

impl Forwarder {
    /// No server can be asked (any more): clients get the best there is.
    pub(crate) fn give_up(&mut self, slot: usize, now: Instant) {
        self.end_attempt(slot);
        let Some(mut pending) = self.inflight.remove(slot) else { return };
        let resort = pending.last_resort.take().and_then(|message| {
            let answer = Answer::parse(&message, &pending.asked.question).ok()?;
            Some((message, answer))
        });
        if let Some((message, answer)) = resort.as_ref().filter(|(_, answer)| answer.truncated) {
            return self.deliver(*pending, message, answer, now);
        }
        if pending.asked.treatment == Treatment::Plain {
            let key = pending.asked.question.key(pending.asked.key_flags);
            if let Some(entry) = self.cache.lookup(key, now) {
                entry.recheck_at = now + RECHECK_AFTER;
                let kept = entry.kept.clone();
                return self.reply_stale(&pending.waiters, &kept);
            }
        }
        if let Some((message, answer)) = resort {
            return self.deliver(*pending, &message, &answer, now);
        }
        let error = if self.config.upstreams.is_empty() {
            ExtendedError::NetworkError
        } else {
            ExtendedError::NoReachableAuthority
        };
        for waiter in &pending.waiters {
            self.reply_own(waiter, Rcode::ServFail, error);
        }
    }

    /// Gives clients what is cached past its TTL; the query goes on without them.
    pub(crate) fn serve_stale(&mut self, slot: usize, now: Instant) {
        let Some(pending) = self.inflight.pending_mut(slot) else { return };
        let mut question = pending.asked.question;
        let key = question.key(pending.asked.key_flags);
        if let Some(entry) = self.cache.lookup(key, now) {
            let kept = entry.kept.clone();
            let waiters = self.inflight.take_waiters(slot);
            self.reply_stale(&waiters, &kept);
        }
    }

    fn reply_stale(&mut self, waiters: &[Waiter], kept: &Kept) {
        for waiter in waiters {
            let mut out = self.output.buffer();
            forwarder::write_stale(kept, &waiter.ask(), &mut out);
            self.stats.stale += 1;
            self.output.reply(waiter.client, waiter.transport, out);
        }
    }

    fn reply_own(&mut self, waiter: &Waiter, rcode: Rcode, error: ExtendedError) {
        self.stats.servfail += u64::from(rcode == Rcode::ServFail);
        let ask = waiter.ask();
        let mut out = self.output.buffer();
        reply::write(&mut out, &ask, Head::ours(&ask, rcode), &[], Some(error));
        self.output.reply(waiter.client, waiter.transport, out);
    }

    /// Keeps an answer if it may be kept and gives it to all who wait.
    pub(crate) fn deliver(
        &mut self,
        mut pending: Pending,
        message: &[u8],
        answer: &Answer,
        now: Instant,
    ) {
        let name = pending.asked.question.name();
        if answer.private.is_some_and(|address| self.rebinding.refuses(name, address, now)) {
            self.stats.rebinding += 1;
            for waiter in &pending.waiters {
                self.reply_own(waiter, Rcode::NoError, ExtendedError::Blocked);
            }
            return;
        }
        let kept = match pending.asked.treatment {
            Treatment::Plain => answer.kept(message),
            Treatment::Opaque | Treatment::Signed => None,
        };
        let spelling = match pending.asked.treatment {
            Treatment::Signed => Spelling::Upstream,
            Treatment::Plain | Treatment::Opaque => Spelling::Client,
        };
        for waiter in &pending.waiters {
            let ask = waiter.ask();
            let mut out = self.output.buffer();
            match (&kept, waiter.fidelity) {
                (_, Fidelity::Verbatim) => reply::relay(&mut out, &ask, message, spelling),
                (Some(kept), Fidelity::Rewritten) => {
                    kept.write(&mut out, ask.id, ask.question, Age::Fresh { seconds: 0 });
                    reply::finish(&mut out, &ask, None);
                }
                (None, Fidelity::Rewritten) => write_for_others(&mut out, &ask, message, answer),
            }
            self.stats.servfail += u64::from(out[3] & 0x0f == Rcode::ServFail as u8);
            self.output.reply(waiter.client, waiter.transport, out);
        }
        if let Some(kept) = kept {
            self.store(&mut pending, message, answer, kept, now);
        }
    }

    fn store(
        &mut self,
        pending: &mut Pending,
        message: &[u8],
        answer: &Answer,
        kept: Kept,
        now: Instant,
    ) {
        let Some(lifetime) = answer.lifetime() else { return };
        let stale = match lifetime.scope {
            Scope::Type | Scope::Name => self.config.stale_keep,
            Scope::Failure => Duration::ZERO,
        };
        let span = Span { fresh: Duration::from_secs(lifetime.seconds.into()), stale };
        let flags = pending.asked.key_flags;
        let question = &mut pending.asked.question;
        if lifetime.scope == Scope::Name {
            let soa = answer.soa_record(message);
            let (cache, mut parts) = (&mut self.cache, Some((kept, soa)));
            // The first key is the name's own.
            question.find_upwards(flags, TYPE_NONE, |key| {
                let (kept, soa) = parts.take()?;
                cache.insert(key, kept, soa, span, now);
                Some(())
            });
        } else {
            self.cache.insert(question.key(flags), kept, None, span, now);
        }
    }
}

/// Writes what another client than the one that was forwarded may see of an answer that was meant
/// for that one alone: that it is truncated, or else nothing.
fn write_for_others(out: &mut Vec<u8>, ask: &Ask<'_>, message: &[u8], answer: &Answer) {
    let head = if answer.truncated {
        let flags = u16::from_be_bytes([message[2], message[3]]);
        Head { flags, answers: 0, authorities: 0 }
    } else {
        Head::ours(ask, Rcode::ServFail)
    };
    reply::write(out, ask, head, &[], None);
}
