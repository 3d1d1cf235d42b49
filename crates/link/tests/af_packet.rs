//! AF_PACKET between real kernels in network namespaces. Needs root.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::{EtherType, PacketBuilder, PacketBuilderStep, TcpHeader};
use lab::{Lab, wait_until};
use link::{AfPacket, BATCH_BYTES_MAX, Link, LinkState, Offloads, OpenError};
use packet::{Batch, Gso, GsoKind, LinkId, Offload, PartialChecksum, Pool, PortBitmap};
use support::{Forwarder, Station, ipv4_of, recv_all, recv_until, send_one, wait_readable};

const ROUTER_MAC: &str = "02:00:00:00:00:01";
const PEER_MAC: &str = "02:00:00:00:00:02";

/// One kernel peer (`peer`, 10.0.0.2 on eth0) and one link of ours (`ours`, wan0 without address).
struct Pair {
    lab: Lab,
    ours: lab::Namespace,
    peer: lab::Namespace,
}

impl Pair {
    fn new() -> Self {
        let lab = Lab::new("link").unwrap();
        let (ours, peer) = (lab.namespace("ours").unwrap(), lab.namespace("peer").unwrap());
        lab.veth((&ours, "wan0", ROUTER_MAC), (&peer, "eth0", PEER_MAC)).unwrap();
        peer.exec(["ip", "address", "add", "10.0.0.2/24", "dev", "eth0"]).unwrap();
        let neighbour = ["10.0.0.1", "lladdr", ROUTER_MAC, "dev", "eth0"];
        peer.exec(["ip", "neighbour", "add"].into_iter().chain(neighbour)).unwrap();
        Self { lab, ours, peer }
    }

    fn open(&self) -> AfPacket {
        self.ours.enter(|| AfPacket::open("wan0", LinkId(3))).unwrap().unwrap()
    }

    /// A second station like ours at the peer's end, which loses its kernel address.
    fn open_peer(&self) -> AfPacket {
        self.peer.exec(["ip", "address", "flush", "dev", "eth0"]).unwrap();
        self.peer.enter(|| AfPacket::open("eth0", LinkId(4))).unwrap().unwrap()
    }
}

#[test]
fn a_link_that_does_not_exist_is_refused() {
    let error = AfPacket::open("no-such-link", LinkId::WAN).err().unwrap();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
}

#[test]
fn a_link_with_a_kernel_address_is_refused_with_the_command_that_removes_it() {
    let pair = Pair::new();
    let error = pair.peer.enter(|| AfPacket::open("eth0", LinkId::WAN)).unwrap().err().unwrap();
    assert!(error.to_string().contains("`ip addr del 10.0.0.2/24 dev eth0`"), "{error}");
}

#[test]
fn a_link_without_ethernet_frames_is_refused() {
    let pair = Pair::new();
    pair.ours.exec(["ip", "address", "flush", "dev", "lo"]).unwrap();
    let error = pair.ours.enter(|| AfPacket::open("lo", LinkId::WAN)).unwrap().err().unwrap();
    assert!(matches!(error, OpenError::NotEthernet { .. }), "{error}");
}

#[test]
fn a_link_knows_its_mac_its_mtu_and_its_number() {
    let pair = Pair::new();
    pair.ours.exec(["ip", "link", "set", "wan0", "mtu", "1400"]).unwrap();
    let mut link = pair.open();
    assert_eq!(link.name(), "wan0");
    assert_eq!(link.mac().to_string(), ROUTER_MAC);
    assert_eq!(link.mtu(), 1400);
    assert_eq!(link.offloads(), Offloads::ALL);
    pair.peer.exec(["ping", "-c", "1", "-W", "0.2", "10.0.0.1"]).unwrap_err();
    let (mut batch, mut pool) = (Batch::new(), Pool::large(8));
    recv_until(&mut link, &mut batch, &mut pool, |packet| packet.ingress == LinkId(3));
}

