//! `[[lan]]`

use std::net::Ipv4Addr;
use std::ops::Range;

use ipnet::Ipv4Net;

use crate::defaults;
use crate::document::{At, Problems, Section};
use crate::fault::Fault;
use crate::model::{AddressRange, Filtering, Lan, LanDhcp, Reservation};
use crate::read::{host_range, not_a_host};
use crate::{name, suggest, value};

/// A LAN, and the places that later checks point to.
pub(crate) struct LanRead {
    pub(crate) lan: Lan,
    pub(crate) name_at: Range<usize>,
    pub(crate) link_at: Range<usize>,
    pub(crate) address_at: Range<usize>,
    /// In step with `reach`.
    pub(crate) reach_at: Vec<Range<usize>>,
    /// In step with the reservations.
    pub(crate) reservations_at: Vec<ReservationAt>,
}

/// Where the parts of a reservation are.
pub(crate) struct ReservationAt {
    mac: Range<usize>,
    address: Range<usize>,
    pub(crate) name: Range<usize>,
}

struct DhcpRead {
    dhcp: LanDhcp,
    pool_at: Range<usize>,
    reservations_at: Vec<ReservationAt>,
}

/// Reads one LAN and checks what can be checked within it.
pub(crate) fn lan(mut section: Section<'_>) -> Option<LanRead> {
    let problems = section.problems;
    let name = section.required("name", "home", name::lan);
    let link = section.required("link", "lan0", name::link);
    let address = section.required("address", "10.0.0.1/24", interface);
    let filtering = section.choice("filtering", &Filtering::ALL, Filtering::as_str);
    let reach = section.list("reach", defaults::LANS_MAX, name::lan);
    let dhcp = section.section_if_present("dhcp").map(dhcp);
    section.finish();
    let (name, link, address) = (name?, link?, address?);
    let (reach, reach_at) = reach.into_iter().map(|At { value, at }| (value, at)).unzip();
    let mut read = LanRead {
        lan: Lan {
            name: name.value,
            link: link.value,
            address: address.value,
            filtering: filtering.map_or(defaults::FILTERING, |filtering| filtering.value),
            dhcp: None,
            reach,
        },
        name_at: name.at,
        link_at: link.at,
        address_at: address.at,
        reach_at,
        reservations_at: Vec::new(),
    };
    if let Some(dhcp) = dhcp {
        let dhcp = dhcp?;
        check_pool(&read, &dhcp, problems);
        check_reservations(&read, &dhcp, problems);
        read.lan.dhcp = Some(dhcp.dhcp);
        read.reservations_at = dhcp.reservations_at;
    }
    Some(read)
}

/// Checks names of LANs and towards whom each may open flows.
pub(crate) fn check_reach(lans: &[LanRead], problems: &Problems) {
    for (index, read) in lans.iter().enumerate() {
        let name = &read.lan.name;
        if let Some(earlier) = lans[..index].iter().find(|earlier| earlier.lan.name == *name) {
            let see = (&earlier.name_at, "first used here");
            problems.note_both(&read.name_at, see, Fault::DuplicateLan { name: name.clone() });
        }
        for (target, at) in read.lan.reach.iter().zip(&read.reach_at) {
            if target == name {
                problems.note(at, Fault::ReachItself { name: name.clone() });
            } else if !lans.iter().any(|lan| lan.lan.name == *target) {
                problems.note(at, unknown(target, lans));
            }
        }
    }
}

/// The fault of naming a LAN that is not there.
pub(crate) fn unknown(name: &str, lans: &[LanRead]) -> Fault {
    let names: Vec<&str> = lans.iter().map(|read| read.lan.name.as_str()).collect();
    Fault::UnknownLan { name: name.to_owned(), remedy: suggest::word(name, &names) }
}

fn interface(text: &str) -> Result<Ipv4Net, Fault> {
    let net = value::interface(text)?;
    let (min, max) = (defaults::LAN_PREFIX_MIN, defaults::LAN_PREFIX_MAX);
    if (min..=max).contains(&net.prefix_len()) {
        Ok(net)
    } else {
        Err(Fault::LanPrefix { min, max })
    }
}

