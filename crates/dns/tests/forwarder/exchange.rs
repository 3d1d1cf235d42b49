//! Attempts, checks, failover, TCP, limits.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use dns::{
    Client, Disposition, OUTSTANDING_MAX, OUTSTANDING_PER_CLIENT_MAX, QUERY_LIFETIME,
    RebindingFilter, UpstreamOrigin,
};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use packet::LinkId;

use crate::bench::{Bench, Sent, TCP, UDP, client, config, name, octets, query, server};

#[test]
fn dn8_each_query_has_a_port_and_an_id_of_its_own() {
    let mut bench = Bench::new(config(1));
    let (mut ports, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for index in 0..100 {
        bench.ask(&format!("n{index}.example."), RecordType::A);
        let sent = bench.sent();
        ports.insert(sent.source_port.expect("over UDP"));
        ids.insert(sent.message().id);
    }
    assert_eq!(ports.len(), 100);
    assert!(ids.len() > 95);
    // A hundred draws from 1024..=65535 that all fell into one quarter would be no wide range.
    let (low, high) = (*ports.first().expect("some"), *ports.last().expect("some"));
    assert!(low >= 1024 && high - low > 40_000);
}

fn spoofed(change: impl Fn(&Sent, &mut UpstreamOrigin, &mut Message)) {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::A);
    let sent = bench.sent();
    let mut origin = sent.origin();
    let mut message = Message::from_vec(&sent.address(60, [203, 0, 113, 66])).expect("sound");
    change(&sent, &mut origin, &mut message);
    bench.forwarder.handle_upstream(origin, &octets(&message), bench.now);
    bench.no_reply();
    assert_eq!(bench.forwarder.stats().mismatched, 1);
    bench.answer(&sent, &sent.address(60, [203, 0, 113, 1]));
    assert_eq!(bench.reply().answers[0].data.to_string(), "203.0.113.1");
}

#[test]
fn dn9_answer_with_another_id_is_refused() {
    spoofed(|_, _, message| message.metadata.id ^= 1);
}

#[test]
fn dn9_answer_to_another_port_is_refused() {
    spoofed(|sent, origin, _| {
        let source_port = sent.source_port.expect("over UDP") ^ 1;
        *origin = UpstreamOrigin::Udp { source_port, server: sent.server };
    });
}

#[test]
fn dn9_answer_from_another_address_or_port_is_refused() {
    for from in [server(77), packet::Endpoint { port: 54, ..server(1) }] {
        spoofed(|sent, origin, _| {
            let source_port = sent.source_port.expect("over UDP");
            *origin = UpstreamOrigin::Udp { source_port, server: from };
        });
    }
}

#[test]
fn dn9_answer_over_tcp_to_a_udp_query_is_refused() {
    spoofed(|sent, origin, _| *origin = UpstreamOrigin::Tcp { server: sent.server });
}

#[test]
fn dn9_answer_to_another_question_is_refused() {
    spoofed(|_, _, message| message.queries[0].name = name("evil.example."));
    spoofed(|_, _, message| message.queries[0].query_type = RecordType::AAAA);
    spoofed(|_, _, message| message.queries[0].query_class = hickory_proto::rr::DNSClass::CH);
    spoofed(|_, _, message| message.queries.clear());
}

#[test]
fn dn9_query_that_comes_back_is_no_answer() {
    spoofed(|_, _, message| message.metadata.message_type = hickory_proto::op::MessageType::Query);
}

#[test]
fn dn9_late_answer_to_a_former_attempt_is_refused() {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::A);
    let first = bench.sent();
    bench.pass(Duration::from_millis(1_100));
    let second = bench.sent();
    assert_ne!((first.source_port, first.message().id), (second.source_port, second.message().id));
    assert_eq!(bench.released(), [first.source_port.expect("over UDP")]);
    bench.answer(&first, &first.address(60, [203, 0, 113, 66]));
    bench.no_reply();
    bench.answer(&second, &second.address(60, [203, 0, 113, 1]));
    bench.reply();
    assert_eq!(bench.released(), [second.source_port.expect("over UDP")]);
}