#[test]
fn a_link_that_goes_down_comes_back_by_itself() {
    let pair = Pair::new();
    let mut link = pair.open();
    assert_eq!(link.state(), LinkState::Up);
    pair.ours.exec(["ip", "link", "set", "wan0", "down"]).unwrap();
    assert_eq!(link.state(), LinkState::Down);
    let (mut batch, mut pool) = (Batch::new(), Pool::large(8));
    assert!(link.recv(&mut batch, &mut pool).is_err());
    assert_eq!(pool.available(), 8);
    let report = send_one(&mut link, &udp([10, 0, 0, 1], [10, 0, 0, 2], 10), Offload::NONE);
    assert_eq!(report.refused, 1);

    pair.ours.exec(["ip", "link", "set", "wan0", "up"]).unwrap();
    wait_until(Duration::from_secs(5), "carrier", || link.state() == LinkState::Up).unwrap();
    let mut station = Station::new(link);
    assert!(station.answers_ping_of(&pair.peer));
}

#[test]
fn a_removed_link_is_gone_even_if_another_takes_its_name() {
    let pair = Pair::new();
    let mut link = pair.open();
    pair.ours.exec(["ip", "link", "del", "wan0"]).unwrap();
    assert_eq!(link.state(), LinkState::Gone);
    pair.lab.veth((&pair.ours, "wan0"), (&pair.peer, "eth0")).unwrap();
    assert_eq!(link.state(), LinkState::Gone);
}

#[test]
fn own_transmissions_are_not_received() {
    let pair = Pair::new();
    let (mut link, mut peer) = (pair.open(), pair.open_peer());
    let frame = udp([10, 0, 0, 1], [10, 0, 0, 2], 100);
    assert_eq!(send_one(&mut link, &frame, Offload::NONE).sent, 1);
    let (mut batch, mut pool) = (Batch::new(), Pool::large(8));
    recv_until(&mut peer, &mut batch, &mut pool, |packet| packet.frame() == frame);
    assert_eq!(recv_all(&mut link, Duration::from_millis(100)), Vec::<Vec<u8>>::new());
}

#[test]
fn a_frame_of_the_mtu_passes_and_one_byte_more_is_refused() {
    let pair = Pair::new();
    let (mut link, mut peer) = (pair.open(), pair.open_peer());
    let full = udp([10, 0, 0, 1], [10, 0, 0, 2], 1500 - 28);
    let over = udp([10, 0, 0, 1], [10, 0, 0, 2], 1501 - 28);
    assert_eq!(full.len(), 1514);
    assert_eq!(send_one(&mut link, &full, Offload::NONE).sent, 1);
    assert_eq!(send_one(&mut link, &over, Offload::NONE).refused, 1);
    assert_eq!(link.counters().tx_refused, 1);
    let received = recv_all(&mut peer, Duration::from_millis(100));
    assert_eq!(received, [full]);
}

#[test]
fn a_refused_packet_does_not_stop_the_batch() {
    let pair = Pair::new();
    let (mut link, mut peer) = (pair.open(), pair.open_peer());
    let mut pool = Pool::large(64);
    let mut packets = Vec::new();
    for index in 0..20 {
        let mut packet = pool.take().unwrap();
        // The kernel refuses every fifth (too long), we refuse every seventh (metadata).
        let len = if index % 5 == 0 { 2000 } else { 100 + index };
        assert!(packet.copy_from(&udp([10, 0, 0, 1], [10, 0, 0, 2], len)));
        if index % 7 == 0 {
            packet.offload.gso = Some(Gso { kind: GsoKind::Udp, size: 100 });
        }
        packets.push(packet);
    }
    let good: Vec<_> = (0..20).filter(|index| index % 5 != 0 && index % 7 != 0).collect();
    let report = link.send(&packets);
    assert_eq!((report.sent, report.refused, report.would_block), (good.len(), 20 - good.len(), 0));
    let lengths: Vec<_> = recv_all(&mut peer, Duration::from_millis(100))
        .iter()
        .map(|frame| frame.len() - 42 - 100)
        .collect();
    assert_eq!(lengths, good);
    assert_eq!(link.counters().tx_packets, good.len() as u64);
}

