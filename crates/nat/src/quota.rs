//! What one host may take of the router (RFC 6888 REQ-4, REQ-5).

use std::net::Ipv4Addr;

use packet::{DropReason, Instant, LinkId};

use crate::Policy;
use crate::engine::{Engine, OpenRequest, Translation};
use crate::tables::Tables;

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

    fn sessions_per_host_max(&self, policy: &Policy) -> u32 {
        policy.sessions_per_host_max.unwrap_or_else(|| {
            u32::try_from(self.sessions().capacity() / HOST_SHARE).unwrap_or(u32::MAX)
        })
    }
}

impl Engine {
    /// Counts a session for the host that opens it or that it comes in for; the result is whom to
    /// give it back to.
    ///
    /// Those from outside count too, for they take the same memory, but they leave the host a part
    /// of its quota; and they have no rate, or strangers could keep a host from opening its own.
    pub(crate) fn admit_host(
        &self,
        request: &OpenRequest<'_>,
        policy: &Policy,
        now: Instant,
    ) -> Result<Option<Ipv4Addr>, DropReason> {
        let max = self.tables.sessions_per_host_max(policy);
        let (host, max) = match request.translation {
            _ if request.ingress == LinkId::LOCAL => return Ok(None),
            Translation::Inbound(internal) => (internal.0.address, max - max / OWN_SHARE),
            Translation::Accepted(accepted) => (accepted.internal.0.address, max - max / OWN_SHARE),
            Translation::Outbound | Translation::Hairpin(_) | Translation::Routed => {
                let host = request.datagram.source.address;
                if !self.tables.rates.take(host, policy.new_sessions, now) {
                    return Err(DropReason::HostRate);
                }
                (host, max)
            }
        };
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