#[test]
fn dn9_guessing_moves_the_query_to_tcp() {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::A);
    let sent = bench.sent();
    let mut guess = sent.address(60, [203, 0, 113, 66]);
    guess[0] ^= 0xff;
    for _ in 0..10 {
        bench.answer(&sent, &guess);
    }
    let again = bench.sent();
    assert_eq!(again.source_port, None);
    bench.answer(&again, &again.address(60, [203, 0, 113, 1]));
    assert_eq!(bench.reply().answers.len(), 1);
}

#[test]
fn dn10_equal_queries_share_one_and_every_client_is_answered() {
    let mut bench = Bench::new(config(1));
    for last in 1..=20 {
        let mut asked = query("WWW.example.", RecordType::A);
        asked.metadata.id = u16::from(last);
        let _ = bench.ask_from(client(last), UDP, &octets(&asked));
    }
    let sent = bench.sent();
    bench.answer(&sent, &sent.address(60, [203, 0, 113, 1]));
    let replies = bench.replies();
    assert_eq!(replies.len(), 20);
    for reply in replies {
        let message = Message::from_vec(&reply.message).expect("a sound reply");
        assert_eq!(u64::from(message.id), reply.client.token);
        assert_eq!(message.answers.len(), 1);
    }
    assert_eq!(bench.forwarder.stats().joined, 19);
}

#[test]
fn dn10_client_that_asks_again_is_answered_once() {
    let mut bench = Bench::new(config(1));
    let asked = octets(&query("www.example.", RecordType::A));
    assert_eq!(bench.ask_from(client(9), UDP, &asked), Disposition::Accepted);
    assert_eq!(bench.ask_from(client(9), UDP, &asked), Disposition::Ignored);
    let sent = bench.sent();
    bench.answer(&sent, &sent.address(60, [203, 0, 113, 1]));
    assert_eq!(bench.replies().len(), 1);
}

#[test]
fn dn12_query_from_the_wan_is_met_with_silence() {
    let mut bench = Bench::new(config(1));
    let stranger = Client { link: LinkId::WAN, ..client(9) };
    for rtype in [RecordType::A, RecordType::ANY] {
        for text in ["www.example.", "localhost."] {
            let asked = octets(&query(text, rtype));
            assert_eq!(bench.ask_from(stranger, UDP, &asked), Disposition::Ignored);
        }
    }
    bench.no_reply();
    bench.not_sent();
}

#[test]
fn dn20_silent_server_is_followed_by_the_next() {
    let mut bench = Bench::new(config(2));
    bench.ask("www.example.", RecordType::A);
    let first = bench.sent();
    bench.pass(Duration::from_millis(1_100));
    let second = bench.sent();
    assert_ne!(first.server, second.server);
    bench.answer(&second, &second.address(60, [203, 0, 113, 1]));
    assert_eq!(bench.reply().answers.len(), 1);
    let timeouts: u64 = bench.forwarder.upstream_stats(bench.now).map(|s| s.timeouts).sum();
    assert_eq!(timeouts, 1);
}

#[test]
fn dn20_servfail_and_refused_fail_over_and_nxdomain_does_not() {
    for (rcode, fails_over) in [
        (ResponseCode::ServFail, true),
        (ResponseCode::Refused, true),
        (ResponseCode::NXDomain, false),
    ] {
        let mut bench = Bench::new(config(2));
        bench.ask("www.example.", RecordType::A);
        let first = bench.sent();
        bench.answer(&first, &first.failure(rcode));
        if fails_over {
            let second = bench.sent();
            assert_ne!(first.server, second.server);
            bench.answer(&second, &second.address(60, [203, 0, 113, 1]));
            assert_eq!(bench.reply().metadata.response_code, ResponseCode::NoError);
        } else {
            bench.not_sent();
            assert_eq!(bench.reply().metadata.response_code, rcode);
        }
    }
}

#[test]
fn dn20_failure_of_all_servers_is_passed_on() {
    let mut bench = Bench::new(config(2));
    bench.ask("www.example.", RecordType::A);
    for _ in 0..2 {
        let sent = bench.sent();
        bench.answer(&sent, &sent.failure(ResponseCode::Refused));
    }
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::Refused);
    bench.not_sent();
}

#[test]
fn dn20_silence_of_all_servers_is_servfail_within_the_life_of_a_query() {
    let mut bench = Bench::new(config(3));
    bench.ask("www.example.", RecordType::A);
    bench.pass(QUERY_LIFETIME);
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::ServFail);
    assert_eq!((bench.forwarder.outstanding(), bench.forwarder.poll_timeout()), (0, None));
    let ports: Vec<_> = bench.sent_all().iter().filter_map(|sent| sent.source_port).collect();
    assert!(ports.len() >= 4);
    assert_eq!(bench.released(), ports);
}

