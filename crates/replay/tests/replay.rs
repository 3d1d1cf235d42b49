//! The program as a whole, on captures made here.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use etherparse::{Ipv4Header, PacketBuilder, SlicedPacket};
use link::{CaptureWriter, Direction, read_frames};
use packet::DropReason;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use serde_json::Value;
use support::commented;
use tempfile::TempDir;

mod support;

const HOST: [u8; 4] = [192, 168, 1, 7];
const SERVER: [u8; 4] = [203, 0, 113, 80];

fn udp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), ttl: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8])
        .ipv4(source, destination, ttl)
        .udp(ports.0, ports.1)
        .write(&mut frame, b"payload")
        .unwrap();
    frame
}

/// Three packets of two flows out, an answer, a TTL that runs out, and something broken.
fn conversation() -> Vec<Vec<u8>> {
    vec![
        udp(HOST, SERVER, (5000, 4000), 64),
        udp(HOST, SERVER, (5000, 4000), 64),
        udp(HOST, SERVER, (5001, 4000), 64),
        udp(SERVER, HOST, (4000, 5000), 64),
        udp(HOST, SERVER, (5000, 4000), 1),
        vec![1, 2, 3],
    ]
}

fn capture(folder: &TempDir, name: &str, frames: &[Vec<u8>]) -> PathBuf {
    let path = folder.path().join(name);
    let mut writer = CaptureWriter::new(File::create(&path).unwrap(), "made").unwrap();
    for (index, frame) in frames.iter().enumerate() {
        let time = Duration::from_secs(1_700_000_000) + Duration::from_millis(index as u64);
        writer.write(time, Direction::Inbound, frame).unwrap();
    }
    writer.flush().unwrap();
    path
}

