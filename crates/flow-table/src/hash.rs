//! Hashing of keys, and the parts of a hash.

/// What the table needs of a key.
///
/// Keys that are equal must hash alike for the same seed. Remote parties choose much of a key, so
/// the hash must depend on the seed in a way that they cannot undo; [`mix`] does.
pub trait Key: Copy + Eq + Send + Sync + 'static {
    /// Hashes the key. The high half chooses the bucket, the low half the tags: both must be good.
    fn hash(&self, seed: u64) -> u64;
}

/// Hashes two words under a seed.
///
/// Two folded 64 × 64 → 128 bit multiplications, the seed in both factors of the first: a key can
/// only steer the result by guessing 64 secret bits.
#[must_use]
#[inline(always)]
pub fn mix(words: [u64; 2], seed: u64) -> u64 {
    let inner = fold(words[0] ^ seed ^ PI[0], words[1] ^ seed.rotate_left(32) ^ PI[1]);
    fold(inner ^ PI[2], seed ^ PI[3])
}

/// The hash of a key under one table's seed; means nothing to another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub(crate) u64);

/// Hashes the keys of one table.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    pub(crate) seed: u64,
}

impl Hasher {
    /// Hashes a key.
    #[must_use]
    #[inline(always)]
    pub fn hash<K: Key>(self, key: &K) -> Hash {
        Hash(key.hash(self.seed))
    }
}

impl Hash {
    /// Of no key.
    pub const NONE: Hash = Hash(0);

    /// The home bucket among `buckets` (any number, not only powers of two).
    #[inline(always)]
    pub(crate) fn home(self, buckets: usize) -> usize {
        (((self.0 >> 32) * buckets as u64) >> 32) as usize
    }

    /// The tag that the bucket header shows, never 0.
    #[inline(always)]
    pub(crate) fn short_tag(self) -> u64 {
        (self.0 & 0xff).max(1)
    }

    /// The 24 bits of tag inside a slot word.
    #[inline(always)]
    pub(crate) fn long_tag(self) -> u64 {
        (self.0 >> 8) & 0xff_ffff
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The first fractional bits of π: numbers that hide no intent.
const PI: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_bit_of_a_key_flips_about_half_of_the_hash() {
        for seed in [0, 1, 0x1234_5678_9abc_def0] {
            for bit in 0..128 {
                let words = [0x0a00_0001_c633_6407, 0xfffe_0035_0000_1100];
                let mut other = words;
                other[bit / 64] ^= 1 << (bit % 64);
                let flipped = (mix(words, seed) ^ mix(other, seed)).count_ones();
                assert!((12..=52).contains(&flipped), "bit {bit}: {flipped} flipped");
            }
        }
    }

    #[test]
    fn neighbouring_flows_spread_evenly_over_homes_and_tags() {
        const BUCKETS: usize = 256;
        let (mut homes, mut tags) = ([0_u32; BUCKETS], [0_u32; 256]);
        for n in 0..65_536_u64 {
            let hash = Hash(mix([0x0a00_0001_c633_6407, n << 48 | 0x0035_0000_1100], 7));
            homes[hash.home(BUCKETS)] += 1;
            tags[hash.short_tag() as usize] += 1;
        }
        assert_eq!(tags[0], 0);
        assert!(homes.iter().all(|n| (160..=352).contains(n)), "{homes:?}");
        assert!(tags[2..].iter().all(|n| (160..=352).contains(n)), "{tags:?}");
    }
}
