//! The file whose shape is promised to users.

use std::net::Ipv4Addr;
use std::time::Duration;

use config::{
    Brand, Fault, Filtering, Forward, ForwardHost, MssClamp, Overhead, Ping, Platform, Rate,
    ReportStyle, WanMode, parse,
};

const EXAMPLE: &str = r#"
[control]
socket = "/run/zone-router/control.sock"
state  = "/var/lib/zone-router"        # leases, runtime forwards, port epoch, config history

[wan]
link = "wan0"
mode = "dhcp"                           # or "static" with address = "198.51.100.2/24", gateway = "198.51.100.1"
ping = true
[wan.shaper]
download = "100Mbit/s"
upload   = "20Mbit/s"
overhead = "docsis"

[[lan]]
name = "home"
link = "lan0"
address = "10.0.0.1/24"
filtering = "address-and-port-dependent"   # or "endpoint-independent", "address-dependent"
[lan.dhcp]
pool  = "10.0.0.100-10.0.0.199"
lease = "12h"
[[lan.dhcp.reservation]]
mac = "02:08:20:0a:0b:01"
address = "10.0.0.5"
name = "web"

[dns]
upstream = ["198.51.100.53"]            # default: what the WAN lease says
domain = "home.arpa"

[nat]
mss_clamp = "auto"
[nat.timeouts]                          # floors from requirements.md §1; shorter is refused unless allow_short_timeouts = true
udp = "5m"

[[forward]]
protocol = "tcp"
port = 8080
to = "web:80"                           # a lease name follows the host; an address also works

[zone]                                  # read by `routerctl zone`
name = "router"
platform = "smartos"
"#;

fn example() -> config::Config {
    parse("example.toml", EXAMPLE).unwrap_or_else(|e| panic!("{}", e.report(ReportStyle::Plain)))
}

#[test]
fn the_promised_example_means_what_it_says() {
    let config = example();
    assert_eq!(config.wan.link, "wan0");
    assert!(matches!(config.wan.mode, WanMode::Dhcp(_)));
    assert_eq!(config.wan.ping, Ping::Answer);
    let shaper = config.wan.shaper.unwrap();
    assert_eq!(shaper.download.map(Rate::bits_per_sec), Some(100_000_000));
    assert_eq!(shaper.upload.map(Rate::bits_per_sec), Some(20_000_000));
    assert_eq!(shaper.overhead, Overhead::Docsis);
    assert_eq!(config.lans[0].filtering, Filtering::AddressAndPortDependent);
    let dhcp = config.lans[0].dhcp.as_ref().unwrap();
    assert_eq!(dhcp.pool.to_string(), "10.0.0.100-10.0.0.199");
    assert_eq!(dhcp.lease, Duration::from_secs(12 * 3600));
    assert_eq!(dhcp.reservations[0].name, "web");
    assert_eq!(config.dns.upstream[0].to_string(), "198.51.100.53:53");
    assert_eq!(config.nat.mss_clamp, MssClamp::Auto);
    assert_eq!(config.nat.icmp_refusals, config::IcmpRefusals::Answer);
    assert_eq!(config.nat.timeouts.udp, Duration::from_secs(300));
    assert_eq!(config.forwards[0].to_string(), "tcp 8080 to web:80");
}

#[test]
fn a_forward_finds_its_host_by_name() {
    let config = example();
    let host = &config.forwards[0].to.host;
    assert_eq!(config.host_address(host), Some(Ipv4Addr::new(10, 0, 0, 5)));
    assert_eq!(config.host_address(&ForwardHost::Name("nobody".to_owned())), None);
}

#[test]
fn a_zone_is_attached_by_default() {
    let zone = example().zone.unwrap();
    assert_eq!((zone.platform, zone.brand), (Platform::Smartos, Some(Brand::JoyentMinimal)));
    let over: Vec<(&str, &str)> =
        zone.links.iter().map(|link| (link.name.as_str(), link.over.as_str())).collect();
    assert_eq!(over, [("wan0", "external"), ("lan0", "zrstub0")]);
    assert_eq!(zone.etherstubs, ["zrstub0"]);
    assert!(zone.is_etherstub("zrstub0") && !zone.is_etherstub("external"));
}

#[test]
fn dc28_a_wan_lease_inside_a_lan_is_noticed() {
    let config = example();
    let overlap = |net: &str| config.overlap_with_lan(net.parse().unwrap()).map(|l| &*l.name);
    assert_eq!(overlap("10.0.0.77/30"), Some("home"));
    assert_eq!(overlap("10.0.0.0/8"), Some("home"));
    assert_eq!(overlap("10.0.1.0/24"), None);
}

#[test]
fn the_same_wishes_in_another_order_are_the_same_configuration() {
    let (head, tail) = EXAMPLE.split_once("[dns]").unwrap();
    let (dns, rest) = tail.split_once("[nat]").unwrap();
    let moved = format!("[dns]{dns}{head}[nat]{rest}");
    assert_eq!(parse("moved.toml", &moved).unwrap(), example());
}

#[test]
fn a_configuration_is_shown_in_the_words_of_the_file() {
    let json = serde_json::to_value(example()).unwrap();
    for (path, value) in [
        ("/wan/mode/mode", "dhcp"),
        ("/wan/shaper/upload", "20Mbit/s"),
        ("/lans/0/address", "10.0.0.1/24"),
        ("/lans/0/filtering", "address-and-port-dependent"),
        ("/lans/0/dhcp/pool", "10.0.0.100-10.0.0.199"),
        ("/lans/0/dhcp/lease", "12h"),
        ("/lans/0/dhcp/reservations/0/mac", "02:08:20:0a:0b:01"),
        ("/nat/timeouts/tcp_established", "2h 4m"),
        ("/nat/timeouts/other", "10m"),
        ("/forwards/0/port", "8080"),
        ("/forwards/0/to/host/name", "web"),
        ("/zone/brand", "joyent-minimal"),
    ] {
        assert_eq!(json.pointer(path).and_then(|v| v.as_str()), Some(value), "{path} in {json}");
    }
}

#[test]
fn a_forward_added_while_running_obeys_the_rules_of_the_file() {
    let config = example();
    let check = |port, to| config.check_forward(&Forward::parse("both", port, to).unwrap());
    assert_eq!(check("9000", "web:80"), Ok(()));
    assert_eq!(check("9000", "10.0.0.77"), Ok(()));
    assert!(matches!(check("8000-8100", "web"), Err(Fault::ForwardConflict { .. })));
    assert!(matches!(check("68", "web"), Err(Fault::ForwardReserved { port: 68, .. })));
    assert!(matches!(check("9000", "198.51.100.9"), Err(Fault::ForwardOutside { .. })));
    assert!(matches!(check("9000", "10.0.0.1"), Err(Fault::ForwardToNoHost { .. })));
    assert!(matches!(check("9000", "phone"), Err(Fault::ForwardToUnknown { .. })));
}
