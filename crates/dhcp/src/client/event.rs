//! What a client tells others: its state, what happened to the lease, what to store.

use std::net::Ipv4Addr;

use packet::MacAddr;

use crate::lease::{Lease, StoredLease};

/// Where the client stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The link is down; left by `handle_link_up`.
    Down,
    /// Nothing sent yet, or waiting after a refusal; left by time.
    Init,
    /// DISCOVER sent, collecting offers; left by the choice of one.
    Selecting,
    /// REQUEST for an offer sent; left by ACK, NAK or silence.
    Requesting,
    /// REQUEST for an address known from before sent; left by ACK, NAK or silence.
    Rebooting,
    /// Acknowledged, asking by ARP whether somebody uses the address; left by an answer or by time.
    Probing,
    /// The lease is in use; left at T1.
    Bound,
    /// The lease is in use, its server is asked to extend it; left by ACK, NAK or at T2.
    Renewing,
    /// The lease is in use, any server is asked to extend it; left by ACK, NAK or at expiry.
    Rebinding,
    /// Given back on command; left by `renew`.
    Released,
}

/// Why a lease ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LostReason {
    /// No server extended it in time (DC10).
    Expired,
    /// A server refused it.
    Refused,
    /// Released on command (DC13).
    Released,
    /// The link stayed down.
    LinkDown,
}

/// What happened to the lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientEvent {
    /// The state is now another.
    StateChanged(State),
    /// A lease where there was none: configure the link.
    Obtained(Lease),
    /// A lease with other settings in place of one in use (DC10, DC25).
    Changed {
        /// Until now.
        old: Lease,
        /// From now on.
        new: Lease,
    },
    /// Extended with the same settings: nothing to configure (DC25).
    Renewed(Lease),
    /// The address must no longer be used.
    Lost {
        /// The lease that ended.
        lease: Lease,
        /// Why.
        reason: LostReason,
    },
    /// Another station uses the address: before use it was declined, in use it is defended (DC4).
    Conflict {
        /// The address.
        address: Ipv4Addr,
        /// The other station.
        mac: MacAddr,
    },
    /// An offer or acknowledgement was ignored because of the reject lists (DC21).
    Rejected {
        /// The server.
        server: Ipv4Addr,
        /// The address.
        address: Ipv4Addr,
    },
}

/// What stable storage is to hold from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreRecord {
    /// This lease, in place of any other.
    Keep(StoredLease),
    /// No lease.
    Forget,
}
