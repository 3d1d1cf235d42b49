//! One screen of everything.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use packet::MacAddr;
use serde::{Deserialize, Serialize};

use super::{Dns, mac};

/// Everything at a glance.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of `routerd`.
    pub version: String,
    /// Seconds since its start.
    pub uptime_secs: u64,
    /// Number of the configuration in force since the start.
    pub config_generation: u64,
    /// The WAN.
    pub wan: Wan,
    /// The LANs in the order of the configuration.
    pub lans: Vec<Lan>,
    /// The links: WAN first, then the LANs.
    pub links: Vec<Link>,
    /// Sessions and mappings.
    pub flows: FlowTotals,
    /// Packets dropped for any reason.
    pub drops_total: u64,
    /// Shaped directions; empty if nothing is shaped.
    pub shapers: Vec<Shaper>,
    /// The DNS forwarder.
    pub dns: Dns,
    /// The host that gets everything from outside that nothing else takes; `null`: nobody does.
    #[serde(default)]
    pub dmz_host: Option<DmzHost>,
}

/// The host that gets everything from outside that nothing else takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DmzHost {
    /// As the configuration names it.
    pub host: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether echo requests go there too.
    pub ping: bool,
}

/// Where the WAN's address comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WanMode {
    /// From a DHCP server.
    Dhcp,
    /// From the configuration.
    Static,
}

impl fmt::Display for WanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dhcp => "dhcp",
            Self::Static => "static",
        })
    }
}

/// How far the WAN is; the words of RFC 2131 §4.4 where there is a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WanState {
    /// The link has no carrier or is gone.
    LinkDown,
    /// The lease was given back on request; nothing is asked for.
    Released,
    /// No lease, about to ask.
    Init,
    /// Waiting for offers.
    Selecting,
    /// Waiting for the acknowledgement of an offer.
    Requesting,
    /// Asking to keep the address from before the restart.
    Rebooting,
    /// Checking that nobody else has the address.
    Probing,
    /// Address in use.
    Bound,
    /// Address in use; its server is being asked to extend the lease.
    Renewing,
    /// Address in use; any server is being asked to extend the lease.
    Rebinding,
    /// Address from the configuration in use.
    Static,
}

impl WanState {
    /// Whether packets can be translated.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Bound | Self::Renewing | Self::Rebinding | Self::Static)
    }
}

impl fmt::Display for WanState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LinkDown => "link-down",
            Self::Released => "released",
            Self::Init => "init",
            Self::Selecting => "selecting",
            Self::Requesting => "requesting",
            Self::Rebooting => "rebooting",
            Self::Probing => "probing",
            Self::Bound => "bound",
            Self::Renewing => "renewing",
            Self::Rebinding => "rebinding",
            Self::Static => "static",
        })
    }
}

/// The WAN and its lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wan {
    /// Its link.
    pub link: String,
    /// Where the address comes from.
    pub mode: WanMode,
    /// How far it is.
    pub state: WanState,
    /// Address with the length of its prefix.
    pub address: Option<Ipv4Net>,
    /// Further external addresses that hosts share with it, in order; empty while the WAN is down.
    #[serde(default)]
    pub shared: Vec<Ipv4Addr>,
    /// External addresses of one host each, likewise.
    #[serde(default)]
    pub one_to_one: Vec<OneToOne>,
    /// Next hop to the Internet.
    pub gateway: Option<Ipv4Addr>,
    /// DNS servers of the lease.
    pub dns: Vec<Ipv4Addr>,
    /// Domain of the lease.
    pub domain: Option<String>,
    /// DHCP server that gave the lease.
    pub server: Option<Ipv4Addr>,
    /// Seconds for which the lease was given.
    pub lease_secs: Option<u64>,
    /// Seconds until it will be renewed (T1).
    pub renews_secs: Option<u64>,
    /// Seconds until any server is asked (T2).
    pub rebinds_secs: Option<u64>,
    /// Seconds until it ends.
    pub lease_expires_secs: Option<u64>,
}

/// An external address that belongs to one host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OneToOne {
    /// The address outside.
    pub external: Ipv4Addr,
    /// The host.
    pub internal: Ipv4Addr,
    /// Whether flows may be opened from outside.
    pub inbound: bool,
}

/// A LAN.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lan {
    /// Its name in the configuration.
    pub name: String,
    /// Its link.
    pub link: String,
    /// The router's address with the length of its prefix.
    pub address: Ipv4Net,
    /// Hosts known.
    pub hosts: u64,
    /// Leases in use.
    pub leases: u64,
    /// Addresses of the pool that can still be given; `null` without a DHCP server.
    pub pool_free: Option<u64>,
}

/// What a link is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkRole {
    /// Faces the Internet.
    Wan,
    /// Faces hosts.
    Lan,
}

impl fmt::Display for LinkRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wan => "wan",
            Self::Lan => "lan",
        })
    }
}

/// Whether frames pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// They do.
    Up,
    /// No carrier.
    Down,
    /// The system has no such link now; it is retried.
    Missing,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Missing => "missing",
        })
    }
}

/// A link of the router.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: LinkRole,
    /// Whether frames pass.
    pub state: LinkState,
    /// Its hardware address.
    #[serde(with = "mac")]
    pub mac: MacAddr,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes of frames received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes of frames sent.
    pub tx_bytes: u64,
    /// Rate received over the last seconds.
    pub rx_bits_per_sec: u64,
    /// Rate sent over the last seconds.
    pub tx_bits_per_sec: u64,
    /// Frames that the kernel dropped before we could read them.
    pub kernel_drops: u64,
    /// Fragments received that became part of a whole packet.
    pub fragments_joined: u64,
    /// Fragments received that wait for the rest of their packet.
    pub fragments_waiting: u64,
}

/// Sessions and mappings in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FlowTotals {
    /// Sessions open.
    pub active: u64,
    /// Most sessions that can be open.
    pub capacity: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions that ended by time, by their protocol or on request.
    pub closed: u64,
    /// New sessions refused for want of room, ports or quota.
    pub refused: u64,
    /// Mappings in use.
    pub mappings: u64,
}

/// Which way a shaper works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShaperDirection {
    /// From the Internet.
    Download,
    /// To the Internet.
    Upload,
}

impl fmt::Display for ShaperDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Download => "download",
            Self::Upload => "upload",
        })
    }
}

/// A shaped direction and its queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shaper {
    /// Which way.
    pub direction: ShaperDirection,
    /// Configured rate.
    pub rate_bits_per_sec: u64,
    /// Bytes waiting.
    pub backlog_bytes: u64,
    /// Packets waiting.
    pub backlog_packets: u64,
    /// Median delay of packets sent lately, microseconds; `null` if none were.
    pub delay_us_p50: Option<u64>,
    /// 95th percentile of it.
    pub delay_us_p95: Option<u64>,
    /// Packets sent.
    pub packets: u64,
    /// Bytes sent, as accounted on the line.
    pub bytes: u64,
    /// Packets dropped by the queue.
    pub drops: u64,
    /// Packets marked (ECN) instead of dropped.
    pub marks: u64,
}
