//! The servers that are asked: how fast they are, whether they answer, which one is next (DN20).

use std::time::Duration;

use packet::{Endpoint, Instant};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::config::UPSTREAMS_MAX;

/// Time for an answer as long as a server's speed is unknown (RFC 8085 §3.1.1: 1 s).
const TIMEOUT_INITIAL: Duration = Duration::from_secs(1);

/// Shortest time for an answer: a server that is near still has to ask others on a miss.
const TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// Longest time for an answer over UDP, so that several attempts fit into one query's life.
const TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// Time for an answer over TCP: three round trips and the connection's own retries.
pub(crate) const TIMEOUT_TCP: Duration = Duration::from_secs(3);

/// Failures in a row after which a server is passed over for a while; one lost packet is no sign.
const FAILURES_DOWN: u32 = 2;

/// Longest time for which a server is passed over.
const DOWN_MAX: Duration = Duration::from_secs(30);

/// One query in so many goes to a random server, so that speeds stay known.
const EXPLORE_ONE_IN: u32 = 20;

/// What is known of one server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpstreamStats {
    /// The server.
    pub server: Endpoint,
    /// Messages sent to it.
    pub queries: u64,
    /// Answers that matched a query.
    pub answers: u64,
    /// Queries that it did not answer in time.
    pub timeouts: u64,
    /// Answers that only said that it cannot say (SERVFAIL, REFUSED, NOTIMP), or were malformed.
    pub failures: u64,
    /// Smoothed time from query to answer (RFC 6298 §2), nothing before the first answer.
    pub rtt: Option<Duration>,
    /// True while it is passed over.
    pub down: bool,
}

#[derive(Debug)]
struct Server {
    stats: UpstreamStats,
    rtt_variance: Duration,
    /// Since the last answer.
    failures: u32,
    down_until: Instant,
}

impl Server {
    fn new(server: Endpoint) -> Self {
        let stats = UpstreamStats {
            server,
            queries: 0,
            answers: 0,
            timeouts: 0,
            failures: 0,
            rtt: None,
            down: false,
        };
        Self { stats, rtt_variance: Duration::ZERO, failures: 0, down_until: Instant::ZERO }
    }

    fn is_down(&self, now: Instant) -> bool {
        now < self.down_until
    }

    /// Counts a failure; after several in a row the server is passed over, longer each time.
    fn demote(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_DOWN {
            let down = Duration::from_secs(1 << self.failures.min(5)).min(DOWN_MAX);
            if self.failures == FAILURES_DOWN {
                tracing::info!(server = %self.stats.server, ?down, "DNS server passed over");
            }
            self.down_until = now + down;
        }
    }
}

/// The configured servers, in the operator's order.
#[derive(Debug)]
pub(crate) struct Upstreams {
    servers: Vec<Server>,
}

impl Upstreams {
    pub(crate) fn new(servers: &[Endpoint]) -> Self {
        let mut upstreams = Self { servers: Vec::new() };
        upstreams.replace(servers);
        upstreams
    }

    /// Takes another list; what is known of servers that stay is kept.
    pub(crate) fn replace(&mut self, servers: &[Endpoint]) {
        let mut former = std::mem::take(&mut self.servers);
        for &server in servers {
            if self.contains(server) || self.servers.len() == UPSTREAMS_MAX {
                continue;
            }
            let known = former.iter().position(|other| other.stats.server == server);
            self.servers.push(match known {
                Some(index) => former.swap_remove(index),
                None => Server::new(server),
            });
        }
    }

    pub(crate) fn contains(&self, server: Endpoint) -> bool {
        self.servers.iter().any(|other| other.stats.server == server)
    }

    /// Chooses the server for the next attempt: not one of `failed`, rather one that is up, rather
    /// not the `last` one asked, then the fastest; one of unknown speed counts as fast.
    pub(crate) fn choose(
        &self,
        failed: &[Endpoint],
        last: Option<Endpoint>,
        rng: &mut StdRng,
        now: Instant,
    ) -> Option<Endpoint> {
        let usable = |server: &&Server| !failed.contains(&server.stats.server);
        if last.is_none() && self.servers.len() > 1 && rng.random_range(0..EXPLORE_ONE_IN) == 0 {
            let server = &self.servers[rng.random_range(0..self.servers.len())];
            if usable(&server) && !server.is_down(now) {
                return Some(server.stats.server);
            }
        }
        let best = self.servers.iter().filter(usable).min_by_key(|server| {
            let repeated = Some(server.stats.server) == last;
            (server.is_down(now), repeated, server.stats.rtt.unwrap_or_default())
        });
        best.map(|server| server.stats.server)
    }

    /// How long to wait for `server` in the `attempt`-th attempt (from 1) over UDP.
    pub(crate) fn timeout(&self, server: Endpoint, attempt: u8) -> Duration {
        let known = self.servers.iter().find(|other| other.stats.server == server);
        let measured =
            known.and_then(|server| server.stats.rtt.map(|rtt| rtt + 4 * server.rtt_variance));
        let backoff = 1 << attempt.saturating_sub(1).min(3);
        (measured.unwrap_or(TIMEOUT_INITIAL).max(TIMEOUT_MIN) * backoff).min(TIMEOUT_MAX)
    }

