//! What passes through unchanged, and what does not fit.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::bench::{Bench, Dnssec, TCP, UDP, a, client, config, name, octets, query, with_edns};

/// A query for `www.example` with any type, class, flags and additional records.
fn raw(flags: u16, rtype: u16, class: u16, additional: &[u8]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34];
    message.extend_from_slice(&flags.to_be_bytes());
    message.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(!additional.is_empty())]);
    message.extend_from_slice(b"\x03wWw\x07exAmple\x00");
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&class.to_be_bytes());
    message.extend_from_slice(additional);
    message
}

/// Its answer: the question repeated, one record of unknown type with unknown data.
fn raw_answer(query: &[u8], flags: u16, rtype: u16, tail: &[u8]) -> Vec<u8> {
    let mut message = query[..12 + 13 + 4].to_vec();
    message[2..4].copy_from_slice(&(flags | 0x8000).to_be_bytes());
    message[6..12].copy_from_slice(&[0, 1, 0, 0, 0, u8::from(!tail.is_empty())]);
    message.extend_from_slice(b"\xc0\x0c");
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(b"\x00\x01\x00\x00\x00\x3c\x00\x04\xff\xfe\x00\xc0");
    message.extend_from_slice(tail);
    message
}

fn without_id(message: &[u8]) -> &[u8] {
    &message[2..]
}

#[test]
fn dn1_unknown_types_and_classes_pass_octet_for_octet() {
    for (rtype, class) in [(65_280, 1), (99, 3), (1, 4), (261, 65_281), (0, 1)] {
        let mut bench = Bench::new(config(1));
        let query = raw(0x0100, rtype, class, &[]);
        let _ = bench.ask_from(client(9), UDP, &query);
        let sent = bench.sent();
        assert_eq!(without_id(&sent.octets), without_id(&query));
        let answer = raw_answer(&sent.octets, 0x0180, rtype, &[]);
        bench.answer(&sent, &answer);
        let reply = bench.reply_octets();
        assert_eq!(reply[..2], query[..2]);
        assert_eq!(without_id(&reply), without_id(&answer));
    }
}

#[test]
fn dn2_every_header_flag_passes_both_ways() {
    for flags in [0x0000, 0x0110, 0x0120, 0x0140, 0x0170, 0x07f0] {
        let mut bench = Bench::new(config(1));
        let query = raw(flags, 1, 1, &[]);
        let _ = bench.ask_from(client(9), UDP, &query);
        let sent = bench.sent();
        assert_eq!(without_id(&sent.octets), without_id(&query), "{flags:04x}");
        let answer = raw_answer(&sent.octets, 0x05f0, 1, &[]);
        bench.answer(&sent, &answer);
        assert_eq!(without_id(&bench.reply_octets()), without_id(&answer));
    }
}

#[test]
fn dn2_dn29_answers_with_and_without_do_and_cd_are_kept_apart() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    let signed = with_edns(query("www.example.", RecordType::A), 1232, Dnssec::Wanted);
    let _ = bench.ask_from(client(9), UDP, &octets(&signed));
    let sent = bench.sent();
    assert!(sent.message().edns.expect("OPT passes").flags().dnssec_ok);
    let mut unchecked = query("www.example.", RecordType::A);
    unchecked.metadata.checking_disabled = true;
    let _ = bench.ask_from(client(9), UDP, &octets(&unchecked));
    assert!(bench.sent().message().metadata.checking_disabled);
}

#[test]
fn dn29_ad_flag_of_a_cached_answer_is_kept() {
    let mut bench = Bench::new(config(1));
    let signed = octets(&with_edns(query("www.example.", RecordType::A), 1232, Dnssec::Wanted));
    let _ = bench.ask_from(client(9), UDP, &signed);
    let sent = bench.sent();
    let mut response = sent.response();
    response.metadata.authentic_data = true;
    response.add_answer(a(&name("www.example."), 60, [203, 0, 113, 1]));
    bench.answer(&sent, &octets(&response));
    assert!(bench.reply().metadata.authentic_data);
    let _ = bench.ask_from(client(9), UDP, &signed);
    let reply = bench.reply();
    bench.not_sent();
    assert!(reply.metadata.authentic_data);
    assert!(reply.edns.expect("EDNS is answered with EDNS").flags().dnssec_ok);
}