fn dhcp(mut section: Section<'_>) -> Option<DhcpRead> {
    let pool = section.required("pool", "10.0.0.100-10.0.0.199", value::pool);
    let lease = section.text("lease", |text| {
        value::duration("lease", text, defaults::LEASE_MIN, defaults::LEASE_MAX)
    });
    let dns = section.list("dns", defaults::OPTION_ADDRESSES_MAX, value::address);
    let ntp = section.list("ntp", defaults::OPTION_ADDRESSES_MAX, value::address);
    let domain = section.text("domain", name::domain);
    let range = defaults::MTU_MIN..=defaults::MTU_MAX;
    let mtu = section.number_u16("mtu", range, "every host takes 576, an etherstub 9000");
    let sections = section.sections("reservation", defaults::RESERVATIONS_MAX);
    let expected = sections.len();
    let (reservations, reservations_at): (Vec<_>, Vec<_>) =
        sections.into_iter().filter_map(reservation).unzip();
    section.finish();
    let pool = pool?;
    if reservations.len() < expected {
        return None;
    }
    let dhcp = LanDhcp {
        pool: pool.value,
        lease: lease.map_or(defaults::LEASE, |lease| lease.value),
        reservations,
        dns: dns.into_iter().map(|server| server.value).collect(),
        ntp: ntp.into_iter().map(|server| server.value).collect(),
        domain: domain.map(|domain| domain.value),
        mtu: mtu.map(|mtu| mtu.value),
    };
    Some(DhcpRead { dhcp, pool_at: pool.at, reservations_at })
}

fn reservation(mut section: Section<'_>) -> Option<(Reservation, ReservationAt)> {
    let mac = section.required("mac", "02:08:20:0a:0b:01", value::mac);
    let address = section.required("address", "10.0.0.5", value::address);
    let name = section.required("name", "web", name::host);
    section.finish();
    let (mac, address, name) = (mac?, address?, name?);
    let at = ReservationAt { mac: mac.at, address: address.at, name: name.at };
    Some((Reservation { mac: mac.value, address: address.value, name: name.value }, at))
}

fn check_pool(read: &LanRead, dhcp: &DhcpRead, problems: &Problems) {
    let subnet = read.lan.subnet();
    let pool: AddressRange = dhcp.dhcp.pool;
    let (first, last) = host_range(subnet);
    let router = read.lan.address.addr();
    let count = u64::from(u32::from(pool.last)) - u64::from(u32::from(pool.first)) + 1;
    let fault = if pool.first < first || pool.last > last {
        Fault::PoolOutside { pool: pool.to_string(), subnet, first, last }
    } else if pool.contains(router) {
        Fault::PoolHasRouter { address: router }
    } else if count > defaults::POOL_MAX {
        Fault::PoolTooLarge { count, max: defaults::POOL_MAX }
    } else {
        return;
    };
    problems.note_both(&dhcp.pool_at, (&read.address_at, "the LAN's address"), fault);
}

fn check_reservations(read: &LanRead, dhcp: &DhcpRead, problems: &Problems) {
    let subnet = read.lan.subnet();
    let (first, last) = host_range(subnet);
    let mut macs = std::collections::BTreeMap::new();
    let mut addresses: std::collections::BTreeMap<Ipv4Addr, &Range<usize>> = Default::default();
    for (reservation, at) in dhcp.dhcp.reservations.iter().zip(&dhcp.reservations_at) {
        let address = reservation.address;
        let see = (&read.address_at, "the LAN's address");
        if !subnet.contains(&address) {
            let lan = read.lan.name.clone();
            let fault = Fault::ReservationOutside { address, subnet, lan, first, last };
            problems.note_both(&at.address, see, fault);
        } else if address == read.lan.address.addr() {
            problems.note_both(&at.address, see, Fault::ReservationIsRouter { address });
        } else if let Some(what) = not_a_host(&read.lan, address) {
            problems.note_both(&at.address, see, Fault::Unusable { address, what });
        }
        if let Some(earlier) = macs.insert(reservation.mac, &at.mac) {
            let fault = Fault::DuplicateMac { mac: reservation.mac };
            problems.note_both(&at.mac, (earlier, "first used here"), fault);
        }
        if let Some(earlier) = addresses.insert(address, &at.address) {
            let fault = Fault::DuplicateAddress { address };
            problems.note_both(&at.address, (earlier, "first used here"), fault);
        }
    }
}
