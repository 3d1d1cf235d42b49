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
//! SCTP runs through the same states, see [`touch_sctp`].
//!
//! A reset never ends a session (RFC 7857 §2.2): it shortens its life to `tcp_closing`, and
//! segments that follow show that it was not meant for this connection. One that the receiver does
//! not expect is not of the connection: [`expects`] refuses it and it changes nothing.
//!
//! Where this differs from the drawing, which knows only what opens and closes, not what happens
//! next, it is in what follows a reset or both FINs: a SYN then opens the connection anew (else
//! its ports could not be used for four minutes), and a reset after one FIN counts like one
//! before it. `tests/machine.rs` has the reference machine and compares.

use std::time::Duration;

use packet::header::tcp;
use packet::{Instant, Protocol, SctpChunk, Segment};

use crate::Timeouts;
use crate::flow::{self, Direction, Flow};
use crate::tables::SessionHit;
use crate::tick::{Tick, span};
use crate::window::Window;

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

/// Whether a TCP segment that matched `hit` may pass: all may but a reset that its receiver does not
/// expect (RFC 7857 §2.2, RFC 5961 §3.2).
#[must_use]
#[inline]
pub fn expects(hit: &SessionHit<'_>, segment: &Segment) -> bool {
    !segment.has(tcp::RST) || hit.other().window().expects_reset(segment)
}

/// Counts a TCP segment that matched `hit` and follows the connection. ICMP errors never come here
/// (RFC 5382 REQ-10).
///
/// `bytes` are those of all the `packets` that the segment is on the wire.
#[inline]
pub fn touch_tcp(hit: SessionHit<'_>, segment: &Segment, now: Instant, bytes: u64, packets: u64) {
    let own = hit.value();
    let window = if segment.has(tcp::SYN | tcp::FIN | tcp::RST)
        || own.happened(flow::RST | flow::OVERRULED | flow::FROZEN)
    {
        observe(&hit, segment, now)
    } else {
        own.see(now);
        own.window().after(segment)
    };
    own.count(bytes, packets, window);
}

/// Counts an SCTP packet that matched `hit` and follows the association. One opens and closes much
/// like a connection, so each chunk stands for the segment that does the same: there are no states
/// of its own. An abort is not verified: the tag that could be is no field of a session.
pub fn touch_sctp(hit: &SessionHit<'_>, chunk: SctpChunk, now: Instant, bytes: u64, packets: u64) {
    let flags = match chunk {
        SctpChunk::Init => tcp::SYN,
        SctpChunk::InitAck => tcp::SYN | tcp::ACK,
        SctpChunk::Abort => tcp::RST,
        SctpChunk::Shutdown => tcp::FIN | tcp::ACK,
        SctpChunk::Other => tcp::ACK,
    };
    let stand_in = Segment {
        flags,
        sequence: 0,
        acknowledgement: 0,
        window: 0,
        data_len: 0,
        window_scale: None,
    };
    touch_tcp(*hit, &stand_in, now, bytes, packets);
}

/// The part of [`touch_tcp`] that few segments need; the window that the side has then.
#[cold]
fn observe(hit: &SessionHit<'_>, segment: &Segment, now: Instant) -> Window {
    let (own, other) = (hit.value(), hit.other());
    if segment.has(tcp::RST) {
        observe_reset(hit, now);
        return own.window();
    }
    let was_reset = (own.happened(flow::RST), other.happened(flow::RST));
    if own.happened(flow::RST | flow::OVERRULED) {
        own.forget(flow::RST | flow::OVERRULED);
        other.forget(flow::RST | flow::OVERRULED);
    }
    let is_over = own.happened(flow::FROZEN) || was_reset != (false, false);
    if segment.is_first_syn() && is_over {
        own.forget(flow::SYN | flow::FIN | flow::FROZEN);
        other.forget(flow::SYN | flow::FIN | flow::FROZEN);
        other.set_window(Window::NOTHING);
        own.note(flow::SYN);
    } else if segment.has(tcp::SYN) && !is_open(hit.value_at(0), hit.value_at(1)) {
        own.note(flow::SYN);
    }
    if segment.has(tcp::FIN) && (is_open(hit.value_at(0), hit.value_at(1)) || is_picked_up(hit)) {
        own.note(flow::FIN);
    }
    if !own.happened(flow::FROZEN) {
        own.see(now);
    }
    if own.happened(flow::FIN) && other.happened(flow::FIN) {
        own.note(flow::FROZEN);
        other.note(flow::FROZEN);
    }
    if !segment.has(tcp::SYN) {
        return own.window().after(segment);
    }
    let window = own.window().after_syn(segment);
    if segment.has(tcp::ACK) && segment.window_scale.is_none() {
        other.set_window(other.window().unscaled());
    }
    window
}

