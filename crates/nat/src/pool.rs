//! The external addresses that hosts share, and which host has which.

use std::net::Ipv4Addr;

use flow_table::mix;

/// Most addresses beside the interface's own: a /24, more than a small business is given.
pub const POOL_MAX: usize = 256;

/// What happens to a host whose address has no port left (RFC 4787 §4.1, REQ-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pooling {
    /// Its new flows are refused: all flows of a host, of every protocol, have one external address
    /// (RFC 7857 §4, RFC 6888 REQ-2).
    #[default]
    Paired,
    /// Its new flows get a port of another address.
    Any,
}

/// The external addresses beside the interface's own, which is the first member of every pool.
///
/// Which member stands for a host follows from the host's address alone: nothing is stored, a
/// restart changes nothing, and when a member comes or goes only the hosts move that get it or had
/// it (rendezvous hashing, over buckets of hosts so that a look-up costs the same for every pool).
///
/// **Shape**: `further` is sorted, each address once. `buckets` holds a member for each bucket of
/// hosts, 0 for the interface's own and n for the nth of `further`; it is empty if that is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pool {
    further: Box<[Ipv4Addr]>,
    buckets: Box<[u16]>,
    /// What happens when an address has no port left.
    pub pooling: Pooling,
}

impl Pool {
    /// A pool of the interface's own address and these.
    ///
    /// # Panics
    /// If there are more than [`POOL_MAX`], which the configuration refuses.
    #[must_use]
    pub fn new(further: impl IntoIterator<Item = Ipv4Addr>, pooling: Pooling) -> Self {
        let mut further: Vec<Ipv4Addr> = further.into_iter().collect();
        further.sort_unstable();
        further.dedup();
        assert!(further.len() <= POOL_MAX, "at most {POOL_MAX} addresses in a pool");
        let bucket_count = if further.is_empty() { 0 } else { BUCKETS };
        let buckets = (0..bucket_count).map(|bucket| winner(bucket, &further)).collect();
        Self { further: further.into(), buckets, pooling }
    }

    /// Whether an address is one of those beside the interface's own.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.further.binary_search(&address).is_ok()
    }

    /// The addresses beside the interface's own, in order.
    #[must_use]
    pub fn further(&self) -> &[Ipv4Addr] {
        &self.further
    }

    /// The address that stands for a host, where `own` is the interface's.
    #[must_use]
    pub fn paired(&self, own: Ipv4Addr, host: Ipv4Addr) -> Ipv4Addr {
        self.member(own, self.pair(host))
    }

    /// The addresses to try for a host in turn: its own one, then others if the pooling allows.
    pub(crate) fn choices(
        &self,
        own: Ipv4Addr,
        host: Ipv4Addr,
    ) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let (pair, count) = (self.pair(host), self.further.len() + 1);
        let tries = match self.pooling {
            Pooling::Paired => 1,
            Pooling::Any => count.min(TRIES_MAX),
        };
        let tried: [Option<Ipv4Addr>; TRIES_MAX] = std::array::from_fn(|step| {
            (step < tries).then(|| self.member(own, (pair + step) % count))
        });
        tried.into_iter().flatten()
    }

    fn pair(&self, host: Ipv4Addr) -> usize {
        if self.buckets.is_empty() {
            return 0;
        }
        let bucket = mix([u64::from(host.to_bits()), HOST], UNKEYED) as usize % self.buckets.len();
        usize::from(self.buckets[bucket])
    }

    fn member(&self, own: Ipv4Addr, index: usize) -> Ipv4Addr {
        index.checked_sub(1).map_or(own, |at| self.further[at])
    }
}

/// The member with the highest weight for a bucket. The interface's own address is known by a label
/// of its own: when a lease brings another, its hosts follow it and nobody else moves.
fn winner(bucket: u64, further: &[Ipv4Addr]) -> u16 {
    let labels = std::iter::once(0).chain(further.iter().map(|address| address.to_bits()));
    let weight = |label: u32| mix([bucket, u64::from(label) << 1 | MEMBER], UNKEYED);
    let heaviest = labels.enumerate().max_by_key(|(_, label)| weight(*label));
    heaviest.map_or(0, |(index, _)| index as u16)
}

/// Hosts are paired in so many groups: sixteen for each address of the largest pool, so that the
/// groups spread evenly. 8 KiB.
const BUCKETS: u64 = 16 * POOL_MAX as u64;

/// Addresses looked at for one flow when pooling is not paired: each full one costs a sweep of its
/// ports.
const TRIES_MAX: usize = 4;

/// Not secret: who shares an address with whom must survive a restart, or connections would not.
const UNKEYED: u64 = 0;
const HOST: u64 = 0;
const MEMBER: u64 = 1;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, last)
    }

    fn hosts() -> impl Iterator<Item = Ipv4Addr> {
        (1..=4000).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    fn pairs(pool: &Pool, own: Ipv4Addr) -> Vec<Ipv4Addr> {
        hosts().map(|host| pool.paired(own, host)).collect()
    }

    #[test]
    fn alone_the_interfaces_own_address_stands_for_all() {
        assert!(pairs(&Pool::default(), OWN).iter().all(|pair| *pair == OWN));
    }

    #[test]
    fn req6888_3_hosts_spread_evenly_over_any_pool_contiguous_or_not() {
        for further in [vec![9], (1..=4).collect(), vec![1, 77, 200], (0..=254).collect()] {
            let pool = Pool::new(further.iter().map(|last| address(*last)), Pooling::Paired);
            let mut shares: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
            for pair in pairs(&pool, OWN) {
                *shares.entry(pair).or_default() += 1;
            }
            let fair = 4000 / (further.len() + 1);
            assert_eq!(shares.len(), further.len() + 1, "every address is used");
            assert!(shares.values().all(|share| *share < 3 * fair), "{shares:?}");
        }
    }

    #[test]
    fn a_new_address_takes_hosts_and_moves_no_other() {
        let before = Pool::new([address(1), address(2)], Pooling::Paired);
        let after = Pool::new([address(1), address(2), address(9)], Pooling::Paired);
        let moved = pairs(&before, OWN).into_iter().zip(pairs(&after, OWN));
        let moved: Vec<_> = moved.filter(|(old, new)| old != new).collect();
        assert!((600..1500).contains(&moved.len()), "{}", moved.len());
        assert!(moved.iter().all(|(_, new)| *new == address(9)));
    }

    #[test]
    fn another_own_address_takes_over_its_hosts_and_moves_no_other() {
        let pool = Pool::new([address(1), address(2)], Pooling::Paired);
        let own = address(200);
        for (old, new) in pairs(&pool, OWN).into_iter().zip(pairs(&pool, own)) {
            assert_eq!(new, if old == OWN { own } else { old });
        }
    }

    #[test]
    fn only_arbitrary_pooling_has_a_second_choice_and_no_address_comes_twice() {
        let further = [address(1), address(2)];
        let host = Ipv4Addr::new(10, 0, 0, 5);
        for (pooling, count) in [(Pooling::Paired, 1), (Pooling::Any, 3)] {
            let pool = Pool::new(further, pooling);
            let mut choices: Vec<_> = pool.choices(OWN, host).collect();
            assert_eq!(choices[0], pool.paired(OWN, host));
            choices.sort_unstable();
            choices.dedup();
            assert_eq!(choices.len(), count);
        }
    }
}
