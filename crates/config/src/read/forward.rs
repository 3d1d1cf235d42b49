//! `[[forward]]`

use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};

use toml::de::DeValue;

use crate::defaults;
use crate::document::{At, Problems, Section};
use crate::fault::Fault;
use crate::model::{
    AddressTerm, Config, Dns, Forward, ForwardHost, ForwardProtocol, ForwardWord, Hairpinning, Lan,
    ParseForwardError, ReservedPort, parse_ports,
};
use crate::read::externals::Externals;
use crate::read::lan::LanRead;
use crate::read::not_a_host;
use crate::read::policy::{Known, check_terms, no_set, unknown_host};
use crate::{suggest, value};

/// What forwards are checked against, beside each other.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) known: Known<'a>,
    /// Names of the sets of `[policy.set]`.
    pub(crate) sets: &'a [&'a str],
    pub(crate) reserved: &'a [ReservedPort],
    /// Absent while the WAN is not known.
    pub(crate) externals: Option<&'a Externals<'a>>,
}

/// Reads the forwards and checks them against each other; the place of each is its `to`. Their
/// addresses are checked when those of the router are known.
pub(crate) fn forwards(sections: Vec<Section<'_>>, context: Context<'_>) -> Vec<At<Forward>> {
    let mut read: Vec<(At<Forward>, Range<usize>)> = Vec::new();
    for section in sections {
        let problems = section.problems;
        let Some((forward, port_at)) = forward(section, context) else { continue };
        let earlier = read.iter().find(|(earlier, _)| earlier.value.conflicts_with(&forward.value));
        if let Some((earlier, earlier_at)) = earlier {
            let ports = shared_ports(&earlier.value, &forward.value);
            let see = (earlier_at, "the earlier one");
            problems.note_both(&port_at, see, Fault::ForwardConflict { ports });
        }
        if let Some(fault) = reserved_port(&forward.value, context.reserved) {
            problems.note(&port_at, fault);
        }
        read.push((forward, port_at));
    }
    read.into_iter().map(|(forward, _)| forward).collect()
}

fn forward(mut section: Section<'_>, context: Context<'_>) -> Option<(At<Forward>, Range<usize>)> {
    let problems = section.problems;
    let protocol = section.required("protocol", "tcp", |text| Ok(text.to_owned()));
    section.require("port", "port = 8080");
    let port = port_text(&mut section);
    let to = section.required("to", "web:80", |text| Ok(text.to_owned()));
    let address = section.text("address", |text| {
        let address = value::address(text)?;
        match context.externals.is_none_or(|externals| externals.knows(address)) {
            true => Ok(address),
            false => Err(Fault::ForwardAddressUnknown { address }),
        }
    });
    // Known by no number, so that it is the same forward whatever the link's own address is.
    let is_own = |address: &Ipv4Addr| context.externals.is_some_and(|known| known.is_own(*address));
    let address = address.map(|address| address.value).filter(|address| !is_own(address));
    let from = section.texts("from", defaults::SET_ENTRIES_MAX, AddressTerm::parse);
    check_terms(&from, context.known, Some(context.sets), problems);
    let hairpin = match section.flag("hairpin") {
        Some(flag) if !flag.value => Hairpinning::Off,
        _ => Hairpinning::On,
    };
    section.finish();
    let (protocol, port, to) = (protocol?, port?, to?);
    match Forward::parse(&protocol.value, &port.value, &to.value) {
        Ok(forward) => {
            let from = from.into_iter().map(|term| term.value).collect();
            Some((At { value: Forward { address, from, hairpin, ..forward }, at: to.at }, port.at))
        }
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
    let fault = reserved_port(forward, &config.reserved_ports())
        .or_else(|| {
            conflict.map(|other| Fault::ForwardConflict { ports: shared_ports(other, forward) })
        })
        .or_else(|| forward.from.iter().find_map(|term| unknown_term(term, config)))
        .or_else(|| no_host(&forward.to.host, &lans, &config.dns));
    fault.map_or(Ok(()), Err)
}

fn unknown_term(term: &AddressTerm, config: &Config) -> Option<Fault> {
    match term {
        AddressTerm::Net(_) | AddressTerm::Range(_) => None,
        AddressTerm::Name(name) => {
            let reserved = config.reservations().map(|(_, host)| host.name.as_str());
            let hosts = config.dns.hosts.iter().map(|host| host.name.as_str());
            unknown_host(name, &reserved.chain(hosts).collect::<Vec<_>>())
        }
        AddressTerm::Set(name) => {
            let sets: Vec<&str> = config.policy.sets.iter().map(|set| set.name.as_str()).collect();
            no_set(name, &sets)
        }
    }
}

fn reserved_port(forward: &Forward, reserved: &[ReservedPort]) -> Option<Fault> {
    let taken = reserved.iter().find(|reserved| {
        reserved.protocol.overlaps(forward.protocol) && forward.port.contains(&reserved.port)
    })?;
    let ReservedPort { protocol, port, owner } = *taken;
    let protocol = if protocol == ForwardProtocol::Tcp { "TCP" } else { "UDP" };
    Some(Fault::ForwardReserved { protocol, port, owner })
}

/// Checks that a host is one that a LAN can hold.
pub(crate) fn no_host_of(host: &ForwardHost, lans: &[LanRead], dns: &Dns) -> Option<Fault> {
    let lans: Vec<&Lan> = lans.iter().map(|read| &read.lan).collect();
    no_host(host, &lans, dns)
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
