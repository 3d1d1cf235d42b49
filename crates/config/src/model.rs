//! What a valid configuration is made of.
//!
//! Values here have passed every check of [`parse`](crate::parse): names are legal and unique,
//! addresses lie where they must, numbers are inside their limits. Two configurations are equal
//! when they ask for the same, whatever their files look like, so a reload that changes nothing is
//! recognised.

mod forward;
mod nat;
mod rate;
mod zone;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use packet::MacAddr;
use serde::{Serialize, Serializer};

pub use forward::{Forward, ForwardHost, ForwardProtocol, ForwardTarget, ParseForwardError};
pub(crate) use forward::{ForwardWord, parse_ports};
pub use nat::{Exemption, HostFiltering, Nat, NatTimeouts, Pooling, ProtocolQuotas, StaticNat};
pub use rate::{ParseRateError, Rate};
pub use zone::{Brand, Platform, Zone, ZoneCaps, ZoneLink};

/// Everything the operator asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Where routerd listens for commands and keeps its state.
    pub control: Control,
    /// The link that faces the Internet.
    pub wan: Wan,
    /// The links that face hosts, in file order: `LinkId(1)` is the first. At least one.
    pub lans: Vec<Lan>,
    /// The DNS forwarder.
    pub dns: Dns,
    /// Address translation.
    pub nat: Nat,
    /// Ports of the WAN address that lead to a host, in file order.
    pub forwards: Vec<Forward>,
    /// Which new flows may pass between zones.
    pub policy: Policy,
    /// How `routerctl zone` builds the zone; absent when somebody else does.
    pub zone: Option<Zone>,
}

/// Where routerd listens for commands and keeps its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// The Unix socket of the control API.
    pub socket: PathBuf,
    /// The folder of leases, runtime forwards, port epoch and config history.
    pub state: PathBuf,
    /// A TCP address that serves `/metrics` too; absent: only the control socket does.
    pub metrics: Option<SocketAddr>,
}

/// The link that faces the Internet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wan {
    /// Name of the link, as the operating system knows it.
    pub link: String,
    /// Where its address comes from.
    pub mode: WanMode,
    /// Further external addresses, usable while the link has its own; disjoint.
    #[serde(serialize_with = "as_texts")]
    pub addresses: Vec<AddressRange>,
    /// Whether the WAN address answers echo requests.
    pub ping: Ping,
    /// Rates to shape to; absent: not shaped.
    pub shaper: Option<Shaper>,
    /// Largest IP packet in bytes; absent: what the lease says, else what the link says.
    pub mtu: Option<u16>,
    /// The MAC address that `routerctl zone` gives the WAN vNIC, for providers that know a MAC.
    #[serde(serialize_with = "option_as_text")]
    pub mac: Option<MacAddr>,
}

/// Where the WAN address comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum WanMode {
    /// A lease from the provider.
    Dhcp(WanDhcp),
    /// Fixed by the file.
    Static {
        /// The router's own address, with the prefix length of its subnet.
        address: Ipv4Net,
        /// The next hop for everything; inside the subnet, or anywhere when the prefix is /32.
        gateway: Ipv4Addr,
    },
}

impl WanMode {
    /// The word that the file uses.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            WanMode::Dhcp(_) => "dhcp",
            WanMode::Static { .. } => "static",
        }
    }
}

/// How the DHCP client presents itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WanDhcp {
    /// Option 12; absent: not sent.
    pub hostname: Option<String>,
    /// Option 61 (DC14).
    pub client_id: ClientId,
    /// Offers from a server inside one of these, or of an address inside one, are ignored (DC21).
    pub reject: Vec<Ipv4Net>,
}

/// What the DHCP client sends as option 61 (RFC 2132 §9.14, RFC 4361; DC14).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientId {
    /// No option 61: the server goes by the MAC address.
    None,
    /// Type 1 and the MAC address.
    Mac,
    /// Type 255, IAID and a stored DUID.
    Duid,
    /// Type 0 and these bytes of text.
    Text(String),
    /// These bytes, type included; 2 to 255 of them.
    Bytes(Vec<u8>),
}