#[test]
fn a_datagram_of_a_peer_arrives_with_a_partial_checksum() {
    let pair = Pair::new();
    let mut link = pair.open();
    pair.peer.exec(["bash", "-c", "echo -n hello > /dev/udp/10.0.0.1/9"]).unwrap();
    let (mut batch, mut pool) = (Batch::new(), Pool::large(16));
    let packet =
        recv_until(&mut link, &mut batch, &mut pool, |packet| packet.frame().ends_with(b"hello"));
    let expected = PartialChecksum { start: 34, offset: 6 };
    assert_eq!(packet.offload, Offload { checksum: Some(expected), gso: None });
    let (sum, _) = checksum_and_pseudo_header_sum(packet.frame());
    let field = u16::from_be_bytes([packet.frame()[40], packet.frame()[41]]);
    assert_eq!(field, sum, "the field holds the sum of the pseudo-header");
}

#[test]
fn a_partial_checksum_is_finished_before_the_peers_stack_reads_it() {
    let pair = Pair::new();
    let mut link = pair.open();
    let mut frame = udp([10, 0, 0, 1], [10, 0, 0, 2], 5);
    frame[42..].copy_from_slice(b"hello");
    let (pseudo, full) = checksum_and_pseudo_header_sum(&frame);
    frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let checksum = Some(PartialChecksum { start: 34, offset: 6 });

    let errors = || counter(&pair.peer, "UdpInCsumErrors");
    let closed_ports = || counter(&pair.peer, "UdpNoPorts");
    let before = (errors(), closed_ports());
    assert_eq!(send_one(&mut link, &frame, Offload::NONE).sent, 1);
    wait_until(Duration::from_secs(2), "the unfinished one fails", || errors() == before.0 + 1)
        .unwrap();
    assert_eq!(send_one(&mut link, &frame, Offload { checksum, gso: None }).sent, 1);
    wait_until(Duration::from_secs(2), "the other is accepted", || closed_ports() > before.1)
        .unwrap();
    assert_ne!(pseudo, full);
    assert_eq!(errors(), before.0 + 1);
}

#[test]
fn a_super_packet_crosses_whole_and_keeps_its_metadata() {
    let pair = Pair::new();
    let (mut link, mut peer) = (pair.open(), pair.open_peer());
    let mut tcp = syn();
    tcp.resize(54 + 40_000, 0x55);
    let len = (tcp.len() as u16 - 14).to_be_bytes();
    tcp[16..18].copy_from_slice(&len);
    let udp = udp([10, 0, 0, 1], [10, 0, 0, 2], 40_000);
    for (frame, kind, offset) in
        [(&tcp, GsoKind::TcpV4, 16), (&tcp, GsoKind::TcpV4Ecn, 16), (&udp, GsoKind::Udp, 6)]
    {
        let checksum = Some(PartialChecksum { start: 34, offset });
        let offload = Offload { checksum, gso: Some(Gso { kind, size: 1000 }) };
        assert_eq!(send_one(&mut link, frame, offload).sent, 1, "{kind:?}");
        let (mut batch, mut pool) = (Batch::new(), Pool::large(16));
        let crossed =
            recv_until(&mut peer, &mut batch, &mut pool, |packet| packet.frame() == *frame);
        assert_eq!(crossed.offload, offload);
    }
}

