//! Which zone may open sessions to which.

use packet::{DropReason, LinkId};

/// Where a packet comes from or goes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Zone {
    /// The Internet.
    Wan,
    /// The LAN on this link.
    Lan(LinkId),
    /// The router itself.
    Local,
}

impl Zone {
    /// The zone that a link leads to.
    #[must_use]
    #[inline]
    pub fn of(link: LinkId) -> Self {
        match link {
            LinkId::WAN => Self::Wan,
            LinkId::LOCAL => Self::Local,
            lan => Self::Lan(lan),
        }
    }

    /// Position in a row or column of the matrix: the router, the WAN, then the LANs.
    #[inline]
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Local => 0,
            Self::Wan => 1,
            Self::Lan(link) => 1 + link.index(),
        }
    }
}

/// What becomes of a session that a zone wants to open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// It is opened.
    Allow,
    /// Its packets are dropped.
    Deny,
}

/// Who may open sessions to whom.
///
/// **Shape**: a square of actions, row by opening zone, column by its peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZonePolicy {
    zones: usize,
    actions: Box<[Action]>,
}

impl ZonePolicy {
    /// The defaults for a router with `lans` LANs, on links 1 to `lans`: a LAN reaches the WAN, the
    /// router and itself; the router reaches all; the WAN reaches nobody.
    #[must_use]
    pub fn new(lans: u8) -> Self {
        let zones = 2 + usize::from(lans);
        let mut policy = Self { zones, actions: vec![Action::Deny; zones * zones].into() };
        let lans = || (1..=lans).map(|link| Zone::Lan(LinkId(link)));
        policy.set(Zone::Local, Zone::Wan, Action::Allow);
        for lan in lans() {
            for peer in [Zone::Wan, Zone::Local, lan] {
                policy.set(lan, peer, Action::Allow);
            }
            policy.set(Zone::Local, lan, Action::Allow);
        }
        policy
    }

    /// Says what becomes of sessions from one zone to another.
    ///
    /// # Panics
    /// If one of them is a LAN that the router does not have: the configuration has checked that.
    pub fn set(&mut self, from: Zone, to: Zone, action: Action) {
        let index = self.index(from, to).expect("zones come from the links of the configuration");
        self.actions[index] = action;
    }

    /// What becomes of sessions from one zone to another; denied if the router has no such LAN.
    #[must_use]
    #[inline]
    pub fn action(&self, from: Zone, to: Zone) -> Action {
        let index = self.index(from, to);
        index.and_then(|index| self.actions.get(index)).copied().unwrap_or(Action::Deny)
    }

    /// Whether one zone may open a session to another.
    ///
    /// # Errors
    /// [`DropReason::PolicyDenied`] if not.
    #[inline]
    pub fn check(&self, from: Zone, to: Zone) -> Result<(), DropReason> {
        match self.action(from, to) {
            Action::Allow => Ok(()),
            Action::Deny => Err(DropReason::PolicyDenied),
        }
    }

    #[inline]
    fn index(&self, from: Zone, to: Zone) -> Option<usize> {
        let (row, column) = (from.index(), to.index());
        (row < self.zones && column < self.zones).then_some(row * self.zones + column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Zone = Zone::Lan(LinkId(1));
    const GUEST: Zone = Zone::Lan(LinkId(2));

    #[test]
    fn the_defaults_let_lans_out_and_nobody_in() {
        let policy = ZonePolicy::new(2);
        let zones = [Zone::Wan, HOME, GUEST, Zone::Local];
        let row = |from| zones.map(|to| policy.check(from, to).is_ok());
        assert_eq!(row(Zone::Wan), [false, false, false, false]);
        assert_eq!(row(HOME), [true, true, false, true]);
        assert_eq!(row(GUEST), [true, false, true, true]);
        assert_eq!(row(Zone::Local), [true, true, true, false]);
    }

    #[test]
    fn an_exception_holds_in_one_direction() {
        let mut policy = ZonePolicy::new(2);
        policy.set(HOME, GUEST, Action::Allow);
        assert_eq!(policy.check(HOME, GUEST), Ok(()));
        assert_eq!(policy.check(GUEST, HOME), Err(DropReason::PolicyDenied));
        policy.set(GUEST, Zone::Wan, Action::Deny);
        assert_eq!(policy.check(GUEST, Zone::Wan), Err(DropReason::PolicyDenied));
    }

    #[test]
    fn a_lan_that_does_not_exist_is_denied() {
        let policy = ZonePolicy::new(1);
        assert_eq!(policy.action(GUEST, Zone::Wan), Action::Deny);
        assert_eq!(policy.action(HOME, GUEST), Action::Deny);
    }

    #[test]
    fn every_link_number_has_its_zone() {
        assert_eq!(Zone::of(LinkId::WAN), Zone::Wan);
        assert_eq!(Zone::of(LinkId(1)), HOME);
        let policy = ZonePolicy::new(255);
        assert_eq!(policy.check(Zone::of(LinkId(255)), Zone::Wan), Ok(()));
        assert_eq!(policy.action(Zone::Wan, Zone::of(LinkId(255))), Action::Deny);
    }
}
