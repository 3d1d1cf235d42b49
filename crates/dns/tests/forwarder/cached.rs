//! The cache in virtual time.

use std::time::Duration;

use dns::STALE_KEEP_DEFAULT;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::bench::{Bench, Dnssec, UDP, a, client, cname, config, name, octets, query, with_edns};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn dn13_ttl_counts_down_and_ends() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    for (wait, left) in [(0, 60), (1, 59), (58, 1)] {
        bench.pass(seconds(wait));
        bench.ask("www.example.", RecordType::A);
        assert_eq!(bench.reply().answers[0].ttl, left);
    }
    bench.not_sent();
    bench.pass(seconds(1));
    bench.ask("www.example.", RecordType::A);
    bench.sent();
    let stats = bench.forwarder.stats();
    assert_eq!((stats.queries, stats.hits, stats.misses), (5, 3, 2));
}

#[test]
fn dn13_ttl_zero_is_used_once() {
    let mut bench = Bench::new(config(1));
    assert_eq!(bench.learn("www.example.", 0).answers.len(), 1);
    assert_eq!(bench.forwarder.cache_len(), 0);
    bench.ask("www.example.", RecordType::A);
    bench.sent();
}

#[test]
fn dn13_ttl_with_the_top_bit_is_large_and_capped_at_seven_days() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 0x8000_0000);
    bench.ask("www.example.", RecordType::A);
    assert_eq!(bench.reply().answers[0].ttl, 7 * 86_400);
    bench.pass(seconds(7 * 86_400));
    bench.ask("www.example.", RecordType::A);
    bench.sent();
}

#[test]
fn dn14_shortest_ttl_ends_the_whole_answer() {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::A);
    let sent = bench.sent();
    let mut response = sent.response();
    response.add_answer(cname("www.example.", 300, "host.example."));
    response.add_answer(a(&name("host.example."), 10, [203, 0, 113, 1]));
    bench.answer(&sent, &octets(&response));
    bench.reply();
    bench.pass(seconds(9));
    bench.ask("www.example.", RecordType::A);
    let ttls: Vec<_> = bench.reply().answers.iter().map(|record| record.ttl).collect();
    assert_eq!(ttls, [291, 1]);
    bench.pass(seconds(1));
    bench.ask("www.example.", RecordType::A);
    bench.sent();
}

#[test]
fn dn14_records_beside_the_answer_answer_nothing_else() {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::A);
    let sent = bench.sent();
    let mut response = sent.response();
    response.add_answer(a(&name("www.example."), 60, [203, 0, 113, 1]));
    response.add_additional(a(&name("bank.example."), 60, [203, 0, 113, 66]));
    bench.answer(&sent, &octets(&response));
    bench.reply();
    bench.ask("bank.example.", RecordType::A);
    bench.sent();
}

#[test]
fn dn15_negative_answer_lives_as_long_as_soa_says() {
    for (ttl, minimum, life) in [(300, 60, 60), (30, 600, 30), (86_400, 86_400, 10_800)] {
        let mut bench = Bench::new(config(1));
        bench.ask("no.example.", RecordType::A);
        let sent = bench.sent();
        bench.answer(&sent, &sent.negative(ResponseCode::NXDomain, "example.", ttl, minimum));
        bench.reply();
        bench.pass(seconds(life - 1));
        bench.ask("no.example.", RecordType::A);
        let reply = bench.reply();
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(reply.authorities[0].ttl, 1);
        bench.pass(seconds(1));
        bench.ask("no.example.", RecordType::A);
        bench.sent();
    }
}

#[test]
fn dn15_nodata_concerns_one_type_and_nxdomain_all() {
    let mut bench = Bench::new(config(1));
    for (text, rcode) in
        [("no.example.", ResponseCode::NXDomain), ("bare.example.", ResponseCode::NoError)]
    {
        bench.ask(text, RecordType::A);
        let sent = bench.sent();
        bench.answer(&sent, &sent.negative(rcode, "example.", 60, 60));
        bench.reply();
    }
    bench.ask("no.example.", RecordType::MX);
    let reply = bench.reply();
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.queries[0].query_type, RecordType::MX);
    bench.ask("bare.example.", RecordType::A);
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::NoError);
    bench.not_sent();
    bench.ask("bare.example.", RecordType::MX);
    bench.sent();
}

#[test]
fn dn15_negative_answer_without_soa_is_not_kept() {
    for rcode in [ResponseCode::NXDomain, ResponseCode::NoError] {
        let mut bench = Bench::new(config(1));
        bench.ask("no.example.", RecordType::A);
        let sent = bench.sent();
        bench.answer(&sent, &sent.failure(rcode));
        bench.reply();
        assert_eq!(bench.forwarder.cache_len(), 0);
    }
}

#[test]
fn dn15_servfail_is_kept_for_seconds_only() {
    let mut bench = Bench::new(config(1));
    bench.ask("broken.example.", RecordType::A);
    let sent = bench.sent();
    bench.answer(&sent, &sent.failure(ResponseCode::ServFail));
    bench.reply();
    bench.pass(seconds(4));
    bench.ask("broken.example.", RecordType::A);
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::ServFail);
    bench.not_sent();
    bench.pass(seconds(1));
    bench.ask("broken.example.", RecordType::A);
    bench.sent();
}

