//! From the file's tables to the model, one reader for each table.
//!
//! A reader returns `None` when something required is missing or wrong, and has reported it then.
//! What is optional and wrong is reported and taken as absent, so that the rest can still be
//! checked.

mod externals;
mod forward;
mod lan;
mod nat;
mod policy;
mod services;
mod wan;
mod zone;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;

use ipnet::Ipv4Net;

use crate::defaults;
use crate::document::{Problems, Section};
use crate::fault::Fault;
use crate::model::{Config, Lan, overlap, reserved_ports};

use externals::Externals;

pub(crate) use forward::check_added;

/// Reads the whole file.
pub(crate) fn config(mut root: Section<'_>) -> Option<Config> {
    let problems = root.problems;
    let control = services::control(root.section("control"));
    let wan = match root.section_if_present("wan") {
        Some(section) => wan::wan(section),
        None => {
            root.require("wan", "[wan]` with `link = \"wan0\"");
            None
        }
    };
    let before = problems.count();
    let sections = root.sections("lan", defaults::LANS_MAX);
    if sections.is_empty() && problems.count() == before {
        let at = root.place_of("lan").unwrap_or(root.at.clone());
        problems.note(&at, Fault::NoLan);
    }
    let lans: Vec<Option<lan::LanRead>> = sections.into_iter().map(lan::lan).collect();
    let dns = services::dns(root.section("dns"));
    let nat = nat::nat(root.section("nat"));
    // A forward to a host whose own table is wrong would be a second report of the same thing.
    let hosts_known = problems.count() == 0;
    let lans_known = lans.iter().all(Option::is_some);
    let lans: Vec<lan::LanRead> = lans.into_iter().flatten().collect();

    let links = links(wan.as_ref(), &lans, problems);
    check_subnets(wan.as_ref(), &lans, problems);
    check_names(&lans, &dns, problems);
    check_upstream(&dns, &lans, problems);
    if lans_known {
        lan::check_reach(&lans, problems);
    }

    externals::check(wan.as_ref(), &nat, &lans, problems);

    let known = policy::Known {
        lans: lans_known.then_some(&lans[..]),
        dns: hosts_known.then_some(&dns.dns),
    };
    let policy = policy::policy(root.section("policy"), known);
    let sets: Vec<&str> = policy.sets.iter().map(|set| set.name.as_str()).collect();
    let mode = wan.as_ref().map(|read| &read.wan.mode);
    let reserved = reserved_ports(&control, mode);
    let externals = wan.as_ref().map(|read| Externals::of(&read.wan, &nat.nat));
    let externals = externals.as_ref();
    let context = forward::Context { known, sets: &sets, reserved: &reserved, externals };
    let forwards = forward::forwards(root.sections("forward", defaults::FORWARDS_MAX), context);
    if hosts_known {
        forward::check_targets(&forwards, &lans, &dns.dns, problems);
        nat::check_hosts(&nat, &lans, &dns.dns, problems);
        if let Some(host) = &nat.dmz_host
            && let Some(fault) = forward::no_host_of(&host.value, &lans, &dns.dns)
        {
            let given = host.value.to_string();
            problems.note(&host.at, Fault::DmzNoHost { given, remedy: fault.remedy() });
        }
    }
    let zone = root
        .section_if_present("zone")
        .map(|section| zone::zone(section, wan.as_ref().map(|wan| &wan.wan), &links));
    root.finish();

    Some(Config {
        control,
        wan: wan?.wan,
        lans: lans.into_iter().map(|read| read.lan).collect(),
        dns: dns.dns,
        nat: nat.nat,
        forwards: forwards.into_iter().map(|forward| forward.value).collect(),
        policy,
        zone: match zone {
            Some(zone) => Some(zone?),
            None => None,
        },
    })
}

/// A link that the router uses, and where the file names it.
pub(crate) struct UsedLink {
    pub(crate) name: String,
    pub(crate) at: Range<usize>,
    /// Position among the LANs; `None` is the WAN.
    pub(crate) lan: Option<usize>,
}

