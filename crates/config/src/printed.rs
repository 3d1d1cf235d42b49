//! The file that says what every default is.

use crate::defaults;
use crate::model::{Filtering, Overhead, Ping};
use crate::value::shown;

/// Writes a complete file: every key, with its default, and a word on it.
///
/// It loads as it is. Prose stands behind `# `; a key behind `#` without a space has no default,
/// and its value is an example. With all of these uncommented the file loads too.
#[must_use]
pub fn print_defaults() -> String {
    [control_and_wan(), lan(), dns(), nat(), forwards_and_policy(), zone()].concat()
}

fn control_and_wan() -> String {
    let ping = defaults::PING == Ping::Answer;
    format!(
        r##"# zone-router: every key and its default.
# `#key = value` has no default: the value is an example.

[control]
socket = "{socket}"   # Unix socket, mode 0600
state = "{state}"   # leases, runtime forwards, port epoch, config history
#metrics = "127.0.0.1:9100"   # serve /metrics on this TCP address too

[wan]
link = "wan0"                 # required
# mode = "static" takes `address` (such as "198.51.100.2/24") and `gateway` in place of hostname,
# client_id and reject.
mode = "dhcp"
#hostname = "router"          # option 12
client_id = "none"            # option 61: none, mac, duid, text:..., hex:...
reject = []                   # ignore offers from or in these prefixes, such as "192.168.100.0/24"
addresses = []                # further external addresses: "198.51.100.8-198.51.100.11"
ping = {ping}                   # answer echo requests to the WAN address
# Packets from and to addresses that the Internet does not carry (RFC 6890), but for the kinds of
# range that the WAN's own address and routes are in: dropped, or "pass".
bogons = "{bogons}"
bogons_allow = []             # prefixes that pass nevertheless, such as "192.168.100.0/24"
#mtu = {mtu}                   # default: what the lease or the link says
#mac = "02:08:20:0a:0b:00"    # for the vNIC that `routerctl zone` makes

# Rates of the line, each with its unit; without this table nothing is shaped.
#[wan.shaper]
#download = "100Mbit/s"
#upload = "20Mbit/s"
# One of {overheads};
# or numbers of your own: {{ bytes = 22, mpu = 64 }}.
#overhead = "{overhead}"
"##,
        socket = defaults::SOCKET,
        state = defaults::STATE,
        bogons = defaults::BOGONS.as_str(),
        mtu = defaults::MTU,
        overheads = words(&Overhead::PRESETS.map(Overhead::as_str)),
        overhead = defaults::OVERHEAD.as_str(),
    )
}

fn lan() -> String {
    format!(
        r##"
# One table for each LAN, 1 to {lans}.
[[lan]]
name = "home"                 # required
link = "lan0"                 # required
address = "10.0.0.1/24"       # required: the router's own, with the subnet's prefix length
# One of {filterings}.
filtering = "{filtering}"
reach = []                    # names of other LANs towards which hosts here may open flows

# Without this table there is no DHCP on the LAN.
[lan.dhcp]
pool = "10.0.0.100-10.0.0.199"   # required
lease = "{lease}"
dns = []                      # option 6; none: the router
ntp = []                      # option 42; none: not sent
#domain = "{domain}"         # option 15
#mtu = {mtu}                   # option 26

#[[lan.dhcp.reservation]]
#mac = "02:08:20:0a:0b:01"
#address = "10.0.0.5"
#name = "web"
"##,
        lans = defaults::LANS_MAX,
        filterings = words(&Filtering::ALL.map(Filtering::as_str)),
        filtering = defaults::FILTERING.as_str(),
        lease = shown(defaults::LEASE),
        domain = defaults::DOMAIN,
        mtu = defaults::MTU,
    )
}

fn dns() -> String {
    format!(
        r##"
[dns]
upstream = []                 # "ADDRESS" or "ADDRESS:PORT"; none: what the WAN lease says
domain = "{domain}"          # the domain of local names
rebinding = "filter"          # or "pass": let public names answer with private addresses
rebinding_allow = [{allow}]   # domains that may, while the others are filtered
cache_entries_max = {cache}

# A name with a fixed address that is no DHCP client.
#[[dns.host]]
#name = "printer"
#address = "10.0.0.9"
"##,
        domain = defaults::DOMAIN,
        allow = defaults::REBINDING_ALLOW.map(|domain| format!("\"{domain}\"")).join(", "),
        cache = defaults::CACHE_ENTRIES_MAX,
    )
}

