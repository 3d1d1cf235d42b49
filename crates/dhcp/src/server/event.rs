//! What a server tells others and what it wants stored.

use std::net::Ipv4Addr;

use packet::{Instant, MacAddr};
use serde::{Deserialize, Serialize};

use super::config::Reservation;

/// A host with a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its station address.
    pub mac: MacAddr,
    /// Its name, fit for DNS and unique on the LAN (DS21).
    pub name: Option<String>,
}

/// What happened on the LAN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerEvent {
    /// A lease began (DS22: the name may be served from now on).
    HostAppeared(Host),
    /// The name or station behind a leased address changed.
    HostChanged {
        /// Until now.
        old: Host,
        /// From now on.
        new: Host,
    },
    /// A lease ended by release, expiry or refusal.
    HostLeft(Host),
    /// No address was left for a client; told once until an address is free again (DS24).
    PoolExhausted {
        /// The client that went without.
        mac: MacAddr,
    },
    /// A client found its address in use; it is quarantined (DS11).
    Declined {
        /// The address.
        address: Ipv4Addr,
        /// The client.
        mac: MacAddr,
    },
    /// A station without a lease answered the probe of an address; it is quarantined (DS2).
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
        /// The station.
        mac: MacAddr,
    },
    /// Another DHCP server answers on this LAN; told at most once in an hour (DS23).
    ForeignServer {
        /// Its server identifier, or its source address.
        address: Ipv4Addr,
        /// The station its message came from.
        mac: MacAddr,
    },
}

/// What stable storage is to hold from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreRecord {
    /// This binding, in place of what is stored for its address.
    Binding(StoredBinding),
    /// Nothing for this address.
    Forget(Ipv4Addr),
    /// This runtime reservation, in place of what is stored for its station.
    Reservation(Reservation),
    /// No runtime reservation for this station.
    Unreserve(MacAddr),
}

/// A binding as kept on stable storage.
///
/// **Units**: wall time in seconds since the Unix epoch; `None` stands for a lease without end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredBinding {
    /// The address.
    pub address: Ipv4Addr,
    /// The client's station address.
    #[serde(with = "crate::lease::mac_text")]
    pub mac: MacAddr,
    /// Option 61, if the client has one.
    pub client_id: Option<Vec<u8>>,
    /// The host's name.
    pub name: Option<String>,
    /// Length of the lease in seconds.
    pub duration_secs: Option<u32>,
    /// Wall time of its end; in the past for a client that is only remembered.
    pub expires_unix: Option<u64>,
}

/// How a binding stands, for `lease list`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindingState {
    /// Offered, not yet accepted.
    Offered,
    /// Leased until then; [`Instant::NEVER`] for ever.
    Active {
        /// End of the lease on the monotonic clock.
        until: Instant,
    },
    /// Released or expired, remembered for the client.
    Idle,
}

/// A binding, for `lease list`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BindingView<'a> {
    /// The address.
    pub address: Ipv4Addr,
    /// The client's station address.
    pub mac: MacAddr,
    /// Option 61, if the client has one.
    pub client_id: Option<&'a [u8]>,
    /// The host's name.
    pub name: Option<&'a str>,
    /// How it stands.
    pub state: BindingState,
}