/// A configuration with a LAN that suits [`HOST`], and what else it is to say.
fn config(folder: &TempDir, more: &str) -> String {
    let path = folder.path().join("config.toml");
    let text = format!(
        r#"
[wan]
link = "wan0"
[[lan]]
name = "home"
link = "lan0"
address = "192.168.1.1/24"
{more}
"#
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A question for the station of an address.
fn arp((sender, station): ([u8; 4], [u8; 6]), target: [u8; 4]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &station, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    for part in [&station[..], &sender, &[0; 6], &target] {
        frame.extend_from_slice(part);
    }
    frame
}

fn replay(arguments: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_replay")).args(arguments).arg(path).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A report without what differs from one replay to the next.
fn without_ticks(mut report: Value) -> Value {
    let runs = report["runs"].as_array_mut().unwrap().iter_mut();
    let runs = runs.map(|run| run.as_object_mut().unwrap()).collect::<Vec<_>>();
    for measured in runs {
        assert!(measured.remove("ticks").unwrap().as_u64().unwrap() > 0);
        assert!(measured.remove("ticks_per_packet").unwrap().as_f64().unwrap() > 0.0);
    }
    let total = report.as_object_mut().unwrap();
    assert!(total.remove("ticks").is_some() && total.remove("ticks_per_packet").is_some());
    assert!(["tsc", "ns"].contains(&total.remove("ticks_unit").unwrap().as_str().unwrap()));
    report
}

#[test]
fn frames_from_the_lan_are_forwarded_answered_and_dropped() {
    let folder = TempDir::new().unwrap();
    let report =
        json(&replay(&["--from", "lan", "--json"], &capture(&folder, "a.pcapng", &conversation())));
    let run = &report["runs"][0];
    assert_eq!((&run["from"], &run["frames"]), (&"lan".into(), &6.into()));
    assert_eq!(
        (&run["forwarded"], &run["replied"], &run["sent"]),
        (&3.into(), &1.into(), &4.into())
    );
    assert_eq!(run["dropped"]["source-spoofed"], 1, "the answer comes from the wrong side");
    assert_eq!(run["dropped"]["ethernet-truncated"], 1);
    assert_eq!(run["flows_opened"], 2);
    assert_eq!(report["violation"], Value::Null);
}

/// The part of a frame's IP payload from `begin` to `end`, as a fragment.
fn part(frame: &[u8], begin: usize, end: usize) -> Vec<u8> {
    let (mut header, payload) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    let end = end.min(payload.len());
    header.dont_fragment = false;
    header.more_fragments = end < payload.len();
    header.fragment_offset = ((begin / 8) as u16).try_into().unwrap();
    header.total_len = (header.header_len() + end - begin) as u16;
    header.header_checksum = header.calc_header_checksum();
    let mut part = frame[..14].to_vec();
    header.write_raw(&mut part).unwrap();
    part.extend_from_slice(&payload[begin..end]);
    part
}

#[test]
fn fragments_are_accounted_for_whole_or_not() {
    let folder = TempDir::new().unwrap();
    let mut big = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8])
        .ipv4(HOST, SERVER, 64)
        .udp(5000, 4000)
        .write(&mut big, &[7; 4000])
        .unwrap();
    let mut other = big.clone();
    other[14 + 5] = 99;
    let frames = [
        part(&big, 2960, 4008),
        part(&big, 0, 1480),
        part(&big, 1480, 2960),
        part(&other, 0, 1480),
        part(&other, 1472, 2952),
        part(&other, 2960, 4008),
        // Waits to the end.
        part(&big, 0, 1480),
    ];
    let path = capture(&folder, "a.pcapng", &frames);
    let report = json(&replay(&["--from", "lan", "--json"], &path));
    let run = &report["runs"][0];
    assert_eq!((&run["forwarded"], &run["sent"]), (&1.into(), &3.into()), "{run}");
    assert_eq!((&run["reassembled"], &run["waiting"]), (&2.into(), &1.into()));
    assert_eq!(
        (&run["fragments_added"], &run["dropped"]["fragment-overlap"]),
        (&2.into(), &3.into())
    );
    assert_eq!(report["violation"], Value::Null);
}

#[test]
fn both_sides_are_separate_runs() {
    let folder = TempDir::new().unwrap();
    let path = capture(&folder, "a.pcapng", &conversation());
    let report = json(&replay(&["--json"], &path));
    let sides: Vec<&Value> =
        report["runs"].as_array().unwrap().iter().map(|run| &run["from"]).collect();
    assert_eq!(sides, ["lan", "wan"]);
    assert_eq!(report["total"]["frames"], 12);
    assert!(report["runs"][1]["forwarded"].as_u64().unwrap() > 0);
}

#[test]
fn two_replays_are_equal_and_loops_meet_the_flows_of_the_first() {
    let folder = TempDir::new().unwrap();
    let path = capture(&folder, "a.pcapng", &conversation());
    let counts = |arguments: &[&str]| without_ticks(json(&replay(arguments, &path)));
    assert_eq!(counts(&["--json"]), counts(&["--json"]));
    let looped = json(&replay(&["--from", "lan", "--loops", "10", "--json"], &path));
    assert_eq!(
        (&looped["total"]["frames"], &looped["total"]["flows_opened"]),
        (&60.into(), &2.into())
    );
}

fn source_of(frame: &[u8]) -> [u8; 4] {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    sliced.net.unwrap().ipv4_ref().unwrap().header().source()
}

#[test]
fn every_frame_is_written_with_what_became_of_it() {
    let folder = TempDir::new().unwrap();
    let mut frames = conversation();
    frames.push(arp((HOST, [2, 0, 0, 0, 0, 9]), [192, 168, 1, 254]));
    let path = capture(&folder, "a.pcapng", &frames);
    let out = folder.path().join("out.pcapng");
    let output = replay(&["--from", "lan", "--out", out.to_str().unwrap()], &path);
    assert!(output.status.success());
    let frames = commented(&out);
    let comments: Vec<_> =
        frames.iter().map(|(_, comment)| comment.split(':').next().unwrap()).collect();
    let expected = [
        "forward lan0 > wan0",
        "forward lan0 > wan0",
        "forward lan0 > wan0",
        "drop source-spoofed on lan0",
        "reply on lan0",
        "drop ethernet-truncated on lan0",
        "punt arp on lan0",
    ];
    assert_eq!(comments, expected);
    assert_eq!(frames[3].1.split_once(": ").unwrap().1, DropReason::SourceSpoofed.sentence());
    let sources: Vec<_> = frames[..5].iter().map(|(frame, _)| source_of(frame)).collect();
    let (router, external) = ([192, 168, 1, 254], [198, 51, 100, 2]);
    assert_eq!(sources, [external, external, external, SERVER, router]);
    assert_eq!(frames[5].0, [1, 2, 3], "what is dropped is written as it came");
}

#[test]
fn what_leaves_is_written_with_the_time_at_which_it_does() {
    let folder = TempDir::new().unwrap();
    let path = capture(&folder, "a.pcapng", &conversation()[..2]);
    let out = folder.path().join("out.pcapng");
    let config = config(&folder, "[wan.shaper]\nupload = \"64kbit/s\"\noverhead = \"none\"");
    let arguments = ["--config", &config, "--from", "lan", "--loops", "20", "--out"];
    let output = replay(&[&arguments[..], &[out.to_str().unwrap()]].concat(), &path);
    assert!(output.status.success());
    let times: Vec<_> =
        read_frames(&out).unwrap().map(|frame| frame.unwrap().timestamp.as_millis()).collect();
    assert_eq!(times.len(), 40);
    assert!(times.is_sorted());
    assert_eq!((times[0], times[38]), (1_700_000_000_000, 1_700_000_019_019), "loops go on");
}

/// A pcap file of one frame with this link-layer type.
fn pcap(folder: &TempDir, name: &str, datalink: DataLink, frame: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    let header = PcapHeader { datalink, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(File::create(&path).unwrap(), header).unwrap();
    let packet = PcapPacket::new(Duration::ZERO, frame.len() as u32, frame);
    writer.write_packet(&packet).unwrap();
    path
}

#[test]
fn link_types_that_carry_ip_are_replayed() {
    let folder = TempDir::new().unwrap();
    let packet = &udp(HOST, SERVER, (5000, 4000), 64)[14..];
    let snap: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    let wifi = [&[8, 1][..], &[2; 20], &[0; 2], snap].concat();
    let tapped = [&[0, 0, 8, 0, 0, 0, 0, 0][..], &wifi].concat();
    pcap(&folder, "raw.pcap", DataLink::RAW, packet);
    pcap(&folder, "ppp.pcap", DataLink::PPP, &[&[0, 0x21], packet].concat());
    pcap(&folder, "wifi.pcap", DataLink::IEEE802_11, &[&wifi, packet].concat());
    pcap(&folder, "tap.pcap", DataLink::IEEE802_11_RADIOTAP, &[&tapped, packet].concat());
    let report = json(&replay(&["--from", "lan", "--json"], folder.path()));
    assert_eq!((&report["total"]["frames"], &report["total"]["forwarded"]), (&4.into(), &4.into()));
}

#[test]
fn a_link_type_that_is_not_supported_is_counted_and_said_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    capture(&folder, "a.pcapng", &conversation());
    pcap(&folder, "sensors.pcap", DataLink::IEEE802_15_4_NOFCS, &[0; 40]);
    let output = replay(&["--json"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let type_230 = "link-layer type 230 (IEEE802_15_4_NOFCS)";
    assert_eq!(report["total"]["skipped"][format!("{type_230} is not supported")], 2);
    assert_eq!(report["total"]["frames"], 12, "the others are replayed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        ["sensors.pcap", type_230, "raw IP"].iter().all(|words| said.contains(words)),
        "{said}"
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the program's time is the real one here")]
fn as_recorded_takes_as_long_as_the_recording_and_counts_the_same() {
    let folder = TempDir::new().unwrap();
    let path = capture(&folder, "a.pcapng", &conversation()[..3]);
    let timed = |speed: &str| {
        let begun = Instant::now();
        let arguments = ["--from", "lan", "--loops", "2", "--json", "--speed", speed];
        (without_ticks(json(&replay(&arguments, &path))), begun.elapsed())
    };
    let ((fast, _), (recorded, elapsed)) = (timed("flat-out"), timed("recorded"));
    assert_eq!(fast, recorded);
    // Twice two milliseconds, and a second between the loops.
    assert!(elapsed >= Duration::from_millis(1004), "{elapsed:?}");
}

#[test]
fn a_configuration_is_obeyed_its_shaper_included() {
    let folder = TempDir::new().unwrap();
    let path = capture(&folder, "a.pcapng", &conversation());
    let config = config(&folder, "[wan.shaper]\nupload = \"64kbit/s\"");
    let arguments = ["--config", &config, "--from", "lan", "--json"];
    let report = json(&replay(&arguments, &path));
    assert_eq!(report["total"]["forwarded"], 3);
    std::fs::write(&config, "[wan]\nlnk = 1\n").unwrap();
    let output = replay(&arguments, &path);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lnk"));
}

#[test]
fn a_capture_that_ends_early_is_replayed_as_far_as_it_goes() {
    let folder = TempDir::new().unwrap();
    let path = capture(&folder, "a.pcapng", &conversation());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let output = replay(&["--from", "lan", "--json"], &path);
    assert_eq!(json(&output)["total"]["frames"], 5);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a whole"));
}

#[test]
fn what_is_no_capture_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "notes").unwrap();
    assert_eq!(replay(&[], &path).status.code(), Some(1));
    assert_eq!(replay(&[], &folder.path().join("absent")).status.code(), Some(1));
    assert_eq!(replay(&["--loops", "0"], &path).status.code(), Some(2));
}
