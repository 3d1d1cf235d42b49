//! Ports of the WAN address that lead to a host, in the text forms that the file and `routerctl`
//! share.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use serde::{Serialize, Serializer};

use super::{AddressTerm, Hairpinning};
use crate::name;

/// A port or a range of ports of the WAN address that leads to a host on a LAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// Which transport.
    pub protocol: ForwardProtocol,
    /// Which external address; absent: the WAN link's own, whatever it is.
    pub address: Option<Ipv4Addr>,
    /// External ports, first to last, never 0.
    #[serde(serialize_with = "as_ports")]
    pub port: RangeInclusive<u16>,
    /// Where they lead.
    pub to: ForwardTarget,
    /// Who may use it; empty: everybody.
    #[serde(serialize_with = "super::policy::as_texts")]
    pub from: Vec<AddressTerm>,
    /// Whether hosts inside reach it by the WAN address too; only where `[nat]` says so for all.
    pub hairpin: Hairpinning,
}

/// The transports of a forward or a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardProtocol {
    /// TCP alone.
    Tcp,
    /// UDP alone.
    Udp,
    /// TCP and UDP.
    Both,
}

/// Where a forward leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForwardTarget {
    /// To whom.
    pub host: ForwardHost,
    /// Internal port of the first external one; the others follow in step.
    pub port: u16,
}

/// The host behind a forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardHost {
    /// Whoever has this address.
    Address(Ipv4Addr),
    /// The host of this name, wherever its lease puts it; one label in lower case.
    Name(String),
}

/// Why words are no forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseForwardError {
    /// The protocol is none that has ports.
    #[error("`{given}` is no protocol of a forward")]
    Protocol {
        /// What was given.
        given: String,
    },
    /// The external ports are no port and no range.
    #[error("`{given}` is no port and no range of ports")]
    Ports {
        /// What was given.
        given: String,
    },
    /// A range that ends before it begins.
    #[error("the range {first}-{last} runs backwards")]
    Backwards {
        /// The first port as given.
        first: u16,
        /// The last port as given.
        last: u16,
    },
    /// The host is neither an address nor a name.
    #[error("`{given}` is neither an IPv4 address nor a host name")]
    Host {
        /// What was given.
        given: String,
    },
    /// The internal port is no port.
    #[error("`{given}` is no port")]
    TargetPort {
        /// What was given.
        given: String,
    },
    /// The internal ports would run past 65535.
    #[error("{count} ports from {port} on run past 65535")]
    TargetRange {
        /// The first internal port.
        port: u16,
        /// How many ports the forward has.
        count: u32,
    },
}

/// Which of the three words of a forward is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardWord {
    Protocol,
    Port,
    To,
}

impl ParseForwardError {
    /// What to write instead.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            ParseForwardError::Protocol { .. } => "use `tcp`, `udp` or `both`".to_owned(),
            ParseForwardError::Ports { .. } => {
                "write one port such as `8080`, or first and last such as `27000-27015` \
                 (1 to 65535)"
                    .to_owned()
            }
            ParseForwardError::Backwards { first, last } => {
                format!("write the lower port first: `{last}-{first}`")
            }
            ParseForwardError::Host { .. } => {
                "write `ADDRESS:PORT` or `NAME:PORT`; the port may be left out".to_owned()
            }
            ParseForwardError::TargetPort { .. } => {
                "write a port from 1 to 65535, or leave `:PORT` out to keep the external one"
                    .to_owned()
            }
            ParseForwardError::TargetRange { count, .. } => {
                let last = u32::from(u16::MAX) + 1 - count;
                format!("begin at {last} or lower, or make the range shorter")
            }
        }
    }

    pub(crate) fn word(&self) -> ForwardWord {
        match self {
            ParseForwardError::Protocol { .. } => ForwardWord::Protocol,
            ParseForwardError::Ports { .. } | ParseForwardError::Backwards { .. } => {
                ForwardWord::Port
            }
            ParseForwardError::Host { .. }
            | ParseForwardError::TargetPort { .. }
            | ParseForwardError::TargetRange { .. } => ForwardWord::To,
        }
    }
}

