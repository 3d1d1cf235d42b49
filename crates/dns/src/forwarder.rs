//! The machine: its inputs, its outputs, and what it can answer without asking anyone.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use packet::{Endpoint, Instant, LinkId};
use rand::rngs::StdRng;

use crate::Name;
use crate::answer::{Age, Kept};
use crate::cache::Cache;
use crate::config::{ForwarderConfig, PAYLOAD_MAX};
use crate::inflight::Inflight;
use crate::local::{self, HostError, Local};
use crate::query::{Query, Treatment, Unusable};
use crate::rebinding;
use crate::reply::{self, Ask, ExtendedError, Head, PAYLOAD_PLAIN};
use crate::stats::Stats;
use crate::upstream::{UpstreamStats, Upstreams};
use crate::wire::{self, FLAG_QR, Question, Rcode};

/// TTL of everything in a stale answer (RFC 8767 §4). Seconds.
const TTL_STALE: u32 = 30;

/// Buffers kept for the next messages; as many as a batch of packets.
const SPARE_MAX: usize = packet::BATCH_MAX;

/// What carries a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Transport {
    /// One message per datagram.
    Udp = 0,
    /// Messages with their length in front; see [`crate::Framer`].
    Tcp = 1,
}

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Where the query came in; from [`LinkId::WAN`] it is ignored (DN12).
    pub link: LinkId,
    /// The client's address, by which its share is counted.
    pub address: Ipv4Addr,
    /// What the caller needs to send the reply; the forwarder only hands it back. Equal tokens mean
    /// the same socket or connection of the same client.
    pub token: u64,
}

/// What became of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Disposition {
    /// Exactly one reply comes, now or later, unless [`Forwarder::handle_client_closed`] is called.
    Accepted,
    /// No reply will ever come; the token is free.
    Ignored,
}

/// A message for a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// As given with the query.
    pub client: Client,
    /// As given with the query.
    pub transport: Transport,
    /// At most what the client said it can take; over TCP without its length.
    pub message: Vec<u8>,
}

/// A message for a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpstreamRequest {
    /// To be sent from a socket bound to `source_port`, which stays open until
    /// [`Forwarder::poll_port_released`] names it.
    Udp {
        /// Random, and unused by any other query.
        source_port: u16,
        /// Whom to send to.
        server: Endpoint,
        /// The datagram's payload.
        message: Vec<u8>,
    },
    /// To be sent on the connection to `server`, which is opened if there is none.
    Tcp {
        /// Whom to send to.
        server: Endpoint,
        /// Without its length.
        message: Vec<u8>,
    },
}

/// Where an upstream message came from; all of it is checked (DN9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpstreamOrigin {
    /// A datagram.
    Udp {
        /// The local port that it arrived at.
        source_port: u16,
        /// Its source.
        server: Endpoint,
    },
    /// The connection to a server.
    Tcp {
        /// The connection's other end.
        server: Endpoint,
    },
}

/// The forwarder. See the crate's documentation for its states and limits.
#[derive(Debug)]
pub struct Forwarder {
    pub(crate) config: ForwarderConfig,
    pub(crate) rebinding: rebinding::Guard,
    pub(crate) rng: StdRng,
    pub(crate) local: Local,
    pub(crate) cache: Cache,
    pub(crate) inflight: Inflight,
    pub(crate) upstreams: Upstreams,
    pub(crate) stats: Stats,
    pub(crate) output: Output,
}

/// A readable query and who sent it.
pub(crate) struct Received<'a> {
    pub(crate) client: Client,
    pub(crate) transport: Transport,
    pub(crate) query: Query<'a>,
    pub(crate) ask: Ask<'a>,
}

/// What waits to be polled, and buffers for more.
#[derive(Debug, Default)]
pub(crate) struct Output {
    replies: VecDeque<Reply>,
    pub(crate) requests: VecDeque<UpstreamRequest>,
    pub(crate) released: VecDeque<u16>,
    spare: Vec<Vec<u8>>,
}

impl Output {
    /// An empty buffer, used before if possible.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    pub(crate) fn reply(&mut self, client: Client, transport: Transport, message: Vec<u8>) {
        self.replies.push_back(Reply { client, transport, message });
    }
}

