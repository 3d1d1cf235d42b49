//! The Internet checksum: in full (RFC 1071) and by difference (RFC 1624).
//!
//! One's complement sums do not care about byte order as long as it is the same everywhere, so every
//! function here reads 16-bit words big-endian and returns host integers that are the field's value.
//! A difference is computed once per session and added to each packet's checksum with
//! [`apply`]: RFC 1624 equation 3, which never yields the wrong zero of equation 2.

use crate::header::{bytes_at, put_u16, u16_at};

/// Adds `bytes` to a running sum; an odd last byte is padded with zero.
#[must_use]
#[inline]
pub fn sum(bytes: &[u8], initial: u32) -> u64 {
    let mut total = u64::from(initial);
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0u8; 4];
    last[..tail.len()].copy_from_slice(tail);
    total + u64::from(u32::from_be_bytes(last))
}

/// Folds a running sum to 16 bits, not complemented.
#[must_use]
#[inline]
pub fn fold(mut total: u64) -> u16 {
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total as u16
}

/// One's complement sum of two words.
#[inline(always)]
fn add(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    sum + u16::from(carry)
}

/// The checksum field of `bytes`, whose own field must be zero or is being verified: a correct
/// message yields 0.
#[must_use]
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    !fold(sum(bytes, 0))
}

/// Whether a message whose checksum field is part of it sums up right, as [`of`] would say by 0. The length must be a
/// multiple of four, as a header's is.
///
/// The order of the bytes of a word does not matter to that, so none is turned round (RFC 1071 §2B).
#[must_use]
#[inline(always)]
pub fn is_right(header: &[u8]) -> bool {
    let (pairs, rest) = header.as_chunks::<8>();
    let add = |total: u64, word: u64| {
        let (total, carry) = total.overflowing_add(word);
        total.wrapping_add(u64::from(carry))
    };
    let total = pairs.iter().fold(0, |total, pair| add(total, u64::from_ne_bytes(*pair)));
    let last = rest.first_chunk().map_or(0, |word| u64::from(u32::from_ne_bytes(*word)));
    let total = add(total, last);
    // Folding keeps the remainder: what folds to 0xffff is a multiple of it, and not 0. Of odd divisors, the multiples
    // are those whose product with the inverse does not wrap.
    total.wrapping_mul(INVERSE) <= u64::MAX / 0xffff && total != 0
}

/// Of 0xffff, modulo 2^64.
const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
const _: () = assert!(INVERSE.wrapping_mul(0xffff) == 1);

/// The folded, not complemented sum of an IPv4 pseudo-header (RFC 793 §3.1).
#[must_use]
#[inline]
pub fn pseudo_header(source: [u8; 4], destination: [u8; 4], protocol: u8, length: u16) -> u16 {
    let addresses = sum(&source, 0) + sum(&destination, 0);
    fold(addresses + u64::from(protocol) + u64::from(length))
}

/// A change to the data under a checksum, as the folded sum of `~old + new` over its 16-bit words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delta(pub u16);

impl Delta {
    /// No change.
    pub const NONE: Delta = Delta(0);

    /// The difference made by replacing a 16-bit word.
    #[must_use]
    #[inline]
    pub fn word(old: u16, new: u16) -> Self {
        Self(add(!old, new))
    }

    /// The difference made by replacing a 32-bit word at an even offset.
    #[must_use]
    #[inline]
    pub fn long(old: u32, new: u32) -> Self {
        let old = [(old >> 16) as u16, old as u16];
        let new = [(new >> 16) as u16, new as u16];
        Self::word(old[0], new[0]).and(Self::word(old[1], new[1]))
    }

    /// Both changes together.
    #[must_use]
    #[inline]
    pub fn and(self, other: Delta) -> Self {
        Self(add(self.0, other.0))
    }
}

/// A [`Delta`] as it would lie in a packet, for whoever adds it to many: the order of the bytes does not matter to the sum
/// (RFC 1071 §2B), so that none need be turned round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WireDelta(u16);

impl WireDelta {
    /// Both changes together.
    #[must_use]
    #[inline(always)]
    pub fn and(self, other: WireDelta) -> Self {
        Self(add(self.0, other.0))
    }

    /// As [`update`].
    #[inline(always)]
    pub fn update(self, bytes: &mut [u8], at: usize, adjust: impl Fn(u16, Delta) -> u16) {
        let new = adjust(u16::from_ne_bytes(bytes_at(bytes, at)), Delta(self.0));
        bytes[at..at + 2].copy_from_slice(&new.to_ne_bytes());
    }
}

