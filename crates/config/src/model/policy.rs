//! Which new flows may pass, as the file says it.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Serialize, Serializer};

use super::forward::Ports;
use super::{AddressRange, Schedule, UtcOffset};
use crate::fault::Fault;
use crate::{name, value};

/// Which new flows may pass between zones.
///
/// Rules are tried in file order and the first that matches decides. Where none does, a LAN may
/// open flows to the WAN and to the LANs in its `reach`, and nothing else may: the WAN reaches only
/// forwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// What local time is, for schedules.
    pub utc_offset: UtcOffset,
    /// LANs under one name, in file order.
    pub zones: Vec<PolicyZone>,
    /// Addresses under one name, by name.
    pub sets: Vec<AddressGroup>,
    /// In file order.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// Whether some rule comes and goes with the time of day.
    #[must_use]
    pub fn is_scheduled(&self) -> bool {
        self.rules.iter().any(|rule| rule.when.schedule.is_some())
    }
}

/// LANs under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyZone {
    /// What rules call it; no LAN has the name.
    pub name: String,
    /// Names of its LANs; at least one.
    pub lans: Vec<String>,
}

/// Addresses under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressGroup {
    /// What `@` stands before in rules.
    pub name: String,
    /// At least one; no set contains itself.
    #[serde(serialize_with = "as_texts")]
    pub addresses: Vec<AddressTerm>,
}

/// Some addresses, as a rule, a forward or a set names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressTerm {
    /// A prefix, or one address.
    Net(Ipv4Net),
    /// From the first to the last.
    Range(AddressRange),
    /// The host with this reservation or `[dns]` name.
    Name(String),
    /// The set of this name.
    Set(String),
}

impl AddressTerm {
    /// Reads `10.0.0.5`, `10.0.0.0/24`, `10.0.0.5-10.0.0.9`, `web` or `@office`.
    ///
    /// # Errors
    /// If it is none of these. Whether the name or set exists is not checked here.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let fault = || Fault::NotAddresses { given: text.to_owned() };
        if let Some(set) = text.strip_prefix('@') {
            return name::lan(set).map(AddressTerm::Set).map_err(|_| fault());
        }
        let numeric = text.starts_with(|c: char| c.is_ascii_digit())
            && text.bytes().all(|b| b.is_ascii_digit() || b"./- ".contains(&b));
        match numeric {
            true if text.contains('-') => value::pool(text).map(AddressTerm::Range),
            true => value::prefix(text).map(AddressTerm::Net),
            false => name::host(text).map(AddressTerm::Name).map_err(|_| fault()),
        }
    }
}

impl fmt::Display for AddressTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressTerm::Net(net) if net.prefix_len() == 32 => net.addr().fmt(f),
            AddressTerm::Net(net) => net.fmt(f),
            AddressTerm::Range(range) => range.fmt(f),
            AddressTerm::Name(name) => f.write_str(name),
            AddressTerm::Set(name) => write!(f, "@{name}"),
        }
    }
}

/// One rule about new flows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// What reports call it; absent: its number in the file.
    pub name: Option<String>,
    /// What happens to a flow that matches.
    pub action: Action,
    /// Which flows match.
    #[serde(flatten)]
    pub when: Condition,
    /// How many new flows may pass; absent: all. Only where they are allowed.
    pub rate: Option<FlowRate>,
    /// Whether matches go to the log.
    pub logging: Logging,
}

impl Rule {
    /// A rule about every flow between two ends.
    #[must_use]
    pub fn between(action: Action, from: RuleEnd, to: RuleEnd) -> Self {
        let when = Condition {
            from,
            to,
            protocol: RuleProtocol::Any,
            ports: Vec::new(),
            source_ports: Vec::new(),
            source: Vec::new(),
            destination: Vec::new(),
            dscp: Vec::new(),
            schedule: None,
        };
        Rule { name: None, action, when, rate: None, logging: Logging::Off }
    }
}

/// What a flow must look like for a rule to decide it; an empty or absent part matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Where the flow comes from.
    #[serde(serialize_with = "super::as_text")]
    pub from: RuleEnd,
    /// Where it goes.
    #[serde(serialize_with = "super::as_text")]
    pub to: RuleEnd,
    /// Which IP protocol.
    #[serde(serialize_with = "super::as_text")]
    pub protocol: RuleProtocol,
    /// Destination ports: of the host inside, where the WAN's leads to one; only with a protocol
    /// that has ports.
    #[serde(serialize_with = "as_port_texts")]
    pub ports: Vec<RangeInclusive<u16>>,
    /// Source ports, likewise.
    #[serde(serialize_with = "as_port_texts")]
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Source addresses.
    #[serde(serialize_with = "as_texts")]
    pub source: Vec<AddressTerm>,
    /// Destination addresses: of the host inside, where the WAN's leads to one.
    #[serde(serialize_with = "as_texts")]
    pub destination: Vec<AddressTerm>,
    /// Code points of the first packet (RFC 2474).
    pub dscp: Vec<u8>,
    /// When the rule exists; absent: always.
    #[serde(serialize_with = "super::option_as_text")]
    pub schedule: Option<Schedule>,
}

