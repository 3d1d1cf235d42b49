//! The router's own data: names of hosts, and zones that are answered without asking anyone.
//!
//! Hosts come and go with leases (DN22). A host is known by its name alone, by that name in the
//! local domain, and by its address. Whatever else is asked for in the local domain, in a private
//! reverse zone or with a single label does not exist, and no server hears of it (DN21).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::HINFO;
use hickory_proto::serialize::binary::BinEncodable;
use ipnet::Ipv4Net;

use crate::query::Query;
use crate::reply::{self, Ask, Head};
use crate::special::{self, Labels, Special};
use crate::wire::{self, HEADER_LEN, NAME_MAX, Rcode};

/// Hosts at most: every address of a /18, several times what a router of this kind serves.
pub const HOSTS_MAX: usize = 16_384;

/// Life of "does not exist" where hosts come and go: a lease's name has to be seen within a second
/// (DN22). Seconds.
const TTL_NEGATIVE_HOSTS: u32 = 1;

/// Life of "does not exist" where nothing ever will (RFC 6303 §3). Seconds.
const TTL_NEGATIVE_EMPTY: u32 = 10_800;

/// Life of the loopback's addresses. Seconds.
const TTL_LOCALHOST: u32 = 86_400;

/// Life of the answer that stands for "any" (RFC 8482 §4.2). Seconds.
const TTL_ANY: u32 = 3_600;

/// Why a host was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HostError {
    /// Not a name that DNS can carry, or the root.
    #[error("not a host name: empty, a label over 63 octets, over 255 octets, or a bad escape")]
    Name,
    /// Reserved by RFC 6761, or one that would redirect other programs (`wpad`).
    #[error("the name is reserved")]
    Reserved,
    /// [`HOSTS_MAX`] names are there already.
    #[error("no room for another host")]
    Full,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Host {
    v4: Option<(Ipv4Addr, u32)>,
    v6: Option<(Ipv6Addr, u32)>,
}

/// What is known locally.
#[derive(Debug)]
pub(crate) struct Local {
    /// The local domain in wire form and lower case.
    domain: Box<[u8]>,
    networks: Vec<Ipv4Net>,
    /// By name in wire form and lower case: without the root label if it stands in the local
    /// domain, with it if it stands anywhere else.
    hosts: BTreeMap<Box<[u8]>, Host>,
    /// The name of each address, the latest that claimed it.
    names: BTreeMap<IpAddr, Box<[u8]>>,
    /// Hosts in the local domain whose name has several labels.
    nested: usize,
    /// The record that answers "any", behind its name.
    any: Box<[u8]>,
}

/// What local data has to say to a query.
enum Finding {
    /// Nothing: others may be asked.
    Foreign,
    /// The name has addresses; its zone starts at this offset of the name.
    Host { host: Host, zone_at: usize },
    /// It is the name of an address.
    Pointer(Box<[u8]>, u32),
    /// It does not exist; the zone that says so starts at this offset of the name.
    Missing { zone_at: usize, ttl: u32 },
    /// It exists without what was asked for.
    Bare { zone_at: usize, ttl: u32 },
}

impl Local {
    pub(crate) fn new(domain: &Name, networks: &[Ipv4Net]) -> Self {
        Self {
            domain: wire_name(domain).into_boxed_slice(),
            networks: networks.to_vec(),
            hosts: BTreeMap::new(),
            names: BTreeMap::new(),
            nested: 0,
            any: minimal_any(),
        }
    }

    /// Takes another domain and other networks; hosts stay and move into the new domain.
    pub(crate) fn reconfigure(&mut self, domain: &Name, networks: &[Ipv4Net]) {
        self.domain = wire_name(domain).into_boxed_slice();
        self.networks = networks.to_vec();
    }

