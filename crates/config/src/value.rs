//! Addresses, durations, paths: texts with a meaning.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use packet::MacAddr;

use crate::defaults;
use crate::fault::Fault;
use crate::model::{AddressRange, ClientId};

/// Reads an address that one host can have.
pub(crate) fn address(text: &str) -> Result<Ipv4Addr, Fault> {
    let address = text.parse().map_err(|_| Fault::NotAddress { given: text.to_owned() })?;
    usable(address)?;
    Ok(address)
}

/// Reads `ADDRESS` or `ADDRESS:PORT` of a DNS server.
pub(crate) fn server(text: &str) -> Result<SocketAddrV4, Fault> {
    let server = match text.parse::<SocketAddrV4>() {
        Ok(server) => Some(server),
        Err(_) => text.parse().ok().map(|ip| SocketAddrV4::new(ip, defaults::DNS_PORT)),
    };
    let server = server
        .filter(|server| server.port() != 0)
        .ok_or_else(|| Fault::NotServer { given: text.to_owned() })?;
    usable(*server.ip())?;
    Ok(server)
}

/// Reads `ADDRESS:PORT` of our own, IPv6 too.
pub(crate) fn socket_address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| Fault::NotSocketAddress { given: text.to_owned() })
}

/// Reads the router's own address with the prefix length of its subnet.
pub(crate) fn interface(text: &str) -> Result<Ipv4Net, Fault> {
    let net = net(text, "/24")?;
    let address = net.addr();
    usable(address)?;
    if net.prefix_len() < 31 {
        let first = Ipv4Addr::from(u32::from(net.network()).saturating_add(1));
        let example = Ipv4Net::new_assert(first, net.prefix_len());
        let fault = |what| Fault::NotHostOfNet { address, what, net: net.trunc(), example };
        if address == net.network() {
            return Err(fault("network"));
        }
        if address == net.broadcast() {
            return Err(fault("broadcast"));
        }
    }
    Ok(net)
}

/// Reads a prefix without host bits; an address alone is a prefix of 32 bits.
pub(crate) fn prefix(text: &str) -> Result<Ipv4Net, Fault> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Ipv4Net::from(address));
    }
    let given = net(text, "/24")?;
    let network = given.trunc();
    if given == network { Ok(network) } else { Err(Fault::HostBits { given, network }) }
}

/// Reads `FIRST-LAST`.
pub(crate) fn pool(text: &str) -> Result<AddressRange, Fault> {
    let ends = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<Ipv4Addr>().ok()?, last.trim().parse::<Ipv4Addr>().ok()?))
    });
    let Some((first, last)) = ends else {
        return Err(Fault::NotPool { given: text.to_owned() });
    };
    if last < first {
        return Err(Fault::PoolBackwards { first, last });
    }
    Ok(AddressRange { first, last })
}

/// Reads `ADDRESS` or `FIRST-LAST`, each of which one host can have.
pub(crate) fn addresses(text: &str) -> Result<AddressRange, Fault> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ends = [first, last].map(|end| end.trim().parse::<Ipv4Addr>());
    let [Ok(first), Ok(last)] = ends else {
        return Err(Fault::NotAddressRange { given: text.to_owned() });
    };
    if last < first {
        return Err(Fault::RangeBackwards { first, last });
    }
    usable(first)?;
    usable(last)?;
    Ok(AddressRange { first, last })
}

/// Reads the MAC address of one station.
pub(crate) fn mac(text: &str) -> Result<MacAddr, Fault> {
    let mac: MacAddr = text.parse().map_err(|_| Fault::NotMac { given: text.to_owned() })?;
    if mac.is_unicast() { Ok(mac) } else { Err(Fault::NotUnicastMac { mac }) }
}

/// Reads a duration within limits.
pub(crate) fn duration(
    key: &'static str,
    text: &str,
    min: Duration,
    max: Duration,
) -> Result<Duration, Fault> {
    let read = humantime::parse_duration(text);
    let duration = read.map_err(|_| Fault::NotDuration { given: text.to_owned() })?;
    if (min..=max).contains(&duration) {
        return Ok(duration);
    }
    Err(Fault::DurationOutOfRange { key, min: shown(min), max: shown(max) })
}

/// A duration as the file writes it.
pub(crate) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Reads an absolute path.
pub(crate) fn path(text: &str, max: usize, example: &'static str) -> Result<PathBuf, Fault> {
    let legal = text.starts_with('/') && text.len() <= max && !text.contains('\0');
    let fault = || Fault::Path { given: text.to_owned(), max, example };
    if legal { Ok(PathBuf::from(text)) } else { Err(fault()) }
}

