//! Explicit congestion notification (RFC 3168).

use packet::checksum::{Delta, apply};

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ECN_MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const CE: u8 = 0b11;

/// Marks a packet "congestion experienced" in place if its transport understands that; whether it
/// did.
///
/// **Shape**: `ipv4_offset` is where the IPv4 header begins, directly behind its ethertype. The
/// DSCP is kept and the header checksum is corrected by difference. Anything but IPv4 is refused.
#[must_use]
pub fn mark_ce(frame: &mut [u8], ipv4_offset: usize) -> bool {
    let is_ipv4 = ipv4_offset
        .checked_sub(2)
        .and_then(|at| frame.get(at..ipv4_offset))
        .is_some_and(|ethertype| ethertype == ETHERTYPE_IPV4);
    let header = frame.get_mut(ipv4_offset..).and_then(|rest| rest.first_chunk_mut::<20>());
    let Some(header) = header.filter(|_| is_ipv4) else { return false };
    if header[1] & ECN_MASK == NOT_ECT {
        return false;
    }
    let old = u16::from_be_bytes([header[0], header[1]]);
    header[1] |= CE;
    let new = u16::from_be_bytes([header[0], header[1]]);
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    header[10..12].copy_from_slice(&apply(checksum, Delta::word(old, new)).to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::checksum;
    use proptest::prelude::*;

    fn frame(tos: u8, identification: u16) -> Vec<u8> {
        let mut frame = vec![0u8; 14 + 20 + 8];
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV4);
        frame[14] = 0x45;
        frame[15] = tos;
        frame[17] = 28;
        frame[18..20].copy_from_slice(&identification.to_be_bytes());
        frame[22] = 64;
        frame[23] = 17;
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 198, 51, 100, 7]);
        let sum = checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn a_packet_that_is_not_ecn_capable_is_left_alone() {
        let mut packet = frame(0b1011_1000, 1);
        let before = packet.clone();
        assert!(!mark_ce(&mut packet, 14));
        assert_eq!(packet, before);
    }

    #[test]
    fn a_packet_marked_already_counts_as_marked() {
        let mut packet = frame(CE, 1);
        let before = packet.clone();
        assert!(mark_ce(&mut packet, 14));
        assert_eq!(packet, before);
    }

    #[test]
    fn what_is_not_ipv4_or_too_short_is_refused() {
        let mut arp = frame(0b10, 1);
        arp[13] = 6;
        assert!(!mark_ce(&mut arp, 14));
        let mut short = frame(0b10, 1);
        short.truncate(33);
        assert!(!mark_ce(&mut short, 14));
        assert!(!mark_ce(&mut [], 14));
        assert!(!mark_ce(&mut frame(0b10, 1), 0));
    }

    proptest! {
        #[test]
        fn marking_keeps_the_checksum_right_and_the_dscp(
            dscp in 0u8..64,
            ect in 1u8..=3,
            identification in any::<u16>(),
        ) {
            let mut packet = frame(dscp << 2 | ect, identification);
            prop_assert!(mark_ce(&mut packet, 14));
            prop_assert_eq!(packet[15], dscp << 2 | CE);
            prop_assert_eq!(checksum::of(&packet[14..34]), 0);
        }
    }
}