/// Whether the WAN address answers echo requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ping {
    /// It answers.
    Answer,
    /// It keeps silent.
    Silent,
}

impl Ping {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Ping::Answer => "answer",
            Ping::Silent => "silent",
        }
    }
}

/// The rates of the line; at least one is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shaper {
    /// From the Internet; absent: not shaped in this direction.
    pub download: Option<Rate>,
    /// To the Internet; absent: not shaped in this direction.
    pub upload: Option<Rate>,
    /// What the line adds to a packet.
    pub overhead: Overhead,
}

/// What the line under the WAN link adds to an IP packet when it counts bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overhead {
    /// Ethernet with preamble and inter-frame gap.
    Ethernet,
    /// Cable: the MAC frame as DOCSIS counts it.
    Docsis,
    /// VDSL2 with PPPoE.
    PppoePtm,
    /// VDSL2 with plain Ethernet.
    BridgedPtm,
    /// ADSL: 53-byte cells.
    Atm,
    /// Bytes of the IP packet alone.
    None,
    /// Numbers of the operator's own.
    Custom {
        /// Bytes added to each IP packet; negative when the line counts fewer.
        bytes: i16,
        /// Least bytes that a packet counts as, overhead included.
        mpu: u16,
    },
}

impl Overhead {
    /// The presets, in the order in which they are documented.
    pub const PRESETS: [Overhead; 6] = [
        Overhead::Ethernet,
        Overhead::Docsis,
        Overhead::PppoePtm,
        Overhead::BridgedPtm,
        Overhead::Atm,
        Overhead::None,
    ];

    /// The word that the file uses; `custom` for numbers of the operator's own.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Overhead::Ethernet => "ethernet",
            Overhead::Docsis => "docsis",
            Overhead::PppoePtm => "pppoe-ptm",
            Overhead::BridgedPtm => "bridged-ptm",
            Overhead::Atm => "atm",
            Overhead::None => "none",
            Overhead::Custom { .. } => "custom",
        }
    }
}

/// A link that faces hosts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lan {
    /// What people, `reach` and policy rules call it.
    pub name: String,
    /// Name of the link, as the operating system knows it.
    pub link: String,
    /// The router's own address here, with the prefix length of the subnet.
    pub address: Ipv4Net,
    /// Which inbound packets a mapping of a host here lets in.
    pub filtering: Filtering,
    /// The DHCP server; absent: hosts here are configured by hand.
    pub dhcp: Option<LanDhcp>,
    /// Names of other LANs towards which hosts here may open flows.
    pub reach: Vec<String>,
}

impl Lan {
    /// The subnet: the router's address with its host bits cleared.
    #[must_use]
    pub fn subnet(&self) -> Ipv4Net {
        self.address.trunc()
    }
}

/// Which inbound packets an existing mapping lets in (RFC 4787 §5, REQ-8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// From anyone.
    EndpointIndependent,
    /// From addresses that the internal endpoint has sent to.
    AddressDependent,
    /// From endpoints that the internal endpoint has sent to.
    AddressAndPortDependent,
}

impl Filtering {
    /// Every behaviour, from open to strict.
    pub const ALL: [Filtering; 3] = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];

    /// The word that the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Filtering::EndpointIndependent => "endpoint-independent",
            Filtering::AddressDependent => "address-dependent",
            Filtering::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

/// The DHCP server of one LAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LanDhcp {
    /// Addresses for hosts without a reservation; inside the subnet, without the router's own.
    #[serde(serialize_with = "as_text")]
    pub pool: AddressRange,
    /// How long a lease lives.
    #[serde(serialize_with = "as_duration")]
    pub lease: Duration,
    /// Hosts with an address and a name of their own.
    pub reservations: Vec<Reservation>,
    /// Option 6; empty: the router itself (DS20).
    pub dns: Vec<Ipv4Addr>,
    /// Option 42; empty: not sent.
    pub ntp: Vec<Ipv4Addr>,
    /// Option 15; absent: not sent (DS19).
    pub domain: Option<String>,
    /// Option 26 in bytes; absent: not sent.
    pub mtu: Option<u16>,
}

