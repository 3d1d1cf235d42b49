use serde::de::DeserializeOwned;

use super::*;

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

fn assert_fits(text: &str) {
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn status_is_one_screen() {
    let text = status(&read(
        r#"{"version":"0.1.0","uptime_secs":273600,"config_generation":2,
        "wan":{"link":"wan0","mode":"dhcp","state":"bound","address":"198.51.100.20/24",
            "gateway":"198.51.100.1","dns":["198.51.100.53"],"domain":null,"server":"198.51.100.1",
            "lease_secs":3600,"renews_secs":1500,"rebinds_secs":2700,"lease_expires_secs":3300},
        "lans":[{"name":"home","link":"lan0","address":"10.0.0.1/24","hosts":3,"leases":2,"pool_free":98}],
        "links":[
            {"name":"wan0","role":"wan","state":"up","mac":"02:08:20:0a:0b:01","mtu":1500,
             "rx_packets":1,"rx_bytes":2,"tx_packets":3,"tx_bytes":4,"rx_bits_per_sec":94200000,
             "tx_bits_per_sec":1200000,"kernel_drops":0,
             "fragments_joined":0,"fragments_waiting":0},
            {"name":"lan0","role":"lan","state":"down","mac":"02:08:20:0a:0b:02","mtu":1500,
             "rx_packets":1,"rx_bytes":2,"tx_packets":3,"tx_bytes":4,"rx_bits_per_sec":0,
             "tx_bits_per_sec":999,"kernel_drops":12,
             "fragments_joined":3,"fragments_waiting":1}],
        "flows":{"active":12,"capacity":65536,"opened":4711,"closed":4699,"refused":0,"mappings":10},
        "drops_total":5,
        "shapers":[{"direction":"upload","rate_bits_per_sec":19000000,"backlog_bytes":0,
            "backlog_packets":0,"delay_us_p50":900,"delay_us_p95":4800,"packets":1,"bytes":1,"drops":3,
            "marks":4,"flows":0}],
        "dns":{"queries":1000,"hits":700,"local":20,"stale":0,"failures":1,"refused":0,
            "cache_entries":50,"cache_entries_max":1000,"in_flight":0,"upstreams":[]}}"#,
    ));
    let expected = "\
routerd 0.1.0, up 3d04h, configuration 2

wan      wan0 (dhcp), bound
address  198.51.100.20/24 via 198.51.100.1
lease    from 198.51.100.1, 55m00s left, renews in 25m00s
servers  198.51.100.53

LINK  ROLE  STATE  MAC                 MTU          IN         OUT  LOST
wan0  wan   up     02:08:20:0a:0b:01  1500  94.2Mbit/s  1.20Mbit/s     0
lan0  lan   down   02:08:20:0a:0b:02  1500      0bit/s    999bit/s    12

LAN   LINK  ADDRESS      HOSTS  LEASES  FREE
home  lan0  10.0.0.1/24      3       2    98

flows    12 of 65.5k (4.71k opened, 0 refused), 10 mappings
drops    5 (routerctl drops says why)
upload   19.0Mbit/s, delay 0.9 ms (95 %: 4.8 ms), 3 drops, 4 marks
dns      1.00k queries: 700 from the cache, 20 local, 0 stale, 1 failed
";
    assert_eq!(text, expected);
    assert_fits(&text);
}

#[test]
fn a_wan_without_a_lease_says_only_how_far_it_is() {
    let text = wan(&read(
        r#"{"link":"wan0","mode":"dhcp","state":"selecting","address":null,"gateway":null,"dns":[],
        "domain":null,"server":null,"lease_secs":null,"renews_secs":null,"rebinds_secs":null,
        "lease_expires_secs":null}"#,
    ));
    assert_eq!(text, "wan      wan0 (dhcp), selecting\n");
}

#[test]
fn a_wan_names_the_addresses_that_hosts_share_and_those_of_one_host() {
    let text = wan(&read(
        r#"{"link":"wan0","mode":"static","state":"static","address":"198.51.100.2/24",
        "gateway":"198.51.100.1","dns":[],"shared":["198.51.100.3","198.51.100.8","198.51.100.9",
        "198.51.100.10","198.51.100.11","203.0.113.7"],"one_to_one":[{"external":"198.51.100.5",
        "internal":"10.0.0.9","inbound":false}],"domain":null,"server":null,"lease_secs":null,
        "renews_secs":null,"rebinds_secs":null,"lease_expires_secs":null}"#,
    ));
    let expected = "\
wan      wan0 (static), static
address  198.51.100.2/24 via 198.51.100.1
shared   198.51.100.3, 198.51.100.8, 198.51.100.9, 198.51.100.10 and 2 more
1:1      198.51.100.5 is 10.0.0.9, closed from outside
";
    assert_eq!(text, expected);
    assert_fits(&text);
}

