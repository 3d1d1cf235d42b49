//! Explicit mappings that the operator made.

use std::cmp::Ordering;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use packet::{AddressSet, DropReason, Endpoint, Internal, Protocol, Side};

/// Most forwards in one policy: a mapping looks through its host's, a household has ten.
pub const FORWARDS_MAX: usize = 16_384;

/// External ports that belong to an internal endpoint whether or not it has spoken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    /// A protocol with ports.
    pub protocol: Protocol,
    /// The external address; `None` is the interface's own, whatever it is.
    pub address: Option<Ipv4Addr>,
    /// Ports on the external address, both ends included.
    pub external: RangeInclusive<u16>,
    /// Where the first of the ports leads; the others follow one by one.
    pub to: Internal,
    /// What the operator knows it by.
    pub id: u32,
    /// Who may use it, hosts inside included; absent: everybody.
    pub sources: Option<AddressSet>,
    /// Whether hosts inside may use it.
    pub hairpin: Hairpin,
}

/// Whether hosts inside may use a forward (RFC 4787 REQ-9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Hairpin {
    /// They may.
    #[default]
    Allowed,
    /// They may not.
    Refused,
}

impl Forward {
    /// Whether a packet from this address, on this side, may use the forward.
    ///
    /// # Errors
    /// [`DropReason::HairpinDisabled`] or [`DropReason::ForwardSource`].
    pub fn admits(&self, source: Ipv4Addr, side: Side) -> Result<(), DropReason> {
        if side == Side::Inside && self.hairpin == Hairpin::Refused {
            return Err(DropReason::HairpinDisabled);
        }
        match &self.sources {
            Some(sources) if !sources.contains(source) => Err(DropReason::ForwardSource),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a set of forwards is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ForwardError {
    /// A range whose end lies before its start.
    #[error("forward {id} has no external port")]
    Empty {
        /// The forward.
        id: u32,
    },
    /// Port 0 cannot be sent to.
    #[error("forward {id} uses port 0")]
    PortZero {
        /// The forward.
        id: u32,
    },
    /// ICMP and tunnels have no ports.
    #[error("forward {id} is for a protocol that has no ports")]
    Protocol {
        /// The forward.
        id: u32,
    },
    /// The ports of SCTP cannot be changed.
    #[error("forward {id} is for SCTP, whose internal port must be the external one")]
    SctpPorts {
        /// The forward.
        id: u32,
    },
    /// The range of internal ports would pass 65535.
    #[error("forward {id} would need internal ports beyond 65535")]
    InternalPorts {
        /// The forward.
        id: u32,
    },
    /// One external port can lead to one place only.
    #[error("forwards {first} and {second} share external {protocol} port {port}")]
    Overlap {
        /// The forward whose ports begin lower.
        first: u32,
        /// The other.
        second: u32,
        /// Their protocol.
        protocol: Protocol,
        /// The lowest port that they share.
        port: u16,
    },
    /// More than [`FORWARDS_MAX`].
    #[error("{count} forwards, at most {FORWARDS_MAX} are supported")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// A validated set of forwards, searchable from both sides.
///
/// **Shape**: `by_external` is sorted by protocol, address and first port, ranges disjoint; `by_internal`
/// holds positions in it, sorted by protocol, internal address and the order in which they were
/// declared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Forwards {
    by_external: Vec<Forward>,
    by_internal: Vec<u16>,
}

impl Forwards {
    /// Checks and indexes forwards.
    ///
    /// Two external ports may lead to one internal endpoint; the forward declared first is then the
    /// one that the endpoint's own traffic uses.
    ///
    /// # Errors
    /// The first fault found: nothing of a faulty set is used.
    pub fn new(forwards: Vec<Forward>) -> Result<Self, ForwardError> {
        if forwards.len() > FORWARDS_MAX {
            return Err(ForwardError::TooMany { count: forwards.len() });
        }
        for forward in &forwards {
            check(forward)?;
        }
        let mut declared: Vec<(usize, Forward)> = forwards.into_iter().enumerate().collect();
        declared.sort_by_key(|(_, forward)| {
            (forward.protocol, forward.address, *forward.external.start())
        });
        for pair in declared.windows(2) {
            check_disjoint(&pair[0].1, &pair[1].1)?;
        }
        let mut order: Vec<usize> = (0..declared.len()).collect();
        order.sort_by_key(|&at| {
            let (declared_at, forward) = &declared[at];
            (forward.protocol, forward.to.0.address, *declared_at)
        });
        Ok(Self {
            by_internal: order.into_iter().map(|at| at as u16).collect(),
            by_external: declared.into_iter().map(|(_, forward)| forward).collect(),
        })
    }

    /// Where a port of an external address leads; `None` is the interface's own.
    #[must_use]
    pub fn lookup(
        &self,
        protocol: Protocol,
        address: Option<Ipv4Addr>,
        port: u16,
    ) -> Option<Internal> {
        let forward = self.find(protocol, address, port)?;
        let to = forward.to.0;
        Some(Internal(Endpoint::new(to.address, to.port + (port - forward.external.start()))))
    }

    /// The forward that owns a port of an external address; `None` is the interface's own.
    #[must_use]
    pub fn find(
        &self,
        protocol: Protocol,
        address: Option<Ipv4Addr>,
        port: u16,
    ) -> Option<&Forward> {
        let at = self.by_external.binary_search_by(|forward| {
            (forward.protocol, forward.address).cmp(&(protocol, address)).then_with(|| {
                if forward.external.contains(&port) {
                    Ordering::Equal
                } else {
                    forward.external.start().cmp(&port)
                }
            })
        });
        at.ok().map(|at| &self.by_external[at])
    }

    /// The external address and port that stand for an internal endpoint.
    #[must_use]
    pub fn reverse(
        &self,
        protocol: Protocol,
        internal: Internal,
    ) -> Option<(Option<Ipv4Addr>, u16)> {
        let Endpoint { address, port } = internal.0;
        let host = |at: &u16| {
            let forward = &self.by_external[usize::from(*at)];
            (forward.protocol, forward.to.0.address).cmp(&(protocol, address))
        };
        let first = self.by_internal.partition_point(|at| host(at) == Ordering::Less);
        let of_host = self.by_internal[first..].iter().take_while(|at| host(at).is_eq());
        of_host.map(|at| &self.by_external[usize::from(*at)]).find_map(|forward| {
            let offset = port.checked_sub(forward.to.0.port)?;
            let external = forward.external.start().checked_add(offset)?;
            forward.external.contains(&external).then_some((forward.address, external))
        })
    }

    /// All forwards, by protocol, external address and first port.
    pub fn iter(&self) -> impl Iterator<Item = &Forward> {
        self.by_external.iter()
    }
}

fn check(forward: &Forward) -> Result<(), ForwardError> {
    let id = forward.id;
    let (first, last) = (*forward.external.start(), *forward.external.end());
    if !forward.protocol.has_ports() {
        return Err(ForwardError::Protocol { id });
    }
    if forward.external.is_empty() {
        return Err(ForwardError::Empty { id });
    }
    if first == 0 || forward.to.0.port == 0 {
        return Err(ForwardError::PortZero { id });
    }
    if forward.protocol == Protocol::Sctp && forward.to.0.port != first {
        return Err(ForwardError::SctpPorts { id });
    }
    match forward.to.0.port.checked_add(last - first) {
        Some(_) => Ok(()),
        None => Err(ForwardError::InternalPorts { id }),
    }
}

fn check_disjoint(low: &Forward, high: &Forward) -> Result<(), ForwardError> {
    let port = *high.external.start();
    let same = (low.protocol, low.address) == (high.protocol, high.address);
    if same && low.external.contains(&port) {
        let (first, second) = (low.id, high.id);
        return Err(ForwardError::Overlap { first, second, protocol: low.protocol, port });
    }
    Ok(())
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn internal(host: u8, port: u16) -> Internal {
        Internal(Endpoint::new([10, 0, 0, host].into(), port))
    }

    fn forward(
        id: u32,
        protocol: Protocol,
        external: RangeInclusive<u16>,
        to: Internal,
    ) -> Forward {
        let (sources, hairpin) = (None, Hairpin::Allowed);
        Forward { protocol, address: None, external, to, id, sources, hairpin }
    }

    fn sample() -> Forwards {
        Forwards::new(vec![
            forward(1, Protocol::Udp, 27000..=27015, internal(6, 28000)),
            forward(2, Protocol::Tcp, 8080..=8080, internal(5, 80)),
            forward(3, Protocol::Tcp, 80..=80, internal(5, 80)),
            forward(4, Protocol::Tcp, 443..=443, internal(5, 443)),
        ])
        .unwrap()
    }

    #[test]
    fn a_range_maps_port_by_port() {
        let forwards = sample();
        assert_eq!(forwards.lookup(Protocol::Udp, None, 27000), Some(internal(6, 28000)));
        assert_eq!(forwards.lookup(Protocol::Udp, None, 27015), Some(internal(6, 28015)));
        assert_eq!(forwards.lookup(Protocol::Udp, None, 27016), None);
        assert_eq!(forwards.lookup(Protocol::Udp, None, 26999), None);
        assert_eq!(forwards.lookup(Protocol::Tcp, None, 27000), None);
        assert_eq!(forwards.find(Protocol::Tcp, None, 443).map(|forward| forward.id), Some(4));
    }

    #[test]
    fn reverse_finds_the_port_and_prefers_the_forward_declared_first() {
        let forwards = sample();
        assert_eq!(forwards.reverse(Protocol::Tcp, internal(5, 80)), Some((None, 8080)));
        assert_eq!(forwards.reverse(Protocol::Tcp, internal(5, 443)), Some((None, 443)));
        assert_eq!(forwards.reverse(Protocol::Udp, internal(6, 28007)), Some((None, 27007)));
        assert_eq!(forwards.reverse(Protocol::Udp, internal(6, 28016)), None);
        assert_eq!(forwards.reverse(Protocol::Udp, internal(5, 80)), None);
        assert_eq!(forwards.reverse(Protocol::Tcp, internal(9, 80)), None);
        assert_eq!(Forwards::default().reverse(Protocol::Tcp, internal(5, 80)), None);
    }

    #[test]
    fn two_forwards_of_one_port_are_refused_by_name() {
        let refused = Forwards::new(vec![
            forward(7, Protocol::Tcp, 90..=90, internal(5, 80)),
            forward(8, Protocol::Tcp, 80..=99, internal(6, 80)),
        ]);
        let overlap =
            ForwardError::Overlap { first: 8, second: 7, protocol: Protocol::Tcp, port: 90 };
        assert_eq!(refused, Err(overlap));
    }

    #[test]
    fn a_forward_admits_the_sources_that_it_names_from_the_sides_that_it_names() {
        let open = forward(1, Protocol::Tcp, 80..=80, internal(5, 80));
        let sources: AddressSet =
            [([203, 0, 113, 0].into(), [203, 0, 113, 9].into())].into_iter().collect();
        let limited = Forward { sources: Some(sources), ..open.clone() };
        let outside = Forward { hairpin: Hairpin::Refused, ..open.clone() };
        let [friend, stranger, host] =
            [[203, 0, 113, 9], [203, 0, 113, 10], [10, 0, 0, 7]].map(Ipv4Addr::from);
        assert_eq!(open.admits(stranger, Side::Outside), Ok(()));
        assert_eq!(open.admits(host, Side::Inside), Ok(()));
        assert_eq!(limited.admits(friend, Side::Outside), Ok(()));
        assert_eq!(limited.admits(stranger, Side::Outside), Err(DropReason::ForwardSource));
        assert_eq!(limited.admits(host, Side::Inside), Err(DropReason::ForwardSource));
        assert_eq!(outside.admits(stranger, Side::Outside), Ok(()));
        assert_eq!(outside.admits(host, Side::Inside), Err(DropReason::HairpinDisabled));
    }

    #[test]
    fn one_port_of_two_protocols_is_two_ports() {
        let both = Forwards::new(vec![
            forward(1, Protocol::Tcp, 53..=53, internal(5, 53)),
            forward(2, Protocol::Udp, 53..=53, internal(6, 53)),
        ]);
        assert_eq!(both.unwrap().lookup(Protocol::Udp, None, 53), Some(internal(6, 53)));
    }

    #[test]
    fn one_port_of_two_addresses_is_two_ports() {
        let elsewhere = Some(Ipv4Addr::new(203, 0, 113, 5));
        let here = forward(1, Protocol::Tcp, 80..=80, internal(5, 80));
        let there = Forward { address: elsewhere, to: internal(6, 80), id: 2, ..here.clone() };
        let both = Forwards::new(vec![there.clone(), here]).unwrap();
        assert_eq!(both.lookup(Protocol::Tcp, None, 80), Some(internal(5, 80)));
        assert_eq!(both.lookup(Protocol::Tcp, elsewhere, 80), Some(internal(6, 80)));
        assert_eq!(both.reverse(Protocol::Tcp, internal(6, 80)), Some((elsewhere, 80)));
        let twice = Forwards::new(vec![there.clone(), there]);
        assert!(matches!(twice, Err(ForwardError::Overlap { port: 80, .. })));
    }

    #[test]
    fn impossible_forwards_are_refused_each_for_its_cause() {
        let (id, one) = (1, |forward| Forwards::new(vec![forward]));
        assert_eq!(
            one(forward(1, Protocol::Icmp, 1..=1, internal(5, 1))),
            Err(ForwardError::Protocol { id })
        );
        assert_eq!(
            one(forward(1, Protocol::Gre, 1..=1, internal(5, 1))),
            Err(ForwardError::Protocol { id })
        );
        assert_eq!(
            one(forward(1, Protocol::Sctp, 1..=1, internal(5, 2))),
            Err(ForwardError::SctpPorts { id })
        );
        #[expect(clippy::reversed_empty_ranges, reason = "the fault under test")]
        let reversed = 9..=8;
        assert_eq!(
            one(forward(1, Protocol::Tcp, reversed, internal(5, 1))),
            Err(ForwardError::Empty { id })
        );
        assert_eq!(
            one(forward(1, Protocol::Tcp, 0..=1, internal(5, 1))),
            Err(ForwardError::PortZero { id })
        );
        assert_eq!(
            one(forward(1, Protocol::Tcp, 1..=2, internal(5, 65535))),
            Err(ForwardError::InternalPorts { id })
        );
        let many = vec![forward(1, Protocol::Tcp, 1..=1, internal(5, 1)); FORWARDS_MAX + 1];
        assert_eq!(Forwards::new(many), Err(ForwardError::TooMany { count: FORWARDS_MAX + 1 }));
    }
}
