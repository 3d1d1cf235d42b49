//! `[nat]`

use std::time::Duration;

use toml::de::DeValue;

use crate::defaults;
use crate::document::{At, Section, choose};
use crate::fault::Fault;
use crate::model::{
    ForwardHost, Hairpinning, IcmpRefusals, MssClamp, Nat, NatTimeouts, ShortTimeouts,
    UnsolicitedSyn,
};
use crate::value;

/// Reads the translation, and where the host is named that gets what nothing else takes.
pub(crate) fn nat(mut section: Section<'_>) -> (Nat, Option<At<ForwardHost>>) {
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
    let answers = [UnsolicitedSyn::Silent, UnsolicitedSyn::Answer];
    let unsolicited_syn = section.choice("unsolicited_syn", &answers, |answer| match answer {
        UnsolicitedSyn::Silent => "silent",
        UnsolicitedSyn::Answer => "answer",
    });
    let timeouts = timeouts(section.section("timeouts"), short_timeouts);
    section.finish();
    let nat = Nat {
        mss_clamp,
        timeouts,
        short_timeouts,
        sessions_max: sessions.and_then(|count| usize::try_from(count.value).ok()),
        mappings_per_host_max: mappings
            .and_then(|count| usize::try_from(count.value).ok())
            .unwrap_or(defaults::MAPPINGS_PER_HOST_MAX),
        ports_at_rest_max: resting
            .and_then(|count| u32::try_from(count.value).ok())
            .unwrap_or(defaults::PORTS_AT_REST_MAX),
        sessions_per_host_max: of_host.and_then(|count| u32::try_from(count.value).ok()),
        new_flows_per_host,
        new_flows_burst,
        unsolicited_syn: unsolicited_syn.map_or(defaults::UNSOLICITED_SYN, |answer| answer.value),
        hairpinning,
        icmp_refusals: refusals.map_or(defaults::ICMP_REFUSALS, |refusals| refusals.value),
        dmz_host: dmz_host.as_ref().map(|host| host.value.clone()),
    };
    (nat, dmz_host)
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
    let timeouts = NatTimeouts {
        udp: read("udp", defaults::TIMEOUT_UDP, defaults::TIMEOUT_UDP_FLOOR, "RFC 4787 REQ-5"),
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
        tcp_transitory: read(
            "tcp_transitory",
            defaults::TIMEOUT_TCP_TRANSITORY,
            defaults::TIMEOUT_TCP_TRANSITORY,
            "RFC 5382 REQ-5",
        ),
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