#[test]
fn without_servers_the_answer_is_servfail_at_once() {
    let mut bench = Bench::new(config(0));
    bench.ask("www.example.", RecordType::A);
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn truncated_answer_is_fetched_over_tcp_from_the_same_server() {
    let mut bench = Bench::new(config(2));
    bench.ask("www.example.", RecordType::A);
    let first = bench.sent();
    let mut response = first.response();
    response.metadata.truncation = true;
    bench.answer(&first, &octets(&response));
    let second = bench.sent();
    assert_eq!((second.server, second.source_port), (first.server, None));
    assert_eq!(bench.forwarder.cache_len(), 0);
    bench.answer(&second, &second.address(60, [203, 0, 113, 1]));
    let reply = bench.reply();
    assert_eq!((reply.metadata.truncation, reply.answers.len()), (false, 1));
}

#[test]
fn dn18_closed_connection_is_tried_again_for_all_that_waited() {
    let mut bench = Bench::new(config(1));
    for text in ["a.example.", "b.example."] {
        let _ = bench.ask_from(client(9), TCP, &octets(&query(text, RecordType::A)));
    }
    assert_eq!(bench.sent_all().len(), 2);
    bench.forwarder.handle_upstream_closed(server(1), bench.now);
    let mut again = bench.sent_all();
    assert_eq!(again.len(), 2);
    // Out of order, by id.
    again.reverse();
    for sent in &again {
        bench.answer(sent, &sent.address(60, [203, 0, 113, 1]));
        bench.reply();
    }
}

#[test]
fn dn18_server_that_never_takes_connections_ends_in_servfail() {
    let mut bench = Bench::new(config(1));
    let _ = bench.ask_from(client(9), TCP, &octets(&query("a.example.", RecordType::A)));
    while !bench.sent_all().is_empty() {
        bench.forwarder.handle_upstream_closed(server(1), bench.now);
    }
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn port_that_cannot_be_bound_is_replaced() {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::A);
    let first = bench.sent().source_port.expect("over UDP");
    bench.forwarder.handle_port_unavailable(first, bench.now);
    assert_ne!(bench.sent().source_port, Some(first));
    assert_eq!(bench.released(), [first]);
}

#[test]
fn closed_client_gets_no_reply_and_the_answer_is_kept() {
    let mut bench = Bench::new(config(1));
    let _ = bench.ask_from(client(9), TCP, &octets(&query("a.example.", RecordType::A)));
    bench.forwarder.handle_client_closed(client(9));
    let sent = bench.sent();
    bench.answer(&sent, &sent.address(60, [203, 0, 113, 1]));
    bench.no_reply();
    assert_eq!(bench.forwarder.cache_len(), 1);
}

#[test]
fn dn25_new_servers_take_over_what_waited_for_the_old() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    bench.ask("other.example.", RecordType::A);
    assert_eq!(bench.sent().server, server(1));
    bench.forwarder.set_upstreams(&[server(2)], bench.now);
    let sent = bench.sent();
    assert_eq!(sent.server, server(2));
    bench.answer(&sent, &sent.address(60, [203, 0, 113, 1]));
    bench.reply();
    bench.ask("www.example.", RecordType::A);
    assert_eq!(bench.reply().answers.len(), 1);
}

#[test]
fn dn27_one_client_cannot_fill_the_table() {
    let mut bench = Bench::new(config(1));
    for index in 0..=OUTSTANDING_PER_CLIENT_MAX {
        bench.ask(&format!("n{index}.example."), RecordType::A);
    }
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::Refused);
    let _ = bench.ask_from(client(8), UDP, &octets(&query("www.example.", RecordType::A)));
    bench.no_reply();
    // Room comes back with the answers.
    for sent in bench.sent_all() {
        bench.answer(&sent, &sent.address(60, [203, 0, 113, 1]));
    }
    bench.replies();
    bench.ask("again.example.", RecordType::A);
    bench.no_reply();
}

