//! The operator's end of the line: a gateway with a DHCP server, in front of the Internet.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::server::{Server, ServerConfig};
use ipnet::Ipv4Net;
use packet::header::{destination_mac, ethernet, put_macs, source_mac};
use packet::icmp::{ErrorKind, answer, may_answer};
use packet::{Arp, Datagram, Instant, MacAddr, Offload, PacketBuf, Parsed, parse};

use crate::now;

/// Largest frame of the machine that hands out addresses.
const FRAME_MAX: usize = packet::SMALL_FRAME_MAX;

/// What the provider sends.
#[derive(Debug)]
pub(crate) enum Sent {
    /// A frame to the customer.
    Line(Vec<u8>),
    /// An IP packet into the Internet.
    Internet(Vec<u8>),
}

/// The gateway.
pub struct Provider {
    mac: MacAddr,
    net: Ipv4Net,
    lease: Duration,
    server: Server,
    stations: BTreeMap<Ipv4Addr, MacAddr>,
    out: VecDeque<Sent>,
    /// Packets from the line whose source is no address of the line: what a router must never let out.
    pub strangers: Vec<Ipv4Addr>,
}

impl Provider {
    /// Makes a gateway that leases `pool` out of its subnet.
    #[must_use]
    pub fn new(
        net: Ipv4Net,
        pool: (Ipv4Addr, Ipv4Addr),
        lease: Duration,
        instant: Instant,
    ) -> Self {
        let mac = MacAddr([6, 0xff, 0, 0, 0, 1]);
        let server = server(mac, net, pool, lease, instant);
        let (stations, out) = (BTreeMap::new(), VecDeque::new());
        Self { mac, net, lease, server, stations, out, strangers: Vec::new() }
    }

    /// The gateway's address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.net.addr()
    }

    /// Forgets all leases and hands out others from now on, as operators do at night.
    pub fn renumber(&mut self, pool: (Ipv4Addr, Ipv4Addr), instant: Instant) {
        self.server = server(self.mac, self.net, pool, self.lease, instant);
    }

    /// Takes a frame from the line.
    pub(crate) fn receive(&mut self, frame: &[u8], instant: Instant) {
        match parse(frame, Offload::NONE) {
            Ok(Parsed::Arp(arp)) => self.handle_arp(&arp, instant),
            Ok(Parsed::Ipv4(datagram)) => self.handle_ip(frame, &datagram, instant),
            Ok(Parsed::Fragment(_)) | Err(_) => {}
        }
        self.drain_server();
    }

    /// Takes an IP packet from the Internet for the line.
    pub(crate) fn receive_internet(&mut self, packet: &[u8]) {
        let mut frame = vec![0; ethernet::LEN];
        frame[ethernet::ETHERTYPE..].copy_from_slice(&ethernet::IPV4.to_be_bytes());
        frame.extend_from_slice(packet);
        let Ok(Parsed::Ipv4(datagram)) = parse(&frame, Offload::NONE) else { return };
        if let Some(mac) = self.stations.get(&datagram.destination.address) {
            put_macs(&mut frame, *mac, self.mac);
            self.out.push_back(Sent::Line(frame));
        }
    }

    pub(crate) fn handle_timeout(&mut self, instant: Instant) {
        self.server.handle_timeout(now(instant));
        self.drain_server();
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.server.poll_timeout()
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Sent> {
        self.out.pop_front()
    }

    fn handle_arp(&mut self, arp: &Arp, instant: Instant) {
        self.server.handle_arp(arp.sender, arp.sender_mac, now(instant));
        if !arp.sender.is_unspecified() {
            self.stations.insert(arp.sender, arp.sender_mac);
        }
        const REQUEST: u16 = 1;
        if arp.operation == REQUEST && arp.target == self.address() {
            let reply = smoltcp::wire::ArpRepr::EthernetIpv4 {
                operation: smoltcp::wire::ArpOperation::Reply,
                source_hardware_addr: smoltcp::wire::EthernetAddress(self.mac.0),
                source_protocol_addr: self.address(),
                target_hardware_addr: smoltcp::wire::EthernetAddress(arp.sender_mac.0),
                target_protocol_addr: arp.sender,
            };
            let mut frame = vec![0; ethernet::LEN + reply.buffer_len()];
            put_macs(&mut frame, arp.sender_mac, self.mac);
            frame[ethernet::ETHERTYPE..ethernet::LEN].copy_from_slice(&ethernet::ARP.to_be_bytes());
            let mut message = smoltcp::wire::ArpPacket::new_unchecked(&mut frame[ethernet::LEN..]);
            reply.emit(&mut message);
            self.out.push_back(Sent::Line(frame));
        }
    }

    fn handle_ip(&mut self, frame: &[u8], datagram: &Datagram, instant: Instant) {
        const DHCP_SERVER_PORT: u16 = 67;
        if datagram.destination.port == DHCP_SERVER_PORT {
            return self.server.handle_frame(frame, now(instant));
        }
        if destination_mac(frame) != self.mac {
            return;
        }
        let source = datagram.source.address;
        if !self.net.contains(&source) {
            self.strangers.push(source);
        }
        self.stations.insert(source, source_mac(frame));
        if datagram.ttl <= 1 {
            return self.refuse(frame, datagram);
        }
        let packet = &frame[usize::from(datagram.l3)..datagram.end as usize];
        self.out.push_back(Sent::Internet(packet.to_vec()));
    }

    fn refuse(&mut self, frame: &[u8], datagram: &Datagram) {
        let mut packet = PacketBuf::small();
        if packet.copy_from(frame) && may_answer(frame, datagram) {
            answer(&mut packet, datagram, ErrorKind::TimeExceeded, self.mac, self.address());
            self.out.push_back(Sent::Line(packet.frame().to_vec()));
        }
    }

    /// The provider keeps nothing on stable storage, and needs no events.
    fn drain_server(&mut self) {
        while self.server.poll_store().is_some() {}
        while self.server.poll_event().is_some() {}
        let mut buffer = [0; FRAME_MAX];
        while let Some(len) = self.server.poll_transmit(&mut buffer) {
            self.out.push_back(Sent::Line(buffer[..len].to_vec()));
        }
    }
}

fn server(
    mac: MacAddr,
    net: Ipv4Net,
    pool: (Ipv4Addr, Ipv4Addr),
    lease: Duration,
    instant: Instant,
) -> Server {
    let mut config = ServerConfig::new("line".into(), mac, net.addr(), net);
    config.pools = vec![pool];
    config.lease = lease;
    Server::new(config, Vec::new(), now(instant))
}
