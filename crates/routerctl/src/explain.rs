//! An explanation as people read it: one line for each thing that was found out, the verdict last.

use std::fmt::Write;

use ctl_api::{DecidedBy, Explanation, PacketFacts, QueueFacts, RouteFacts, TranslationFacts};

use crate::table::{known, short, span};

/// What would become of a packet, and why.
pub(crate) fn explanation(told: &Explanation) -> String {
    let mut text = String::new();
    let mut line = |word: &str, rest: Option<String>| {
        if let Some(rest) = rest {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{word:<9} {rest}");
        }
    };
    line("packet", Some(packet(told)));
    line("flow", flow(told));
    line("becomes", told.translation.as_ref().map(translation));
    line("decided", told.decided_by.as_ref().map(decided));
    line("route", told.route.as_ref().map(route));
    line(
        "mss",
        told.mss.filter(|[from, to]| from != to).map(|[from, to]| format!("{from} > {to}")),
    );
    line(
        "cut",
        told.fragment_bytes_max.map(|max| format!("into fragments of at most {max} bytes")),
    );
    line("queue", told.queue.as_ref().map(queue));
    let reason = told.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    line("verdict", Some(format!("{}{reason}: {}", told.verdict, told.sentence)));
    text
}

fn packet(told: &Explanation) -> String {
    match &told.packet {
        Some(PacketFacts { protocol, source, destination }) => {
            format!("{protocol} {source} > {destination}, from {}", told.from)
        }
        None => format!("not one that could have a flow, from {}", told.from),
    }
}

fn flow(told: &Explanation) -> Option<String> {
    let direction = known(told.direction);
    match (told.flow.as_str(), &told.session) {
        ("none", _) => None,
        (_, Some(session)) => Some(format!(
            "{direction}, {}, {} sent, {} received, {} left",
            session.state,
            short(session.bytes_out),
            short(session.bytes_in),
            span(session.expires_secs)
        )),
        ("opens", None) => Some(format!("a new one, {direction}")),
        ("pending", None) => Some("a connection from outside that is not open yet".to_owned()),
        ("about", None) => Some("an error about a packet of a flow".to_owned()),
        (other, None) => Some(other.to_owned()),
    }
}

fn translation(told: &TranslationFacts) -> String {
    let TranslationFacts { source, source_port, destination, origin } = told;
    let port = source_port.map_or("a free port".to_owned(), |port| port.to_string());
    let origin = match origin.as_deref() {
        None => String::new(),
        Some("bound") => ", bound to the host".to_owned(),
        Some("mapping") => ", by a mapping that is there".to_owned(),
        Some("preserved") => ", a new mapping, the port preserved".to_owned(),
        Some("former") => ", a new mapping, the port from before the restart".to_owned(),
        Some("drawn") => ", a new mapping, the host's own port is taken".to_owned(),
        Some(other) => format!(", {other}"),
    };
    format!("{source}:{port} > {destination}{origin}")
}

fn decided(by: &DecidedBy) -> String {
    match (by.by.as_str(), by.rule, &by.name) {
        ("rule", Some(number), Some(name)) => format!("by rule {number}, {name}"),
        ("rule", Some(number), None) => format!("by rule {number}"),
        ("policy", ..) => "by the policy between zones; no rule matches".to_owned(),
        ("translation", ..) => "by the forward or mapping; no rule matches".to_owned(),
        (other, ..) => other.to_owned(),
    }
}

fn route(route: &RouteFacts) -> String {
    let RouteFacts { prefix, link, next_hop, mac } = route;
    let mac = mac.map_or("not known yet".to_owned(), |mac| mac.to_string());
    let prefix = prefix.map_or(String::new(), |prefix| format!("{prefix} "));
    format!("{prefix}by {link} to {next_hop} ({mac})")
}

fn queue(queue: &QueueFacts) -> String {
    let QueueFacts { direction, shaped, host } = queue;
    match (shaped, host) {
        (false, _) => format!("none, {direction} is not shaped"),
        (true, Some(host)) => format!("{direction}, with what {host} has"),
        (true, None) => format!("{direction}, with what belongs to no host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_would_open_is_told_in_a_few_lines() {
        let text = r#"{"from":"lan0",
            "packet":{"protocol":"tcp","source":"10.0.0.7:40000","destination":"203.0.113.10:443"},
            "flow":"opens","direction":"outbound","session":null,
            "translation":{"source":"198.51.100.2","source_port":null,
                "destination":"203.0.113.10:443","origin":"drawn"},
            "decided_by":{"by":"rule","rule":2,"name":"office"},
            "route":{"prefix":"0.0.0.0/0","link":"wan0","next_hop":"198.51.100.1","mac":null},
            "mss":[1460,1412],"fragment_bytes_max":null,
            "queue":{"direction":"upload","shaped":true,"host":"10.0.0.7"},
            "verdict":"forward","reason":null,"sentence":"It leaves by wan0."}"#;
        let expected = "\
packet    tcp 10.0.0.7:40000 > 203.0.113.10:443, from lan0
flow      a new one, outbound
becomes   198.51.100.2:a free port > 203.0.113.10:443, a new mapping, the host's own port is taken
decided   by rule 2, office
route     0.0.0.0/0 by wan0 to 198.51.100.1 (not known yet)
mss       1460 > 1412
queue     upload, with what 10.0.0.7 has
verdict   forward: It leaves by wan0.
";
        assert_eq!(explanation(&serde_json::from_str(text).unwrap()), expected);
    }

    #[test]
    fn a_frame_that_is_no_packet_has_its_reason_and_no_more() {
        let text = r#"{"from":"wan0","packet":null,"flow":"none","direction":null,"session":null,
            "translation":null,"decided_by":null,"route":null,"mss":null,"fragment_bytes_max":null,
            "queue":null,"verdict":"drop","reason":"ip-checksum",
            "sentence":"The IP header checksum is wrong."}"#;
        let expected = "\
packet    not one that could have a flow, from wan0
verdict   drop (ip-checksum): The IP header checksum is wrong.
";
        assert_eq!(explanation(&serde_json::from_str(text).unwrap()), expected);
    }
}
