//! Malformed and forged frames of every kind: counted by reason, and the router goes on. Needs root.

#![cfg(target_os = "linux")]

use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use lab::house::{Client, DMZ, REMOTE, Stub};
use packet::MacAddr;
use tests::house::{Home, eventually, run};
use tests::raw::RawHost;

/// Start of the IP header in an untagged frame.
const IP: usize = 14;
/// Start of the transport header behind an IP header without options.
const L4: usize = IP + 20;

/// A frame and the reason for which it has to be dropped.
type Case = (&'static str, Vec<u8>);

/// Makes frames between two stations.
struct Maker {
    from: MacAddr,
    to: MacAddr,
    source: [u8; 4],
    destination: [u8; 4],
}

impl Maker {
    fn ip(&self) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        let ethernet = PacketBuilder::ethernet2(self.from.0, self.to.0);
        ethernet.ipv4(self.source, self.destination, 64)
    }

    fn udp(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = self.ip().udp(4000, 7000);
        builder.write(&mut frame, b"payload").expect("writing to memory can't fail");
        frame
    }

    fn tcp(&self, syn: bool, fin: bool) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut builder = self.ip().tcp(4000, 80, 1, 1000);
        if syn {
            builder = builder.syn();
        }
        if fin {
            builder = builder.fin();
        }
        builder.write(&mut frame, b"").expect("writing to memory can't fail");
        frame
    }

    fn ping(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = self.ip().icmpv4_echo_request(1, 1);
        builder.write(&mut frame, b"payload").expect("writing to memory can't fail");
        frame
    }

    /// An ICMP message of some type and code, with a body.
    fn icmp(&self, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
        let raw =
            etherparse::Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [0; 4] };
        let mut frame = Vec::new();
        self.ip().icmpv4(raw).write(&mut frame, body).expect("writing to memory can't fail");
        frame
    }

    fn from(&self, source: [u8; 4]) -> Self {
        Self { source, ..*self }
    }

    fn to(&self, destination: [u8; 4]) -> Self {
        Self { destination, ..*self }
    }
}

/// Changes bytes of a frame from `at` on.
fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Changes bytes of the IP header and makes its checksum right again.
fn sealed(frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = with(frame, at, bytes);
    let len = usize::from(frame[IP] & 0x0f) * 4;
    packet::header::seal_ipv4(&mut frame, IP, len);
    frame
}

/// A loose source route in front of the transport header.
fn source_routed(frame: &[u8]) -> Vec<u8> {
    let options = [131, 7, 4, 10, 0, 0, 1, 0];
    let mut frame = [&frame[..L4], &options, &frame[L4..]].concat();
    let total = (frame.len() - IP) as u16;
    frame[IP] = 0x47;
    sealed(frame, IP + 2, &total.to_be_bytes())
}

fn ethernet(maker: &Maker, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&maker.to.0[..], &maker.from.0, &ethertype.to_be_bytes(), payload].concat()
}

/// What is wrong whatever the link.
fn on_any_link(maker: &Maker) -> Vec<Case> {
    let udp = || maker.udp();
    let len = |bytes: u16| bytes.to_be_bytes();
    let stranger = Maker { to: MacAddr([2, 0, 0, 0, 0, 0x77]), ..*maker };
    vec![
        ("ethertype-unsupported", ethernet(maker, 0x88cc, &[0; 46])),
        ("ipv6", ethernet(maker, 0x86dd, &[0x60; 46])),
        ("arp-malformed", ethernet(maker, 0x0806, &[0; 46])),
        ("not-for-us", stranger.udp()),
        ("ip-version", with(udp(), IP, &[0x65])),
        ("ip-header-length", with(udp(), IP, &[0x44])),
        ("ip-header-length", with(udp(), IP, &[0x4f])),
        ("ip-truncated", sealed(udp(), IP + 2, &len(1400))),
        ("ip-truncated", udp()[..IP + 12].to_vec()),
        ("ip-total-length", sealed(udp(), IP + 2, &len(12))),
        ("ip-checksum", with(udp(), IP + 10, &[0xde, 0xad])),
        ("ip-source-route", source_routed(&udp())),
        ("fragment-length", sealed(udp(), IP + 6, &[0x20, 0x00])),
        ("fragment-too-long", sealed(udp(), IP + 6, &[0x1f, 0xff])),
        ("fragment-tiny", sealed(maker.tcp(true, false), IP + 6, &[0x00, 0x01])),
        ("protocol-unsupported", sealed(udp(), IP + 9, &[51])),
        ("transport-truncated", sealed(udp(), IP + 2, &len(24))),
        ("transport-length", with(udp(), L4 + 4, &len(900))),
        ("transport-length", with(maker.tcp(true, false), L4 + 12, &[0x40])),
        ("transport-port-zero", with(udp(), L4, &[0, 0])),
        ("tcp-flags", maker.tcp(true, true)),
        ("icmp-checksum", with(maker.ping(), L4 + 2, &[0xbe, 0xef])),
        ("icmp-unsupported", maker.icmp(5, 0, &[0; 28])),
        ("icmp-embedded", maker.icmp(3, 3, &[0x45; 12])),
        ("source-martian", maker.from([127, 0, 0, 1]).udp()),
        ("source-martian", maker.from([224, 0, 0, 9]).udp()),
        ("land", maker.from(maker.destination).udp()),
    ]
}

