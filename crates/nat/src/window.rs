//! What one side of a TCP connection expects next, and how much of it: enough to tell a reset of
//! the connection from a forged one (RFC 7857 §2.2, RFC 5961 §3.2).

use packet::Segment;
use packet::header::tcp;

/// The last acknowledgement number of a side and the largest window that it has offered.
///
/// **Shape**: 32 bits, so that they fit beside the counters of a [`Flow`](crate::Flow). From the
/// top: 23 bits of a sequence number in units of 512 octets; 5 bits that say what it is, the window
/// as a power of two if it is an acknowledgement number; 4 bits of window scale, 15 if unknown.
/// Coarse, always to the benefit of the segment: a forged reset must still hit the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window(pub(crate) u32);

impl Window {
    /// Of a side that has said nothing.
    pub(crate) const NOTHING: Window = Window(KIND_NOTHING << KIND_AT | SCALE_UNKNOWN);

    /// After a segment of the side that is neither SYN nor reset.
    #[inline]
    pub(crate) fn after(self, segment: &Segment) -> Self {
        let scale = (self.0 & SCALE_MASK).min(SCALE_MAX);
        self.offers(segment.acknowledgement, u32::from(segment.window) << scale)
    }

    /// After a SYN of the side. It says what the side will send; with ACK also what it expects.
    pub(crate) fn after_syn(self, segment: &Segment) -> Self {
        let scale = segment.window_scale.map_or(0, |scale| u32::from(scale).min(SCALE_MAX));
        let sent = Window(coarse(segment.next()) << UNIT_AT | KIND_SENT << KIND_AT | scale);
        if segment.has(tcp::ACK) {
            sent.offers(segment.acknowledgement, u32::from(segment.window))
        } else {
            sent
        }
    }

    /// The same without scaling: the peer did not agree to it (RFC 7323 §2.2).
    pub(crate) fn unscaled(self) -> Self {
        Window(self.0 & !SCALE_MASK)
    }

    /// A side whose SYN-ACK acknowledged `next`, as far as a handshake remembers it.
    pub(crate) fn of_handshake(next: u32, scale: u8) -> Self {
        Window(KIND_NOTHING << KIND_AT | u32::from(scale) & SCALE_MASK)
            .offers(next, u32::from(u16::MAX))
    }

    /// Whether a reset from the other side can be of the connection.
    ///
    /// It must lie in the window that this side has offered. A side that has only sent its SYN
    /// expects that acknowledged (RFC 9293 §3.5.2), with what data it carried.
    pub(crate) fn expects_reset(self, reset: &Segment) -> bool {
        let ahead_of =
            |number: u32| coarse(number).wrapping_sub(self.0 >> UNIT_AT) & (u32::MAX >> UNIT_AT);
        match self.0 >> KIND_AT & KIND_MASK {
            KIND_NOTHING => true,
            KIND_SENT => reset.has(tcp::ACK) && coarse(reset.acknowledgement) == self.0 >> UNIT_AT,
            // One unit more, because both numbers were rounded down.
            power => ahead_of(reset.sequence) <= (1 << power) + 1,
        }
    }

    /// Never narrower than before: what is under way was sent into the wider window.
    #[inline]
    fn offers(self, expected: u32, window: u32) -> Self {
        let power = u32::BITS - (window >> UNIT_SHIFT).leading_zeros();
        let before = self.0 >> KIND_AT & KIND_MASK;
        let before = if before >= KIND_NOTHING { 0 } else { before };
        let power = power.max(before);
        Window(coarse(expected) << UNIT_AT | power << KIND_AT | self.0 & SCALE_MASK)
    }
}

#[inline]
fn coarse(number: u32) -> u32 {
    number >> UNIT_SHIFT
}

/// A sequence number counts in units of 512 octets: 23 of its 32 bits are kept.
const UNIT_SHIFT: u32 = 9;
const UNIT_AT: u32 = 9;
const KIND_AT: u32 = 4;
const KIND_MASK: u32 = 31;
/// Above every power of two that a window can be: 65535 << 14 is below 2^30, 21 in units.
const KIND_NOTHING: u32 = 30;
/// The number is the one after the side's SYN.
const KIND_SENT: u32 = 31;
const SCALE_MASK: u32 = 15;
/// Largest shift (RFC 7323 §2.3), and what is assumed if the SYN was not seen.
const SCALE_MAX: u32 = 14;
const SCALE_UNKNOWN: u32 = 15;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn segment(flags: u8, sequence: u32, acknowledgement: u32, window: u16) -> Segment {
        Segment { flags, sequence, acknowledgement, window, data_len: 0, window_scale: None }
    }

    fn reset(sequence: u32) -> Segment {
        segment(tcp::RST, sequence, 0, 0)
    }

    #[test]
    fn a_reset_is_expected_within_the_window_and_nowhere_else() {
        for expected in [0, 1000, 0x7fff_fff0, u32::MAX - 100] {
            for window in [1, 512, 4096, 65535] {
                let side =
                    Window::NOTHING.unscaled().after(&segment(tcp::ACK, 5, expected, window));
                for inside in [0, u32::from(window) / 2, u32::from(window)] {
                    assert!(side.expects_reset(&reset(expected.wrapping_add(inside))));
                }
                let slack = 2 * u32::from(window) + 2 * 512;
                for outside in [slack + 512, 1 << 20, 1 << 31, u32::MAX - 512] {
                    let number = expected.wrapping_add(outside);
                    assert!(!side.expects_reset(&reset(number)), "{expected} {window} {outside}");
                }
            }
        }
    }

    #[test]
    fn a_window_is_scaled_as_the_syn_said_and_never_narrows() {
        let syn = Segment { window_scale: Some(7), ..segment(tcp::SYN, 99, 0, 65535) };
        let side = Window::NOTHING.after_syn(&syn).after(&segment(tcp::ACK, 100, 5000, 1000));
        assert!(side.expects_reset(&reset(5000 + 128_000)));
        assert!(!side.expects_reset(&reset(5000 + 300_000)));
        let closed = side.after(&segment(tcp::ACK, 100, 5000, 0));
        assert!(closed.expects_reset(&reset(5000 + 128_000)));
        assert!(
            !side.unscaled().after(&segment(tcp::ACK, 1, 9000, 9)).expects_reset(&reset(900_000))
        );
    }

    #[test]
    fn a_side_that_only_sent_a_syn_expects_that_acknowledged() {
        let side = Window::NOTHING.after_syn(&segment(tcp::SYN, 70_000, 0, 65535));
        assert!(side.expects_reset(&segment(tcp::RST | tcp::ACK, 0, 70_001, 0)));
        assert!(!side.expects_reset(&segment(tcp::RST | tcp::ACK, 0, 80_001, 0)));
        assert!(!side.expects_reset(&segment(tcp::RST, 70_001, 70_001, 0)));
    }

    #[test]
    fn a_side_that_was_not_heard_or_picked_up_midway_is_given_the_benefit_of_the_doubt() {
        assert!(Window::NOTHING.expects_reset(&reset(123)));
        let side = Window::NOTHING.after(&segment(tcp::ACK, 5, 1_000_000, 500));
        assert!(side.expects_reset(&reset(1_000_000 + (500 << 14))));
        assert!(!side.expects_reset(&reset(999_000)));
    }
}
