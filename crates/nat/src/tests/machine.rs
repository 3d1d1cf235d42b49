//! The state machine of RFC 7857 §2 (RFC 6146 §3.5.2), written down as it is drawn, against what
//! the sides of a session remember.

use proptest::prelude::*;

use super::*;

const INSIDE: Endpoint = Endpoint::new(A, 5000);
const OUTSIDE: Endpoint = Endpoint::new(E, 8080);
const REMOTE: Endpoint = Endpoint::new(R, 80);

const TRANSITORY: Duration = secs(240);
const ESTABLISHED: Duration = secs(7440);

/// The states of RFC 6146 §3.5.2.2. `Trans` is an overlay, see [`Machine::reset`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// CLOSED.
    None,
    /// V6 INIT or V4 INIT: this side has sent a SYN.
    Init(usize),
    Established,
    /// V6 FIN RCV or V4 FIN RCV: this side has sent a FIN.
    Fin(usize),
    /// V6 FIN + V4 FIN RCV.
    BothFins,
}

/// What a side has sent, as far as its peer's resets are judged by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard {
    Nothing,
    Syn,
    Acks,
}

/// The reference. Side 0 is inside.
///
/// What it adds to the drawing: TRANS can follow any state but the last, and gives way to the one
/// before it; a SYN in TRANS or after both FINs starts anew; the timers run as RFC 7857 §7 has
/// them, by what comes from inside, and no reset prolongs anything (§7.1).
#[derive(Clone, Copy, Debug)]
struct Machine {
    phase: Phase,
    reset: bool,
    heard: [Heard; 2],
    /// The last segment from inside that was no reset, the last of all, the second FIN.
    refreshed: Instant,
    last: Instant,
    closed: Instant,
}

impl Machine {
    fn new(now: Instant) -> Self {
        let heard = [Heard::Nothing; 2];
        Self { phase: Phase::None, reset: false, heard, refreshed: now, last: now, closed: now }
    }

    /// Whether the receiver takes the segment, and the state after it.
    fn segment(&mut self, side: usize, flags: u8, now: Instant) -> bool {
        if self.phase == Phase::None {
            *self = Self { phase: Phase::Init(side), ..Self::new(now) };
            self.heard[side] = Heard::Syn;
            return true;
        }
        if flags & RST != 0 {
            let expected = self.heard[1 - side] != Heard::Syn || flags & ACK != 0;
            if expected && self.phase != Phase::BothFins {
                self.reset = true;
                self.last = now;
            }
            return expected;
        }
        let (was_closed, is_over) =
            (self.phase == Phase::BothFins, self.reset || self.phase == Phase::BothFins);
        self.reset = false;
        if flags & SYN_ACK == SYN && is_over {
            self.phase = Phase::Init(side);
            self.heard[1 - side] = Heard::Nothing;
        } else {
            self.phase = match self.phase {
                Phase::Init(first) if flags & SYN != 0 && first != side => Phase::Established,
                Phase::Established if flags & FIN != 0 => Phase::Fin(side),
                Phase::Fin(first) if flags & FIN != 0 && first != side => {
                    self.closed = now;
                    Phase::BothFins
                }
                phase => phase,
            };
        }
        self.heard[side] = if flags & SYN_ACK == SYN { Heard::Syn } else { Heard::Acks };
        if self.phase != Phase::BothFins || !was_closed {
            self.last = now;
            self.refreshed = if side == 0 { now } else { self.refreshed };
        }
        true
    }

    fn shown(&self) -> &'static str {
        match self.phase {
            Phase::BothFins => "closed",
            _ if self.reset => "reset",
            Phase::Init(_) | Phase::None => "opening",
            Phase::Established => "established",
            Phase::Fin(_) => "half-closed",
        }
    }

    fn ends(&self) -> Instant {
        match self.phase {
            Phase::BothFins => self.closed + TRANSITORY,
            _ if self.reset => (self.refreshed + ESTABLISHED).min(self.last + TRANSITORY),
            Phase::Init(_) | Phase::None => self.refreshed + TRANSITORY,
            Phase::Established | Phase::Fin(_) => self.refreshed + ESTABLISHED,
        }
    }
}

