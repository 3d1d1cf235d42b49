//! Endpoints, their roles, and the key of a flow.

use std::fmt;
use std::net::Ipv4Addr;

/// A protocol that is translated, by its IP protocol number.
///
/// AH (51) is not among them: it authenticates the addresses (RFC 3715 §2.1), so nobody can change
/// them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Protocol {
    /// ICMP queries; the identifier stands for the port (RFC 5508 §3).
    Icmp = 1,
    /// IPv4 in IPv4 (RFC 2003).
    IpIp = 4,
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// IPv6 in IPv4 (RFC 4213 §3).
    SixInFour = 41,
    /// GRE (RFC 2784); its key, folded, stands for both ports (RFC 2890).
    Gre = 47,
    /// ESP (RFC 4303); its SPI fills both ports, and means something in one direction only.
    Esp = 50,
    /// SCTP (RFC 9260).
    Sctp = 132,
    /// UDP-Lite (RFC 3828).
    UdpLite = 136,
}

impl Protocol {
    /// All of them, in numeric order.
    pub const ALL: [Protocol; 9] = [
        Protocol::Icmp,
        Protocol::IpIp,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::SixInFour,
        Protocol::Gre,
        Protocol::Esp,
        Protocol::Sctp,
        Protocol::UdpLite,
    ];

    /// The protocol with this IP protocol number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Icmp),
            4 => Some(Self::IpIp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            41 => Some(Self::SixInFour),
            47 => Some(Self::Gre),
            50 => Some(Self::Esp),
            132 => Some(Self::Sctp),
            136 => Some(Self::UdpLite),
            _ => None,
        }
    }

    /// Lower-case name as configurations and tables write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::IpIp => "ipip",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::SixInFour => "6in4",
            Self::Gre => "gre",
            Self::Esp => "esp",
            Self::Sctp => "sctp",
            Self::UdpLite => "udplite",
        }
    }

    /// Whether the ports of its endpoints are ports, such as a rule or a forward may name, and not
    /// an identifier or nothing.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp | Self::UdpLite)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address and a port; for ICMP queries the identifier is the port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The host.
    pub address: Ipv4Addr,
    /// Port or ICMP identifier, host byte order.
    pub port: u16,
}

