//! Destinations that hosts reach without translation (RFC 6888 REQ-6).

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use packet::{Endpoint, Protocol};

/// Most exemptions in one policy: each new flow to the WAN walks them.
pub const EXEMPTIONS_MAX: usize = 64;

/// Flows that leave by the WAN as they are; a condition that is absent matches everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exemption {
    /// Where they go.
    pub destination: Ipv4Net,
    /// Where they come from.
    pub source: Option<Ipv4Net>,
    /// Which protocol.
    pub protocol: Option<Protocol>,
    /// Destination ports; only with a protocol that has ports.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Exemption {
    /// Whether some flow from one address to the other can be of these.
    #[must_use]
    pub fn joins(&self, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
        self.destination.contains(&destination)
            && self.source.is_none_or(|net| net.contains(&source))
    }

    /// Whether a flow's first packet is of these.
    #[must_use]
    pub fn matches(&self, protocol: Protocol, source: Endpoint, destination: Endpoint) -> bool {
        self.joins(source.address, destination.address)
            && self.protocol.is_none_or(|only| only == protocol)
            && self.ports.as_ref().is_none_or(|ports| ports.contains(&destination.port))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn ep(text: &str, port: u16) -> Endpoint {
        Endpoint::new(text.parse().unwrap(), port)
    }

    #[test]
    fn an_absent_condition_matches_everything_and_a_present_one_must_hold() {
        let wide = Exemption {
            destination: "172.16.0.0/12".parse().unwrap(),
            source: None,
            protocol: None,
            ports: None,
        };
        let (host, there) = (ep("10.0.0.5", 4000), ep("172.20.1.1", 443));
        for protocol in Protocol::ALL {
            assert!(wide.matches(protocol, host, there));
            assert!(!wide.matches(protocol, host, ep("172.32.0.1", 443)));
        }
        let narrow = Exemption {
            source: Some("10.0.0.0/29".parse().unwrap()),
            protocol: Some(Protocol::Tcp),
            ports: Some(440..=443),
            ..wide
        };
        assert!(narrow.matches(Protocol::Tcp, host, there));
        assert!(!narrow.matches(Protocol::Udp, host, there));
        assert!(!narrow.matches(Protocol::Tcp, host, ep("172.20.1.1", 444)));
        assert!(!narrow.matches(Protocol::Tcp, ep("10.0.0.8", 4000), there));
    }
}
