//! 1:1 addresses: an external address that stands for one host, with all its ports.

use std::net::Ipv4Addr;

/// Most 1:1 addresses in one policy: as many as a pool may have.
pub const STATICS_MAX: usize = 256;

/// Whether hosts outside may open flows to a 1:1 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inbound {
    /// To every port; pings reach the host.
    Allowed,
    /// Only where a forward says so; else sessions alone decide what comes in.
    Refused,
}

/// An external address that belongs to one host: every protocol, ports kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Static {
    /// The address outside.
    pub external: Ipv4Addr,
    /// The host.
    pub internal: Ipv4Addr,
    /// Whether flows may be opened from outside.
    pub inbound: Inbound,
}

/// Why a set of 1:1 addresses is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StaticError {
    /// An external address can stand for one host only.
    #[error("two hosts share the 1:1 address {address}")]
    External {
        /// The external address.
        address: Ipv4Addr,
    },
    /// A host can have one external address only.
    #[error("{address} has two 1:1 addresses")]
    Internal {
        /// The internal address.
        address: Ipv4Addr,
    },
    /// More than [`STATICS_MAX`].
    #[error("{count} 1:1 addresses, at most {STATICS_MAX} are supported")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// A validated set of 1:1 addresses, searchable from both sides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Statics {
    by_external: Box<[Static]>,
    by_internal: Box<[Static]>,
}

impl Statics {
    /// Checks and indexes 1:1 addresses.
    ///
    /// # Errors
    /// The first fault found: nothing of a faulty set is used.
    pub fn new(statics: Vec<Static>) -> Result<Self, StaticError> {
        if statics.len() > STATICS_MAX {
            return Err(StaticError::TooMany { count: statics.len() });
        }
        let mut by_external = statics.clone();
        by_external.sort_unstable_by_key(|one| one.external);
        if let Some(pair) = by_external.windows(2).find(|pair| pair[0].external == pair[1].external)
        {
            return Err(StaticError::External { address: pair[0].external });
        }
        let mut by_internal = statics;
        by_internal.sort_unstable_by_key(|one| one.internal);
        if let Some(pair) = by_internal.windows(2).find(|pair| pair[0].internal == pair[1].internal)
        {
            return Err(StaticError::Internal { address: pair[0].internal });
        }
        Ok(Self { by_external: by_external.into(), by_internal: by_internal.into() })
    }

    /// The host that an external address belongs to.
    #[must_use]
    pub fn at(&self, external: Ipv4Addr) -> Option<&Static> {
        let at = self.by_external.binary_search_by_key(&external, |one| one.external);
        at.ok().map(|at| &self.by_external[at])
    }

    /// The external address that belongs to a host.
    #[must_use]
    pub fn of(&self, internal: Ipv4Addr) -> Option<&Static> {
        let at = self.by_internal.binary_search_by_key(&internal, |one| one.internal);
        at.ok().map(|at| &self.by_internal[at])
    }

    /// All of them, by external address.
    pub fn iter(&self) -> impl Iterator<Item = &Static> {
        self.by_external.iter()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn one(external: u8, internal: u8) -> Static {
        Static {
            external: Ipv4Addr::new(203, 0, 113, external),
            internal: Ipv4Addr::new(10, 0, 0, internal),
            inbound: Inbound::Allowed,
        }
    }

    #[test]
    fn a_set_is_searched_from_both_sides() {
        let statics = Statics::new(vec![one(9, 2), one(5, 3)]).unwrap();
        assert_eq!(statics.at(one(5, 3).external), Some(&one(5, 3)));
        assert_eq!(statics.of(one(9, 2).internal), Some(&one(9, 2)));
        assert_eq!((statics.at(one(9, 2).internal), statics.of(one(9, 2).external)), (None, None));
    }

    #[test]
    fn one_address_has_one_host_and_one_host_one_address() {
        let shared = Statics::new(vec![one(9, 2), one(9, 3)]);
        assert_eq!(shared, Err(StaticError::External { address: one(9, 2).external }));
        let twice = Statics::new(vec![one(8, 2), one(9, 2)]);
        assert_eq!(twice, Err(StaticError::Internal { address: one(9, 2).internal }));
        let many = Statics::new(vec![one(9, 2); STATICS_MAX + 1]);
        assert_eq!(many, Err(StaticError::TooMany { count: STATICS_MAX + 1 }));
    }
}
