//! The routing table.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use packet::LinkId;

/// Whom to hand a packet to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NextHop {
    /// The destination itself is on the link.
    OnLink,
    /// A router on the link.
    Gateway(Ipv4Addr),
}

/// Where packets to a prefix go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// Destinations that the route is for; host bits are ignored.
    pub prefix: Ipv4Net,
    /// The link to send on.
    pub egress: LinkId,
    /// Whom to hand the packet to there.
    pub via: NextHop,
}

impl Route {
    /// The address whose MAC the frame is sent to.
    #[must_use]
    #[inline]
    pub fn next_hop(&self, destination: Ipv4Addr) -> Ipv4Addr {
        match self.via {
            NextHop::OnLink => destination,
            NextHop::Gateway(gateway) => gateway,
        }
    }
}

/// An immutable longest-prefix-match table.
///
/// **Shape**: two parallel arrays, longest prefix first, so the first match is the longest and a
/// scan touches eight bytes per route. A router of this kind has tens of routes: the scan stays
/// within a few cache lines and beats a trie. The caller bounds the number of routes (configuration
/// and lease options do).
#[derive(Clone, Debug, Default)]
pub struct Routes {
    matches: Box<[Match]>,
    routes: Box<[Route]>,
}

#[derive(Clone, Copy, Debug)]
struct Match {
    network: u32,
    mask: u32,
}

impl Routes {
    /// Builds the table; of routes with the same prefix the one that comes first wins.
    #[must_use]
    pub fn build(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut sorted: Vec<Route> = routes.into_iter().collect();
        let order =
            |route: &Route| (std::cmp::Reverse(route.prefix.prefix_len()), route.prefix.network());
        sorted.sort_by_key(order);
        sorted.dedup_by_key(|route| order(route));
        let matches = sorted.iter().map(|route| Match {
            network: u32::from(route.prefix.network()),
            mask: u32::from(route.prefix.netmask()),
        });
        Self { matches: matches.collect(), routes: sorted.into_boxed_slice() }
    }

    /// The most specific route to `destination`.
    #[must_use]
    #[inline]
    pub fn lookup(&self, destination: Ipv4Addr) -> Option<&Route> {
        let address = u32::from(destination);
        let index = self.matches.iter().position(|m| address & m.mask == m.network)?;
        self.routes.get(index)
    }

    /// All routes, most specific first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(prefix: &str, link: u8, via: NextHop) -> Route {
        Route { prefix: prefix.parse().unwrap(), egress: LinkId(link), via }
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let gateway = Ipv4Addr::new(198, 51, 100, 1);
        let default = route("0.0.0.0/0", 0, NextHop::Gateway(gateway));
        let lan = route("10.0.0.1/24", 1, NextHop::OnLink);
        let host = route("10.0.0.9/32", 2, NextHop::OnLink);
        for table in [[default, lan, host], [host, lan, default], [lan, default, host]] {
            let routes = Routes::build(table);
            let egress = |a: [u8; 4]| routes.lookup(a.into()).unwrap().egress;
            assert_eq!(egress([10, 0, 0, 9]), LinkId(2));
            assert_eq!(egress([10, 0, 0, 8]), LinkId(1));
            assert_eq!(egress([10, 0, 1, 9]), LinkId(0));
        }
    }

    #[test]
    fn the_next_hop_is_the_gateway_or_the_destination() {
        let gateway = Ipv4Addr::new(198, 51, 100, 1);
        let far = Ipv4Addr::new(203, 0, 113, 7);
        assert_eq!(route("0.0.0.0/0", 0, NextHop::Gateway(gateway)).next_hop(far), gateway);
        assert_eq!(route("203.0.113.0/24", 0, NextHop::OnLink).next_hop(far), far);
    }

    #[test]
    fn without_a_route_there_is_none() {
        assert_eq!(Routes::default().lookup(Ipv4Addr::new(203, 0, 113, 7)), None);
        let routes = Routes::build([route("10.0.0.0/8", 1, NextHop::OnLink)]);
        assert_eq!(routes.lookup(Ipv4Addr::new(11, 0, 0, 0)), None);
    }

    #[test]
    fn the_first_of_two_equal_prefixes_wins() {
        let routes = Routes::build([
            route("10.0.0.1/24", 1, NextHop::OnLink),
            route("10.0.0.2/24", 2, NextHop::OnLink),
        ]);
        assert_eq!(routes.iter().count(), 1);
        assert_eq!(routes.lookup(Ipv4Addr::new(10, 0, 0, 7)).unwrap().egress, LinkId(1));
    }

    fn any_route() -> impl Strategy<Value = Route> {
        // Few distinct high bits, so that prefixes nest and destinations hit.
        let address = (0u32..4, 0u32..4, any::<u16>())
            .prop_map(|(a, b, c)| Ipv4Addr::from(a << 30 | b << 16 | u32::from(c & 0x0303)));
        (address, 0u8..=32, any::<u8>()).prop_map(|(address, len, link)| Route {
            prefix: Ipv4Net::new(address, len).unwrap(),
            egress: LinkId(link),
            via: NextHop::OnLink,
        })
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_linear_scan(
            table in proptest::collection::vec(any_route(), 0..40),
            target in any_route(),
        ) {
            let destination = target.prefix.addr();
            let mut best: Option<&Route> = None;
            for route in table.iter().filter(|r| r.prefix.contains(&destination)) {
                if best.is_none_or(|b| route.prefix.prefix_len() > b.prefix.prefix_len()) {
                    best = Some(route);
                }
            }
            let routes = Routes::build(table.iter().copied());
            prop_assert_eq!(routes.lookup(destination), best);
        }
    }
}