#[test]
fn a_batch_of_super_packets_ends_by_its_bytes() {
    let pair = Pair::new();
    let (mut link, mut peer) = (pair.open(), pair.open_peer());
    let mut packet = Pool::large(1).take().unwrap();
    assert!(packet.copy_from(&udp([10, 0, 0, 1], [10, 0, 0, 2], 60_000)));
    let checksum = Some(PartialChecksum { start: 34, offset: 6 });
    packet.offload = Offload { checksum, gso: Some(Gso { kind: GsoKind::Udp, size: 1000 }) };
    for _ in 0..40 {
        assert_eq!(link.send(std::slice::from_ref(&packet)).sent, 1);
    }
    let (mut batch, mut pool, mut received) = (Batch::new(), Pool::large(64), Vec::new());
    while received.iter().sum::<usize>() < 40 {
        assert!(wait_readable(&[&peer], Duration::from_secs(5)), "{received:?}");
        received.push(peer.recv(&mut batch, &mut pool).unwrap());
        batch.recycle(&mut pool);
    }
    // The first call does not know yet how long the frames are.
    let most = BATCH_BYTES_MAX / 60_000 + 1;
    assert!(received[0] <= 2 * most && received[1..].iter().all(|&n| n <= most), "{received:?}");
}

#[test]
fn the_kernel_answers_nothing_on_an_open_link() {
    let pair = Pair::new();
    // The namespace has an address elsewhere and routes everywhere: the worst case.
    pair.lab.veth((&pair.ours, "mgmt0"), (&pair.peer, "eth1")).unwrap();
    pair.ours.exec(["ip", "address", "add", "10.9.9.9/24", "dev", "mgmt0"]).unwrap();
    pair.ours.exec(["ip", "route", "add", "default", "dev", "mgmt0"]).unwrap();
    pair.ours.sysctl("net.ipv4.ip_forward", "1").unwrap();
    pair.ours.sysctl("net.ipv6.conf.all.disable_ipv6", "0").unwrap();
    let mut peer = pair.open_peer();
    let questions = [arp_request([10, 9, 9, 9]), ping(), syn(), datagram()];

    let ask = |peer: &mut AfPacket| {
        for question in &questions {
            assert_eq!(send_one(peer, question, Offload::NONE).sent, 1);
        }
        recv_all(peer, Duration::from_millis(300))
    };
    assert_ne!(ask(&mut peer), Vec::<Vec<u8>>::new(), "before, the kernel does answer");
    let mut link = pair.open();
    let looked_at = counter(&pair.ours, "IpInReceives");
    assert_ne!(looked_at, 0);
    assert_eq!(ask(&mut peer), Vec::<Vec<u8>>::new());
    assert_eq!(counter(&pair.ours, "IpInReceives"), looked_at, "its stack sees no packet");
    let heard = recv_all(&mut link, Duration::from_millis(100));
    assert!(questions.iter().all(|question| heard.contains(question)), "but the router hears all");
}

#[test]
fn a_frame_of_another_vlan_is_not_taken_for_an_untagged_one() {
    let pair = Pair::new();
    let (mut link, mut peer) = (pair.open(), pair.open_peer());
    let plain = udp([10, 0, 0, 2], [10, 0, 0, 1], 50);
    for (tag, arrives) in [([0x00, 0x07], 0), ([0xe0, 0x00], 1)] {
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x81, 0x00, tag[0], tag[1]]);
        assert_eq!(send_one(&mut peer, &tagged, Offload::NONE).sent, 1);
        let received = recv_all(&mut link, Duration::from_millis(100));
        assert_eq!(received.iter().filter(|frame| **frame == plain).count(), arrives, "{tag:?}");
    }
}