#[test]
fn dn4_tcp_query_goes_out_over_tcp_only() {
    let mut bench = Bench::new(config(1));
    let _ = bench.ask_from(client(9), TCP, &octets(&query("www.example.", RecordType::A)));
    let sent = bench.sent();
    assert_eq!(sent.source_port, None);
    bench.answer(&sent, &sent.address(60, [203, 0, 113, 1]));
    let replies = bench.replies();
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].transport, TCP);
}

/// An answer with so many addresses that it takes about 16 octets each.
fn large_answer(sent: &crate::bench::Sent, addresses: u8) -> Vec<u8> {
    let mut response = sent.response();
    for last in 0..addresses {
        response.add_answer(a(&name("www.example."), 60, [203, 0, 113, last]));
    }
    octets(&response)
}

#[test]
fn dn5_answer_larger_than_the_client_takes_is_truncated_not_cut() {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::A);
    let sent = bench.sent();
    bench.answer(&sent, &large_answer(&sent, 50));
    let reply = bench.reply();
    assert!(reply.metadata.truncation);
    assert_eq!((reply.queries.len(), reply.answers.len()), (1, 0));
    // From the cache the same, and whole over TCP.
    bench.ask("www.example.", RecordType::A);
    assert!(bench.reply().metadata.truncation);
    let _ = bench.ask_from(client(9), TCP, &octets(&query("www.example.", RecordType::A)));
    assert_eq!(bench.reply().answers.len(), 50);
    bench.not_sent();
}

#[test]
fn dn5_tc_of_the_server_reaches_the_client_when_tcp_fails() {
    let mut bench = Bench::new(config(1));
    bench.ask("www.example.", RecordType::A);
    let sent = bench.sent();
    let mut response = sent.response();
    response.metadata.truncation = true;
    bench.answer(&sent, &octets(&response));
    assert_eq!(bench.sent().source_port, None);
    bench.no_reply();
    bench.pass(std::time::Duration::from_secs(4));
    assert!(bench.reply().metadata.truncation);
    assert_eq!(bench.forwarder.outstanding(), 0);
}

#[test]
fn dn6_size_of_the_client_is_respected_up_to_our_own_cap() {
    for (payload, addresses, truncated) in
        [(1232, 50, false), (800, 50, true), (4096, 70, false), (4096, 90, true)]
    {
        let mut bench = Bench::new(config(1));
        let query = with_edns(query("www.example.", RecordType::A), payload, Dnssec::Ignored);
        let _ = bench.ask_from(client(9), UDP, &octets(&query));
        let sent = bench.sent();
        bench.answer(&sent, &large_answer(&sent, addresses));
        let octets = bench.reply_octets();
        assert!(octets.len() <= usize::from(payload.min(1232)));
        let reply = Message::from_vec(&octets).expect("a sound reply");
        assert_eq!(reply.metadata.truncation, truncated, "{payload} {addresses}");
    }
}

#[test]
fn dn6_payloads_to_4096_pass_where_configured() {
    let mut config = config(1);
    config.udp_payload_max = dns::PAYLOAD_MAX;
    let mut bench = Bench::new(config);
    let query = with_edns(query("www.example.", RecordType::A), 4096, Dnssec::Ignored);
    let _ = bench.ask_from(client(9), UDP, &octets(&query));
    let sent = bench.sent();
    bench.answer(&sent, &large_answer(&sent, 150));
    let length = bench.reply_octets().len();
    assert!(length > 2400, "{length}");
}