impl Forwarder {
    /// Makes a forwarder with an empty cache. `rng` has to come from a secure seed: ids and ports
    /// are drawn from it (DN8).
    #[must_use]
    pub fn new(config: ForwarderConfig, rng: StdRng) -> Self {
        let config = within_limits(config);
        Self {
            rebinding: rebinding::Guard::new(&config.rebinding),
            rng,
            local: Local::new(&config.domain, &config.local_networks),
            cache: Cache::new(config.cache_entries, config.cache_bytes),
            inflight: Inflight::default(),
            upstreams: Upstreams::new(&config.upstreams),
            stats: Stats::default(),
            output: Output::default(),
            config,
        }
    }

    /// Takes other settings; cache, hosts, counters and waiting queries stay (DN25).
    pub fn reconfigure(&mut self, config: ForwarderConfig, now: Instant) {
        let config = within_limits(config);
        self.rebinding = rebinding::Guard::new(&config.rebinding);
        self.local.reconfigure(&config.domain, &config.local_networks);
        self.cache.set_limits(config.cache_entries, config.cache_bytes);
        self.config = config;
        self.replace_upstreams(now);
    }

    /// Takes the servers of a new WAN lease; the cache stays (DN25). Queries that wait for a server
    /// that is gone are asked again elsewhere.
    pub fn set_upstreams(&mut self, servers: &[Endpoint], now: Instant) {
        self.config.upstreams = servers.to_vec();
        self.replace_upstreams(now);
    }

    /// Names a host, in the local domain or with its full name elsewhere; an address it had before
    /// in the same family is replaced (DN22).
    ///
    /// # Errors
    /// [`HostError`]: the name is impossible or reserved, or there are too many.
    pub fn insert_host(
        &mut self,
        name: &str,
        address: IpAddr,
        ttl: Duration,
    ) -> Result<(), HostError> {
        self.local.insert(name, address, ttl)
    }

    /// Forgets a host and returns whether it was known (DN22).
    pub fn remove_host(&mut self, name: &str) -> bool {
        self.local.remove(name)
    }

    /// Hosts known.
    #[must_use]
    pub fn hosts_len(&self) -> usize {
        self.local.len()
    }

