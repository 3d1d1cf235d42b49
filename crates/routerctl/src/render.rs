//! Replies as people read them.

use std::fmt::Write;

use ctl_api::{
    Direction, Dns, Drop, Flow, Forward, Host, Lease, Reloaded, Rule, Shaper, Status, Wan,
};

use crate::table::{Table, known, short, span};

/// Further external addresses shown; there may be hundreds.
const ADDRESSES_SHOWN: usize = 4;

/// Appends a formatted line.
macro_rules! line {
    ($text:expr, $($format:tt)*) => {
        // Writing to a String cannot fail.
        let _ = writeln!($text, $($format)*);
    };
}

/// One screen of everything.
pub(crate) fn status(status: &Status) -> String {
    let mut text = String::new();
    let Status { version, uptime_secs, config_generation, flows, .. } = status;
    line!(text, "routerd {version}, up {}, configuration {config_generation}", span(*uptime_secs));
    text.push('\n');
    text.push_str(&wan(&status.wan));
    let mut links = Table::new(&["LINK", "ROLE", "STATE", "MAC", ">MTU", ">IN", ">OUT", ">LOST"]);
    for link in &status.links {
        links.row([
            link.name.clone(),
            link.role.to_string(),
            link.state.to_string(),
            link.mac.to_string(),
            link.mtu.to_string(),
            format!("{}bit/s", short(link.rx_bits_per_sec)),
            format!("{}bit/s", short(link.tx_bits_per_sec)),
            short(link.kernel_drops),
        ]);
    }
    section(&mut text, links);
    let mut lans = Table::new(&["LAN", "LINK", "ADDRESS", ">HOSTS", ">LEASES", ">FREE"]);
    for lan in &status.lans {
        lans.row([
            lan.name.clone(),
            lan.link.clone(),
            lan.address.to_string(),
            lan.hosts.to_string(),
            lan.leases.to_string(),
            known(lan.pool_free),
        ]);
    }
    section(&mut text, lans);
    text.push('\n');
    line!(
        text,
        "flows    {} of {} ({} opened, {} refused), {} mappings",
        flows.active,
        short(flows.capacity),
        short(flows.opened),
        short(flows.refused),
        flows.mappings
    );
    line!(text, "drops    {} (routerctl drops says why)", short(status.drops_total));
    if let Some(dmz) = &status.dmz_host {
        let ping = if dmz.ping { ", pings too" } else { "" };
        line!(text, "dmz      {} ({}) gets what nothing else takes{ping}", dmz.host, dmz.address);
    }
    for shaper in &status.shapers {
        line!(text, "{:<8} {}", shaper.direction, shaped(shaper));
    }
    line!(text, "dns      {}", dns_line(&status.dns));
    text
}

fn section(text: &mut String, table: Table) {
    let table = table.render();
    if !table.is_empty() {
        text.push('\n');
        text.push_str(&table);
    }
}

fn shaped(shaper: &Shaper) -> String {
    let millis = |micros: Option<u64>| {
        known(micros.map(|us| format!("{}.{} ms", us / 1000, us % 1000 / 100)))
    };
    format!(
        "{}bit/s, delay {} (95 %: {}), {} drops, {} marks",
        short(shaper.rate_bits_per_sec),
        millis(shaper.delay_us_p50),
        millis(shaper.delay_us_p95),
        short(shaper.drops),
        short(shaper.marks)
    )
}

fn dns_line(dns: &Dns) -> String {
    let Dns { queries, hits, local, stale, failures, .. } = dns;
    format!(
        "{} queries: {} from the cache, {} local, {} stale, {} failed",
        short(*queries),
        short(*hits),
        short(*local),
        short(*stale),
        short(*failures)
    )
}

/// The WAN and its lease.
pub(crate) fn wan(wan: &Wan) -> String {
    let mut text = String::new();
    line!(text, "wan      {} ({}), {}", wan.link, wan.mode, wan.state);
    if let Some(address) = wan.address {
        line!(text, "address  {address} via {}", known(wan.gateway));
    }
    if !wan.shared.is_empty() {
        line!(text, "shared   {}", some_of(&wan.shared));
    }
    for one in &wan.one_to_one {
        let inbound = if one.inbound { "open" } else { "closed" };
        line!(text, "1:1      {} is {}, {inbound} from outside", one.external, one.internal);
    }
    if let (Some(server), Some(left)) = (wan.server, wan.lease_expires_secs) {
        let renews =
            wan.renews_secs.map_or(String::new(), |secs| format!(", renews in {}", span(secs)));
        line!(text, "lease    from {server}, {} left{renews}", span(left));
    }
    if !wan.dns.is_empty() {
        let servers: Vec<String> = wan.dns.iter().map(ToString::to_string).collect();
        line!(text, "servers  {}", servers.join(", "));
    }
    text
}

