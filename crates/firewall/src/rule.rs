//! Exceptions from the policy between zones, in the operator's order.

use packet::{AddressSet, Endpoint, PortSet};

use crate::zone::Zone;

/// What a flow must look like for a rule to decide it; an absent part matches everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What becomes of the flow.
    pub action: RuleAction,
    /// The zones that open it.
    pub from: ZoneSet,
    /// The zones that it goes to.
    pub to: ZoneSet,
    /// Its protocol.
    pub protocols: Option<ProtocolSet>,
    /// Its source address.
    pub source: Option<AddressSet>,
    /// Its source port; only with protocols that have ports.
    pub source_ports: Option<PortSet>,
    /// Its destination address.
    pub destination: Option<AddressSet>,
    /// Its destination port; only with protocols that have ports.
    pub ports: Option<PortSet>,
    /// The code point of its first packet.
    pub dscp: Option<DscpSet>,
}

/// What becomes of a flow that a rule matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RuleAction {
    /// It is opened.
    Allow,
    /// Its packets are dropped, and the sender is told.
    Refuse,
    /// Its packets are dropped silently.
    Drop,
}

/// Some zones.
///
/// **Shape**: one bit each: the router, the WAN, then the LANs on links 1 to 30.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ZoneSet(u32);

/// Some IP protocols, by number.
///
/// **Shape**: one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ProtocolSet([u64; 4]);

/// Some code points of RFC 2474.
///
/// **Shape**: one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct DscpSet(u64);

/// The first packet of a flow, as rules see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirstPacket {
    /// The zone that it came from.
    pub from: Zone,
    /// The zone that it goes to.
    pub to: Zone,
    /// Its IP protocol.
    pub protocol: u8,
    /// Its source as the sender wrote it.
    pub source: Endpoint,
    /// Its destination: the host inside, if the packet is addressed to what stands for one.
    pub destination: Endpoint,
    /// Its code point; unknown when all that is left of the first packet is its flow.
    pub dscp: Option<u8>,
}

/// What the rules say about a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Match {
    /// Nothing: it is left to the zones.
    None,
    /// The rule at this position is the first that matches.
    Rule(usize),
    /// The code point decides, and it is not known.
    Unknown,
}

/// All rules, in the order in which they are tried.
///
/// **Shape**: positions of the rules by the zone that a flow comes from, so that the rules of other zones are
/// not looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    rules: Box<[Rule]>,
    by_from: Box<[Box<[u16]>]>,
}

impl Rules {
    /// Indexes rules.
    ///
    /// # Panics
    /// If there are more than 65536: the configuration admits fewer.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        assert!(rules.len() <= 1 << 16, "{} rules", rules.len());
        let of_zone = |index| {
            let rules = rules.iter().enumerate();
            rules.filter(|(_, rule)| rule.from.has(index)).map(|(at, _)| at as u16).collect()
        };
        Self { by_from: (0..ZONES_MAX).map(of_zone).collect(), rules: rules.into() }
    }

    /// What the first rule that matches says.
    #[must_use]
    pub fn find(&self, opening: &FirstPacket) -> Match {
        let Some(candidates) = self.by_from.get(opening.from.index()) else { return Match::None };
        for at in candidates {
            let at = usize::from(*at);
            let rule = &self.rules[at];
            if rule.matches(opening) {
                match (rule.dscp, opening.dscp) {
                    (None, _) => return Match::Rule(at),
                    (Some(_), None) => return Match::Unknown,
                    (Some(dscp), Some(given)) if dscp.contains(given) => return Match::Rule(at),
                    (Some(_), Some(_)) => {}
                }
            }
        }
        Match::None
    }

    /// The rule at a position.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&Rule> {
        self.rules.get(at)
    }

    /// The first rule before the one at a position that leaves nothing to it.
    #[must_use]
    pub fn shadow_of(&self, at: usize) -> Option<usize> {
        self.rules[..at].iter().position(|earlier| earlier.covers(&self.rules[at]))
    }
}