    /// Counters since start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What is known of each server, in configured order.
    pub fn upstream_stats(&self, now: Instant) -> impl Iterator<Item = UpstreamStats> + '_ {
        self.upstreams.stats(now)
    }

    /// Cached answers, stale ones included.
    #[must_use]
    pub fn cache_len(&self) -> usize {
        self.cache.len()
    }

    /// Octets of cached answers.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Queries that wait for a server.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.inflight.len()
    }

    /// Removes cached answers for `name` and everything below, for the root all; returns how many.
    pub fn flush(&mut self, name: &Name) -> usize {
        let suffix = local::wire_name(name);
        self.cache.remove_where(|key| {
            key.get(Question::PREFIX..).is_some_and(|name| local::ends_with_labels(name, &suffix))
        })
    }

    /// Takes a client's message.
    pub fn handle_query(
        &mut self,
        client: Client,
        transport: Transport,
        message: &[u8],
        now: Instant,
    ) -> Disposition {
        self.stats.queries += 1;
        if client.link == LinkId::WAN {
            self.stats.ignored += 1;
            return Disposition::Ignored;
        }
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Unusable::Silent) => {
                self.stats.ignored += 1;
                return Disposition::Ignored;
            }
            Err(Unusable::Refused(rcode)) => {
                self.stats.malformed += 1;
                let mut out = self.output.buffer();
                reply::bare_error(&mut out, message, rcode);
                self.output.reply(client, transport, out);
                return Disposition::Accepted;
            }
        };
        let ask = Ask::new(&query, transport, self.config.udp_payload_max);
        let mut received = Received { client, transport, query, ask };
        let mut out = self.output.buffer();
        match self.answer_here(&mut received, &mut out, now) {
            Here::Answered => {
                self.output.reply(client, transport, out);
                Disposition::Accepted
            }
            here @ (Here::Unknown | Here::Stale) => {
                self.output.recycle(out);
                self.forward(received, here, now)
            }
        }
    }

    /// Tells that a client's connection is gone: replies to it are no longer wanted.
    pub fn handle_client_closed(&mut self, client: Client) {
        self.inflight.forget_client(client);
        self.output.replies.retain(|reply| reply.client != client);
    }

    /// The next message for a client.
    pub fn poll_reply(&mut self) -> Option<Reply> {
        self.output.replies.pop_front()
    }

    /// The next message for a server.
    pub fn poll_upstream(&mut self) -> Option<UpstreamRequest> {
        self.output.requests.pop_front()
    }

    /// A source port whose socket may be closed; drain [`Self::poll_upstream`] first.
    pub fn poll_port_released(&mut self) -> Option<u16> {
        self.output.released.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.inflight.next_deadline()
    }

    /// Takes back the buffer of a message that was sent, for the next one.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.output.recycle(buffer);
    }

    /// Answers from what is here: local names, policy, cache.
    fn answer_here(
        &mut self,
        received: &mut Received<'_>,
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Here {
        let Received { transport, query, ask, .. } = received;
        if self.local.answer(query, ask, out) {
            self.stats.local += 1;
            return Here::Answered;
        }
        match query.question.rtype() {
            // A transfer is many messages, and never of use through a forwarder.
            wire::TYPE_AXFR | wire::TYPE_IXFR => {
                self.stats.malformed += 1;
                reply::write(out, ask, Head::ours(ask, Rcode::NotImp), &[], None);
                return Here::Answered;
            }
            // Over UDP the answer serves whoever forged the question (RFC 8482, DN27).
            wire::TYPE_ANY if *transport == Transport::Udp && query.is_question() => {
                self.stats.local += 1;
                self.local.answer_any(ask, out);
                return Here::Answered;
            }
            _ => {}
        }
        if query.treatment == Treatment::Plain {
            self.answer_from_cache(query, ask, out, now)
        } else {
            Here::Unknown
        }
    }

    fn answer_from_cache(
        &mut self,
        query: &mut Query<'_>,
        ask: &Ask<'_>,
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Here {
        let flags = query.key_flags();
        let mut here = Here::Unknown;
        if let Some(entry) = self.cache.lookup(query.question.key(flags), now) {
            if now < entry.fresh_until {
                let age = Age::Fresh { seconds: entry.age(now) };
                entry.kept.write(out, ask.id, ask.question, age);
                reply::finish(out, ask, None);
                self.stats.hits += 1;
                return Here::Answered;
            }
            if now < entry.recheck_at {
                write_stale(&entry.kept, ask, out);
                self.stats.stale += 1;
                return Here::Answered;
            }
            here = Here::Stale;
        }
        if self.answer_nonexistent(query, flags, ask, out, now) {
            self.stats.hits += 1;
            return Here::Answered;
        }
        here
    }

    /// Answers for a name that is known not to exist, or lies below one (RFC 8020, DN16).
    fn answer_nonexistent(
        &mut self,
        query: &Query<'_>,
        flags: u16,
        ask: &Ask<'_>,
        out: &mut Vec<u8>,
        now: Instant,
    ) -> bool {
        let cache = &mut self.cache;
        let name_len = query.question.name().len();
        let wants_proof = flags & FLAG_QR != 0;
        let found = query.question.find_upwards(flags, TYPE_NONE, |key| {
            let same_name = key.len() - Question::PREFIX == name_len;
            if wants_proof && !same_name {
                return None;
            }
            let entry = cache.lookup_fresh(key, now)?;
            let age = entry.age(now);
            if same_name {
                entry.kept.write(out, ask.id, ask.question, Age::Fresh { seconds: age });
                reply::finish(out, ask, None);
                return Some(());
            }
            let mut soa = entry.soa.as_ref()?.to_vec();
            let ttl_at = wire::skip_name(&soa, 0).ok()? + 4;
            let ttl = wire::u32_at(&soa, ttl_at).ok()?.saturating_sub(age);
            wire::put_u32(&mut soa, ttl_at, ttl);
            let head = Head { authorities: 1, ..Head::ours(ask, Rcode::NxDomain) };
            reply::write(out, ask, head, &soa, None);
            Some(())
        });
        found.is_some()
    }
}

/// Writes an answer that is past its TTL.
pub(crate) fn write_stale(kept: &Kept, ask: &Ask<'_>, out: &mut Vec<u8>) {
    kept.write(out, ask.id, ask.question, Age::Stale { ttl: TTL_STALE });
    reply::finish(out, ask, Some(ExtendedError::StaleAnswer));
}

/// What can be said to a query without asking anyone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Here {
    /// The reply is written.
    Answered,
    /// Nothing.
    Unknown,
    /// Something past its TTL, for the case that no server says better.
    Stale,
}

/// The type under which the cache keeps that a name does not exist: no record has it (RFC 6895).
pub(crate) const TYPE_NONE: u16 = 0;

fn within_limits(mut config: ForwarderConfig) -> ForwarderConfig {
    config.udp_payload_max = config.udp_payload_max.clamp(PAYLOAD_PLAIN, PAYLOAD_MAX);
    config
}
