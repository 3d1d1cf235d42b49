//! The filter against DNS rebinding: which addresses a public name has no business with (DN24).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::time::Duration;

use hickory_proto::rr::rdata::svcb::SvcParamValue;
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, Restrict};
use packet::Instant;

use crate::config::RebindingFilter;
use crate::local;
use crate::wire::{self, Record};

/// Time between two log lines: who can make a client ask can make the filter speak.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The filter with its settings, and what it has to say.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Exempt domains in wire form; nothing if the filter is off.
    allow: Option<Vec<Vec<u8>>>,
    logged_at: Option<Instant>,
    /// Answers refused without a log line since the last one.
    unlogged: u64,
}

impl Guard {
    pub(crate) fn new(filter: &RebindingFilter) -> Self {
        let allow = match filter {
            RebindingFilter::Off => None,
            RebindingFilter::On { allow } => Some(allow.iter().map(local::wire_name).collect()),
        };
        Self { allow, logged_at: None, unlogged: 0 }
    }

    /// True if `name` (wire form, lower case) must not lead to the private `address`; logs that.
    pub(crate) fn refuses(&mut self, name: &[u8], address: IpAddr, now: Instant) -> bool {
        let Some(allow) = &self.allow else { return false };
        if allow.iter().any(|domain| local::ends_with_labels(name, domain)) {
            return false;
        }
        if self.logged_at.is_some_and(|logged_at| now < logged_at + LOG_EVERY) {
            self.unlogged += 1;
            return true;
        }
        let name = Name::read(&mut BinDecoder::new(name)).unwrap_or_default();
        tracing::warn!(
            %name, %address, unlogged = self.unlogged,
            "answer dropped: a public name leads to a private address (rebinding filter)"
        );
        (self.logged_at, self.unlogged) = (Some(now), 0);
        true
    }
}

/// True if `address` leads into a private network or back to the asking host: RFC 1918, loopback,
/// link-local, shared space (RFC 6598), "this network", ULA, and IPv4 of these kinds in IPv6.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    let shared = a == 100 && b & 0xc0 == 64;
    a == 0 || address.is_private() || address.is_loopback() || address.is_link_local() || shared
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    // `to_ipv4` covers ::ffff:a.b.c.d and ::a.b.c.d, and with the latter :: and ::1.
    let embedded = address.to_ipv4().is_some_and(is_private_v4);
    let loopback = address.is_loopback() || address.is_unspecified();
    embedded || loopback || address.is_unique_local() || address.is_unicast_link_local()
}

/// Returns a private address that `record` carries: as its data, or as a hint in SVCB and HTTPS
/// records (RFC 9460 §7.3).
pub(crate) fn private_address(message: &[u8], record: &Record) -> Option<IpAddr> {
    let rdata = &message[record.rdata.clone()];
    let address = match record.rtype {
        wire::TYPE_A => IpAddr::from(<[u8; 4]>::try_from(rdata).ok()?),
        wire::TYPE_AAAA => IpAddr::from(<[u8; 16]>::try_from(rdata).ok()?),
        wire::TYPE_SVCB | wire::TYPE_HTTPS => return private_hint(message, record.rdata.clone()),
        _ => return None,
    };
    is_private(address).then_some(address)
}

fn private_hint(message: &[u8], rdata: Range<usize>) -> Option<IpAddr> {
    let at = u16::try_from(rdata.start).ok()?;
    let length = u16::try_from(rdata.len()).ok()?;
    let mut decoder = BinDecoder::new(message).clone(at);
    let data = RData::read(&mut decoder, RecordType::SVCB, Restrict::new(length)).ok()?;
    let RData::SVCB(service) = data else { return None };
    service.svc_params.iter().find_map(|(_, value)| match value {
        SvcParamValue::Ipv4Hint(hint) => {
            hint.0.iter().map(|address| IpAddr::V4(address.0)).find(|address| is_private(*address))
        }
        SvcParamValue::Ipv6Hint(hint) => {
            hint.0.iter().map(|address| IpAddr::V6(address.0)).find(|address| is_private(*address))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dn24_private_addresses_of_every_kind_are_known() {
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "0.0.0.0",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
        ] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn dn24_neighbours_of_the_private_ranges_are_public() {
        for address in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.0.1",
            "172.32.0.0",
            "192.167.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "1.1.1.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }
}
