//! The status as Prometheus text (exposition format 0.0.4).

use std::fmt::Write;

use crate::types::{Drop, LinkState, Shaper, ShaperDirection, Status};

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What every metric's name begins with.
const PREFIX: &str = "zone_router_";

/// Renders every number of the status, and the drops by reason.
pub(crate) fn render(status: &Status, drops: &[Drop]) -> String {
    let mut page = Page(String::with_capacity(8192));
    page.gauge("build_info", "1, with the version as a label.");
    page.sample("build_info", &[("version", &status.version)], 1);
    page.gauge("uptime_seconds", "Seconds since the start of routerd.");
    page.sample("uptime_seconds", &[], status.uptime_secs);
    page.gauge("config_generation", "Number of the configuration in force.");
    page.sample("config_generation", &[], status.config_generation);
    wan(&mut page, status);
    links(&mut page, status);
    flows(&mut page, status);
    page.counter("drops_total", "Packets dropped, by reason.");
    for drop in drops {
        let link = drop.link.as_deref().unwrap_or("");
        page.sample("drops_total", &[("reason", &drop.reason), ("link", link)], drop.count);
    }
    page.counter("answered_total", "Packets answered by an ICMP error or a reset, by reason.");
    for drop in drops.iter().filter(|drop| drop.answered > 0) {
        let link = drop.link.as_deref().unwrap_or("");
        page.sample("answered_total", &[("reason", &drop.reason), ("link", link)], drop.answered);
    }
    shapers(&mut page, &status.shapers);
    dns(&mut page, status);
    page.0
}

fn wan(page: &mut Page, status: &Status) {
    page.gauge("wan_up", "Whether packets can be translated.");
    page.sample("wan_up", &[], u64::from(status.wan.state.is_up()));
    if let Some(secs) = status.wan.lease_expires_secs {
        page.gauge("wan_lease_expires_seconds", "Seconds until the WAN lease ends.");
        page.sample("wan_lease_expires_seconds", &[], secs);
    }
}

fn links(page: &mut Page, status: &Status) {
    page.gauge("link_up", "Whether frames pass.");
    for link in &status.links {
        let up = u64::from(link.state == LinkState::Up);
        page.sample("link_up", &[("link", &link.name)], up);
    }
    page.counters(
        &status.links,
        |link| ("link", link.name.as_str()),
        &[
            ("link_receive_packets_total", "Packets received.", |link| link.rx_packets),
            ("link_receive_bytes_total", "Bytes received.", |link| link.rx_bytes),
            ("link_transmit_packets_total", "Packets sent.", |link| link.tx_packets),
            ("link_transmit_bytes_total", "Bytes sent.", |link| link.tx_bytes),
            ("link_kernel_drops_total", "Frames lost before we read them.", |link| {
                link.kernel_drops
            }),
            (
                "link_fragments_joined_total",
                "Fragments received that became part of a whole packet.",
                |link| link.fragments_joined,
            ),
        ],
    );
    page.gauge("link_fragments_waiting", "Fragments that wait for the rest of their packet.");
    for link in &status.links {
        page.sample("link_fragments_waiting", &[("link", &link.name)], link.fragments_waiting);
    }
    page.gauge("lan_hosts", "Hosts known on the LAN.");
    for lan in &status.lans {
        page.sample("lan_hosts", &[("lan", &lan.name)], lan.hosts);
    }
    page.gauge("lan_leases", "Leases in use on the LAN.");
    for lan in &status.lans {
        page.sample("lan_leases", &[("lan", &lan.name)], lan.leases);
    }
}

fn flows(page: &mut Page, status: &Status) {
    let flows = &status.flows;
    page.gauge("flows", "Sessions open.");
    page.sample("flows", &[], flows.active);
    page.gauge("flows_capacity", "Most sessions that can be open.");
    page.sample("flows_capacity", &[], flows.capacity);
    page.gauge("mappings", "Mappings in use.");
    page.sample("mappings", &[], flows.mappings);
    page.counter("flows_opened_total", "Sessions opened.");
    page.sample("flows_opened_total", &[], flows.opened);
    page.counter("flows_closed_total", "Sessions ended.");
    page.sample("flows_closed_total", &[], flows.closed);
    page.counter("flows_refused_total", "New sessions refused.");
    page.sample("flows_refused_total", &[], flows.refused);
}

fn direction(shaper: &Shaper) -> (&'static str, &str) {
    let name = match shaper.direction {
        ShaperDirection::Download => "download",
        ShaperDirection::Upload => "upload",
    };
    ("direction", name)
}