#[test]
fn dn27_table_is_bounded() {
    let mut bench = Bench::new(config(1));
    for index in 0..=OUTSTANDING_MAX {
        let from = client((index % 250) as u8);
        let asked = octets(&query(&format!("n{index}.example."), RecordType::A));
        let _ = bench.ask_from(from, UDP, &asked);
    }
    assert_eq!(bench.sent_all().len(), OUTSTANDING_MAX);
    assert_eq!(bench.forwarder.outstanding(), OUTSTANDING_MAX);
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn dn27_any_is_answered_minimally_over_udp_and_passed_over_tcp() {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::ANY);
    bench.not_sent();
    assert_eq!(bench.reply().answers[0].record_type(), RecordType::HINFO);
    let _ = bench.ask_from(client(9), TCP, &octets(&query("www.example.", RecordType::ANY)));
    bench.sent();
}

#[test]
fn zone_transfers_are_not_implemented() {
    let mut bench = Bench::new(config(1));
    for rtype in [RecordType::AXFR, RecordType::IXFR] {
        bench.ask("www.example.", rtype);
        assert_eq!(bench.reply().metadata.response_code, ResponseCode::NotImp);
    }
    bench.not_sent();
}

fn rebinding(bench: &mut Bench, text: &str, address: [u8; 4]) -> usize {
    bench.ask(text, RecordType::A);
    let sent = bench.sent();
    bench.answer(&sent, &sent.address(60, address));
    let reply = bench.reply();
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    reply.answers.len()
}

#[test]
fn dn24_private_answer_to_a_public_name_is_emptied_and_not_cached() {
    let mut bench = Bench::new(config(1));
    assert_eq!(rebinding(&mut bench, "evil.example.", [10, 0, 0, 1]), 0);
    assert_eq!(rebinding(&mut bench, "good.example.", [203, 0, 113, 1]), 1);
    assert_eq!((bench.forwarder.cache_len(), bench.forwarder.stats().rebinding), (1, 1));
}

#[test]
fn dn24_allowed_domains_may_have_private_addresses() {
    let mut bench = Bench::new(config(1));
    assert_eq!(rebinding(&mut bench, "10-0-0-5.hash.plex.direct.", [10, 0, 0, 5]), 1);
    let mut config = config(1);
    config.rebinding = RebindingFilter::On { allow: vec![name("corp.example.")] };
    bench.forwarder.reconfigure(config, bench.now);
    assert_eq!(rebinding(&mut bench, "nas.corp.example.", [10, 0, 0, 5]), 1);
    assert_eq!(rebinding(&mut bench, "nas.notcorp.example.", [10, 0, 0, 5]), 0);
}

#[test]
fn dn24_filter_can_be_turned_off() {
    let mut config = config(1);
    config.rebinding = RebindingFilter::Off;
    let mut bench = Bench::new(config);
    assert_eq!(rebinding(&mut bench, "nas.example.", [192, 168, 1, 5]), 1);
}

#[test]
fn dn24_hints_of_service_records_are_filtered_too() {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::HTTPS);
    let sent = bench.sent();
    let mut answer = octets(&sent.response());
    answer[7] = 2;
    // Priority 1, target "."; the first with alpn="h2", the second with ipv4hint=10.0.0.1.
    answer.extend_from_slice(b"\xc0\x0c\0\x41\0\x01\0\0\0\x3c\0\x0a\0\x01\0\0\x01\0\x03\x02h2");
    answer
        .extend_from_slice(b"\xc0\x0c\0\x41\0\x01\0\0\0\x3c\0\x0b\0\x01\0\0\x04\0\x04\x0a\0\0\x01");
    bench.answer(&sent, &answer);
    assert_eq!(bench.reply().answers.len(), 0);
    assert_eq!(bench.forwarder.stats().rebinding, 1);
}

#[test]
fn hosts_address_is_not_confused_by_equal_tokens_of_other_clients() {
    let mut bench = Bench::new(config(1));
    let other = Client { address: Ipv4Addr::new(10, 0, 0, 77), ..client(9) };
    let asked = octets(&query("www.example.", RecordType::A));
    let _ = bench.ask_from(client(9), UDP, &asked);
    let _ = bench.ask_from(other, UDP, &asked);
    let sent = bench.sent();
    bench.answer(&sent, &sent.address(60, [203, 0, 113, 1]));
    assert_eq!(bench.replies().len(), 2);
}
