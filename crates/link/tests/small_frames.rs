//! Small frames leave by a ring, all others by the socket, and nobody sees a difference. Needs root.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::time::Duration;

use etherparse::PacketBuilder;
use lab::{Lab, Namespace, wait_until};
use link::{AfPacket, Link, LinkState, SendReport, SmallFrames};
use packet::{Batch, Gso, GsoKind, LinkId, Offload, PacketBuf, PartialChecksum, Pool};
use support::{recv_all, wait_readable};

const TCP_CHECKSUM: PartialChecksum = PartialChecksum { start: 34, offset: 16 };
const UDP_CHECKSUM: PartialChecksum = PartialChecksum { start: 34, offset: 6 };

const PEER_MAC: &str = "02:00:00:00:00:02";

/// Two links of ours, one to send and one to receive.
struct Pair {
    sender: AfPacket,
    receiver: AfPacket,
    ours: Namespace,
    peer: Namespace,
    // Dropped after what is in it.
    _lab: Lab,
}

impl Pair {
    fn new() -> Self {
        Self::with(SmallFrames::ByRing)
    }

    fn with(small: SmallFrames) -> Self {
        let (lab, ours, peer) = namespaces();
        let sender = open(&ours, "wan0", small);
        let receiver = open(&peer, "eth0", SmallFrames::BySocket);
        Self { sender, receiver, ours, peer, _lab: lab }
    }

    /// Sends frames that nothing is left to do to, all of which have to leave.
    fn send(&mut self, frames: &[Vec<u8>]) {
        let packets: Vec<_> = frames.iter().map(|frame| packet_of(frame, Offload::NONE)).collect();
        let sent = SendReport { sent: frames.len(), ..SendReport::default() };
        assert_eq!(self.sender.send(&packets), sent);
    }

    /// Receives as many packets as were sent.
    fn receive(&mut self, count: usize) -> Vec<(Vec<u8>, Offload)> {
        let (mut batch, mut pool) = (Batch::new(), Pool::large(64));
        let mut packets = Vec::new();
        while packets.len() < count {
            let is_there = wait_readable(&[&self.receiver], Duration::from_secs(5));
            assert!(is_there, "{} of {count} frames came", packets.len());
            self.receiver.recv(&mut batch, &mut pool).unwrap();
            let received = batch.packets().iter();
            packets.extend(received.map(|packet| (packet.frame().to_vec(), packet.offload)));
            batch.recycle(&mut pool);
        }
        packets
    }

    fn receive_frames(&mut self, count: usize) -> Vec<Vec<u8>> {
        self.receive(count).into_iter().map(|(frame, _)| frame).collect()
    }

    fn by_ring(&mut self) -> u64 {
        self.sender.counters().tx_by_ring
    }
}

#[test]
fn frames_arrive_bit_for_bit_by_either_path() {
    for small in [SmallFrames::ByRing, SmallFrames::BySocket] {
        let mut pair = Pair::with(small);
        let mut by_ring = 0;
        for batch in (14..1515).step_by(7).collect::<Vec<_>>().chunks(64) {
            let frames: Vec<_> = batch.iter().map(|len| noise(*len)).collect();
            pair.send(&frames);
            assert_eq!(pair.receive_frames(frames.len()), frames, "{small:?}");
            by_ring += frames.iter().filter(|frame| frame.len() <= 256).count() as u64;
        }
        let expected = if small == SmallFrames::ByRing { by_ring } else { 0 };
        assert_eq!(pair.by_ring(), expected);
        let counters = pair.sender.counters();
        assert_eq!(counters.tx_packets, pair.receiver.counters().rx_packets);
        assert_eq!(counters.tx_bytes, pair.receiver.counters().rx_bytes);
    }
}

#[test]
fn partial_checksums_are_finished_in_the_ring() {
    let mut pair = Pair::new();
    let (mut packets, mut expected) = (Vec::new(), Vec::new());
    for len in [0, 1, 2, 17, 64, 101, 186, 200] {
        for (frame, checksum) in
            [(udp(len as u32, len), UDP_CHECKSUM), (tcp(len as u32, len), TCP_CHECKSUM)]
        {
            packets.push(with_partial(&frame, checksum));
            expected.push((frame, Offload::NONE));
        }
    }
    // The checksum of this one would be zero, which UDP writes as ones (RFC 768).
    let mut frame = udp(0, 4);
    let rest = !sum_of_datagram(&frame);
    frame[44..46].copy_from_slice(&rest.to_be_bytes());
    frame[40..42].fill(0xff);
    packets.push(with_partial(&frame, UDP_CHECKSUM));
    expected.push((frame, Offload::NONE));

    assert_eq!(pair.sender.send(&packets).sent, packets.len());
    assert_eq!(pair.receive(packets.len()), expected);
    assert_eq!(pair.by_ring(), packets.len() as u64);
}

