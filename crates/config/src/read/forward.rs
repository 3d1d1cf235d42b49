//! `[[forward]]` and `[[policy.rule]]`

use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};

use toml::de::DeValue;

use crate::defaults;
use crate::document::{At, Problems, Section};
use crate::fault::Fault;
use crate::model::{
    Action, Config, Dns, Forward, ForwardHost, ForwardProtocol, ForwardWord, Lan,
    ParseForwardError, Policy, Rule, RuleTarget, parse_ports,
};
use crate::read::externals::Externals;
use crate::read::lan::{LanRead, unknown};
use crate::read::not_a_host;
use crate::{suggest, value};

/// Reads the forwards and checks them against each other; the place of each is its `to`. Their
/// addresses are checked when those of the router are known.
pub(crate) fn forwards(
    sections: Vec<Section<'_>>,
    externals: Option<&Externals<'_>>,
) -> Vec<At<Forward>> {
    let mut read: Vec<(At<Forward>, Range<usize>)> = Vec::new();
    for section in sections {
        let problems = section.problems;
        let Some((forward, port_at)) = forward(section, externals) else { continue };
        let earlier = read.iter().find(|(earlier, _)| earlier.value.conflicts_with(&forward.value));
        if let Some((earlier, earlier_at)) = earlier {
            let ports = shared_ports(&earlier.value, &forward.value);
            let see = (earlier_at, "the earlier one");
            problems.note_both(&port_at, see, Fault::ForwardConflict { ports });
        }
        if let Some(fault) = reserved_port(&forward.value) {
            problems.note(&port_at, fault);
        }
        read.push((forward, port_at));
    }
    read.into_iter().map(|(forward, _)| forward).collect()
}

fn forward(
    mut section: Section<'_>,
    externals: Option<&Externals<'_>>,
) -> Option<(At<Forward>, Range<usize>)> {
    let protocol = section.required("protocol", "tcp", |text| Ok(text.to_owned()));
    section.require("port", "port = 8080");
    let port = port_text(&mut section);
    let to = section.required("to", "web:80", |text| Ok(text.to_owned()));
    let address = section.text("address", |text| {
        let address = value::address(text)?;
        match externals.is_none_or(|externals| externals.knows(address)) {
            true => Ok(address),
            false => Err(Fault::ForwardAddressUnknown { address }),
        }
    });
    // Known by no number, so that it is the same forward whatever the link's own address is.
    let is_own = |address: &Ipv4Addr| externals.is_some_and(|known| known.is_own(*address));
    let address = address.map(|address| address.value).filter(|address| !is_own(address));
    let problems = section.problems;
    section.finish();
    let (protocol, port, to) = (protocol?, port?, to?);
    match Forward::parse(&protocol.value, &port.value, &to.value) {
        Ok(forward) => Some((At { value: Forward { address, ..forward }, at: to.at }, port.at)),
        Err(error) => {
            let at = match error.word() {
                ForwardWord::Protocol => &protocol.at,
                ForwardWord::Port => &port.at,
                ForwardWord::To => &to.at,
            };
            problems.note(at, error.into());
            None
        }
    }
}

/// One port may be written as a number, a range must be a text.
fn port_text(section: &mut Section<'_>) -> Option<At<String>> {
    match section.kind_of("port")? {
        DeValue::Integer(digits) if digits.radix() == 10 => {
            Some(At { value: digits.as_str().to_owned(), at: section.place_of("port")? })
        }
        _ => section.text("port", |text| Ok(text.to_owned())),
    }
}

fn shared_ports(a: &Forward, b: &Forward) -> String {
    let first = *a.port.start().max(b.port.start());
    let last = *a.port.end().min(b.port.end());
    let protocol = match (a.protocol, b.protocol) {
        (ForwardProtocol::Both, other) | (other, _) => other,
    };
    let protocol = protocol.as_str();
    if first == last {
        format!("{protocol} port {first}")
    } else {
        format!("{protocol} ports {first}-{last}")
    }
}

/// Checks that every forward leads to a host that the file knows or a LAN can hold.
pub(crate) fn check_targets(
    forwards: &[At<Forward>],
    lans: &[LanRead],
    dns: &Dns,
    problems: &Problems,
) {
    let lans: Vec<&Lan> = lans.iter().map(|read| &read.lan).collect();
    for forward in forwards {
        if let Some(fault) = no_host(&forward.value.to.host, &lans, dns) {
            problems.note(&forward.at, fault);
        }
    }
}

/// Checks a forward that is added to a running configuration.
pub(crate) fn check_added(forward: &Forward, config: &Config) -> Result<(), Fault> {
    let conflict = config.forwards.iter().find(|earlier| earlier.conflicts_with(forward));
    let lans: Vec<&Lan> = config.lans.iter().collect();
    let fault = reserved_port(forward)
        .or_else(|| {
            conflict.map(|other| Fault::ForwardConflict { ports: shared_ports(other, forward) })
        })
        .or_else(|| no_host(&forward.to.host, &lans, &config.dns));
    fault.map_or(Ok(()), Err)
}

