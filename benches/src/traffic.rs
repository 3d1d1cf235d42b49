//! Frames of as many flows as wanted, written field by field from their number.

use std::net::Ipv4Addr;

use packet::header::{ethernet, ipv4, put_macs, put_u16, put_u32, seal_ipv4, tcp};
use packet::{Endpoint, L4, LinkId, MacAddr, PacketBuf, Protocol};

use crate::rig::{self, Rig};

/// Hosts inside, unless a measurement is about them: as many as a large home or an office has.
pub const HOSTS: usize = 250;

/// Address of a host inside.
pub(crate) fn host(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1 + (number / 250) as u8, 1 + (number % 250) as u8)
}

/// Internal endpoints: those of one external address, with room to spare. Beyond them a flow is another remote
/// endpoint of the same mapping.
const PAIRS: usize = 50_000;

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From a host inside.
    Outbound,
    /// From the WAN.
    Inbound,
}

/// What packets are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mix {
    /// UDP in frames of 64 bytes, FCS included.
    Small,
    /// Half of the flows TCP, half UDP; of twelve frames seven have 64 bytes, four 594 and one 1518, FCS included.
    Imix,
}

/// A reproducible sequence of numbers, cheap enough to draw beside the packets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins a sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number below `limit`.
    #[inline]
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * limit as u128) >> 64) as usize
    }
}

/// Flows, and how their packets look on either side.
pub struct Traffic {
    mix: Mix,
    hosts: usize,
    small: [Vec<u8>; 2],
    /// External endpoint of each internal one, as the router chose it.
    pub(crate) external: Vec<Endpoint>,
    lengths: Random,
}

impl Traffic {
    /// Prepares frames.
    #[must_use]
    pub fn new(mix: Mix) -> Self {
        Self::of_hosts(mix, HOSTS)
    }

    /// The same, of so many hosts.
    #[must_use]
    pub fn of_hosts(mix: Mix, hosts: usize) -> Self {
        let small = [template(Protocol::Udp), template(Protocol::Tcp)];
        Self { mix, hosts, small, external: Vec::new(), lengths: Random::new(7) }
    }

    /// Whether the `number`th flow is TCP.
    #[must_use]
    #[inline]
    pub fn is_tcp(&self, number: usize) -> bool {
        self.mix == Mix::Imix && number.is_multiple_of(2)
    }

    /// The two ends of the `number`th flow.
    #[must_use]
    #[inline]
    pub fn endpoints(&self, number: usize) -> (Endpoint, Endpoint) {
        let (pair, remote) = (number % PAIRS, number / PAIRS);
        let internal = Endpoint::new(host(pair % self.hosts), 10_000 + (pair / self.hosts) as u16);
        (internal, Endpoint::new(Ipv4Addr::new(203, 0, 113, 1 + remote as u8), 443))
    }

    /// Of which internal endpoint the `number`th flow is.
    #[must_use]
    #[inline]
    pub fn pair(number: usize) -> usize {
        number % PAIRS
    }

    /// Writes a packet of a flow as it arrives.
    #[inline]
    pub fn write(&mut self, packet: &mut PacketBuf, way: Way, number: usize) {
        self.write_flags(packet, way, number, tcp::ACK);
    }

    /// The same with other TCP flags.
    pub fn write_flags(&mut self, packet: &mut PacketBuf, way: Way, number: usize, flags: u8) {
        let (internal, remote) = self.endpoints(number);
        let is_tcp = self.is_tcp(number);
        let fits = packet.copy_from(&self.small[usize::from(is_tcp)]);
        assert!(fits, "a small frame fits any buffer");
        let (from, to) = match way {
            Way::Outbound => (internal, remote),
            Way::Inbound => (remote, self.external[Self::pair(number)]),
        };
        packet.ingress = if way == Way::Outbound { rig::LAN } else { LinkId::WAN };
        let own = Rig::mac(packet.ingress);
        let len = self.length(flags);
        packet.set_len(len);
        let frame = packet.frame_mut();
        put_macs(frame, own, MacAddr([6, 0, 0, 0, 0, 1]));
        let (l3, l4) = (ethernet::LEN, ethernet::LEN + ipv4::LEN_MIN);
        put_u16(frame, l3 + ipv4::TOTAL_LENGTH, (len - l3) as u16);
        put_u32(frame, l3 + ipv4::SOURCE, from.address.to_bits());
        put_u32(frame, l3 + ipv4::DESTINATION, to.address.to_bits());
        seal_ipv4(frame, l3, ipv4::LEN_MIN);
        put_u16(frame, l4, from.port);
        put_u16(frame, l4 + 2, to.port);
        if is_tcp {
            frame[l4 + tcp::FLAGS] = flags;
        } else {
            put_u16(frame, l4 + 4, (len - l4) as u16);
        }
    }

    /// Length of the next frame without FCS; segments that open a connection are small.
    fn length(&mut self, flags: u8) -> usize {
        if self.mix == Mix::Small || flags & tcp::SYN != 0 {
            return FRAME_MIN;
        }
        match self.lengths.below(12) {
            0..7 => FRAME_MIN,
            7..11 => 590,
            _ => 1514,
        }
    }
}

/// A frame of the smallest length, without its addresses. Transport checksums are only changed by difference, so any
/// but UDP's zero will do.
fn template(protocol: Protocol) -> Vec<u8> {
    const HEADER: [u8; ipv4::LEN_MIN] =
        [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut frame = vec![0; FRAME_MIN];
    let (l3, l4) = (ethernet::LEN, ethernet::LEN + ipv4::LEN_MIN);
    put_u16(&mut frame, ethernet::ETHERTYPE, ethernet::IPV4);
    frame[l3..l4].copy_from_slice(&HEADER);
    frame[l3 + ipv4::PROTOCOL] = protocol as u8;
    match protocol {
        Protocol::Tcp => {
            frame[l4 + tcp::DATA_OFFSET] = 0x50;
            put_u16(&mut frame, l4 + tcp::WINDOW, 0xffff);
            put_u16(&mut frame, l4 + tcp::CHECKSUM, 0x1234);
        }
        _ => put_u16(&mut frame, l4 + packet::header::udp::CHECKSUM, 0x1234),
    }
    frame
}

/// An Ethernet frame of 64 bytes without its FCS.
const FRAME_MIN: usize = 60;

/// The source port of a datagram that leaves, after the rewrite.
pub(crate) fn source_of(frame: &[u8]) -> Endpoint {
    match packet::parse(frame, packet::Offload::NONE) {
        Ok(packet::Parsed::Ipv4(datagram)) if !matches!(datagram.transport, L4::Icmp(_)) => {
            datagram.source
        }
        other => panic!("the router sent {other:?}"),
    }
}