#[test]
fn dn16_nothing_exists_below_a_name_that_does_not() {
    let mut bench = Bench::new(config(1));
    bench.ask("no.example.", RecordType::A);
    let sent = bench.sent();
    bench.answer(&sent, &sent.negative(ResponseCode::NXDomain, "example.", 60, 60));
    bench.reply();
    bench.pass(seconds(20));
    bench.ask("a.b.no.example.", RecordType::AAAA);
    bench.not_sent();
    let reply = bench.reply();
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.authorities[0].name, name("example."));
    assert_eq!(reply.authorities[0].ttl, 40);
    bench.ask("yes.example.", RecordType::A);
    bench.sent();
}

#[test]
fn dn16_validator_is_sent_to_the_server_for_its_proof() {
    let mut bench = Bench::new(config(1));
    let asked = with_edns(query("no.example.", RecordType::A), 1232, Dnssec::Wanted);
    let _ = bench.ask_from(client(9), UDP, &octets(&asked));
    let sent = bench.sent();
    bench.answer(&sent, &sent.negative(ResponseCode::NXDomain, "example.", 60, 60));
    bench.reply();
    let below = with_edns(query("a.no.example.", RecordType::A), 1232, Dnssec::Wanted);
    let _ = bench.ask_from(client(9), UDP, &octets(&below));
    bench.sent();
}

#[test]
fn dn16_target_of_an_alias_that_does_not_exist_says_nothing_about_the_alias() {
    let mut bench = Bench::new(config(1));
    bench.ask("alias.example.", RecordType::A);
    let sent = bench.sent();
    let mut response = sent.response();
    response.metadata.response_code = ResponseCode::NXDomain;
    response.add_answer(cname("alias.example.", 60, "no.example."));
    response.add_authority(crate::bench::soa("example.", 60, 60));
    bench.answer(&sent, &octets(&response));
    bench.reply();
    bench.ask("below.alias.example.", RecordType::A);
    bench.sent();
}

#[test]
fn dn17_slow_server_yields_a_stale_answer_after_1800_ms() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    bench.pass(seconds(100));
    bench.ask("www.example.", RecordType::A);
    bench.pass(Duration::from_millis(1_799));
    bench.no_reply();
    bench.pass(Duration::from_millis(1));
    let reply = bench.reply();
    assert_eq!((reply.answers.len(), reply.answers[0].ttl), (1, 30));
    // The query goes on and renews the cache, without a second reply.
    let sent = bench.sent_all().pop().expect("an attempt is under way");
    bench.answer(&sent, &sent.address(60, [203, 0, 113, 8]));
    bench.no_reply();
    bench.ask("www.example.", RecordType::A);
    assert_eq!(bench.reply().answers[0].ttl, 60);
}

#[test]
fn dn17_failed_servers_are_left_alone_for_thirty_seconds() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    bench.pass(seconds(100));
    bench.ask("www.example.", RecordType::A);
    let sent = bench.sent();
    bench.answer(&sent, &sent.failure(ResponseCode::ServFail));
    assert_eq!(bench.reply().answers[0].ttl, 30);
    bench.pass(seconds(29));
    bench.ask("www.example.", RecordType::A);
    assert_eq!(bench.reply().answers[0].ttl, 30);
    bench.not_sent();
    bench.pass(seconds(1));
    bench.ask("www.example.", RecordType::A);
    bench.sent();
}

#[test]
fn dn17_stale_answer_says_so_to_who_understands() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    bench.pass(seconds(100));
    bench.forwarder.set_upstreams(&[], bench.now);
    let asked = with_edns(query("www.example.", RecordType::A), 1232, Dnssec::Ignored);
    let _ = bench.ask_from(client(9), UDP, &octets(&asked));
    let octets = bench.reply_octets();
    assert!(octets.ends_with(&[0, 15, 0, 2, 0, 3]));
}

#[test]
fn dn17_answer_too_old_is_not_served() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    bench.pass(seconds(60) + STALE_KEEP_DEFAULT);
    bench.forwarder.set_upstreams(&[], bench.now);
    bench.ask("www.example.", RecordType::A);
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn dn17_client_that_joins_late_need_not_wait() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    bench.pass(seconds(100));
    bench.ask("www.example.", RecordType::A);
    bench.pass(seconds(2));
    bench.reply();
    let _ = bench.ask_from(client(8), UDP, &octets(&query("www.example.", RecordType::A)));
    assert_eq!(bench.reply().answers[0].ttl, 30);
}

#[test]
fn dn25_reconfiguration_keeps_the_cache() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    bench.forwarder.reconfigure(config(2), bench.now);
    bench.ask("www.example.", RecordType::A);
    assert_eq!(bench.reply().answers.len(), 1);
    bench.not_sent();
}

#[test]
fn cache_of_no_entries_keeps_nothing() {
    let mut config = config(1);
    config.cache_entries = 0;
    let mut bench = Bench::new(config);
    bench.learn("www.example.", 60);
    bench.ask("www.example.", RecordType::A);
    bench.sent();
}

#[test]
fn flush_takes_a_domain_and_nothing_beside() {
    let mut bench = Bench::new(config(1));
    for text in ["example.", "www.example.", "wwwexample.", "a.test2."] {
        bench.ask(text, RecordType::NS);
        for sent in bench.sent_all() {
            bench.answer(&sent, &sent.negative(ResponseCode::NoError, ".", 60, 60));
        }
    }
    assert_eq!(bench.forwarder.cache_len(), 4);
    assert_eq!(bench.forwarder.flush(&name("example.")), 2);
    assert_eq!(bench.forwarder.flush(&name(".")), 2);
}
