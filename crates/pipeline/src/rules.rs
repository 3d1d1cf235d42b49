//! The operator's rules in force: compiled, each with what it counted and what it may still let pass.
//!
//! A rule that stays the same over a reload keeps its counts and its rate, wherever it stands in the file then.
//! [`RuleBook`] remembers them for the control thread; a snapshot holds those of the rules that exist at its time
//! of the week.

use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use config::{Action, Config, FlowRate, Logging, RuleEnd, WeekMinute};
use firewall::{FirstPacket, Match, Rule, RuleAction, Rules, Zone, ZoneSet};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use packet::{DropReason, Endpoint, Instant, LinkId};

use crate::snapshot::lan_id;

/// What one rule has done since it exists.
///
/// Several workers may add at once, but only for first packets of flows and refused packets. Relaxed is enough:
/// each number stands for itself. A packet is judged and counted in two steps, so each further worker may let one
/// more pass than the rate allows; that one is counted all the same.
#[derive(Debug, Default)]
pub struct Tally {
    flows: AtomicU64,
    refused: AtomicU64,
    limited: AtomicU64,
    /// When the rule's rate has recovered from what it let pass, in nanoseconds of the router's clock.
    full_at: AtomicU64,
}

impl Tally {
    /// Flows that it allowed; for the router itself, packets.
    #[must_use]
    pub fn flows(&self) -> u64 {
        self.flows.load(Relaxed)
    }

    /// Packets that it refused or dropped.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// First packets that came faster than its rate.
    #[must_use]
    pub fn limited(&self) -> u64 {
        self.limited.load(Relaxed)
    }

    /// Whether one more may pass now.
    fn admits(&self, pace: Pace, now: Instant) -> bool {
        pace.admits(self.full_at.load(Relaxed), now)
    }

    /// Counts one more against the rate.
    fn spend(&self, pace: Pace, now: Instant) {
        // The closure never refuses.
        let spend = |full_at| Some(pace.spend(full_at, now));
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, spend);
    }
}

/// The rules of a configuration, each with its tally.
#[derive(Clone, Debug, Default)]
pub struct RuleBook(Vec<(config::Rule, Arc<Tally>)>);

impl RuleBook {
    /// Takes the rules of another configuration; those that were there before keep their tallies.
    pub fn adopt(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.0);
        for rule in &config.policy.rules {
            let known = before.iter().position(|(known, _)| known == rule);
            let tally = known.map_or_else(Arc::default, |index| before.swap_remove(index).1);
            self.0.push((rule.clone(), tally));
        }
    }

    /// The rules in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&config::Rule, &Tally)> {
        self.0.iter().map(|(rule, tally)| (rule, &**tally))
    }

    fn tally(&self, index: usize, rule: &config::Rule) -> Arc<Tally> {
        let known = self.0.get(index).filter(|(known, _)| known == rule);
        known.map_or_else(Arc::default, |(_, tally)| Arc::clone(tally))
    }
}

/// What the rules depend on beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct PolicyState {
    /// Their counts and rates.
    pub book: RuleBook,
    /// Local time, for those that have a schedule.
    pub minute: WeekMinute,
}

impl PolicyState {
    /// Takes the time; says whether some rule comes or goes by that, so that a new snapshot is due.
    pub fn advance(&mut self, config: &Config, minute: WeekMinute) -> bool {
        let before = std::mem::replace(&mut self.minute, minute);
        let schedules = config.policy.rules.iter().filter_map(|rule| rule.when.schedule);
        before != minute
            && schedules
                .into_iter()
                .any(|schedule| schedule.contains(before) != schedule.contains(minute))
    }
}

/// One of the rules of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleId(u16);

/// A rule's refusal of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Denial {
    pub rule: RuleId,
    pub reason: DropReason,
    /// Whether the sender hears of it.
    pub is_told: bool,
}

/// What the rules say about a first packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Saying {
    /// Nothing.
    Nothing,
    /// It may open its flow.
    Allowed(RuleId),
    /// It may not.
    Denied(Denial),
}

/// A match of a rule that is to be logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleMatch {
    /// Position of the rule in the file, from 0.
    pub index: usize,
    /// What became of the packet.
    pub outcome: RuleOutcome,
    /// Where it came from.
    pub ingress: LinkId,
    /// Its IP protocol.
    pub protocol: u8,
    /// Its source.
    pub source: Endpoint,
    /// Its destination as the sender wrote it.
    pub destination: Endpoint,
}

/// What a rule did to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleOutcome {
    /// It allowed its flow.
    Allowed,
    /// It refused or dropped it.
    Refused,
    /// It would have allowed the flow, but at no such rate.
    Limited,
}

