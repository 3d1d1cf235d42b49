//! What one host may take of the router (RFC 6888 REQ-4, REQ-5).

use std::net::Ipv4Addr;

use packet::{DropReason, Instant, Internal, LinkId};

use crate::Policy;
use crate::engine::{Engine, OpenRequest, Translation};
use crate::tables::Tables;

/// A host that a session counts for.
struct Holder {
    host: Ipv4Addr,
    /// The most that it may have then.
    max: u32,
    /// Whether it opens the session itself.
    opens: bool,
}

impl Tables {
    /// Whether a host inside may open one more session now; takes nothing.
    ///
    /// # Errors
    /// [`DropReason::HostRate`] or [`DropReason::HostSessions`].
    pub fn check_host(
        &self,
        host: Ipv4Addr,
        policy: &Policy,
        now: Instant,
    ) -> Result<(), DropReason> {
        if !self.rates.admits(host, policy.new_sessions, now) {
            return Err(DropReason::HostRate);
        }
        let max = self.sessions_per_host_max(policy);
        if self.sessions_of.count(host) < max { Ok(()) } else { Err(DropReason::HostSessions) }
    }

    /// Whether a session may be opened for the host that it counts for, of which `ending` sessions are about
    /// to end; takes nothing.
    pub(crate) fn may_admit_host(
        &self,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
        ending: u32,
    ) -> Result<(), DropReason> {
        let Some(Holder { host, max, opens }) = self.holder(request, policy) else { return Ok(()) };
        if opens && !self.rates.admits(host, policy.new_sessions, now) {
            return Err(DropReason::HostRate);
        }
        let is_full = !self.sessions_of.admits(host, max.saturating_add(ending));
        if is_full { Err(DropReason::HostSessions) } else { Ok(()) }
    }

    /// Whom a session counts for, if for anybody.
    ///
    /// Those from outside count too, for they take the same memory, but they leave the host a part
    /// of its quota; and they have no rate, or strangers could keep a host from opening its own.
    fn holder(&self, request: &OpenRequest<'_>, policy: &Policy) -> Option<Holder> {
        let max = self.sessions_per_host_max(policy);
        let from_outside = |internal: Internal| Holder {
            host: internal.0.address,
            max: max - max / OWN_SHARE,
            opens: false,
        };
        match request.translation {
            _ if request.ingress == LinkId::LOCAL => None,
            Translation::Inbound(internal) => Some(from_outside(internal)),
            Translation::Accepted(accepted) => Some(from_outside(accepted.internal)),
            Translation::Outbound | Translation::Hairpin(_) | Translation::Routed => {
                Some(Holder { host: request.datagram.source.address, max, opens: true })
            }
        }
    }

    fn sessions_per_host_max(&self, policy: &Policy) -> u32 {
        policy.sessions_per_host_max.unwrap_or_else(|| {
            u32::try_from(self.sessions().capacity() / HOST_SHARE).unwrap_or(u32::MAX)
        })
    }
}

impl Engine {
    /// Counts a session for the host that opens it or that it comes in for; the result is whom to
    /// give it back to.
    pub(crate) fn admit_host(
        &self,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<Option<Ipv4Addr>, DropReason> {
        let Some(Holder { host, max, opens }) = self.tables.holder(request, policy) else {
            return Ok(None);
        };
        if opens && !self.tables.rates.take(host, policy.new_sessions, now) {
            return Err(DropReason::HostRate);
        }
        match self.tables.sessions_of.acquire(host, max) {
            Some(_) => Ok(Some(host)),
            None => Err(DropReason::HostSessions),
        }
    }
}

/// One in this many sessions of the table may be one host's, if the operator does not say.
const HOST_SHARE: usize = 2;

/// One in this many of a host's sessions is for those that it opens itself.
const OWN_SHARE: u32 = 4;
