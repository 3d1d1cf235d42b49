//! Names of things on a link.

use std::fmt;
use std::str::FromStr;

use crate::UdpHeaders;

/// An IEEE 802 MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// 00:00:00:00:00:00: "unknown", never the address of a station.
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// Whether the group bit is set (multicast and broadcast).
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether one station may own this address.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A MAC address as it is stored into a frame in one go: its six bytes in order, then two that are 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacWord(u64);

impl MacWord {
    /// The address in the low 48 bits of `bits`, its first byte lowest.
    #[must_use]
    #[inline(always)]
    pub const fn of_bits(bits: u64) -> Self {
        Self((bits & 0xffff_ffff_ffff).to_le())
    }

    /// What [`Self::of_bits`] makes the word of.
    #[must_use]
    #[inline]
    pub const fn to_bits(self) -> u64 {
        u64::from_le(self.0)
    }

    /// Writes the two MAC addresses of a frame, as [`put_macs`](crate::header::put_macs).
    #[inline(always)]
    pub fn put_before(self, source: MacAddr, headers: &mut UdpHeaders) {
        let [a, b, rest @ ..] = source.0;
        let first = self.0 | u64::from_ne_bytes([0, 0, 0, 0, 0, 0, a, b]);
        headers[..8].copy_from_slice(&first.to_ne_bytes());
        headers[8..12].copy_from_slice(&rest);
    }
}

impl From<MacAddr> for MacWord {
    #[inline]
    fn from(mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self(u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

impl From<MacWord> for MacAddr {
    #[inline]
    fn from(word: MacWord) -> Self {
        let [a, b, c, d, e, f, _, _] = word.0.to_ne_bytes();
        Self([a, b, c, d, e, f])
    }
}

/// The text is not six hexadecimal octets with a separator between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MAC address is six octets in hexadecimal, such as 02:08:20:0a:0b:01")
    }
}

impl std::error::Error for ParseMacError {}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Reads `02:08:20:0a:0b:01`, also with `-`, also without leading zeros as `dladm` prints them.
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0u8; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or(ParseMacError)?;
            let digits =
                (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if !digits {
                return Err(ParseMacError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() { Err(ParseMacError) } else { Ok(MacAddr(octets)) }
    }
}

/// Index of a link in the router's configuration: 0 is the WAN, then the LANs in file order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LinkId(pub u8);

impl LinkId {
    /// The link that faces the Internet.
    pub const WAN: LinkId = LinkId(0);
    /// Not a link: the router's own stack, as source or destination of a flow.
    pub const LOCAL: LinkId = LinkId(u8::MAX);

    /// Position in an array of per-link things.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index of a packet worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WorkerId(pub u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_reads_what_dladm_and_ip_print() {
        let mac = MacAddr([2, 8, 0x20, 0xa, 0xb, 1]);
        assert_eq!("2:8:20:a:b:1".parse(), Ok(mac));
        assert_eq!("02-08-20-0A-0B-01".parse(), Ok(mac));
        assert_eq!(mac.to_string(), "02:08:20:0a:0b:01");
    }

    #[test]
    fn mac_refuses_what_is_not_six_octets() {
        for text in
            ["", "2:8:20:a:b", "2:8:20:a:b:1:2", "002:8:20:a:b:1", "+2:8:20:a:b:1", "g:8:20:a:b:1"]
        {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacError), "{text}");
        }
    }
}
