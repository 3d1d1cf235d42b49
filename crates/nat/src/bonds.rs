//! What a session counts on: the mappings of its internal endpoints, and its contact.

use std::net::Ipv4Addr;

use flow_table::{Hit, Pass};
use packet::{External, Instant, Internal, LinkId, Protocol};

use crate::flow::{
    DIRECTION, Direction, HOLDS_CONTACT, HOLDS_MAPPING, HOLDS_TARGET, UNADMITTED, UNANSWERED,
};
use crate::hosts::HostSlot;
use crate::mapping::{ContactKey, Mapping, MappingKey};
use crate::sharing::Sharing;
use crate::sync::Ordering;
use crate::tables::{SessionHit, Tables};
use crate::upkeep::ROUND;
use crate::{Filtering, Policy};

/// Who stands for whom in a session.
pub(crate) struct Bonds {
    pub(crate) protocol: Protocol,
    pub(crate) traits: u8,
    /// The initiator of an outbound or hairpin session, the target of an inbound one.
    pub(crate) mapping: Option<Bond>,
    /// The target of a hairpin session.
    pub(crate) target: Option<Bond>,
    /// Where side 0 sends to, before the rewrite.
    pub(crate) remote: Ipv4Addr,
}

/// An internal endpoint and the external one that stands for it: through a mapping if the session
/// holds one, else through a forward.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bond {
    pub(crate) internal: Internal,
    pub(crate) external: External,
    /// Where the internal endpoint is.
    pub(crate) lan: LinkId,
}

impl Bonds {
    pub(crate) fn of(hit: &SessionHit<'_>) -> Self {
        let (key, flow) = (hit.key_at(0).0, hit.value_at(0));
        let initiator = Bond {
            internal: Internal(key.source()),
            external: External(flow.source()),
            lan: flow.ingress(),
        };
        let target = Bond {
            internal: Internal(flow.destination()),
            external: External(key.destination()),
            lan: flow.next_hop().egress,
        };
        let (mapping, target) = match flow.direction() {
            Direction::Outbound => (Some(initiator), None),
            Direction::Inbound => (Some(target), None),
            Direction::Hairpin => (Some(initiator), Some(target)),
            Direction::Routed => (None, None),
        };
        let remote = key.destination().address;
        Self { protocol: key.protocol(), traits: flow.traits(), mapping, target, remote }
    }

    /// Whether the policy still lets each external endpoint of a session stand for its internal
    /// one.
    pub(crate) fn agrees_with(&self, policy: &Policy) -> bool {
        // Of ESP `is_barred` knows what was asked for.
        let was_asked = !self.is_inbound() || self.protocol == Protocol::Esp;
        let came_in =
            [self.mapping.filter(|_| !was_asked), self.target.filter(|_| !self.has(UNADMITTED))];
        self.mapping.is_none_or(|bond| self.stands(bond, HOLDS_MAPPING, policy))
            && self.target.is_none_or(|bond| self.stands(bond, HOLDS_TARGET, policy))
            && came_in
                .iter()
                .flatten()
                .all(|bond| !policy.refuses_strangers(self.protocol, bond.external))
    }

    fn stands(&self, bond: Bond, holds: u8, policy: &Policy) -> bool {
        let Bond { internal, external, lan } = bond;
        if let Some(bound) = policy.forward_to(self.protocol, external) {
            return bound == internal;
        }
        if let Some((bound, _)) = policy.static_to(external) {
            return bound == internal;
        }
        let may_stand = policy.may_stand(external.0.address, internal.0.address, lan);
        // Where there are no mappings, the address is all there is.
        if !Sharing::of(self.protocol).has_mappings() {
            return may_stand;
        }
        // A held mapping stays in its table: nothing to look up.
        if self.has(holds) {
            return may_stand && policy.is_dynamic(self.protocol, external);
        }
        self.is_inbound() && policy.dmz_to(self.protocol, external) == Some(internal)
    }

    /// What a session holds now: one from outside holds its mapping only when it was answered. For
    /// its owner.
    pub(crate) fn held_by(hit: &SessionHit<'_>) -> Self {
        let bonds = Self::of(hit);
        let waits = hit.value_at(0).happened(UNANSWERED);
        let traits = if waits { bonds.traits & !HOLDS_MAPPING } else { bonds.traits };
        Self { traits, ..bonds }
    }

    fn is_inbound(&self) -> bool {
        self.traits & DIRECTION == Direction::Inbound as u8
    }

    fn has(&self, one: u8) -> bool {
        self.traits & one != 0
    }
}

impl Tables {
    /// Gives back what a session held, and its place in its host's quota.
    pub(crate) fn release_session(&self, pass: &Pass<'_>, hit: &SessionHit<'_>, now: Instant) {
        self.release(pass, &Bonds::held_by(hit), now);
        self.sessions_of.release_one(quota_holder(hit));
    }

