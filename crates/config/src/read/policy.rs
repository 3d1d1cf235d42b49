//! `[policy]`: zones, sets and rules.

use std::ops::{Range, RangeInclusive};

use crate::defaults;
use crate::document::{At, Problems, Section};
use crate::fault::Fault;
use crate::model::{
    Action, AddressGroup, AddressTerm, Condition, DSCP_NAMES, Dns, FlowRate, Logging, Policy,
    PolicyZone, Rule, RuleEnd, RuleProtocol, Schedule, UtcOffset, dscp_named, parse_ports,
};
use crate::read::lan::{LanRead, unknown};
use crate::{name, suggest};

/// What rules and forwards may name; what could not be read is absent, and then not missed.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) lans: Option<&'a [LanRead]>,
    /// Absent as well when a LAN is, whose reservations are names.
    pub(crate) dns: Option<&'a Dns>,
}

/// A set of addresses and the places of its parts.
struct SetRead {
    name: At<String>,
    addresses: Vec<At<AddressTerm>>,
}

/// Reads the policy.
pub(crate) fn policy(mut section: Section<'_>, known: Known<'_>) -> Policy {
    let problems = section.problems;
    let utc_offset = section.text("utc_offset", str::parse::<UtcOffset>);
    let zones = section.sections("zone", defaults::POLICY_ZONES_MAX);
    let zones = zones_of(zones, known.lans);
    let sets = sets(section.section("set"));
    let names: Vec<&str> = sets.iter().map(|set| set.name.value.as_str()).collect();
    for set in &sets {
        check_terms(&set.addresses, known, Some(&names), problems);
    }
    check_loops(&sets, problems);
    let rules = section.sections("rule", defaults::RULES_MAX);
    let rules =
        rules.into_iter().filter_map(|section| rule(section, &zones, known, &names)).collect();
    section.finish();
    Policy {
        utc_offset: utc_offset.map_or(UtcOffset::default(), |offset| offset.value),
        zones,
        sets: sets
            .into_iter()
            .map(|set| AddressGroup {
                name: set.name.value,
                addresses: set.addresses.into_iter().map(|term| term.value).collect(),
            })
            .collect(),
        rules,
    }
}

fn zones_of(sections: Vec<Section<'_>>, lans: Option<&[LanRead]>) -> Vec<PolicyZone> {
    let mut zones: Vec<(PolicyZone, Range<usize>)> = Vec::new();
    for mut section in sections {
        let problems = section.problems;
        let name = section.required("name", "inside", name::lan);
        section.require("lans", "lans = [\"home\"]");
        let members = section.texts("lans", defaults::LANS_MAX, |text| known_lan(text, lans));
        section.finish();
        let Some(name) = name else { continue };
        let lan = lans.iter().copied().flatten().find(|read| read.lan.name == name.value);
        let earlier = zones.iter().find(|(zone, _)| zone.name == name.value);
        let taken = lan.map(|read| &read.name_at).or(earlier.map(|(_, at)| at));
        if let Some(taken) = taken {
            let fault = Fault::DuplicatePolicyZone { name: name.value.clone() };
            problems.note_both(&name.at, (taken, "first used here"), fault);
        }
        let lans = members.into_iter().map(|lan| lan.value).collect();
        zones.push((PolicyZone { name: name.value, lans }, name.at));
    }
    zones.into_iter().map(|(zone, _)| zone).collect()
}

fn known_lan(text: &str, lans: Option<&[LanRead]>) -> Result<String, Fault> {
    let here = lans.is_none_or(|lans| lans.iter().any(|read| read.lan.name == text));
    if here { Ok(text.to_owned()) } else { Err(unknown(text, lans.unwrap_or_default())) }
}

fn sets(section: Section<'_>) -> Vec<SetRead> {
    let (max, entries_max) = (defaults::SETS_MAX, defaults::SET_ENTRIES_MAX);
    let lists = section.named_lists(max, entries_max, name::lan, AddressTerm::parse);
    lists.into_iter().map(|(name, addresses)| SetRead { name, addresses }).collect()
}

