//! Every rule that a file can break: where the report points, what it says, what it advises.
//!
//! Each test changes a good file; `# HERE` marks the line that the report must name.

mod support;

use config::{LoadError, parse};
use support::refused;

const GOOD: &str = r#"
[control]
socket = "/run/zone-router/control.sock"
[wan]
link = "wan0"
mode = "dhcp"
[wan.shaper]
upload = "20Mbit/s"
[[lan]]
name = "home"
link = "lan0"
address = "10.0.0.1/24"
[lan.dhcp]
pool = "10.0.0.100-10.0.0.199"
[[lan.dhcp.reservation]]
mac = "02:08:20:0a:0b:01"
address = "10.0.0.5"
name = "web"
[[lan]]
name = "guest"
link = "lan1"
address = "10.0.1.1/24"
[dns]
upstream = ["198.51.100.53"]
[nat]
mss_clamp = "auto"
[[forward]]
protocol = "tcp"
port = 8080
to = "web:80"
"#;

/// The good file with `new` in the place of `old`.
fn changed(old: &str, new: &str) -> String {
    assert_eq!(GOOD.matches(old).count(), 1, "`{old}` is not unique in the good file");
    GOOD.replace(old, new)
}

/// The good file with `tail` behind it.
fn extended(tail: &str) -> String {
    format!("{GOOD}{tail}")
}

fn error(file: &str) -> LoadError {
    parse("router.toml", file).expect_err("the file is wrong")
}

#[test]
fn the_good_file_is_good() {
    assert!(parse("router.toml", GOOD).is_ok());
}

mod keys_and_kinds {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        let file = changed("link = \"wan0\"", "link = \"wan0\"\nhostnam = \"x\" # HERE");
        refused(&file, "`hostnam` is not a key of `[wan]`", "did you mean `hostname`?");
    }

    #[test]
    fn an_unknown_key_far_from_all_gets_the_list() {
        let file = changed("[nat]", "[nat]\ncolour = 1 # HERE");
        refused(&file, "`colour`", "the keys here are `mss_clamp`");
    }

    #[test]
    fn an_unknown_table_is_refused_with_the_nearest_one() {
        refused(&extended("[polcy] # HERE\n"), "`polcy` is not a key of the file", "`policy`");
    }

    #[test]
    fn a_missing_key_points_to_its_table_with_an_example() {
        let file = changed("[[lan]]\nname = \"guest\"", "[[lan]] # HERE");
        refused(&file, "`[[lan]]` lacks `name`", "add `name = \"home\"`");
    }

    #[test]
    fn a_missing_wan_is_refused() {
        let file = "[[lan]]\nname = \"a\"\nlink = \"lan0\"\naddress = \"10.0.0.1/24\"\n";
        let error = error(file);
        assert_eq!(error.problems()[0].line(), Some(1));
        assert!(error.lines()[0].contains("add `[wan]` with `link = \"wan0\"`"), "{error:?}");
    }

    #[test]
    fn a_file_without_a_lan_is_refused() {
        let error = error("[wan]\nlink = \"wan0\"\n");
        assert!(error.lines()[0].contains("there is no LAN; add `[[lan]]`"), "{error:?}");
    }

    #[test]
    fn an_empty_list_of_lans_is_no_lan() {
        let error = error("lan = []\n[wan]\nlink = \"wan0\"\n");
        assert!(error.lines()[0].contains("there is no LAN"), "{:?}", error.lines());
    }

    #[test]
    fn seventeen_lans_are_one_too_many() {
        let lans: Vec<String> = (0..17)
            .map(|i| {
                let here = if i == 16 { "# HERE" } else { "" };
                let (name, address) = (format!("lan{i}"), format!("10.{i}.0.1/24"));
                format!(
                    "[[lan]] {here}\nname = \"{name}\"\nlink = \"{name}\"\n\
                     address = \"{address}\"\n"
                )
            })
            .collect();
        let file = format!("[wan]\nlink = \"wan0\"\n{}", lans.concat());
        refused(&file, "more than 16 of `lan`", "the limit is 16");
    }

    #[test]
    fn a_wrong_kind_of_value_is_refused_with_the_right_one() {
        let file = changed("link = \"lan1\"", "link = 1 # HERE");
        refused(&file, "`link` must be a text, and this is a whole number", "link = \"lan0\"");
        let file = changed("mode = \"dhcp\"", "mode = \"dhcp\"\nping = \"yes\" # HERE");
        refused(&file, "`ping` must be `true` or `false`, and this is a text", "ping = true");
    }

    #[test]
    fn a_single_table_where_a_list_belongs_is_refused() {
        refused(
            "[wan]\nlink = \"wan0\"\n[lan] # HERE\nname = \"home\"\n",
            "`lan` must be a list of tables, and this is a table",
            "[[lan]]",
        );
    }

    #[test]
    fn a_text_alone_is_no_list() {
        let file = changed("upstream = [\"198.51.100.53\"]", "upstream = \"198.51.100.53\" # HERE");
        refused(&file, "`upstream` must be a list of texts", "upstream = [");
    }

    #[test]
    fn a_word_that_does_not_exist_gets_the_nearest() {
        let file =
            changed("link = \"lan1\"", "link = \"lan1\"\nfiltering = \"port-dependent\" # HERE");
        refused(&file, "`port-dependent` is not a value of `filtering`", "`address-dependent`");
    }

    #[test]
    fn what_is_no_toml_is_refused_at_its_line() {
        refused(&changed("port = 8080", "port = 80 80 # HERE"), "not TOML", "key = value");
        refused(&changed("to = \"web:80\"", "to = web # HERE"), "must be quoted", "double quotes");
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        let file = changed("mode = \"dhcp\"", "mode = \"dhcp\"\nmode = \"static\" # HERE");
        refused(&file, "there twice", "keep one");
    }
}

