//! External addresses, pooling, 1:1 addresses, exemptions and single hosts: what is meant, and what
//! is refused with which advice.
//!
//! `# HERE` marks the line that a report must name.

mod support;

use std::net::Ipv4Addr;

use config::{
    AddressRange, Config, Filtering, ForwardHost, ForwardProtocol, Pooling, ProtocolQuotas, parse,
};
use support::refused;

const GOOD: &str = r#"
[wan]
link = "wan0"
mode = "static"
address = "198.51.100.2/24"
gateway = "198.51.100.1"
addresses = ["198.51.100.3", "198.51.100.8-198.51.100.11", "203.0.113.7"]
[[lan]]
name = "home"
link = "lan0"
address = "10.0.0.1/24"
[lan.dhcp]
pool = "10.0.0.100-10.0.0.199"
[[lan.dhcp.reservation]]
mac = "02:08:20:0a:0b:01"
address = "10.0.0.5"
name = "console"
[[dns.host]]
name = "printer"
address = "10.0.0.6"
"#;

fn read(file: &str) -> Config {
    parse("router.toml", file).unwrap_or_else(|e| panic!("{}", e.lines().join("\n")))
}

fn with(tail: &str) -> String {
    format!("{GOOD}{tail}")
}

/// The good file with another list of further addresses.
fn listing(addresses: &str) -> String {
    let lines = GOOD.lines().map(|line| match line.starts_with("addresses") {
        true => format!("addresses = [{addresses}] # HERE\n"),
        false => format!("{line}\n"),
    });
    lines.collect()
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

#[test]
fn req6888_3_further_addresses_are_single_ones_and_ranges() {
    let config = read(GOOD);
    let range = |first, last| AddressRange { first: address(first), last: address(last) };
    let expected = [
        range("198.51.100.3", "198.51.100.3"),
        range("198.51.100.8", "198.51.100.11"),
        range("203.0.113.7", "203.0.113.7"),
    ];
    assert_eq!(config.wan.addresses, expected);
    assert_eq!(config.further_addresses().len(), 6);
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(json["wan"]["addresses"][1], "198.51.100.8-198.51.100.11");
    assert_eq!(json["wan"]["addresses"][0], "198.51.100.3");
}

#[test]
fn a_further_address_is_one_that_the_router_can_have() {
    let one = |text: &str| listing(&format!("\"{text}\""));
    refused(&one("198.51.100"), "`198.51.100` is neither an IPv4 address", "first and last");
    refused(&one("203.0.113.9-203.0.113.7"), "runs backwards", "`203.0.113.7-203.0.113.9`");
    refused(&one("224.0.0.9"), "multicast", "one host");
    refused(&one("198.51.100.2"), "is the WAN link's own already", "leave 198.51.100.2 out");
    refused(&one("198.51.100.0-198.51.100.5"), "198.51.100.2 is the WAN link's own", "leave");
    refused(&one("198.51.100.1"), "is the gateway's", "assigned to you");
    refused(&one("198.51.100.250-198.51.100.255"), "the broadcast address of the WAN", "leave");
    refused(&one("10.0.0.7"), "inside 10.0.0.0/24, the subnet of `home`", "assigned to you");
    refused(&one("9.255.255.250-10.0.0.3"), "10.0.0.0 is inside 10.0.0.0/24", "assigned to you");
    let overlap = listing("\"203.0.113.4-203.0.113.9\", \"203.0.113.7\"");
    refused(&overlap, "203.0.113.7 is there twice", "keep one");
}

#[test]
fn there_are_at_most_256_further_addresses() {
    assert_eq!(read(&listing("\"203.0.112.0-203.0.112.255\"")).further_addresses().len(), 256);
    let many = listing("\"203.0.112.0-203.0.113.0\"");
    refused(&many, "257 external addresses, more than 256", "at most 256");
    let endless = listing("\"12.0.0.0-100.255.255.255\"");
    refused(&endless, "more than 256", "at most 256");
}

#[test]
fn a_lease_takes_out_of_the_pool_what_it_uses_itself() {
    let config = read(GOOD);
    let pool = |own: &str| -> Vec<u8> {
        let own = own.parse().unwrap();
        config.pool_addresses(own, &[]).map(|address| address.octets()[3]).collect()
    };
    assert_eq!(pool("198.51.100.2/24"), [3, 8, 9, 10, 11, 7]);
    assert_eq!(pool("198.51.100.9/24"), [3, 8, 10, 11, 7]);
    assert_eq!(pool("198.51.100.9/30"), [3, 10, 7], "8 is its network, 11 its broadcast");
    let own = "198.51.100.2/24".parse().unwrap();
    let gateway = [address("198.51.100.3")];
    assert!(config.pool_addresses(own, &gateway).all(|pooled| pooled != gateway[0]));
}

#[test]
fn pooling_is_paired_unless_said_otherwise() {
    assert_eq!(read(GOOD).nat.pooling, Pooling::Paired);
    assert_eq!(read(&with("[nat]\npooling = \"any\"\n")).nat.pooling, Pooling::Any);
    refused(&with("[nat]\npooling = \"pair\" # HERE\n"), "`pair`", "did you mean `paired`?");
}

#[test]
fn a_1_1_address_names_its_host_by_address_or_reservation() {
    let config = read(&with(
        "[[nat.static]]\nexternal = \"198.51.100.9\"\ninternal = \"console\"\ninbound = true\n\
         [[nat.static]]\nexternal = \"198.51.100.77\"\ninternal = \"10.0.0.9\"\n",
    ));
    let [one, other] = &config.nat.statics[..] else { panic!("{:?}", config.nat.statics) };
    assert_eq!(one.internal, ForwardHost::Name("console".to_owned()));
    assert_eq!((one.inbound, other.inbound), (true, false));
    // It is nobody else's, though the list has it.
    let own = "198.51.100.2/24".parse().unwrap();
    assert!(config.pool_addresses(own, &[]).all(|pooled| pooled != one.external));
    assert_eq!(config.static_addresses(own, &[]).count(), 2);
    assert_eq!(config.further_addresses().len(), 7);
}

#[test]
fn a_1_1_address_has_one_host_and_a_host_one_address() {
    let first = "[[nat.static]]\nexternal = \"203.0.113.9\"\ninternal = \"10.0.0.5\"\n";
    let second = |external: &str, internal: &str| {
        with(&format!("{first}[[nat.static]]\nexternal = {external}\ninternal = {internal}\n"))
    };
    refused(&second("\"203.0.113.9\" # HERE", "\"10.0.0.8\""), "is there twice", "keep one");
    let twice = second("\"203.0.113.10\"", "\"console\" # HERE");
    refused(&twice, "`console` is there twice", "one `[[nat.static]]`");
    let own = second("\"198.51.100.2\" # HERE", "\"10.0.0.8\"");
    refused(&own, "is the WAN link's own already", "leave");
    refused(&second("\"10.0.0.77\" # HERE", "\"10.0.0.8\""), "the subnet of `home`", "assigned");
}

#[test]
fn a_host_of_the_translation_is_one_that_the_file_knows_or_a_lan_can_hold() {
    let host = |host: &str| {
        with(&format!(
            "[[nat.host]]\nhost = \"{host}\" # HERE\nfiltering = \"address-dependent\"\n"
        ))
    };
    for good in ["console", "printer", "10.0.0.77"] {
        let config = read(&host(good));
        assert_eq!(config.nat.hosts[0].filtering, Filtering::AddressDependent);
    }
    refused(&host("consol"), "no reservation is named `consol`", "did you mean `console`?");
    refused(&host("192.168.1.1"), "192.168.1.1 is in no LAN", "10.0.0.0/24");
    refused(&host("10.0.0.1"), "10.0.0.1 is the router itself", "a host on a LAN");
    refused(&host("two words"), "neither an IPv4 address nor a host name", "reservation");
    let twice = format!(
        "{}[[nat.host]]\nhost = \"10.0.0.5\" # HERE\nfiltering = \"address-dependent\"\n",
        host("console").replace(" # HERE", "")
    );
    refused(&twice, "`10.0.0.5` is there twice", "one `[[nat.host]]`");
    let without = with("[[nat.host]] # HERE\nhost = \"console\"\n");
    refused(&without, "lacks `filtering`", "endpoint-independent");
}

#[test]
fn req6888_6_an_exemption_names_a_destination_and_may_name_more() {
    let config = read(&with(
        "[[nat.exempt]]\ndestination = \"172.16.0.0/12\"\n\
         [[nat.exempt]]\ndestination = \"192.0.2.1\"\nsource = \"10.0.0.0/25\"\n\
         protocol = \"udp\"\nport = \"500-600\"\n",
    ));
    let [wide, narrow] = &config.nat.exemptions[..] else { panic!("two") };
    assert_eq!((wide.source, wide.protocol, &wide.ports), (None, None, &None));
    assert_eq!(narrow.destination.to_string(), "192.0.2.1/32");
    assert_eq!((narrow.protocol, &narrow.ports), (Some(ForwardProtocol::Udp), &Some(500..=600)));
    let lines = |lines: &str| with(&format!("[[nat.exempt]]\n{lines}\n"));
    let bits = lines("destination = \"172.16.0.1/12\" # HERE");
    refused(&bits, "bits set behind its prefix", "`172.16.0.0/12`");
    let port = lines("destination = \"172.16.0.0/12\"\nport = 80 # HERE");
    refused(&port, "needs a `protocol`", "\"tcp\"");
    refused(&with("[[nat.exempt]] # HERE\nport = 80\nprotocol = \"tcp\"\n"), "lacks", "172.16");
}

#[test]
fn a_forward_may_be_for_a_further_address_that_the_router_has() {
    let forward = |address: &str, port: u16| {
        let at = format!("address = \"{address}\" # HERE\n");
        format!("[[forward]]\nprotocol = \"tcp\"\nport = {port}\n{at}to = \"console:80\"\n")
    };
    let config =
        read(&with(&format!("{}{}", forward("198.51.100.9", 80), forward("203.0.113.7", 80))));
    assert_eq!(config.forwards[0].address, Some(address("198.51.100.9")));
    // The link's own address has no number, so that the same port of it is found to be taken.
    let own = read(&with(&forward("198.51.100.2", 80)));
    assert_eq!(own.forwards[0].address, None);
    let stranger = with(&forward("198.51.100.99", 80));
    refused(&stranger, "no external address 198.51.100.99", "`addresses` in `[wan]`");
    let of_host = "[[nat.static]]\nexternal = \"198.51.100.99\"\ninternal = \"console\"\n";
    assert!(parse("x", &format!("{stranger}{of_host}")).is_ok());
}

#[test]
fn req6888_4b_a_quota_may_be_set_for_each_protocol() {
    assert_eq!(read(GOOD).nat.mappings_per_host_max_of, ProtocolQuotas::default());
    let config = read(&with("[nat]\nmappings_per_host_max_udp = 500\n"));
    let expected = ProtocolQuotas { udp: Some(500), ..ProtocolQuotas::default() };
    assert_eq!(config.nat.mappings_per_host_max_of, expected);
    let much = with("[nat]\nmappings_per_host_max_icmp = 65536 # HERE\n");
    refused(&much, "between 64 and 65535", "65535 ports");
}

#[test]
fn req7857_2_1_opening_and_closing_follow_the_transitory_time_or_have_their_own() {
    let timeouts = |lines: &str| read(&with(&format!("[nat.timeouts]\n{lines}\n"))).nat.timeouts;
    let secs = |t: config::NatTimeouts| [t.tcp_opening.as_secs(), t.tcp_closing.as_secs()];
    assert_eq!(secs(timeouts("")), [240, 240]);
    assert_eq!(secs(timeouts("tcp_transitory = \"5m\"")), [300, 300]);
    assert_eq!(secs(timeouts("tcp_transitory = \"5m\"\ntcp_closing = \"4m\"")), [300, 240]);
    assert_eq!(secs(timeouts("tcp_opening = \"6m\"")), [360, 240]);
    let short = with("[nat.timeouts]\ntcp_opening = \"3m\" # HERE\n");
    refused(&short, "below 4m, the floor of RFC 7857", "allow_short_timeouts");
}