impl Forward {
    /// Reads the three words of `routerctl forward add`: `tcp 8080 10.0.0.5:80`, `udp 27000-27015
    /// minecraft`. It is for the WAN link's own address.
    ///
    /// # Errors
    /// The first word that is wrong. Whether the host exists is not checked here.
    pub fn parse(protocol: &str, port: &str, to: &str) -> Result<Self, ParseForwardError> {
        let protocol: ForwardProtocol = protocol.parse()?;
        let port = parse_ports(port)?;
        let (host, internal) = match to.rsplit_once(':') {
            Some((host, internal)) => (host, Some(internal)),
            None => (to, None),
        };
        let host = ForwardHost::parse(host)
            .ok_or_else(|| ParseForwardError::Host { given: to.to_owned() })?;
        let internal = match internal {
            Some(text) => parse_port(text)
                .ok_or_else(|| ParseForwardError::TargetPort { given: text.to_owned() })?,
            None => *port.start(),
        };
        let count = u32::from(*port.end()) - u32::from(*port.start()) + 1;
        if u32::from(internal) + count - 1 > u32::from(u16::MAX) {
            return Err(ParseForwardError::TargetRange { port: internal, count });
        }
        let to = ForwardTarget { host, port: internal };
        let (from, hairpin) = (Vec::new(), Hairpinning::On);
        Ok(Forward { protocol, address: None, port, to, from, hairpin })
    }

    /// Whether both claim one port of one external address and protocol.
    #[must_use]
    pub fn conflicts_with(&self, other: &Forward) -> bool {
        self.address == other.address
            && self.protocol.overlaps(other.protocol)
            && self.port.start() <= other.port.end()
            && other.port.start() <= self.port.end()
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.protocol.as_str())?;
        if let Some(address) = self.address {
            write!(f, "{address}:")?;
        }
        Ports(&self.port).fmt(f)?;
        write!(f, " to {}:{}", self.to.host, self.to.port)?;
        if !self.from.is_empty() {
            let from: Vec<String> = self.from.iter().map(ToString::to_string).collect();
            write!(f, " from {}", from.join(", "))?;
        }
        match self.hairpin {
            Hairpinning::On => Ok(()),
            Hairpinning::Off => f.write_str(", not from inside"),
        }
    }
}

impl ForwardProtocol {
    /// The word that the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ForwardProtocol::Tcp => "tcp",
            ForwardProtocol::Udp => "udp",
            ForwardProtocol::Both => "both",
        }
    }

    /// Whether TCP is among them.
    #[must_use]
    pub fn has_tcp(self) -> bool {
        self != ForwardProtocol::Udp
    }

    /// Whether UDP is among them.
    #[must_use]
    pub fn has_udp(self) -> bool {
        self != ForwardProtocol::Tcp
    }

    pub(crate) fn overlaps(self, other: ForwardProtocol) -> bool {
        (self.has_tcp() && other.has_tcp()) || (self.has_udp() && other.has_udp())
    }
}

impl std::str::FromStr for ForwardProtocol {
    type Err = ParseForwardError;

    fn from_str(text: &str) -> Result<Self, ParseForwardError> {
        match text {
            "tcp" => Ok(ForwardProtocol::Tcp),
            "udp" => Ok(ForwardProtocol::Udp),
            "both" => Ok(ForwardProtocol::Both),
            _ => Err(ParseForwardError::Protocol { given: text.to_owned() }),
        }
    }
}

impl ForwardHost {
    /// Reads an address or a host name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.parse::<Ipv4Addr>() {
            Ok(address) => Some(ForwardHost::Address(address)),
            Err(_) => name::host(text).ok().map(ForwardHost::Name),
        }
    }
}

impl fmt::Display for ForwardHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardHost::Address(address) => address.fmt(f),
            ForwardHost::Name(name) => f.write_str(name),
        }
    }
}

