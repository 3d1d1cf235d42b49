//! Frames made, and frames understood, by a parser that is not ours.

use std::net::Ipv4Addr;
use std::ops::Range;

use etherparse::{
    ArpOperation, ArpPacket, EtherType, Icmpv4Slice, Icmpv4Type, IpHeaders, Ipv4Header, NetSlice,
    PacketBuilder, PacketBuilderStep, SlicedPacket, TcpOptionElement, TransportSlice,
};
use packet::{Endpoint, MacAddr, Protocol};

/// The TTL of every frame made here.
pub const TTL: u8 = 64;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const FIN: u8 = 0x01;
pub const RST: u8 = 0x04;

pub fn ep(address: Ipv4Addr, port: u16) -> Endpoint {
    Endpoint::new(address, port)
}

/// Who sends a frame to whom: stations and IP header.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub from_mac: MacAddr,
    pub to_mac: MacAddr,
    pub ttl: u8,
    pub tos: u8,
    pub dont_fragment: bool,
}

impl Way {
    pub fn new(from_mac: MacAddr, to_mac: MacAddr) -> Self {
        Self { from_mac, to_mac, ttl: TTL, tos: 0, dont_fragment: false }
    }

    fn ip(&self, source: Ipv4Addr, destination: Ipv4Addr) -> PacketBuilderStep<IpHeaders> {
        let mut header = Ipv4Header {
            time_to_live: self.ttl,
            source: source.octets(),
            destination: destination.octets(),
            dont_fragment: self.dont_fragment,
            identification: 0x1234,
            ..Ipv4Header::default()
        };
        header.dscp = etherparse::IpDscp::try_new(self.tos >> 2).unwrap();
        PacketBuilder::ethernet2(self.from_mac.0, self.to_mac.0)
            .ip(IpHeaders::Ipv4(header, Default::default()))
    }

    pub fn udp(&self, source: Endpoint, destination: Endpoint, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = self.ip(source.address, destination.address);
        builder.udp(source.port, destination.port).write(&mut bytes, payload).unwrap();
        bytes
    }

    /// An IP packet of any protocol.
    pub fn raw(
        &self,
        protocol: Protocol,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        segment: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let number = etherparse::IpNumber(protocol as u8);
        self.ip(source, destination).write(&mut bytes, number, segment).unwrap();
        bytes
    }

    pub fn tcp(&self, source: Endpoint, destination: Endpoint, flags: u8, data: &[u8]) -> Vec<u8> {
        self.tcp_with(source, destination, flags, &[], data)
    }

    pub fn tcp_with(
        &self,
        source: Endpoint,
        destination: Endpoint,
        flags: u8,
        options: &[TcpOptionElement],
        data: &[u8],
    ) -> Vec<u8> {
        self.segment((source, destination), flags, (1000, 77), options, data)
    }

    /// A segment without data, by sequence and acknowledgement number.
    pub fn tcp_at(
        &self,
        source: Endpoint,
        destination: Endpoint,
        flags: u8,
        numbers: (u32, u32),
    ) -> Vec<u8> {
        self.segment((source, destination), flags, numbers, &[], b"")
    }

    fn segment(
        &self,
        (source, destination): (Endpoint, Endpoint),
        flags: u8,
        (sequence, acknowledgement): (u32, u32),
        options: &[TcpOptionElement],
        data: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = self.ip(source.address, destination.address);
        let mut tcp = builder.tcp(source.port, destination.port, sequence, 4096);
        if flags & SYN != 0 {
            tcp = tcp.syn();
        }
        if flags & ACK != 0 {
            tcp = tcp.ack(acknowledgement);
        }
        if flags & RST != 0 {
            tcp = tcp.rst();
        }
        if flags & FIN != 0 {
            tcp = tcp.fin();
        }
        tcp.options(options).unwrap().write(&mut bytes, data).unwrap();
        bytes
    }

    pub fn icmp(&self, source: Ipv4Addr, destination: Ipv4Addr, kind: Icmpv4Type) -> Vec<u8> {
        self.icmp_about(source, destination, kind, b"payload")
    }

