//! Queries that wait for a server.
//!
//! A query has one place in the table however many clients wait for it (DN10), and at any moment
//! one attempt: over UDP with a source port of its own, or over TCP with an id that no other query
//! to the same server has.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hashbrown::HashMap;
use packet::{Endpoint, Instant};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::query::{Edns, Query, Treatment};
use crate::reply::Ask;
use crate::wire::Question;
use crate::{Client, Transport};

/// Queries that wait for a server, at most: each may hold a socket, and answers to more would come
/// faster than one control thread should take them.
pub const OUTSTANDING_MAX: usize = 256;

/// Clients that wait for one query, at most.
pub(crate) const WAITERS_MAX: usize = 64;

/// Queries that one client has waiting, at most: nobody holds more than half of the table (DN27).
pub const OUTSTANDING_PER_CLIENT_MAX: u16 = 128;

/// Ports that queries leave from: all that need no privilege (RFC 5452 §9.2, DN8).
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 1_024..=u16::MAX;

/// A query as it is sent.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What equal queries have in common; see [`table_key`].
    pub(crate) table_key: Box<[u8]>,
    pub(crate) message: Box<[u8]>,
    pub(crate) question: Question,
    pub(crate) flags: u16,
    pub(crate) key_flags: u16,
    pub(crate) treatment: Treatment,
}

/// A client that waits, with what its reply has to repeat.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) client: Client,
    pub(crate) transport: Transport,
    pub(crate) id: u16,
    flags: u16,
    question: Box<[u8]>,
    edns: Option<Edns>,
    limit: usize,
    pub(crate) fidelity: Fidelity,
}

/// How much of an upstream answer a client gets to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fidelity {
    /// All of it: what was forwarded is what this client sent.
    Verbatim,
    /// The records, with an OPT record of ours: its query differs in what concerns one client only.
    Rewritten,
}

impl Waiter {
    pub(crate) fn new(
        client: Client,
        transport: Transport,
        ask: &Ask<'_>,
        fidelity: Fidelity,
    ) -> Self {
        Self {
            client,
            transport,
            id: ask.id,
            flags: ask.flags,
            question: ask.question.into(),
            edns: ask.edns,
            limit: ask.limit,
            fidelity,
        }
    }

    pub(crate) fn ask(&self) -> Ask<'_> {
        Ask {
            id: self.id,
            flags: self.flags,
            question: &self.question,
            edns: self.edns,
            limit: self.limit,
        }
    }
}

/// One message to one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) server: Endpoint,
    pub(crate) transport: Transport,
    pub(crate) id: u16,
    /// 0 over TCP.
    pub(crate) source_port: u16,
    pub(crate) sent_at: Instant,
    pub(crate) deadline: Instant,
}

/// A query and all that waits for it.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) asked: Asked,
    pub(crate) waiters: Vec<Waiter>,
    /// Nothing only between two attempts.
    pub(crate) attempt: Option<Attempt>,
    pub(crate) attempts: u8,
    /// How the next attempt goes out.
    pub(crate) transport: Transport,
    pub(crate) started: Instant,
    /// When clients get a stale answer; `NEVER` if there is none or they have it (RFC 8767 §5).
    pub(crate) stale_at: Instant,
    /// Answers that did not match.
    pub(crate) mismatches: u8,
    /// Servers that said that they cannot say.
    pub(crate) failed: Vec<Endpoint>,
    /// What clients get if nothing better comes: a truncated answer, or a server's failure.
    pub(crate) last_resort: Option<Box<[u8]>>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    slots: Vec<Option<Box<Pending>>>,
    /// When each slot wants to be looked at; `NEVER` for an empty one.
    deadlines: Vec<Instant>,
    by_key: HashMap<Box<[u8]>, usize>,
    by_port: HashMap<u16, usize>,
    by_tcp_id: HashMap<(Endpoint, u16), usize>,
    /// Waiting queries of each client that has any.
    by_client: BTreeMap<Ipv4Addr, u16>,
}

/// What equal queries have in common: transport and cache key, or for one that is not understood
/// every octet but the id.
pub(crate) fn table_key(query: &mut Query<'_>, transport: Transport) -> Box<[u8]> {
    const OPAQUE: u8 = 0x80;
    let tag = transport as u8;
    if query.treatment == Treatment::Plain {
        let flags = query.key_flags();
        [&[tag], query.question.key(flags)].concat().into_boxed_slice()
    } else {
        [&[tag | OPAQUE], &query.message[2..]].concat().into_boxed_slice()
    }
}