    /// Names a host. A name with several labels that does not end in the local domain stands for
    /// itself; any other is a host of the local domain.
    pub(crate) fn insert(
        &mut self,
        name: &str,
        address: IpAddr,
        ttl: Duration,
    ) -> Result<(), HostError> {
        let key = self.host_key(name)?;
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(&key) {
            return Err(HostError::Full);
        }
        let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).min(crate::answer::TTL_MAX);
        if !self.hosts.contains_key(&key) && is_nested(&key) {
            self.nested += 1;
        }
        let host = self.hosts.entry(key.clone()).or_default();
        let former = match address {
            IpAddr::V4(v4) => host.v4.replace((v4, ttl)).map(|(v4, _)| IpAddr::V4(v4)),
            IpAddr::V6(v6) => host.v6.replace((v6, ttl)).map(|(v6, _)| IpAddr::V6(v6)),
        };
        if let Some(former) = former.filter(|former| *former != address) {
            self.release(former, &key);
        }
        self.names.insert(address, key);
        Ok(())
    }

    /// Forgets a host and returns whether it was known.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let Ok(key) = self.host_key(name) else { return false };
        let Some(host) = self.hosts.remove(&key) else { return false };
        self.nested -= usize::from(is_nested(&key));
        let addresses = [
            host.v4.map(|(address, _)| IpAddr::V4(address)),
            host.v6.map(|(address, _)| IpAddr::V6(address)),
        ];
        for address in addresses.into_iter().flatten() {
            self.release(address, &key);
        }
        true
    }

    /// Names known.
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Takes `address` from `key`; another host with the same address inherits it.
    fn release(&mut self, address: IpAddr, key: &[u8]) {
        if self.names.get(&address).is_none_or(|owner| **owner != *key) {
            return;
        }
        let heir = self.hosts.iter().find(|(name, host)| {
            ***name != *key
                && (host.v4.is_some_and(|(v4, _)| address == v4)
                    || host.v6.is_some_and(|(v6, _)| address == v6))
        });
        match heir.map(|(name, _)| name.clone()) {
            Some(name) => self.names.insert(address, name),
            None => self.names.remove(&address),
        };
    }

    fn host_key(&self, name: &str) -> Result<Box<[u8]>, HostError> {
        let parsed = Name::from_ascii(name).map_err(|_| HostError::Name)?;
        let key = wire_name(&parsed);
        let labels = Labels::new(&key);
        let relative = match labels.count() {
            0 => return Err(HostError::Name),
            1 => &key[..key.len() - 1],
            _ => match strip_domain(&key, &self.domain) {
                Some([]) => return Err(HostError::Reserved),
                Some(relative) => relative,
                None if special::classify(&labels).is_some() => return Err(HostError::Reserved),
                None => return Ok(key.into_boxed_slice()),
            },
        };
        let reserved: [&[u8]; 2] = [b"\x09localhost", b"\x04wpad"];
        if reserved.contains(&relative) {
            return Err(HostError::Reserved);
        }
        if relative.len() + self.domain.len() > NAME_MAX {
            return Err(HostError::Name);
        }
        Ok(relative.into())
    }

    /// Writes the answer if the name is one of ours, or returns false if others may be asked.
    pub(crate) fn answer(&self, query: &Query<'_>, ask: &Ask<'_>, out: &mut Vec<u8>) -> bool {
        let class = query.question.class();
        if class != wire::CLASS_IN && class != wire::CLASS_ANY {
            return false;
        }
        let finding = self.find(query);
        if matches!(finding, Finding::Foreign) {
            return false;
        }
        if !query.is_question() {
            reply::write(out, ask, Head::ours(ask, Rcode::Refused), &[], None);
            return true;
        }
        Self::write(query.question.rtype(), finding, ask, out);
        true
    }

    /// Answers "any" with one record that says as little as possible (RFC 8482 §4.2).
    pub(crate) fn answer_any(&self, ask: &Ask<'_>, out: &mut Vec<u8>) {
        let mut records = Records::default();
        records.add(wire::TYPE_HINFO, TTL_ANY, &self.any);
        let head = Head { answers: 1, ..Head::ours(ask, Rcode::NoError) };
        reply::write(out, ask, head, &records.octets, None);
    }

    fn find(&self, query: &Query<'_>) -> Finding {
        let name = query.question.name();
        let rtype = query.question.rtype();
        let labels = Labels::new(name);
        if labels.count() == 0 {
            return Finding::Foreign;
        }
        if let Some(relative) = strip_domain(name, &self.domain) {
            let zone_at = relative.len();
            // A validator asks for the DS of the apex to learn that it is unsigned (RFC 8375 §4).
            return match relative {
                [] if rtype == wire::TYPE_DS => Finding::Foreign,
                [] => Finding::Bare { zone_at, ttl: TTL_NEGATIVE_HOSTS },
                _ => self.find_relative(relative, zone_at),
            };
        }
        match special::classify(&labels) {
            Some(special) => self.find_special(special, &labels, rtype),
            None if labels.count() == 1 => match rtype {
                // What validators ask about top-level domains; no host is looked up by these.
                wire::TYPE_DS | wire::TYPE_DNSKEY | wire::TYPE_NS => Finding::Foreign,
                _ => self.find_relative(&name[..name.len() - 1], name.len() - 1),
            },
            None => match self.hosts.get(name) {
                // Of its surroundings nothing is known, so it is a zone of its own.
                Some(host) => Finding::Host { host: *host, zone_at: 0 },
                None => Finding::Foreign,
            },
        }
    }

    fn find_relative(&self, relative: &[u8], zone_at: usize) -> Finding {
        let ttl = TTL_NEGATIVE_HOSTS;
        if let Some(host) = self.hosts.get(relative) {
            return Finding::Host { host: *host, zone_at };
        }
        let is_parent = |name: &[u8]| is_nested(name) && ends_with_labels(name, relative);
        if self.nested > 0 && self.hosts.keys().any(|name| is_parent(name)) {
            return Finding::Bare { zone_at, ttl };
        }
        Finding::Missing { zone_at, ttl }
    }

    fn find_special(&self, special: Special, labels: &Labels<'_>, rtype: u16) -> Finding {
        let ttl = TTL_NEGATIVE_EMPTY;
        match special {
            Special::Localhost => Finding::Host {
                host: Host {
                    v4: Some((Ipv4Addr::LOCALHOST, TTL_LOCALHOST)),
                    v6: Some((Ipv6Addr::LOCALHOST, TTL_LOCALHOST)),
                },
                zone_at: labels.suffix_at(1),
            },
            Special::Empty { labels: zone } if labels.count() == zone && rtype == wire::TYPE_DS => {
                Finding::Foreign
            }
            Special::Empty { labels: zone } if labels.count() == zone => {
                Finding::Bare { zone_at: labels.suffix_at(zone), ttl }
            }
            Special::Empty { labels: zone } => {
                Finding::Missing { zone_at: labels.suffix_at(zone), ttl }
            }
            Special::Reverse { zone, address } => self.find_reverse(zone, address, labels),
        }
    }

    fn find_reverse(
        &self,
        zone: Option<usize>,
        address: Option<IpAddr>,
        labels: &Labels<'_>,
    ) -> Finding {
        let ttl = TTL_NEGATIVE_HOSTS;
        if let Some((key, host)) = address.and_then(|address| self.host_of(address)) {
            let name = if key.last() == Some(&0) { key.into() } else { self.in_domain(key) };
            let ttl = host.v4.map(|(_, ttl)| ttl).or(host.v6.map(|(_, ttl)| ttl));
            return Finding::Pointer(name, ttl.unwrap_or_default());
        }
        match (zone, address) {
            // Blocks within the zone exist as far as anyone can tell; only addresses do not.
            (Some(zone), None) => Finding::Bare { zone_at: labels.suffix_at(zone), ttl },
            (Some(zone), Some(_)) => Finding::Missing { zone_at: labels.suffix_at(zone), ttl },
            (None, Some(IpAddr::V4(v4))) if self.networks.iter().any(|net| net.contains(&v4)) => {
                Finding::Missing { zone_at: labels.suffix_at(labels.count() - 1), ttl }
            }
            (None, _) => Finding::Foreign,
        }
    }

    fn host_of(&self, address: IpAddr) -> Option<(&[u8], &Host)> {
        let key = self.names.get(&address)?;
        Some((key, self.hosts.get(key)?))
    }

    fn in_domain(&self, relative: &[u8]) -> Box<[u8]> {
        [relative, &self.domain].concat().into_boxed_slice()
    }

    fn write(rtype: u16, finding: Finding, ask: &Ask<'_>, out: &mut Vec<u8>) {
        let mut records = Records::default();
        let (rcode, zone_at, ttl) = match finding {
            Finding::Foreign => return,
            Finding::Host { host, zone_at } => {
                records.add_host(rtype, &host);
                (Rcode::NoError, zone_at, TTL_NEGATIVE_HOSTS)
            }
            Finding::Pointer(name, ttl) => {
                if matches!(rtype, wire::TYPE_PTR | wire::TYPE_ANY) {
                    records.add(wire::TYPE_PTR, ttl, &name);
                }
                // The parent block stands for the zone.
                (Rcode::NoError, 1 + usize::from(ask.question[0]), TTL_NEGATIVE_HOSTS)
            }
            Finding::Bare { zone_at, ttl } => {
                if rtype == wire::TYPE_SOA && zone_at == 0 {
                    records.add_soa(zone_at, ttl);
                }
                (Rcode::NoError, zone_at, ttl)
            }
            Finding::Missing { zone_at, ttl } => (Rcode::NxDomain, zone_at, ttl),
        };
        let mut head = Head::authoritative(ask, rcode);
        head.answers = records.count;
        if records.count == 0 {
            records.add_soa(zone_at, ttl);
            head.authorities = 1;
        }
        reply::write(out, ask, head, &records.octets, None);
    }
}