/// Reads what option 61 carries.
pub(crate) fn client_id(text: &str) -> Result<ClientId, Fault> {
    let fault = || Fault::ClientId { given: text.to_owned() };
    match text {
        "none" => return Ok(ClientId::None),
        "mac" => return Ok(ClientId::Mac),
        "duid" => return Ok(ClientId::Duid),
        _ => {}
    }
    if let Some(text) = text.strip_prefix("text:") {
        let fits = (1..defaults::CLIENT_ID_MAX).contains(&text.len());
        return if fits { Ok(ClientId::Text(text.to_owned())) } else { Err(fault()) };
    }
    let digits = text.strip_prefix("hex:").ok_or_else(fault)?.as_bytes();
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(hex(*high)? << 4 | hex(*low)?),
            _ => None,
        })
        .collect();
    bytes
        .filter(|bytes| (2..=defaults::CLIENT_ID_MAX).contains(&bytes.len()))
        .map(ClientId::Bytes)
        .ok_or_else(fault)
}

/// Refuses addresses that never belong to one host (RFC 1122 §3.2.1.3, RFC 6890).
pub(crate) fn usable(address: Ipv4Addr) -> Result<(), Fault> {
    let what = match address.octets()[0] {
        0 => "\"this network\"",
        127 => "loopback",
        224..=239 => "multicast",
        240..=255 => "reserved",
        _ => return Ok(()),
    };
    Err(Fault::Unusable { address, what })
}

fn net(text: &str, example: &str) -> Result<Ipv4Net, Fault> {
    text.parse().map_err(|_| {
        let address = text.split('/').next().unwrap_or_default().parse::<Ipv4Addr>();
        let address = address.map_or("10.0.0.1".to_owned(), |address| address.to_string());
        Fault::NotNet { given: text.to_owned(), example: format!("{address}{example}") }
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_no_single_host_is_refused() {
        for bad in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.1.2.3"] {
            assert!(matches!(address(bad), Err(Fault::Unusable { .. })), "{bad}");
        }
        assert!(address("100.64.0.1").is_ok());
    }

    #[test]
    fn a_server_has_port_53_unless_told() {
        assert_eq!(server("198.51.100.53").unwrap().port(), 53);
        assert_eq!(server("198.51.100.53:5353").unwrap().port(), 5353);
        for bad in ["198.51.100.53:0", "dns.example", "::1", ""] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_router_has_a_host_address() {
        assert!(interface("10.0.0.1/24").is_ok());
        assert!(interface("198.51.100.2/31").is_ok());
        assert!(interface("198.51.100.2/32").is_ok());
        for bad in ["10.0.0.0/24", "10.0.0.255/24", "10.0.0.1", "10.0.0.1/33", "224.0.0.1/24"] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_without_prefix_length_gets_its_own_as_example() {
        let fault = interface("10.7.0.1").unwrap_err();
        assert!(fault.remedy().contains("`10.7.0.1/24`"), "{}", fault.remedy());
    }

    #[test]
    fn a_prefix_has_no_host_bits() {
        assert_eq!(prefix("192.168.100.1").unwrap().prefix_len(), 32);
        assert_eq!(
            prefix("192.168.100.1/24").unwrap_err().remedy(),
            "write the network itself: `192.168.100.0/24`"
        );
    }

    #[test]
    fn durations_need_a_unit_and_limits() {
        let read = |text| duration("udp", text, Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(read("30s"), Ok(Duration::from_secs(30)));
        assert!(matches!(read("30"), Err(Fault::NotDuration { .. })));
        assert!(matches!(read("0s"), Err(Fault::DurationOutOfRange { .. })));
        assert!(matches!(read("2m"), Err(Fault::DurationOutOfRange { .. })));
    }

    #[test]
    fn client_ids_read_in_every_form() {
        assert_eq!(client_id("duid"), Ok(ClientId::Duid));
        assert_eq!(client_id("text:box"), Ok(ClientId::Text("box".to_owned())));
        assert_eq!(client_id("hex:01aBff"), Ok(ClientId::Bytes(vec![1, 0xab, 0xff])));
        for bad in ["", "hex:", "hex:01", "hex:012", "hex:zz00", "text:", "hex:ü0"] {
            assert!(client_id(bad).is_err(), "{bad}");
        }
    }
}
