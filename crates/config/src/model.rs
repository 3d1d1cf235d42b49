//! What a valid configuration is made of.
//!
//! Values here have passed every check of [`parse`](crate::parse): names are legal and unique,
//! addresses lie where they must, numbers are inside their limits. Two configurations are equal
//! when they ask for the same, whatever their files look like, so a reload that changes nothing is
//! recognised.

mod forward;
mod nat;
mod policy;
mod rate;
mod schedule;
mod zone;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use packet::{AddressSet, MacAddr};
use serde::{Serialize, Serializer};

use crate::defaults;

pub use forward::{Forward, ForwardHost, ForwardProtocol, ForwardTarget, ParseForwardError};
pub(crate) use forward::{ForwardWord, parse_ports};
pub use nat::{Exemption, HostFiltering, Nat, NatTimeouts, Pooling, ProtocolQuotas, StaticNat};
pub use policy::{
    Action, AddressGroup, AddressTerm, Condition, FlowRate, Logging, Policy, PolicyZone, Rule,
    RuleEnd, RuleProtocol,
};
pub(crate) use policy::{DSCP_NAMES, dscp_named};
pub use rate::{ParseRateError, Rate};
pub use schedule::{Schedule, UtcOffset, WeekMinute};
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
    /// What becomes of packets from and to addresses that the Internet does not carry (RFC 6890).
    pub bogons: Bogons,
    /// Ranges of them that pass nevertheless.
    pub bogons_allow: Vec<Ipv4Net>,
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

/// What becomes of packets from and to addresses that the Internet does not carry (RFC 6890).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bogons {
    /// They are dropped, but for the kinds of range that the WAN itself lies in.
    Drop,
    /// They pass.
    Pass,
}

impl Bogons {
    /// The word that the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Bogons::Drop => "drop",
            Bogons::Pass => "pass",
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

/// Whether hosts inside are told that a flow of theirs was refused, by policy or because something is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IcmpRefusals {
    /// They are, by a rate-limited ICMP error.
    Answer,
    /// They are not.
    Silent,
}

impl IcmpRefusals {
    /// Both.
    pub(crate) const ALL: [IcmpRefusals; 2] = [Self::Answer, Self::Silent];

    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Silent => "silent",
        }
    }
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

    /// The ports of the WAN address that no forward can have, each with its owner.
    #[must_use]
    pub fn reserved_ports(&self) -> Vec<ReservedPort> {
        reserved_ports(&self.control, Some(&self.wan.mode))
    }

    /// The addresses that the terms of a rule or a forward stand for, names and sets resolved.
    #[must_use]
    pub fn addresses(&self, terms: &[AddressTerm]) -> AddressSet {
        let mut ranges = Vec::new();
        self.add_addresses(terms, &mut ranges);
        ranges.into_iter().collect()
    }

    fn add_addresses(&self, terms: &[AddressTerm], ranges: &mut Vec<(Ipv4Addr, Ipv4Addr)>) {
        for term in terms {
            match term {
                AddressTerm::Net(net) => ranges.push((net.network(), net.broadcast())),
                AddressTerm::Range(range) => ranges.push((range.first, range.last)),
                AddressTerm::Name(name) => {
                    let host = ForwardHost::Name(name.clone());
                    ranges.extend(self.host_address(&host).map(|address| (address, address)));
                }
                // A set never contains itself, however indirectly: the file was checked for it.
                AddressTerm::Set(name) => {
                    let set = self.policy.sets.iter().find(|set| set.name == *name);
                    self.add_addresses(set.map_or(&[], |set| &set.addresses), ranges);
                }
            }
        }
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

/// A port of the WAN address that belongs to the router itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservedPort {
    /// TCP or UDP.
    pub protocol: ForwardProtocol,
    /// The port.
    pub port: u16,
    /// Who listens there.
    pub owner: &'static str,
}

/// The ports that the router itself has on its WAN address.
pub(crate) fn reserved_ports(control: &Control, mode: Option<&WanMode>) -> Vec<ReservedPort> {
    let udp = |port, owner| ReservedPort { protocol: ForwardProtocol::Udp, port, owner };
    let mut reserved = vec![
        udp(defaults::DHCP_CLIENT_PORT, "the router's DHCP client"),
        udp(defaults::DHCP_SERVER_PORT, "the router's DHCP server"),
    ];
    if let Some(SocketAddr::V4(metrics)) = control.metrics {
        let is_wan = match mode {
            Some(WanMode::Static { address, .. }) => address.addr() == *metrics.ip(),
            Some(WanMode::Dhcp(_)) | None => false,
        };
        if is_wan || metrics.ip().is_unspecified() {
            let (protocol, port) = (ForwardProtocol::Tcp, metrics.port());
            let owner = "the metrics page of `[control]`";
            reserved.push(ReservedPort { protocol, port, owner });
        }
    }
    reserved
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
