//! Address translation.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{
    Filtering, ForwardHost, ForwardProtocol, Hairpinning, IcmpRefusals, MssClamp, ShortTimeouts,
    UnsolicitedSyn, as_duration, forward,
};

/// Address translation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nat {
    /// What happens to the MSS of TCP connections through the WAN.
    pub mss_clamp: MssClamp,
    /// How long idle state lives.
    pub timeouts: NatTimeouts,
    /// Whether timeouts may be shorter than the RFCs allow.
    pub short_timeouts: ShortTimeouts,
    /// Most sessions at once; absent: sized from memory by routerd.
    pub sessions_max: Option<usize>,
    /// Most mappings that one host may hold (RFC 6888 REQ-4).
    pub mappings_per_host_max: usize,
    /// Most mappings of each protocol that one host may hold (RFC 6888 REQ-4b).
    pub mappings_per_host_max_of: ProtocolQuotas,
    /// Most external ports at rest; beyond, some rest for less (RFC 6888 REQ-8).
    pub ports_at_rest_max: u32,
    /// Most sessions that one host may have (RFC 6888 REQ-5); absent: half of all.
    pub sessions_per_host_max: Option<u32>,
    /// New flows that one host may open per second (RFC 6888 REQ-4c).
    pub new_flows_per_host: u32,
    /// New flows that one host may open back to back.
    pub new_flows_burst: u32,
    /// What becomes of a SYN from outside that nobody asked for (RFC 5382 REQ-4).
    pub unsolicited_syn: UnsolicitedSyn,
    /// What happens to a host whose external address has no port left.
    pub pooling: Pooling,
    /// Whether hosts reach each other through the WAN address (RFC 4787 REQ-9).
    pub hairpinning: Hairpinning,
    /// Whether hosts inside are told that a flow of theirs was refused (RFC 5508 REQ-8, REQ-9).
    pub icmp_refusals: IcmpRefusals,
    /// The host that gets everything from outside that nothing else takes; absent: it is dropped.
    pub dmz_host: Option<ForwardHost>,
    /// External addresses that stand for one host each.
    pub statics: Vec<StaticNat>,
    /// What leaves by the WAN untranslated (RFC 6888 REQ-6).
    pub exemptions: Vec<Exemption>,
    /// Filtering of single hosts, which comes before their LAN's.
    pub hosts: Vec<HostFiltering>,
}

/// How long idle state lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NatTimeouts {
    /// UDP mappings (RFC 4787 REQ-5).
    #[serde(serialize_with = "as_duration")]
    pub udp: Duration,
    /// UDP to port 53 of a remote host (RFC 4787 REQ-5a).
    #[serde(serialize_with = "as_duration")]
    pub udp_dns: Duration,
    /// Established TCP connections (RFC 5382 REQ-5).
    #[serde(serialize_with = "as_duration")]
    pub tcp_established: Duration,
    /// TCP connections that open (RFC 7857 §2.1).
    #[serde(serialize_with = "as_duration")]
    pub tcp_opening: Duration,
    /// TCP connections that close (RFC 7857 §2.1).
    #[serde(serialize_with = "as_duration")]
    pub tcp_closing: Duration,
    /// ICMP query sessions (RFC 5508 REQ-2).
    #[serde(serialize_with = "as_duration")]
    pub icmp: Duration,
    /// Sessions of GRE, ESP, IPIP and 6in4.
    #[serde(serialize_with = "as_duration")]
    pub other: Duration,
    /// External ports without a session, for no other endpoint than their last (RFC 6888 REQ-8).
    #[serde(serialize_with = "as_duration")]
    pub port_rest: Duration,
}

/// Most mappings of each protocol; absent: only the limit over all protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ProtocolQuotas {
    /// TCP.
    pub tcp: Option<u32>,
    /// UDP.
    pub udp: Option<u32>,
    /// ICMP queries.
    pub icmp: Option<u32>,
}

/// What happens to a host whose external address has no port left (RFC 4787 REQ-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Its new flows are refused (RFC 7857 §4).
    Paired,
    /// Its new flows get a port of another address.
    Any,
}

impl Pooling {
    /// Every behaviour.
    pub const ALL: [Pooling; 2] = [Pooling::Paired, Pooling::Any];

    /// The word that the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Pooling::Paired => "paired",
            Pooling::Any => "any",
        }
    }
}

/// An external address that stands for one host, with all its protocols and ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaticNat {
    /// The address outside.
    pub external: Ipv4Addr,
    /// The host.
    pub internal: ForwardHost,
    /// Whether hosts outside may open flows to it.
    pub inbound: bool,
}

/// Flows that leave by the WAN as they are; an absent condition matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exemption {
    /// Where they go.
    pub destination: Ipv4Net,
    /// Where they come from.
    pub source: Option<Ipv4Net>,
    /// Which transport; absent: every protocol, ICMP included.
    pub protocol: Option<ForwardProtocol>,
    /// Destination ports; only with a protocol.
    #[serde(serialize_with = "forward::option_as_ports")]
    pub ports: Option<RangeInclusive<u16>>,
}

/// A host with a filtering of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostFiltering {
    /// The host.
    pub host: ForwardHost,
    /// Which inbound packets its mappings let in.
    pub filtering: Filtering,
}