const FIN: u8 = 0x01;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Segment(usize, u8),
    Wait(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let flags = prop_oneof![
        3 => Just(SYN),
        3 => Just(SYN_ACK),
        4 => Just(ACK),
        4 => Just(FIN_ACK),
        1 => Just(RST),
        2 => Just(RST | ACK),
    ];
    prop_oneof![
        6 => (0usize..2, flags).prop_map(|(side, flags)| Operation::Segment(side, flags)),
        2 => prop::sample::select(vec![0, 700, 97_000, 237_000, 310_000, 4_000_000, 7_500_000])
            .prop_map(Operation::Wait),
    ]
}

/// Opens a session the way that is asked for.
fn start(from_inside: bool) -> (Rig, Machine) {
    let forwards = Forwards::new(vec![forward(Protocol::Tcp, 8080, INSIDE)]).unwrap();
    let mut rig = Rig::new(Policy { forwards, ..policy() });
    let mut machine = Machine::new(rig.now);
    if from_inside {
        rig.tcp_out(INSIDE, REMOTE, SYN).unwrap();
        machine.segment(0, SYN, rig.now);
    } else {
        rig.accept(REMOTE, OUTSIDE).unwrap();
        machine.phase = Phase::Established;
        machine.heard = [Heard::Acks; 2];
    }
    (rig, machine)
}

proptest! {
    #[test]
    fn rfc7857_2_req5382_2_any_sequence_of_segments_leads_where_the_drawing_says(
        from_inside: bool,
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        let (mut rig, mut machine) = start(from_inside);
        for operation in operations {
            match operation {
                Operation::Segment(side, flags) => {
                    let seen = match side {
                        0 => rig.tcp_out(INSIDE, REMOTE, flags),
                        _ => rig.tcp_in(REMOTE, OUTSIDE, flags),
                    };
                    match machine.segment(side, flags, rig.now) {
                        true => prop_assert!(seen.is_ok(), "{:?}: {:?}", operation, seen),
                        false => prop_assert_eq!(seen, Err(DropReason::TcpResetOutOfWindow)),
                    }
                }
                Operation::Wait(millis) => {
                    rig.now += Duration::from_millis(millis);
                    rig.expire();
                }
            }
            let left = machine.ends().saturating_since(rig.now);
            if left.is_zero() {
                // Upkeep is two ticks late at most.
                rig.now += Duration::from_millis(300);
                rig.expire();
                prop_assert!(rig.sessions().is_empty(), "outlives {:?}", machine);
                return Ok(());
            }
            let sessions = rig.sessions();
            prop_assert_eq!(sessions.len(), 1, "{:?} in {:?}", operation, machine);
            prop_assert_eq!(sessions[0].state.name(), machine.shown(), "{:?}", machine);
            let off = sessions[0].expires.abs_diff(left);
            prop_assert!(off < Duration::from_millis(300), "{:?} {:?}", sessions[0], machine);
        }
    }
}

#[test]
fn req5382_2_every_valid_way_to_open_and_close_passes_and_is_understood() {
    let ways: [&[(usize, u8)]; 5] = [
        // RFC 9293 figure 6 and 13: three-way handshake, one side closes after the other.
        &[(0, SYN), (1, SYN_ACK), (0, ACK), (0, FIN_ACK), (1, ACK), (1, FIN_ACK), (0, ACK)],
        // Figure 8: both open at once.
        &[(0, SYN), (1, SYN), (0, SYN_ACK), (1, SYN_ACK), (0, ACK), (1, FIN_ACK), (0, FIN_ACK)],
        // Figure 14: both close at once.
        &[(0, SYN), (1, SYN_ACK), (0, ACK), (0, FIN_ACK), (1, FIN_ACK), (0, ACK), (1, ACK)],
        // Split handshake: the peer answers a SYN with its own.
        &[(0, SYN), (1, ACK), (1, SYN), (0, SYN_ACK), (1, ACK), (0, FIN_ACK), (1, FIN_ACK)],
        // Everything lost once.
        &[(0, SYN), (0, SYN), (1, SYN_ACK), (1, SYN_ACK), (0, ACK), (0, FIN_ACK), (1, FIN_ACK)],
    ];
    for way in ways {
        let (mut rig, _) = start(true);
        for (side, flags) in way {
            let seen = match side {
                0 => rig.tcp_out(INSIDE, REMOTE, *flags),
                _ => rig.tcp_in(REMOTE, OUTSIDE, *flags),
            };
            assert!(seen.is_ok(), "{way:?} {side} {flags:02x}: {seen:?}");
        }
        assert_eq!(rig.states(), ["closed"], "{way:?}");
    }
}