/// Refuses sets that contain themselves through others.
fn check_loops(sets: &[SetRead], problems: &Problems) {
    let inner = |set: usize| {
        sets[set].addresses.iter().filter_map(|term| match &term.value {
            AddressTerm::Set(name) => sets.iter().position(|set| set.name.value == *name),
            _ => None,
        })
    };
    for start in 0..sets.len() {
        let mut seen = vec![false; sets.len()];
        let mut open: Vec<usize> = inner(start).collect();
        while let Some(set) = open.pop() {
            if !std::mem::replace(&mut seen[set], true) {
                open.extend(inner(set));
            }
        }
        if seen[start] {
            let set = &sets[start];
            problems.note(&set.name.at, Fault::SetLoop { name: set.name.value.clone() });
        }
    }
}

/// Checks that the names and sets among addresses exist.
pub(crate) fn check_terms(
    terms: &[At<AddressTerm>],
    known: Known<'_>,
    sets: Option<&[&str]>,
    problems: &Problems,
) {
    for term in terms {
        let fault = match (&term.value, known.lans, known.dns, sets) {
            (AddressTerm::Name(name), Some(lans), Some(dns), _) => no_host(name, lans, dns),
            (AddressTerm::Set(name), _, _, Some(sets)) => no_set(name, sets),
            _ => None,
        };
        if let Some(fault) = fault {
            problems.note(&term.at, fault);
        }
    }
}

pub(crate) fn no_set(name: &str, sets: &[&str]) -> Option<Fault> {
    let remedy = match suggest::nearest(name, sets) {
        Some(near) => format!("did you mean `@{near}`?"),
        None => format!("add `{name} = [\"10.0.0.0/24\"]` to `[policy.set]`"),
    };
    (!sets.contains(&name)).then(|| Fault::UnknownSet { name: name.to_owned(), remedy })
}

fn no_host(name: &str, lans: &[LanRead], dns: &Dns) -> Option<Fault> {
    let reserved = lans.iter().flat_map(|read| &read.lan.dhcp).flat_map(|dhcp| &dhcp.reservations);
    let names = reserved.map(|host| host.name.as_str());
    let names: Vec<&str> = names.chain(dns.hosts.iter().map(|host| host.name.as_str())).collect();
    unknown_host(name, &names)
}

/// The fault of naming a host that is none of those.
pub(crate) fn unknown_host(name: &str, names: &[&str]) -> Option<Fault> {
    let remedy = match suggest::nearest(name, names) {
        Some(near) => format!("did you mean `{near}`? Else reserve `{name}` or give an address"),
        None => format!("reserve `{name}` in a `[[lan.dhcp.reservation]]` or give an address"),
    };
    (!names.contains(&name)).then(|| Fault::UnknownHost { name: name.to_owned(), remedy })
}

fn rule(
    mut section: Section<'_>,
    zones: &[PolicyZone],
    known: Known<'_>,
    sets: &[&str],
) -> Option<Rule> {
    let problems = section.problems;
    section.require("action", "action = \"refuse\"");
    let name = section.text("name", name::lan);
    let action = section.choice("action", &Action::ALL, Action::as_str);
    let when = condition(&mut section, zones, known, sets);
    let rate_at = section.place_of("rate");
    let rate = section.text("rate", FlowRate::parse);
    let range = 1..=u64::from(defaults::FLOW_RATE_MAX);
    let burst_at = section.place_of("burst");
    let burst = section.number("burst", range, "as many flows as may come back to back");
    let logging = match section.flag("log") {
        Some(flag) if flag.value => Logging::On,
        _ => Logging::Off,
    };
    if let (Some(at), Some(Action::Refuse | Action::Drop)) =
        (&rate_at, action.as_ref().map(|action| action.value))
    {
        problems.note(at, Fault::RateWithoutAllow);
    }
    if let (Some(at), None) = (&burst_at, &rate_at) {
        problems.note(at, Fault::BurstWithoutRate);
    }
    section.finish();
    let burst = burst.and_then(|burst| u32::try_from(burst.value).ok());
    Some(Rule {
        name: name.map(|name| name.value),
        action: action?.value,
        when: when?,
        rate: rate.map(|rate| FlowRate { burst: burst.unwrap_or(rate.value.burst), ..rate.value }),
        logging,
    })
}

