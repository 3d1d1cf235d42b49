//! Conversations between hosts of some capture, carried out through the router of a configuration.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, IpHeaders, Ipv4Header, PacketBuilder, PacketBuilderStep};
use etherparse::{SlicedPacket, TransportSlice};
use link::{CaptureWriter, Direction};
use replay::{Arrival, Inside, Job, Replay, Side, Tally};
use support::commented;
use tempfile::TempDir;

mod support;

const HOST: [u8; 4] = [192, 168, 1, 7];
const OTHER_HOST: [u8; 4] = [192, 168, 1, 8];
const SERVER: [u8; 4] = [9, 9, 9, 9];
/// What the first and the second inside host of a capture become on the LAN of [`CONFIG`].
const FIRST: [u8; 4] = [10, 7, 0, 2];
const SECOND: [u8; 4] = [10, 7, 0, 3];
const EXTERNAL: [u8; 4] = [198, 51, 100, 2];

const CONFIG: &str = r#"
[wan]
link = "wan0"
mode = "static"
address = "198.51.100.2/24"
gateway = "198.51.100.1"
[[lan]]
name = "home"
link = "lan0"
address = "10.7.0.1/24"
[[forward]]
protocol = "tcp"
port = 8080
to = "10.7.0.2:80"
"#;

const BOTH: Arrival = Arrival::Rewritten { inside: Inside::Private, only: None };

fn between(source: [u8; 4], destination: [u8; 4]) -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8]).ipv4(source, destination, 64)
}

fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    between(from.0, to.0).udp(from.1, to.1).write(&mut frame, payload).unwrap();
    frame
}

/// A segment with these flags, S, A or both, and sequence and acknowledgement number.
fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: &str, (seq, ack): (u32, u32)) -> Vec<u8> {
    let mut segment = between(from.0, to.0).tcp(from.1, to.1, seq, 4000);
    if flags.contains('S') {
        segment = segment.syn();
    }
    if flags.contains('A') {
        segment = segment.ack(ack);
    }
    let mut frame = Vec::new();
    segment.write(&mut frame, b"").unwrap();
    frame
}

fn ping(from: [u8; 4], to: [u8; 4], id: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    between(from, to).icmpv4_echo_request(id, 1).write(&mut frame, b"hello").unwrap();
    frame
}

fn pong(from: [u8; 4], to: [u8; 4], id: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    between(from, to).icmpv4_echo_reply(id, 1).write(&mut frame, b"hello").unwrap();
    frame
}

/// What `by` says about a packet that does not get on.
fn unreachable(by: [u8; 4], about: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host);
    let to = *about[26..30].first_chunk::<4>().unwrap();
    between(by, to).icmpv4(kind).write(&mut frame, &about[14..42]).unwrap();
    frame
}

/// The two fragments of a frame.
fn halves(frame: &[u8]) -> [Vec<u8>; 2] {
    let (whole, payload) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    let (first, second) = payload.split_at(payload.len() / 16 * 8);
    [(first, 0, true), (second, first.len() / 8, false)].map(|(piece, offset, more)| {
        let mut header = whole.clone();
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = (offset as u16).try_into().unwrap();
        header.total_len = (header.header_len() + piece.len()) as u16;
        header.header_checksum = header.calc_header_checksum();
        let mut part = frame[..14].to_vec();
        header.write_raw(&mut part).unwrap();
        part.extend_from_slice(piece);
        part
    })
}

/// Replays frames, a millisecond apart, and returns what became of each.
fn play(frames: &[Vec<u8>], arrival: Arrival) -> (Tally, Vec<(Vec<u8>, String)>) {
    let folder = TempDir::new().unwrap();
    let [input, out] = ["in.pcapng", "out.pcapng"].map(|name| folder.path().join(name));
    let mut writer = CaptureWriter::new(File::create(&input).unwrap(), "made").unwrap();
    for (index, frame) in frames.iter().enumerate() {
        let time = Duration::from_secs(1_700_000_000) + Duration::from_millis(index as u64);
        writer.write(time, Direction::Inbound, frame).unwrap();
    }
    writer.flush().unwrap();
    let tally = replay(&input, arrival, &out, 1);
    let frames = commented(&out);
    frames.iter().for_each(|(frame, _)| check(frame));
    (tally, frames)
}

fn replay(input: &Path, arrival: Arrival, out: &Path, seed: u64) -> Tally {
    let file: Box<dyn Write> = Box::new(File::create(out).unwrap());
    let writer = CaptureWriter::new(file, "replay").unwrap();
    let config = config::parse("a test", CONFIG).unwrap();
    let mut replay = Replay::new(Some(config), Some(writer)).with_seed(seed);
    let run = replay.run(Job { path: input, arrival, loops: 1 }).unwrap();
    replay.finish().unwrap();
    assert_eq!(run.tally.violation(), None);
    run.tally
}

