//! Real traffic, the odd and the broken included, on the networks of a router: nothing is lost, and what leaves is right.
//!
//! The captures lie beside the workspace, not in it; where they are is said by `ZONE_ROUTER_CAPTURES`, or they are looked
//! for in `../shared/captures`. Without them there is nothing to test.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use link::CaptureWriter;
use packet::checksum;
use packet::header::{bytes_at, ethernet, ipv4, u16_at, udp};
use replay::{Arrival, Checksums, Inside, Job, Replay, Side, Tally, captures};
use support::commented;

mod support;

/// How the captures are played.
const ARRIVALS: [Arrival; 4] = [
    Arrival::All(Side::Lan),
    Arrival::All(Side::Wan),
    Arrival::Rewritten { inside: Inside::Private, only: None },
    Arrival::Rewritten { inside: Inside::Client, only: None },
];

fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/captures");
    let folder =
        std::env::var_os("ZONE_ROUTER_CAPTURES").map_or_else(|| beside.into(), PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn replayed(files: &[PathBuf], arrival: Arrival, checksums: Checksums, out: &Path) -> Tally {
    let writer: Box<dyn Write> = Box::new(File::create(out).unwrap());
    let writer = CaptureWriter::new(writer, "replay").unwrap();
    let mut replay = Replay::new(None, Some(writer)).with_checksums(checksums);
    let mut total = Tally::default();
    for path in files {
        let run = replay.run(Job { path, arrival, loops: 1 });
        let run = run.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(run.tally.violation(), None, "{} from {arrival}", path.display());
        total.add(&run.tally);
    }
    replay.finish().unwrap();
    total
}

/// What is wrong with the checksums of a packet, if anything. Those of fragments can't be told.
fn fault(frame: &[u8]) -> Option<&'static str> {
    let packet = &frame[ethernet::LEN..];
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    if checksum::of(&packet[..header_len]) != 0 {
        return Some("IP");
    }
    let segment = &packet[header_len..usize::from(u16_at(packet, ipv4::TOTAL_LENGTH))];
    let is_right = |bytes: &[u8]| {
        let [source, destination] =
            [ipv4::SOURCE, ipv4::DESTINATION].map(|at| bytes_at(packet, at));
        let protocol = packet[ipv4::PROTOCOL];
        let header = checksum::pseudo_header(source, destination, protocol, bytes.len() as u16);
        checksum::fold(checksum::sum(bytes, header.into())) == 0xffff
    };
    if u16_at(packet, ipv4::FRAGMENT) & ipv4::FRAGMENT_MASK != 0 {
        return None;
    }
    match packet[ipv4::PROTOCOL] {
        1 if checksum::of(segment) != 0 => Some("ICMP"),
        6 if !is_right(segment) => Some("TCP"),
        17 if u16_at(segment, udp::CHECKSUM) != 0
            && !is_right(&segment[..u16_at(segment, udp::LENGTH).into()]) =>
        {
            Some("UDP")
        }
        _ => None,
    }
}

#[test]
fn every_frame_of_every_capture_is_accounted_for_and_what_leaves_has_right_checksums() {
    let Some(folder) = folder() else {
        println!("no captures beside the workspace; nothing to replay");
        return;
    };
    let files = captures(&[folder]).expect("the folder can be read");
    let outs = tempfile::TempDir::new().unwrap();
    let out = outs.path().join("out.pcapng");
    for arrival in ARRIVALS {
        let total = replayed(&files, arrival, Checksums::Fixed, &out);
        println!("{arrival:?}: {total}");
        assert!(total.forwarded > 0 && total.replied > 0 && !total.punted.is_empty(), "{total}");
        let (mut leaving, mut kept) = (0u64, 0u64);
        for (index, (frame, comment)) in commented(&out).into_iter().enumerate() {
            if comment.starts_with("forward") || comment.starts_with("reply") {
                leaving += 1;
                assert_eq!(fault(&frame), None, "frame {index} of {arrival:?}: {comment}");
            } else {
                kept += 1;
            }
        }
        assert_eq!(leaving, total.sent);
        assert_eq!(kept, total.frames - total.forwarded - total.replied);
    }
}

#[test]
fn every_capture_gives_the_same_bytes_twice() {
    let Some(folder) = folder() else {
        println!("no captures beside the workspace; nothing to replay");
        return;
    };
    let files = captures(&[folder]).expect("the folder can be read");
    let outs = tempfile::TempDir::new().unwrap();
    let [first, second] = ["first", "second"].map(|name| outs.path().join(name));
    let arrival = Arrival::Rewritten { inside: Inside::Private, only: None };
    let totals = [&first, &second].map(|out| replayed(&files, arrival, Checksums::AsCaptured, out));
    assert_eq!(totals[0], totals[1]);
    assert!(std::fs::read(first).unwrap() == std::fs::read(second).unwrap());
}
