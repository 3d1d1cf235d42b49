//! What the operator decided, as one immutable value.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use packet::{Endpoint, External, Internal, LinkId, Protocol};

use crate::{Forward, Forwards};

/// Which remote endpoints a mapping admits (RFC 4787 §5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Filtering {
    /// Anyone may send to a mapped external endpoint (EIF).
    EndpointIndependent,
    /// Only addresses that the internal endpoint has a session with (ADF).
    AddressDependent,
    /// Only endpoints that the internal endpoint has a session with: sessions alone decide.
    #[default]
    AddressAndPortDependent,
}

/// How long a session without outbound packets lives, and a port without a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// UDP.
    pub udp: Duration,
    /// UDP to remote port 53: one question, one answer (RFC 4787 §4.3, REQ-5a).
    pub udp_dns: Duration,
    /// TCP between handshake and the second FIN.
    pub tcp_established: Duration,
    /// TCP before the peer answered (RFC 7857 §2.1).
    pub tcp_opening: Duration,
    /// TCP after both FINs or a reset; counts packets of either direction (RFC 7857 §2.1).
    pub tcp_closing: Duration,
    /// ICMP queries.
    pub icmp: Duration,
    /// GRE, ESP, IPIP and 6in4.
    pub other: Duration,
    /// External ports without a session go to no other endpoint for so long (RFC 6888 REQ-8).
    pub port_rest: Duration,
}

impl Timeouts {
    /// The shortest that the RFCs allow: RFC 4787 REQ-5 (UDP; DNS may be shorter by REQ-5a, but
    /// must outlive a resolver's query, RFC 5452 §10), RFC 5382 REQ-5, RFC 5508 REQ-2, RFC 6888
    /// REQ-8.
    pub const FLOORS: Timeouts = Timeouts {
        udp: Duration::from_secs(120),
        udp_dns: Duration::from_secs(10),
        tcp_established: Duration::from_secs(7440),
        tcp_opening: Duration::from_secs(240),
        tcp_closing: Duration::from_secs(240),
        icmp: Duration::from_secs(60),
        // No RFC sets one: UDP's, since what tunnels carry may be UDP.
        other: Duration::from_secs(120),
        port_rest: Duration::from_secs(120),
    };

    /// The first field that is shorter than its floor, as (name, value, floor).
    #[must_use]
    pub fn below_floor(&self) -> Option<(&'static str, Duration, Duration)> {
        let floor = Self::FLOORS;
        [
            ("udp", self.udp, floor.udp),
            ("udp_dns", self.udp_dns, floor.udp_dns),
            ("tcp_established", self.tcp_established, floor.tcp_established),
            ("tcp_opening", self.tcp_opening, floor.tcp_opening),
            ("tcp_closing", self.tcp_closing, floor.tcp_closing),
            ("icmp", self.icmp, floor.icmp),
            ("other", self.other, floor.other),
            ("port_rest", self.port_rest, floor.port_rest),
        ]
        .into_iter()
        .find(|(_, value, floor)| value < floor)
    }
}

impl Default for Timeouts {
    /// The floors, but UDP at the recommended five minutes (RFC 4787 REQ-5c), DNS at half a minute,
    /// and tunnels at ten minutes: what is idle in a tunnel may be a UDP flow at the end of its own
    /// five, and the peer can't open the session anew.
    fn default() -> Self {
        Self {
            udp: Duration::from_secs(300),
            udp_dns: Duration::from_secs(30),
            other: Duration::from_secs(600),
            ..Self::FLOORS
        }
    }
}

/// External ports that no mapping is ever given, besides those of forwards.
///
/// **Shape**: one bit per port for TCP and for UDP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReservedPorts {
    tcp: Box<[u64]>,
    udp: Box<[u64]>,
}

impl ReservedPorts {
    /// No port.
    #[must_use]
    pub fn none() -> Self {
        let empty = || vec![0; PORT_WORDS].into_boxed_slice();
        Self { tcp: empty(), udp: empty() }
    }

    /// Adds ports. Of other protocols than TCP and UDP the router has no services, so none can be
    /// reserved.
    #[must_use]
    pub fn with(mut self, protocol: Protocol, ports: RangeInclusive<u16>) -> Self {
        let bits = match protocol {
            Protocol::Tcp => &mut self.tcp,
            Protocol::Udp => &mut self.udp,
            _ => return self,
        };
        for port in ports {
            bits[usize::from(port / 64)] |= 1 << (port % 64);
        }
        self
    }

    /// Whether the port is in the set.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        let bits = match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
            _ => return false,
        };
        bits[usize::from(port / 64)] >> (port % 64) & 1 == 1
    }
}

/// The host that gets what comes from outside and nothing else takes: no forward, no mapping, no
/// service of the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dmz {
    /// The host.
    pub host: Ipv4Addr,
    /// Whether echo requests are among it.
    pub echo: DmzEcho,
}

/// Who answers echo requests to the external address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmzEcho {
    /// The DMZ host.
    Host,
    /// The router, or nobody.
    Router,
}

