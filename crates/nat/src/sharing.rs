//! How hosts share one external address, by protocol.

use packet::Protocol;

/// What tells the packets of one internal host from those of another, once all carry the same
/// external address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// A port or identifier that the translation may choose: a mapping has any.
    AnyPort,
    /// The port that the host chose: a mapping has that one or does not exist. SCTP's checksum is a
    /// CRC over ports and payload, too dear to recompute, and its peers know an association's ports
    /// by heart when addresses change.
    OwnPort,
    /// The peer: one host at a time per peer and, of GRE, per key. There is no mapping.
    Peer,
    /// Nothing that both directions have in common. Who is meant is learnt, see `esp`.
    Learnt,
}

impl Sharing {
    pub(crate) const fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp | Protocol::Udp | Protocol::UdpLite | Protocol::Icmp => Self::AnyPort,
            Protocol::Sctp => Self::OwnPort,
            Protocol::Gre | Protocol::IpIp | Protocol::SixInFour => Self::Peer,
            Protocol::Esp => Self::Learnt,
        }
    }

    /// Whether an internal endpoint has a mapping of its own.
    pub(crate) const fn has_mappings(self) -> bool {
        matches!(self, Self::AnyPort | Self::OwnPort)
    }
}