/// The first of a list of addresses, and how many more there are.
fn some_of(addresses: &[std::net::Ipv4Addr]) -> String {
    let shown: Vec<String> =
        addresses.iter().take(ADDRESSES_SHOWN).map(ToString::to_string).collect();
    let more = match addresses.len().saturating_sub(ADDRESSES_SHOWN) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    shown.join(", ") + &more
}

/// All forwards.
pub(crate) fn forwards(forwards: &[Forward]) -> String {
    let mut table = Table::new(&["PROTOCOL", "PORT", "TO", "SOURCE", "STATE"]);
    for forward in forwards {
        let state = match (forward.enabled, forward.resolved) {
            (true, Some(endpoint)) => format!("open to {endpoint}"),
            (true, None) => "open".to_owned(),
            (false, None) => "waits for the host".to_owned(),
            (false, Some(_)) => "waits for the WAN".to_owned(),
        };
        let from = match &forward.from[..] {
            [] => String::new(),
            from => format!(", for {}", from.join(" ")),
        };
        let outside = if forward.hairpin { "" } else { ", not from inside" };
        let state = format!("{state}{from}{outside}");
        table.row([
            forward.protocol.as_str().to_owned(),
            match forward.address {
                Some(address) => format!("{address}:{}", forward.port),
                None => forward.port.to_string(),
            },
            forward.to.to_string(),
            forward.source.to_string(),
            state,
        ]);
    }
    or_none(table, "no forwards")
}

/// One forward that was opened or closed.
pub(crate) fn forward(verb: &str, forward: &Forward) -> String {
    let Forward { protocol, port, to, .. } = forward;
    format!("{verb}: {} {port} to {to}\n", protocol.as_str())
}

/// All leases and reservations.
pub(crate) fn leases(leases: &[Lease]) -> String {
    let mut table = Table::new(&["ADDRESS", "MAC", "NAME", "LAN", "STATE", "SOURCE", ">LEFT"]);
    for lease in leases {
        table.row([
            lease.address.to_string(),
            lease.mac.to_string(),
            known(lease.name.as_ref()),
            lease.lan.clone(),
            lease.state.to_string(),
            lease.source.to_string(),
            known(lease.expires_secs.map(span)),
        ]);
    }
    or_none(table, "no leases")
}

/// Sessions.
pub(crate) fn flows(flows: &[Flow]) -> String {
    let mut table =
        Table::new(&["PROTO", "INTERNAL", ">AS", "", "REMOTE", "STATE", ">SENT", ">RCVD", ">IDLE"]);
    for flow in flows {
        let way = match flow.direction {
            Direction::Outbound => ">",
            Direction::Inbound => "<",
            Direction::Hairpin => "=",
            Direction::Routed => "-",
        };
        table.row([
            flow.protocol.to_string(),
            flow.internal.to_string(),
            flow.external.port().to_string(),
            way.to_owned(),
            flow.remote.to_string(),
            flow.state.clone(),
            short(flow.bytes_out),
            short(flow.bytes_in),
            span(flow.idle_secs),
        ]);
    }
    or_none(table, "no flows")
}

/// Hosts inside.
pub(crate) fn hosts(hosts: &[Host]) -> String {
    let mut table =
        Table::new(&["ADDRESS", "MAC", "NAME", "LAN", ">FLOWS", ">DOWN", ">UP", ">SEEN"]);
    for host in hosts {
        table.row([
            host.address.to_string(),
            host.mac.to_string(),
            known(host.name.as_ref()),
            host.lan.clone(),
            short(host.flows),
            format!("{}bit/s", short(host.rate_in_bits_per_sec)),
            format!("{}bit/s", short(host.rate_out_bits_per_sec)),
            known(host.seen_secs.map(span)),
        ]);
    }
    or_none(table, "no hosts")
}

