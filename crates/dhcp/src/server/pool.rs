//! The dynamic addresses and which of them nobody has anything to do with.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Ranges of addresses with one bit each: set if the address is reserved, quarantined, ours, or has
/// a binding in any state.
///
/// **Shape**: bit `base + (address - first)` of the range that holds the address.
#[derive(Debug, Default)]
pub(super) struct Pool {
    ranges: Vec<Range>,
    taken: Vec<u64>,
    len: u32,
    /// No word before this one has a clear bit.
    hint: usize,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    first: u32,
    last: u32,
    base: u32,
}

impl Pool {
    /// Makes a pool of the parts of `ranges` that lie inside the subnet and are host addresses, at most
    /// [`POOL_MAX`] together.
    pub fn new(subnet: Ipv4Net, ranges: &[(Ipv4Addr, Ipv4Addr)]) -> Self {
        let mut sorted: Vec<(u32, u32)> = ranges
            .iter()
            .map(|(first, last)| {
                let first = u32::from(*first).max(first_host(subnet));
                (first, u32::from(*last).min(last_host(subnet)))
            })
            .collect();
        sorted.sort_unstable();
        let mut pool = Self::default();
        let mut next_free = 0;
        for (first, last) in sorted {
            let first = first.max(next_free);
            if first > last || pool.len == POOL_MAX {
                continue;
            }
            let last = last.min(first.saturating_add(POOL_MAX - pool.len - 1));
            pool.ranges.push(Range { first, last, base: pool.len });
            pool.len += last - first + 1;
            next_free = last.saturating_add(1);
        }
        pool.taken = vec![0; pool.len.div_ceil(64) as usize];
        // The bits past the end stand for no address.
        if let Some(word) = pool.taken.last_mut()
            && pool.len % 64 != 0
        {
            *word = u64::MAX << (pool.len % 64);
        }
        pool
    }

    /// Number of addresses.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.bit(address).is_some()
    }

    /// Marks an address as not free; one outside the pool needs no mark.
    pub fn take(&mut self, address: Ipv4Addr) {
        if let Some(bit) = self.bit(address) {
            self.taken[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Marks an address as free.
    pub fn give_back(&mut self, address: Ipv4Addr) {
        if let Some(bit) = self.bit(address) {
            self.taken[bit / 64] &= !(1 << (bit % 64));
            self.hint = self.hint.min(bit / 64);
        }
    }

    /// The lowest free address.
    pub fn first_free(&mut self) -> Option<Ipv4Addr> {
        while *self.taken.get(self.hint)? == u64::MAX {
            self.hint += 1;
        }
        let bit = self.hint as u32 * 64 + self.taken[self.hint].trailing_ones();
        let range = self.ranges.iter().rfind(|range| range.base <= bit)?;
        Some(Ipv4Addr::from(range.first + (bit - range.base)))
    }

    fn bit(&self, address: Ipv4Addr) -> Option<usize> {
        let address = u32::from(address);
        let range =
            self.ranges.iter().find(|range| (range.first..=range.last).contains(&address))?;
        Some((range.base + (address - range.first)) as usize)
    }
}

/// Whether an address of the subnet can be a station's: not its network or broadcast address.
pub(super) fn is_host_of(subnet: Ipv4Net, address: Ipv4Addr) -> bool {
    (first_host(subnet)..=last_host(subnet)).contains(&u32::from(address))
}

fn first_host(subnet: Ipv4Net) -> u32 {
    u32::from(subnet.network()) + u32::from(subnet.prefix_len() < 31)
}

fn last_host(subnet: Ipv4Net) -> u32 {
    u32::from(subnet.broadcast()) - u32::from(subnet.prefix_len() < 31)
}

/// Most addresses in one pool: a whole /15. Memory of bindings, about 200 bytes each, is the limit.
const POOL_MAX: u32 = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn pool(subnet: &str, ranges: &[(&str, &str)]) -> Pool {
        let ranges: Vec<_> = ranges.iter().map(|(a, b)| (address(a), address(b))).collect();
        Pool::new(subnet.parse().unwrap(), &ranges)
    }

    #[test]
    fn free_addresses_come_lowest_first_across_ranges_and_each_once() {
        let mut pool =
            pool("10.0.0.0/24", &[("10.0.0.200", "10.0.0.201"), ("10.0.0.9", "10.0.0.9")]);
        let mut seen = Vec::new();
        while let Some(free) = pool.first_free() {
            pool.take(free);
            seen.push(free.to_string());
        }
        assert_eq!(seen, ["10.0.0.9", "10.0.0.200", "10.0.0.201"]);
        pool.give_back(address("10.0.0.200"));
        assert_eq!(pool.first_free(), Some(address("10.0.0.200")));
    }

    #[test]
    fn network_and_broadcast_address_overlaps_and_strangers_are_left_out() {
        let ranges =
            [("10.0.0.0", "10.0.0.9"), ("10.0.0.5", "10.0.0.255"), ("10.0.1.1", "10.0.1.9")];
        let pool = pool("10.0.0.0/24", &ranges);
        assert_eq!(pool.len(), 254);
        for outside in ["10.0.0.0", "10.0.0.255", "10.0.1.1", "9.255.255.255"] {
            assert!(!pool.contains(address(outside)), "{outside}");
        }
    }

    #[test]
    fn a_pool_of_a_slash_16_fills_without_scanning_it_again_for_each_address() {
        let mut pool = pool("10.0.0.0/16", &[("10.0.0.0", "10.0.255.255")]);
        let mut count = 0;
        while let Some(free) = pool.first_free() {
            pool.take(free);
            count += 1;
        }
        assert_eq!(count, 65_534);
    }
}