mod wan {
    use super::*;

    #[test]
    fn a_rate_without_unit_is_refused_quoted_or_not() {
        for rate in ["\"20\"", "20", "20.0"] {
            let file = changed("\"20Mbit/s\"", &format!("{rate} # HERE"));
            refused(&file, "a rate needs a unit", "Mbit/s`");
        }
    }

    #[test]
    fn a_rate_in_bytes_or_outside_the_limits_is_refused() {
        refused(&changed("\"20Mbit/s\"", "\"20MB/s\" # HERE"), "`MB/s`", "bits, not bytes");
        refused(&changed("\"20Mbit/s\"", "\"63kbit/s\" # HERE"), "64kbit/s and 10Gbit/s", "range");
        refused(&changed("\"20Mbit/s\"", "\"11Gbit/s\" # HERE"), "64kbit/s and 10Gbit/s", "range");
    }

    #[test]
    fn a_shaper_without_a_rate_is_refused() {
        let file = changed("[wan.shaper]\nupload = \"20Mbit/s\"", "[wan.shaper] # HERE");
        refused(&file, "shapes nothing", "add `upload = \"20Mbit/s\"`");
    }

    #[test]
    fn an_unknown_overhead_gets_the_presets() {
        let file =
            changed("upload = \"20Mbit/s\"", "upload = \"1Mbit/s\"\noverhead = \"cable\" # HERE");
        refused(&file, "`cable`", "`docsis`");
    }

    #[test]
    fn an_overhead_of_numbers_has_limits() {
        let with = |inner: &str| {
            changed(
                "upload = \"20Mbit/s\"",
                &format!("upload = \"1Mbit/s\"\noverhead = {inner} # HERE"),
            )
        };
        assert!(parse("router.toml", &with("{ bytes = -4, mpu = 64 }")).is_ok());
        refused(&with("{ bytes = 9999 }"), "`bytes` lies between -64 and 256", "range");
        refused(&with("{ mpu = 64 }"), "lacks `bytes`", "bytes = 22");
    }

