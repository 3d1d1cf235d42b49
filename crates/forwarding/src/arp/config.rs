//! What the machine must know of a link.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use packet::{LinkId, MacAddr};

/// A link of the router.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Its name.
    pub id: LinkId,
    /// The router's own station on it.
    pub mac: MacAddr,
    /// The router's own addresses on it, each with the length of its subnet's prefix.
    pub addresses: Vec<Ipv4Net>,
}

impl LinkConfig {
    /// Whether `address` is the router's own.
    pub(super) fn owns(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }

    /// Whether `address` can belong to a host of a subnet of this link.
    pub(super) fn may_be_host(&self, address: Ipv4Addr) -> bool {
        let in_subnet = |net: &&Ipv4Net| net.contains(&address);
        self.addresses.iter().find(in_subnet).is_some_and(|net| !is_special_in(net, address))
            && !self.owns(address)
    }

    /// Whether a packet may be handed to `address`: a host of a subnet, or a gateway outside all of
    /// them, which is on the link because a route says so (DC22, DC23).
    pub(super) fn may_be_next_hop(&self, address: Ipv4Addr) -> bool {
        let is_subnet_special =
            self.addresses.iter().any(|net| net.contains(&address) && is_special_in(net, address));
        let is_never_a_host =
            address.is_unspecified() || address.is_multicast() || address.is_loopback();
        !self.addresses.is_empty()
            && !self.owns(address)
            && !is_subnet_special
            && !is_never_a_host
            && !address.is_broadcast()
    }

    /// The address of ours to ask from: the one in the target's subnet, else the first.
    pub(super) fn source_for(&self, target: Ipv4Addr) -> Option<Ipv4Addr> {
        let near = self.addresses.iter().find(|net| net.contains(&target));
        near.or(self.addresses.first()).map(Ipv4Net::addr)
    }
}

/// Whether `address` names the subnet or all its hosts; a /31 or /32 has neither (RFC 3021).
fn is_special_in(net: &Ipv4Net, address: Ipv4Addr) -> bool {
    net.prefix_len() < 31 && (address == net.network() || address == net.broadcast())
}
