//! Exceptions from the policy between zones, in the operator's order.

use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use packet::{Endpoint, Protocol};

use crate::zone::{Action, Zone};

/// What a flow must look like for a rule to decide it; an absent part matches everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What becomes of the flow.
    pub action: Action,
    /// The zone that opens it.
    pub from: Zone,
    /// The zone that it goes to; absent: any but the router itself, whose services a rule can't cut off.
    pub to: Option<Zone>,
    /// Its protocol; what is not named never matches a rule that names protocols.
    pub protocols: Option<Box<[Protocol]>>,
    /// Its destination port; a protocol without ports never matches.
    pub ports: Option<RangeInclusive<u16>>,
    /// Its source address.
    pub source: Option<Ipv4Net>,
    /// Its destination address.
    pub destination: Option<Ipv4Net>,
}

/// The first packet of a flow, as rules see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirstPacket {
    /// The zone that it came from.
    pub from: Zone,
    /// The zone that it goes to.
    pub to: Zone,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its source, not translated.
    pub source: Endpoint,
    /// Its destination, not translated.
    pub destination: Endpoint,
}

impl Rule {
    fn matches(&self, opening: &FirstPacket) -> bool {
        let Self { action: _, from, to, protocols, ports, source, destination } = self;
        *from == opening.from
            && to.map_or(opening.to != Zone::Local, |to| to == opening.to)
            && protocols.as_ref().is_none_or(|all| all.contains(&opening.protocol))
            && ports.as_ref().is_none_or(|ports| {
                opening.protocol.has_ports() && ports.contains(&opening.destination.port)
            })
            && source.is_none_or(|net| net.contains(&opening.source.address))
            && destination.is_none_or(|net| net.contains(&opening.destination.address))
    }
}

/// What the first rule that matches says; `None` leaves it to the zones.
#[must_use]
pub fn first_match(rules: &[Rule], opening: &FirstPacket) -> Option<Action> {
    rules.iter().find(|rule| rule.matches(opening)).map(|rule| rule.action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::LinkId;

    const HOME: Zone = Zone::Lan(LinkId(1));
    const DMZ: Zone = Zone::Lan(LinkId(2));

    fn opening(protocol: Protocol, port: u16) -> FirstPacket {
        FirstPacket {
            from: HOME,
            to: Zone::Wan,
            protocol,
            source: Endpoint::new([10, 0, 0, 7].into(), 5000),
            destination: Endpoint::new([198, 51, 100, 1].into(), port),
        }
    }

    fn any(action: Action) -> Rule {
        Rule {
            action,
            from: HOME,
            to: None,
            protocols: None,
            ports: None,
            source: None,
            destination: None,
        }
    }

    #[test]
    fn no_rule_leaves_it_to_the_zones() {
        assert_eq!(first_match(&[], &opening(Protocol::Tcp, 80)), None);
    }

    #[test]
    fn the_first_match_decides() {
        let smtp = Rule { ports: Some(25..=25), ..any(Action::Deny) };
        let rules = [smtp, any(Action::Allow)];
        assert_eq!(first_match(&rules, &opening(Protocol::Tcp, 25)), Some(Action::Deny));
        assert_eq!(first_match(&rules, &opening(Protocol::Tcp, 80)), Some(Action::Allow));
    }

    #[test]
    fn a_rule_for_anywhere_leaves_the_router_reachable() {
        let dns = FirstPacket { to: Zone::Local, ..opening(Protocol::Udp, 53) };
        assert_eq!(first_match(&[any(Action::Deny)], &dns), None);
    }

    #[test]
    fn every_part_of_a_rule_must_match() {
        let tcp = opening(Protocol::Tcp, 80);
        let net = |text: &str| Some(text.parse().unwrap());
        for (rule, expected) in [
            (Rule { from: DMZ, ..any(Action::Deny) }, None),
            (Rule { to: Some(DMZ), ..any(Action::Deny) }, None),
            (Rule { to: Some(Zone::Wan), ..any(Action::Deny) }, Some(Action::Deny)),
            (Rule { protocols: Some([Protocol::Udp].into()), ..any(Action::Deny) }, None),
            (Rule { source: net("10.0.0.8/29"), ..any(Action::Deny) }, None),
            (Rule { source: net("10.0.0.0/29"), ..any(Action::Deny) }, Some(Action::Deny)),
            (Rule { destination: net("203.0.113.0/24"), ..any(Action::Deny) }, None),
        ] {
            assert_eq!(first_match(std::slice::from_ref(&rule), &tcp), expected, "{rule:?}");
        }
    }

    #[test]
    fn a_rule_about_ports_says_nothing_about_ping() {
        let rule = Rule { protocols: Some([Protocol::Tcp].into()), ..any(Action::Deny) };
        assert_eq!(first_match(&[rule], &opening(Protocol::Icmp, 0)), None);
    }

    #[test]
    fn the_number_of_a_tunnel_is_no_port_of_a_rule() {
        let rule = Rule { ports: Some(25..=25), ..any(Action::Deny) };
        for protocol in [Protocol::Gre, Protocol::Esp, Protocol::Icmp] {
            assert_eq!(first_match(std::slice::from_ref(&rule), &opening(protocol, 25)), None);
        }
        for protocol in [Protocol::Sctp, Protocol::UdpLite] {
            let found = first_match(std::slice::from_ref(&rule), &opening(protocol, 25));
            assert_eq!(found, Some(Action::Deny));
        }
        let any = any(Action::Deny);
        assert_eq!(first_match(&[any], &opening(Protocol::Esp, 25)), Some(Action::Deny));
    }
}
