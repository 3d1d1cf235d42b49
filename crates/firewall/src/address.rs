//! Which addresses may arrive on which link.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use packet::{DropReason, LinkId};

/// Which side of the router a link is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Any source may arrive that isn't ours or a LAN's.
    Wan,
    /// Only hosts of the link's own subnets may.
    Lan,
}

/// What is to be known of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkPolicy {
    /// Its name.
    pub link: LinkId,
    /// Its side.
    pub role: Role,
    /// The router's own addresses on it, each with its subnet's prefix length; none on a WAN
    /// without a lease.
    pub addresses: Vec<Ipv4Net>,
}

/// The addresses of all links, compiled for checking.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressPolicy {
    subnets: Box<[Subnet]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Subnet {
    link: LinkId,
    role: Role,
    network: u32,
    mask: u32,
    own: u32,
}

impl Subnet {
    fn contains(&self, address: u32) -> bool {
        address & self.mask == self.network
    }

    /// Whether the address names all hosts of the subnet, in today's form or with zeros as hosts
    /// before 4.3BSD wrote it (RFC 1812 §4.2.3.1). A /31 and a /32 have neither (RFC 3021).
    fn is_broadcast(&self, address: u32) -> bool {
        let hosts = !self.mask;
        hosts > 1 && (address == self.network || address == self.network | hosts)
    }
}

impl AddressPolicy {
    /// Compiles the policy of all links.
    #[must_use]
    pub fn build(links: impl IntoIterator<Item = LinkPolicy>) -> Self {
        let subnets = links.into_iter().flat_map(|policy| {
            let LinkPolicy { link, role, addresses } = policy;
            addresses.into_iter().map(move |net| Subnet {
                link,
                role,
                network: u32::from(net.network()),
                mask: u32::from(net.netmask()),
                own: u32::from(net.addr()),
            })
        });
        Self { subnets: subnets.collect() }
    }

    /// Whether a packet with these addresses may have arrived on a link of this role.
    ///
    /// # Errors
    /// The first of these that holds: [`DropReason::SourceMartian`],
    /// [`DropReason::DestinationMartian`], [`DropReason::Multicast`], [`DropReason::Broadcast`],
    /// [`DropReason::Land`], [`DropReason::SourceInternal`] (WAN), [`DropReason::SourceSpoofed`]
    /// (LAN), [`DropReason::DirectedBroadcast`].
    #[inline]
    pub fn check_source(
        &self,
        link: LinkId,
        source: Ipv4Addr,
        destination: Ipv4Addr,
    ) -> Result<(), DropReason> {
        if Class::of(source) != Class::Unicast {
            return Err(DropReason::SourceMartian);
        }
        match Class::of(destination) {
            Class::Unicast => {}
            Class::Multicast => return Err(DropReason::Multicast),
            Class::LimitedBroadcast => return Err(DropReason::Broadcast),
            Class::ThisNetwork | Class::Loopback | Class::LinkLocal | Class::Reserved => {
                return Err(DropReason::DestinationMartian);
            }
        }
        if source == destination {
            return Err(DropReason::Land);
        }
        self.check_subnets(link, u32::from(source), u32::from(destination))
    }

    /// One pass over the subnets of all links.
    fn check_subnets(&self, link: LinkId, source: u32, destination: u32) -> Result<(), DropReason> {
        // A link without addresses has no hosts of its own, so it is judged like the WAN.
        let mut role = Role::Wan;
        let mut is_own_host = false;
        let mut is_internal = false;
        let mut broadcast = None;
        let mut stranger = DropReason::SourceSpoofed;
        for subnet in &self.subnets {
            let is_here = subnet.link == link;
            if is_here {
                role = subnet.role;
            }
            if subnet.contains(source) {
                if subnet.is_broadcast(source) {
                    return Err(DropReason::SourceMartian);
                }
                is_own_host |= is_here;
                is_internal |= subnet.role == Role::Lan;
            }
            if source == subnet.own {
                stranger = DropReason::SourceInternal;
                // A lease may repeat an address of a LAN: what arrives there is judged by the LAN's
                // subnet alone (RFC 4787 REQ-7).
                if is_here && role == Role::Lan {
                    return Err(DropReason::SourceSpoofed);
                } else if is_here || subnet.role == Role::Lan {
                    return Err(DropReason::SourceInternal);
                }
            }
            if subnet.is_broadcast(destination) {
                broadcast = Some(if is_here {
                    DropReason::Broadcast
                } else {
                    DropReason::DirectedBroadcast
                });
            }
        }
        match role {
            Role::Wan if is_internal => Err(DropReason::SourceInternal),
            Role::Lan if !is_own_host => Err(stranger),
            Role::Wan | Role::Lan => broadcast.map_or(Ok(()), Err),
        }
    }
}

