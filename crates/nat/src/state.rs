//! The states of a session, and when it ends.
//!
//! TCP follows RFC 7857 §2 (which is RFC 6146 §3.5.2 with names changed). Each side of a session
//! keeps only what it has itself seen, in its own cache line; the state is worked out when somebody
//! asks. So:
//!
//! ```text
//!            SYN           SYN of the other           one FIN              other FIN
//!   (none) ------> Opening ---------------> Established ----> HalfClosed ----------> Closed
//!                                            |       ^                                 |
//!                                        RST |       | any segment but RST        SYN  |
//!                                            v       |                                 v
//!                                              Reset                                Opening
//! ```
//!
//! SCTP runs through the same states, see [`observe_sctp`].
//!
//! A reset never ends a session (RFC 7857 §2.2): it shortens its life to `tcp_closing`, and
//! segments that follow show that it was not meant for this connection.

use std::time::Duration;

use packet::header::tcp;
use packet::{Instant, Protocol, SctpChunk};

use crate::Timeouts;
use crate::flow::{self, Direction, Flow};
use crate::tables::SessionHit;
use crate::tick::{Tick, span};

/// What is known of a session from the packets of both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// UDP, ICMP, tunnels: packets went one way only.
    Unreplied,
    /// UDP, ICMP, tunnels: packets went both ways.
    Replied,
    /// TCP: one side sent a SYN, or was picked up in the middle and has no answer yet.
    Opening,
    /// TCP: both sides sent a SYN, or one was picked up in the middle and the other answered.
    Established,
    /// TCP: one side sent its FIN.
    HalfClosed,
    /// TCP: both sides sent their FIN.
    Closed,
    /// TCP: the last segment was a reset.
    Reset,
}

impl State {
    /// Lower-case name as `--json` writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreplied => "unreplied",
            Self::Replied => "replied",
            Self::Opening => "opening",
            Self::Established => "established",
            Self::HalfClosed => "half-closed",
            Self::Closed => "closed",
            Self::Reset => "reset",
        }
    }
}

/// Notes the flags of a TCP segment that matched `hit`. ICMP errors never come here (RFC 5382
/// REQ-10).
#[inline]
pub fn observe_tcp(hit: &SessionHit<'_>, flags: u8) {
    let own = hit.value();
    if flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0 || own.happened(flow::RST) {
        observe_event(own, hit.other(), flags);
    }
}

/// Notes what an SCTP packet that matched `hit` does to its association. An association opens and
/// closes much like a connection, so each chunk stands for the segment that does the same: there are
/// no states of its own.
pub fn observe_sctp(hit: &SessionHit<'_>, chunk: SctpChunk) {
    let flags = match chunk {
        SctpChunk::Init => tcp::SYN,
        SctpChunk::InitAck => tcp::SYN | tcp::ACK,
        SctpChunk::Abort => tcp::RST,
        SctpChunk::Shutdown => tcp::FIN | tcp::ACK,
        SctpChunk::Other => tcp::ACK,
    };
    observe_tcp(hit, flags);
}

/// The part of [`observe_tcp`] that few segments need.
fn observe_event(own: &Flow, other: &Flow, flags: u8) {
    if flags & tcp::RST != 0 {
        own.note(flow::RST);
        return;
    }
    own.forget(flow::RST);
    let over = |side: &Flow| side.happened(flow::FIN | flow::RST);
    if flags & (tcp::SYN | tcp::ACK) == tcp::SYN && (over(own) || over(other)) {
        own.forget(flow::FIN | flow::SYN);
        other.forget(flow::FIN | flow::SYN | flow::RST);
    }
    if flags & tcp::SYN != 0 {
        own.note(flow::SYN);
    }
    if flags & tcp::FIN != 0 {
        own.note(flow::FIN);
    }
}

