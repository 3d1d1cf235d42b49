//! What a lease says, and what of it is worth keeping over a restart.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use packet::{Instant, MacAddr};
use serde::{Deserialize, Serialize};

/// A route learnt with a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads; host bits are zero.
    pub destination: Ipv4Net,
    /// Next hop; `None` if the destination is on the link itself (RFC 3442).
    pub gateway: Option<Ipv4Addr>,
}

/// What a lease configures: everything that, if it changes, somebody has to act on (DC25).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaseSettings {
    /// Our address.
    pub address: Ipv4Addr,
    /// The network of the link; host bits are zero. A /32 if the server named no mask (DC23).
    pub prefix: Ipv4Net,
    /// Routes in the server's order, the default route among them: those of option 121, else of options
    /// 33 and 3 (DC17). A gateway outside `prefix` is on the link all the same (DC23).
    pub routes: Vec<Route>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// Domain name.
    pub domain: Option<String>,
    /// Time servers, best first.
    pub ntp: Vec<Ipv4Addr>,
    /// MTU of the link in bytes, if the server gave a usable one.
    pub mtu: Option<u16>,
}

impl LeaseSettings {
    /// Next hop of the default route.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|route| route.destination.prefix_len() == 0)?.gateway
    }
}

/// A lease in use by the client.
///
/// **Units**: the instants are on the monotonic clock; [`Instant::NEVER`] for a lease without end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// What it configures.
    pub settings: LeaseSettings,
    /// Server identifier (option 54); it need not be inside the prefix (DC22).
    pub server: Ipv4Addr,
    /// Station that the last ACK came from: the server or the relay in front of it. Unicast renewals go
    /// there, so no route to the server is needed.
    pub server_mac: MacAddr,
    /// Length of the lease; `None` if it has no end.
    pub duration: Option<Duration>,
    /// When the request that was acknowledged left: the start of the lease clock (DC5).
    pub obtained_at: Instant,
    /// T1: when renewing starts.
    pub renew_at: Instant,
    /// T2: when rebinding starts.
    pub rebind_at: Instant,
    /// When the address must no longer be used.
    pub expires_at: Instant,
}

impl Lease {
    /// Our address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.settings.address
    }
}

/// A lease as kept on stable storage.
///
/// **Units**: wall times are seconds since the Unix epoch; `None` stands for a lease without end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredLease {
    /// What it configures.
    pub settings: LeaseSettings,
    /// Server identifier.
    pub server: Ipv4Addr,
    /// Station that the last ACK came from.
    #[serde(with = "mac_text")]
    pub server_mac: MacAddr,
    /// Length of the lease in seconds.
    pub duration_secs: Option<u32>,
    /// Wall time of its start.
    pub obtained_unix: u64,
    /// Wall time of its end.
    pub expires_unix: Option<u64>,
}

/// MAC addresses as text in stored records.
pub(crate) mod mac_text {
    use packet::MacAddr;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub fn serialize<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