/// Every checksum of a frame is right, as etherparse computes them.
fn check(frame: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(ip) = sliced.net.as_ref().and_then(|net| net.ipv4_ref()) else { return };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    match sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let right = tcp.calc_checksum_ipv4(header.source, header.destination).unwrap();
            assert_eq!(tcp.checksum(), right);
        }
        Some(TransportSlice::Udp(udp)) => {
            let right = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
            assert_eq!(udp.checksum(), right);
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
        }
        _ => {}
    }
}

/// The ends of a TCP or UDP packet; of a ping the identifier as both ports.
fn ends(frame: &[u8]) -> [([u8; 4], u16); 2] {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let header = sliced.net.as_ref().unwrap().ipv4_ref().unwrap().header();
    let (from, to) = match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
        TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
        TransportSlice::Icmpv4(icmp) => {
            let id = u16::from_be_bytes(*icmp.bytes5to8().first_chunk().unwrap());
            (id, id)
        }
        other => panic!("{other:?}"),
    };
    [(header.source(), from), (header.destination(), to)]
}

const OUT: &str = "forward lan0 > wan0";
const IN: &str = "forward wan0 > lan0";

#[test]
fn a_connection_passes_in_both_directions() {
    let (client, server) = ((HOST, 40_000), (SERVER, 443));
    let frames = [
        tcp(client, server, "S", (100, 0)),
        tcp(server, client, "SA", (500, 101)),
        tcp(client, server, "A", (101, 501)),
        tcp(server, client, "A", (501, 101)),
    ];
    let (tally, frames) = play(&frames, BOTH);
    assert_eq!((tally.forwarded, tally.flows_opened, tally.flows), (4, 1, 1));
    let comments: Vec<_> = frames.iter().map(|(_, comment)| comment.as_str()).collect();
    assert_eq!(comments, [OUT, IN, OUT, IN]);
    let [[from, to], [back_from, back_to]] = [&frames[0], &frames[1]].map(|f| ends(&f.0));
    assert_eq!((from.0, to), (EXTERNAL, server));
    assert_eq!((back_from, back_to), (server, (FIRST, client.1)));
}

#[test]
fn answers_go_to_the_port_that_the_router_chose() {
    // Both hosts use the same port, so one of them is given another.
    let server = (SERVER, 53);
    let frames = [
        udp((HOST, 40_000), server, b"one"),
        udp((OTHER_HOST, 40_000), server, b"two"),
        udp(server, (OTHER_HOST, 40_000), b"to two"),
        udp(server, (HOST, 40_000), b"to one"),
        // Another server knows the second host as well.
        ping(OTHER_HOST, SERVER, 7),
        ping(HOST, SERVER, 7),
        pong(SERVER, HOST, 7),
        pong(SERVER, OTHER_HOST, 7),
    ];
    let (tally, frames) = play(&frames, BOTH);
    assert_eq!((tally.forwarded, tally.flows_opened), (8, 4), "{tally}");
    let ends: Vec<_> = frames.iter().map(|(frame, _)| ends(frame)).collect();
    assert_ne!(ends[0][0].1, ends[1][0].1, "the external ports differ");
    assert_eq!(ends[2][1], (SECOND, 40_000));
    assert_eq!(ends[3][1], (FIRST, 40_000));
    assert_ne!(ends[4][0].1, ends[5][0].1, "the external identifiers differ");
    assert_eq!([ends[6][1], ends[7][1]], [(FIRST, 7), (SECOND, 7)]);
}

#[test]
fn errors_from_either_side_find_the_flow_that_they_are_about() {
    let (client, server) = ((HOST, 40_000), (SERVER, 4000));
    let (question, answer) = (udp(client, server, b"to them"), udp(server, client, b"to you"));
    let frames = [
        udp((OTHER_HOST, 40_000), server, b"takes the port"),
        question.clone(),
        unreachable([9, 9, 1, 1], &question),
        answer.clone(),
        unreachable(HOST, &answer),
    ];
    let (tally, frames) = play(&frames, BOTH);
    assert_eq!(tally.forwarded, 5, "{tally} {:?}", tally.dropped);
    let [inward, outward] = [&frames[2].0, &frames[4].0];
    assert_eq!(frames[2].1, IN);
    assert_eq!(frames[4].1, OUT);
    // Outer addresses at 26, those of the packet in the error at 54, its ports behind.
    assert_eq!((&inward[26..30], &inward[30..34]), (&[9, 9, 1, 1][..], &SECOND[..]));
    assert_eq!((&inward[54..58], &inward[58..62]), (&SECOND[..], &SERVER[..]));
    assert_eq!(inward[62..64], client.1.to_be_bytes());
    assert_eq!((&outward[26..30], &outward[30..34]), (&EXTERNAL[..], &SERVER[..]));
    assert_eq!((&outward[54..58], &outward[58..62]), (&SERVER[..], &EXTERNAL[..]));
    assert_eq!(outward[64..66], frames[1].0[34..36], "the port that stands for the client's");
}