/// Everything a translation depends on that the operator or the lease decides. Immutable: a change
/// is a new policy with the next generation.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// Which configuration this is. Sessions remember the one that they were last found to agree
    /// with.
    pub generation: u32,
    /// The address that stands for all internal ones; `None` while the WAN has none.
    pub external: Option<Ipv4Addr>,
    /// Filtering by the LAN of a mapping's internal endpoint: index [`LinkId::index`]; links beyond
    /// the end get the strictest.
    pub filtering: Box<[Filtering]>,
    /// Explicit mappings.
    pub forwards: Forwards,
    /// Who gets what comes from outside for a port that nothing else takes.
    pub dmz: Option<Dmz>,
    /// Lifetimes.
    pub timeouts: Timeouts,
    /// Ports of local services.
    pub reserved: ReservedPorts,
    /// Most dynamic mappings that one internal address may hold (RFC 6888 REQ-4). The router
    /// itself, whose flows come from [`LinkId::LOCAL`], has no quota.
    pub mappings_per_host_max: u32,
    /// Most mappings at rest, of all hosts together; beyond, some give their port up early (RFC 6888
    /// REQ-8).
    pub ports_at_rest_max: u32,
    /// Most sessions that one internal address may have, whoever opened them (RFC 6888 REQ-5);
    /// `None`: half of the table, so that the other hosts always find as much as it has.
    pub sessions_per_host_max: Option<u32>,
    /// How fast one internal address may open sessions.
    pub new_sessions: Rate,
}

/// A rate with a burst, per internal address (RFC 6888 REQ-4c, REQ-5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Sustained, above 0.
    pub per_second: u32,
    /// Back to back after a rest, above 0.
    pub burst: u32,
}

impl Policy {
    /// Filtering for mappings of internal endpoints on `lan`.
    #[must_use]
    pub fn filtering_of(&self, lan: LinkId) -> Filtering {
        self.filtering.get(lan.index()).copied().unwrap_or_default()
    }

    /// The forward that owns this external endpoint.
    #[must_use]
    pub fn forward_at(&self, protocol: Protocol, external: External) -> Option<&Forward> {
        if self.external != Some(external.0.address) {
            return None;
        }
        self.forwards.find(protocol, external.0.port)
    }

    /// The internal endpoint of the DMZ host for an external endpoint that nothing else takes.
    /// Echo requests have port 0 here.
    pub(crate) fn dmz_to(&self, protocol: Protocol, external: External) -> Option<Internal> {
        let Endpoint { address, port } = external.0;
        let dmz = self.dmz.filter(|_| self.external == Some(address))?;
        let takes = match protocol {
            Protocol::Icmp => dmz.echo == DmzEcho::Host && port == 0,
            Protocol::Tcp | Protocol::Udp | Protocol::UdpLite | Protocol::Sctp => {
                !self.reserved.contains(protocol, port)
            }
            Protocol::IpIp | Protocol::SixInFour | Protocol::Gre | Protocol::Esp => false,
        };
        takes.then_some(Internal(Endpoint::new(dmz.host, port)))
    }

    /// The internal endpoint that a forward binds to this external endpoint.
    #[must_use]
    pub fn forward_to(&self, protocol: Protocol, external: External) -> Option<Internal> {
        if self.external != Some(external.0.address) {
            return None;
        }
        self.forwards.lookup(protocol, external.0.port)
    }

    /// The external endpoint that a forward binds to this internal endpoint.
    pub(crate) fn forward_of(&self, protocol: Protocol, internal: Internal) -> Option<External> {
        let address = self.external?;
        let port = self.forwards.reverse(protocol, internal)?;
        Some(External(Endpoint::new(address, port)))
    }

    /// Whether a dynamic mapping may have this external port.
    pub(crate) fn is_dynamic(&self, protocol: Protocol, port: u16) -> bool {
        port != 0
            && !self.reserved.contains(protocol, port)
            && self.forwards.lookup(protocol, port).is_none()
    }
}

const PORT_WORDS: usize = (u16::MAX as usize + 1) / 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req5c_udp_default_is_five_minutes_and_no_default_is_below_its_floor() {
        let timeouts = Timeouts::default();
        assert_eq!(timeouts.udp, Duration::from_secs(300));
        assert_eq!(timeouts.below_floor(), None);
    }

    #[test]
    fn req5_a_timeout_below_its_floor_is_named() {
        let short = Timeouts { tcp_established: Duration::from_secs(7200), ..Timeouts::default() };
        let (name, value, floor) = short.below_floor().unwrap();
        assert_eq!((name, value.as_secs(), floor.as_secs()), ("tcp_established", 7200, 7440));
    }

    #[test]
    fn reserved_ports_are_per_protocol() {
        let reserved = ReservedPorts::none().with(Protocol::Udp, 67..=68);
        assert!(reserved.contains(Protocol::Udp, 68));
        assert!(!reserved.contains(Protocol::Udp, 66));
        assert!(!reserved.contains(Protocol::Tcp, 68));
        assert!(
            ReservedPorts::none().with(Protocol::Tcp, 1..=65535).contains(Protocol::Tcp, 65535)
        );
    }
}