/// Shows `8080` or `27000-27015`.
pub(super) struct Ports<'p>(pub(super) &'p RangeInclusive<u16>);

impl fmt::Display for Ports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { first.fmt(f) } else { write!(f, "{first}-{last}") }
    }
}

fn as_ports<S: Serializer>(ports: &RangeInclusive<u16>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&Ports(ports))
}

pub(super) fn option_as_ports<S: Serializer>(
    ports: &Option<RangeInclusive<u16>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match ports {
        Some(ports) => as_ports(ports, to),
        None => to.serialize_none(),
    }
}

/// Reads `8080` or `27000-27015`.
///
/// # Errors
/// `Ports` or `Backwards`.
pub(crate) fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, ParseForwardError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let bad = || ParseForwardError::Ports { given: text.to_owned() };
    let first = parse_port(first).ok_or_else(bad)?;
    let last = parse_port(last).ok_or_else(bad)?;
    if last < first {
        return Err(ParseForwardError::Backwards { first, last });
    }
    Ok(first..=last)
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(words: [&str; 3]) -> Forward {
        Forward::parse(words[0], words[1], words[2]).unwrap()
    }

    #[test]
    fn a_forward_to_an_address_and_port_reads() {
        let forward = forward(["tcp", "8080", "10.0.0.5:80"]);
        assert_eq!(forward.port, 8080..=8080);
        assert_eq!(forward.to.host, ForwardHost::Address(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(forward.to.port, 80);
        assert_eq!(forward.to_string(), "tcp 8080 to 10.0.0.5:80");
    }

    #[test]
    fn a_range_to_a_name_keeps_its_ports() {
        let forward = forward(["udp", "27000-27015", "Minecraft"]);
        assert_eq!(forward.to.host, ForwardHost::Name("minecraft".to_owned()));
        assert_eq!(forward.to.port, 27000);
        assert_eq!(forward.to_string(), "udp 27000-27015 to minecraft:27000");
    }

    #[test]
    fn every_wrong_word_has_a_remedy() {
        for (words, remedy) in [
            (["sctp", "80", "web"], "use `tcp`"),
            (["tcp", "http", "web"], "write one port"),
            (["tcp", "0", "web"], "write one port"),
            (["tcp", "+80", "web"], "write one port"),
            (["tcp", "90-80", "web"], "`80-90`"),
            (["tcp", "80", "we b:80"], "`ADDRESS:PORT`"),
            (["tcp", "80", ""], "`ADDRESS:PORT`"),
            (["tcp", "80", "10.0.0.256"], "`ADDRESS:PORT`"),
            (["tcp", "80", "web:0"], "1 to 65535"),
            (["tcp", "80", "web:http"], "1 to 65535"),
            (["tcp", "1-1000", "web:65000"], "begin at 64536"),
        ] {
            let error = Forward::parse(words[0], words[1], words[2]).unwrap_err();
            assert!(error.remedy().contains(remedy), "{words:?}: {}", error.remedy());
        }
    }

    #[test]
    fn the_highest_ports_forward() {
        let forward = forward(["tcp", "1-1000", "web:64536"]);
        assert_eq!(forward.to.port, 64536);
    }

    #[test]
    fn forwards_of_two_addresses_do_not_conflict() {
        let web = forward(["tcp", "80", "web"]);
        let elsewhere = Forward { address: Some(Ipv4Addr::new(203, 0, 113, 5)), ..web.clone() };
        assert!(!web.conflicts_with(&elsewhere) && elsewhere.conflicts_with(&elsewhere));
        assert_eq!(elsewhere.to_string(), "tcp 203.0.113.5:80 to web:80");
    }

    #[test]
    fn forwards_conflict_when_a_port_of_one_protocol_has_two_hosts() {
        let web = forward(["tcp", "80-90", "web"]);
        assert!(web.conflicts_with(&forward(["both", "90", "mail"])));
        assert!(!web.conflicts_with(&forward(["udp", "85", "mail"])));
        assert!(!web.conflicts_with(&forward(["tcp", "91", "mail"])));
    }
}