/// Sends every frame and checks that each is counted for its reason.
fn check(home: &Home, sender: &RawHost, cases: &[Case]) -> Result<()> {
    for (reason, frame) in cases {
        let before = home.dropped(reason)?;
        sender.send(std::slice::from_ref(frame))?;
        let counted = || Ok(home.dropped(reason)? == before + 1);
        eventually(reason, counted).with_context(|| {
            format!("{reason}: {frame:02x?}\n{}", home.ctl("drops").unwrap_or_default())
        })?;
    }
    Ok(())
}

/// The MAC address of a link of the router.
fn mac_of(home: &Home, link: &str) -> Result<MacAddr> {
    let status = home.ctl_json("status")?;
    let links = status["links"].as_array().context("links are a list")?;
    let found = links.iter().find(|found| found["name"] == link).context("the link is listed")?;
    Ok(found["mac"].as_str().context("a link has a MAC")?.parse()?)
}

#[test]
fn malformed_and_forged_frames_from_a_lan_are_counted_by_reason() -> Result<()> {
    let home = Home::boot("raw")?;
    let sender = RawHost::of(home.house.lan_host("mallory", Stub::Home, None)?)?;
    let maker = Maker {
        from: sender.mac(),
        to: mac_of(&home, "lan0")?,
        source: [10, 0, 0, 50],
        destination: octets(REMOTE)?,
    };
    let mut cases = on_any_link(&maker);
    let dmz_broadcast = octets(DMZ).map(|dmz| [dmz[0], dmz[1], dmz[2], 255])?;
    cases.extend([
        ("source-spoofed", maker.from([10, 9, 9, 9]).udp()),
        ("source-spoofed", maker.from([203, 0, 113, 77]).udp()),
        ("destination-martian", maker.to([240, 0, 0, 1]).udp()),
        ("destination-martian", maker.to([127, 0, 0, 1]).udp()),
        ("multicast", maker.to([239, 1, 2, 3]).udp()),
        ("broadcast", maker.to([255, 255, 255, 255]).udp()),
        ("directed-broadcast", maker.to(dmz_broadcast).udp()),
    ]);
    check(&home, &sender, &cases)?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    run(&alice, &format!("ping -n -c 1 -W 2 {REMOTE}"))?;
    Ok(())
}

#[test]
fn malformed_and_forged_frames_from_the_wan_are_counted_by_reason() -> Result<()> {
    let home = Home::boot("raw")?;
    let sender = RawHost::on_wan(&home.house, "mallory")?;
    let maker = Maker {
        from: sender.mac(),
        to: mac_of(&home, "wan0")?,
        source: [203, 0, 113, 77],
        destination: octets(&home.wan_address()?)?,
    };
    let stranger = Maker { to: MacAddr([2, 0, 0, 0, 0, 0x77]), ..maker };
    let unknown_flow = &maker.udp()[IP..];
    // A macvlan hands up only what is addressed to it.
    let mut cases: Vec<_> =
        on_any_link(&maker).into_iter().filter(|(reason, _)| *reason != "not-for-us").collect();
    assert!(on_any_link(&maker).iter().any(|(_, frame)| *frame == stranger.udp()));
    cases.extend([
        ("source-internal", maker.from([10, 0, 0, 50]).udp()),
        ("source-internal", maker.from([10, 0, 1, 50]).udp()),
        ("no-mapping", maker.udp()),
        ("no-mapping", maker.tcp(true, false)),
        ("icmp-no-session", maker.icmp(3, 3, unknown_flow)),
    ]);
    check(&home, &sender, &cases)?;
    let (alice, _) = home.host("alice", Client::Udhcpc)?;
    run(&alice, &format!("ping -n -c 1 -W 2 {REMOTE}"))?;
    Ok(())
}

fn octets(address: &str) -> Result<[u8; 4]> {
    Ok(address.parse::<std::net::Ipv4Addr>()?.octets())
}