#[test]
fn fragments_pass_in_both_directions() {
    let (client, server) = ((HOST, 40_000), (SERVER, 4000));
    let question = halves(&udp(client, server, &[5; 400]));
    let answer = halves(&udp(server, client, &[6; 400]));
    let (tally, frames) = play(&[question, answer].concat(), BOTH);
    assert_eq!((tally.forwarded, tally.reassembled, tally.flows_opened), (2, 2, 1), "{tally}");
    // Whether they leave whole or in fragments is the router's business; the ports are in what comes first.
    let firsts = [OUT, IN].map(|way| &frames.iter().find(|(_, comment)| comment == way).unwrap().0);
    let ends = firsts.map(|first| [&first[26..30], &first[30..34], &first[34..36], &first[36..38]]);
    let ports = [client.1, server.1].map(u16::to_be_bytes);
    assert_eq!((ends[0][0], ends[0][1], ends[0][3]), (&EXTERNAL[..], &SERVER[..], &ports[1][..]));
    assert_eq!(ends[1], [&SERVER[..], &FIRST, &ports[1], &ports[0]]);
}

#[test]
fn a_client_outside_reaches_what_is_forwarded_and_no_more() {
    let (client, web, ssh) = ((SERVER, 40_000), (HOST, 80), (HOST, 22));
    let frames = [
        tcp(client, web, "S", (100, 0)),
        tcp(web, client, "SA", (500, 101)),
        tcp(client, web, "A", (101, 501)),
        tcp(client, ssh, "S", (100, 0)),
    ];
    let (tally, frames) = play(&frames, BOTH);
    assert_eq!((tally.forwarded, tally.dropped["no-mapping"]), (3, 1), "{tally}");
    assert_eq!(ends(&frames[0].0), [client, (FIRST, 80)]);
    assert_eq!(ends(&frames[1].0)[0], (EXTERNAL, 8080));
    assert_eq!(ends(&frames[3].0)[1], (EXTERNAL, 22), "it arrives at the router's address");
}

#[test]
fn arp_and_broadcasts_speak_of_the_lan() {
    let mut question = [&[0xff; 6][..], &[2; 6], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[2; 6]].concat();
    for part in [&HOST[..], &[0; 6], &OTHER_HOST] {
        question.extend_from_slice(part);
    }
    let mut everyone = udp((HOST, 137), ([192, 168, 1, 255], 137), b"who?");
    everyone[..6].copy_from_slice(&[0xff; 6]);
    let (tally, frames) = play(&[question, everyone], BOTH);
    assert_eq!(tally.punted["arp"], 1);
    let arp = &frames[0].0;
    assert_eq!((&arp[28..32], &arp[38..42]), (&FIRST[..], &SECOND[..]));
    assert_eq!(arp[6..12], arp[22..28], "sent by the station that it speaks of");
    assert_eq!(ends(&frames[1].0)[1].0, [10, 7, 0, 255]);
    assert!(frames[1].1.starts_with("drop"), "{}", frames[1].1);
}

#[test]
fn the_senders_of_one_side_can_be_played_alone() {
    let (client, server) = ((HOST, 40_000), (SERVER, 4000));
    let frames = [udp(client, server, b"to them"), udp(server, client, b"to you")];
    let only = |side| Arrival::Rewritten { inside: Inside::Private, only: Some(side) };
    let (lan, _) = play(&frames, only(Side::Lan));
    assert_eq!((lan.frames, lan.forwarded, lan.skipped["sent by the other side"]), (1, 1, 1));
    let (wan, _) = play(&frames, only(Side::Wan));
    assert_eq!((wan.frames, wan.dropped["no-mapping"]), (1, 1), "nobody asked");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_other_ports() {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("in.pcapng");
    let mut writer = CaptureWriter::new(File::create(&input).unwrap(), "made").unwrap();
    for host in 0..50 {
        let frame = udp(([192, 168, 1, host], 40_000), (SERVER, 4000), b"hello");
        writer.write(Duration::from_secs(1), Direction::Inbound, &frame).unwrap();
    }
    writer.flush().unwrap();
    let bytes = |seed| {
        let out = folder.path().join("out.pcapng");
        let tally = replay(&input, BOTH, &out, seed);
        assert_eq!(tally.forwarded, 50);
        std::fs::read(out).unwrap()
    };
    assert!(bytes(1) == bytes(1));
    assert!(bytes(1) != bytes(2));
}