impl RuleOutcome {
    /// Lower-case word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Limited => "limited",
        }
    }
}

/// The rules of one snapshot.
#[derive(Debug, Default)]
pub struct RulesInForce {
    rules: Rules,
    /// In step with `rules`.
    facts: Box<[Facts]>,
}

#[derive(Debug)]
struct Facts {
    index: usize,
    action: RuleAction,
    pace: Option<Pace>,
    logging: Logging,
    tally: Arc<Tally>,
}

impl RulesInForce {
    /// Compiles the rules that exist at the time of the state.
    pub(crate) fn build(config: &Config, state: &PolicyState) -> Self {
        let mut rules = Vec::new();
        let mut facts = Vec::new();
        for (index, rule) in config.policy.rules.iter().enumerate() {
            if rule.when.schedule.is_some_and(|schedule| !schedule.contains(state.minute)) {
                continue;
            }
            let compiled = compile(config, rule);
            facts.push(Facts {
                index,
                action: compiled.action,
                pace: rule.rate.map(Pace::of),
                logging: rule.logging,
                tally: state.book.tally(index, rule),
            });
            rules.push(compiled);
        }
        Self { rules: Rules::new(rules), facts: facts.into() }
    }

    /// What the rules say about a packet that would open a flow now.
    pub(crate) fn say(&self, opening: &FirstPacket, now: Instant) -> Saying {
        let Match::Rule(at) = self.rules.find(opening) else { return Saying::Nothing };
        let (facts, rule) = (&self.facts[at], RuleId(at as u16));
        let denial = |reason, is_told| Saying::Denied(Denial { rule, reason, is_told });
        match facts.action {
            RuleAction::Refuse => denial(DropReason::RuleDenied, true),
            RuleAction::Drop => denial(DropReason::RuleDenied, false),
            RuleAction::Allow if facts.is_exhausted(now) => {
                // Telling strangers would make the router answer a flood.
                denial(DropReason::RuleRate, opening.from != Zone::Wan)
            }
            RuleAction::Allow => Saying::Allowed(rule),
        }
    }

    /// What the rules say about a flow that is there already, whatever the rate; `otherwise` if they say nothing.
    /// `None` if it can't be said without the code point of its first packet.
    pub(crate) fn allow_still(
        &self,
        opening: &FirstPacket,
        otherwise: impl FnOnce() -> bool,
    ) -> Option<bool> {
        match self.rules.find(opening) {
            Match::None => Some(otherwise()),
            Match::Rule(at) => Some(self.facts[at].action == RuleAction::Allow),
            Match::Unknown => None,
        }
    }

    /// Counts what a rule allowed, against its rate too; says whether it is to be logged.
    pub(crate) fn note_allowed(&self, rule: RuleId, now: Instant) -> Logging {
        let facts = &self.facts[usize::from(rule.0)];
        facts.tally.flows.fetch_add(1, Relaxed);
        if let Some(pace) = facts.pace {
            facts.tally.spend(pace, now);
        }
        facts.logging
    }

    /// Counts what a rule refused; says whether it is to be logged.
    pub(crate) fn note_denied(&self, denial: &Denial) -> Logging {
        let facts = &self.facts[usize::from(denial.rule.0)];
        let counter = match denial.reason {
            DropReason::RuleRate => &facts.tally.limited,
            _ => &facts.tally.refused,
        };
        counter.fetch_add(1, Relaxed);
        facts.logging
    }

    /// Position of a rule in the file, from 0.
    #[must_use]
    pub fn index_of(&self, rule: RuleId) -> usize {
        self.facts[usize::from(rule.0)].index
    }

    /// For each rule that exists now: its position in the file, and that of an earlier one that leaves nothing
    /// to it.
    pub fn shadows(&self) -> impl Iterator<Item = (usize, Option<usize>)> {
        self.facts.iter().enumerate().map(|(at, facts)| {
            (facts.index, self.rules.shadow_of(at).map(|earlier| self.facts[earlier].index))
        })
    }
}

impl Facts {
    fn is_exhausted(&self, now: Instant) -> bool {
        self.pace.is_some_and(|pace| !self.tally.admits(pace, now))
    }
}

/// A rate and a burst, kept as one time: when everything spent will have come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    /// What one costs.
    pub cost_nanos: u64,
    /// What may be spent at once.
    pub depth_nanos: u64,
}

impl Pace {
    fn of(rate: FlowRate) -> Self {
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let cost_nanos = (per / u64::from(rate.flows.max(1))).max(1);
        Self { cost_nanos, depth_nanos: cost_nanos.saturating_mul(rate.burst.into()) }
    }

