//! The router's state in the words of the control socket.

use std::net::SocketAddrV4;

use config::WanMode;
use ctl_api::{
    Direction, DmzHost, Dns, Flow, FlowTotals, Host, Lan, Lease, LeaseSource, LeaseState, Link,
    LinkRole, OneToOne, Rule, RuleCounts, Shaper, ShaperDirection, Status, Upstream, Wan, WanState,
};
use dhcp::client::State;
use dhcp::server::{BindingState, BindingView};
use hashbrown::HashMap;
use ipnet::Ipv4Net;
use link::LinkState;
use nat::SessionInfo;
use packet::{DropReason, Endpoint, Instant, LinkId};
use pipeline::LINKS_MAX;

use crate::control::Control;
use crate::shared::{Report, ShaperReport};

impl Control {
    /// One screen of everything.
    pub(crate) fn status(&self, report: &Report) -> Status {
        let now = self.clock.now();
        let lans = self.config.lans.iter().enumerate().map(|(index, lan)| self.lan(index, lan));
        let links = self.runtime.links.iter().enumerate();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_secs: now.saturating_since(self.started).as_secs(),
            config_generation: self.runtime.generation.into(),
            wan: self.wan(),
            lans: lans.collect(),
            links: links
                .map(|(index, facts)| self.link(LinkId(index as u8), facts, report))
                .collect(),
            flows: self.flow_totals(),
            drops_total: DropReason::ALL.iter().map(|r| self.shared.counters.dropped(*r)).sum(),
            shapers: shapers(report),
            dns: self.dns(),
            dmz_host: self.dmz_host(),
        }
    }

    fn dmz_host(&self) -> Option<DmzHost> {
        let host = self.config.nat.dmz_host.as_ref()?;
        let dmz = self.shared.snapshot.load().nat.dmz?;
        let ping = dmz.echo == nat::DmzEcho::Host;
        Some(DmzHost { host: host.to_string(), address: dmz.host, ping })
    }

    /// The WAN and its lease.
    pub(crate) fn wan(&self) -> Wan {
        let now = self.clock.now();
        let mode = match self.config.wan.mode {
            WanMode::Dhcp(_) => ctl_api::WanMode::Dhcp,
            WanMode::Static { .. } => ctl_api::WanMode::Static,
        };
        let client = self.stack.client();
        let state = client.map_or(WanState::Static, |client| wan_state(client.state()));
        let lease = client.and_then(|client| client.lease());
        let address = self.runtime.wan.as_ref().map(|wan| wan.address);
        let snapshot = self.shared.snapshot.load();
        let nat = &snapshot.nat;
        let default = |wan: &pipeline::WanAddress| {
            wan.routes.iter().find(|(to, _)| *to == Ipv4Net::default()).map(|(_, gateway)| *gateway)
        };
        let left = |until: Instant| {
            (until != Instant::NEVER).then(|| until.saturating_since(now).as_secs())
        };
        Wan {
            link: self.config.wan.link.clone(),
            mode,
            state,
            address,
            shared: nat.pool.further().to_vec(),
            one_to_one: nat
                .statics
                .iter()
                .map(|one| OneToOne {
                    external: one.external,
                    internal: one.internal,
                    inbound: one.inbound == nat::Inbound::Allowed,
                })
                .collect(),
            gateway: self.runtime.wan.as_ref().and_then(default),
            dns: self.stack.dns().upstream_stats(now).map(|up| up.server.address).collect(),
            domain: lease.and_then(|lease| lease.settings.domain.clone()),
            server: lease.map(|lease| lease.server),
            lease_secs: lease.and_then(|lease| lease.duration).map(|duration| duration.as_secs()),
            renews_secs: lease.and_then(|lease| left(lease.renew_at)),
            rebinds_secs: lease.and_then(|lease| left(lease.rebind_at)),
            lease_expires_secs: lease.and_then(|lease| left(lease.expires_at)),
        }
    }

    fn lan(&self, index: usize, lan: &config::Lan) -> Lan {
        let id = pipeline::lan_id(index);
        let server = self.stack.servers().iter().find(|(link, _)| *link == id).map(|(_, s)| s);
        let is_active =
            |binding: &BindingView<'_>| matches!(binding.state, BindingState::Active { .. });
        let leases = server.map_or(0, |server| server.bindings().filter(is_active).count() as u64);
        let pool_free = server.zip(lan.dhcp.as_ref()).map(|(server, dhcp)| {
            let size = u64::from(u32::from(dhcp.pool.last) - u32::from(dhcp.pool.first)) + 1;
            let taken =
                server.bindings().filter(is_active).filter(|b| dhcp.pool.contains(b.address));
            size.saturating_sub(taken.count() as u64)
        });
        Lan {
            name: lan.name.clone(),
            link: lan.link.clone(),
            address: lan.address,
            hosts: self.stack.arp().iter().filter(|n| n.link == id && n.mac.is_some()).count()
                as u64,
            leases,
            pool_free,
        }
    }

    fn link(&self, id: LinkId, facts: &pipeline::LinkFacts, report: &Report) -> Link {
        let counts = self.shared.counters.link(id);
        let rate = self.rates.of(id);
        let (state, kernel) = report
            .links
            .get(id.index())
            .copied()
            .unwrap_or((LinkState::Gone, link::LinkCounters::default()));
        Link {
            name: facts.name.clone(),
            role: if id == LinkId::WAN { LinkRole::Wan } else { LinkRole::Lan },
            state: match state {
                LinkState::Up => ctl_api::LinkState::Up,
                LinkState::Down => ctl_api::LinkState::Down,
                LinkState::Gone => ctl_api::LinkState::Missing,
            },
            mac: facts.mac,
            mtu: facts.mtu.into(),
            rx_packets: counts.rx_packets.load(),
            rx_bytes: counts.rx_bytes.load(),
            tx_packets: counts.tx_packets.load(),
            tx_bytes: counts.tx_bytes.load(),
            rx_bits_per_sec: rate.rx_bits_per_sec,
            tx_bits_per_sec: rate.tx_bits_per_sec,
            kernel_drops: kernel.rx_dropped,
            fragments_joined: counts.reassembled.load(),
            fragments_waiting: counts.waiting(),
        }
    }

    fn flow_totals(&self) -> FlowTotals {
        let stats = self.shared.tables.stats();
        FlowTotals {
            active: stats.sessions as u64,
            capacity: stats.sessions_max as u64,
            opened: self.shared.counters.opened.load(),
            closed: self.shared.counters.opened.load().saturating_sub(stats.sessions as u64),
            refused: self.shared.counters.refused.load(),
            mappings: stats.mappings as u64,
        }
    }

    /// All leases, and the reservations that nobody holds now.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        let now = self.clock.now();
        let mut leases = Vec::new();
        for (link, server) in self.stack.servers() {
            let lan = self.lan_of(*link);
            let first = leases.len();
            leases.extend(server.bindings().map(|binding| Lease {
                lan: lan.name.clone(),
                address: binding.address,
                mac: binding.mac,
                name: binding.name.map(str::to_owned),
                state: lease_state(binding.state),
                source: source_of(lan, server, binding.mac, binding.address),
                expires_secs: match binding.state {
                    BindingState::Active { until } if until != Instant::NEVER => {
                        Some(until.saturating_since(now).as_secs())
                    }
                    BindingState::Active { .. } | BindingState::Offered | BindingState::Idle => {
                        None
                    }
                },
            }));
            for reservation in server.reservations() {
                if leases[first..].iter().all(|lease| lease.address != reservation.address) {
                    leases.push(Lease {
                        lan: lan.name.clone(),
                        address: reservation.address,
                        mac: reservation.mac,
                        name: reservation.name.clone(),
                        state: LeaseState::Reserved,
                        source: source_of(lan, server, reservation.mac, reservation.address),
                        expires_secs: None,
                    });
                }
            }
        }
        leases.sort_by_key(|lease| lease.address);
        leases
    }

    /// Every host that holds a lease or was seen.
    pub(crate) fn hosts(&mut self) -> Vec<Host> {
        let mut traffic: HashMap<std::net::Ipv4Addr, (u64, u64, u64)> = HashMap::new();
        self.each_session(|session| {
            let entry = traffic.entry(session.internal.0.address).or_default();
            let [out, into] = by_host(session, session.bytes);
            *entry = (entry.0 + 1, entry.1 + out, entry.2 + into);
        });
        let mut hosts = Vec::new();
        let now = self.clock.now();
        let leases = self.leases();
        for neighbour in self.stack.arp().iter().filter(|n| n.link != LinkId::WAN) {
            let Some(mac) = neighbour.mac else { continue };
            let lease = leases.iter().find(|lease| lease.address == neighbour.address);
            hosts.push(Host {
                lan: self.lan_of(neighbour.link).name.clone(),
                address: neighbour.address,
                mac,
                name: lease.and_then(|lease| lease.name.clone()),
                lease_expires_secs: lease.and_then(|lease| lease.expires_secs),
                seen_secs: neighbour.confirmed.map(|at| now.saturating_since(at).as_secs()),
                flows: 0,
                bytes_out: 0,
                bytes_in: 0,
                rate_out_bits_per_sec: 0,
                rate_in_bits_per_sec: 0,
            });
        }
        let silent = leases.into_iter().filter(|lease| lease.state == LeaseState::Bound);
        for lease in silent {
            if hosts.iter().all(|host| host.address != lease.address) {
                hosts.push(Host {
                    lan: lease.lan,
                    address: lease.address,
                    mac: lease.mac,
                    name: lease.name,
                    lease_expires_secs: lease.expires_secs,
                    seen_secs: None,
                    flows: 0,
                    bytes_out: 0,
                    bytes_in: 0,
                    rate_out_bits_per_sec: 0,
                    rate_in_bits_per_sec: 0,
                });
            }
        }
        for host in &mut hosts {
            let seen = traffic.get(&host.address).copied().unwrap_or_default();
            (host.flows, host.bytes_out, host.bytes_in) = seen;
        }
        hosts.sort_by_key(|host| host.address);
        hosts
    }

    /// The rules with what each did.
    pub(crate) fn rules(&self) -> Vec<Rule> {
        let snapshot = self.shared.snapshot.load();
        let in_force: Vec<_> = snapshot.rules.shadows().collect();
        let book = self.runtime.policy.book.iter().enumerate();
        let rules = book.map(|(index, (rule, tally))| {
            let now = in_force.iter().find(|(active, _)| *active == index);
            let counts = RuleCounts {
                active: now.is_some(),
                shadowed_by: now.and_then(|(_, earlier)| *earlier),
                flows: tally.flows(),
                refused: tally.refused(),
                limited: tally.limited(),
            };
            Rule::new(index, rule, counts)
        });
        rules.collect()
    }

    /// What was dropped, why and where.
    pub(crate) fn drops(&self) -> Vec<ctl_api::Drop> {
        let mut drops = Vec::new();
        let links = (0..LINKS_MAX as u8 - 1).map(LinkId).chain([LinkId::LOCAL]);
        for link in links {
            let name = self.runtime.links.get(link.index()).map(|facts| facts.name.clone());
            for reason in DropReason::ALL {
                let counts = self.shared.counters.link(link);
                let count = counts.dropped_for(*reason);
                let answered = counts.answered[reason.index()].load();
                if count > 0 || answered > 0 {
                    drops.push(ctl_api::Drop {
                        reason: reason.name().to_owned(),
                        sentence: reason.sentence().to_owned(),
                        link: name.clone(),
                        count,
                        answered,
                    });
                }
            }
        }
        drops
    }

    /// Counters of the DNS forwarder.
    pub(crate) fn dns(&self) -> Dns {
        let (dns, now) = (self.stack.dns(), self.clock.now());
        let stats = dns.stats();
        Dns {
            queries: stats.queries,
            hits: stats.hits,
            local: stats.local,
            stale: stats.stale,
            failures: stats.servfail,
            refused: stats.limited + stats.rebinding,
            cache_entries: dns.cache_len() as u64,
            cache_entries_max: self.config.dns.cache_entries_max as u64,
            in_flight: dns.outstanding() as u64,
            upstreams: dns
                .upstream_stats(now)
                .map(|up| Upstream {
                    address: up.server.address,
                    queries: up.queries,
                    timeouts: up.timeouts,
                    latency_us: up.rtt.and_then(|rtt| u64::try_from(rtt.as_micros()).ok()),
                })
                .collect(),
        }
    }
}