    #[test]
    fn a_static_wan_needs_address_and_gateway() {
        let error = error(&changed("mode = \"dhcp\"", "mode = \"static\""));
        let lines = error.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("lacks `address`; add `address = \"198.51.100.2/24\"`"));
        assert!(lines[1].contains("lacks `gateway`"));
    }

    fn fixed(address: &str, gateway: &str) -> String {
        let lines = format!("mode = \"static\"\naddress = {address}\ngateway = {gateway}");
        changed("mode = \"dhcp\"", &lines)
    }

    #[test]
    fn a_gateway_outside_the_subnet_is_refused() {
        let file = fixed("\"198.51.100.2/24\"", "\"203.0.113.1\" # HERE");
        refused(&file, "outside the WAN subnet", "`198.51.100.2/32`");
    }

    #[test]
    fn a_gateway_off_link_goes_with_a_prefix_of_32_bits() {
        assert!(parse("x", &fixed("\"198.51.100.2/32\"", "\"203.0.113.1\"")).is_ok());
    }

    #[test]
    fn a_gateway_that_is_no_other_host_is_refused() {
        let file = |gateway| fixed("\"198.51.100.2/24\"", gateway);
        refused(&file("\"198.51.100.2\" # HERE"), "is the router itself", "provider's router");
        refused(&file("\"198.51.100.255\" # HERE"), "broadcast", "one host");
        refused(&file("\"224.0.0.1\" # HERE"), "multicast", "one host");
    }

    #[test]
    fn the_network_address_is_not_the_routers_own() {
        let file = fixed("\"198.51.100.0/24\" # HERE", "\"198.51.100.1\"");
        refused(&file, "the network address of 198.51.100.0/24", "`198.51.100.1/24`");
    }

    #[test]
    fn keys_of_the_other_mode_are_refused() {
        let file = changed("mode = \"dhcp\"", "mode = \"dhcp\"\ngateway = \"198.51.100.1\" # HERE");
        refused(&file, "`gateway` has no effect with mode = \"dhcp\"", "set mode = \"static\"");
    }

    #[test]
    fn a_reject_prefix_has_no_host_bits() {
        let file =
            changed("mode = \"dhcp\"", "mode = \"dhcp\"\nreject = [\"192.168.100.1/24\"] # HERE");
        refused(&file, "behind its prefix length", "`192.168.100.0/24`");
    }

    #[test]
    fn an_mtu_and_a_mac_have_limits() {
        let with =
            |line: &str| changed("mode = \"dhcp\"", &format!("mode = \"dhcp\"\n{line} # HERE"));
        refused(&with("mtu = 500"), "`mtu` lies between 576 and 9000", "range");
        refused(&with("mac = \"01:00:5e:00:00:01\""), "belongs to a group", "first octet is even");
        refused(&with("mac = \"02:08\""), "not a MAC address", "02:08:20:0a:0b:01");
    }

    #[test]
    fn a_link_has_a_name_that_an_interface_can_have() {
        refused(&changed("\"wan0\"", "\"wan/0\" # HERE"), "`wan/0`", "1 to 15");
        refused(&changed("\"wan0\"", "\"a_very_long_link0\" # HERE"), "`a_very", "1 to 15");
    }
}

mod lan {
    use super::*;

    #[test]
    fn overlapping_lans_are_refused_with_a_free_subnet() {
        let file = changed("\"10.0.1.1/24\"", "\"10.0.0.129/25\" # HERE");
        refused(&file, "10.0.0.128/25 of `guest` overlaps `home`", "`10.0.1.1/24`");
    }

    #[test]
    fn a_lan_inside_the_static_wan_subnet_is_refused() {
        let file = changed(
            "mode = \"dhcp\"",
            "mode = \"static\"\naddress = \"10.0.1.2/24\"\ngateway = \"10.0.1.1\"",
        );
        let file = file.replace("\"10.0.1.1/24\"", "\"10.0.1.1/24\" # HERE");
        refused(&file, "`guest` overlaps the WAN subnet", "`10.0.2.1/24`");
    }

    #[test]
    fn one_link_has_one_use() {
        refused(&changed("\"lan1\"", "\"lan0\" # HERE"), "`lan0` is used twice", "of its own");
        refused(&changed("\"lan1\"", "\"wan0\" # HERE"), "`wan0` is used twice", "of its own");
    }

    #[test]
    fn lan_names_are_unique_and_not_taken() {
        refused(&changed("\"guest\"", "\"home\" # HERE"), "`home` is there twice", "another name");
        refused(&changed("\"guest\"", "\"wan\" # HERE"), "not a name for a LAN", "are taken");
    }

    #[test]
    fn a_lan_address_is_a_host_address_with_a_usable_prefix() {
        let with = |address: &str| changed("\"10.0.1.1/24\"", &format!("\"{address}\" # HERE"));
        refused(&with("10.0.1.1"), "with a prefix length", "`10.0.1.1/24`");
        refused(&with("10.0.1.255/24"), "the broadcast address", "`10.0.1.1/24`");
        refused(&with("10.0.1.1/31"), "between 8 and 30", "two hosts");
        refused(&with("127.0.0.1/8"), "loopback", "one host");
    }