/// Addresses from `first` to `last`, both included; `first <= last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// The lowest.
    pub first: Ipv4Addr,
    /// The highest.
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Every address.
    pub fn iter(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(f);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A host that always gets the same address and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reservation {
    /// Who it is.
    #[serde(serialize_with = "as_text")]
    pub mac: MacAddr,
    /// Inside the subnet, in or out of the pool.
    pub address: Ipv4Addr,
    /// One label in lower case; its name in DNS, forwards and reports.
    pub name: String,
}

/// The DNS forwarder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Servers to ask, in order; empty: those of the WAN lease.
    pub upstream: Vec<SocketAddrV4>,
    /// The domain of local names, in lower case and without a dot at the end (RFC 8375).
    pub domain: String,
    /// What happens to public names that answer with private addresses.
    pub rebinding: Rebinding,
    /// Most record sets that the cache keeps.
    pub cache_entries_max: usize,
    /// Names with a fixed address that are no DHCP clients.
    pub hosts: Vec<DnsHost>,
}

/// What happens to an answer that gives a private address to a public name (DN24).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rebinding {
    /// The address is taken out, unless the name is one of these or below one.
    Filter {
        /// Domains in lower case that may answer with private addresses.
        allow: Vec<String>,
    },
    /// It passes.
    Pass,
}

/// A name with a fixed address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsHost {
    /// In lower case; one label stands for a name in the local domain.
    pub name: String,
    /// What it resolves to.
    pub address: Ipv4Addr,
}

/// What happens to the MSS option of SYN segments through the WAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MssClamp {
    /// Lowered to what the WAN MTU allows.
    Auto,
    /// Left alone.
    Off,
    /// Lowered to this many bytes.
    Value(u16),
}

/// What becomes of a SYN from outside that nobody asked for (RFC 5382 REQ-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnsolicitedSyn {
    /// It is dropped.
    Silent,
    /// After six seconds in which nobody inside sent a SYN of the same connection, it is answered
    /// by "port unreachable".
    Answer,
}

/// Whether timeouts may be shorter than the RFCs allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShortTimeouts {
    /// A shorter one is refused.
    Refused,
    /// The operator knows what breaks.
    Allowed,
}

/// Whether hosts reach each other through the WAN address (RFC 4787 REQ-9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hairpinning {
    /// They do.
    On,
    /// Packets from a LAN to the WAN address end at the router.
    Off,
}

/// Which new flows may pass between zones.
///
/// Rules are tried in file order and the first that matches decides. Where none does, a LAN may
/// open flows to the WAN and to the LANs in its `reach`, and nothing else may: the WAN reaches only
/// forwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// In file order.
    pub rules: Vec<Rule>,
}

/// One rule about new flows; an absent condition matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// What happens to a flow that matches.
    pub action: Action,
    /// Name of the LAN from which the flow comes.
    pub from: String,
    /// Where it goes.
    pub to: RuleTarget,
    /// Which transport; absent: every protocol, ICMP included.
    pub protocol: Option<ForwardProtocol>,
    /// Destination ports; only with a protocol.
    #[serde(serialize_with = "forward::option_as_ports")]
    pub ports: Option<RangeInclusive<u16>>,
    /// Source addresses.
    pub source: Option<Ipv4Net>,
    /// Destination addresses.
    pub destination: Option<Ipv4Net>,
}

/// What happens to a new flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It may be opened.
    Allow,
    /// It is dropped, and the sender is told (RFC 5508 REQ-8).
    Refuse,
}

impl Action {
    /// The word that the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Refuse => "refuse",
        }
    }
}

/// Where a flow of a rule goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleTarget {
    /// Anywhere but the router itself.
    Anywhere,
    /// The Internet.
    Wan,
    /// The LAN of this name.
    Lan(String),
}

