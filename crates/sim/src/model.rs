//! What a translator must do, as plainly as it can be said.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use packet::{Endpoint, Instant};

/// Which remote endpoints a mapping admits (RFC 4787 §5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filtering {
    /// All.
    EndpointIndependent,
    /// Those whose address the internal endpoint has a flow to.
    AddressDependent,
    /// Those that the internal endpoint has a flow to.
    AddressAndPortDependent,
}

/// What must become of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It leaves as from this external port.
    As(u16),
    /// It leaves as from a port that is free, and which [`NatModel::note_port`] is to be told of.
    AsNew,
    /// It reaches this internal endpoint.
    To(Endpoint),
    /// No mapping, or one at rest.
    NoMapping,
    /// A mapping that does not admit the remote endpoint.
    Filtered,
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    port: u16,
    /// When its last session ended; `None` while it has one.
    freed: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    from_inside: bool,
    /// When the inside last sent; for a session from outside that nobody answered, when it was opened.
    refreshed: Instant,
    answered: bool,
}

/// One protocol of a NAT44, without limits: RFC 4787 REQ-1 to REQ-6 and REQ-8, RFC 6888 REQ-8.
pub struct NatModel {
    filtering: Filtering,
    timeout: Duration,
    rest: Duration,
    mappings: BTreeMap<Endpoint, Mapping>,
    /// By internal and remote endpoint.
    sessions: BTreeMap<(Endpoint, Endpoint), Session>,
}

impl NatModel {
    /// Makes a model whose sessions live for `timeout` and whose ports rest for `rest`.
    #[must_use]
    pub fn new(filtering: Filtering, timeout: Duration, rest: Duration) -> Self {
        Self { filtering, timeout, rest, mappings: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    /// A packet from inside.
    pub fn outbound(&mut self, internal: Endpoint, remote: Endpoint, now: Instant) -> Verdict {
        let session = self.sessions.entry((internal, remote)).or_insert(Session {
            from_inside: true,
            refreshed: now,
            answered: false,
        });
        session.refreshed = now;
        session.answered |= !session.from_inside;
        match self.mappings.get_mut(&internal) {
            Some(mapping) => {
                mapping.freed = None;
                Verdict::As(mapping.port)
            }
            None => Verdict::AsNew,
        }
    }

    /// The port that a new mapping was given.
    ///
    /// # Errors
    /// What is wrong with it: it belongs to another endpoint (REQ-1, REQ-8), is of another range or parity
    /// (REQ-3a, REQ-4), or was not preserved although it was free (§4.2.1).
    pub fn note_port(&mut self, internal: Endpoint, port: u16) -> Result<(), String> {
        if let Some((holder, _)) = self.mappings.iter().find(|(_, mapping)| mapping.port == port) {
            return Err(format!("port {port} of {holder} was given to {internal}"));
        }
        if (port < 1024, port % 2) != (internal.port < 1024, internal.port % 2) {
            return Err(format!("{internal} was given port {port} of another class"));
        }
        let was_free = self.mappings.values().all(|mapping| mapping.port != internal.port);
        if was_free && port != internal.port {
            return Err(format!("{internal} was given port {port} though its own was free"));
        }
        self.mappings.insert(internal, Mapping { port, freed: None });
        Ok(())
    }

    /// A packet from outside to an external port.
    pub fn inbound(&mut self, remote: Endpoint, port: u16, now: Instant) -> Verdict {
        let Some((&internal, mapping)) =
            self.mappings.iter().find(|(_, mapping)| mapping.port == port)
        else {
            return Verdict::NoMapping;
        };
        if self.sessions.contains_key(&(internal, remote)) {
            return Verdict::To(internal);
        }
        if mapping.freed.is_some() {
            return Verdict::NoMapping;
        }
        let admitted = match self.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => self.has_flow_to(internal, remote.address),
            Filtering::AddressAndPortDependent => false,
        };
        if !admitted {
            return Verdict::Filtered;
        }
        let session = Session { from_inside: false, refreshed: now, answered: false };
        self.sessions.insert((internal, remote), session);
        Verdict::To(internal)
    }

    fn has_flow_to(&self, internal: Endpoint, address: Ipv4Addr) -> bool {
        let flows = self.sessions.iter();
        flows
            .filter(|((of, _), session)| *of == internal && session.from_inside)
            .any(|((_, remote), _)| remote.address == address)
    }

    /// Ends what is over: sessions, then those from outside that nobody answered and whose mapping went to
    /// rest, then mappings that have rested.
    pub fn expire(&mut self, now: Instant) {
        let timeout = self.timeout;
        self.sessions.retain(|_, session| now.saturating_since(session.refreshed) <= timeout);
        let held = |sessions: &BTreeMap<(Endpoint, Endpoint), Session>, internal: Endpoint| {
            let mut of = sessions.iter().filter(|((i, _), _)| *i == internal);
            of.any(|(_, session)| session.from_inside || session.answered)
        };
        for (internal, mapping) in &mut self.mappings {
            if held(&self.sessions, *internal) {
                mapping.freed = None;
            } else {
                mapping.freed.get_or_insert(now);
                self.sessions.retain(|(of, _), _| of != internal);
            }
        }
        let rest = self.rest;
        let is_at_rest =
            |freed: Option<Instant>| freed.is_none_or(|freed| now.saturating_since(freed) <= rest);
        self.mappings.retain(|_, mapping| is_at_rest(mapping.freed));
    }

    /// Sessions that there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// External ports in use or at rest, to send to.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.mappings.values().map(|mapping| mapping.port)
    }
}