impl Inflight {
    /// Queries that wait.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn find(&self, table_key: &[u8]) -> Option<usize> {
        self.by_key.get(table_key).copied()
    }

    /// The query that an answer to this port can belong to.
    pub(crate) fn find_port(&self, source_port: u16) -> Option<usize> {
        self.by_port.get(&source_port).copied()
    }

    /// The query that an answer from this connection can belong to.
    pub(crate) fn find_tcp(&self, server: Endpoint, id: u16) -> Option<usize> {
        self.by_tcp_id.get(&(server, id)).copied()
    }

    pub(crate) fn pending(&self, slot: usize) -> Option<&Pending> {
        self.slots.get(slot)?.as_deref()
    }

    pub(crate) fn pending_mut(&mut self, slot: usize) -> Option<&mut Pending> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    /// Slots that are filled now.
    pub(crate) fn filled(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|slot| self.slots[*slot].is_some()).collect()
    }

    /// True if the client has as many queries waiting as it may.
    pub(crate) fn is_exhausted(&self, client: Ipv4Addr) -> bool {
        self.by_client.get(&client).is_some_and(|count| *count >= OUTSTANDING_PER_CLIENT_MAX)
    }

    /// Takes a query in, or returns nothing if the table is full.
    pub(crate) fn insert(&mut self, pending: Pending) -> Option<usize> {
        if self.len() >= OUTSTANDING_MAX {
            return None;
        }
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
            self.deadlines.push(Instant::NEVER);
        }
        self.by_key.insert(pending.asked.table_key.clone(), slot);
        for waiter in &pending.waiters {
            *self.by_client.entry(waiter.client.address).or_default() += 1;
        }
        self.slots[slot] = Some(Box::new(pending));
        Some(slot)
    }

    /// Adds a client to a query; the caller has looked at the limits.
    pub(crate) fn join(&mut self, slot: usize, waiter: Waiter) {
        if let Some(pending) = self.slots[slot].as_deref_mut() {
            *self.by_client.entry(waiter.client.address).or_default() += 1;
            pending.waiters.push(waiter);
        }
    }

    /// Takes the clients off a query that goes on without them.
    pub(crate) fn take_waiters(&mut self, slot: usize) -> Vec<Waiter> {
        let Some(pending) = self.pending_mut(slot) else { return Vec::new() };
        let waiters = std::mem::take(&mut pending.waiters);
        for waiter in &waiters {
            self.release_client(waiter.client.address);
        }
        waiters
    }

    /// Forgets the clients that waited on a closed connection.
    pub(crate) fn forget_client(&mut self, client: Client) {
        for slot in self.filled() {
            let Some(pending) = self.pending_mut(slot) else { continue };
            let before = pending.waiters.len();
            pending.waiters.retain(|waiter| waiter.client != client);
            for _ in pending.waiters.len()..before {
                self.release_client(client.address);
            }
        }
    }

    fn release_client(&mut self, address: Ipv4Addr) {
        if let Some(count) = self.by_client.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&address);
            }
        }
    }

    /// Takes a query and its clients out; its attempt must have ended.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<Box<Pending>> {
        let pending = self.slots.get_mut(slot)?.take()?;
        self.deadlines[slot] = Instant::NEVER;
        self.by_key.remove(&pending.asked.table_key);
        for waiter in &pending.waiters {
            self.release_client(waiter.client.address);
        }
        Some(pending)
    }

    /// A source port that no other attempt has.
    pub(crate) fn unused_port(&self, rng: &mut StdRng) -> u16 {
        // Terminates: at most `OUTSTANDING_MAX` of the 64512 ports are taken.
        loop {
            let port = rng.random_range(SOURCE_PORTS);
            if !self.by_port.contains_key(&port) {
                return port;
            }
        }
    }

    /// An id that no other attempt over TCP to `server` has.
    pub(crate) fn unused_tcp_id(&self, server: Endpoint, rng: &mut StdRng) -> u16 {
        // Terminates: at most `OUTSTANDING_MAX` of the 65536 ids are taken.
        loop {
            let id = rng.random();
            if !self.by_tcp_id.contains_key(&(server, id)) {
                return id;
            }
        }
    }

    /// Notes the attempt under which answers will be recognised.
    pub(crate) fn begin_attempt(&mut self, slot: usize, attempt: Attempt) {
        match attempt.transport {
            Transport::Udp => self.by_port.insert(attempt.source_port, slot),
            Transport::Tcp => self.by_tcp_id.insert((attempt.server, attempt.id), slot),
        };
        if let Some(pending) = self.pending_mut(slot) {
            pending.attempt = Some(attempt);
            pending.attempts += 1;
        }
        self.refresh_deadline(slot);
    }

    /// Ends the attempt: its answer, should it still come, will not be recognised.
    pub(crate) fn end_attempt(&mut self, slot: usize) -> Option<Attempt> {
        let attempt = self.pending_mut(slot)?.attempt.take()?;
        match attempt.transport {
            Transport::Udp => self.by_port.remove(&attempt.source_port),
            Transport::Tcp => self.by_tcp_id.remove(&(attempt.server, attempt.id)),
        };
        Some(attempt)
    }

    /// Brings the slot's deadline up to date.
    pub(crate) fn refresh_deadline(&mut self, slot: usize) {
        let Some(pending) = self.pending(slot) else { return };
        let attempt = pending.attempt.map_or(Instant::NEVER, |attempt| attempt.deadline);
        self.deadlines[slot] = attempt.min(pending.stale_at);
    }

    /// The next moment at which a slot wants to be looked at.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.iter().copied().min().filter(|deadline| *deadline < Instant::NEVER)
    }

    /// A slot whose moment has come.
    pub(crate) fn due(&self, now: Instant) -> Option<usize> {
        self.deadlines.iter().position(|deadline| *deadline <= now)
    }
}