#[test]
fn a_peers_stack_accepts_what_the_ring_finished() {
    let (_lab, ours, peer) = namespaces();
    let mut sender = open(&ours, "wan0", SmallFrames::ByRing);
    peer.exec(["ip", "address", "add", "10.0.0.2/24", "dev", "eth0"]).unwrap();
    let packets: Vec<_> = (0..8).map(|id| with_partial(&udp(id, 20), UDP_CHECKSUM)).collect();
    assert_eq!(sender.send(&packets).sent, 8);
    let refused = || counter(&peer, "UdpNoPorts");
    wait_until(Duration::from_secs(2), "no port takes them", || refused() == 8).unwrap();
    assert_eq!(counter(&peer, "UdpInCsumErrors"), 0);
    assert_eq!(sender.counters().tx_by_ring, 8);
}

#[test]
fn a_flow_of_small_and_large_frames_keeps_its_order() {
    let mut pair = Pair::new();
    let (mut id, mut random) = (0, 1);
    while id < 20_000 {
        let mut packets = Vec::new();
        while packets.len() < 64 {
            // Runs of 1 to 8 of the same kind: some small ones go by the ring, others with the large.
            let (run, kind) = (next(&mut random) % 8 + 1, next(&mut random) % 3);
            for _ in 0..run {
                packets.push(match kind {
                    0 => packet_of(&udp(id, 20), Offload::NONE),
                    1 => packet_of(&udp(id, 1000), Offload::NONE),
                    _ => super_packet(id),
                });
                id += 1;
            }
        }
        let first = id - packets.len() as u32;
        let sent = SendReport { sent: packets.len(), ..SendReport::default() };
        assert_eq!(pair.sender.send(&packets), sent);
        let ids: Vec<_> =
            pair.receive_frames(packets.len()).iter().map(|frame| id_of(frame)).collect();
        assert_eq!(ids, (first..id).collect::<Vec<_>>());
    }
    let by_ring = pair.by_ring();
    assert!((1000..10_000).contains(&by_ring), "{by_ring}");
}

#[test]
fn few_small_frames_between_large_ones_go_with_these() {
    let mut pair = Pair::new();
    let batch = |kinds: &str| -> Vec<_> {
        let len = |kind| if kind == 's' { 20 } else { 1000 };
        kinds.chars().enumerate().map(|(id, kind)| udp(id as u32, len(kind))).collect()
    };
    let cases = [
        ("s", 1),
        ("sss", 3),
        ("l", 0),
        ("sssl", 0),
        ("ssssl", 4),
        ("lssss", 4),
        ("lsssl", 0),
        ("lslslslslsssssslsss", 6),
        ("ssssssllsssssllssss", 15),
    ];
    for (kinds, expected) in cases {
        let (before, frames) = (pair.by_ring(), batch(kinds));
        pair.send(&frames);
        assert_eq!(pair.receive_frames(frames.len()), frames, "{kinds}");
        assert_eq!(pair.by_ring() - before, expected, "{kinds}");
    }
}

#[test]
fn a_refused_packet_costs_only_itself() {
    let mut pair = Pair::new();
    pair.ours.exec(["ip", "link", "set", "wan0", "mtu", "200"]).unwrap();
    assert_eq!(pair.sender.state(), LinkState::Up);
    let mut packets: Vec<_> = (0..40).map(|id| packet_of(&udp(id, 20), Offload::NONE)).collect();
    // Longer than the link allows though not than the ring does, a checksum outside of the frame, one in its payload.
    packets[7] = packet_of(&udp(7, 201 - 28), Offload::NONE);
    let outside = PartialChecksum { start: 34, offset: 1000 };
    packets[20].offload.checksum = Some(outside);
    packets[33].offload.gso = Some(Gso { kind: GsoKind::Udp, size: 10 });
    let report = pair.sender.send(&packets);
    assert_eq!(report, SendReport { sent: 37, refused: 3, would_block: 0 });
    let ids: Vec<_> = pair.receive_frames(37).iter().map(|frame| id_of(frame)).collect();
    assert_eq!(ids, (0..40).filter(|id| ![7, 20, 33].contains(id)).collect::<Vec<_>>());
    let counters = pair.sender.counters();
    assert_eq!((counters.tx_packets, counters.tx_refused), (37, 3));
    assert_eq!(counters.tx_bytes, pair.receiver.counters().rx_bytes);
    assert!(counters.tx_by_ring > 25);
}