    /// Whether one more may pass now.
    pub(crate) fn admits(self, full_at: u64, now: Instant) -> bool {
        let now = now.as_nanos();
        full_at.max(now).saturating_add(self.cost_nanos) <= now.saturating_add(self.depth_nanos)
    }

    /// The time to keep after one more has passed.
    pub(crate) fn spend(self, full_at: u64, now: Instant) -> u64 {
        full_at.max(now.as_nanos()).saturating_add(self.cost_nanos)
    }
}

fn compile(config: &Config, rule: &config::Rule) -> Rule {
    let when = &rule.when;
    let ports = |ports: &[std::ops::RangeInclusive<u16>]| {
        let ranges = ports.iter().map(|ports| (*ports.start(), *ports.end()));
        (!ports.is_empty()).then(|| ranges.collect())
    };
    let addresses =
        |terms: &[config::AddressTerm]| (!terms.is_empty()).then(|| config.addresses(terms));
    Rule {
        action: match rule.action {
            Action::Allow => RuleAction::Allow,
            Action::Refuse => RuleAction::Refuse,
            Action::Drop => RuleAction::Drop,
        },
        from: zones(config, &when.from),
        to: zones(config, &when.to),
        protocols: when.protocol.numbers().map(|numbers| numbers.into_iter().collect()),
        source: addresses(&when.source),
        source_ports: ports(&when.source_ports),
        destination: addresses(&when.destination),
        ports: ports(&when.ports),
        dscp: (!when.dscp.is_empty()).then(|| when.dscp.iter().copied().collect()),
    }
}

/// The zones of one end of a rule.
fn zones(config: &Config, end: &RuleEnd) -> ZoneSet {
    let lans = |is_meant: &dyn Fn(&str) -> bool| {
        let lans = config.lans.iter().enumerate().filter(|(_, lan)| is_meant(&lan.name));
        lans.map(|(index, _)| Zone::Lan(lan_id(index))).collect::<Vec<_>>()
    };
    match end {
        RuleEnd::Anywhere => lans(&|_| true).into_iter().chain([Zone::Wan]).collect(),
        RuleEnd::Wan => [Zone::Wan].into_iter().collect(),
        RuleEnd::Router => [Zone::Local].into_iter().collect(),
        RuleEnd::Lan(name) => lans(&|lan| lan == name).into_iter().collect(),
        RuleEnd::Zone(name) => {
            let zone = config.policy.zones.iter().find(|zone| zone.name == *name);
            let members = zone.map_or(&[][..], |zone| &zone.lans);
            lans(&|lan| members.iter().any(|member| member == lan)).into_iter().collect()
        }
    }
}

/// Most matches logged per second and back to back by one worker: enough to see what happens, too few to fill a
/// disk in a flood.
pub(crate) const LOG_PACE: Pace =
    Pace { cost_nanos: 1_000_000_000 / 20, depth_nanos: 100 * (1_000_000_000 / 20) };

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let pace = Pace::of(FlowRate::parse("20/s").unwrap());
        let mut full_at = 0;
        let mut pass = |now| {
            let admitted = pace.admits(full_at, now);
            full_at = if admitted { pace.spend(full_at, now) } else { full_at };
            admitted
        };
        let start = Instant::from_secs(7);
        assert_eq!((0..100).filter(|_| pass(start)).count(), 20);
        let second = (1..=1000).filter(|ms| pass(Instant::from_millis(7000 + ms))).count();
        assert_eq!(second, 20);
    }

    #[test]
    fn a_rate_of_one_an_hour_does_not_overflow() {
        let pace = Pace::of(FlowRate { burst: u32::MAX, ..FlowRate::parse("1/h").unwrap() });
        assert!(pace.admits(0, Instant::from_secs(1)));
        assert!(pace.spend(u64::MAX - 1, Instant::NEVER) >= u64::MAX - 1);
    }
}

#[cfg(all(test, loom))]
mod interleavings {
    use loom::thread;

    use super::*;

    #[test]
    fn what_several_workers_let_pass_at_once_is_counted_in_full() {
        loom::model(|| {
            let pace = Pace { cost_nanos: 10, depth_nanos: 30 };
            let tally = Arc::new(Tally::default());
            let workers = [5, 7].map(|nanos| {
                let tally = Arc::clone(&tally);
                thread::spawn(move || tally.spend(pace, Instant::from_nanos(nanos)))
            });
            for worker in workers {
                worker.join().unwrap();
            }
            let now = Instant::from_nanos(8);
            assert!(tally.admits(pace, now));
            tally.spend(pace, now);
            assert!(!tally.admits(pace, now));
        });
    }
}
