//! `[control]` and `[dns]`

use std::ops::Range;
use std::path::PathBuf;

use crate::defaults;
use crate::document::{At, Section};
use crate::fault::Fault;
use crate::model::{Control, Dns, DnsHost, Rebinding};
use crate::{name, value};

pub(crate) fn control(mut section: Section<'_>) -> Control {
    let socket = section
        .text("socket", |text| value::path(text, defaults::SOCKET_PATH_MAX, defaults::SOCKET));
    let state =
        section.text("state", |text| value::path(text, defaults::PATH_MAX, defaults::STATE));
    let metrics = section.text("metrics", value::socket_address);
    section.finish();
    Control {
        socket: socket.map_or_else(|| PathBuf::from(defaults::SOCKET), |path| path.value),
        state: state.map_or_else(|| PathBuf::from(defaults::STATE), |path| path.value),
        metrics: metrics.map(|address| address.value),
    }
}

/// The forwarder, and the places that later checks point to.
pub(crate) struct DnsRead {
    pub(crate) dns: Dns,
    /// In step with `upstream`.
    pub(crate) upstream_at: Vec<Range<usize>>,
    /// Where the names of `hosts` are.
    pub(crate) hosts_at: Vec<Range<usize>>,
}

pub(crate) fn dns(mut section: Section<'_>) -> DnsRead {
    let upstream = section.list("upstream", defaults::UPSTREAMS_MAX, value::server);
    let domain = section.text("domain", name::domain);
    let rebinding = rebinding(&mut section);
    let range = 0..=defaults::CACHE_ENTRIES_LIMIT;
    let cache = section.number("cache_entries_max", range, "an entry takes about 400 bytes");
    let hosts = section.sections("host", defaults::DNS_HOSTS_MAX);
    let (hosts, hosts_at) = hosts.into_iter().filter_map(host).unzip();
    section.finish();
    let (upstream, upstream_at) = upstream.into_iter().map(|At { value, at }| (value, at)).unzip();
    let dns = Dns {
        upstream,
        domain: domain.map_or_else(|| defaults::DOMAIN.to_owned(), |domain| domain.value),
        rebinding,
        cache_entries_max: cache
            .and_then(|count| usize::try_from(count.value).ok())
            .unwrap_or(defaults::CACHE_ENTRIES_MAX),
        hosts,
    };
    DnsRead { dns, upstream_at, hosts_at }
}

#[derive(Clone, Copy, PartialEq)]
enum RebindingWord {
    Filter,
    Pass,
}

fn rebinding(section: &mut Section<'_>) -> Rebinding {
    let words = [RebindingWord::Filter, RebindingWord::Pass];
    let word = section.choice("rebinding", &words, |word| match word {
        RebindingWord::Filter => "filter",
        RebindingWord::Pass => "pass",
    });
    let given = section.place_of("rebinding_allow");
    let allow = section.list("rebinding_allow", defaults::REBINDING_ALLOW_MAX, name::domain);
    let pass = word.is_some_and(|word| word.value == RebindingWord::Pass);
    match &given {
        Some(at) if pass => section.problems.note(at, Fault::AllowWithoutFilter),
        _ => {}
    }
    match (pass, given) {
        (true, _) => Rebinding::Pass,
        (false, Some(_)) => {
            Rebinding::Filter { allow: allow.into_iter().map(|domain| domain.value).collect() }
        }
        (false, None) => {
            Rebinding::Filter { allow: defaults::REBINDING_ALLOW.map(str::to_owned).to_vec() }
        }
    }
}

fn host(mut section: Section<'_>) -> Option<(DnsHost, Range<usize>)> {
    let name = section.required("name", "printer", name::domain);
    let address = section.required("address", "10.0.0.9", value::address);
    section.finish();
    let (name, address) = (name?, address?);
    Some((DnsHost { name: name.value, address: address.value }, name.at))
}