/// Rules in the order in which they are tried, and what is odd about some.
pub(crate) fn rules(rules: &[Rule]) -> String {
    let mut table = Table::new(&["RULE", "ACTION", "FROM", "TO", "ONLY", ">FLOWS", ">REFUSED"]);
    let mut remarks = String::new();
    for rule in rules {
        let name = known_name(rule);
        table.row([
            name.clone(),
            rule.action.clone(),
            rule.from.clone(),
            rule.to.clone(),
            only(rule),
            short(rule.flows),
            short(rule.refused + rule.limited),
        ]);
        if !rule.active {
            let schedule = rule.schedule.as_deref().unwrap_or("-");
            line!(remarks, "{name}: not now, only {schedule}");
        }
        if let Some(earlier) = rule.shadowed_by {
            line!(remarks, "{name}: never matches, rule {earlier} takes everything before it");
        }
        if rule.limited > 0 {
            line!(remarks, "{name}: {} flows came faster than its rate", short(rule.limited));
        }
    }
    let mut text = or_none(table, "no rules");
    if !remarks.is_empty() {
        text.push('\n');
        text.push_str(&remarks);
    }
    text
}

/// The rule's name, or its number.
fn known_name(rule: &Rule) -> String {
    rule.name.clone().unwrap_or_else(|| rule.number.to_string())
}

/// The conditions of a rule beside its ends.
fn only(rule: &Rule) -> String {
    let mut parts = Vec::new();
    let mut add = |word: &str, values: &[String]| {
        if !values.is_empty() {
            parts.push(format!("{word}{}", values.join(",")));
        }
    };
    let protocol = Some(&rule.protocol).filter(|protocol| *protocol != "any");
    add("", protocol.map_or(&[], std::slice::from_ref));
    add("", &rule.ports);
    add("by ", &rule.source_ports);
    add("from ", &rule.source);
    add("to ", &rule.destination);
    add("dscp ", &rule.dscp.iter().map(u8::to_string).collect::<Vec<_>>());
    add("", rule.rate.as_slice());
    add("", rule.schedule.as_slice());
    if rule.log {
        parts.push("logged".to_owned());
    }
    if parts.is_empty() { "-".to_owned() } else { parts.join(" ") }
}

/// Drops by reason, each with its sentence.
pub(crate) fn drops(drops: &[Drop]) -> String {
    let mut table = Table::new(&[">DROPPED", ">ANSWERED", "LINK", "REASON"]);
    for drop in drops {
        table.row([
            drop.count.to_string(),
            drop.answered.to_string(),
            known(drop.link.as_ref()),
            drop.reason.clone(),
        ]);
    }
    let mut text = or_none(table, "nothing was dropped");
    let mut explained: Vec<&str> = Vec::new();
    for drop in drops {
        if !explained.contains(&drop.reason.as_str()) {
            if explained.is_empty() {
                text.push('\n');
            }
            line!(text, "{}: {}", drop.reason, drop.sentence);
            explained.push(&drop.reason);
        }
    }
    text
}

/// Counters of the DNS forwarder and its upstreams.
pub(crate) fn dns(dns: &Dns) -> String {
    let mut text = String::new();
    line!(text, "{}", dns_line(dns));
    line!(
        text,
        "cache {} of {}, {} in flight, {} refused",
        dns.cache_entries,
        dns.cache_entries_max,
        dns.in_flight,
        dns.refused
    );
    let mut table = Table::new(&["UPSTREAM", ">QUERIES", ">TIMEOUTS", ">LATENCY"]);
    for upstream in &dns.upstreams {
        table.row([
            upstream.address.to_string(),
            short(upstream.queries),
            short(upstream.timeouts),
            known(upstream.latency_us.map(|us| format!("{} ms", us / 1000))),
        ]);
    }
    section(&mut text, table);
    text
}

/// Queues of the shaped directions.
pub(crate) fn qos(shapers: &[Shaper]) -> String {
    let mut table = Table::new(&[
        "DIRECTION",
        ">RATE",
        ">QUEUED",
        ">SENT",
        ">DROPS",
        ">MARKS",
        ">p50 us",
        ">p95 us",
    ]);
    for shaper in shapers {
        table.row([
            shaper.direction.to_string(),
            format!("{}bit/s", short(shaper.rate_bits_per_sec)),
            format!("{}B", short(shaper.backlog_bytes)),
            format!("{}B", short(shaper.bytes)),
            short(shaper.drops),
            short(shaper.marks),
            known(shaper.delay_us_p50),
            known(shaper.delay_us_p95),
        ]);
    }
    or_none(table, "nothing is shaped")
}

/// What a reload changed.
pub(crate) fn reloaded(done: &Reloaded) -> String {
    let mut text = String::new();
    for change in &done.changes {
        line!(text, "{change}");
    }
    let verb = if done.changes.is_empty() { "unchanged" } else { "in force" };
    line!(text, "configuration {} is {verb}", done.generation);
    text
}

fn or_none(table: Table, none: &str) -> String {
    let text = table.render();
    if text.is_empty() { format!("{none}\n") } else { text }
}

#[cfg(test)]
mod tests;