#[test]
fn a_dmz_host_is_flagged() {
    let text = r#"{"version":"0.1.0","uptime_secs":1,"config_generation":2,
        "wan":{"link":"wan0","mode":"dhcp","state":"init","address":null,"gateway":null,"dns":[],
            "domain":null,"server":null,"lease_secs":null,"renews_secs":null,"rebinds_secs":null,
            "lease_expires_secs":null},
        "lans":[],"links":[],
        "flows":{"active":0,"capacity":1,"opened":0,"closed":0,"refused":0,"mappings":0},
        "drops_total":0,"shapers":[],
        "dns":{"queries":0,"hits":0,"local":0,"stale":0,"failures":0,"refused":0,"cache_entries":0,
            "cache_entries_max":0,"in_flight":0,"upstreams":[]},
        "dmz_host":{"host":"web","address":"10.0.0.5","ping":true}}"#;
    let line = "dmz      web (10.0.0.5) gets what nothing else takes, pings too\n";
    assert!(status(&read(text)).contains(line));
}

#[test]
fn forwards_say_whom_they_are_for() {
    let text = forwards(&read::<Vec<Forward>>(
        r#"[{"id":"tcp/80","protocol":"tcp","port":"80","to":"web","source":"runtime","enabled":true,
            "resolved":"10.0.0.5:80","from":["@office"],"hairpin":false}]"#,
    ));
    assert!(text.contains("open to 10.0.0.5:80, for @office, not from ins"), "{text}");
    assert_fits(&text);
}

#[test]
fn forwards_say_where_they_lead_and_what_they_wait_for() {
    let text = forwards(&read::<Vec<Forward>>(
        r#"[{"id":"tcp/8080","protocol":"tcp","port":"8080","to":"web:80","source":"config",
            "enabled":true,"resolved":"10.0.0.5:80"},
           {"id":"udp/27000-27015","protocol":"udp","port":"27000-27015","to":"minecraft",
            "source":"runtime","enabled":false,"resolved":null}]"#,
    ));
    let expected = "\
PROTOCOL  PORT         TO         SOURCE   STATE
tcp       8080         web:80     config   open to 10.0.0.5:80
udp       27000-27015  minecraft  runtime  waits for the host
";
    assert_eq!(text, expected);
    assert_eq!(forwards(&[]), "no forwards\n");
}

#[test]
fn leases_are_a_table() {
    let text = leases(&read::<Vec<Lease>>(
        r#"[{"lan":"home","address":"10.0.0.5","mac":"02:08:20:0a:0b:01","name":"web",
            "state":"bound","source":"config","expires_secs":43200},
           {"lan":"home","address":"10.0.0.9","mac":"02:08:20:0a:0b:09","name":null,
            "state":"reserved","source":"runtime","expires_secs":null}]"#,
    ));
    let expected = "\
ADDRESS   MAC                NAME  LAN   STATE     SOURCE     LEFT
10.0.0.5  02:08:20:0a:0b:01  web   home  bound     config   12h00m
10.0.0.9  02:08:20:0a:0b:09  -     home  reserved  runtime       -
";
    assert_eq!(text, expected);
}

#[test]
fn flows_of_the_longest_endpoints_fit_the_screen() {
    let text = flows(&read::<Vec<Flow>>(
        r#"[{"protocol":"tcp","internal":"192.168.100.200:65535","external":"198.51.100.200:65535",
            "remote":"203.113.100.200:65535","state":"established","direction":"outbound",
            "packets_out":1,"packets_in":1,"bytes_out":123456789,"bytes_in":999999999999,
            "idle_secs":7199,"expires_secs":1},
           {"protocol":"icmp","internal":"10.0.0.5:7","external":"198.51.100.20:7",
            "remote":"203.0.113.9:7","state":"established","direction":"inbound","packets_out":1,
            "packets_in":2,"bytes_out":84,"bytes_in":168,"idle_secs":3,"expires_secs":57}]"#,
    ));
    assert_fits(&text);
    assert!(text.contains("  >  203.113"), "{text}");
    assert!(text.contains("  <  203.0.113.9:7"), "{text}");
}