fn nat() -> String {
    format!(
        r##"
[nat]
mss_clamp = "auto"            # from the WAN's MTU; or "off", or bytes from {mss_min} to {mss_max}
#sessions_max = 1000000       # default: sized from memory
mappings_per_host_max = {mappings}
#mappings_per_host_max_tcp = 8192    # of one protocol; default: only that of all
#mappings_per_host_max_udp = 8192
#mappings_per_host_max_icmp = 512
pooling = "{pooling}"            # or "any": an address without free ports borrows from another
ports_at_rest_max = {resting}    # beyond, some go to others early (RFC 6888 REQ-8)
#sessions_per_host_max = 500000  # default: half of all
new_flows_per_host_per_second = {rate}
new_flows_burst = {burst}       # of one host, back to back
unsolicited_syn = "silent"    # or "answer": port unreachable after 6 s (RFC 5382 REQ-4)
hairpinning = true            # hosts reach each other through the WAN address
icmp_refusals = "{refusals}"      # tell hosts inside why a flow is refused; or "silent"
#dmz_host = "web"             # gets everything from outside that nothing else takes
allow_short_timeouts = false  # accept timeouts below the floors of the RFCs

[nat.timeouts]
udp = "{udp}"                    # at least {udp_floor} (RFC 4787 REQ-5)
udp_dns = "{dns}"               # to port 53; at least {dns_floor} (RFC 4787 REQ-5a)
tcp_established = "{established}"     # at least that (RFC 5382 REQ-5)
tcp_transitory = "{transitory}"         # at least that (RFC 5382 REQ-5)
#tcp_opening = "{transitory}"           # default: tcp_transitory (RFC 7857 §2.1)
#tcp_closing = "{transitory}"           # default: tcp_transitory
icmp = "{icmp}"                   # at least that (RFC 5508 REQ-2)
other = "{other}"                 # GRE, ESP, IPIP and 6in4; at least {other_floor}
port_rest = "{rest}"              # for a port, also after a crash; at least that (RFC 6888 REQ-8)

# An external address for one host alone: every protocol, ports kept.
#[[nat.static]]
#external = "198.51.100.5"
#internal = "10.0.0.9"        # or the name of a reservation
#inbound = false              # whether flows may be opened from outside

# What leaves by the WAN untranslated.
#[[nat.exempt]]
#destination = "172.16.0.0/12"
#source = "10.0.0.0/24"       # default: every address
#protocol = "tcp"             # or "udp", "both"; default: every protocol
#port = 443                   # or a range; default: every port

# A filtering for one host, in place of its LAN's.
#[[nat.host]]
#host = "web"                 # or an address
#filtering = "endpoint-independent"
"##,
        mss_min = defaults::MSS_MIN,
        mss_max = defaults::MSS_MAX,
        mappings = defaults::MAPPINGS_PER_HOST_MAX,
        pooling = defaults::POOLING.as_str(),
        refusals = defaults::ICMP_REFUSALS.as_str(),
        resting = defaults::PORTS_AT_REST_MAX,
        rest = shown(defaults::PORT_REST),
        rate = defaults::NEW_FLOWS_PER_HOST,
        burst = defaults::NEW_FLOWS_BURST,
        dns = shown(defaults::TIMEOUT_UDP_DNS),
        dns_floor = shown(defaults::TIMEOUT_UDP_DNS_FLOOR),
        udp = shown(defaults::TIMEOUT_UDP),
        udp_floor = shown(defaults::TIMEOUT_UDP_FLOOR),
        established = shown(defaults::TIMEOUT_TCP_ESTABLISHED),
        transitory = shown(defaults::TIMEOUT_TCP_TRANSITORY),
        icmp = shown(defaults::TIMEOUT_ICMP),
        other = shown(defaults::TIMEOUT_OTHER),
        other_floor = shown(defaults::TIMEOUT_OTHER_FLOOR),
    )
}