/// Records of a reply under construction.
#[derive(Default)]
struct Records {
    octets: Vec<u8>,
    count: u16,
}

impl Records {
    /// Appends a record whose name is the question's.
    fn add(&mut self, rtype: u16, ttl: u32, rdata: &[u8]) {
        self.add_at(0, rtype, ttl, rdata);
    }

    /// Appends a record whose name is the question's from offset `at` on.
    fn add_at(&mut self, at: usize, rtype: u16, ttl: u32, rdata: &[u8]) {
        self.octets.extend_from_slice(&pointer(at));
        self.octets.extend_from_slice(&rtype.to_be_bytes());
        self.octets.extend_from_slice(&wire::CLASS_IN.to_be_bytes());
        self.octets.extend_from_slice(&ttl.to_be_bytes());
        // Names, addresses and SOA data, all far below 64 KiB.
        self.octets.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        self.octets.extend_from_slice(rdata);
        self.count += 1;
    }

    fn add_host(&mut self, rtype: u16, host: &Host) {
        let any = rtype == wire::TYPE_ANY;
        if let Some((address, ttl)) = host.v4.filter(|_| any || rtype == wire::TYPE_A) {
            self.add(wire::TYPE_A, ttl, &address.octets());
        }
        if let Some((address, ttl)) = host.v6.filter(|_| any || rtype == wire::TYPE_AAAA) {
            self.add(wire::TYPE_AAAA, ttl, &address.octets());
        }
    }

