//! The client's states with what only they know.

use std::net::Ipv4Addr;

use packet::Instant;

use super::State;
use crate::lease::Lease;

/// The state with what only that state knows.
#[derive(Debug)]
pub(super) enum Phase {
    Down {
        give_up: Instant,
    },
    Init {
        start: Instant,
    },
    Selecting {
        retry: Retry,
        offers: Vec<Offer>,
        decide: Option<Instant>,
        after_silence: AfterSilence,
    },
    Requesting {
        offer: Offer,
        retry: Retry,
        sent_at: Instant,
    },
    Rebooting {
        retry: Retry,
        sent_at: Instant,
    },
    Probing {
        lease: Lease,
        probes_left: u8,
        next: Instant,
    },
    Bound,
    Renewing {
        retry_at: Instant,
        sent_at: Instant,
    },
    Rebinding {
        retry_at: Instant,
        sent_at: Instant,
        pace: Pace,
    },
    Released,
}

impl Phase {
    pub(super) fn state(&self) -> State {
        match self {
            Phase::Down { .. } => State::Down,
            Phase::Init { .. } => State::Init,
            Phase::Selecting { .. } => State::Selecting,
            Phase::Requesting { .. } => State::Requesting,
            Phase::Rebooting { .. } => State::Rebooting,
            Phase::Probing { .. } => State::Probing,
            Phase::Bound => State::Bound,
            Phase::Renewing { .. } => State::Renewing,
            Phase::Rebinding { .. } => State::Rebinding,
            Phase::Released => State::Released,
        }
    }
}

/// Whether the link works, which a released client needs to know when it starts again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkState {
    Up,
    Down,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// Transmissions before the one that is being waited for.
    pub attempt: u32,
    pub at: Instant,
}

/// What a server offered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub server: Ipv4Addr,
    pub address: Ipv4Addr,
}

/// What to do when DISCOVER is not answered either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AfterSilence {
    KeepAsking,
    ResumeLease,
}

/// How often a lease in REBINDING is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// Half of the remaining time (DC8).
    Halving,
    /// Often, for nobody has confirmed the lease since the restart.
    Verifying,
}

/// What the messages of one exchange have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transaction {
    pub xid: u32,
    pub started_at: Instant,
    /// Seconds since the start as the last DISCOVER gave them; REQUEST repeats them (RFC 2131 §4.4.1).
    pub secs: u16,
    pub broadcast: bool,
    /// Whether an offer fell to the reject lists.
    pub rejected: bool,
}