    #[test]
    fn reach_names_another_lan() {
        let with =
            |name: &str| changed("\"lan1\"", &format!("\"lan1\"\nreach = [\"{name}\"] # HERE"));
        assert!(parse("x", &with("home")).is_ok());
        refused(&with("hoem"), "no LAN named `hoem`", "did you mean `home`?");
        refused(&with("guest"), "reaches itself", "take `guest` out");
    }

    fn pool(range: &str) -> String {
        changed("\"10.0.0.100-10.0.0.199\"", &format!("\"{range}\" # HERE"))
    }

    #[test]
    fn a_pool_outside_its_subnet_is_refused() {
        refused(&pool("10.0.1.100-10.0.1.199"), "not inside", "between 10.0.0.1 and 10.0.0.254");
        refused(&pool("10.0.0.100-10.0.0.255"), "not inside", "between 10.0.0.1 and 10.0.0.254");
    }

    #[test]
    fn a_pool_with_the_routers_own_address_is_refused() {
        refused(&pool("10.0.0.1-10.0.0.99"), "contains 10.0.0.1", "behind 10.0.0.1");
    }

    #[test]
    fn a_pool_is_a_range_that_runs_upwards() {
        refused(&pool("10.0.0.100"), "not a range", "`10.0.0.100-10.0.0.199`");
        refused(&pool("10.0.0.9-10.0.0.2"), "backwards", "`10.0.0.2-10.0.0.9`");
    }

    #[test]
    fn a_pool_is_at_most_a_16_bit_subnet() {
        let file = GOOD
            .replace("\"10.0.0.1/24\"", "\"172.16.0.1/12\"")
            .replace("\"10.0.0.100-10.0.0.199\"", "\"172.16.1.0-172.17.1.0\" # HERE")
            .replace("\"10.0.0.5\"", "\"172.16.0.5\"");
        refused(&file, "holds 65537 addresses", "at most 65536");
    }

    #[test]
    fn a_lease_has_a_unit_and_limits() {
        let with =
            |lease: &str| changed("[lan.dhcp]", &format!("[lan.dhcp]\nlease = \"{lease}\" # HERE"));
        refused(&with("12"), "`12` is not a duration", "`12h`");
        refused(&with("59s"), "between 1m and", "in that range");
    }

    fn reservation(lines: &str) -> String {
        changed("name = \"web\"", &format!("name = \"web\"\n[[lan.dhcp.reservation]]\n{lines}"))
    }

    #[test]
    fn a_reservation_lies_inside_its_subnet_and_is_no_router() {
        let with = |address: &str| {
            reservation(&format!(
                "mac = \"02:08:20:0a:0b:02\"\naddress = \"{address}\" # HERE\nname = \"mail\""
            ))
        };
        assert!(parse("x", &with("10.0.0.6")).is_ok());
        assert!(parse("x", &with("10.0.0.150")).is_ok(), "inside the pool is fine");
        refused(&with("10.0.1.6"), "outside the subnet 10.0.0.0/24", "10.0.0.1 and 10.0.0.254");
        refused(&with("10.0.0.1"), "the router's own address", "another address");
        refused(&with("10.0.0.255"), "broadcast", "one host");
        refused(&with("10.0.0.5"), "10.0.0.5 is reserved already", "of its own");
    }

    #[test]
    fn a_mac_and_a_name_are_reserved_once() {
        let file =
            reservation("mac = \"2:8:20:a:b:1\" # HERE\naddress = \"10.0.0.6\"\nname = \"mail\"");
        refused(&file, "02:08:20:0a:0b:01 has a reservation", "one reservation per MAC");
        let file = reservation(
            "mac = \"02:08:20:0a:0b:02\"\naddress = \"10.0.0.6\"\nname = \"WEB\" # HERE",
        );
        refused(&file, "`web` is taken already", "a name of its own");
    }

    #[test]
    fn a_name_is_one_label() {
        let file = reservation(
            "mac = \"02:08:20:0a:0b:02\"\naddress = \"10.0.0.6\"\nname = \"my mail\" # HERE",
        );
        refused(&file, "`my mail` is not a host name", "one label");
    }
}

mod dns_and_nat {
    use super::*;

    #[test]
    fn the_router_is_not_its_own_upstream() {
        let file = changed("[\"198.51.100.53\"]", "[\"10.0.1.1\"] # HERE");
        refused(&file, "ask itself forever", "give a server outside");
    }

