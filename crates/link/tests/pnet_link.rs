//! The portable link in network namespaces. Needs root.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::time::Duration;

use lab::{Lab, Namespace, wait_until};
use link::{AfPacket, Link, LinkState, OpenError, PnetLink};
use packet::{Batch, LinkId, Offload, Pool};
use support::{Forwarder, Station, recv_all, recv_until, send_one, wait_readable};

const MTU: usize = 1500;

/// A lab with our link wan0 in the first namespace and eth0, 10.0.0.2, in the second.
fn pair() -> (Lab, Namespace, Namespace) {
    let lab = Lab::new("pnet").unwrap();
    let (ours, peer) = (lab.namespace("ours").unwrap(), lab.namespace("peer").unwrap());
    lab.veth((&ours, "wan0", "02:00:00:00:00:01"), (&peer, "eth0")).unwrap();
    peer.exec(["ip", "address", "add", "10.0.0.2/24", "dev", "eth0"]).unwrap();
    peer.exec(["ip", "neighbour", "add", "10.0.0.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0"])
        .unwrap();
    (lab, ours, peer)
}

fn open(namespace: &Namespace, link: &str) -> PnetLink {
    namespace.enter(|| PnetLink::open(link, LinkId(5), MTU)).unwrap().unwrap()
}

#[test]
fn a_peer_gets_answers() {
    let (_lab, ours, peer) = pair();
    let link = open(&ours, "wan0");
    assert_eq!(link.mac().to_string(), "02:00:00:00:00:01");
    assert!(Station::new(link).answers_ping_of(&peer));
}

#[test]
fn what_keeps_a_link_from_opening_is_said() {
    let (_lab, _ours, peer) = pair();
    let error = peer.enter(|| PnetLink::open("eth0", LinkId::WAN, MTU)).unwrap().err().unwrap();
    assert!(matches!(error, OpenError::KernelAddress { prefix_len: 24, .. }), "{error}");
    let error = peer.enter(|| PnetLink::open("none", LinkId::WAN, MTU)).unwrap().err().unwrap();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
}

#[test]
fn a_full_batch_leaves_the_link_readable() {
    let (_lab, ours, peer) = pair();
    peer.exec(["ip", "address", "flush", "dev", "eth0"]).unwrap();
    let mut link = open(&ours, "wan0");
    let mut peer = peer.enter(|| AfPacket::open("eth0", LinkId(1))).unwrap().unwrap();
    for number in 0..5u8 {
        assert_eq!(send_one(&mut peer, &[number; 60], Offload::NONE).sent, 1);
    }
    let (mut batch, mut pool, mut seen) = (Batch::new(), Pool::small(2), Vec::new());
    while seen.len() < 5 {
        assert!(wait_readable(&[&link], Duration::from_secs(5)), "{seen:?}");
        link.recv(&mut batch, &mut pool).unwrap();
        assert!(batch.packets().iter().all(|packet| packet.ingress == LinkId(5)));
        seen.extend(batch.packets().iter().map(|packet| packet.frame()[0]));
        batch.recycle(&mut pool);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert!(!wait_readable(&[&link], Duration::from_millis(100)));
}

#[test]
fn own_transmissions_are_not_received() {
    let (_lab, ours, peer) = pair();
    peer.exec(["ip", "address", "flush", "dev", "eth0"]).unwrap();
    let mut link = open(&ours, "wan0");
    let mut peer = peer.enter(|| AfPacket::open("eth0", LinkId(1))).unwrap().unwrap();
    // Another source address, so that only the socket can know that the frame is ours.
    assert_eq!(send_one(&mut link, &[7; 60], Offload::NONE).sent, 1);
    let (mut batch, mut pool) = (Batch::new(), Pool::large(4));
    recv_until(&mut peer, &mut batch, &mut pool, |packet| packet.frame() == [7; 60]);
    assert_eq!(recv_all(&mut link, Duration::from_millis(150)), Vec::<Vec<u8>>::new());
}

#[test]
fn a_link_that_goes_down_comes_back_and_a_removed_one_is_gone() {
    let (_lab, ours, peer) = pair();
    ours.enter(|| {
        let mut link = PnetLink::open("wan0", LinkId(5), MTU).unwrap();
        assert_eq!(link.state(), LinkState::Up);
        ours.exec(["ip", "link", "set", "dev", "wan0", "down"]).unwrap();
        assert_eq!(link.state(), LinkState::Down);
        assert_eq!(send_one(&mut link, &[7; 60], Offload::NONE).sent, 0);
        ours.exec(["ip", "link", "set", "dev", "wan0", "up"]).unwrap();
        wait_until(Duration::from_secs(5), "carrier", || link.state() == LinkState::Up).unwrap();
        let mut station = Station::new(link);
        assert!(station.answers_ping_of(&peer));
        ours.exec(["ip", "link", "del", "wan0"]).unwrap();
        assert_eq!(station.into_link().state(), LinkState::Gone);
    })
    .unwrap();
}

#[test]
fn tcp_crosses_when_the_peers_offloads_are_off() {
    let lab = Lab::new("pnet").unwrap();
    let [left, ours, right] = ["left", "ours", "right"].map(|name| lab.namespace(name).unwrap());
    lab.veth((&ours, "to-left"), (&left, "eth0")).unwrap();
    lab.veth((&ours, "to-right"), (&right, "eth0")).unwrap();
    for (namespace, address) in [(&left, "10.0.0.1/24"), (&right, "10.0.0.2/24")] {
        namespace.exec(["ip", "address", "add", address, "dev", "eth0"]).unwrap();
        namespace.exec(["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off"]).unwrap();
    }
    let forwarder = Forwarder::start(open(&ours, "to-left"), open(&ours, "to-right"));
    let server = right.spawn(["iperf3", "-s", "-1", "--forceflush"]).unwrap();
    wait_until(Duration::from_secs(10), "iperf3 listens", || server.log().contains("listening"))
        .unwrap();
    let report = left.exec(["iperf3", "-c", "10.0.0.2", "-n", "20M"]).unwrap().stdout;
    assert!(report.contains("receiver"), "{report}");
    assert_eq!(forwarder.stop(), 1514);
}
