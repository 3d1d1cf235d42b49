//! The exchange with servers: attempts, checks of what comes back, and who gets it.

use std::time::Duration;

use packet::{Endpoint, Instant};
use rand::RngExt;

use crate::PAYLOAD_ADVERTISED;
use crate::answer::Answer;
use crate::forwarder::{
    self, Disposition, Forwarder, Here, Received, Transport, UpstreamOrigin, UpstreamRequest,
};
use crate::inflight::{self, Asked, Attempt, Fidelity, Pending, WAITERS_MAX, Waiter};
use crate::query::Treatment;
use crate::reply::{self, Head};
use crate::upstream::TIMEOUT_TCP;
use crate::wire::{self, FLAG_QR, FLAG_TC, FLAGS_OPCODE, FLAGS_RCODE, HEADER_LEN, Question, Rcode};

/// Longest life of a query: clients give up after 5 s (glibc) or ask again. A NAT mapping for DNS
/// has to live at least this long (RFC 5452 §10, DN28).
pub const QUERY_LIFETIME: Duration = Duration::from_secs(6);

/// Messages sent for one query at most, over all servers and transports.
const ATTEMPTS_MAX: u8 = 8;

/// How long clients wait before a stale answer is good enough (RFC 8767 §5).
const STALE_AFTER: Duration = Duration::from_millis(1_800);

/// False answers to one query after which it moves to TCP, where guessing is hopeless: someone is
/// guessing, and each guess has a chance (RFC 5452 §9.3).
const MISMATCHES_MAX: u8 = 10;

/// Why an attempt is over without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    /// Nothing came in time.
    Timeout,
    /// The connection closed, or the port could not be bound: no word about the server.
    Local,
    /// The server has no answer for this query (SERVFAIL, NOTIMP).
    CannotSay,
    /// The server does not serve us (REFUSED), or its message is malformed.
    Unfit,
}

/// Where the next attempt goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// To the server that promises most.
    Best,
    /// Rather to any other than this one.
    Other(Endpoint),
    /// To this one, if it is still configured.
    Same(Endpoint),
}

/// TC in the third octet of a message.
const TC_IN_OCTET: u8 = (FLAG_TC >> 8) as u8;

impl Forwarder {
    /// Takes a message from a server. What matches no query is counted and ignored (DN9).
    pub fn handle_upstream(&mut self, origin: UpstreamOrigin, message: &[u8], now: Instant) {
        let Some(slot) = self.find_attempt(origin, message) else {
            self.stats.mismatched += 1;
            return;
        };
        match self.check(slot, origin, message) {
            Check::Matches => self.take_answer(slot, message, now),
            Check::Complaint => self.fail_attempt(slot, Failure::Unfit, now),
            Check::Differs => self.take_mismatch(slot, now),
        }
    }

    /// Tells that the connection to `server` closed or could not be opened; what waited for it is
    /// asked again.
    pub fn handle_upstream_closed(&mut self, server: Endpoint, now: Instant) {
        for slot in self.inflight.filled() {
            let attempt = self.inflight.pending(slot).and_then(|pending| pending.attempt);
            if attempt.is_some_and(|a| a.transport == Transport::Tcp && a.server == server) {
                self.fail_attempt(slot, Failure::Local, now);
            }
        }
    }

    /// Tells that no socket could be bound to `source_port`; another port is tried.
    pub fn handle_port_unavailable(&mut self, source_port: u16, now: Instant) {
        if let Some(slot) = self.inflight.find_port(source_port) {
            self.fail_attempt(slot, Failure::Local, now);
        }
    }

