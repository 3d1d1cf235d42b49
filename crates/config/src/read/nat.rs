//! `[nat]`

use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use crate::defaults;
use crate::document::{At, Problems, Section, choose};
use crate::fault::Fault;
use crate::model::{
    Dns, Exemption, Filtering, ForwardHost, ForwardProtocol, Hairpinning, HostFiltering,
    IcmpRefusals, Lan, MssClamp, Nat, NatTimeouts, Pooling, ProtocolQuotas, ShortTimeouts,
    StaticNat, UnsolicitedSyn,
};
use crate::read::forward;
use crate::read::lan::LanRead;
use crate::value;

/// The translation, and the places that later checks point to.
pub(crate) struct NatRead {
    pub(crate) nat: Nat,
    /// The host that gets what nothing else takes, and where it is named.
    pub(crate) dmz_host: Option<At<ForwardHost>>,
    /// Where the external address of each 1:1 address stands.
    pub(crate) externals_at: Vec<Range<usize>>,
    /// Where the host of each 1:1 address stands.
    internals_at: Vec<Range<usize>>,
    /// Where each host with a filtering of its own stands.
    hosts_at: Vec<Range<usize>>,
}

pub(crate) fn nat(mut section: Section<'_>) -> NatRead {
    let mss_clamp = mss_clamp(&mut section).unwrap_or(MssClamp::Auto);
    let short_timeouts = match section.flag("allow_short_timeouts") {
        Some(flag) if flag.value => ShortTimeouts::Allowed,
        _ => ShortTimeouts::Refused,
    };
    let hairpinning = match section.flag("hairpinning") {
        Some(flag) if !flag.value => Hairpinning::Off,
        _ => Hairpinning::On,
    };
    let refusals = section.choice("icmp_refusals", &IcmpRefusals::ALL, IcmpRefusals::as_str);
    let range = defaults::SESSIONS_MIN..=defaults::SESSIONS_LIMIT;
    let sessions = section.number("sessions_max", range, "a session takes 128 bytes or more");
    let range = defaults::MAPPINGS_PER_HOST_MIN..=defaults::MAPPINGS_PER_HOST_LIMIT;
    let mappings =
        section.number("mappings_per_host_max", range, "there are 65535 ports per protocol");
    let mappings_per_host_max_of = quotas(&mut section);
    let pooling = section.choice("pooling", &Pooling::ALL, Pooling::as_str);
    let dmz_host = section.text("dmz_host", |text| {
        ForwardHost::parse(text).ok_or_else(|| Fault::HostName { given: text.to_owned() })
    });
    let range = 0..=defaults::PORTS_AT_REST_LIMIT;
    let resting = section.number("ports_at_rest_max", range, "there are 65535 ports per protocol");
    let range = defaults::SESSIONS_PER_HOST_MIN..=defaults::SESSIONS_LIMIT;
    let of_host = section.number("sessions_per_host_max", range, "leave it out for half of all");
    let rate = |section: &mut Section<'_>, key, default| {
        let range = defaults::NEW_FLOWS_MIN..=defaults::NEW_FLOWS_LIMIT;
        let count = section.number(key, range, "a busy host opens a few hundred at once");
        count.and_then(|count| u32::try_from(count.value).ok()).unwrap_or(default)
    };
    let new_flows_per_host =
        rate(&mut section, "new_flows_per_host_per_second", defaults::NEW_FLOWS_PER_HOST);
    let new_flows_burst = rate(&mut section, "new_flows_burst", defaults::NEW_FLOWS_BURST);
    let unsolicited_syn = unsolicited_syn(&mut section);
    let timeouts = timeouts(section.section("timeouts"), short_timeouts);
    let statics = section.sections("static", defaults::WAN_ADDRESSES_MAX);
    let statics: Vec<StaticRead> = statics.into_iter().filter_map(one_to_one).collect();
    let exemptions = section.sections("exempt", defaults::EXEMPTIONS_MAX);
    let exemptions = exemptions.into_iter().filter_map(exemption).collect();
    let hosts = section.sections("host", defaults::NAT_HOSTS_MAX);
    let hosts: Vec<At<HostFiltering>> = hosts.into_iter().filter_map(host).collect();
    section.finish();
    let nat = Nat {
        mss_clamp,
        timeouts,
        short_timeouts,
        sessions_max: sessions.and_then(|count| usize::try_from(count.value).ok()),
        mappings_per_host_max: mappings
            .and_then(|count| usize::try_from(count.value).ok())
            .unwrap_or(defaults::MAPPINGS_PER_HOST_MAX),
        mappings_per_host_max_of,
        pooling: pooling.map_or(defaults::POOLING, |pooling| pooling.value),
        ports_at_rest_max: resting
            .and_then(|count| u32::try_from(count.value).ok())
            .unwrap_or(defaults::PORTS_AT_REST_MAX),
        sessions_per_host_max: of_host.and_then(|count| u32::try_from(count.value).ok()),
        new_flows_per_host,
        new_flows_burst,
        unsolicited_syn,
        hairpinning,
        icmp_refusals: refusals.map_or(defaults::ICMP_REFUSALS, |refusals| refusals.value),
        dmz_host: dmz_host.as_ref().map(|host| host.value.clone()),
        statics: statics.iter().map(|read| read.value.clone()).collect(),
        exemptions,
        hosts: hosts.iter().map(|host| host.value.clone()).collect(),
    };
    let (externals_at, internals_at) =
        statics.into_iter().map(|read| (read.external_at, read.internal_at)).unzip();
    let hosts_at = hosts.into_iter().map(|host| host.at).collect();
    NatRead { nat, dmz_host, externals_at, internals_at, hosts_at }
}