/// The shapers that exist.
pub(crate) fn shapers(report: &Report) -> Vec<Shaper> {
    let upload = report.upload.as_ref().map(|shaper| (ShaperDirection::Upload, shaper));
    let download = report.download.as_ref().map(|shaper| (ShaperDirection::Download, shaper));
    let both = download.into_iter().chain(upload);
    both.map(|(direction, shaper)| show_shaper(direction, shaper)).collect()
}

/// A session as `flow list` shows it.
pub(crate) fn flow(session: &SessionInfo) -> Flow {
    let [packets_out, packets_in] = by_host(session, session.packets);
    let [bytes_out, bytes_in] = by_host(session, session.bytes);
    Flow {
        protocol: session.protocol.into(),
        internal: socket(session.internal.0),
        external: socket(session.external.0),
        remote: socket(session.remote),
        state: session.state.name().to_owned(),
        direction: direction(session.direction),
        packets_out,
        packets_in,
        bytes_out,
        bytes_in,
        idle_secs: session.idle.as_secs(),
        expires_secs: session.expires.as_secs(),
    }
}

/// Who opened a session.
pub(crate) fn direction(direction: nat::Direction) -> Direction {
    match direction {
        nat::Direction::Outbound => Direction::Outbound,
        nat::Direction::Inbound => Direction::Inbound,
        nat::Direction::Hairpin => Direction::Hairpin,
        nat::Direction::Routed => Direction::Routed,
    }
}