impl Endpoint {
    /// Makes an endpoint.
    #[must_use]
    pub const fn new(address: Ipv4Addr, port: u16) -> Self {
        Self { address, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An endpoint of a host behind the router (RFC 4787 §2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Internal(pub Endpoint);

/// The endpoint that stands for an internal one on the outside (RFC 4787 §2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct External(pub Endpoint);

/// The endpoint of the peer, as the side that names it sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Remote(pub Endpoint);

/// Which side of the translator a packet arrived on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Side {
    /// From a LAN, or from the router itself.
    Inside = 0,
    /// From the WAN.
    Outside = 1,
}

/// What identifies one direction of a flow: addresses, ports, protocol and the side it arrives on.
///
/// **Shape**: two words, so that comparing is two compares. The first holds source and destination address, the second
/// source port, destination port, mark, protocol and side, each as in a packet: so the first word and half of the second
/// are copied from one as they lie there.
///
/// ICMP queries: a request carries its identifier as source port and 0 as destination port, a reply
/// 0 as source port and the identifier as destination port. So reversing a key works as for UDP.
/// GRE has the same number in both, for the same reason. ESP has the halves of its SPI there, high
/// half first; reversing such a key leads nowhere, since the peer chooses an SPI of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey([u64; 2]);

impl FlowKey {
    /// The key of no packet.
    pub const NONE: FlowKey = FlowKey([0; 2]);

    /// Makes a key from the fields of a packet.
    #[must_use]
    #[inline]
    pub fn new(protocol: Protocol, source: Endpoint, destination: Endpoint, side: Side) -> Self {
        let [a, b, c, d] = source.address.octets();
        let [e, f, g, h] = destination.address.octets();
        let ([i, j], [k, l]) = (source.port.to_be_bytes(), destination.port.to_be_bytes());
        Self::of_wire(protocol, [a, b, c, d, e, f, g, h], [i, j, k, l], side)
    }

    /// Makes a key from both addresses and both ports as they lie in a packet.
    #[must_use]
    #[inline(always)]
    pub fn of_wire(protocol: Protocol, addresses: [u8; 8], ports: [u8; 4], side: Side) -> Self {
        let [a, b, c, d] = ports;
        let ports = u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]);
        let rest = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, protocol as u8, side as u8]);
        Self([u64::from_ne_bytes(addresses), ports | rest])
    }

    /// Source endpoint.
    #[must_use]
    #[inline]
    pub fn source(self) -> Endpoint {
        let ([a, b, c, d, ..], [i, j, ..]) = (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        Endpoint::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([i, j]))
    }

    /// Destination endpoint.
    #[must_use]
    #[inline]
    pub fn destination(self) -> Endpoint {
        let ([.., e, f, g, h], [_, _, k, l, ..]) =
            (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        Endpoint::new(Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([k, l]))
    }

    /// Source and destination address as they lie in a packet.
    #[must_use]
    #[inline(always)]
    pub fn wire_addresses(self) -> [u8; 8] {
        self.0[0].to_ne_bytes()
    }

    /// Source and destination port as they lie in a packet.
    #[must_use]
    #[inline(always)]
    pub fn wire_ports(self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0[1].to_ne_bytes();
        [a, b, c, d]
    }

    /// Transport protocol.
    ///
    /// # Panics
    /// Never: a key is only made from a [`Protocol`].
    #[must_use]
    #[inline]
    pub fn protocol(self) -> Protocol {
        Protocol::from_number(self.protocol_number()).expect("a key is made from a protocol")
    }

    /// Number of the transport protocol.
    #[must_use]
    #[inline]
    pub fn protocol_number(self) -> u8 {
        self.0[1].to_ne_bytes()[6]
    }

    /// Side of arrival.
    #[must_use]
    #[inline]
    pub fn side(self) -> Side {
        if self.0[1].to_ne_bytes()[7] == 0 { Side::Inside } else { Side::Outside }
    }

    /// A name made of the fields of this key that no packet has as its key; another for each
    /// `mark` above 0. For what belongs to a flow but is not found by a packet.
    #[must_use]
    pub fn marked(self, mark: u16) -> Self {
        debug_assert!(mark != 0, "mark 0 is that of packets");
        let [addresses, rest] = self.0;
        let mut rest = rest.to_ne_bytes();
        rest[4..6].copy_from_slice(&mark.to_be_bytes());
        Self([addresses, u64::from_ne_bytes(rest)])
    }

    /// The mark of a name, 0 of a packet's key.
    #[must_use]
    pub fn mark(self) -> u16 {
        let [.., high, low, _, _] = self.0[1].to_ne_bytes();
        u16::from_be_bytes([high, low])
    }

    /// The two words, for hashing.
    #[must_use]
    #[inline]
    pub fn words(self) -> [u64; 2] {
        self.0
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} > {} {:?}",
            self.protocol(),
            self.source(),
            self.destination(),
            self.side()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_returns_what_it_was_made_from() {
        let source = Endpoint::new(Ipv4Addr::new(10, 0, 0, 2), 0xfffe);
        let destination = Endpoint::new(Ipv4Addr::new(255, 1, 2, 3), 53);
        for protocol in Protocol::ALL {
            for side in [Side::Inside, Side::Outside] {
                let key = FlowKey::new(protocol, source, destination, side);
                assert_eq!(
                    (key.protocol(), key.source(), key.destination(), key.side()),
                    (protocol, source, destination, side)
                );
            }
        }
    }

    #[test]
    fn a_marked_key_is_no_packets_and_keeps_its_fields() {
        let source = Endpoint::new(Ipv4Addr::new(10, 0, 0, 2), 0xffff);
        let destination = Endpoint::new(Ipv4Addr::new(255, 1, 2, 3), 0xffff);
        let key = FlowKey::new(Protocol::Esp, source, destination, Side::Outside);
        let (one, all) = (key.marked(1), key.marked(0xffff));
        assert!(one != key && all != key && one != all);
        assert_eq!((key.mark(), one.mark(), all.marked(1)), (0, 1, one));
        for name in [one, all] {
            assert_eq!((name.source(), name.destination()), (source, destination));
            assert_eq!((name.protocol(), name.side()), (Protocol::Esp, Side::Outside));
        }
    }

    #[test]
    fn a_protocol_is_found_by_its_number_and_no_other() {
        for number in 0..=u8::MAX {
            let known = Protocol::ALL.into_iter().find(|protocol| *protocol as u8 == number);
            assert_eq!(Protocol::from_number(number), known);
        }
    }
}
