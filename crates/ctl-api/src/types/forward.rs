//! Ports that lead inside.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use config::{ForwardHost, ForwardProtocol, Hairpinning, ParseForwardError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{WanState, serde_as_text};

/// Protocols as the words of the file, for `#[serde(with = "protocol")]`.
mod protocol {
    use config::ForwardProtocol;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(this: &ForwardProtocol, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(this.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ForwardProtocol, D::Error> {
        let explain = |error: config::ParseForwardError| format!("{error}: {}", error.remedy());
        String::deserialize(from)?.parse().map_err(|error| de::Error::custom(explain(error)))
    }
}

/// One external port or a range of them, both ends included.
///
/// **Shape**: text in JSON, `"8080"` or `"27000-27015"`; a bare number is read too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// A range, or `None` if it is empty or holds port 0.
    #[must_use]
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first != 0 && first <= last).then_some(Self { first, last })
    }

    /// Lowest port.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// Highest port.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether a port is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// The text is not a port or a range of ports.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is not a port (1-65535) or a range such as 27000-27015")]
pub struct ParsePortRangeError {
    text: String,
}

impl FromStr for PortRange {
    type Err = ParsePortRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = parse_port(first).zip(parse_port(last));
        range
            .and_then(|(first, last)| Self::new(first, last))
            .ok_or_else(|| ParsePortRangeError { text: text.to_owned() })
    }
}

/// Reads a port as digits alone: no sign, not zero.
fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u16),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(port) => {
                Self::new(port, port).ok_or_else(|| de::Error::custom("port 0 is not a port"))
            }
            Raw::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// Where a forward leads: a host and, unless it stays the same, a port.
///
/// **Shape**: text in JSON, `"10.0.0.5:80"`, `"10.0.0.5"`, `"web:80"` or `"web"`. For a range of ports, the
/// port given is the one that the first of the range becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardTarget {
    /// The host inside.
    pub host: ForwardHost,
    /// Port there; the external one if absent.
    pub port: Option<u16>,
}

impl fmt::Display for ForwardTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

/// The text is not a host with or without a port.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is not a host such as 10.0.0.5:80, web:80 or web")]
pub struct ParseTargetError {
    text: String,
}

impl FromStr for ForwardTarget {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseTargetError { text: text.to_owned() };
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port).ok_or_else(error)?)),
            None => (text, None),
        };
        let host = ForwardHost::parse(host).ok_or_else(error)?;
        Ok(Self { host, port })
    }
}

serde_as_text!(ForwardTarget);

/// A forward to open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardSpec {
    /// Protocols it covers.
    #[serde(with = "protocol")]
    pub protocol: ForwardProtocol,
    /// External port or range.
    pub port: PortRange,
    /// Where it leads.
    pub to: ForwardTarget,
    /// Who may use it, as the file says it; empty: everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Whether hosts inside may use it too.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub hairpin: bool,
}

fn yes() -> bool {
    true
}

fn is_yes(flag: &bool) -> bool {
    *flag
}

/// Why a specification is no forward.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SpecError {
    /// Its ports or its target.
    #[error(transparent)]
    Forward(#[from] ParseForwardError),
    /// Who may use it.
    #[error(transparent)]
    From(#[from] config::Fault),
}

impl SpecError {
    /// What to write instead.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Forward(error) => error.remedy(),
            Self::From(fault) => fault.remedy(),
        }
    }
}

impl ForwardSpec {
    /// The same as the configuration would say it.
    ///
    /// # Errors
    /// If the internal ports would run past 65535, or `from` names neither addresses nor a name.
    pub fn to_config(&self) -> Result<config::Forward, SpecError> {
        let Self { protocol, port, to, from, hairpin } = self;
        let forward =
            config::Forward::parse(protocol.as_str(), &port.to_string(), &to.to_string())?;
        let terms = from.iter().map(|term| config::AddressTerm::parse(term));
        let hairpin = if *hairpin { Hairpinning::On } else { Hairpinning::Off };
        Ok(config::Forward { from: terms.collect::<Result<_, _>>()?, hairpin, ..forward })
    }
}

/// Who asked for a forward.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardSource {
    /// The configuration file; changed there only.
    Config,
    /// The operator through the control socket; survives restarts.
    Runtime,
}

impl fmt::Display for ForwardSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Config => "config",
            Self::Runtime => "runtime",
        })
    }
}

/// A forward that exists.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Forward {
    /// `protocol/port`, or `protocol/address:port` where the address is not the WAN link's own; unique
    /// among forwards and stable across restarts.
    pub id: String,
    /// Protocols it covers.
    #[serde(with = "protocol")]
    pub protocol: ForwardProtocol,
    /// Which external address; absent: the WAN link's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// External port or range.
    pub port: PortRange,
    /// Where it leads, as it was asked for.
    pub to: ForwardTarget,
    /// Who asked for it.
    pub source: ForwardSource,
    /// Whether packets pass: the WAN has an address and the target is known.
    pub enabled: bool,
    /// The internal endpoint of its first port; `null` while the name has no lease.
    pub resolved: Option<SocketAddrV4>,
    /// Who may use it; empty: everybody.
    #[serde(default)]
    pub from: Vec<String>,
    /// Whether hosts inside may use it too.
    #[serde(default = "yes")]
    pub hairpin: bool,
}