fn unsolicited_syn(section: &mut Section<'_>) -> UnsolicitedSyn {
    let answers = [UnsolicitedSyn::Silent, UnsolicitedSyn::Answer];
    let answer = section.choice("unsolicited_syn", &answers, |answer| match answer {
        UnsolicitedSyn::Silent => "silent",
        UnsolicitedSyn::Answer => "answer",
    });
    answer.map_or(defaults::UNSOLICITED_SYN, |answer| answer.value)
}

fn quotas(section: &mut Section<'_>) -> ProtocolQuotas {
    let mut read = |key| {
        let range = defaults::MAPPINGS_PER_HOST_MIN..=65_535;
        let quota = section.number(key, range, "there are 65535 ports per protocol");
        quota.and_then(|quota| u32::try_from(quota.value).ok())
    };
    ProtocolQuotas {
        tcp: read("mappings_per_host_max_tcp"),
        udp: read("mappings_per_host_max_udp"),
        icmp: read("mappings_per_host_max_icmp"),
    }
}

struct StaticRead {
    value: StaticNat,
    external_at: Range<usize>,
    internal_at: Range<usize>,
}

fn one_to_one(mut section: Section<'_>) -> Option<StaticRead> {
    let external = section.required("external", "198.51.100.5", value::address);
    let internal = section.required("internal", "10.0.0.9", host_named);
    let inbound = section.flag("inbound").is_some_and(|flag| flag.value);
    section.finish();
    let (external, internal) = (external?, internal?);
    Some(StaticRead {
        value: StaticNat { external: external.value, internal: internal.value, inbound },
        external_at: external.at,
        internal_at: internal.at,
    })
}

fn exemption(mut section: Section<'_>) -> Option<Exemption> {
    let destination = section.required("destination", "172.16.0.0/12", value::prefix);
    let source = section.text("source", value::prefix);
    let protocol =
        section.text("protocol", |text| text.parse::<ForwardProtocol>().map_err(Fault::from));
    let ports = forward::ports(&mut section);
    if let (Some(at), None) = (section.place_of("port"), section.place_of("protocol")) {
        section.problems.note(&at, Fault::ExemptPortWithoutProtocol);
    }
    section.finish();
    Some(Exemption {
        destination: destination?.value,
        source: source.map(|net| net.value),
        protocol: protocol.map(|protocol| protocol.value),
        ports: ports.map(|ports| ports.value),
    })
}

fn host(mut section: Section<'_>) -> Option<At<HostFiltering>> {
    let host = section.required("host", "console", host_named);
    section.require("filtering", "filtering = \"endpoint-independent\"");
    let filtering = section.choice("filtering", &Filtering::ALL, Filtering::as_str);
    section.finish();
    let (host, filtering) = (host?, filtering?.value);
    Some(host.map(|host| HostFiltering { host, filtering }))
}

fn host_named(text: &str) -> Result<ForwardHost, Fault> {
    ForwardHost::parse(text).ok_or_else(|| Fault::NotHost { given: text.to_owned() })
}

