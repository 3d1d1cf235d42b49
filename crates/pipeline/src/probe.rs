//! Packets made up to be asked about.

use packet::header::{ethernet, icmp, ipv4, put_macs, put_u16, seal_ipv4, tcp, udp};
use packet::{Endpoint, MacAddr, PacketBuf, Protocol, checksum};

/// TTL of a packet that has come no far way.
const TTL: u8 = 64;

/// The MSS that a probe's SYN promises: that of Ethernet, as nearly all hosts do.
const MSS: u16 = 1460;

/// Kind and length of the MSS option (RFC 9293 §3.2).
const MSS_OPTION: [u8; 2] = [2, 4];

/// A packet as somebody describes it who asks about its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// What it carries.
    pub kind: ProbeKind,
    /// Source; of ICMP the port is the identifier.
    pub source: Endpoint,
    /// Destination; of ICMP without port.
    pub destination: Endpoint,
}

/// What a probe carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeKind {
    /// A TCP segment without data, with these flags; a SYN promises an MSS.
    Tcp(u8),
    /// An empty UDP datagram.
    Udp,
    /// An ICMP echo request.
    Echo,
}

impl Probe {
    /// The packet in an Ethernet frame to this station.
    #[must_use]
    pub fn packet(&self, to: MacAddr) -> PacketBuf {
        let segment = self.segment();
        let total = ipv4::LEN_MIN + segment.len();
        let mut packet = PacketBuf::small();
        packet.set_len(ethernet::LEN + total);
        let frame = packet.frame_mut();
        put_macs(frame, to, MacAddr::ZERO);
        put_u16(frame, ethernet::ETHERTYPE, ethernet::IPV4);
        let header = &mut frame[ethernet::LEN..];
        header[..ipv4::LEN_MIN].fill(0);
        header[0] = 0x45;
        put_u16(header, ipv4::TOTAL_LENGTH, total as u16);
        put_u16(header, ipv4::FRAGMENT, ipv4::DONT_FRAGMENT);
        header[ipv4::TTL] = TTL;
        header[ipv4::PROTOCOL] = self.protocol() as u8;
        header[ipv4::SOURCE..][..4].copy_from_slice(&self.source.address.octets());
        header[ipv4::DESTINATION..][..4].copy_from_slice(&self.destination.address.octets());
        header[ipv4::LEN_MIN..].copy_from_slice(&segment);
        seal_ipv4(frame, ethernet::LEN, ipv4::LEN_MIN);
        packet
    }

    fn protocol(&self) -> Protocol {
        match self.kind {
            ProbeKind::Tcp(_) => Protocol::Tcp,
            ProbeKind::Udp => Protocol::Udp,
            ProbeKind::Echo => Protocol::Icmp,
        }
    }

    fn segment(&self) -> Vec<u8> {
        let (source, destination) = (self.source.port, self.destination.port);
        match self.kind {
            ProbeKind::Tcp(flags) => {
                let options = if flags & tcp::SYN == 0 { 0 } else { MSS_OPTION.len() + 2 };
                let mut segment = vec![0; tcp::LEN_MIN + options];
                let words = (segment.len() / 4) as u8;
                put_u16(&mut segment, tcp::SOURCE, source);
                put_u16(&mut segment, tcp::DESTINATION, destination);
                segment[tcp::DATA_OFFSET] = words << 4;
                segment[tcp::FLAGS] = flags;
                if options > 0 {
                    segment[tcp::LEN_MIN..][..MSS_OPTION.len()].copy_from_slice(&MSS_OPTION);
                    put_u16(&mut segment, tcp::LEN_MIN + MSS_OPTION.len(), MSS);
                }
                let sum = self.checksum(&segment);
                put_u16(&mut segment, tcp::CHECKSUM, sum);
                segment
            }
            ProbeKind::Udp => {
                let mut segment = vec![0; udp::LEN];
                put_u16(&mut segment, udp::SOURCE, source);
                put_u16(&mut segment, udp::DESTINATION, destination);
                put_u16(&mut segment, udp::LENGTH, udp::LEN as u16);
                segment
            }
            ProbeKind::Echo => {
                let mut segment = vec![0; icmp::LEN];
                segment[icmp::TYPE] = 8;
                put_u16(&mut segment, icmp::IDENTIFIER, source);
                let sum = checksum::of(&segment);
                put_u16(&mut segment, icmp::CHECKSUM, sum);
                segment
            }
        }
    }

    fn checksum(&self, segment: &[u8]) -> u16 {
        let (source, destination) =
            (self.source.address.octets(), self.destination.address.octets());
        let len = segment.len() as u16;
        let pseudo = checksum::pseudo_header(source, destination, self.protocol() as u8, len);
        !checksum::fold(checksum::sum(segment, u32::from(pseudo)))
    }
}