    fn find(&mut self, server: Endpoint) -> Option<&mut Server> {
        self.servers.iter_mut().find(|other| other.stats.server == server)
    }

    pub(crate) fn record_query(&mut self, server: Endpoint) {
        if let Some(server) = self.find(server) {
            server.stats.queries += 1;
        }
    }

    /// Notes that `server` answered after `rtt` (RFC 6298 §2).
    pub(crate) fn record_answer(&mut self, server: Endpoint, rtt: Duration) {
        let Some(server) = self.find(server) else { return };
        server.stats.answers += 1;
        if server.failures >= FAILURES_DOWN {
            tracing::info!(server = %server.stats.server, "DNS server answers again");
        }
        server.failures = 0;
        server.down_until = Instant::ZERO;
        match server.stats.rtt {
            None => {
                server.stats.rtt = Some(rtt);
                server.rtt_variance = rtt / 2;
            }
            Some(smoothed) => {
                let error = smoothed.abs_diff(rtt);
                server.rtt_variance = (server.rtt_variance * 3 + error) / 4;
                server.stats.rtt = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    /// Notes that `server` did not answer in time.
    pub(crate) fn record_timeout(&mut self, server: Endpoint, now: Instant) {
        if let Some(server) = self.find(server) {
            server.stats.timeouts += 1;
            server.demote(now);
        }
    }

    /// Notes that `server` does not serve us, or not with sound messages.
    pub(crate) fn record_unfit(&mut self, server: Endpoint, now: Instant) {
        if let Some(server) = self.find(server) {
            server.stats.failures += 1;
            server.demote(now);
        }
    }

    /// Notes that `server` could not say, which is mostly the fault of the name's own servers.
    pub(crate) fn record_failure(&mut self, server: Endpoint) {
        if let Some(server) = self.find(server) {
            server.stats.failures += 1;
        }
    }

    pub(crate) fn stats(&self, now: Instant) -> impl Iterator<Item = UpstreamStats> + '_ {
        self.servers
            .iter()
            .map(move |server| UpstreamStats { down: server.is_down(now), ..server.stats })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rand::SeedableRng;

    use super::*;

    fn server(last: u8) -> Endpoint {
        Endpoint::new(Ipv4Addr::new(198, 51, 100, last), 53)
    }

    fn choices(upstreams: &Upstreams, now: Instant) -> [usize; 3] {
        let mut rng = StdRng::seed_from_u64(1);
        let mut counts = [0; 3];
        for _ in 0..1_000 {
            let chosen = upstreams.choose(&[], None, &mut rng, now).unwrap();
            counts[usize::from(chosen.address.octets()[3])] += 1;
        }
        counts
    }

    #[test]
    fn dn20_fastest_server_is_preferred_and_others_are_sampled() {
        let mut upstreams = Upstreams::new(&[server(0), server(1), server(2)]);
        for (last, millis) in [(0, 40), (1, 10), (2, 90)] {
            upstreams.record_answer(server(last), Duration::from_millis(millis));
        }
        let counts = choices(&upstreams, Instant::ZERO);
        assert!(counts[1] > 900 && counts[0] > 0 && counts[2] > 0, "{counts:?}");
    }

    #[test]
    fn dn20_server_is_passed_over_after_two_timeouts_and_returns_after_a_while() {
        let mut upstreams = Upstreams::new(&[server(0), server(1)]);
        upstreams.record_answer(server(0), Duration::from_millis(1));
        upstreams.record_answer(server(1), Duration::from_millis(50));
        upstreams.record_timeout(server(0), Instant::ZERO);
        assert!(choices(&upstreams, Instant::ZERO)[0] > 900);
        upstreams.record_timeout(server(0), Instant::ZERO);
        assert_eq!(choices(&upstreams, Instant::ZERO)[0], 0);
        assert!(choices(&upstreams, Instant::from_secs(4))[0] > 900);
    }

    #[test]
    fn dn25_known_servers_keep_their_history() {
        let mut upstreams = Upstreams::new(&[server(0), server(1)]);
        upstreams.record_answer(server(1), Duration::from_millis(50));
        upstreams.replace(&[server(2), server(1), server(2)]);
        let stats: Vec<_> = upstreams.stats(Instant::ZERO).collect();
        assert_eq!(stats.len(), 2);
        assert_eq!((stats[0].rtt, stats[1].answers), (None, 1));
    }

    #[test]
    fn timeout_follows_the_measured_time_and_doubles() {
        let mut upstreams = Upstreams::new(&[server(0)]);
        assert_eq!(upstreams.timeout(server(0), 1), TIMEOUT_INITIAL);
        for _ in 0..50 {
            upstreams.record_answer(server(0), Duration::from_millis(600));
        }
        let first = upstreams.timeout(server(0), 1);
        assert!(first >= Duration::from_millis(600) && first < Duration::from_millis(700));
        assert_eq!(upstreams.timeout(server(0), 3), TIMEOUT_MAX);
    }
}