    #[test]
    fn an_upstream_is_an_address() {
        let file = changed("[\"198.51.100.53\"]", "[\"dns.example\"] # HERE");
        refused(&file, "`dns.example` is not an IPv4 server", "`ADDRESS:PORT`");
    }

    #[test]
    fn a_domain_has_legal_labels() {
        let file = changed("[dns]", "[dns]\ndomain = \"home..arpa\" # HERE");
        refused(&file, "not a domain name", "`home.arpa`");
    }

    #[test]
    fn a_dns_host_shares_no_name_with_a_reservation() {
        let file = extended("[[dns.host]]\nname = \"web\" # HERE\naddress = \"10.0.0.9\"\n");
        refused(&file, "`web` is taken already", "a name of its own");
    }

    #[test]
    fn an_allow_list_without_a_filter_is_refused() {
        let lines = "[dns]\nrebinding = \"pass\"\nrebinding_allow = [] # HERE";
        refused(&changed("[dns]", lines), "no effect", "rebinding = \"filter\"");
    }

    fn timeout(line: &str) -> String {
        changed("mss_clamp = \"auto\"", &format!("[nat.timeouts]\n{line} # HERE"))
    }

    #[test]
    fn timeouts_below_the_floors_of_the_rfcs_are_refused() {
        let remedy = "`allow_short_timeouts = true`";
        refused(&timeout("udp = \"119s\""), "below 2m, the floor of RFC 4787 REQ-5", remedy);
        refused(&timeout("tcp_established = \"2h\""), "below 2h 4m", remedy);
        refused(&timeout("tcp_transitory = \"239s\""), "below 4m", remedy);
        refused(&timeout("icmp = \"30s\""), "below 1m, the floor of RFC 5508 REQ-2", remedy);
        refused(&timeout("other = \"1m\""), "below 2m, the floor of RFC 4787 REQ-5", remedy);
        refused(&timeout("port_rest = \"1m\""), "below 2m, the floor of RFC 6888 REQ-8", remedy);
    }

    #[test]
    fn timeouts_at_the_floors_are_accepted() {
        let floors = "udp = \"2m\"\ntcp_established = \"2h 4m\"\ntcp_transitory = \"4m\"\nicmp = \"1m\"\nother = \"2m\"";
        assert!(parse("x", &timeout(floors)).is_ok());
    }

    #[test]
    fn short_timeouts_pass_when_allowed() {
        let lines = "allow_short_timeouts = true\n[nat.timeouts]\nudp = \"30s\"";
        let config = parse("x", &changed("mss_clamp = \"auto\"", lines)).expect("allowed");
        assert_eq!(config.nat.timeouts.udp.as_secs(), 30);
    }

    #[test]
    fn no_timeout_is_zero_or_endless() {
        refused(&timeout("udp = \"0s\""), "`udp` lies between 1s and 7days", "in that range");
        refused(&timeout("udp = \"8days\""), "`udp` lies between 1s and 7days", "in that range");
    }

    #[test]
    fn an_mss_has_limits() {
        for value in ["535", "8961", "\"1400\"", "-1", "99999999999999999999"] {
            let file = changed("mss_clamp = \"auto\"", &format!("mss_clamp = {value} # HERE"));
            refused(&file, "an MSS lies between 536 and 8960", "`\"auto\"`");
        }
        refused(&changed("\"auto\"", "\"of\" # HERE"), "`of`", "did you mean `off`?");
    }

    #[test]
    fn req5508_9_refusals_are_answered_or_silent() {
        let with = |word: &str| changed("[nat]", &format!("[nat]\nicmp_refusals = {word} # HERE"));
        refused(&with("\"silence\""), "`silence`", "did you mean `silent`?");
        let refusals = |word| parse("x", &with(word)).expect("allowed").nat.icmp_refusals;
        assert_eq!(refusals("\"answer\""), config::IcmpRefusals::Answer);
        assert_eq!(refusals("\"silent\""), config::IcmpRefusals::Silent);
    }

    #[test]
    fn counts_have_limits() {
        let with = |line: &str| changed("[nat]", &format!("[nat]\n{line} # HERE"));
        refused(&with("sessions_max = 0"), "`sessions_max` lies between 1024", "128 bytes");
        refused(&with("mappings_per_host_max = -1"), "between 64 and 196608", "65535 ports");
        refused(&with("ports_at_rest_max = 400000"), "between 0 and 393216", "65535 ports");
        refused(&with("sessions_per_host_max = 63"), "between 64 and", "half of all");
        for key in ["new_flows_per_host_per_second", "new_flows_burst"] {
            refused(&with(&format!("{key} = 9")), "between 10 and 10000000", "a few hundred");
        }
    }