#[test]
fn a_guarded_link_drops_and_counts_connection_attempts_that_nobody_wants() {
    let pair = Pair::new();
    let (mut ours, mut peer) = (pair.open(), pair.open_peer());
    let mut wanted = PortBitmap::new();
    wanted.put(443, true);
    let guarded = Ipv4Addr::new(10, 0, 0, 1);
    let other = [10, 0, 0, 7];
    let attempt = |to: [u8; 4], port| tcp(to, port, |tcp| tcp.syn());
    let kept = [
        attempt([10, 0, 0, 1], 443),
        attempt(other, 80),
        tcp([10, 0, 0, 1], 80, |tcp| tcp.syn().ack(1)),
        tcp([10, 0, 0, 1], 80, |tcp| tcp.ack(1)),
        udp([10, 0, 0, 2], [10, 0, 0, 1], 30),
        arp_request([10, 0, 0, 1]),
        with_ip_options(attempt([10, 0, 0, 1], 443)),
        later_fragment(attempt([10, 0, 0, 1], 80)),
        attempt([10, 0, 0, 1], 443)[..40].to_vec(),
    ];
    let unwanted: Vec<_> =
        [0, 80, 442, 444, 65_535].map(|port| attempt([10, 0, 0, 1], port)).into();
    let unwanted = [unwanted, vec![with_ip_options(attempt([10, 0, 0, 1], 80))]].concat();
    let mut seen = |guard: Option<(Ipv4Addr, &PortBitmap)>| {
        assert!(ours.guard(guard));
        for frame in kept.iter().chain(&unwanted) {
            assert_eq!(send_one(&mut peer, frame, Offload::NONE).sent, 1);
        }
        let frames = recv_all(&mut ours, Duration::from_millis(100));
        (frames, ours.counters().rx_guarded)
    };
    let all: Vec<_> = kept.iter().chain(&unwanted).cloned().collect();
    assert_eq!(seen(None), (all.clone(), 0));
    assert_eq!(seen(Some((guarded, &wanted))), (kept.to_vec(), 6));
    assert_eq!(seen(None), (all, 6));
}

#[test]
fn an_empty_pool_leaves_frames_in_the_kernel() {
    let pair = Pair::new();
    let (mut link, mut peer) = (pair.open(), pair.open_peer());
    let frame = udp([10, 0, 0, 2], [10, 0, 0, 1], 50);
    for _ in 0..3 {
        assert_eq!(send_one(&mut peer, &frame, Offload::NONE).sent, 1);
    }
    let (mut batch, mut pool) = (Batch::new(), Pool::large(1));
    let mut held = Vec::new();
    for _ in 0..3 {
        recv_until(&mut link, &mut batch, &mut pool, |packet| packet.frame() == frame);
        assert_eq!(link.recv(&mut batch, &mut pool).unwrap(), 0);
        held.push(batch.len());
        batch.recycle(&mut pool);
    }
    assert_eq!(held, [1, 1, 1]);
}

#[test]
fn frames_that_found_the_queue_full_are_counted() {
    let pair = Pair::new();
    let (mut link, mut peer) = (pair.open(), pair.open_peer());
    let (mut pool, frame) = (Pool::small(64), udp([10, 0, 0, 2], [10, 0, 0, 1], 1400));
    let mut packets = Vec::new();
    while let Some(mut packet) = pool.take() {
        assert!(packet.copy_from(&frame));
        packets.push(packet);
    }
    let mut sent = 0;
    while sent < 20_000 {
        sent += peer.send(&packets).sent;
    }
    let received = recv_all(&mut link, Duration::from_millis(100)).len();
    let counters = link.counters();
    assert!(counters.rx_dropped > 0);
    assert!(received as u64 + counters.rx_dropped >= sent as u64, "{received} {counters:?} {sent}");
    assert_eq!(link.counters().rx_dropped, counters.rx_dropped, "asking twice counts once");
}

#[test]
fn tcp_super_packets_cross_whole() {
    let lab = Lab::new("link").unwrap();
    lab::require("iperf3").unwrap();
    let [left, ours, right] = ["left", "ours", "right"].map(|name| lab.namespace(name).unwrap());
    lab.veth((&ours, "a"), (&left, "eth0")).unwrap();
    lab.veth((&ours, "b"), (&right, "eth0")).unwrap();
    left.exec(["ip", "address", "add", "10.0.0.1/24", "dev", "eth0"]).unwrap();
    right.exec(["ip", "address", "add", "10.0.0.2/24", "dev", "eth0"]).unwrap();
    let [a, b] =
        ["a", "b"].map(|name| ours.enter(|| AfPacket::open(name, LinkId::WAN)).unwrap().unwrap());
    let forwarder = Forwarder::start(a, b);
    let server = right.spawn(["iperf3", "-s", "-1", "--forceflush"]).unwrap();
    wait_until(Duration::from_secs(10), "iperf3 listens", || server.log().contains("listening"))
        .unwrap();
    let seconds = std::env::var("LINK_TEST_SECONDS").unwrap_or_else(|_| "1".to_owned());
    let client = ["iperf3", "-c", "10.0.0.2", "-t", &seconds, "-f", "g"];
    let report = left.exec(client).unwrap().stdout;
    let largest = forwarder.stop();
    println!("{report}");
    assert!(largest > 60_000, "the largest frame had {largest} bytes");
    let rate = report.lines().find(|line| line.contains("receiver")).unwrap();
    let rate: f64 =
        rate.split("Gbits/sec").next().unwrap().split_whitespace().last().unwrap().parse().unwrap();
    assert!(rate > 1.0, "{report}");
}