impl Rule {
    /// A rule about every flow between some zones.
    #[must_use]
    pub fn between(action: RuleAction, from: ZoneSet, to: ZoneSet) -> Self {
        Self {
            action,
            from,
            to,
            protocols: None,
            source: None,
            source_ports: None,
            destination: None,
            ports: None,
            dscp: None,
        }
    }

    /// Whether everything but the code point matches.
    fn matches(&self, opening: &FirstPacket) -> bool {
        let FirstPacket { from, to, protocol, source, destination, dscp: _ } = opening;
        self.from.contains(*from)
            && self.to.contains(*to)
            && self.protocols.is_none_or(|all| all.contains(*protocol))
            && self.ports.as_ref().is_none_or(|ports| ports.contains(destination.port))
            && self.source_ports.as_ref().is_none_or(|ports| ports.contains(source.port))
            && self.source.as_ref().is_none_or(|set| set.contains(source.address))
            && self.destination.as_ref().is_none_or(|set| set.contains(destination.address))
    }

    /// Whether this rule certainly matches whatever the other does.
    fn covers(&self, other: &Self) -> bool {
        self.from.0 & other.from.0 == other.from.0
            && self.to.0 & other.to.0 == other.to.0
            && covers(&self.protocols, &other.protocols, |a, b| {
                a.0.iter().zip(b.0).all(|(a, b)| a & b == b)
            })
            && covers(&self.source, &other.source, AddressSet::covers)
            && covers(&self.source_ports, &other.source_ports, PortSet::covers)
            && covers(&self.destination, &other.destination, AddressSet::covers)
            && covers(&self.ports, &other.ports, PortSet::covers)
            && covers(&self.dscp, &other.dscp, |a, b| a.0 & b.0 == b.0)
    }
}

/// Whether one condition leaves nothing to another, where none at all admits everything.
fn covers<T>(one: &Option<T>, other: &Option<T>, contains: fn(&T, &T) -> bool) -> bool {
    match (one, other) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => contains(one, other),
    }
}

impl ZoneSet {
    /// Whether the zone is one of them.
    #[must_use]
    #[inline]
    pub fn contains(self, zone: Zone) -> bool {
        self.has(zone.index())
    }

    #[inline]
    fn has(self, index: usize) -> bool {
        index < ZONES_MAX && self.0 >> index & 1 == 1
    }
}

impl FromIterator<Zone> for ZoneSet {
    /// # Panics
    /// If one is a LAN beyond link 30: a configuration has at most sixteen.
    fn from_iter<I: IntoIterator<Item = Zone>>(zones: I) -> Self {
        zones.into_iter().fold(Self::default(), |set, zone| {
            assert!(zone.index() < ZONES_MAX, "{zone:?}");
            Self(set.0 | 1 << zone.index())
        })
    }
}

impl ProtocolSet {
    /// Whether the protocol is one of them.
    #[must_use]
    #[inline]
    pub fn contains(self, protocol: u8) -> bool {
        self.0[usize::from(protocol / 64)] >> (protocol % 64) & 1 == 1
    }
}

impl FromIterator<u8> for ProtocolSet {
    fn from_iter<I: IntoIterator<Item = u8>>(protocols: I) -> Self {
        protocols.into_iter().fold(Self::default(), |mut set, protocol| {
            set.0[usize::from(protocol / 64)] |= 1 << (protocol % 64);
            set
        })
    }
}

impl DscpSet {
    /// Whether the code point is one of them.
    #[must_use]
    #[inline]
    pub fn contains(self, dscp: u8) -> bool {
        dscp < 64 && self.0 >> dscp & 1 == 1
    }
}

impl FromIterator<u8> for DscpSet {
    /// # Panics
    /// If one has more than six bits.
    fn from_iter<I: IntoIterator<Item = u8>>(points: I) -> Self {
        points.into_iter().fold(Self::default(), |set, dscp| {
            assert!(dscp < 64, "code point {dscp}");
            Self(set.0 | 1 << dscp)
        })
    }
}

