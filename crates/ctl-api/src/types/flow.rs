//! Sessions as the operator sees them.

use std::fmt::{self, Write};
use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

/// Most sessions that one request lists. Listing is work of the control thread; this many take it some
/// tens of milliseconds, and no terminal shows more. A filter finds the rest.
pub const FLOWS_LISTED_MAX: usize = 65_536;

/// Transport protocol of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP queries.
    Icmp,
    /// UDP-Lite.
    #[serde(rename = "udplite")]
    UdpLite,
    /// SCTP.
    Sctp,
    /// GRE; the port is its key, folded to 16 bits, or 0.
    Gre,
    /// ESP, each direction by itself; port 0.
    Esp,
    /// IPv4 in IPv4; port 0.
    #[serde(rename = "ipip")]
    IpIp,
    /// IPv6 in IPv4; port 0.
    #[serde(rename = "6in4")]
    SixInFour,
}

impl From<packet::Protocol> for Transport {
    fn from(protocol: packet::Protocol) -> Self {
        match protocol {
            packet::Protocol::Icmp => Self::Icmp,
            packet::Protocol::Tcp => Self::Tcp,
            packet::Protocol::Udp => Self::Udp,
            packet::Protocol::UdpLite => Self::UdpLite,
            packet::Protocol::Sctp => Self::Sctp,
            packet::Protocol::Gre => Self::Gre,
            packet::Protocol::Esp => Self::Esp,
            packet::Protocol::IpIp => Self::IpIp,
            packet::Protocol::SixInFour => Self::SixInFour,
        }
    }
}

impl From<Transport> for packet::Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Icmp => Self::Icmp,
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
            Transport::UdpLite => Self::UdpLite,
            Transport::Sctp => Self::Sctp,
            Transport::Gre => Self::Gre,
            Transport::Esp => Self::Esp,
            Transport::IpIp => Self::IpIp,
            Transport::SixInFour => Self::SixInFour,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(packet::Protocol::from(*self).name())
    }
}

/// Who opened a session, seen from the router.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// A host inside, to the Internet.
    Outbound,
    /// A remote host, through a forward or an open mapping.
    Inbound,
    /// A host inside, to another inside by an external address.
    Hairpin,
    /// From one LAN to another, nothing rewritten.
    Routed,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Hairpin => "hairpin",
            Self::Routed => "routed",
        })
    }
}

/// One session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Transport,
    /// Endpoint of the host inside.
    pub internal: SocketAddrV4,
    /// What stands for it outside.
    pub external: SocketAddrV4,
    /// The peer.
    pub remote: SocketAddrV4,
    /// State of the session, as `nat` names it (`opening`, `established`, `closing`, ...).
    pub state: String,
    /// Who opened it.
    pub direction: Direction,
    /// Packets from the internal host.
    pub packets_out: u64,
    /// Packets to the internal host.
    pub packets_in: u64,
    /// Bytes of IP packets from the internal host.
    pub bytes_out: u64,
    /// Bytes of IP packets to the internal host.
    pub bytes_in: u64,
    /// Seconds since the last packet in either direction.
    pub idle_secs: u64,
    /// Seconds until the session ends if no packet comes.
    pub expires_secs: u64,
}

/// Which sessions are meant; every condition that is given must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowFilter {
    /// Transport protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Transport>,
    /// Internal host, by address or by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Remote host, by address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<std::net::Ipv4Addr>,
    /// Internal, external or remote port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Most sessions to list; above [`FLOWS_LISTED_MAX`] means that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl FlowFilter {
    /// Whether every session matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { protocol, host, remote, port, limit: _ } = self;
        protocol.is_none() && host.is_none() && remote.is_none() && port.is_none()
    }

    /// How many sessions a list may hold.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(FLOWS_LISTED_MAX).min(FLOWS_LISTED_MAX)
    }

    /// The filter as a query string with its question mark; empty if nothing is asked.
    #[must_use]
    pub fn to_query(&self) -> String {
        let Self { protocol, host, remote, port, limit } = self;
        let pairs = [
            ("protocol", protocol.map(|value| value.to_string())),
            ("host", host.clone()),
            ("remote", remote.map(|value| value.to_string())),
            ("port", port.map(|value| value.to_string())),
            ("limit", limit.map(|value| value.to_string())),
        ];
        let mut query = String::new();
        for (name, value) in pairs {
            let Some(value) = value else { continue };
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(name);
            query.push('=');
            percent_encode(&value, &mut query);
        }
        query
    }
}

/// Appends `text` with all but the unreserved characters of RFC 3986 §2.3 percent-encoded.
fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// How many sessions a kill ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Killed {
    /// Sessions ended.
    pub killed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_becomes_a_query_that_no_name_can_break() {
        let filter = FlowFilter {
            protocol: Some(Transport::Udp),
            host: Some("a&b=c".into()),
            port: Some(53),
            ..FlowFilter::default()
        };
        assert_eq!(filter.to_query(), "?protocol=udp&host=a%26b%3Dc&port=53");
        assert_eq!(FlowFilter::default().to_query(), "");
    }

    #[test]
    fn a_protocol_is_written_in_json_as_it_is_named() {
        for protocol in packet::Protocol::ALL {
            let transport = Transport::from(protocol);
            let json = serde_json::to_value(transport).unwrap();
            assert_eq!(json, protocol.name());
            assert_eq!(serde_json::from_value::<Transport>(json).unwrap(), transport);
            assert_eq!(packet::Protocol::from(transport), protocol);
        }
    }

    #[test]
    fn a_limit_alone_does_not_select() {
        let filter = FlowFilter { limit: Some(usize::MAX), ..FlowFilter::default() };
        assert!(filter.is_empty());
        assert_eq!(filter.limit(), FLOWS_LISTED_MAX);
    }

    #[test]
    fn flow_fields_are_what_the_design_promises() {
        let text = r#"{"protocol":"icmp","internal":"10.0.0.5:7","external":"198.51.100.2:7",
            "remote":"203.0.113.9:7","state":"established","direction":"outbound","packets_out":1,
            "packets_in":2,"bytes_out":84,"bytes_in":168,"idle_secs":3,"expires_secs":57}"#;
        let flow: Flow = serde_json::from_str(text).unwrap();
        let ours: serde_json::Value = serde_json::to_value(&flow).unwrap();
        assert_eq!(ours, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}