    /// Appends the SOA record of the zone that starts at `zone_at` of the question's name, with the
    /// data that RFC 6303 §3 prescribes.
    fn add_soa(&mut self, zone_at: usize, ttl: u32) {
        const RNAME: &[u8] = b"\x06nobody\x07invalid\x00";
        let mut rdata = pointer(zone_at).to_vec();
        rdata.extend_from_slice(RNAME);
        for number in [1, 3_600, 1_200, 604_800, ttl] {
            rdata.extend_from_slice(&u32::to_be_bytes(number));
        }
        self.add_at(zone_at, wire::TYPE_SOA, ttl, &rdata);
    }
}

/// A compression pointer to offset `at` of the question's name.
fn pointer(at: usize) -> [u8; 2] {
    // A name has at most 255 octets, so the offset fits into 14 bits.
    (0xc000 | (HEADER_LEN + at) as u16).to_be_bytes()
}

/// The data of RFC 8482's record.
fn minimal_any() -> Box<[u8]> {
    let record = HINFO::new("RFC8482".to_owned(), String::new());
    record.to_bytes().expect("two short strings can be encoded").into_boxed_slice()
}

/// A name in wire form, lower case, with the root label.
pub(crate) fn wire_name(name: &Name) -> Vec<u8> {
    let mut out = Vec::with_capacity(NAME_MAX);
    for label in name.iter() {
        // A label has at most 63 octets.
        out.push(label.len() as u8);
        out.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    out.push(0);
    out
}

/// What stands in front of `domain` in `name`, or nothing if it is not within. The root as domain
/// holds no name: it means that there is no local domain.
fn strip_domain<'a>(name: &'a [u8], domain: &[u8]) -> Option<&'a [u8]> {
    if domain.len() == 1 || !ends_with_labels(name, domain) {
        return None;
    }
    Some(&name[..name.len() - domain.len()])
}