#[test]
fn the_ring_goes_round_many_times_and_nothing_stays_in_it() {
    let mut pair = Pair::new();
    let (mut id, mut random) = (0, 7);
    for _ in 0..2000 {
        let count = next(&mut random) % 61 + 4;
        let frames: Vec<_> = (id..id + count).map(|id| udp(id, 20)).collect();
        pair.send(&frames);
        let received = pair.receive_frames(frames.len());
        assert_eq!(received, frames);
        id += count;
    }
    // A ring of which anything stays is given up.
    assert_eq!(pair.by_ring(), u64::from(id));
    assert_eq!(recv_all(&mut pair.receiver, Duration::from_millis(50)), Vec::<Vec<u8>>::new());
}

#[test]
fn frames_that_a_link_refuses_while_it_is_down_do_not_come_later() {
    let mut pair = Pair::new();
    let frames = |first: u32| (first..first + 50).map(|id| udp(id, 20)).collect::<Vec<_>>();
    let refused = SendReport { refused: 50, ..SendReport::default() };
    // Our end without the peer's (no carrier), then without ours.
    for (round, down) in ["peer", "ours", "both"].into_iter().enumerate() {
        let set = |state| {
            if down != "ours" {
                pair.peer.exec(["ip", "link", "set", "eth0", state]).unwrap();
            }
            if down != "peer" {
                pair.ours.exec(["ip", "link", "set", "wan0", state]).unwrap();
            }
        };
        set("down");
        let sender = &mut pair.sender;
        wait_until(Duration::from_secs(5), down, || sender.state() == LinkState::Down).unwrap();
        let lost: Vec<_> =
            frames(1000).iter().map(|frame| packet_of(frame, Offload::NONE)).collect();
        for _ in 0..3 {
            assert_eq!(pair.sender.send(&lost), refused, "{down}");
        }
        set("up");
        let (sender, receiver) = (&mut pair.sender, &mut pair.receiver);
        wait_until(Duration::from_secs(5), "carrier", || {
            sender.state() == LinkState::Up && receiver.state() == LinkState::Up
        })
        .unwrap();
        // It reports once that it was down.
        let _ = receiver.recv(&mut Batch::new(), &mut Pool::large(1));
        pair.send(&frames(0));
        assert_eq!(pair.receive_frames(50), frames(0), "{down}");
        assert_eq!(pair.by_ring(), 50 * (round as u64 + 1), "{down}");
    }
}

#[test]
fn a_link_that_was_never_up_when_it_was_opened_has_its_ring_later() {
    let (_lab, ours, _peer) = namespaces();
    ours.exec(["ip", "link", "add", "late0", "type", "veth", "peer", "late1"]).unwrap();
    let mut sender = open(&ours, "late0", SmallFrames::ByRing);
    let packets: Vec<_> = (0..8).map(|id| packet_of(&udp(id, 20), Offload::NONE)).collect();
    assert_eq!(sender.send(&packets).refused, 8);
    for link in ["late0", "late1"] {
        ours.exec(["ip", "link", "set", link, "up"]).unwrap();
    }
    wait_until(Duration::from_secs(5), "the ring", || {
        sender.state() == LinkState::Up
            && sender.send(&packets).sent == 8
            && sender.counters().tx_by_ring == 8
    })
    .unwrap();
}

#[test]
fn a_second_socket_of_a_link_does_without_and_a_later_one_has_it_again() {
    let mut pair = Pair::new();
    let mut second = open(&pair.ours, "wan0", SmallFrames::ByRing);
    let frames: Vec<_> = (0..8).map(|id| udp(id, 20)).collect();
    let packets: Vec<_> = frames.iter().map(|frame| packet_of(frame, Offload::NONE)).collect();
    assert_eq!(second.send(&packets).sent, 8);
    assert_eq!(second.counters().tx_by_ring, 0);
    pair.send(&frames);
    assert_eq!(pair.by_ring(), 8);
    assert_eq!(pair.receive_frames(16), [&frames[..], &frames].concat());
    pair.sender = second;
    let mut third = None;
    // The kernel takes the first one's apart in its own time.
    wait_until(Duration::from_secs(5), "the ring is free", || {
        let mut link = open(&pair.ours, "wan0", SmallFrames::ByRing);
        assert_eq!(link.send(&packets).sent, 8);
        let has_ring = link.counters().tx_by_ring == 8;
        third = Some(link);
        has_ring
    })
    .unwrap();
}

#[test]
fn a_link_with_a_queue_has_no_ring_that_could_overtake_it() {
    let (_lab, ours, _peer) = namespaces();
    ours.exec("tc qdisc add dev wan0 root pfifo limit 100".split(' ')).unwrap();
    let mut sender = open(&ours, "wan0", SmallFrames::ByRing);
    let packets: Vec<_> = (0..8).map(|id| packet_of(&udp(id, 20), Offload::NONE)).collect();
    assert_eq!(sender.send(&packets).sent, 8);
    assert_eq!(sender.counters().tx_by_ring, 0);
}

