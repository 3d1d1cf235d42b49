//! Names that are nobody else's business (RFC 6761, RFC 6303): they never leave the router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Labels of a name at most: 127 and the root.
const LABELS_MAX: usize = 128;

/// A name cut into labels, in wire form and lower case.
pub(crate) struct Labels<'a> {
    name: &'a [u8],
    /// Where each label's length octet stands; the root is not counted.
    starts: [u8; LABELS_MAX],
    count: usize,
}

impl<'a> Labels<'a> {
    /// Cuts a well-formed name.
    pub(crate) fn new(name: &'a [u8]) -> Self {
        let mut labels = Self { name, starts: [0; LABELS_MAX], count: 0 };
        let mut at = 0;
        while name[at] != 0 && labels.count < LABELS_MAX {
            // A name has at most 255 octets.
            labels.starts[labels.count] = at as u8;
            labels.count += 1;
            at += 1 + usize::from(name[at]);
        }
        labels
    }

    /// How many labels there are, the root not counted.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The `index`-th label from the right (0 is the top-level domain), without its length.
    pub(crate) fn nth_from_right(&self, index: usize) -> Option<&'a [u8]> {
        let start = usize::from(self.starts[self.count.checked_sub(index + 1)?]);
        let end = start + 1 + usize::from(self.name[start]);
        Some(&self.name[start + 1..end])
    }

    /// Where the part of the name that has `count` labels starts.
    pub(crate) fn suffix_at(&self, count: usize) -> usize {
        match self.count.checked_sub(count) {
            Some(index) if count > 0 => usize::from(self.starts[index]),
            _ => self.name.len() - 1,
        }
    }
}

/// What a special-use name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Special {
    /// RFC 6761 §6.3: the loopback addresses.
    Localhost,
    /// A zone of the last `labels` labels in which nothing exists.
    Empty {
        /// Labels of the zone's apex.
        labels: usize,
    },
    /// The name of an address, or of a block of them that is private.
    Reverse {
        /// Labels of the private zone's apex; nothing if the block is not private.
        zone: Option<usize>,
        /// The address, if the name is one of a single address.
        address: Option<IpAddr>,
    },
}

/// Recognises special-use names; an ordinary name gives nothing.
pub(crate) fn classify(labels: &Labels<'_>) -> Option<Special> {
    match labels.nth_from_right(0)? {
        b"localhost" => Some(Special::Localhost),
        // RFC 6761 §6.2 and §6.4, RFC 7686 §2, RFC 6762 §22.1, RFC 9476 §2.
        b"invalid" | b"test" | b"onion" | b"local" | b"alt" => Some(Special::Empty { labels: 1 }),
        b"arpa" => match labels.nth_from_right(1)? {
            b"in-addr" => Some(reverse_v4(labels)),
            b"ip6" => Some(reverse_v6(labels)),
            // RFC 8375 §4; RFC 9462 §6.4.
            b"home" | b"resolver" => Some(Special::Empty { labels: 2 }),
            _ => None,
        },
        _ => None,
    }
}

/// Labels of `in-addr.arpa` and `ip6.arpa`.
const REVERSE_APEX: usize = 2;

fn reverse_v4(labels: &Labels<'_>) -> Special {
    let mut octets = [0; 4];
    let mut known = 0;
    while known < 4 {
        let label = labels.nth_from_right(REVERSE_APEX + known).and_then(decimal);
        let Some(octet) = label else { break };
        octets[known] = octet;
        known += 1;
    }
    let whole = known == 4 && labels.count() == REVERSE_APEX + 4;
    let zone = private_v4(octets).filter(|depth| *depth <= known);
    Special::Reverse {
        zone: zone.map(|depth| REVERSE_APEX + depth),
        address: whole.then(|| IpAddr::V4(Ipv4Addr::from(octets))),
    }
}