fn udp(from: [u8; 4], to: [u8; 4], payload_len: usize) -> Vec<u8> {
    let macs = if from == [10, 0, 0, 1] { ([1, 2], [2, 1]) } else { ([2, 1], [1, 2]) };
    let mac = |last: u8| [2, 0, 0, 0, 0, last];
    let builder =
        PacketBuilder::ethernet2(mac(macs.0[0]), mac(macs.0[1])).ipv4(from, to, 64).udp(7, 7);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0x55; payload_len]).unwrap();
    frame
}

fn to_router() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
}

fn tcp(
    to: [u8; 4],
    port: u16,
    flags: impl Fn(PacketBuilderStep<TcpHeader>) -> PacketBuilderStep<TcpHeader>,
) -> Vec<u8> {
    let step = to_router().ipv4([10, 0, 0, 2], to, 64);
    let mut frame = Vec::new();
    flags(step.tcp(40_000, port, 1, 1000)).write(&mut frame, &[]).unwrap();
    frame
}

/// The same with four bytes of no-operation options; the checksum is not made new.
fn with_ip_options(mut frame: Vec<u8>) -> Vec<u8> {
    frame[14] += 1;
    frame.splice(34..34, [1; 4]);
    frame
}

/// The same as if it were not the first fragment.
fn later_fragment(mut frame: Vec<u8>) -> Vec<u8> {
    frame[21] = 1;
    frame
}

fn ping() -> Vec<u8> {
    let builder = to_router().ipv4([10, 9, 9, 77], [10, 9, 9, 9], 64).icmpv4_echo_request(1, 1);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0; 32]).unwrap();
    frame
}

fn syn() -> Vec<u8> {
    let builder = to_router().ipv4([10, 9, 9, 77], [10, 9, 9, 9], 64).tcp(1000, 22, 1, 1000).syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).unwrap();
    frame
}

fn datagram() -> Vec<u8> {
    let builder = to_router().ipv4([10, 9, 9, 77], [10, 9, 9, 9], 64).udp(1000, 4242);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0; 32]).unwrap();
    frame
}

fn arp_request(target: [u8; 4]) -> Vec<u8> {
    let arp = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        etherparse::ArpOperation::REQUEST,
        &[2, 0, 0, 0, 0, 2],
        &[10, 9, 9, 77],
        &[0; 6],
        &target,
    );
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [0xff; 6])
        .arp(arp.unwrap())
        .write(&mut frame)
        .unwrap();
    frame
}

/// The folded sum over the pseudo-header of a UDP frame, and its full checksum as sent.
fn checksum_and_pseudo_header_sum(frame: &[u8]) -> (u16, u16) {
    let (source, destination) = ipv4_of(frame);
    let mut sum: u32 = 17 + (frame.len() as u32 - 34);
    for address in [source, destination] {
        let [a, b, c, d] = address;
        sum += u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum as u16, u16::from_be_bytes([frame[40], frame[41]]))
}

/// A counter of the namespace's kernel.
fn counter(namespace: &lab::Namespace, name: &str) -> u64 {
    let output = namespace.exec(["nstat", "-asz", name]).unwrap().stdout;
    let line = output.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
