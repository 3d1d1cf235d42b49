//! Rules of the firewall and what they did.

use serde::{Deserialize, Serialize};

/// A rule of the configuration, in the words of the file, with its counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// Its place in the file, from 1.
    pub number: u64,
    /// Its name; `null` if it has none.
    pub name: Option<String>,
    /// `allow`, `refuse` or `drop`.
    pub action: String,
    /// Where flows come from.
    pub from: String,
    /// Where they go.
    pub to: String,
    /// IP protocol, `both` for TCP and UDP, `any`.
    pub protocol: String,
    /// Destination ports; empty: all.
    pub ports: Vec<String>,
    /// Source ports; empty: all.
    pub source_ports: Vec<String>,
    /// Source addresses; empty: all.
    pub source: Vec<String>,
    /// Destination addresses; empty: all.
    pub destination: Vec<String>,
    /// Code points; empty: all.
    pub dscp: Vec<u8>,
    /// When it exists; `null`: always.
    pub schedule: Option<String>,
    /// Whether it exists now.
    pub active: bool,
    /// Most new flows that it lets pass; `null`: all.
    pub rate: Option<String>,
    /// Whether matches are logged.
    pub log: bool,
    /// The number of an earlier rule that leaves nothing to this one; `null` if none does for sure.
    pub shadowed_by: Option<u64>,
    /// Flows that it allowed; for the router itself, packets.
    pub flows: u64,
    /// Packets that it refused or dropped.
    pub refused: u64,
    /// First packets that came faster than its rate.
    pub limited: u64,
}

impl Rule {
    /// A rule of the configuration as the API shows it; `index` is its position, from 0.
    #[must_use]
    pub fn new(index: usize, rule: &config::Rule, counts: RuleCounts) -> Self {
        let texts = |terms: &[config::AddressTerm]| terms.iter().map(ToString::to_string).collect();
        let ports = |ports: &[std::ops::RangeInclusive<u16>]| {
            let range = |ports: &std::ops::RangeInclusive<u16>| match (ports.start(), ports.end()) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            };
            ports.iter().map(range).collect()
        };
        let when = &rule.when;
        let RuleCounts { active, shadowed_by, flows, refused, limited } = counts;
        Self {
            number: index as u64 + 1,
            name: rule.name.clone(),
            action: rule.action.as_str().to_owned(),
            from: when.from.to_string(),
            to: when.to.to_string(),
            protocol: when.protocol.to_string(),
            ports: ports(&when.ports),
            source_ports: ports(&when.source_ports),
            source: texts(&when.source),
            destination: texts(&when.destination),
            dscp: when.dscp.clone(),
            schedule: when.schedule.map(|schedule| schedule.to_string()),
            active,
            rate: rule.rate.map(|rate| rate.to_string()),
            log: rule.logging == config::Logging::On,
            shadowed_by: shadowed_by.map(|index| index as u64 + 1),
            flows,
            refused,
            limited,
        }
    }
}

/// What is known of a rule beside its words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RuleCounts {
    /// See [`Rule::active`].
    pub active: bool,
    /// Position of the rule that leaves nothing to it, from 0.
    pub shadowed_by: Option<usize>,
    /// See [`Rule::flows`].
    pub flows: u64,
    /// See [`Rule::refused`].
    pub refused: u64,
    /// See [`Rule::limited`].
    pub limited: u64,
}
