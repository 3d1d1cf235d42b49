//! The program as a whole, on captures made here.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use etherparse::{Ipv4Header, PacketBuilder, SlicedPacket};
use link::{CaptureWriter, Direction, read_frames};
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use serde_json::Value;
use tempfile::TempDir;

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

fn replay(arguments: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_replay")).args(arguments).arg(path).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
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
    assert_eq!(replay(&["--json"], &path), replay(&["--json"], &path));
    let looped = json(&replay(&["--from", "lan", "--loops", "10", "--json"], &path));
    assert_eq!(
        (&looped["total"]["frames"], &looped["total"]["flows_opened"]),
        (&60.into(), &2.into())
    );
}

#[test]
fn what_leaves_is_written_translated() {
    let folder = TempDir::new().unwrap();
    let path = capture(&folder, "a.pcapng", &conversation());
    let out = folder.path().join("out.pcapng");
    let output = replay(&["--from", "lan", "--out", out.to_str().unwrap()], &path);
    assert!(output.status.success());
    let frames: Vec<_> = read_frames(&out).unwrap().map(Result::unwrap).collect();
    assert_eq!(frames.len(), 4);
    let sources: Vec<[u8; 4]> = frames
        .iter()
        .map(|frame| {
            let sliced = SlicedPacket::from_ethernet(&frame.data).unwrap();
            sliced.net.unwrap().ipv4_ref().unwrap().header().source()
        })
        .collect();
    assert_eq!(sources[..3], [[198, 51, 100, 2]; 3]);
    assert_eq!(sources[3], [192, 168, 1, 254], "the error comes from the router");
    let bytes = std::fs::read(&out).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("forward lan0 > wan0") && has("reply on lan0"));
}

#[test]
fn raw_ip_is_replayed_and_an_unsupported_link_type_is_counted() {
    let folder = TempDir::new().unwrap();
    for (name, datalink) in [("raw.pcap", DataLink::RAW), ("radio.pcap", DataLink::IEEE802_11)] {
        let header = PcapHeader { datalink, ..PcapHeader::default() };
        let file = File::create(folder.path().join(name)).unwrap();
        let mut writer = PcapWriter::with_header(file, header).unwrap();
        let packet = &udp(HOST, SERVER, (5000, 4000), 64)[14..];
        let packet = PcapPacket::new(Duration::ZERO, packet.len() as u32, packet);
        writer.write_packet(&packet).unwrap();
    }
    let report = json(&replay(&["--from", "lan", "--json"], folder.path()));
    assert_eq!((&report["total"]["frames"], &report["total"]["forwarded"]), (&1.into(), &1.into()));
    assert_eq!(report["total"]["skipped"]["link-layer type 105 is not supported"], 1);
}

#[test]
fn a_configuration_is_obeyed_its_shaper_included() {
    let folder = TempDir::new().unwrap();
    let path = capture(&folder, "a.pcapng", &conversation());
    let config = folder.path().join("config.toml");
    let text = r#"
[wan]
link = "wan0"
[wan.shaper]
upload = "64kbit/s"
[[lan]]
name = "home"
link = "lan0"
address = "192.168.1.1/24"
"#;
    std::fs::write(&config, text).unwrap();
    let arguments = ["--config", config.to_str().unwrap(), "--from", "lan", "--json"];
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