/// What kind of address it is, whatever the link (RFC 1812 §4.2.2.11 and §5.3.7, RFC 6890).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// 0/8: "this host on this network"; legal as a source only in DHCP.
    ThisNetwork,
    /// 127/8.
    Loopback,
    /// 169.254/16, which routers must not forward (RFC 3927 §2.7).
    LinkLocal,
    /// 224/4.
    Multicast,
    /// 255.255.255.255.
    LimitedBroadcast,
    /// The rest of 240/4, "class E".
    Reserved,
    /// Any other: one host's, as far as can be told without knowing the subnets. Private and shared
    /// space is among them: behind another translator it is what a WAN looks like.
    Unicast,
}

impl Class {
    #[inline]
    fn of(address: Ipv4Addr) -> Self {
        match address.octets() {
            [0, ..] => Class::ThisNetwork,
            [127, ..] => Class::Loopback,
            [169, 254, ..] => Class::LinkLocal,
            [224..=239, ..] => Class::Multicast,
            [255, 255, 255, 255] => Class::LimitedBroadcast,
            [240..=255, ..] => Class::Reserved,
            _ => Class::Unicast,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WAN: LinkId = LinkId(0);
    const HOME: LinkId = LinkId(1);
    const GUEST: LinkId = LinkId(2);
    const REMOTE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
    const OURS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn policy() -> AddressPolicy {
        let link = |link, role, addresses: &[&str]| LinkPolicy {
            link,
            role,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        AddressPolicy::build([
            link(WAN, Role::Wan, &["198.51.100.2/24"]),
            link(HOME, Role::Lan, &["10.0.0.1/24", "10.0.5.1/24"]),
            link(GUEST, Role::Lan, &["10.0.1.1/24"]),
        ])
    }

    fn check(link: LinkId, source: &str, destination: &str) -> Option<DropReason> {
        policy().check_source(link, source.parse().unwrap(), destination.parse().unwrap()).err()
    }

    #[test]
    fn rfc1812_5_3_7_every_martian_source_is_refused_on_every_link() {
        let martians = [
            ("this network", "0.1.2.3"),
            ("unspecified", "0.0.0.0"),
            ("loopback", "127.0.0.1"),
            ("end of loopback", "127.255.255.255"),
            ("link-local", "169.254.9.9"),
            ("multicast", "224.0.0.1"),
            ("end of multicast", "239.255.255.255"),
            ("class E", "240.0.0.1"),
            ("end of class E", "255.255.255.254"),
            ("limited broadcast", "255.255.255.255"),
            ("broadcast of a LAN", "10.0.0.255"),
            ("broadcast of another LAN", "10.0.1.255"),
            ("network of a LAN", "10.0.0.0"),
            ("broadcast of the WAN", "198.51.100.255"),
        ];
        for (name, source) in martians {
            for link in [WAN, HOME, GUEST] {
                let found = check(link, source, "203.0.113.8");
                assert_eq!(found, Some(DropReason::SourceMartian), "{name} on {link:?}");
            }
        }
    }

    #[test]
    fn rfc1812_5_3_7_every_martian_destination_is_refused() {
        let martians = [
            ("this network", "0.1.2.3", DropReason::DestinationMartian),
            ("unspecified", "0.0.0.0", DropReason::DestinationMartian),
            ("loopback", "127.0.0.1", DropReason::DestinationMartian),
            ("link-local", "169.254.169.254", DropReason::DestinationMartian),
            ("class E", "240.0.0.1", DropReason::DestinationMartian),
            ("end of class E", "255.255.255.254", DropReason::DestinationMartian),
            ("multicast", "239.1.2.3", DropReason::Multicast),
            ("limited broadcast", "255.255.255.255", DropReason::Broadcast),
        ];
        for (name, destination, reason) in martians {
            assert_eq!(check(HOME, "10.0.0.9", destination), Some(reason), "{name} from a LAN");
            assert_eq!(check(WAN, "203.0.113.7", destination), Some(reason), "{name} from the WAN");
        }
    }

    #[test]
    fn neighbours_of_the_martian_ranges_pass() {
        for source in ["1.0.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255"] {
            assert_eq!(check(WAN, source, "198.51.100.2"), None, "{source}");
        }
        for source in ["169.255.0.0", "223.255.255.255"] {
            assert_eq!(check(WAN, source, "198.51.100.2"), None, "{source}");
        }
    }

    #[test]
    fn private_and_shared_space_on_the_wan_passes() {
        for source in ["10.9.9.9", "172.16.0.1", "192.168.100.1", "100.64.0.1"] {
            assert_eq!(check(WAN, source, "198.51.100.2"), None, "{source}");
        }
    }

    #[test]
    fn rfc2827_rfc3704_a_lan_host_may_only_use_an_address_of_its_own_subnets() {
        assert_eq!(check(HOME, "10.0.0.9", "203.0.113.7"), None);
        assert_eq!(check(HOME, "10.0.5.9", "203.0.113.7"), None);
        for source in ["10.0.1.9", "203.0.113.9", "198.51.100.3", "10.0.0.1", "10.0.5.1"] {
            let found = check(HOME, source, "203.0.113.7");
            assert_eq!(found, Some(DropReason::SourceSpoofed), "{source}");
        }
    }

    #[test]
    fn the_routers_own_wan_address_never_arrives_as_a_source() {
        for link in [WAN, HOME] {
            let found = check(link, "198.51.100.2", "203.0.113.7");
            assert_eq!(found, Some(DropReason::SourceInternal), "{link:?}");
        }
    }

    #[test]
    fn rfc3704_a_lan_address_on_the_wan_is_internal() {
        for source in ["10.0.0.9", "10.0.1.9", "10.0.5.9", "10.0.0.1"] {
            let found = check(WAN, source, "198.51.100.2");
            assert_eq!(found, Some(DropReason::SourceInternal), "{source}");
        }
    }

    #[test]
    fn a_packet_to_its_own_source_is_land() {
        assert_eq!(check(WAN, "198.51.100.2", "198.51.100.2"), Some(DropReason::Land));
        assert_eq!(check(HOME, "10.0.0.9", "10.0.0.9"), Some(DropReason::Land));
    }

    #[test]
    fn rfc2644_a_broadcast_of_another_link_is_directed() {
        for (link, source, destination) in [
            (WAN, "203.0.113.7", "10.0.0.255"),
            (WAN, "203.0.113.7", "10.0.0.0"),
            (WAN, "203.0.113.7", "10.0.5.255"),
            (GUEST, "10.0.1.9", "10.0.0.255"),
            (HOME, "10.0.0.9", "198.51.100.255"),
        ] {
            let found = check(link, source, destination);
            assert_eq!(found, Some(DropReason::DirectedBroadcast), "{destination} on {link:?}");
        }
    }

    #[test]
    fn a_broadcast_of_the_links_own_subnet_is_not_routed_either() {
        assert_eq!(check(HOME, "10.0.0.9", "10.0.0.255"), Some(DropReason::Broadcast));
    }

    #[test]
    fn a_spoofed_source_is_named_before_its_directed_broadcast() {
        assert_eq!(check(GUEST, "10.0.0.9", "10.0.0.255"), Some(DropReason::SourceSpoofed));
    }

    #[test]
    fn ordinary_traffic_passes() {
        for (link, source, destination) in
            [(HOME, HOST, REMOTE), (HOME, HOST, OURS), (WAN, REMOTE, OURS)]
        {
            assert_eq!(policy().check_source(link, source, destination), Ok(()));
        }
    }

    #[test]
    fn a_wan_without_a_lease_still_refuses_lan_sources() {
        let lan = LinkPolicy {
            link: HOME,
            role: Role::Lan,
            addresses: vec!["10.0.0.1/24".parse().unwrap()],
        };
        let wan = LinkPolicy { link: WAN, role: Role::Wan, addresses: Vec::new() };
        let policy = AddressPolicy::build([wan, lan]);
        assert_eq!(policy.check_source(WAN, HOST, REMOTE), Err(DropReason::SourceInternal));
        assert_eq!(policy.check_source(WAN, REMOTE, OURS), Ok(()));
    }

    #[test]
    fn a_point_to_point_subnet_has_no_broadcast() {
        let wan = LinkPolicy {
            link: WAN,
            role: Role::Wan,
            addresses: vec!["198.51.100.2/31".parse().unwrap()],
        };
        let policy = AddressPolicy::build([wan]);
        let peer = Ipv4Addr::new(198, 51, 100, 3);
        assert_eq!(policy.check_source(WAN, peer, Ipv4Addr::new(198, 51, 100, 4)), Ok(()));
    }

    proptest! {
        #[test]
        fn what_passes_on_a_lan_is_a_host_of_it_and_what_passes_on_the_wan_is_not(
            source in any::<u32>(),
            near in any::<bool>(),
            destination in any::<u32>(),
        ) {
            let source = if near { 0x0a00_0000 | source & 0x0007_ffff } else { source };
            let source = Ipv4Addr::from(source);
            let destination = Ipv4Addr::from(destination);
            let home: [Ipv4Net; 2] = ["10.0.0.0/24", "10.0.5.0/24"].map(|n| n.parse().unwrap());
            let guest: Ipv4Net = "10.0.1.0/24".parse().unwrap();
            let is_home = home.iter().any(|net| net.contains(&source));
            if policy().check_source(HOME, source, destination).is_ok() {
                prop_assert!(is_home);
            }
            if policy().check_source(WAN, source, destination).is_ok() {
                prop_assert!(!is_home && !guest.contains(&source));
            }
        }
    }
}