    /// Gives back mappings and contact.
    pub(crate) fn release(&self, pass: &Pass<'_>, bonds: &Bonds, now: Instant) {
        if let Some(bond) = bonds.mapping {
            if bonds.has(HOLDS_MAPPING) {
                self.release_mapping(pass, bonds.protocol, bond, now);
            }
            if bonds.has(HOLDS_CONTACT) {
                let [key, _] = ContactKey::new(bonds.protocol, bond.external, bonds.remote);
                if let Some(hit) = self.contacts.lookup(pass, &key) {
                    hit.value_at(0).release();
                }
            }
        }
        if let Some(bond) = bonds.target.filter(|_| bonds.has(HOLDS_TARGET)) {
            self.release_mapping(pass, bonds.protocol, bond, now);
        }
    }

    pub(crate) fn release_mapping(
        &self,
        pass: &Pass<'_>,
        protocol: Protocol,
        bond: Bond,
        now: Instant,
    ) {
        // A held mapping stays in its table, with one exception: one that lost the race for its
        // internal key could be joined for a moment by its external one.
        if let Some(hit) = self.mapping_of(pass, protocol, bond) {
            let rests = hit.value_at(0).release(&self.hosts, now);
            self.resting.fetch_add(i64::from(rests), Ordering::Relaxed);
        }
    }

    /// Adds a session from outside, which was answered, to the mapping that let it in. If that went
    /// to rest meanwhile it wakes and counts for its host again, even past the quota: the session is there.
    pub(crate) fn join_mapping(&self, pass: &Pass<'_>, bonds: &Bonds) -> bool {
        let Some(bond) = bonds.mapping else { return false };
        let Some(hit) = self.mapping_of(pass, bonds.protocol, bond) else { return false };
        let mapping = hit.value_at(0);
        if mapping.join() {
            return true;
        }
        let (host, protocol) = (bond.internal.0.address, bonds.protocol);
        let is_counted = mapping.lan() != LinkId::LOCAL;
        let slot = is_counted.then(|| self.hosts.acquire_mapping_anyway(host, protocol)).flatten();
        let slot = slot.unwrap_or(HostSlot::NONE);
        let woken = self.wake(mapping, slot);
        if !woken {
            self.hosts.release(slot);
        }
        // Another worker's session may have woken it meanwhile.
        woken || mapping.join()
    }

    /// Wakes a mapping at rest.
    pub(crate) fn wake(&self, mapping: &Mapping, slot: HostSlot) -> bool {
        let woken = mapping.wake(slot);
        self.resting.fetch_sub(i64::from(woken), Ordering::Relaxed);
        woken
    }

    /// Takes a dead mapping out of the journal and the count, before its owner removes it.
    pub(crate) fn bury(&self, hit: &Hit<'_, MappingKey, Mapping>) {
        let external = hit.key_at(1);
        if let Some(protocol) = external.protocol() {
            let internal = Internal(hit.key_at(0).endpoint());
            self.journal.free(protocol, internal, External(external.endpoint()));
        }
        self.resting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the mapping of a session is held by any session, or was until just now: one that was answered since
    /// the last look may wake it yet.
    pub(crate) fn is_mapping_held(&self, pass: &Pass<'_>, bonds: &Bonds, now: Instant) -> bool {
        let hit = bonds.mapping.and_then(|bond| self.mapping_of(pass, bonds.protocol, bond));
        hit.is_some_and(|hit| {
            let mapping = hit.value_at(0);
            mapping.is_held() || !mapping.has_rested(now, ROUND)
        })
    }

    /// The mapping that makes a bond.
    pub(crate) fn mapping_of<'a>(
        &'a self,
        pass: &'a Pass<'_>,
        protocol: Protocol,
        bond: Bond,
    ) -> Option<Hit<'a, MappingKey, Mapping>> {
        self.mapping_between(pass, protocol, bond.internal, bond.external)
    }

    /// The mapping by which an external endpoint stands for an internal one.
    pub(crate) fn mapping_between<'a>(
        &'a self,
        pass: &'a Pass<'_>,
        protocol: Protocol,
        internal: Internal,
        external: External,
    ) -> Option<Hit<'a, MappingKey, Mapping>> {
        let hit = self.mappings.lookup(pass, &MappingKey::external(protocol, external));
        hit.filter(|hit| hit.key_at(0).endpoint() == internal.0)
    }

    /// Whether a mapping's external endpoint takes packets from a remote address that no session of
    /// it speaks with.
    pub(crate) fn admits(
        &self,
        pass: &Pass<'_>,
        filtering: Filtering,
        protocol: Protocol,
        external: External,
        remote: Ipv4Addr,
    ) -> bool {
        match filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressAndPortDependent => false,
            Filtering::AddressDependent => {
                let [key, _] = ContactKey::new(protocol, external, remote);
                self.contacts.lookup(pass, &key).is_some_and(|hit| hit.value_at(0).is_held())
            }
        }
    }
}

/// The internal address that a session counts for: of the host that opened it, or that it came in
/// for. The router's own count for nobody.
fn quota_holder(hit: &SessionHit<'_>) -> Option<Ipv4Addr> {
    let first = hit.value_at(0);
    match first.direction() {
        Direction::Inbound => Some(first.destination().address),
        Direction::Outbound | Direction::Hairpin | Direction::Routed => {
            (first.ingress() != LinkId::LOCAL).then(|| hit.key_at(0).0.source().address)
        }
    }
}