/// Turns "of the first packet's direction, of the other" into "from the internal host, to it".
fn by_host(session: &SessionInfo, [first, second]: [u64; 2]) -> [u64; 2] {
    if session.direction == nat::Direction::Inbound { [second, first] } else { [first, second] }
}

fn show_shaper(direction: ShaperDirection, shaper: &ShaperReport) -> Shaper {
    let stats = &shaper.stats;
    let delay = |percent| {
        let micros = stats.sojourn.percentile(percent).as_micros();
        (!stats.sojourn.is_empty()).then(|| u64::try_from(micros).unwrap_or(u64::MAX))
    };
    Shaper {
        direction,
        rate_bits_per_sec: shaper.rate_bits_per_sec,
        backlog_bytes: shaper.backlog_bytes as u64,
        backlog_packets: shaper.backlog_packets as u64,
        delay_us_p50: delay(50),
        delay_us_p95: delay(95),
        packets: stats.delivered,
        bytes: stats.delivered_bytes,
        drops: stats.drops_codel + stats.drops_overflow,
        marks: stats.marks,
    }
}

pub(crate) fn socket(endpoint: Endpoint) -> SocketAddrV4 {
    SocketAddrV4::new(endpoint.address, endpoint.port)
}

fn wan_state(state: State) -> WanState {
    match state {
        State::Down => WanState::LinkDown,
        State::Init => WanState::Init,
        State::Selecting => WanState::Selecting,
        State::Requesting => WanState::Requesting,
        State::Rebooting => WanState::Rebooting,
        State::Probing => WanState::Probing,
        State::Bound => WanState::Bound,
        State::Renewing => WanState::Renewing,
        State::Rebinding => WanState::Rebinding,
        State::Released => WanState::Released,
    }
}

fn lease_state(state: BindingState) -> LeaseState {
    match state {
        BindingState::Offered => LeaseState::Offered,
        BindingState::Active { .. } => LeaseState::Bound,
        BindingState::Idle => LeaseState::Expired,
    }
}

fn source_of(
    lan: &config::Lan,
    server: &dhcp::server::Server,
    mac: packet::MacAddr,
    address: std::net::Ipv4Addr,
) -> LeaseSource {
    let configured = lan.dhcp.iter().flat_map(|dhcp| &dhcp.reservations);
    if configured.into_iter().any(|host| host.mac == mac && host.address == address) {
        LeaseSource::Config
    } else if server.reservations().any(|host| host.mac == mac && host.address == address) {
        LeaseSource::Runtime
    } else {
        LeaseSource::Pool
    }
}