fn shapers(page: &mut Page, shapers: &[Shaper]) {
    page.gauge("shaper_rate_bits_per_second", "Configured rate.");
    for shaper in shapers {
        let rate = shaper.rate_bits_per_sec;
        page.sample("shaper_rate_bits_per_second", &[direction(shaper)], rate);
    }
    page.gauge("shaper_backlog_bytes", "Bytes waiting.");
    for shaper in shapers {
        page.sample("shaper_backlog_bytes", &[direction(shaper)], shaper.backlog_bytes);
    }
    page.gauge("shaper_delay_microseconds", "Queue delay lately, by quantile.");
    for shaper in shapers {
        for (quantile, delay) in [("0.5", shaper.delay_us_p50), ("0.95", shaper.delay_us_p95)] {
            let Some(delay) = delay else { continue };
            let labels = [direction(shaper), ("quantile", quantile)];
            page.sample("shaper_delay_microseconds", &labels, delay);
        }
    }
    page.counters(
        shapers,
        direction,
        &[
            ("shaper_packets_total", "Packets sent.", |shaper| shaper.packets),
            ("shaper_bytes_total", "Bytes sent, as accounted on the line.", |shaper| shaper.bytes),
            ("shaper_drops_total", "Packets dropped by the queue.", |shaper| shaper.drops),
            ("shaper_marks_total", "Packets marked instead of dropped.", |shaper| shaper.marks),
        ],
    );
}

fn dns(page: &mut Page, status: &Status) {
    let dns = &status.dns;
    page.counter("dns_queries_total", "Queries from hosts.");
    page.sample("dns_queries_total", &[], dns.queries);
    page.counter("dns_answers_total", "Answers that needed no upstream, or had none.");
    let answers = [
        ("cache", dns.hits),
        ("local", dns.local),
        ("stale", dns.stale),
        ("failure", dns.failures),
        ("refused", dns.refused),
    ];
    for (kind, count) in answers {
        page.sample("dns_answers_total", &[("kind", kind)], count);
    }
    page.gauge("dns_cache_entries", "Answers in the cache.");
    page.sample("dns_cache_entries", &[], dns.cache_entries);
}

/// The text so far.
struct Page(String);

/// A counter of each of several things: name, help, how to read it.
type Column<T> = (&'static str, &'static str, fn(&T) -> u64);

impl Page {
    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, help, "gauge");
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.head(name, help, "counter");
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"));
    }

    /// One counter per column, one sample per thing: samples of one name stand together.
    fn counters<T>(
        &mut self,
        things: &[T],
        label: impl Fn(&T) -> (&'static str, &str),
        columns: &[Column<T>],
    ) {
        for (name, help, read) in columns {
            self.counter(name, help);
            for thing in things {
                self.sample(name, &[label(thing)], read(thing));
            }
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.line(format_args!("{PREFIX}{name}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.line(format_args!("{open}{label}=\"{text}\""));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{close} {value}\n"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page(String::new());
        page.sample("x", &[("a", "q\"\\\n"), ("b", "")], 7);
        assert_eq!(page.0, "zone_router_x{a=\"q\\\"\\\\\\n\",b=\"\"} 7\n");
    }

    #[test]
    fn each_sample_follows_the_head_of_its_name_and_no_name_has_two() {
        let status: Status = serde_json::from_str(
            r#"{"version":"0.1.0","uptime_secs":1,"config_generation":1,
            "wan":{"link":"wan0","mode":"static","state":"static","address":"198.51.100.2/24",
                "gateway":"198.51.100.1","dns":[],"domain":null,"server":null,"lease_secs":null,
                "renews_secs":null,"rebinds_secs":null,"lease_expires_secs":9},
            "lans":[{"name":"home","link":"lan0","address":"10.0.0.1/24","hosts":3,"leases":2,
                "pool_free":98}],
            "links":[{"name":"wan0","role":"wan","state":"up","mac":"2:8:20:a:b:1","mtu":1500,
                "rx_packets":1,"rx_bytes":2,"tx_packets":3,"tx_bytes":4,"rx_bits_per_sec":0,
                "tx_bits_per_sec":0,"kernel_drops":0,"fragments_joined":3,"fragments_waiting":1}],
            "flows":{"active":12,"capacity":64,"opened":1,"closed":2,"refused":0,"mappings":10},
            "drops_total":5,
            "shapers":[{"direction":"upload","rate_bits_per_sec":19000000,"backlog_bytes":0,
                "backlog_packets":0,"delay_us_p50":900,"delay_us_p95":null,"packets":1,"bytes":1,
                "drops":3,"marks":4,"flows":0}],
            "dns":{"queries":1,"hits":7,"local":2,"stale":0,"failures":1,"refused":0,
                "cache_entries":5,"cache_entries_max":10,"in_flight":0,"upstreams":[]}}"#,
        )
        .unwrap();
        let drops = [Drop {
            reason: "no-mapping".into(),
            sentence: String::new(),
            link: Some("wan0".into()),
            count: 5,
            answered: 2,
        }];
        let text = render(&status, &drops);
        let mut heads = Vec::new();
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                heads.push(head.split(' ').next().unwrap());
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(Some(&name), heads.last(), "{line}");
            }
        }
        let mut unique = heads.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), heads.len());
        assert!(text.contains("zone_router_link_fragments_waiting{link=\"wan0\"} 1\n"));
        assert!(text.contains("zone_router_drops_total{reason=\"no-mapping\",link=\"wan0\"} 5\n"));
        assert!(text.contains(
            "zone_router_shaper_delay_microseconds{direction=\"upload\",quantile=\"0.5\"} 900\n"
        ));
    }
}