    /// Does what is due: repeats, gives up, answers with stale data. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(slot) = self.inflight.due(now) {
            let Some(pending) = self.inflight.pending_mut(slot) else { return };
            if pending.stale_at <= now {
                pending.stale_at = Instant::NEVER;
                self.inflight.refresh_deadline(slot);
                self.serve_stale(slot, now);
            } else {
                self.fail_attempt(slot, Failure::Timeout, now);
            }
        }
    }

    /// Moves to the configured servers.
    pub(crate) fn replace_upstreams(&mut self, now: Instant) {
        self.upstreams.replace(&self.config.upstreams);
        for slot in self.inflight.filled() {
            let attempt = self.inflight.pending(slot).and_then(|pending| pending.attempt);
            if attempt.is_some_and(|attempt| !self.upstreams.contains(attempt.server)) {
                self.fail_attempt(slot, Failure::Local, now);
            }
        }
    }

    /// Sends a query on, or lets its client wait for an equal one that is under way.
    pub(crate) fn forward(
        &mut self,
        mut received: Received<'_>,
        here: Here,
        now: Instant,
    ) -> Disposition {
        let table_key = inflight::table_key(&mut received.query, received.transport);
        match self.inflight.find(&table_key) {
            Some(slot) => self.join(slot, &mut received, here, now),
            None if self.inflight.is_exhausted(received.client.address) => {
                self.turn_away(&received, Rcode::Refused)
            }
            None => self.start(&received, table_key, here, now),
        }
    }

    /// Lets a client wait for a query that is under way.
    fn join(
        &mut self,
        slot: usize,
        received: &mut Received<'_>,
        here: Here,
        now: Instant,
    ) -> Disposition {
        let (client, ask) = (received.client, &received.ask);
        let Some(pending) = self.inflight.pending(slot) else { return Disposition::Ignored };
        if pending.waiters.iter().any(|w| w.client == client && w.id == ask.id) {
            self.stats.ignored += 1;
            return Disposition::Ignored;
        }
        if here == Here::Stale && now >= pending.started + STALE_AFTER {
            let flags = received.query.key_flags();
            let entry = self.cache.lookup(received.query.question.key(flags), now);
            if let Some(entry) = entry {
                let mut out = self.output.buffer();
                forwarder::write_stale(&entry.kept, ask, &mut out);
                self.stats.stale += 1;
                self.output.reply(client, received.transport, out);
                return Disposition::Accepted;
            }
        }
        if pending.waiters.len() >= WAITERS_MAX {
            return self.turn_away(received, Rcode::ServFail);
        }
        if self.inflight.is_exhausted(client.address) {
            return self.turn_away(received, Rcode::Refused);
        }
        self.stats.joined += 1;
        // Of what is not understood, only an equal query joins.
        let fidelity = match received.query.treatment {
            Treatment::Plain => Fidelity::Rewritten,
            Treatment::Opaque | Treatment::Signed => Fidelity::Verbatim,
        };
        self.inflight.join(slot, Waiter::new(client, received.transport, ask, fidelity));
        Disposition::Accepted
    }

    fn start(
        &mut self,
        received: &Received<'_>,
        table_key: Box<[u8]>,
        here: Here,
        now: Instant,
    ) -> Disposition {
        let Received { client, transport, query, ask } = received;
        let mut message: Box<[u8]> = query.message.into();
        if let Some(edns) = query.edns.filter(|_| query.treatment != Treatment::Signed) {
            wire::put_u16(&mut message, edns.payload_at, PAYLOAD_ADVERTISED);
        }
        let stale_at = if here == Here::Stale { now + STALE_AFTER } else { Instant::NEVER };
        let pending = Pending {
            asked: Asked {
                table_key,
                message,
                question: query.question,
                flags: query.flags,
                key_flags: query.key_flags(),
                treatment: query.treatment,
            },
            waiters: vec![Waiter::new(*client, *transport, ask, Fidelity::Verbatim)],
            attempt: None,
            attempts: 0,
            transport: *transport,
            started: now,
            stale_at,
            mismatches: 0,
            failed: Vec::new(),
            last_resort: None,
        };
        let Some(slot) = self.inflight.insert(pending) else {
            return self.turn_away(received, Rcode::ServFail);
        };
        self.stats.misses += 1;
        self.attempt(slot, Next::Best, now);
        Disposition::Accepted
    }

    fn turn_away(&mut self, received: &Received<'_>, rcode: Rcode) -> Disposition {
        self.stats.limited += 1;
        let ask = &received.ask;
        let mut out = self.output.buffer();
        reply::write(&mut out, ask, Head::ours(ask, rcode), &[], None);
        self.output.reply(received.client, received.transport, out);
        Disposition::Accepted
    }

    /// Sends the query (once more), or gives up.
    fn attempt(&mut self, slot: usize, next: Next, now: Instant) {
        let Some(pending) = self.inflight.pending(slot) else { return };
        let end = pending.started + QUERY_LIFETIME;
        if pending.attempts >= ATTEMPTS_MAX || now >= end {
            return self.give_up(slot, now);
        }
        let chosen = match next {
            Next::Same(server) if self.upstreams.contains(server) => Some(server),
            Next::Best | Next::Same(_) => {
                self.upstreams.choose(&pending.failed, None, &mut self.rng, now)
            }
            Next::Other(last) => {
                self.upstreams.choose(&pending.failed, Some(last), &mut self.rng, now)
            }
        };
        let Some(server) = chosen else { return self.give_up(slot, now) };
        let transport = pending.transport;
        let (source_port, id, timeout) = match transport {
            Transport::Udp => {
                let timeout = self.upstreams.timeout(server, pending.attempts + 1);
                (self.inflight.unused_port(&mut self.rng), self.rng.random(), timeout)
            }
            Transport::Tcp => (0, self.inflight.unused_tcp_id(server, &mut self.rng), TIMEOUT_TCP),
        };
        let mut message = self.output.buffer();
        message.extend_from_slice(&pending.asked.message);
        wire::put_u16(&mut message, 0, id);
        self.output.requests.push_back(match transport {
            Transport::Udp => UpstreamRequest::Udp { source_port, server, message },
            Transport::Tcp => UpstreamRequest::Tcp { server, message },
        });
        self.upstreams.record_query(server);
        let deadline = (now + timeout).min(end);
        let attempt = Attempt { server, transport, id, source_port, sent_at: now, deadline };
        self.inflight.begin_attempt(slot, attempt);
    }

    /// Ends the attempt under way and gives its port back.
    pub(crate) fn end_attempt(&mut self, slot: usize) -> Option<Attempt> {
        let attempt = self.inflight.end_attempt(slot)?;
        if attempt.transport == Transport::Udp {
            self.output.released.push_back(attempt.source_port);
        }
        Some(attempt)
    }

    fn fail_attempt(&mut self, slot: usize, failure: Failure, now: Instant) {
        let Some(attempt) = self.end_attempt(slot) else { return };
        match failure {
            Failure::Timeout => self.upstreams.record_timeout(attempt.server, now),
            Failure::CannotSay => self.upstreams.record_failure(attempt.server),
            Failure::Unfit => self.upstreams.record_unfit(attempt.server, now),
            Failure::Local => {}
        }
        let Some(pending) = self.inflight.pending_mut(slot) else { return };
        if matches!(failure, Failure::CannotSay | Failure::Unfit) {
            pending.failed.push(attempt.server);
        }
        // A truncated answer now beats a whole one that the client no longer waits for.
        let truncated = pending.last_resort.as_ref().is_some_and(|m| m[2] & TC_IN_OCTET != 0);
        if truncated && failure == Failure::Timeout {
            return self.give_up(slot, now);
        }
        self.attempt(slot, Next::Other(attempt.server), now);
    }

    fn find_attempt(&self, origin: UpstreamOrigin, message: &[u8]) -> Option<usize> {
        match origin {
            UpstreamOrigin::Udp { source_port, .. } => self.inflight.find_port(source_port),
            UpstreamOrigin::Tcp { server } => {
                self.inflight.find_tcp(server, wire::u16_at(message, 0).ok()?)
            }
        }
    }

    /// Compares all that an answer has to repeat (RFC 5452 §9.1, DN9).
    fn check(&self, slot: usize, origin: UpstreamOrigin, message: &[u8]) -> Check {
        let Some(pending) = self.inflight.pending(slot) else { return Check::Differs };
        let Some(attempt) = pending.attempt else { return Check::Differs };
        let from = match origin {
            UpstreamOrigin::Udp { server, .. } | UpstreamOrigin::Tcp { server } => server,
        };
        if message.len() < HEADER_LEN || from != attempt.server {
            return Check::Differs;
        }
        let field = |at| u16::from_be_bytes([message[at], message[at + 1]]);
        let (id, flags, questions) = (field(0), field(2), field(4));
        let same_opcode = (flags ^ pending.asked.flags) & FLAGS_OPCODE == 0;
        if id != attempt.id || flags & FLAG_QR == 0 || !same_opcode {
            return Check::Differs;
        }
        // A server that could not read the question does not repeat it; no data can come of this.
        if questions == 0 && flags & FLAGS_RCODE != 0 {
            return Check::Complaint;
        }
        match Question::parse(message) {
            Ok(question) if questions == 1 => {
                let same = question.identity() == pending.asked.question.identity();
                if same { Check::Matches } else { Check::Differs }
            }
            _ => Check::Differs,
        }
    }

    fn take_mismatch(&mut self, slot: usize, now: Instant) {
        self.stats.mismatched += 1;
        let Some(pending) = self.inflight.pending_mut(slot) else { return };
        pending.mismatches = pending.mismatches.saturating_add(1);
        let Some(attempt) = pending.attempt else { return };
        if pending.mismatches >= MISMATCHES_MAX && attempt.transport == Transport::Udp {
            self.fall_back(slot, attempt.server, now);
        }
    }

    /// Asks again over TCP.
    fn fall_back(&mut self, slot: usize, server: Endpoint, now: Instant) {
        self.stats.tcp_fallbacks += 1;
        self.end_attempt(slot);
        if let Some(pending) = self.inflight.pending_mut(slot) {
            pending.transport = Transport::Tcp;
        }
        self.attempt(slot, Next::Same(server), now);
    }

    fn take_answer(&mut self, slot: usize, message: &[u8], now: Instant) {
        let Some(pending) = self.inflight.pending_mut(slot) else { return };
        let Some(attempt) = pending.attempt else { return };
        let Ok(answer) = Answer::parse(message, &pending.asked.question) else {
            return self.fail_attempt(slot, Failure::Unfit, now);
        };
        if answer.truncated && attempt.transport == Transport::Udp {
            pending.last_resort = Some(message.into());
        } else if answer.is_failure() {
            pending.last_resort.get_or_insert_with(|| message.into());
        }
        if answer.rcode == Rcode::Refused as u16 {
            return self.fail_attempt(slot, Failure::Unfit, now);
        }
        self.upstreams.record_answer(attempt.server, now.saturating_since(attempt.sent_at));
        if answer.is_failure() {
            return self.fail_attempt(slot, Failure::CannotSay, now);
        }
        if answer.truncated && attempt.transport == Transport::Udp {
            return self.fall_back(slot, attempt.server, now);
        }
        self.end_attempt(slot);
        if let Some(pending) = self.inflight.remove(slot) {
            self.deliver(*pending, message, &answer, now);
        }
    }
}

/// What the comparison of an answer with the query says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Check {
    /// It is the answer.
    Matches,
    /// It is from the server and about this query, but without question: an error of form.
    Complaint,
    /// It is something else, or forged.
    Differs,
}