/// Zones that a [`ZoneSet`] can name.
const ZONES_MAX: usize = u32::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;
    use packet::LinkId;
    use proptest::prelude::*;

    const HOME: Zone = Zone::Lan(LinkId(1));
    const DMZ: Zone = Zone::Lan(LinkId(2));
    const TCP: u8 = 6;
    const UDP: u8 = 17;

    fn zones<const N: usize>(zones: [Zone; N]) -> ZoneSet {
        zones.into_iter().collect()
    }

    fn opening(protocol: u8, port: u16) -> FirstPacket {
        FirstPacket {
            from: HOME,
            to: Zone::Wan,
            protocol,
            source: Endpoint::new([10, 0, 0, 7].into(), 5000),
            destination: Endpoint::new([198, 51, 100, 1].into(), port),
            dscp: Some(46),
        }
    }

    fn any(action: RuleAction) -> Rule {
        Rule::between(action, zones([HOME]), zones([Zone::Wan, HOME, DMZ]))
    }

    fn ports(first: u16, last: u16) -> Option<PortSet> {
        Some([(first, last)].into_iter().collect())
    }

    fn addresses(first: [u8; 4], last: [u8; 4]) -> Option<AddressSet> {
        Some([(first.into(), last.into())].into_iter().collect())
    }

    #[test]
    fn no_rule_leaves_it_to_the_zones() {
        assert_eq!(Rules::default().find(&opening(TCP, 80)), Match::None);
        assert_eq!(Rules::new(Vec::new()).find(&opening(TCP, 80)), Match::None);
    }

    #[test]
    fn the_first_match_decides() {
        let smtp = Rule { ports: ports(25, 25), ..any(RuleAction::Refuse) };
        let rules = Rules::new(vec![smtp, any(RuleAction::Allow), any(RuleAction::Drop)]);
        assert_eq!(rules.find(&opening(TCP, 25)), Match::Rule(0));
        assert_eq!(rules.find(&opening(TCP, 80)), Match::Rule(1));
    }

    #[test]
    fn every_part_of_a_rule_must_match() {
        let tcp = opening(TCP, 80);
        let base = any(RuleAction::Refuse);
        for (rule, expected) in [
            (Rule { from: zones([DMZ, Zone::Wan]), ..base.clone() }, false),
            (Rule { from: zones([DMZ, HOME]), ..base.clone() }, true),
            (Rule { to: zones([DMZ]), ..base.clone() }, false),
            (Rule { to: zones([Zone::Wan]), ..base.clone() }, true),
            (Rule { protocols: Some([UDP].into_iter().collect()), ..base.clone() }, false),
            (Rule { protocols: Some([UDP, TCP].into_iter().collect()), ..base.clone() }, true),
            (Rule { source: addresses([10, 0, 0, 8], [10, 0, 0, 15]), ..base.clone() }, false),
            (Rule { source: addresses([10, 0, 0, 0], [10, 0, 0, 7]), ..base.clone() }, true),
            (Rule { destination: addresses([1, 1, 1, 1], [9, 9, 9, 9]), ..base.clone() }, false),
            (Rule { ports: ports(81, 90), ..base.clone() }, false),
            (Rule { ports: ports(70, 90), ..base.clone() }, true),
            (Rule { source_ports: ports(1, 1023), ..base.clone() }, false),
            (Rule { source_ports: ports(5000, 5000), ..base.clone() }, true),
            (Rule { dscp: Some([8].into_iter().collect()), ..base.clone() }, false),
            (Rule { dscp: Some([8, 46].into_iter().collect()), ..base.clone() }, true),
        ] {
            let found = Rules::new(vec![rule.clone()]).find(&tcp);
            assert_eq!(found == Match::Rule(0), expected, "{rule:?}");
        }
    }

    #[test]
    fn a_code_point_that_is_not_known_leaves_open_only_what_hangs_on_it() {
        let flow = FirstPacket { dscp: None, ..opening(TCP, 80) };
        let marked = Rule { dscp: Some([46].into_iter().collect()), ..any(RuleAction::Drop) };
        let elsewhere = Rule { to: zones([DMZ]), ..marked.clone() };
        assert_eq!(Rules::new(vec![marked.clone()]).find(&flow), Match::Unknown);
        assert_eq!(Rules::new(vec![elsewhere]).find(&flow), Match::None);
        assert_eq!(Rules::new(vec![any(RuleAction::Allow), marked]).find(&flow), Match::Rule(0));
    }

    #[test]
    fn a_rule_behind_a_wider_one_is_in_its_shadow() {
        let narrow = Rule {
            protocols: Some([TCP].into_iter().collect()),
            source: addresses([10, 0, 0, 4], [10, 0, 0, 7]),
            ports: ports(80, 80),
            ..any(RuleAction::Allow)
        };
        let wide =
            Rule { source: addresses([10, 0, 0, 0], [10, 0, 0, 9]), ..any(RuleAction::Drop) };
        let rules = Rules::new(vec![wide.clone(), narrow.clone(), any(RuleAction::Allow)]);
        assert_eq!([0, 1, 2].map(|at| rules.shadow_of(at)), [None, Some(0), None]);
        let rules = Rules::new(vec![narrow, wide]);
        assert_eq!([0, 1].map(|at| rules.shadow_of(at)), [None, None]);
    }

    #[test]
    fn every_protocol_number_and_code_point_has_its_bit() {
        for number in 0..=u8::MAX {
            let set: ProtocolSet = [number].into_iter().collect();
            assert_eq!((0..=u8::MAX).filter(|other| set.contains(*other)).count(), 1);
            assert!(set.contains(number));
        }
        let set: DscpSet = [0, 63].into_iter().collect();
        assert_eq!((0..=u8::MAX).filter(|dscp| set.contains(*dscp)).count(), 2);
    }

    fn some_rule() -> impl Strategy<Value = Rule> {
        let link = || prop::collection::vec(0u8..4, 1..3);
        let zone_set = |links: Vec<u8>| links.into_iter().map(LinkId).map(Zone::of).collect();
        let range = |max: u16| prop::option::of((0..max, 0..max));
        (link(), link(), range(8), range(8), range(8), prop::option::of(0u8..2)).prop_map(
            move |(from, to, source, destination, ports, dscp)| {
                let set = |(first, last): (u16, u16)| {
                    let address = |low: u16| [10, 0, 0, low as u8].into();
                    AddressSet::from_iter([(address(first), address(last))])
                };
                Rule {
                    source: source.map(set),
                    destination: destination.map(set),
                    ports: ports.map(|range| PortSet::from_iter([range])),
                    dscp: dscp.map(|dscp| DscpSet::from_iter([dscp])),
                    ..Rule::between(RuleAction::Allow, zone_set(from), zone_set(to))
                }
            },
        )
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds_and_shadows_hide_what_they_cover(
            rules in prop::collection::vec(some_rule(), 0..12),
            (from, to, source, destination, port, dscp) in
                (0u8..4, 0u8..4, 0u8..8, 0u8..8, 0u16..8, 0u8..2),
        ) {
            let opening = FirstPacket {
                from: Zone::of(LinkId(from)),
                to: Zone::of(LinkId(to)),
                protocol: TCP,
                source: Endpoint::new([10, 0, 0, source].into(), 1),
                destination: Endpoint::new([10, 0, 0, destination].into(), port),
                dscp: Some(dscp),
            };
            let hit = |rule: &Rule| {
                rule.matches(&opening) && rule.dscp.is_none_or(|set| set.contains(dscp))
            };
            let scanned = rules.iter().position(hit).map_or(Match::None, Match::Rule);
            let compiled = Rules::new(rules);
            prop_assert_eq!(compiled.find(&opening), scanned);
            if let Match::Rule(at) = scanned {
                prop_assert_eq!(compiled.shadow_of(at), None);
            }
        }
    }
}
