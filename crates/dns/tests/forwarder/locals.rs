//! Local names and special-use zones.

use std::time::Duration;

use dns::Name;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::bench::{Bench, TCP, client, config, name, octets, query};

const TTL: Duration = Duration::from_secs(60);

fn bench() -> Bench {
    let mut bench = Bench::new(config(1));
    let address = "10.0.0.5".parse().expect("an address");
    bench.forwarder.insert_host("Web", address, TTL).expect("a host");
    bench
}

/// The reply to a question that must not leave the router.
fn local(bench: &mut Bench, text: &str, rtype: RecordType) -> Message {
    bench.ask(text, rtype);
    bench.not_sent();
    bench.reply()
}

fn data(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn dn22_host_is_known_alone_and_in_the_domain_and_by_address() {
    let mut bench = bench();
    for text in ["web.", "WEB.home.arpa."] {
        let reply = local(&mut bench, text, RecordType::A);
        assert_eq!(data(&reply), ["10.0.0.5"]);
        assert_eq!(reply.answers[0].name, Name::from_ascii(text).expect("a name"));
        assert_eq!(reply.answers[0].ttl, 60);
        assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
    }
    let reply = local(&mut bench, "5.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(data(&reply), ["web.home.arpa."]);
}

#[test]
fn dn22_host_answers_over_tcp_too() {
    let mut bench = bench();
    let _ = bench.ask_from(client(9), TCP, &octets(&query("web.", RecordType::A)));
    assert_eq!(data(&bench.reply()), ["10.0.0.5"]);
}

#[test]
fn dn22_other_types_of_a_host_are_nodata_with_soa() {
    let mut bench = bench();
    for rtype in [RecordType::AAAA, RecordType::HTTPS, RecordType::MX] {
        for (text, zone) in [("web.home.arpa.", "home.arpa."), ("web.", ".")] {
            let reply = local(&mut bench, text, rtype);
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
            assert_eq!(reply.answers.len(), 0);
            assert_eq!(reply.authorities[0].record_type(), RecordType::SOA);
            assert_eq!(reply.authorities[0].name, name(zone));
        }
    }
}

#[test]
fn dn22_host_vanishes_with_its_lease() {
    let mut bench = bench();
    assert!(bench.forwarder.remove_host("web"));
    assert!(!bench.forwarder.remove_host("web"));
    for (text, rtype) in [
        ("web.", RecordType::A),
        ("web.home.arpa.", RecordType::A),
        ("5.0.0.10.in-addr.arpa.", RecordType::PTR),
    ] {
        let reply = local(&mut bench, text, rtype);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{text}");
        // Clients may remember this for a second at most.
        assert_eq!(reply.authorities[0].ttl, 1);
    }
}

#[test]
fn dn22_host_that_moves_leaves_its_old_address() {
    let mut bench = bench();
    let moved = "10.0.0.6".parse().expect("an address");
    bench.forwarder.insert_host("web.home.arpa", moved, TTL).expect("a host");
    assert_eq!(data(&local(&mut bench, "web.", RecordType::A)), ["10.0.0.6"]);
    let reply = local(&mut bench, "5.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(bench.forwarder.hosts_len(), 1);
}

#[test]
fn dn22_host_may_have_a_full_name_elsewhere() {
    let mut bench = bench();
    let address = "10.0.0.9".parse().expect("an address");
    bench.forwarder.insert_host("nas.corp.example", address, TTL).expect("a host");
    assert_eq!(data(&local(&mut bench, "nas.corp.example.", RecordType::A)), ["10.0.0.9"]);
    let reply = local(&mut bench, "9.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(data(&reply), ["nas.corp.example."]);
    bench.ask("other.corp.example.", RecordType::A);
    bench.sent();
}

#[test]
fn host_with_an_ipv6_address_answers_for_both_families() {
    let mut bench = bench();
    let address = "fd00::5".parse().expect("an address");
    bench.forwarder.insert_host("web", address, TTL).expect("a host");
    assert_eq!(data(&local(&mut bench, "web.", RecordType::AAAA)), ["fd00::5"]);
    assert_eq!(data(&local(&mut bench, "web.", RecordType::A)), ["10.0.0.5"]);
    let reverse = format!("5.{}d.f.ip6.arpa.", "0.".repeat(29));
    assert_eq!(data(&local(&mut bench, &reverse, RecordType::PTR)), ["web.home.arpa."]);
}

#[test]
fn name_between_the_domain_and_a_host_exists() {
    let mut bench = bench();
    let address = "10.0.0.9".parse().expect("an address");
    bench.forwarder.insert_host("a.rack.home.arpa", address, TTL).expect("a host");
    let reply = local(&mut bench, "rack.home.arpa.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    let reply = local(&mut bench, "ack.home.arpa.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn dn21_what_is_local_never_leaks() {
    let mut bench = bench();
    for text in [
        "unknown.",
        "unknown.home.arpa.",
        "a.b.home.arpa.",
        "x.invalid.",
        "x.onion.",
        "x.test.",
        "printer.local.",
        "x.alt.",
        "9.9.0.10.in-addr.arpa.",
        "1.1.168.192.in-addr.arpa.",
        "1.0.254.169.in-addr.arpa.",
        "1.1.64.100.in-addr.arpa.",
    ] {
        for rtype in [RecordType::A, RecordType::PTR, RecordType::SRV] {
            let reply = local(&mut bench, text, rtype);
            assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{text}");
            assert_eq!(reply.authorities[0].record_type(), RecordType::SOA);
        }
    }
}

#[test]
fn dn21_localhost_is_the_loopback() {
    let mut bench = bench();
    for text in ["localhost.", "www.localhost."] {
        assert_eq!(data(&local(&mut bench, text, RecordType::A)), ["127.0.0.1"]);
        assert_eq!(data(&local(&mut bench, text, RecordType::AAAA)), ["::1"]);
        assert_eq!(data(&local(&mut bench, text, RecordType::MX)).len(), 0);
    }
}

#[test]
fn dn21_validators_may_ask_about_top_level_domains_and_the_apex() {
    let mut bench = bench();
    for (text, rtype) in [
        ("com.", RecordType::DS),
        ("com.", RecordType::DNSKEY),
        (".", RecordType::NS),
        ("home.arpa.", RecordType::DS),
    ] {
        bench.ask(text, rtype);
        bench.sent();
    }
}

#[test]
fn dn21_apex_of_the_domain_has_a_soa() {
    let mut bench = bench();
    let reply = local(&mut bench, "home.arpa.", RecordType::SOA);
    assert_eq!(reply.answers[0].record_type(), RecordType::SOA);
    let reply = local(&mut bench, "home.arpa.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(reply.authorities.len(), 1);
}

#[test]
fn dn21_addresses_of_the_lans_are_resolved_here_even_if_public() {
    let mut config = config(1);
    config.local_networks = vec!["198.18.5.0/24".parse().expect("a network")];
    let mut bench = Bench::new(config);
    let reply = local(&mut bench, "7.5.18.198.in-addr.arpa.", RecordType::PTR);
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    bench.ask("7.6.18.198.in-addr.arpa.", RecordType::PTR);
    bench.sent();
}

#[test]
fn dn25_another_domain_takes_the_hosts_along() {
    let mut bench = bench();
    let mut config = config(1);
    config.domain = name("lan.");
    bench.forwarder.reconfigure(config, bench.now);
    assert_eq!(data(&local(&mut bench, "web.lan.", RecordType::A)), ["10.0.0.5"]);
    let reply = local(&mut bench, "5.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(data(&reply), ["web.lan."]);
    let reply = local(&mut bench, "web.home.arpa.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}