#[test]
fn a_queue_below_the_link_ends_the_ring() {
    let mut pair = Pair::new();
    let ours = &pair.ours;
    pair.sender = open(ours, "wan0", SmallFrames::BySocket);
    ours.exec("ip link add link wan0 name over0 type macvlan mode bridge".split(' ')).unwrap();
    ours.exec(["ip", "link", "set", "over0", "up"]).unwrap();
    pair.sender = open(ours, "over0", SmallFrames::ByRing);
    let frames: Vec<_> = (0..64).map(|id| udp(id, 20)).collect();
    pair.send(&frames);
    assert_eq!(pair.receive_frames(64), frames);
    assert_eq!(pair.by_ring(), 64, "while there is no queue");

    let tbf = "tc qdisc add dev wan0 root tbf rate 1mbit burst 1600 limit 100000";
    pair.ours.exec(tbf.split(' ')).unwrap();
    for _ in 0..3 {
        pair.send(&frames);
        assert_eq!(pair.receive_frames(64), frames);
    }
    assert_eq!(pair.by_ring(), 128, "the first batch shows that there is one now");
}

fn namespaces() -> (Lab, Namespace, Namespace) {
    let lab = Lab::new("ring").unwrap();
    let (ours, peer) = (lab.namespace("ours").unwrap(), lab.namespace("peer").unwrap());
    lab.veth((&ours, "wan0"), (&peer, "eth0", PEER_MAC)).unwrap();
    (lab, ours, peer)
}

fn open(namespace: &Namespace, name: &str, small: SmallFrames) -> AfPacket {
    namespace.enter(|| AfPacket::open_with(name, LinkId::WAN, small)).unwrap().unwrap()
}

fn packet_of(frame: &[u8], offload: Offload) -> PacketBuf {
    let mut packet = PacketBuf::large();
    assert!(packet.copy_from(frame));
    packet.offload = offload;
    packet
}

/// A frame that a complete one becomes when its checksum is left undone.
fn with_partial(frame: &[u8], checksum: PartialChecksum) -> PacketBuf {
    let mut packet = packet_of(frame, Offload { checksum: Some(checksum), gso: None });
    let addresses = (frame[26..30].try_into().unwrap(), frame[30..34].try_into().unwrap());
    let len = (frame.len() - 34) as u16;
    let sum = packet::checksum::pseudo_header(addresses.0, addresses.1, frame[23], len);
    let at = usize::from(checksum.start + checksum.offset);
    packet.frame_mut()[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A super-packet with a number in its payload.
fn super_packet(id: u32) -> PacketBuf {
    let mut packet = with_partial(&udp(id, 3000), UDP_CHECKSUM);
    packet.offload.gso = Some(Gso { kind: GsoKind::Udp, size: 1000 });
    packet
}

/// A datagram with a number at the start of its payload.
fn udp(id: u32, payload_len: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(7, 7);
    let mut frame = Vec::new();
    builder.write(&mut frame, &payload(id, payload_len)).unwrap();
    frame
}

fn tcp(id: u32, payload_len: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1000, 80, id, 1000)
        .ack(1);
    let mut frame = Vec::new();
    builder.write(&mut frame, &payload(id, payload_len)).unwrap();
    frame
}

fn payload(id: u32, len: usize) -> Vec<u8> {
    let mut payload: Vec<_> = id.to_be_bytes().into_iter().cycle().take(len).collect();
    payload.iter_mut().skip(4).for_each(|byte| *byte ^= 0x5a);
    payload
}

fn id_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[42..46].try_into().unwrap())
}

/// A frame of no protocol, different for each length.
fn noise(len: usize) -> Vec<u8> {
    let mut random = len as u32;
    let mut frame: Vec<_> = (0..len).map(|_| next(&mut random) as u8).collect();
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// A pseudo-random number of 16 bits.
fn next(state: &mut u32) -> u32 {
    *state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
    *state >> 16
}

/// The folded sum over a datagram without its checksum field.
fn sum_of_datagram(frame: &[u8]) -> u16 {
    let mut frame = frame.to_vec();
    frame[40..42].fill(0);
    let len = (frame.len() - 34) as u16;
    let addresses = (frame[26..30].try_into().unwrap(), frame[30..34].try_into().unwrap());
    let pseudo = packet::checksum::pseudo_header(addresses.0, addresses.1, 17, len);
    packet::checksum::fold(packet::checksum::sum(&frame[34..], u32::from(pseudo)))
}

/// A counter of the namespace's kernel.
fn counter(namespace: &Namespace, name: &str) -> u64 {
    let output = namespace.exec(["nstat", "-asz", name]).unwrap().stdout;
    let line = output.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