    /// An ICMP message that carries `payload`: of an error, the packet that it is about.
    pub fn icmp_about(
        &self,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        kind: Icmpv4Type,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.ip(source, destination).icmpv4(kind).write(&mut bytes, payload).unwrap();
        bytes
    }
}

/// The IP header of a frame.
pub fn ip_header(frame: &[u8]) -> Ipv4Header {
    Ipv4Header::from_slice(&frame[ETHERNET..]).unwrap().0
}

/// The frame with an IP header changed and its checksum made right.
pub fn with_ip(frame: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let (mut header, payload) = Ipv4Header::from_slice(&frame[ETHERNET..]).unwrap();
    change(&mut header);
    rebuilt(&frame[..ETHERNET], header, payload)
}

/// The fragment that carries these bytes of a frame's IP payload.
pub fn piece(frame: &[u8], bytes: Range<usize>) -> Vec<u8> {
    let (mut header, payload) = Ipv4Header::from_slice(&frame[ETHERNET..]).unwrap();
    header.fragment_offset = (bytes.start as u16 / 8).try_into().unwrap();
    header.more_fragments = bytes.end < payload.len();
    rebuilt(&frame[..ETHERNET], header, &payload[bytes])
}

/// A frame in fragments of at most so much of its IP payload each.
pub fn pieces(frame: &[u8], payload_max: usize) -> Vec<Vec<u8>> {
    let len = frame.len() - ETHERNET - ip_header(frame).header_len();
    let begins = (0..len).step_by(payload_max);
    begins.map(|begin| piece(frame, begin..len.min(begin + payload_max))).collect()
}

/// The frame that fragments in order are the parts of; they agree in all that they repeat.
pub fn joined<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let frames: Vec<_> = frames.into_iter().collect();
    let first = ip_header(frames[0]);
    let mut whole = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let (header, payload) = Ipv4Header::from_slice(&frame[ETHERNET..]).unwrap();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "IP checksum");
        assert_eq!(frame.len(), ETHERNET + usize::from(header.total_len));
        assert_eq!(usize::from(header.fragment_offset.value()) * 8, whole.len(), "in order");
        assert_eq!(header.more_fragments, index + 1 < frames.len());
        let facts = |h: &Ipv4Header| (h.identification, h.source, h.destination, h.time_to_live);
        assert_eq!(facts(&header), facts(&first));
        assert_eq!(header.dont_fragment, first.dont_fragment);
        assert_eq!(frame[..ETHERNET], frames[0][..ETHERNET]);
        whole.extend_from_slice(payload);
    }
    let header = Ipv4Header { more_fragments: false, ..first };
    rebuilt(&frames[0][..ETHERNET], header, &whole)
}

fn rebuilt(ethernet: &[u8], mut header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    header.total_len = (header.header_len() + payload.len()) as u16;
    header.header_checksum = header.calc_header_checksum();
    let mut frame = ethernet.to_vec();
    header.write_raw(&mut frame).unwrap();
    frame.extend_from_slice(payload);
    frame
}

pub fn echo_request(id: u16) -> Icmpv4Type {
    Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id, seq: 3 })
}

pub fn echo_reply(id: u16) -> Icmpv4Type {
    Icmpv4Type::EchoReply(etherparse::IcmpEchoHeader { id, seq: 3 })
}

pub fn arp(
    operation: ArpOperation,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let packet = ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender.0.0,
        &sender.1.octets(),
        &target.0.0,
        &target.1.octets(),
    );
    let destination = if target.0 == MacAddr::ZERO { MacAddr::BROADCAST } else { target.0 };
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ethernet2(sender.0.0, destination.0);
    builder.arp(packet.unwrap()).write(&mut bytes).unwrap();
    bytes
}

/// What a frame carries.
#[derive(Clone, PartialEq, Debug)]
pub enum Carried {
    Udp,
    Tcp {
        flags: u8,
        sequence: u32,
        mss: Option<u16>,
    },
    Icmp(Icmpv4Type),
    /// Any other protocol, by number: all behind the IP header is payload.
    Other(u8),
}

