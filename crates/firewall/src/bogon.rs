//! Addresses that the Internet does not carry.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Why a range is not carried. Where the WAN itself lies in a range, all of its kind may be met there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Networks of one's own: behind another translator the WAN is one.
    Private,
    /// Between a provider's translator and its customers.
    Shared,
    /// Documentation and benchmarks: a laboratory is made of them.
    Laboratory,
    /// For protocols of the link, or for nobody.
    Protocol,
}

/// The special-purpose address registry of RFC 6890, as far as it is not globally reachable and
/// [`AddressPolicy`](crate::AddressPolicy) does not know it as martian already.
const REGISTRY: [(Kind, Ipv4Addr, u8); 9] = [
    // RFC 1918 §3
    (Kind::Private, Ipv4Addr::new(10, 0, 0, 0), 8),
    // RFC 6598 §7
    (Kind::Shared, Ipv4Addr::new(100, 64, 0, 0), 10),
    // RFC 1918 §3
    (Kind::Private, Ipv4Addr::new(172, 16, 0, 0), 12),
    // RFC 6890 §2.1
    (Kind::Protocol, Ipv4Addr::new(192, 0, 0, 0), 24),
    // RFC 5737 §3: TEST-NET-1
    (Kind::Laboratory, Ipv4Addr::new(192, 0, 2, 0), 24),
    // RFC 1918 §3
    (Kind::Private, Ipv4Addr::new(192, 168, 0, 0), 16),
    // RFC 2544 appendix C.2.2
    (Kind::Laboratory, Ipv4Addr::new(198, 18, 0, 0), 15),
    // RFC 5737 §3: TEST-NET-2
    (Kind::Laboratory, Ipv4Addr::new(198, 51, 100, 0), 24),
    // RFC 5737 §3: TEST-NET-3
    (Kind::Laboratory, Ipv4Addr::new(203, 0, 113, 0), 24),
];

/// Addresses of `192.0.0.0/24` that are globally reachable: the anycast addresses of PCP (RFC 7723 §4.1) and of
/// TURN (RFC 8155 §5).
const REACHABLE: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 9), Ipv4Addr::new(192, 0, 0, 10)];

/// The ranges that one WAN neither carries nor may be asked to carry.
///
/// **Shape**: network and mask.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bogons {
    ranges: Box<[(u32, u32)]>,
    passed: Box<[(u32, u32)]>,
}

impl Bogons {
    /// No range at all: everything passes.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The registry, without the kinds of range that the WAN's own networks lie in, and without what the
    /// operator lets pass.
    #[must_use]
    pub fn without(own: &[Ipv4Net], passed: &[Ipv4Net]) -> Self {
        let net = |address, len| Ipv4Net::new_assert(address, len);
        let touches = |a: Ipv4Net, b: Ipv4Net| a.contains(&b.network()) || b.contains(&a.network());
        // A route to everything says nothing about where the WAN is.
        let own = || own.iter().filter(|own| own.prefix_len() > 0);
        let is_own = |kind: Kind| {
            let of_kind = REGISTRY.iter().filter(move |(other, ..)| *other == kind);
            of_kind
                .into_iter()
                .any(|(_, address, len)| own().any(|own| touches(net(*address, *len), *own)))
        };
        let ranges = REGISTRY.iter().filter(|(kind, ..)| !is_own(*kind));
        let pair = |net: Ipv4Net| (u32::from(net.network()), u32::from(net.netmask()));
        let reachable = REACHABLE.into_iter().map(Ipv4Net::from);
        Self {
            ranges: ranges.map(|(_, address, len)| pair(net(*address, *len))).collect(),
            passed: passed.iter().copied().chain(reachable).map(pair).collect(),
        }
    }

    /// Whether the address is one that the WAN does not carry.
    #[must_use]
    #[inline]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        let within =
            |ranges: &[(u32, u32)]| ranges.iter().any(|(net, mask)| address & mask == *net);
        within(&self.ranges) && !within(&self.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn found<const N: usize>(bogons: &Bogons, addresses: [&str; N]) -> [bool; N] {
        addresses.map(|address| bogons.contains(address.parse().unwrap()))
    }

    #[test]
    fn rfc6890_no_address_of_the_registry_is_carried_by_a_public_wan() {
        let bogons = Bogons::without(&nets(&["0.0.0.0/0", "9.9.9.9/24"]), &[]);
        for (first, last) in [
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
        ] {
            assert_eq!(found(&bogons, [first, last]), [true, true], "{first}");
            let [before, after] = [(first, -1), (last, 1)].map(|(end, step)| {
                let end = u32::from(end.parse::<Ipv4Addr>().unwrap());
                bogons.contains(end.wrapping_add_signed(step).into())
            });
            assert_eq!([before, after], [false, false], "next to {first}-{last}");
        }
    }

    #[test]
    fn rfc7723_rfc8155_the_anycast_addresses_are_reachable() {
        let bogons = Bogons::without(&[], &[]);
        let addresses = ["192.0.0.8", "192.0.0.9", "192.0.0.10", "192.0.0.11"];
        assert_eq!(found(&bogons, addresses), [true, false, false, true]);
    }

    #[test]
    fn what_the_wan_lies_in_is_met_there() {
        let addresses = ["10.1.1.1", "192.168.9.9", "100.64.1.1", "203.0.113.9", "192.0.0.1"];
        for (own, expected) in [
            // Behind another translator, whose networks may be any private ones.
            ("192.168.1.20/24", [false, false, true, true, true]),
            // Behind a provider's.
            ("100.72.3.4/10", [true, true, false, true, true]),
            // In a laboratory.
            ("198.51.100.2/24", [true, true, true, false, true]),
            ("198.18.0.1/15", [true, true, true, false, true]),
        ] {
            let bogons = Bogons::without(&nets(&[own]), &[]);
            assert_eq!(found(&bogons, addresses), expected, "{own}");
        }
    }

    #[test]
    fn the_operator_lets_single_ranges_pass() {
        let bogons = Bogons::without(&nets(&["9.9.9.9/24"]), &nets(&["192.168.100.0/24"]));
        assert_eq!(found(&bogons, ["192.168.100.1", "192.168.101.1"]), [false, true]);
    }

    #[test]
    fn none_is_none() {
        assert_eq!(found(&Bogons::none(), ["10.0.0.1", "203.0.113.1"]), [false, false]);
    }
}
