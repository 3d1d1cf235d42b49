//! External addresses beside the WAN link's own: of `[wan] addresses` and of `[[nat.static]]`.

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::defaults;
use crate::document::Problems;
use crate::fault::Fault;
use crate::model::{AddressRange, Nat, Wan, WanMode};
use crate::read::lan::LanRead;
use crate::read::nat::NatRead;
use crate::read::wan::WanRead;

/// The external addresses that a forward may be for.
pub(crate) struct Externals<'c> {
    wan: &'c Wan,
    nat: &'c Nat,
}

impl<'c> Externals<'c> {
    pub(crate) fn of(wan: &'c Wan, nat: &'c Nat) -> Self {
        Self { wan, nat }
    }

    /// Whether this is the WAN link's own address, as far as the file knows it.
    pub(crate) fn is_own(&self, address: Ipv4Addr) -> bool {
        matches!(self.wan.mode, WanMode::Static { address: own, .. } if own.addr() == address)
    }

    /// Whether the file gives the router this address.
    pub(crate) fn knows(&self, address: Ipv4Addr) -> bool {
        self.is_own(address)
            || self.wan.addresses.iter().any(|range| range.contains(address))
            || self.nat.statics.iter().any(|one| one.external == address)
    }
}

/// Checks the further addresses against each other and against all that has an address already.
pub(crate) fn check(wan: Option<&WanRead>, nat: &NatRead, lans: &[LanRead], problems: &Problems) {
    let listed = wan.into_iter().flat_map(|read| read.wan.addresses.iter().zip(&read.addresses_at));
    let of_hosts = nat.nat.statics.iter().zip(&nat.externals_at).map(|(one, at)| {
        let (first, last) = (one.external, one.external);
        (AddressRange { first, last }, at)
    });
    let listed: Vec<(AddressRange, &Range<usize>)> =
        listed.map(|(range, at)| (*range, at)).collect();
    let of_hosts: Vec<(AddressRange, &Range<usize>)> = of_hosts.collect();
    for of_one_kind in [&listed, &of_hosts] {
        check_disjoint(of_one_kind, problems);
    }
    check_count(&listed, problems);
    for (range, at) in listed.into_iter().chain(of_hosts) {
        let fault = wan.and_then(|read| taken(range, &read.wan)).or_else(|| in_lan(range, lans));
        if let Some(fault) = fault {
            problems.note(at, fault);
        }
    }
}

fn check_disjoint(ranges: &[(AddressRange, &Range<usize>)], problems: &Problems) {
    for (index, (range, at)) in ranges.iter().enumerate() {
        let shares = |other: &AddressRange| other.first <= range.last && range.first <= other.last;
        let earlier = ranges[..index].iter().find(|(other, _)| shares(other));
        if let Some((other, other_at)) = earlier {
            let address = range.first.max(other.first);
            let fault = Fault::DuplicateExternal { address };
            problems.note_both(at, (other_at, "first here"), fault);
        }
    }
}

fn check_count(ranges: &[(AddressRange, &Range<usize>)], problems: &Problems) {
    let max = defaults::WAN_ADDRESSES_MAX;
    let mut count = 0;
    for (range, at) in ranges {
        count += u64::from(range.last.to_bits() - range.first.to_bits()) + 1;
        if count > max as u64 {
            problems.note(at, Fault::ExternalsTooMany { count, max });
            return;
        }
    }
}

/// What of a static WAN's subnet has an address of the range already.
fn taken(range: AddressRange, wan: &Wan) -> Option<Fault> {
    let WanMode::Static { address: own, gateway } = wan.mode else { return None };
    let special = [
        (own.network(), "the network address of the WAN subnet"),
        (own.broadcast(), "the broadcast address of the WAN subnet"),
    ];
    let special = special.into_iter().filter(|_| own.prefix_len() < 31);
    let hosts = [(own.addr(), "the WAN link's own already"), (gateway, "the gateway's")];
    let owner = hosts.into_iter().chain(special).find(|(address, _)| range.contains(*address));
    owner.map(|(address, owner)| Fault::ExternalTaken { address, owner })
}

fn in_lan(range: AddressRange, lans: &[LanRead]) -> Option<Fault> {
    lans.iter().map(|read| &read.lan).find_map(|lan| {
        let subnet = lan.subnet();
        let first = range.first.max(subnet.network());
        (first <= range.last.min(subnet.broadcast())).then(|| Fault::ExternalInLan {
            address: first,
            subnet,
            lan: lan.name.clone(),
        })
    })
}