    #[test]
    fn what_becomes_of_an_unsolicited_syn_is_one_of_two_words() {
        let with = |line: &str| changed("[nat]", &format!("[nat]\n{line} # HERE"));
        refused(&with("unsolicited_syn = \"silnt\""), "`silnt`", "did you mean `silent`?");
        let config = parse("x", &with("unsolicited_syn = \"answer\"")).unwrap();
        assert_eq!(config.nat.unsolicited_syn, config::UnsolicitedSyn::Answer);
    }

    #[test]
    fn req4787_5a_a_dns_timeout_has_a_floor_of_its_own() {
        refused(&timeout("udp_dns = \"9s\""), "below 10s, the floor of RFC 5452 §10", "allow");
        let config = parse("x", &timeout("udp_dns = \"10s\"")).unwrap();
        assert_eq!(config.nat.timeouts.udp_dns.as_secs(), 10);
    }

    #[test]
    fn req6888_8_how_long_and_how_many_ports_rest_is_configurable() {
        let lines = "[nat]\nports_at_rest_max = 0\n[nat.timeouts]\nport_rest = \"5m\"\n[dns]";
        let file = changed("[nat]\n", "").replacen("[dns]", lines, 1);
        let config = parse("x", &file.replace("mss_clamp = \"auto\"", "")).expect("accepted");
        let nat = config.nat;
        assert_eq!((nat.ports_at_rest_max, nat.timeouts.port_rest.as_secs()), (0, 300));
    }
}

mod forwards_and_policy {
    use super::*;

    #[test]
    fn a_forward_to_nowhere_is_refused() {
        let to = |to: &str| changed("to = \"web:80\"", &format!("to = \"{to}\" # HERE"));
        refused(&to("192.168.7.7"), "192.168.7.7 is in no LAN", "10.0.0.0/24 or 10.0.1.0/24");
        refused(&to("minecraft"), "no reservation is named `minecraft`", "reserve `minecraft`");
        refused(&to("wbe:80"), "no reservation is named `wbe`", "did you mean `web`?");
        refused(&to("10.0.0.1:80"), "the router itself", "a host on a LAN");
        refused(&to("10.0.1.255:80"), "the broadcast address", "a host on a LAN");
    }

    #[test]
    fn a_forward_may_lead_to_a_dns_host_on_a_lan() {
        let host = |address: &str| {
            let tail = format!("[[dns.host]]\nname = \"printer\"\naddress = \"{address}\"\n");
            format!("{}{tail}", changed("\"web:80\"", "\"printer:80\" # HERE"))
        };
        assert!(parse("x", &host("10.0.0.9")).is_ok());
        refused(&host("203.0.113.9"), "203.0.113.9 is in no LAN", "10.0.0.0/24");
    }

    #[test]
    fn two_forwards_of_one_port_are_refused() {
        let second = |protocol: &str, port: &str| {
            extended(&format!(
                "[[forward]]\nprotocol = \"{protocol}\"\nport = {port} # HERE\nto = \"10.0.0.6\"\n"
            ))
        };
        assert!(parse("x", &second("udp", "8080")).is_ok());
        refused(&second("tcp", "8080"), "has tcp port 8080 already", "choose other ports");
        refused(&second("both", "\"8000-9000\""), "has tcp port 8080 already", "other ports");
    }

    #[test]
    fn the_port_of_the_dhcp_client_is_not_forwarded() {
        let file = changed(
            "protocol = \"tcp\"\nport = 8080",
            "protocol = \"udp\"\nport = \"60-70\" # HERE",
        );
        refused(&file, "UDP port 68 belongs to the router's DHCP client", "leave UDP port 68 out");
    }

    #[test]
    fn the_words_of_a_forward_are_refused_where_they_stand() {
        refused(&changed("\"tcp\"", "\"sctp\" # HERE"), "`sctp` is no protocol", "use `tcp`");
        refused(&changed("8080", "0 # HERE"), "`0` is no port", "`27000-27015`");
        refused(&changed("8080", "\"90-80\" # HERE"), "runs backwards", "`80-90`");
        refused(&changed("8080", "70000 # HERE"), "`70000` is no port", "1 to 65535");
        refused(&changed("\"web:80\"", "\"web:x\" # HERE"), "`x` is no port", "leave `:PORT` out");
    }
}