#[test]
fn dn6_1232_octets_are_advertised_to_servers_and_clients() {
    let mut bench = Bench::new(config(1));
    let query = octets(&with_edns(query("www.example.", RecordType::A), 4096, Dnssec::Ignored));
    let _ = bench.ask_from(client(9), UDP, &query);
    let sent = bench.sent();
    assert_eq!(sent.message().edns.expect("OPT passes").max_payload(), 1232);
    bench.answer(&sent, &sent.address(60, [203, 0, 113, 1]));
    bench.reply_octets();
    let _ = bench.ask_from(client(9), UDP, &query);
    assert_eq!(bench.reply().edns.expect("EDNS is answered with EDNS").max_payload(), 1232);
}

#[test]
fn dn6_cached_answer_has_no_opt_for_a_client_without_edns() {
    let mut bench = Bench::new(config(1));
    let query = octets(&with_edns(query("www.example.", RecordType::A), 1232, Dnssec::Ignored));
    let _ = bench.ask_from(client(9), UDP, &query);
    let sent = bench.sent();
    let response = Message::from_vec(&sent.address(60, [203, 0, 113, 1])).expect("sound");
    bench.answer(&sent, &octets(&with_edns(response, 1232, Dnssec::Ignored)));
    assert!(bench.reply().edns.is_some());
    bench.ask("www.example.", RecordType::A);
    let reply = bench.reply();
    assert_eq!((reply.answers.len(), reply.edns.is_some()), (1, false));
}

const TSIG: &[u8] = b"\x03kEy\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x04\x01\x02\x03\x04";

#[test]
fn dn7_signed_messages_pass_octet_for_octet_but_the_id() {
    let mut bench = Bench::new(config(1));
    let opt = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00";
    let mut query = raw(0x0100, 1, 1, &[&opt[..], TSIG].concat());
    query[11] = 2;
    let _ = bench.ask_from(client(9), UDP, &query);
    let sent = bench.sent();
    assert_eq!(without_id(&sent.octets), without_id(&query));
    let mut answer = raw_answer(&sent.octets, 0x0180, 1, TSIG);
    // A server may spell the question its own way; the signature covers that.
    answer[13] = b'W';
    bench.answer(&sent, &answer);
    let reply = bench.reply_octets();
    assert_eq!(reply[..2], query[..2]);
    assert_eq!(without_id(&reply), without_id(&answer));
    let _ = bench.ask_from(client(9), UDP, &query);
    bench.sent();
    assert_eq!(bench.forwarder.cache_len(), 0);
}

#[test]
fn dn7_update_with_tsig_passes_but_not_for_local_zones() {
    let mut bench = Bench::new(config(1));
    let update = raw(0x2800, 6, 1, TSIG);
    let _ = bench.ask_from(client(9), UDP, &update);
    assert_eq!(without_id(&bench.sent().octets), without_id(&update));
    let mut local = query("home.arpa.", RecordType::SOA);
    local.metadata.op_code = hickory_proto::op::OpCode::Update;
    let _ = bench.ask_from(client(9), UDP, &octets(&local));
    bench.not_sent();
    assert_eq!(bench.reply().metadata.response_code, ResponseCode::Refused);
}

#[test]
fn question_is_answered_in_the_letters_of_each_client() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    let asked = octets(&query("WwW.eXample.", RecordType::A));
    let _ = bench.ask_from(client(9), UDP, &asked);
    let reply = bench.reply_octets();
    assert_eq!(reply[12..asked.len()], asked[12..]);
}

#[test]
fn client_subnet_is_never_answered_from_the_cache() {
    let mut bench = Bench::new(config(1));
    bench.learn("www.example.", 60);
    let subnet = b"\0\0\x29\x10\0\0\0\0\0\0\x0b\0\x08\0\x07\0\x01\x18\0\x0a\0\0";
    let mut query = octets(&query("www.example.", RecordType::A));
    query[11] = 1;
    query.extend_from_slice(subnet);
    let _ = bench.ask_from(client(9), UDP, &query);
    let sent = bench.sent();
    assert!(sent.octets.ends_with(&subnet[5..]));
}