fn forwards_and_policy() -> String {
    r##"
# Ports of the WAN address that lead to a host.
#[[forward]]
#protocol = "tcp"             # or "udp", "both"
#port = 8080                  # or a range: "27000-27015"
#address = "198.51.100.5"     # one of [wan] addresses; default: the link's own
#to = "web:80"                # reservation, DNS host or address; without port: the external one
#from = ["203.0.113.0/24", "@office"]   # who may use it, hosts inside included; default: everybody
#hairpin = true               # hosts inside reach it by the WAN address too

[policy]
utc_offset = "+00:00"         # local time, for schedules

# LANs under one name, for `from` and `to` of rules.
#[[policy.zone]]
#name = "inside"
#lans = ["home"]

# Addresses under one name, for "@office" in rules, forwards and other sets.
#[policy.set]
#office = ["198.51.100.0/24", "203.0.113.5-203.0.113.9", "web"]

# Rules about new flows; the first that matches decides. Without one, a LAN may open flows to the
# WAN and to the LANs in its `reach`, the WAN reaches forwards, and nothing else passes.
#[[policy.rule]]
#name = "mail"                # default: its number
#action = "allow"             # or "refuse" (the sender is told), "drop" (silently)
#from = "home"                # a LAN, a zone, "wan", "router" or "anywhere" (but the router)
#to = "wan"                   # likewise; default: anywhere
#protocol = "tcp"             # "udp", "both", "icmp", "esp", ..., a number; default: any
#port = [25, "587-588"]       # of the host inside, if the WAN's port leads to one; default: every
#source_port = "1024-65535"   # default: every
#source = ["10.0.0.128/25", "web", "@office"]   # default: every address
#destination = "203.0.113.0/24"
#dscp = ["ef", 8]             # of the flow's first packet; default: every
#schedule = "mon-fri 08:00-17:00"   # or "sat,sun 00:00-24:00", "daily 22:00-06:00"
#rate = "20/s"                # most new flows that are allowed, or "/m", "/h"; the rest is refused
#burst = 40                   # flows back to back; default: those of a second, at least 5
#log = true                   # matches go to the log, at a bounded rate
"##
    .to_owned()
}

fn zone() -> String {
    format!(
        r##"
# For `routerctl zone`; routerd does not need it.
#[zone]
#name = "router"              # required
#platform = "smartos"         # required: linux, illumos or smartos
#brand = "{brand}"     # illumos: {brand_illumos}; linux has none
#image_uuid = "00000000-0000-4000-8000-000000000000"   # SmartOS
#path = "{path}"              # illumos: parent of the zone's folder
#install = "{install}"   # elsewhere {install_elsewhere}
#memory_mib = {memory}
#swap_mib = {swap}              # default: twice the memory
#locked_mib = {locked}             # default: half the memory
#cpu_percent = {cpu}            # hundredths of a CPU
#quota_gib = {quota}

# Where each link is attached. SmartOS: the WAN is on the tag "{tag}" unless said otherwise;
# elsewhere it must be said. Each LAN has an etherstub of its own: {stub}0, {stub}1, ...
#[[zone.link]]
#name = "wan0"
#over = "{tag}"
#vlan = 20                    # default: none
#mac = "02:08:20:0a:0b:00"    # default: that of [wan], else the platform chooses
#mtu = {mtu}                   # default: that of [wan], else {mtu}

#[[zone.etherstub]]
#name = "{stub}0"
"##,
        brand = defaults::BRAND_SMARTOS.as_str(),
        brand_illumos = defaults::BRAND_ILLUMOS.as_str(),
        path = defaults::ZONE_PATH,
        install = defaults::INSTALL_SMARTOS,
        install_elsewhere = defaults::INSTALL,
        memory = defaults::MEMORY_MIB,
        swap = 2 * defaults::MEMORY_MIB,
        locked = defaults::MEMORY_MIB / 2,
        cpu = defaults::CPU_PERCENT,
        quota = defaults::QUOTA_GIB,
        tag = defaults::SMARTOS_WAN_TAG,
        stub = defaults::ETHERSTUB_PREFIX,
        mtu = defaults::MTU,
    )
}

fn words(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    const MINIMAL: &str = r#"
        [wan]
        link = "wan0"
        [[lan]]
        name = "home"
        link = "lan0"
        address = "10.0.0.1/24"
        [lan.dhcp]
        pool = "10.0.0.100-10.0.0.199"
    "#;

    #[test]
    fn the_printed_defaults_are_what_an_almost_empty_file_means() {
        let printed = parse("defaults", &print_defaults()).unwrap();
        assert_eq!(printed, parse("minimal", MINIMAL).unwrap());
    }

    #[test]
    fn every_example_in_the_printed_defaults_loads() {
        let all: String = print_defaults()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if !key.starts_with([' ', '#']) => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let config = parse("all", &all).unwrap_or_else(|e| panic!("{}", e.lines().join("\n")));
        assert_eq!(config.forwards.len(), 1);
        assert_eq!(config.policy.rules.len(), 1);
        assert!(config.wan.shaper.is_some());
        // What the examples of [zone] call a default is one.
        let mut zone = config.zone.clone().unwrap();
        let short = format!("{MINIMAL}\n[zone]\nname = \"router\"\nplatform = \"smartos\"\n");
        let short = parse("short", &short).unwrap().zone.unwrap();
        zone.image_uuid = None;
        zone.links[0].vlan = None;
        zone.links[0].mac = None;
        assert_eq!(zone, short);
    }

    #[test]
    fn printed_lines_fit_a_terminal() {
        for line in print_defaults().lines() {
            assert!(line.len() <= 100, "{line}");
        }
    }
}