impl Config {
    /// The first LAN whose subnet shares addresses with `net`: what a WAN lease must not do (DC28,
    /// RFC 4787 REQ-7).
    #[must_use]
    pub fn overlap_with_lan(&self, net: Ipv4Net) -> Option<&Lan> {
        self.lans.iter().find(|lan| overlap(lan.address, net))
    }

    /// The LAN of this name.
    #[must_use]
    pub fn lan(&self, name: &str) -> Option<&Lan> {
        self.lans.iter().find(|lan| lan.name == name)
    }

    /// All reservations, with the LAN that each belongs to.
    pub fn reservations(&self) -> impl Iterator<Item = (&Lan, &Reservation)> {
        self.lans.iter().flat_map(|lan| {
            lan.dhcp.iter().flat_map(move |dhcp| dhcp.reservations.iter().map(move |r| (lan, r)))
        })
    }

    /// Checks a forward that is to be added while running, as if it stood behind those of the file.
    ///
    /// # Errors
    /// Its ports conflict with a forward of the file or belong to the router, its address is no host
    /// of a LAN, or (`ForwardToUnknown`) its name is neither reserved nor in `[dns]`: the caller may
    /// know it from a lease.
    pub fn check_forward(&self, forward: &Forward) -> Result<(), crate::Fault> {
        crate::read::check_added(forward, self)
    }

    /// The external addresses that hosts share beside the link's own, in order, where the link has
    /// `own` and these gateways: those of `[wan] addresses` that can be ours there and are no 1:1
    /// address.
    pub fn pool_addresses(
        &self,
        own: Ipv4Net,
        gateways: &[Ipv4Addr],
    ) -> impl Iterator<Item = Ipv4Addr> {
        let listed = self.wan.addresses.iter().flat_map(AddressRange::iter);
        listed.filter(move |address| {
            is_further(own, gateways, *address)
                && self.nat.statics.iter().all(|one| one.external != *address)
        })
    }

    /// The 1:1 addresses, where the link has `own` and these gateways.
    pub fn static_addresses(
        &self,
        own: Ipv4Net,
        gateways: &[Ipv4Addr],
    ) -> impl Iterator<Item = &StaticNat> {
        self.nat.statics.iter().filter(move |one| is_further(own, gateways, one.external))
    }

    /// All external addresses beside the WAN link's own, shared and 1:1, in order and each once.
    #[must_use]
    pub fn further_addresses(&self) -> Vec<Ipv4Addr> {
        let listed = self.wan.addresses.iter().flat_map(AddressRange::iter);
        let statics = self.nat.statics.iter().map(|one| one.external);
        let mut all: Vec<Ipv4Addr> = listed.chain(statics).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The address of a forward's host, as far as the file knows it: reservations first, then DNS
    /// hosts.
    #[must_use]
    pub fn host_address(&self, host: &ForwardHost) -> Option<Ipv4Addr> {
        let name = match host {
            ForwardHost::Address(address) => return Some(*address),
            ForwardHost::Name(name) => name,
        };
        let reserved = self.reservations().find(|(_, r)| r.name == *name).map(|(_, r)| r.address);
        let in_dns = || self.dns.hosts.iter().find(|host| host.name == *name).map(|h| h.address);
        reserved.or_else(in_dns)
    }
}

/// Whether an external address can be used where the WAN link has `own`: a lease may turn out to be
/// that address, or to make it a gateway's, or the one of the subnet or of all its hosts.
#[must_use]
pub fn is_further(own: Ipv4Net, gateways: &[Ipv4Addr], address: Ipv4Addr) -> bool {
    let is_special =
        own.prefix_len() < 31 && (address == own.network() || address == own.broadcast());
    address != own.addr() && !is_special && !gateways.contains(&address)
}

/// Whether two prefixes share an address; host bits do not matter.
pub(crate) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn as_text<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn as_texts<T: fmt::Display, S: Serializer>(values: &[T], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(ToString::to_string))
}

fn option_as_text<T: fmt::Display, S: Serializer>(
    value: &Option<T>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

fn as_duration<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*value))
}
