//! Hosts and their leases.

use std::fmt;
use std::net::Ipv4Addr;

use packet::MacAddr;
use serde::{Deserialize, Serialize};

use super::mac;

/// What a lease is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// A client holds the address.
    Bound,
    /// The address was offered and not yet taken.
    Offered,
    /// The address is reserved; nobody holds it now.
    Reserved,
    /// A client found somebody else on the address; it rests.
    Declined,
    /// The lease ran out; the address is kept for its client while there is room.
    Expired,
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bound => "bound",
            Self::Offered => "offered",
            Self::Reserved => "reserved",
            Self::Declined => "declined",
            Self::Expired => "expired",
        })
    }
}

/// Why a client gets this address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseSource {
    /// From the pool.
    Pool,
    /// Reserved in the configuration file.
    Config,
    /// Reserved through the control socket.
    Runtime,
}

impl fmt::Display for LeaseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pool => "pool",
            Self::Config => "config",
            Self::Runtime => "runtime",
        })
    }
}

/// A lease or reservation of the DHCP server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Name of the LAN.
    pub lan: String,
    /// The address.
    pub address: Ipv4Addr,
    /// Hardware address of the client.
    #[serde(with = "mac")]
    pub mac: MacAddr,
    /// Host name, from the reservation or the client.
    pub name: Option<String>,
    /// What it is worth.
    pub state: LeaseState,
    /// Why this address.
    pub source: LeaseSource,
    /// Seconds until it ends; `null` for one that is only reserved.
    pub expires_secs: Option<u64>,
}

/// An address to tie to a client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// Hardware address of the client.
    #[serde(with = "mac")]
    pub mac: MacAddr,
    /// The address; its LAN follows from it.
    pub address: Ipv4Addr,
    /// Host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A host inside: one identity for lease, name, neighbour and queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Host {
    /// Name of the LAN.
    pub lan: String,
    /// The address.
    pub address: Ipv4Addr,
    /// Hardware address.
    #[serde(with = "mac")]
    pub mac: MacAddr,
    /// Host name.
    pub name: Option<String>,
    /// Seconds until its lease ends; `null` for a host without one.
    pub lease_expires_secs: Option<u64>,
    /// Seconds since it was last heard of.
    pub seen_secs: Option<u64>,
    /// Open sessions.
    pub flows: u64,
    /// Bytes from the host through the WAN.
    pub bytes_out: u64,
    /// Bytes to the host from the WAN.
    pub bytes_in: u64,
    /// Rate from the host over the last seconds.
    pub rate_out_bits_per_sec: u64,
    /// Rate to the host over the last seconds.
    pub rate_in_bits_per_sec: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_reads_a_mac_in_any_writing_and_no_unknown_field() {
        let text = r#"{"mac":"2-8-20-A-B-1","address":"10.0.0.5"}"#;
        let reservation: Reservation = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_string(&reservation).unwrap(),
            r#"{"mac":"02:08:20:0a:0b:01","address":"10.0.0.5"}"#
        );
        let wrong = r#"{"mac":"2:8:20:a:b:1","address":"10.0.0.5","hostname":"web"}"#;
        assert!(serde_json::from_str::<Reservation>(wrong).is_err());
    }
}