/// The state of a session whose sides are `first` (that sent the first packet) and `second`.
pub(crate) fn state(protocol: Protocol, first: &Flow, second: &Flow) -> State {
    let answered = second.packets() > 0;
    if !matches!(protocol, Protocol::Tcp | Protocol::Sctp) {
        return if answered { State::Replied } else { State::Unreplied };
    }
    if is_reset(first, second) || is_reset(second, first) {
        return State::Reset;
    }
    let fins = u8::from(first.happened(flow::FIN)) + u8::from(second.happened(flow::FIN));
    let opened = if first.has(flow::PICKED_UP) {
        answered
    } else {
        first.happened(flow::SYN) && second.happened(flow::SYN)
    };
    match fins {
        2 => State::Closed,
        _ if !opened => State::Opening,
        1 => State::HalfClosed,
        _ => State::Established,
    }
}

/// Whether the last segment of `side` was a reset that `other` did not contradict by speaking
/// later.
fn is_reset(side: &Flow, other: &Flow) -> bool {
    side.happened(flow::RST) && (other.happened(flow::RST) || other.seen().since(side.seen()) == 0)
}

/// A session's state, how long it has been idle and how long it may live.
pub(crate) struct Life {
    pub(crate) state: State,
    /// Since the last packet of either direction.
    pub(crate) idle: Duration,
    /// Until it may be removed.
    pub(crate) expires: Duration,
    is_over: bool,
}

/// Whether a session may be removed.
pub(crate) fn is_over(hit: &SessionHit<'_>, now: Instant, timeouts: &Timeouts) -> bool {
    // Upkeep looks at many sessions and ends few: most show by side 0's line alone that they live.
    let first = hit.value_at(0);
    let refreshes = first.direction() != Direction::Inbound;
    let shortest = match hit.key_at(0).0.protocol() {
        Protocol::Icmp => timeouts.icmp,
        Protocol::Udp | Protocol::UdpLite => timeouts.udp.min(timeouts.udp_dns),
        Protocol::Tcp | Protocol::Sctp => timeouts.tcp_opening.min(timeouts.tcp_closing),
        Protocol::Gre | Protocol::Esp | Protocol::IpIp | Protocol::SixInFour => timeouts.other,
    };
    if refreshes && !Tick::at(now).is_past(first.seen(), shortest) {
        return false;
    }
    life(hit, now, timeouts).is_over
}

/// Judges a session.
///
/// Only packets from the inside keep it alive (RFC 4787 REQ-6, RFC 7857 §7), but when a TCP
/// connection closes, its last segments of either side start the last timer, so that a reset from
/// outside cannot end it at once.
pub(crate) fn life(hit: &SessionHit<'_>, now: Instant, timeouts: &Timeouts) -> Life {
    let (first, second) = (hit.value_at(0), hit.value_at(1));
    let (protocol, now) = (hit.key_at(0).0.protocol(), Tick::at(now));
    let state = state(protocol, first, second);
    let last = first.seen().later(second.seen());
    let refreshed = match (state, first.direction()) {
        (State::Closed | State::Reset, _) => last,
        (_, Direction::Outbound) => first.seen(),
        (_, Direction::Inbound) => second.seen(),
        (_, Direction::Hairpin | Direction::Routed) => last,
    };
    let timeout = timeout(hit, state, timeouts);
    Life {
        state,
        idle: span(now.since(last)),
        expires: timeout.saturating_sub(span(now.since(refreshed))),
        is_over: now.is_past(refreshed, timeout),
    }
}

fn timeout(hit: &SessionHit<'_>, state: State, timeouts: &Timeouts) -> Duration {
    const DNS: u16 = 53;
    let key = hit.key_at(0).0;
    let asks_dns =
        key.destination().port == DNS && matches!(hit.value_at(0).direction(), Direction::Outbound);
    match key.protocol() {
        Protocol::Icmp => timeouts.icmp,
        Protocol::Udp if asks_dns => timeouts.udp_dns,
        Protocol::Udp | Protocol::UdpLite => timeouts.udp,
        Protocol::Tcp | Protocol::Sctp => match state {
            State::Established | State::HalfClosed => timeouts.tcp_established,
            State::Closed | State::Reset => timeouts.tcp_closing,
            State::Opening | State::Unreplied | State::Replied => timeouts.tcp_opening,
        },
        Protocol::Gre | Protocol::Esp | Protocol::IpIp | Protocol::SixInFour => timeouts.other,
    }
}