fn links(wan: Option<&wan::WanRead>, lans: &[lan::LanRead], problems: &Problems) -> Vec<UsedLink> {
    let of_wan = wan.map(|read| UsedLink {
        name: read.wan.link.clone(),
        at: read.link_at.clone(),
        lan: None,
    });
    let of_lans = lans.iter().enumerate().map(|(index, read)| UsedLink {
        name: read.lan.link.clone(),
        at: read.link_at.clone(),
        lan: Some(index),
    });
    let mut links: Vec<UsedLink> = Vec::new();
    for link in of_wan.into_iter().chain(of_lans) {
        match links.iter().find(|earlier| earlier.name == link.name) {
            Some(earlier) => problems.note_both(
                &link.at,
                (&earlier.at, "first used here"),
                Fault::DuplicateLink { link: link.name },
            ),
            None => links.push(link),
        }
    }
    links
}

fn check_subnets(wan: Option<&wan::WanRead>, lans: &[lan::LanRead], problems: &Problems) {
    let mut taken: Vec<(Ipv4Net, String, &Range<usize>)> = Vec::new();
    if let Some((subnet, at)) = wan.and_then(|wan| wan.subnet.as_ref()) {
        taken.push((*subnet, "the WAN subnet".to_owned(), at));
    }
    for read in lans {
        let subnet = read.lan.subnet();
        if let Some((_, other, at)) = taken.iter().find(|(net, ..)| overlap(*net, subnet)) {
            let fault = Fault::SubnetOverlap {
                subnet,
                lan: read.lan.name.clone(),
                other: other.clone(),
                example: free_subnet(taken.iter().map(|(net, ..)| *net)),
            };
            problems.note_both(&read.address_at, (at, "overlaps this"), fault);
        }
        taken.push((subnet, format!("`{}`", read.lan.name), &read.address_at));
    }
}

/// A router's address in the first private /24 that nothing of `taken` touches.
fn free_subnet(taken: impl Iterator<Item = Ipv4Net> + Clone) -> Ipv4Net {
    let base = u32::from(defaults::EXAMPLE_SUBNETS);
    let candidates = (0..=u32::from(u16::MAX)).map(|index| {
        let address = Ipv4Addr::from(base + (index << 8) + 1);
        Ipv4Net::new_assert(address, 24)
    });
    let last_resort = Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 1), 24);
    candidates
        .into_iter()
        .find(|net| !taken.clone().any(|other| overlap(other, *net)))
        .unwrap_or(last_resort)
}

/// One name, one host: reservations of all LANs and DNS hosts share the local domain.
fn check_names(lans: &[lan::LanRead], dns: &services::DnsRead, problems: &Problems) {
    let mut taken: BTreeMap<&str, &Range<usize>> = BTreeMap::new();
    let reserved = lans.iter().flat_map(|read| {
        let reservations = read.lan.dhcp.iter().flat_map(|dhcp| &dhcp.reservations);
        reservations.zip(&read.reservations_at).map(|(one, at)| (one.name.as_str(), &at.name))
    });
    let hosts = dns.dns.hosts.iter().zip(&dns.hosts_at).map(|(host, at)| (host.name.as_str(), at));
    for (name, at) in reserved.chain(hosts) {
        match taken.get(name) {
            Some(earlier) => problems.note_both(
                at,
                (earlier, "first used here"),
                Fault::DuplicateName { name: name.to_owned() },
            ),
            None => {
                taken.insert(name, at);
            }
        }
    }
}

fn check_upstream(dns: &services::DnsRead, lans: &[lan::LanRead], problems: &Problems) {
    for (server, at) in dns.dns.upstream.iter().zip(&dns.upstream_at) {
        let address = *server.ip();
        if lans.iter().any(|read| read.lan.address.addr() == address) {
            problems.note(at, Fault::UpstreamIsRouter { address });
        }
    }
}

/// What of a subnet no host can have, if `address` is that.
pub(crate) fn not_a_host(lan: &Lan, address: Ipv4Addr) -> Option<&'static str> {
    if address == lan.address.addr() {
        return Some("the router itself");
    }
    let subnet = lan.subnet();
    if address == subnet.network() {
        return Some("the network address of its subnet");
    }
    (address == subnet.broadcast()).then_some("the broadcast address of its subnet")
}

/// The lowest and highest address of a subnet that a host can have; the prefix is at most 30 bits.
pub(crate) fn host_range(subnet: Ipv4Net) -> (Ipv4Addr, Ipv4Addr) {
    let (network, broadcast) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
    (Ipv4Addr::from(network.saturating_add(1)), Ipv4Addr::from(broadcast.saturating_sub(1)))
}