fn condition(
    section: &mut Section<'_>,
    zones: &[PolicyZone],
    known: Known<'_>,
    sets: &[&str],
) -> Option<Condition> {
    let problems = section.problems;
    let end = |text: &str| rule_end(text, zones, known.lans);
    let from = section.required("from", "home", end);
    let to = section.text("to", end);
    if let (Some(from), to) = (&from, &to) {
        check_ends(from, to.as_ref(), problems);
    }
    let protocol = section.text("protocol", str::parse::<RuleProtocol>);
    let is_wrong = protocol.is_none() && section.place_of("protocol").is_some();
    let has_ports = protocol.as_ref().is_some_and(|protocol| protocol.value.has_ports());
    let ports = ["port", "source_port"].map(|key| {
        let at = section.place_of(key);
        if let Some(at) = at.filter(|_| !has_ports && !is_wrong) {
            problems.note(&at, Fault::PortWithoutProtocol);
        }
        ports(section, key)
    });
    let [ports, source_ports] = ports;
    let max = defaults::SET_ENTRIES_MAX;
    let [source, destination] = ["source", "destination"].map(|key| {
        let terms = section.texts(key, max, AddressTerm::parse);
        check_terms(&terms, known, Some(sets), problems);
        terms.into_iter().map(|term| term.value).collect()
    });
    let dscp = section.words("dscp", defaults::RULE_LIST_MAX, code_point);
    let schedule = section.text("schedule", str::parse::<Schedule>);
    Some(Condition {
        from: from?.value,
        to: to.map_or(RuleEnd::Anywhere, |to| to.value),
        protocol: protocol.map_or(RuleProtocol::Any, |protocol| protocol.value),
        ports,
        source_ports,
        source,
        destination,
        dscp: dscp.into_iter().map(|point| point.value).collect(),
        schedule: schedule.map(|schedule| schedule.value),
    })
}

/// Refuses ends between which nothing that a rule decides ever goes.
fn check_ends(from: &At<RuleEnd>, to: Option<&At<RuleEnd>>, problems: &Problems) {
    let to_value = to.map_or(&RuleEnd::Anywhere, |to| &to.value);
    let at = to.map_or(&from.at, |to| &to.at);
    match (&from.value, to_value) {
        (RuleEnd::Wan, RuleEnd::Wan) => problems.note(at, Fault::RuleNowhere),
        (RuleEnd::Router, RuleEnd::Wan | RuleEnd::Anywhere) => {}
        (RuleEnd::Router, _) => problems.note(at, Fault::RouterInside),
        _ => {}
    }
}

fn rule_end(text: &str, zones: &[PolicyZone], lans: Option<&[LanRead]>) -> Result<RuleEnd, Fault> {
    match text {
        "anywhere" => return Ok(RuleEnd::Anywhere),
        "wan" => return Ok(RuleEnd::Wan),
        "router" => return Ok(RuleEnd::Router),
        _ => {}
    }
    if zones.iter().any(|zone| zone.name == text) {
        return Ok(RuleEnd::Zone(text.to_owned()));
    }
    let Some(lans) = lans else { return Ok(RuleEnd::Lan(text.to_owned())) };
    if lans.iter().any(|read| read.lan.name == text) {
        return Ok(RuleEnd::Lan(text.to_owned()));
    }
    let words = ["wan", "router", "anywhere"].into_iter();
    let names = zones.iter().map(|zone| zone.name.as_str());
    let names = names.chain(lans.iter().map(|read| read.lan.name.as_str()));
    let names: Vec<&str> = words.chain(names).collect();
    Err(Fault::UnknownRuleEnd { given: text.to_owned(), remedy: suggest::word(text, &names) })
}

fn ports(section: &mut Section<'_>, key: &'static str) -> Vec<RangeInclusive<u16>> {
    let read = |text: &str| parse_ports(text).map_err(Fault::from);
    let ports = section.words(key, defaults::RULE_LIST_MAX, read);
    ports.into_iter().map(|ports| ports.value).collect()
}

fn code_point(text: &str) -> Result<u8, Fault> {
    let number = || text.parse().ok().filter(|point| *point < 64 && !text.starts_with('+'));
    dscp_named(text).or_else(number).ok_or_else(|| {
        let names: Vec<&str> = DSCP_NAMES.iter().map(|(name, _)| *name).collect();
        Fault::NotDscp { given: text.to_owned(), remedy: suggest::word(text, &names) }
    })
}