/// A reset is no sign of life of its sender: when it comes from inside, it may be an answer to
/// anything (RFC 7857 §7.1). So the time of it is noted where it prolongs nothing.
fn observe_reset(hit: &SessionHit<'_>, now: Instant) {
    let (own, other) = (hit.value(), hit.other());
    if own.happened(flow::FROZEN) {
        return;
    }
    let refreshes = match own.direction() {
        Direction::Outbound => hit.side() == 0,
        Direction::Inbound => hit.side() == 1,
        Direction::Hairpin | Direction::Routed => false,
    };
    if refreshes {
        other.see(now)
    } else {
        own.see(now)
    }
    own.note(flow::RST);
    own.forget(flow::OVERRULED);
    if !other.happened(flow::RST) {
        other.note(flow::OVERRULED);
    }
}

/// The state of a session whose sides are `first` (that sent the first packet) and `second`.
pub(crate) fn state(protocol: Protocol, first: &Flow, second: &Flow) -> State {
    if !matches!(protocol, Protocol::Tcp | Protocol::Sctp) {
        return if second.packets() > 0 { State::Replied } else { State::Unreplied };
    }
    let either = |event| first.happened(event) || second.happened(event);
    if first.happened(flow::FIN) && second.happened(flow::FIN) {
        State::Closed
    } else if either(flow::RST) {
        State::Reset
    } else if !is_open(first, second) {
        State::Opening
    } else if either(flow::FIN) {
        State::HalfClosed
    } else {
        State::Established
    }
}

/// Whether both sides have sent a SYN, or none has and the connection was under way before us.
fn is_open(first: &Flow, second: &Flow) -> bool {
    match (first.happened(flow::SYN), second.happened(flow::SYN)) {
        (true, true) => true,
        (false, false) => first.has(flow::PICKED_UP) && second.packets() > 0,
        _ => false,
    }
}

fn is_picked_up(hit: &SessionHit<'_>) -> bool {
    hit.value_at(0).has(flow::PICKED_UP)
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
/// Only packets from the inside keep it alive (RFC 4787 REQ-6, RFC 7857 §7). A connection that both
/// sides have closed has `tcp_closing` from then, whatever comes. One that was reset has as much
/// from the last reset, so that a forged one does not end it at once, but no longer than without.
pub(crate) fn life(hit: &SessionHit<'_>, now: Instant, timeouts: &Timeouts) -> Life {
    let (first, second) = (hit.value_at(0), hit.value_at(1));
    let (protocol, now) = (hit.key_at(0).0.protocol(), Tick::at(now));
    let state = state(protocol, first, second);
    let last = first.seen().later(second.seen());
    let refreshed = match first.direction() {
        Direction::Outbound => first.seen(),
        Direction::Inbound => second.seen(),
        Direction::Hairpin | Direction::Routed => last,
    };
    let lives = |since, timeout: Duration| {
        (timeout.saturating_sub(span(now.since(since))), now.is_past(since, timeout))
    };
    let (expires, is_over) = match state {
        State::Closed => lives(last, timeouts.tcp_closing),
        State::Reset => {
            let (reset, unheard) =
                (lives(last, timeouts.tcp_closing), lives(refreshed, timeouts.tcp_established));
            (reset.0.min(unheard.0), reset.1 || unheard.1)
        }
        _ => lives(refreshed, timeout(hit, state, timeouts)),
    };
    Life { state, idle: span(now.since(last)), expires, is_over }
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
