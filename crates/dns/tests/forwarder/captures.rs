//! Real traffic, where a folder of captures is given by `ZONE_ROUTER_CAPTURES`.

use std::path::{Path, PathBuf};

use dns::Disposition;

use crate::bench::{Bench, TCP, UDP, client, config};

/// Payloads of UDP datagrams from or to port 53 in a little-endian pcap file of Ethernet frames
/// with plain IPv4 headers; anything else is passed over.
fn payloads(file: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut at = 24;
    if file.get(..4) != Some(&[0xd4, 0xc3, 0xb2, 0xa1]) || file.get(20) != Some(&1) {
        return found;
    }
    while let Some(length) = file.get(at + 8..at + 12) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(frame) = file.get(at + 16..at + 16 + length) else { break };
        at += 16 + length;
        if frame.len() < 42 || frame[12..15] != [8, 0, 0x45] || frame[23] != 17 {
            continue;
        }
        if frame[34..36] == [0, 53] || frame[36..38] == [0, 53] {
            found.push(frame[42..].to_vec());
        }
    }
    found
}

fn pcaps(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "pcap")).collect()
}

#[test]
fn real_messages_pass_or_are_refused_without_a_panic() {
    let Some(root) = std::env::var_os("ZONE_ROUTER_CAPTURES").map(PathBuf::from) else { return };
    let mut seen = 0;
    for folder in [root.clone(), root.join("dns"), root.join("dnssec")] {
        for path in pcaps(&folder) {
            let Ok(file) = std::fs::read(&path) else { continue };
            for payload in payloads(&file) {
                seen += 1;
                check(&payload, &path);
            }
        }
    }
    eprintln!("{seen} messages");
}

/// A query is answered or passes octet for octet (but id and payload size); whatever it is, it can
/// also come back as an answer.
fn check(payload: &[u8], path: &Path) {
    for transport in [UDP, TCP] {
        let mut bench = Bench::new(config(1));
        let disposition = bench.ask_from(client(9), transport, payload);
        let sent = bench.sent_all();
        if disposition == Disposition::Accepted {
            assert_eq!(sent.len() + bench.replies().len(), 1, "{}", path.display());
        }
        for sent in sent {
            assert_eq!(sent.octets.len(), payload.len(), "{}", path.display());
        }
    }
    let mut query = payload.to_vec();
    if query.len() < 12 {
        return;
    }
    // The question alone makes the query to which this is the answer.
    query[2] &= 0x7f;
    query[6..12].fill(0);
    for end in 12..payload.len() {
        let mut bench = Bench::new(config(1));
        let _ = bench.ask_from(client(9), TCP, &query[..end]);
        let Some(sent) = bench.sent_all().pop() else { continue };
        let mut answer = payload.to_vec();
        answer[2] |= 0x80;
        answer[..2].copy_from_slice(&sent.octets[..2]);
        bench.answer(&sent, &answer);
        bench.pass(dns::QUERY_LIFETIME);
        assert_eq!(bench.replies().len(), 1, "{}", path.display());
    }
}
