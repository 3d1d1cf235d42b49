//! What becomes of a packet.

use std::net::Ipv4Addr;

use packet::icmp::ErrorKind;
use packet::{DropReason, LinkId, PuntReason};

/// The one decision about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Rewritten and addressed; leaves by this link.
    Forward(LinkId),
    /// Replaced by an ICMP error that goes back where the packet came from.
    Reply(ErrorKind),
    /// Replaced by a TCP reset that goes back where the packet came from.
    Reset,
    /// For the router's own stack.
    Punt(PuntReason),
    /// For the neighbour cache: the packet is untouched and comes back once the MAC is known.
    Resolve(LinkId, Ipv4Addr),
    /// A fragment whose bytes wait for the rest of their packet.
    Hold,
    /// Gone, and counted.
    Drop(DropReason),
}

impl From<DropReason> for Verdict {
    fn from(reason: DropReason) -> Self {
        Verdict::Drop(reason)
    }
}