fn decimal(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let plain = !text.starts_with('+') && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// The octets that the zone of a private address has (RFC 6303 §4, RFC 7793).
fn private_v4(octets: [u8; 4]) -> Option<usize> {
    match octets {
        [0 | 10 | 127, ..] => Some(1),
        [172, 16..=31, ..] | [192, 168, ..] | [169, 254, ..] | [100, 64..=127, ..] => Some(2),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some(3),
        [255, 255, 255, 255] => Some(4),
        _ => None,
    }
}

fn reverse_v6(labels: &Labels<'_>) -> Special {
    let mut address = 0_u128;
    let mut known = 0;
    while known < 32 {
        let Some(nibble) = labels.nth_from_right(REVERSE_APEX + known).and_then(hexadecimal) else {
            break;
        };
        address |= u128::from(nibble) << (124 - 4 * known);
        known += 1;
    }
    let whole = known == 32 && labels.count() == REVERSE_APEX + 32;
    let zone = private_v6(address).filter(|depth| *depth <= known);
    Special::Reverse {
        zone: zone.map(|depth| REVERSE_APEX + depth),
        address: whole.then(|| IpAddr::V6(Ipv6Addr::from(address))),
    }
}

fn hexadecimal(label: &[u8]) -> Option<u8> {
    let [digit] = label else { return None };
    char::from(*digit).to_digit(16).map(|digit| digit as u8)
}

/// The nibbles that the zone of a private address has (RFC 6303 §4.3 to §4.6).
fn private_v6(address: u128) -> Option<usize> {
    let top = |nibbles: u32| address >> (128 - 4 * nibbles);
    match address {
        0 | 1 => Some(32),
        _ if top(2) == 0xfd => Some(2),
        _ if (0xfe8..=0xfeb).contains(&top(3)) => Some(3),
        _ if top(8) == 0x2001_0db8 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out
    }

    fn class_of(name: &str) -> Option<Special> {
        classify(&Labels::new(&wire(name)))
    }

    #[test]
    fn dn21_reverse_names_of_private_blocks_have_a_local_zone() {
        for (name, labels) in [
            ("10.in-addr.arpa", 3),
            ("4.3.2.10.in-addr.arpa", 3),
            ("1.16.172.in-addr.arpa", 4),
            ("1.1.168.192.in-addr.arpa", 4),
            ("1.1.64.100.in-addr.arpa", 4),
            ("d.f.ip6.arpa", 4),
            ("8.e.f.ip6.arpa", 5),
        ] {
            let Some(Special::Reverse { zone, .. }) = class_of(name) else { panic!("{name}") };
            assert_eq!(zone, Some(labels), "{name}");
        }
    }

    #[test]
    fn dn21_reverse_names_of_public_blocks_have_none() {
        for name in ["8.8.8.8.in-addr.arpa", "15.172.in-addr.arpa", "172.in-addr.arpa", "ip6.arpa"]
        {
            let Some(Special::Reverse { zone, .. }) = class_of(name) else { panic!("{name}") };
            assert_eq!(zone, None, "{name}");
        }
    }

    #[test]
    fn reverse_name_of_one_address_gives_the_address() {
        let Some(Special::Reverse { address, .. }) = class_of("5.0.0.10.in-addr.arpa") else {
            panic!("not a reverse name")
        };
        assert_eq!(address, Some("10.0.0.5".parse().unwrap()));
        let nibbles = "1.".repeat(32) + "ip6.arpa";
        let Some(Special::Reverse { address, .. }) = class_of(&nibbles) else {
            panic!("not a reverse name")
        };
        assert_eq!(address, Some("1111:1111:1111:1111:1111:1111:1111:1111".parse().unwrap()));
    }

    #[test]
    fn dn21_special_domains_are_empty_and_lookalikes_are_not() {
        assert_eq!(class_of("a.onion"), Some(Special::Empty { labels: 1 }));
        assert_eq!(class_of("x.home.arpa"), Some(Special::Empty { labels: 2 }));
        assert_eq!(class_of("localhost.example"), None);
        assert_eq!(class_of("onion.example"), None);
        assert_eq!(class_of("."), None);
    }

    #[test]
    fn longest_name_is_cut_without_harm() {
        let name = wire(&"a.".repeat(127));
        let labels = Labels::new(&name);
        assert_eq!(labels.count(), 127);
        assert_eq!(labels.nth_from_right(126), Some(&b"a"[..]));
        assert_eq!(labels.nth_from_right(127), None);
        assert_eq!(labels.suffix_at(1), name.len() - 3);
    }
}