/// A frame whose lengths and checksums are all right.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    pub from_mac: MacAddr,
    pub to_mac: MacAddr,
    pub ttl: u8,
    /// Port 0 for ICMP.
    pub source: Endpoint,
    pub destination: Endpoint,
    pub carried: Carried,
    pub payload: Vec<u8>,
}

impl Seen {
    pub fn endpoints(&self) -> (Endpoint, Endpoint) {
        (self.source, self.destination)
    }

    pub fn echo_id(&self) -> u16 {
        match &self.carried {
            Carried::Icmp(Icmpv4Type::EchoRequest(echo) | Icmpv4Type::EchoReply(echo)) => echo.id,
            other => panic!("no echo: {other:?}"),
        }
    }

    /// The endpoints of the packet that an ICMP error embeds; its checksums must be right as far as it goes.
    pub fn embedded(&self) -> (Endpoint, Endpoint) {
        assert!(matches!(self.carried, Carried::Icmp(_)), "{:?}", self.carried);
        embedded(&self.payload)
    }
}

/// Parses a frame, and checks its lengths and checksums.
pub fn see(frame: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let link = sliced.link.clone().unwrap().to_header().unwrap().ethernet2().unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4: {sliced:?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IP checksum");
    assert_eq!(usize::from(header.total_len), frame.len() - 14, "IP total length");
    let (ports, carried, payload) = match &sliced.transport {
        Some(transport) => understand(&header, transport),
        None => ((0, 0), Carried::Other(header.protocol.0), ip.payload().payload.to_vec()),
    };
    Seen {
        from_mac: MacAddr(link.source),
        to_mac: MacAddr(link.destination),
        ttl: header.time_to_live,
        source: ep(header.source.into(), ports.0),
        destination: ep(header.destination.into(), ports.1),
        carried,
        payload,
    }
}

fn understand(ip: &Ipv4Header, transport: &TransportSlice<'_>) -> ((u16, u16), Carried, Vec<u8>) {
    match transport {
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let sum = header.calc_checksum_ipv4(ip, udp.payload()).unwrap();
            assert!(header.checksum == 0 || header.checksum == sum, "UDP checksum");
            assert_eq!(usize::from(header.length), 8 + udp.payload().len());
            let ports = (header.source_port, header.destination_port);
            (ports, Carried::Udp, udp.payload().to_vec())
        }
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let sum = header.calc_checksum_ipv4(ip, tcp.payload()).unwrap();
            assert_eq!(header.checksum, sum, "TCP checksum");
            let mss = tcp.options_iterator().flatten().find_map(|option| match option {
                TcpOptionElement::MaximumSegmentSize(mss) => Some(mss),
                _ => None,
            });
            let flags = tcp.slice()[13];
            let carried = Carried::Tcp { flags, sequence: header.sequence_number, mss };
            ((header.source_port, header.destination_port), carried, tcp.payload().to_vec())
        }
        TransportSlice::Icmpv4(icmp) => {
            assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()), "ICMP");
            ((0, 0), Carried::Icmp(icmp.icmp_type()), icmp.payload().to_vec())
        }
        other @ (TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) => panic!("{other:?}"),
    }
}

fn embedded(packet: &[u8]) -> (Endpoint, Endpoint) {
    let (ip, rest) = Ipv4Header::from_slice(packet).unwrap();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "embedded IP checksum");
    let whole = usize::from(ip.total_len) == packet.len();
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let ports = match ip.protocol.0 {
        1 if whole => {
            let icmp = Icmpv4Slice::from_slice(rest).unwrap();
            assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
            (port(4), 0)
        }
        1 => (port(4), 0),
        _ => (port(0), port(2)),
    };
    if whole && ip.protocol.0 != 1 {
        let mut frame = vec![0; 14];
        frame[12..].copy_from_slice(&0x0800u16.to_be_bytes());
        frame.extend_from_slice(packet);
        see(&frame);
    }
    (ep(ip.source.into(), ports.0), ep(ip.destination.into(), ports.1))
}
