//! Settings of a server.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use packet::MacAddr;

use crate::message::RawOption;

/// An address kept for one station (DS6: matched by MAC whatever client id it sends).
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Reservation {
    /// The station.
    #[serde(with = "crate::lease::mac_text")]
    pub mac: MacAddr,
    /// Its address, inside the subnet, in the pool or not.
    pub address: Ipv4Addr,
    /// Its name in DNS, in place of the one it gives itself.
    pub name: Option<String>,
}

/// What the server does for a client that claims a free address it has no record of (DS7, DS8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authority {
    /// This is the only server of the link: let the client keep the address, or tell it no.
    Sole,
    /// Another server may know it: stay silent.
    Shared,
}

/// Settings of the server of one LAN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerConfig {
    /// Name of the LAN, for the log.
    pub lan: String,
    /// Our station address.
    pub mac: MacAddr,
    /// Our address: server identifier, router, and name server by default.
    pub address: Ipv4Addr,
    /// The network that addresses are handed out of.
    pub subnet: Ipv4Net,
    /// Ranges of dynamic addresses, both ends included.
    pub pools: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Length of a lease.
    pub lease: Duration,
    /// Addresses kept for stations.
    pub reservations: Vec<Reservation>,
    /// Authority over the link.
    pub authority: Authority,
    /// How long an ARP probe waits before an address is offered (DS2); zero offers unprobed.
    pub probe_wait: Duration,
    /// Option 6; empty for our own address (DS20).
    pub dns: Vec<Ipv4Addr>,
    /// Option 15; not sent if absent (DS19).
    pub domain: Option<String>,
    /// Option 42.
    pub ntp: Vec<Ipv4Addr>,
    /// Option 26, in bytes.
    pub mtu: Option<u16>,
    /// Further options for every OFFER and ACK (DS18).
    pub options: Vec<RawOption>,
}

impl ServerConfig {
    /// The usual settings for a LAN, with a pool still to be given.
    #[must_use]
    pub fn new(lan: String, mac: MacAddr, address: Ipv4Addr, subnet: Ipv4Net) -> Self {
        Self {
            lan,
            mac,
            address,
            subnet: subnet.trunc(),
            pools: Vec::new(),
            lease: LEASE_DEFAULT,
            reservations: Vec::new(),
            authority: Authority::Sole,
            probe_wait: PROBE_WAIT_DEFAULT,
            dns: Vec::new(),
            domain: None,
            ntp: Vec::new(),
            mtu: None,
            options: Vec::new(),
        }
    }
}

/// Half a day: a guest's address is free again the next morning.
const LEASE_DEFAULT: Duration = Duration::from_secs(12 * 3600);
/// A station on the same link answers ARP within milliseconds, and every new client waits this long.
const PROBE_WAIT_DEFAULT: Duration = Duration::from_millis(200);