/// True if `name` ends with the labels of `suffix`: equal octets from a label's start on.
pub(crate) fn ends_with_labels(name: &[u8], suffix: &[u8]) -> bool {
    let Some(start) = name.len().checked_sub(suffix.len()) else { return false };
    let mut at = 0;
    while at < start {
        at += 1 + usize::from(name[at]);
    }
    at == start && name[start..] == *suffix
}

/// True if a relative name has more than one label.
fn is_nested(relative: &[u8]) -> bool {
    relative.last() != Some(&0)
        && relative.first().is_some_and(|len| 1 + usize::from(*len) < relative.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffix_matches_only_whole_labels() {
        assert!(ends_with_labels(b"\x01a\x02ex\x00", b"\x02ex\x00"));
        assert!(ends_with_labels(b"\x02ex\x00", b"\x02ex\x00"));
        // A label that contains the octets of the suffix.
        assert!(!ends_with_labels(b"\x05a\x02ex\x00", b"\x02ex\x00"));
    }

    #[test]
    fn address_passes_to_the_other_host_that_has_it() {
        let mut local = Local::new(&Name::from_ascii("home.arpa").unwrap(), &[]);
        let address: IpAddr = "10.0.0.5".parse().unwrap();
        local.insert("one", address, Duration::from_secs(60)).unwrap();
        local.insert("two", address, Duration::from_secs(60)).unwrap();
        assert_eq!(local.names.get(&address).unwrap()[..], *b"\x03two");
        assert!(local.remove("two.home.arpa"));
        assert_eq!(local.names.get(&address).unwrap()[..], *b"\x03one");
        assert!(local.remove("one"));
        assert!(local.names.is_empty() && local.hosts.is_empty());
    }

    #[test]
    fn reserved_and_impossible_names_are_refused() {
        let mut local = Local::new(&Name::from_ascii("home.arpa").unwrap(), &[]);
        let address: IpAddr = "10.0.0.5".parse().unwrap();
        for (name, error) in [
            ("", HostError::Name),
            (".", HostError::Name),
            ("localhost", HostError::Reserved),
            ("wpad", HostError::Reserved),
            ("home.arpa", HostError::Reserved),
            ("x.onion", HostError::Reserved),
            (&"x".repeat(64), HostError::Name),
        ] {
            assert_eq!(local.insert(name, address, Duration::ZERO), Err(error), "{name}");
        }
    }
}
