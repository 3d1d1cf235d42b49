//! Messages that are none, from both sides.

use dns::{Disposition, MESSAGE_MAX, UpstreamOrigin};
use hickory_proto::rr::RecordType;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::bench::{Bench, TCP, UDP, client, config, octets, query, server};

const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;

const HEADER: [u8; 12] = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];

fn with(header: [u8; 12], rest: &[u8]) -> Vec<u8> {
    [&header[..], rest].concat()
}

fn counted(questions: u8, answers: u8, authorities: u8, additionals: u8) -> [u8; 12] {
    let mut header = HEADER;
    (header[5], header[7], header[9], header[11]) = (questions, answers, authorities, additionals);
    header
}

#[test]
fn dn3_every_malformed_query_is_answered_with_its_id() {
    let question = b"\x01a\x02ex\x00\x00\x01\x00\x01";
    let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    let cases: &[(&str, Vec<u8>, u8)] = &[
        ("no question", with(counted(0, 0, 0, 0), &[]), FORMERR),
        ("two questions", with(counted(2, 0, 0, 0), &[&question[..], question].concat()), FORMERR),
        ("question announced only", with(HEADER, &[]), FORMERR),
        ("name without end", with(HEADER, b"\x01a"), FORMERR),
        ("no type", with(HEADER, b"\x01a\x00"), FORMERR),
        ("half a class", with(HEADER, b"\x01a\x00\x00\x01\x00"), FORMERR),
        ("pointer to itself", with(HEADER, b"\xc0\x0c\x00\x01\x00\x01"), FORMERR),
        ("pointer forward", with(HEADER, b"\xc0\x0e\x01a\x00\x00\x01\x00\x01"), FORMERR),
        ("pointer loop", with(HEADER, b"\x01a\xc0\x0c\x00\x01\x00\x01"), FORMERR),
        ("pointer into the header", with(HEADER, b"\xc0\x00\x00\x01\x00\x01"), FORMERR),
        ("half a pointer", with(HEADER, b"\xc0"), FORMERR),
        ("reserved label type", with(HEADER, b"\x41a\x00\x00\x01\x00\x01"), FORMERR),
        ("endless name", with(HEADER, &[b'\x01'; 600]), FORMERR),
        ("octets behind", with(HEADER, &[&question[..], b"\x00"].concat()), FORMERR),
        ("record announced only", with(counted(1, 0, 0, 1), question), FORMERR),
        ("answers without end", with(counted(1, 255, 0, 0), question), FORMERR),
        (
            "record longer than the message",
            with(
                counted(1, 0, 0, 1),
                &[&question[..], b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\xff\xff"].concat(),
            ),
            FORMERR,
        ),
        (
            "pointer loop in a record",
            with(
                counted(1, 0, 0, 1),
                &[&question[..], b"\xc0\x15\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00"].concat(),
            ),
            FORMERR,
        ),
        ("two OPT", with(counted(1, 0, 0, 2), &[&question[..], opt, opt].concat()), FORMERR),
        ("OPT as answer", with(counted(1, 1, 0, 0), &[&question[..], opt].concat()), FORMERR),
        (
            "option longer than OPT",
            with(
                counted(1, 0, 0, 1),
                &[&question[..], b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x08"]
                    .concat(),
            ),
            FORMERR,
        ),
        ("inverse query", with([0, 9, 8, 0, 0, 0, 0, 1, 0, 0, 0, 0], &[]), NOTIMP),
        ("status", with([0, 9, 0x10, 0, 0, 1, 0, 0, 0, 0, 0, 0], question), NOTIMP),
    ];
    for (what, octets, rcode) in cases {
        for transport in [UDP, TCP] {
            let mut bench = Bench::new(config(1));
            let disposition = bench.ask_from(client(9), transport, octets);
            assert_eq!(disposition, Disposition::Accepted, "{what}");
            let reply = bench.reply_octets();
            assert_eq!(reply[..2], octets[..2], "{what}");
            assert_eq!((reply[2] & 0x80, reply[3] & 0x0f), (0x80, *rcode), "{what}");
            bench.not_sent();
        }
    }
}

#[test]
fn less_than_a_header_and_responses_are_met_with_silence() {
    let mut bench = Bench::new(config(1));
    for length in 0..12 {
        let disposition = bench.ask_from(client(9), UDP, &HEADER[..length]);
        assert_eq!(disposition, Disposition::Ignored);
    }
    let mut response = octets(&query("www.example.", RecordType::A));
    response[2] |= 0x80;
    assert_eq!(bench.ask_from(client(9), UDP, &response), Disposition::Ignored);
    bench.no_reply();
}

#[test]
fn dn3_malformed_answer_is_the_servers_failure_and_ends_in_servfail() {
    for tail in [
        // A pointer loop as owner, as target of an alias, an address cut off.
        &b"\xc0\x1d\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x01\x02\x03\x04"[..],
        b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x29",
        b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x01\x02",
        b"",
    ] {
        let mut bench = Bench::new(config(2));
        bench.ask("www.example.", RecordType::A);
        for _ in 0..2 {
            let sent = bench.sent();
            let mut answer = octets(&sent.response());
            answer[7] = 1;
            answer.extend_from_slice(tail);
            bench.answer(&sent, &answer);
        }
        let reply = bench.reply_octets();
        assert_eq!(reply[3] & 0x0f, 2);
        assert_eq!(bench.forwarder.cache_len(), 0);
    }
}

#[test]
fn error_without_question_is_no_answer_but_ends_the_attempt() {
    let mut bench = Bench::new(config(2));
    bench.ask("www.example.", RecordType::A);
    let first = bench.sent();
    let mut complaint = first.octets[..12].to_vec();
    (complaint[2], complaint[3], complaint[5]) = (0x80, FORMERR, 0);
    bench.answer(&first, &complaint);
    assert_ne!(bench.sent().server, first.server);
}

#[test]
fn longest_query_is_handled() {
    let mut bench = Bench::new(config(1));
    let mut message = octets(&query("www.example.", RecordType::A));
    message.resize(MESSAGE_MAX, 0);
    let _ = bench.ask_from(client(9), TCP, &message);
    assert_eq!(bench.reply_octets()[3] & 0x0f, FORMERR);
}

/// Messages that are nearly right: a sound start, then anything.
fn nearly(start: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = start.len();
    (vec(any::<u8>(), 0..80), vec((0..length, any::<u8>()), 0..4), 0..=length).prop_map(
        move |(tail, changes, keep)| {
            let mut octets = start.clone();
            for (at, value) in changes {
                octets[at] = value;
            }
            octets.truncate(keep.max(length / 2));
            octets.extend_from_slice(&tail);
            octets
        },
    )
}

fn sound_query() -> Vec<u8> {
    let mut message = octets(&query("www.example.", RecordType::A));
    message.extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
    message[11] = 1;
    message
}

fn check_query(octets: &[u8]) {
    let mut bench = Bench::new(config(1));
    bench.forwarder.insert_host("web", [10, 0, 0, 5].into(), std::time::Duration::ZERO).ok();
    let disposition = bench.ask_from(client(9), UDP, octets);
    let (replies, sent) = (bench.replies(), bench.sent_all());
    match disposition {
        Disposition::Ignored => assert!(octets.len() < 12 || octets[2] & 0x80 != 0),
        Disposition::Accepted => assert_eq!(replies.len() + sent.len(), 1),
    }
    for reply in replies {
        assert!(reply.message.len() <= 1232 && reply.message[..2] == octets[..2]);
    }
}

/// Gives an answer with these octets behind the id to a query that waits, twice.
fn check_answer(rest: &[u8]) {
    let mut bench = Bench::new(config(1));
    let _ = bench.ask_from(client(9), UDP, &sound_query());
    let _ = bench.ask_from(client(8), UDP, &octets(&query("www.example.", RecordType::A)));
    let sent = bench.sent();
    let answer = [&sent.octets[..2], rest].concat();
    bench.answer(&sent, &answer);
    bench.forwarder.handle_upstream(UpstreamOrigin::Tcp { server: server(1) }, rest, bench.now);
    bench.pass(dns::QUERY_LIFETIME);
    assert_eq!(bench.replies().len(), 2);
    let _ = bench.ask_from(client(9), UDP, &sound_query());
    bench.pass(dns::QUERY_LIFETIME);
    assert_eq!(bench.replies().len(), 1);
    assert_eq!(bench.forwarder.outstanding(), 0);
}

#[test]
fn what_the_random_messages_start_from_is_sound() {
    let mut bench = Bench::new(config(1));
    let _ = bench.ask_from(client(9), UDP, &sound_query());
    let sent = bench.sent();
    bench.answer(&sent, &[&sent.octets[..2], &answer_rest()].concat());
    assert_eq!(bench.reply().answers.len(), 3);
    assert_eq!(bench.forwarder.cache_len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_octets_as_query_are_answered_or_refused(octets in vec(any::<u8>(), 0..300)) {
        check_query(&octets);
    }

    #[test]
    fn nearly_sound_queries_are_answered_or_refused(octets in nearly(sound_query())) {
        check_query(&octets);
    }

    #[test]
    fn any_octets_as_answer_leave_one_reply_for_each_client(rest in vec(any::<u8>(), 0..300)) {
        check_answer(&rest);
    }

    #[test]
    fn nearly_sound_answers_leave_one_reply_for_each_client(rest in nearly(answer_rest())) {
        check_answer(&rest);
    }
}

/// A sound answer with an alias, an address, a service record with hints, a SOA record and OPT, behind its id.
fn answer_rest() -> Vec<u8> {
    let mut message = octets(&query("www.example.", RecordType::A));
    (message[2], message[3], message[7], message[9], message[11]) = (0x81, 0x80, 3, 1, 1);
    message.extend_from_slice(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01h\xc0\x10");
    message.extend_from_slice(b"\xc0\x29\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xcb\x00\x71\x07");
    message.extend_from_slice(b"\xc0\x0c\x00\x41\x00\x01\x00\x00\x00\x3c\x00\x12\x00\x01\x00");
    message.extend_from_slice(b"\x00\x01\x00\x03\x02h2\x00\x04\x00\x04\xcb\x00\x71\x07");
    message.extend_from_slice(b"\xc0\x10\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x19");
    message.extend_from_slice(b"\x01n\xc0\x10\x00");
    message.extend_from_slice(&[0; 20]);
    message.extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
    message.split_off(2)
}