/// Checks that every host is one that the file knows or a LAN can hold, and is there once in each
/// list.
pub(crate) fn check_hosts(read: &NatRead, lans: &[LanRead], dns: &Dns, problems: &Problems) {
    let lans: Vec<&Lan> = lans.iter().map(|read| &read.lan).collect();
    let statics = read.nat.statics.iter().map(|one| &one.internal).zip(&read.internals_at);
    let hosts = read.nat.hosts.iter().map(|one| &one.host).zip(&read.hosts_at);
    let check = |table, list: Vec<(&ForwardHost, &Range<usize>)>| {
        for (index, (host, at)) in list.iter().enumerate() {
            if let Some(fault) = forward::no_host(host, &lans, dns) {
                problems.note(at, of_host(fault));
            }
            let address = forward::address_of(host, &lans, dns);
            let same = |other: &ForwardHost| {
                other == *host
                    || address.is_some() && forward::address_of(other, &lans, dns) == address
            };
            if let Some((_, earlier)) = list[..index].iter().find(|(other, _)| same(other)) {
                let fault = Fault::DuplicateNatHost { host: host.to_string(), table };
                problems.note_both(at, (earlier, "first here"), fault);
            }
        }
    };
    check("static", statics.collect());
    check("host", hosts.collect());
}

/// What is wrong with a host, in words that do not speak of forwards.
fn of_host(fault: Fault) -> Fault {
    match fault {
        Fault::ForwardOutside { address, subnets } => Fault::HostOutside { address, subnets },
        Fault::ForwardToNoHost { address, what } => Fault::HostIsNone { address, what },
        Fault::ForwardToUnknown { name, remedy } => Fault::HostUnknown { name, remedy },
        other => other,
    }
}

fn mss_clamp(section: &mut Section<'_>) -> Option<MssClamp> {
    let (min, max) = (defaults::MSS_MIN, defaults::MSS_MAX);
    match section.kind_of("mss_clamp")? {
        DeValue::Integer(digits) => {
            let value = u16::from_str_radix(digits.as_str(), digits.radix()).ok();
            let value = value.filter(|value| (min..=max).contains(value));
            if value.is_none() {
                section.problems.note(&section.place_of("mss_clamp")?, Fault::Mss { min, max });
            }
            value.map(MssClamp::Value)
        }
        _ => {
            let words = [MssClamp::Auto, MssClamp::Off];
            let word = |clamp| if clamp == MssClamp::Off { "off" } else { "auto" };
            let read = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
                true => Err(Fault::Mss { min, max }),
                false => choose("mss_clamp", text, &words, word),
            };
            section.text("mss_clamp", read).map(|clamp| clamp.value)
        }
    }
}

fn timeouts(mut section: Section<'_>, short: ShortTimeouts) -> NatTimeouts {
    let mut read = |key, default, floor: Duration, source_text| {
        let timeout = section.text(key, |text| {
            let (min, max) = (defaults::TIMEOUT_MIN, defaults::TIMEOUT_MAX);
            let timeout = value::duration(key, text, min, max)?;
            if timeout < floor && short == ShortTimeouts::Refused {
                return Err(Fault::TimeoutBelowFloor {
                    key,
                    floor: value::shown(floor),
                    source_text,
                });
            }
            Ok(timeout)
        });
        timeout.map_or(default, |timeout| timeout.value)
    };
    let udp = read("udp", defaults::TIMEOUT_UDP, defaults::TIMEOUT_UDP_FLOOR, "RFC 4787 REQ-5");
    let transitory = defaults::TIMEOUT_TCP_TRANSITORY;
    let tcp = read("tcp_transitory", transitory, transitory, "RFC 5382 REQ-5");
    let timeouts = NatTimeouts {
        udp,
        udp_dns: read(
            "udp_dns",
            defaults::TIMEOUT_UDP_DNS,
            defaults::TIMEOUT_UDP_DNS_FLOOR,
            "RFC 5452 §10",
        ),
        tcp_established: read(
            "tcp_established",
            defaults::TIMEOUT_TCP_ESTABLISHED,
            defaults::TIMEOUT_TCP_ESTABLISHED,
            "RFC 5382 REQ-5",
        ),
        tcp_opening: read("tcp_opening", tcp, transitory, "RFC 7857 §2.1"),
        tcp_closing: read("tcp_closing", tcp, transitory, "RFC 7857 §2.1"),
        icmp: read("icmp", defaults::TIMEOUT_ICMP, defaults::TIMEOUT_ICMP, "RFC 5508 REQ-2"),
        other: read(
            "other",
            defaults::TIMEOUT_OTHER,
            defaults::TIMEOUT_OTHER_FLOOR,
            "RFC 4787 REQ-5, for tunnels carry UDP",
        ),
        port_rest: read("port_rest", defaults::PORT_REST, defaults::PORT_REST, "RFC 6888 REQ-8"),
    };
    section.finish();
    timeouts
}