impl From<Delta> for WireDelta {
    #[inline]
    fn from(delta: Delta) -> Self {
        Self(delta.0.to_be())
    }
}

/// Applies a difference to a checksum field (RFC 1624 eqn. 3: `HC' = ~(~HC + ~m + m')`).
#[must_use]
#[inline(always)]
pub fn apply(checksum: u16, delta: Delta) -> u16 {
    !add(!checksum, delta.0)
}

/// Applies a difference to the checksum field of UDP, where 0 means "none" and stays 0
/// (RFC 3022 §4.1), and where a computed 0 is sent as all ones (RFC 768).
#[must_use]
#[inline(always)]
pub fn apply_udp(checksum: u16, delta: Delta) -> u16 {
    if checksum == 0 {
        return 0;
    }
    match apply(checksum, delta) {
        0 => 0xffff,
        other => other,
    }
}

/// Applies a difference to a *partial* checksum: the field holds the pseudo-header's sum itself, not its
/// complement, so the change is added directly.
#[must_use]
#[inline(always)]
pub fn apply_partial(checksum: u16, delta: Delta) -> u16 {
    add(checksum, delta.0)
}

/// Changes the checksum field at `at` by a difference, in the way of its protocol: [`apply`], [`apply_udp`] or
/// [`apply_partial`].
#[inline(always)]
pub fn update(bytes: &mut [u8], at: usize, adjust: impl Fn(u16, Delta) -> u16, delta: Delta) {
    let new = adjust(u16_at(bytes, at), delta);
    put_u16(bytes, at, new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc1071_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&data, 0)), 0xddf2);
        assert_eq!(of(&data), !0xddf2);
    }

    #[test]
    fn rfc1624_example_keeps_the_right_zero() {
        // RFC 1624 §4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000, not 0xFFFF.
        assert_eq!(apply(0xdd2f, Delta::word(0x5555, 0x3285)), 0x0000);
    }

    #[test]
    fn a_udp_checksum_of_zero_stays_zero() {
        assert_eq!(apply_udp(0, Delta::word(1, 2)), 0);
    }

    /// Sums 16-bit words one by one, as slowly and plainly as RFC 1071 §1 puts it.
    fn plain(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            total += u32::from(u16::from_be_bytes([pair[0], low]));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    proptest! {
        #[test]
        fn the_fast_sum_equals_the_plain_one(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(fold(sum(&bytes, 0)), plain(&bytes));
        }

        #[test]
        fn a_header_is_right_when_its_sum_says_so(
            mut words in proptest::collection::vec(any::<[u8; 4]>(), 5..16),
            is_sealed in any::<bool>(),
        ) {
            if is_sealed {
                words[2] = [0, 0, words[2][2], words[2][3]];
                let checksum = of(words.as_flattened()).to_be_bytes();
                words[2][..2].copy_from_slice(&checksum);
            }
            let bytes = words.as_flattened();
            prop_assert_eq!(is_right(bytes), of(bytes) == 0);
            prop_assert!(is_right(bytes) || !is_sealed);
        }

        #[test]
        fn incremental_equals_full(
            mut bytes in proptest::collection::vec(any::<u8>(), 20..60),
            at in 0usize..4,
            new in any::<u32>(),
        ) {
            let at = at * 4;
            let before = of(&bytes);
            let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
            let full = of(&bytes);
            let incremental = apply(before, Delta::long(old, new));
            // 0x0000 and 0xffff are the same number; which one a full sum gives depends on the data.
            prop_assert!(full == incremental || (full ^ incremental) == 0xffff && (full == 0 || full == 0xffff));
        }

        #[test]
        fn in_wire_order_the_same_is_added(
            checksum in any::<u16>(),
            deltas in any::<[u16; 2]>(),
            adjust in 0usize..3,
        ) {
            let adjust = [apply, apply_udp, apply_partial][adjust];
            let [one, other] = deltas.map(Delta);
            let (mut plain, mut wire) = (checksum.to_be_bytes(), checksum.to_be_bytes());
            update(&mut plain, 0, adjust, one.and(other));
            WireDelta::from(one).and(other.into()).update(&mut wire, 0, adjust);
            prop_assert_eq!(plain, wire);
        }

        #[test]
        fn a_delta_and_its_reverse_cancel(checksum in 1u16..0xffff, old in any::<u32>(), new in any::<u32>()) {
            let there = apply(checksum, Delta::long(old, new));
            prop_assert_eq!(apply(there, Delta::long(new, old)), checksum);
        }
    }
}