/// What happens to a new flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It may be opened.
    Allow,
    /// It is dropped, and the sender is told: by a reset if it is TCP, else by ICMP (RFC 5508 REQ-8).
    Refuse,
    /// It is dropped silently.
    Drop,
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 3] = [Action::Allow, Action::Refuse, Action::Drop];

    /// The word that the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Refuse => "refuse",
            Action::Drop => "drop",
        }
    }
}

/// Whether matches of a rule go to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Logging {
    /// They do, at a bounded rate.
    On,
    /// They do not.
    Off,
}

/// One end of the flows of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleEnd {
    /// Anywhere but the router itself.
    Anywhere,
    /// The Internet.
    Wan,
    /// The router itself.
    Router,
    /// The LAN of this name.
    Lan(String),
    /// The LANs of the `[[policy.zone]]` of this name.
    Zone(String),
}

impl fmt::Display for RuleEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleEnd::Anywhere => "anywhere",
            RuleEnd::Wan => "wan",
            RuleEnd::Router => "router",
            RuleEnd::Lan(name) | RuleEnd::Zone(name) => name,
        })
    }
}

/// The IP protocols of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleProtocol {
    /// Every one.
    Any,
    /// TCP and UDP.
    Both,
    /// The one with this number.
    One(u8),
}

/// Protocols that have a name in the file, by IANA's numbers; those with ports are marked.
const PROTOCOL_NAMES: [(&str, u8, bool); 10] = [
    ("icmp", 1, false),
    ("igmp", 2, false),
    ("ipip", 4, false),
    ("tcp", 6, true),
    ("udp", 17, true),
    ("gre", 47, false),
    ("esp", 50, false),
    ("ah", 51, false),
    ("sctp", 132, true),
    ("udplite", 136, true),
];

impl RuleProtocol {
    /// TCP alone.
    pub const TCP: RuleProtocol = RuleProtocol::One(6);
    /// UDP alone.
    pub const UDP: RuleProtocol = RuleProtocol::One(17);
    /// ICMP alone.
    pub const ICMP: RuleProtocol = RuleProtocol::One(1);

    /// Whether all of them have ports.
    #[must_use]
    pub fn has_ports(self) -> bool {
        match self {
            RuleProtocol::Any => false,
            RuleProtocol::Both => true,
            RuleProtocol::One(number) => {
                PROTOCOL_NAMES.iter().any(|(_, named, ports)| *named == number && *ports)
            }
        }
    }

    /// The numbers of all of them; `None`: every one.
    #[must_use]
    pub fn numbers(self) -> Option<Vec<u8>> {
        match self {
            RuleProtocol::Any => None,
            RuleProtocol::Both => Some(vec![6, 17]),
            RuleProtocol::One(number) => Some(vec![number]),
        }
    }
}

impl FromStr for RuleProtocol {
    type Err = Fault;

    /// Reads `tcp`, `both`, `any`, the name of another protocol or its number.
    fn from_str(text: &str) -> Result<Self, Fault> {
        match text {
            "any" => return Ok(RuleProtocol::Any),
            "both" => return Ok(RuleProtocol::Both),
            _ => {}
        }
        let named = PROTOCOL_NAMES.iter().find(|(name, ..)| *name == text);
        named
            .map(|(_, number, _)| *number)
            .or_else(|| text.parse().ok().filter(|_| !text.starts_with('+')))
            .map(RuleProtocol::One)
            .ok_or_else(|| Fault::NotProtocol { given: text.to_owned() })
    }
}

impl fmt::Display for RuleProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleProtocol::Any => f.write_str("any"),
            RuleProtocol::Both => f.write_str("both"),
            RuleProtocol::One(number) => {
                match PROTOCOL_NAMES.iter().find(|(_, named, _)| named == number) {
                    Some((name, ..)) => f.write_str(name),
                    None => number.fmt(f),
                }
            }
        }
    }
}