impl Forward {
    /// A forward of the configuration or of the store, as the API shows it. It is enabled if its target
    /// is known and `wan` is up.
    #[must_use]
    pub fn new(
        forward: &config::Forward,
        source: ForwardSource,
        resolved: Option<SocketAddrV4>,
        wan: WanState,
    ) -> Self {
        let port = PortRange { first: *forward.port.start(), last: *forward.port.end() };
        let config::ForwardTarget { host, port: internal } = &forward.to;
        let id = match forward.address {
            None => Self::id_of(forward.protocol, port),
            Some(address) => format!("{}/{address}:{port}", forward.protocol.as_str()),
        };
        Self {
            id,
            protocol: forward.protocol,
            address: forward.address,
            port,
            to: ForwardTarget { host: host.clone(), port: Some(*internal) },
            source,
            enabled: resolved.is_some() && wan.is_up(),
            resolved,
            from: forward.from.iter().map(ToString::to_string).collect(),
            hairpin: forward.hairpin == Hairpinning::On,
        }
    }

    /// What identifies a forward of the WAN link's own address.
    #[must_use]
    pub fn id_of(protocol: ForwardProtocol, port: PortRange) -> String {
        format!("{}/{port}", protocol.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_and_print_alike() {
        for text in ["1", "8080", "27000-27015", "65535"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        assert_eq!("5-5".parse::<PortRange>().unwrap().to_string(), "5");
    }

    #[test]
    fn ports_that_are_none_are_refused() {
        for text in ["", "0", "-", "5-", "-5", "9-5", "65536", "+80", "1-2-3", " 80"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_in_json_may_be_a_number() {
        assert_eq!(
            serde_json::from_str::<PortRange>("8080").unwrap(),
            serde_json::from_str::<PortRange>("\"8080\"").unwrap()
        );
        assert!(serde_json::from_str::<PortRange>("0").is_err());
    }

    #[test]
    fn targets_read_and_print_alike() {
        for text in ["10.0.0.5:80", "10.0.0.5", "web:80", "minecraft", "a-b:1"] {
            assert_eq!(text.parse::<ForwardTarget>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn targets_that_are_none_are_refused() {
        for text in
            ["", ":80", "web:", "web:0", "10.0.0.256", "10.0.0", "-a", "a_b", "a..b", "a:1:2"]
        {
            assert!(text.parse::<ForwardTarget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_spec_means_what_the_same_words_mean_in_the_file() {
        let text = r#"{"protocol":"udp","port":"27000-27015","to":"minecraft"}"#;
        let spec: ForwardSpec = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&spec).unwrap(), text);
        let forward = spec.to_config().unwrap();
        assert_eq!(forward.to_string(), "udp 27000-27015 to minecraft:27000");
        let shown = Forward::new(&forward, ForwardSource::Runtime, None, WanState::Bound);
        assert_eq!((shown.id.as_str(), shown.enabled), ("udp/27000-27015", false));
    }

    #[test]
    fn one_port_of_two_addresses_is_two_forwards() {
        let mut forward = config::Forward::parse("tcp", "80", "web").unwrap();
        forward.address = Some(Ipv4Addr::new(203, 0, 113, 5));
        let shown = Forward::new(&forward, ForwardSource::Config, None, WanState::Bound);
        assert_eq!(shown.id, "tcp/203.0.113.5:80");
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["address"], "203.0.113.5");
    }

    #[test]
    fn a_spec_may_name_sources_and_forbid_the_inside() {
        let text = r#"{"protocol":"tcp","port":"80","to":"web","from":["@office","10.0.0.0/8"],"hairpin":false}"#;
        let spec: ForwardSpec = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&spec).unwrap(), text);
        let forward = spec.to_config().unwrap();
        assert_eq!(
            forward.to_string(),
            "tcp 80 to web:80 from @office, 10.0.0.0/8, not from inside"
        );
        let shown = Forward::new(&forward, ForwardSource::Runtime, None, WanState::Bound);
        assert_eq!((shown.from.len(), shown.hairpin), (2, false));
        let wrong = ForwardSpec { from: vec!["a b".to_owned()], ..spec };
        assert!(wrong.to_config().unwrap_err().remedy().contains("`10.0.0.0/24`"));
    }

    #[test]
    fn a_spec_stored_by_an_earlier_release_is_open_to_everybody() {
        let text = r#"{"protocol":"tcp","port":"80","to":"web"}"#;
        let spec: ForwardSpec = serde_json::from_str(text).unwrap();
        assert_eq!((spec.from.len(), spec.hairpin), (0, true));
        assert_eq!(spec.to_config().unwrap().hairpin, Hairpinning::On);
    }

    #[test]
    fn ranges_that_share_a_port_overlap() {
        let range = |text: &str| text.parse::<PortRange>().unwrap();
        assert!(range("10-20").overlaps(range("20-30")));
        assert!(!range("10-20").overlaps(range("21")));
    }
}