mod control_and_zone {
    use super::*;

    #[test]
    fn paths_are_absolute_and_fit() {
        let with = |path: &str| {
            changed("\"/run/zone-router/control.sock\"", &format!("\"{path}\" # HERE"))
        };
        refused(&with("control.sock"), "not a usable path", "absolute path of at most 107 bytes");
        refused(&with(&format!("/{}", "a".repeat(107))), "not a usable path", "at most 107");
    }

    fn zone(lines: &str) -> String {
        extended(&format!("[zone]\nname = \"router\"\n{lines}\n"))
    }

    #[test]
    fn illumos_wants_links_that_end_in_a_number() {
        let file = format!(
            "{}[zone]\nname = \"router\"\nplatform = \"smartos\"\n",
            changed("\"lan1\"", "\"lan\" # HERE")
        );
        refused(&file, "`lan` is not a name that a link can have on smartos", "`wan0`");
        let linux = file
            .replace("\"smartos\"", "\"linux\"\n[[zone.link]]\nname = \"wan0\"\nover = \"eth1\"");
        assert!(parse("x", &linux).is_ok());
    }

    #[test]
    fn the_wan_is_attached_by_hand_where_there_is_no_usual_name() {
        let file = extended("[zone] # HERE\nname = \"router\"\nplatform = \"illumos\"\n");
        refused(&file, "`wan0` has nothing to be attached to", "over = \"igb0\"");
    }

    #[test]
    fn an_attached_link_is_one_that_the_router_uses_once() {
        let with = |name: &str| {
            zone(&format!("platform = \"smartos\"\n[[zone.link]]\nname = \"{name}\" # HERE"))
        };
        assert!(parse("x", &with("lan0")).is_ok());
        refused(&with("lan2"), "uses the link `lan2`", "`lan0`");
        let twice = zone(
            "platform = \"smartos\"\n[[zone.link]]\nname = \"lan0\"\n\
             [[zone.link]]\nname = \"lan0\" # HERE",
        );
        refused(&twice, "`lan0` is there twice", "`[[zone.link]]`");
    }

    #[test]
    fn two_links_on_one_network_are_refused() {
        let with = |vlan: &str| {
            zone(&format!(
                "platform = \"linux\"\n[[zone.link]]\nname = \"wan0\"\nover = \"eth1\"\n\
                 [[zone.link]]\nname = \"lan0\" # HERE\nover = \"eth1\"\n{vlan}"
            ))
        };
        refused(&with(""), "`lan0` is on the same network as `wan0`", "`vlan`");
        assert!(parse("x", &with("vlan = 20")).is_ok(), "a router on a stick");
    }

    #[test]
    fn the_zone_says_nothing_that_its_platform_cannot_do() {
        let linux = "platform = \"linux\"\n[[zone.link]]\nname = \"wan0\"\nover = \"eth1\"";
        let with = |line: &str| zone(&format!("{line} # HERE\n{linux}"));
        refused(&with("brand = \"sparse\""), "`sparse` does not exist on linux", "take `brand`");
        let image = "image_uuid = \"00000000-0000-4000-8000-000000000000\"";
        refused(&with(image), "`image_uuid` has no effect on linux", "take `image_uuid` out");
        refused(&with("swap_mib = 256"), "at least `memory_mib`", "swap_mib = 512");
        refused(&with("locked_mib = 513"), "at most `memory_mib`", "locked_mib = 512");
    }

    #[test]
    fn the_wan_vnic_agrees_with_the_wan() {
        let file = changed("mode = \"dhcp\"", "mtu = 1500\nmac = \"02:08:20:00:00:01\"");
        let with = |line: &str| {
            format!(
                "{file}[zone]\nname = \"router\"\nplatform = \"smartos\"\n[[zone.link]]\n\
                 name = \"wan0\"\n{line} # HERE\n"
            )
        };
        refused(&with("mac = \"02:08:20:00:00:02\""), "differs from 02:08", "once, in `[wan]`");
        refused(&with("mtu = 1400"), "1400 of the vNIC is below 1500", "raise it to 1500");
        let config = parse("x", &with("mtu = 9000")).expect("agrees");
        let link = &config.zone.as_ref().expect("there").links[0];
        assert_eq!((link.mac, link.mtu), (config.wan.mac, 9000));
    }
}
