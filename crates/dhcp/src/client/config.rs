//! Settings of the client.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use packet::MacAddr;

use crate::message::RawOption;

/// How the client names itself in option 61 (DC14).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientId {
    /// Not at all: some providers refuse what they do not expect.
    None,
    /// Hardware type 1 and the MAC address (RFC 2132 §9.14).
    Mac,
    /// These bytes, type byte included (RFC 4361: 255, IAID, DUID).
    Opaque(Vec<u8>),
}

/// Whether the first DISCOVER after link-up waits 1 to 10 s (RFC 2131 §4.4.1, DC1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartDelay {
    /// Start at once: one router does not make the crowd that the delay is for.
    None,
    /// Wait a random time.
    Random,
}

/// When the client asks servers to broadcast their answers (DC12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BroadcastFlag {
    /// Not at first; after some silence it is tried.
    Auto,
    /// Always.
    Always,
}

/// How an address is probed by ARP before it is used (RFC 5227 §2.1.1, DC4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConflictProbe {
    /// Number of probes; 0 trusts the server.
    pub count: u8,
    /// Time between probes and after the last.
    pub interval: Duration,
}

impl ConflictProbe {
    /// Trusts the server.
    pub const OFF: Self = Self { count: 0, interval: Duration::ZERO };
    /// Half a second altogether: on a provider's link the only honest owner answers at once.
    pub const FAST: Self = Self { count: 2, interval: Duration::from_millis(250) };
    /// The times of RFC 5227.
    pub const RFC5227: Self = Self { count: 3, interval: Duration::from_secs(2) };
}

/// Settings of the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientConfig {
    /// Our station address.
    pub mac: MacAddr,
    /// Option 12.
    pub hostname: Option<String>,
    /// Option 61.
    pub client_id: ClientId,
    /// Delay at link-up.
    pub start_delay: StartDelay,
    /// Broadcast flag.
    pub broadcast_flag: BroadcastFlag,
    /// Conflict detection.
    pub conflict_probe: ConflictProbe,
    /// Server identifiers whose messages are ignored (DC21).
    pub reject_servers: Vec<Ipv4Addr>,
    /// Prefixes from which no address is taken, such as a cable modem's own (DC21).
    pub reject_prefixes: Vec<Ipv4Net>,
    /// Further options for DISCOVER and REQUEST (DC16); about 200 bytes fit.
    pub options: Vec<RawOption>,
}

impl ClientConfig {
    /// The usual settings for a station.
    #[must_use]
    pub fn new(mac: MacAddr) -> Self {
        Self {
            mac,
            hostname: None,
            client_id: ClientId::None,
            start_delay: StartDelay::None,
            broadcast_flag: BroadcastFlag::Auto,
            conflict_probe: ConflictProbe::FAST,
            reject_servers: Vec::new(),
            reject_prefixes: Vec::new(),
            options: Vec::new(),
        }
    }
}