#[test]
fn hosts_fit_the_screen() {
    let text = hosts(&read::<Vec<Host>>(
        r#"[{"lan":"home","address":"10.0.0.5","mac":"02:08:20:0a:0b:01",
            "name":"a-host-with-quite-a-long-name","lease_expires_secs":1,"seen_secs":2,"flows":12,
            "bytes_out":1,"bytes_in":2,"rate_out_bits_per_sec":1000,"rate_in_bits_per_sec":94200000}]"#,
    ));
    assert_fits(&text);
    assert!(text.contains("94.2Mbit/s"), "{text}");
}

#[test]
fn drops_explain_each_reason_once() {
    let text = drops(&read::<Vec<Drop>>(
        r#"[{"reason":"no-mapping","sentence":"Nothing inside asked for it.","link":"wan0","count":7,"answered":2},
           {"reason":"no-mapping","sentence":"Nothing inside asked for it.","link":null,"count":1}]"#,
    ));
    let expected = "\
DROPPED  ANSWERED  LINK  REASON
      7         2  wan0  no-mapping
      1         0  -     no-mapping

no-mapping: Nothing inside asked for it.
";
    assert_eq!(text, expected);
    assert_eq!(drops(&[]), "nothing was dropped\n");
}

#[test]
fn rules_say_what_they_match_what_they_did_and_what_is_odd() {
    let text = rules(&read::<Vec<Rule>>(
        r#"[{"number":1,"name":"mail","action":"refuse","from":"guest","to":"wan","protocol":"tcp",
            "ports":["25","587-588"],"source_ports":[],"source":["@office"],"destination":[],"dscp":[],
            "schedule":null,"active":true,"rate":null,"log":true,"shadowed_by":null,"flows":0,
            "refused":1234,"limited":0},
           {"number":2,"name":null,"action":"allow","from":"wan","to":"router","protocol":"icmp",
            "ports":[],"source_ports":[],"source":[],"destination":[],"dscp":[46],
            "schedule":"daily 08:00-17:00","active":false,"rate":"5/s","log":false,"shadowed_by":1,
            "flows":7,"refused":0,"limited":9}]"#,
    ));
    let expected = "\
RULE  ACTION  FROM   TO      ONLY                                FLOWS  REFUSED
mail  refuse  guest  wan     tcp 25,587-588 from @office logged      0    1.23k
2     allow   wan    router  icmp dscp 46 5/s daily 08:00-17:00      7        9

2: not now, only daily 08:00-17:00
2: never matches, rule 1 takes everything before it
2: 9 flows came faster than its rate
";
    assert_eq!(text, expected);
    assert_fits(&text);
    assert_eq!(rules(&[]), "no rules\n");
}

#[test]
fn dns_and_qos_fit_the_screen() {
    let text = dns(&read(
        r#"{"queries":1000,"hits":700,"local":20,"stale":0,"failures":1,"refused":2,"cache_entries":50,
        "cache_entries_max":1000,"in_flight":3,
        "upstreams":[{"address":"198.51.100.53","queries":280,"timeouts":1,"latency_us":12345}]}"#,
    ));
    let expected = "\
1.00k queries: 700 from the cache, 20 local, 0 stale, 1 failed
cache 50 of 1000, 3 in flight, 2 refused

UPSTREAM       QUERIES  TIMEOUTS  LATENCY
198.51.100.53      280         1    12 ms
";
    assert_eq!(text, expected);
    let text = qos(&read::<Vec<Shaper>>(
        r#"[{"direction":"download","rate_bits_per_sec":95000000,"backlog_bytes":123456,
        "backlog_packets":99,"delay_us_p50":900,"delay_us_p95":null,"packets":1,"bytes":123456789,
        "drops":3,"marks":4,"flows":12}]"#,
    ));
    assert_fits(&text);
    assert!(text.lines().nth(1).unwrap().starts_with("download"), "{text}");
}

#[test]
fn a_reload_says_what_changed() {
    let done = Reloaded { generation: 3, changes: vec!["lan home: lease 12h to 6h".into()] };
    assert_eq!(reloaded(&done), "lan home: lease 12h to 6h\nconfiguration 3 is in force\n");
    let same = Reloaded { generation: 2, changes: Vec::new() };
    assert_eq!(reloaded(&same), "configuration 2 is unchanged\n");
}