fn reserved_port(forward: &Forward) -> Option<Fault> {
    let port = defaults::DHCP_CLIENT_PORT;
    let owner = "the router's DHCP client";
    let taken = forward.protocol.has_udp() && forward.port.contains(&port);
    taken.then_some(Fault::ForwardReserved { port, owner })
}

pub(crate) fn no_host(host: &ForwardHost, lans: &[&Lan], dns: &Dns) -> Option<Fault> {
    match host {
        ForwardHost::Address(address) => no_host_at(*address, lans),
        ForwardHost::Name(name) => no_host_named(name, lans, dns),
    }
}

/// The address of a host, as far as the file knows it.
pub(crate) fn address_of(host: &ForwardHost, lans: &[&Lan], dns: &Dns) -> Option<Ipv4Addr> {
    let name = match host {
        ForwardHost::Address(address) => return Some(*address),
        ForwardHost::Name(name) => name,
    };
    let mut reserved =
        lans.iter().flat_map(|lan| lan.dhcp.iter()).flat_map(|dhcp| &dhcp.reservations);
    let reserved = reserved.find(|one| one.name == *name).map(|one| one.address);
    let in_dns = || dns.hosts.iter().find(|host| host.name == *name).map(|host| host.address);
    reserved.or_else(in_dns)
}

fn no_host_at(address: Ipv4Addr, lans: &[&Lan]) -> Option<Fault> {
    let Some(lan) = lans.iter().find(|lan| lan.address.contains(&address)) else {
        let subnets: Vec<String> = lans.iter().map(|lan| lan.subnet().to_string()).collect();
        return Some(Fault::ForwardOutside { address, subnets: subnets.join(" or ") });
    };
    not_a_host(lan, address).map(|what| Fault::ForwardToNoHost { address, what })
}

fn no_host_named(name: &str, lans: &[&Lan], dns: &Dns) -> Option<Fault> {
    let reserved =
        || lans.iter().flat_map(|lan| lan.dhcp.iter()).flat_map(|dhcp| &dhcp.reservations);
    if reserved().any(|reservation| reservation.name == name) {
        return None;
    }
    if let Some(host) = dns.hosts.iter().find(|host| host.name == name) {
        return no_host_at(host.address, lans);
    }
    let names: Vec<&str> = reserved().map(|reservation| reservation.name.as_str()).collect();
    let remedy = match suggest::nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`? Else reserve `{name}` or give an address"),
        None => format!("reserve `{name}` in a `[[lan.dhcp.reservation]]` or give an address"),
    };
    Some(Fault::ForwardToUnknown { name: name.to_owned(), remedy })
}

/// Reads the rules; names of LANs are checked when `lans` are known.
pub(crate) fn policy(mut section: Section<'_>, lans: Option<&[LanRead]>) -> Policy {
    let rules = section.sections("rule", defaults::RULES_MAX);
    let rules = rules.into_iter().filter_map(|section| rule(section, lans)).collect();
    section.finish();
    Policy { rules }
}

fn rule(mut section: Section<'_>, lans: Option<&[LanRead]>) -> Option<Rule> {
    let known = |text: &str| {
        let here = lans.is_none_or(|lans| lans.iter().any(|read| read.lan.name == text));
        if here { Ok(text.to_owned()) } else { Err(unknown(text, lans.unwrap_or_default())) }
    };
    section.require("action", "action = \"refuse\"");
    let action = section.choice("action", &[Action::Allow, Action::Refuse], Action::as_str);
    let from = section.required("from", "home", known);
    let to = section.text("to", |text| match text {
        "wan" => Ok(RuleTarget::Wan),
        name => known(name).map(RuleTarget::Lan),
    });
    let protocol =
        section.text("protocol", |text| text.parse::<ForwardProtocol>().map_err(Fault::from));
    let ports = ports(&mut section);
    let source = section.text("source", value::prefix);
    let destination = section.text("destination", value::prefix);
    if let (Some(at), None) = (section.place_of("port"), section.place_of("protocol")) {
        section.problems.note(&at, Fault::PortWithoutProtocol);
    }
    section.finish();
    Some(Rule {
        action: action?.value,
        from: from?.value,
        to: to.map_or(RuleTarget::Anywhere, |to| to.value),
        protocol: protocol.map(|protocol| protocol.value),
        ports: ports.map(|ports| ports.value),
        source: source.map(|net| net.value),
        destination: destination.map(|net| net.value),
    })
}

pub(crate) fn ports(section: &mut Section<'_>) -> Option<At<RangeInclusive<u16>>> {
    let text = port_text(section)?;
    let read: Result<_, ParseForwardError> = parse_ports(&text.value);
    match read {
        Ok(ports) => Some(text.map(|_| ports)),
        Err(error) => {
            section.problems.note(&text.at, error.into());
            None
        }
    }
}
