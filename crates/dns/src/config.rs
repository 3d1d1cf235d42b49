//! What the operator decides, and the limits that nobody does.

use std::time::Duration;

use hickory_proto::rr::Name;
use ipnet::Ipv4Net;

use packet::Endpoint;

/// Servers at most: more would only lengthen the way to a failure.
pub const UPSTREAMS_MAX: usize = 8;

/// Port that DNS servers listen on (RFC 1035 §4.2).
pub const PORT: u16 = 53;

/// Payload size that we advertise to both sides: the largest that is never fragmented in practice
/// (DNS flag day 2020, DN6).
pub const PAYLOAD_ADVERTISED: u16 = 1232;

/// Largest UDP payload that may be configured (RFC 5625 §4.4.2, RFC 6891 §6.2.5).
pub const PAYLOAD_MAX: u16 = 4096;

/// Domains whose names are meant to have private addresses. `plex.direct` gives every home server
/// a certificate for a name that leads to its LAN address (requirements §4, row 26).
pub const REBINDING_ALLOW_DEFAULT: &[&str] = &["plex.direct"];

/// Cached answers unless configured otherwise: a household's day.
pub const CACHE_ENTRIES_DEFAULT: usize = 10_000;

/// Octets of cached answers unless configured otherwise: 10 000 answers of usual size.
pub const CACHE_BYTES_DEFAULT: usize = 8 << 20;

/// How long an answer is kept past its TTL to be served when nothing better comes (RFC 8767 §5).
pub const STALE_KEEP_DEFAULT: Duration = Duration::from_secs(86_400);

/// Whether private addresses in answers to public names are refused (DN24).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RebindingFilter {
    /// Addresses of every kind pass.
    Off,
    /// Such answers are emptied, unless the name lies in one of these domains.
    On {
        /// Domains that are exempt, themselves and all below.
        allow: Vec<Name>,
    },
}

impl RebindingFilter {
    /// The filter with [`REBINDING_ALLOW_DEFAULT`].
    #[must_use]
    pub fn standard() -> Self {
        let allow = REBINDING_ALLOW_DEFAULT.iter().filter_map(|name| Name::from_ascii(name).ok());
        Self::On { allow: allow.collect() }
    }
}

/// The forwarder's settings. Any value is legal; what exceeds a limit is cut to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwarderConfig {
    /// Servers, in order of preference until their speed is known; at most [`UPSTREAMS_MAX`].
    pub upstreams: Vec<Endpoint>,
    /// The local domain, `home.arpa` unless chosen (RFC 8375, DN21). The root means none.
    pub domain: Name,
    /// The LANs: addresses in them are resolved to names here and nowhere else.
    pub local_networks: Vec<Ipv4Net>,
    /// Cached answers at most; 0 turns the cache off.
    pub cache_entries: usize,
    /// Octets of cached answers at most.
    pub cache_bytes: usize,
    /// How long answers outlive their TTL for the case that no server answers; zero turns that off
    /// (RFC 8767, DN17).
    pub stale_keep: Duration,
    /// The filter against rebinding (DN24).
    pub rebinding: RebindingFilter,
    /// Largest answer sent over UDP, in octets: 512 to [`PAYLOAD_MAX`]. More than
    /// [`PAYLOAD_ADVERTISED`] is for LANs whose path can carry it (DN6).
    pub udp_payload_max: u16,
}

impl ForwarderConfig {
    /// Settings with these servers, this domain, and the defaults of this module.
    #[must_use]
    pub fn new(upstreams: Vec<Endpoint>, domain: Name) -> Self {
        Self {
            upstreams,
            domain,
            local_networks: Vec::new(),
            cache_entries: CACHE_ENTRIES_DEFAULT,
            cache_bytes: CACHE_BYTES_DEFAULT,
            stale_keep: STALE_KEEP_DEFAULT,
            rebinding: RebindingFilter::standard(),
            udp_payload_max: PAYLOAD_ADVERTISED,
        }
    }
}
