//! Short frames are received by a ring, longer ones by the socket, and nobody sees a difference. Needs root.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::time::Duration;

use lab::{Lab, wait_until};
use link::{AfPacket, Link, SmallFrames};
use packet::{Batch, LinkId, PacketBuf, Pool};
use support::wait_readable;

/// A sender, and a receiver by each way on a link of its own to it.
struct Lines {
    /// By the rings, by the socket.
    lines: [[AfPacket; 2]; 2],
    _lab: Lab,
}

impl Lines {
    /// Links that take frames of 9000 bytes.
    fn new() -> Self {
        let lab = Lab::new("received").unwrap();
        let (ours, peer) = (lab.namespace("ours").unwrap(), lab.namespace("peer").unwrap());
        let lines = [("a", SmallFrames::ByRing), ("b", SmallFrames::BySocket)];
        let lines = lines.map(|(name, small)| {
            lab.veth((&ours, name), (&peer, name)).unwrap();
            for namespace in [&ours, &peer] {
                namespace.exec(["ip", "link", "set", "dev", name, "mtu", "9000"]).unwrap();
            }
            let sender = ours
                .enter(|| AfPacket::open_with(name, LinkId::WAN, SmallFrames::BySocket))
                .unwrap()
                .unwrap();
            let receiver =
                peer.enter(|| AfPacket::open_with(name, LinkId(7), small)).unwrap().unwrap();
            [sender, receiver]
        });
        let mut lines = Self { lines, _lab: lab };
        for link in lines.lines.as_flattened_mut() {
            wait_until(Duration::from_secs(5), "carrier", || link.state() == link::LinkState::Up)
                .unwrap();
        }
        lines
    }
}

/// A frame that says where it is in a row, of a type that nobody answers.
fn frame(number: usize, len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|at| (number + at * 7) as u8).collect();
    frame[12..16].copy_from_slice(&[0x88, 0xb5, (number >> 8) as u8, number as u8]);
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame
}

fn send(link: &mut AfPacket, frames: &[Vec<u8>]) {
    for chunk in frames.chunks(64) {
        let packets: Vec<_> = chunk
            .iter()
            .map(|frame| {
                let mut packet = PacketBuf::large();
                assert!(packet.copy_from(frame));
                packet
            })
            .collect();
        assert_eq!(link.send(&packets).sent, packets.len());
    }
}

fn receive(link: &mut AfPacket, buffers: usize) -> Vec<Vec<u8>> {
    let (mut batch, mut pool) = (Batch::new(), Pool::large(buffers));
    let mut frames = Vec::new();
    while wait_readable(&[link], Duration::from_millis(300)) {
        link.recv(&mut batch, &mut pool).unwrap();
        assert!(batch.packets().iter().all(|packet| packet.ingress == LinkId(7)));
        frames.extend(batch.packets().iter().map(|packet| packet.frame().to_vec()));
        batch.recycle(&mut pool);
    }
    assert_eq!(pool.available(), buffers);
    frames
}

#[test]
fn frames_of_all_lengths_arrive_whole_and_in_order() {
    let mut lines = Lines::new();
    // Around what a slot of the ring holds, in runs and alternating, more than a batch of each.
    let lens = (1900..2100).chain((0..200).flat_map(|n| [60 + n, 9000 - 40 * n, 1514]));
    let frames: Vec<_> = lens.enumerate().map(|(number, len)| frame(number, len)).collect();
    for [sender, receiver] in &mut lines.lines {
        for part in frames.chunks(256) {
            send(sender, part);
            assert!(receive(receiver, 64) == part, "frames came otherwise than they were sent");
        }
        let counters = receiver.counters();
        assert_eq!(counters.rx_packets, frames.len() as u64);
        assert_eq!(counters.rx_bytes, frames.iter().map(Vec::len).sum::<usize>() as u64);
        assert_eq!((counters.rx_dropped, counters.rx_oversized), (0, 0));
    }
}

#[test]
fn few_buffers_only_make_it_slower() {
    let mut lines = Lines::new();
    let frames: Vec<_> = (0..90).map(|n| frame(n, [100, 5000, 5001][n % 3])).collect();
    for [sender, receiver] in &mut lines.lines {
        send(sender, &frames);
        assert!(receive(receiver, 1) == frames);
    }
}

#[test]
fn what_finds_no_room_is_counted_and_the_rest_is_in_order() {
    let mut lines = Lines::new();
    let frames: Vec<_> = (0..6000).map(|n| frame(n, if n % 8 == 0 { 8000 } else { 100 })).collect();
    for [sender, receiver] in &mut lines.lines {
        send(sender, &frames);
        let received = receive(receiver, 64);
        let numbers: Vec<_> =
            received.iter().map(|frame| u16::from_be_bytes([frame[14], frame[15]])).collect();
        assert!(numbers.is_sorted(), "out of order");
        let counters = receiver.counters();
        assert!(received.len() < frames.len(), "nothing was lost: the test shows nothing");
        assert_eq!(received.len() as u64 + counters.rx_dropped, frames.len() as u64);
        // Afterwards all is as before.
        send(sender, &frames[..100]);
        assert!(receive(receiver, 64) == frames[..100]);
    }
}