/// How many new flows of a rule may pass in how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FlowRate {
    /// Flows; at least one.
    pub flows: u32,
    /// In this time.
    #[serde(serialize_with = "super::as_duration")]
    pub per: Duration,
    /// Flows that may come back to back; at least one.
    pub burst: u32,
}

impl FlowRate {
    /// Reads `20/s`, `100/m` or `1000/h`; the burst is that of one second, at least
    /// [`FLOW_BURST_MIN`](crate::defaults::FLOW_BURST_MIN).
    ///
    /// # Errors
    /// If it is no such rate or beyond the limits.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let fault = || Fault::NotFlowRate { given: text.to_owned() };
        let (flows, unit) = text.split_once('/').ok_or_else(fault)?;
        let digits = !flows.is_empty() && flows.bytes().all(|b| b.is_ascii_digit());
        let flows: u32 = flows.parse().ok().filter(|_| digits).ok_or_else(fault)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(fault()),
        };
        if !(1..=crate::defaults::FLOW_RATE_MAX).contains(&flows) {
            return Err(fault());
        }
        let burst = (flows / seconds).max(crate::defaults::FLOW_BURST_MIN);
        Ok(FlowRate { flows, per: Duration::from_secs(seconds.into()), burst })
    }
}

impl fmt::Display for FlowRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.flows)
    }
}

/// The code point with a name (RFC 2474 §4.2.2, RFC 2597 §6, RFC 3246, RFC 5865, RFC 8622).
pub(crate) fn dscp_named(text: &str) -> Option<u8> {
    DSCP_NAMES.iter().find(|(name, _)| *name == text).map(|(_, point)| *point)
}

/// All names of code points.
pub(crate) const DSCP_NAMES: [(&str, u8); 23] = [
    ("cs0", 0),
    ("cs1", 8),
    ("cs2", 16),
    ("cs3", 24),
    ("cs4", 32),
    ("cs5", 40),
    ("cs6", 48),
    ("cs7", 56),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("le", 1),
    ("va", 44),
    ("ef", 46),
];

pub(super) fn as_texts<T: fmt::Display, S: Serializer>(
    values: &[T],
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(ToString::to_string))
}

fn as_port_texts<S: Serializer>(ports: &[RangeInclusive<u16>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(ports.iter().map(|ports| Ports(ports).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_read_and_print_alike() {
        for text in ["10.0.0.5", "10.0.0.0/24", "10.0.0.5-10.0.0.9", "web", "@office", "3com"] {
            assert_eq!(AddressTerm::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn terms_that_are_none_say_what_they_might_be() {
        for (text, remedy) in [
            ("", "`10.0.0.0/24`"),
            ("@", "`10.0.0.0/24`"),
            ("@a b", "`10.0.0.0/24`"),
            ("a.b", "`10.0.0.0/24`"),
            ("10.0.0.1/24", "`10.0.0.0/24`"),
            ("10.0.0.256", "`10.0.0.1/24`"),
            ("10.0.0.9-10.0.0.5", "`10.0.0.5-10.0.0.9`"),
        ] {
            let fault = AddressTerm::parse(text).unwrap_err();
            assert!(fault.remedy().contains(remedy), "{text}: {}", fault.remedy());
        }
    }

    #[test]
    fn protocols_read_by_name_and_number() {
        for (text, shown) in [
            ("any", "any"),
            ("both", "both"),
            ("tcp", "tcp"),
            ("17", "udp"),
            ("esp", "esp"),
            ("89", "89"),
            ("0", "0"),
        ] {
            assert_eq!(text.parse::<RuleProtocol>().unwrap().to_string(), shown);
        }
        for bad in ["", "TCP", "256", "+6", "-1", "ospf"] {
            assert!(bad.parse::<RuleProtocol>().is_err(), "{bad}");
        }
        let with_ports = ["any", "both", "tcp", "udp", "sctp", "icmp", "esp", "89"]
            .map(|text| text.parse::<RuleProtocol>().unwrap().has_ports());
        assert_eq!(with_ports, [false, true, true, true, true, false, false, false]);
    }

    #[test]
    fn flow_rates_read_with_their_burst() {
        let read =
            |text| FlowRate::parse(text).map(|rate| (rate.flows, rate.per.as_secs(), rate.burst));
        assert_eq!(read("20/s"), Ok((20, 1, 20)));
        assert_eq!(read("90/m"), Ok((90, 60, 5)));
        assert_eq!(read("1/h"), Ok((1, 3600, 5)));
        for bad in ["", "20", "/s", "20/", "20/d", "0/s", "-1/s", "+1/s", "1.5/s", "99999999/s"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
