//! Checksums as they would be on the wire.
//!
//! Who captures on the sending host often sees packets whose checksums its network card was to fill in.

use packet::checksum;
use packet::header::{bytes_at, ethernet, icmp, ipv4, put_u16, seal_ipv4, tcp, u16_at, udp};

/// Makes the checksums of an IPv4 packet right, as far as the frame is one: that of its header, and, where the packet
/// is whole, that of TCP, UDP or ICMP. A UDP checksum of zero means none and stays.
pub(crate) fn seal(frame: &mut [u8]) {
    let l3 = ethernet::LEN;
    if frame.len() < l3 + ipv4::LEN_MIN || u16_at(frame, ethernet::ETHERTYPE) != ethernet::IPV4 {
        return;
    }
    let header_len = usize::from(frame[l3] & 0x0f) * 4;
    let l4 = l3 + header_len;
    if frame[l3] >> 4 != 4 || header_len < ipv4::LEN_MIN || l4 > frame.len() {
        return;
    }
    seal_ipv4(frame, l3, header_len);
    let end = l3 + usize::from(u16_at(frame, l3 + ipv4::TOTAL_LENGTH));
    let is_fragment = u16_at(frame, l3 + ipv4::FRAGMENT) & ipv4::FRAGMENT_MASK != 0;
    if !is_fragment && (l4..=frame.len()).contains(&end) {
        let addresses = [ipv4::SOURCE, ipv4::DESTINATION].map(|at| bytes_at(frame, l3 + at));
        seal_segment(frame[l3 + ipv4::PROTOCOL], addresses, &mut frame[l4..end]);
    }
}

fn seal_segment(protocol: u8, [source, destination]: [[u8; 4]; 2], segment: &mut [u8]) {
    const ICMP: u8 = 1;
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let under_pseudo_header = |bytes: &[u8]| {
        let header = checksum::pseudo_header(source, destination, protocol, bytes.len() as u16);
        !checksum::fold(checksum::sum(bytes, header.into()))
    };
    match protocol {
        ICMP if segment.len() >= icmp::LEN => {
            put_u16(segment, icmp::CHECKSUM, 0);
            let checksum = checksum::of(segment);
            put_u16(segment, icmp::CHECKSUM, checksum);
        }
        TCP if segment.len() >= tcp::LEN_MIN => {
            put_u16(segment, tcp::CHECKSUM, 0);
            let checksum = under_pseudo_header(segment);
            put_u16(segment, tcp::CHECKSUM, checksum);
        }
        UDP if segment.len() >= udp::LEN && u16_at(segment, udp::CHECKSUM) != 0 => {
            let len = usize::from(u16_at(segment, udp::LENGTH));
            if !(udp::LEN..=segment.len()).contains(&len) {
                return;
            }
            put_u16(segment, udp::CHECKSUM, 0);
            let checksum = match under_pseudo_header(&segment[..len]) {
                0 => 0xffff,
                other => other,
            };
            put_u16(segment, udp::CHECKSUM, checksum);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    /// Frames as etherparse makes them, which knows nothing of ours.
    fn frames() -> Vec<(Vec<u8>, usize)> {
        let ip = || PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [9, 9, 9, 9], 64);
        let mut frames = vec![(Vec::new(), 50), (Vec::new(), 40), (Vec::new(), 36)];
        ip().tcp(1000, 2000, 7, 9).write(&mut frames[0].0, b"odd").unwrap();
        ip().udp(1000, 2000).write(&mut frames[1].0, b"odd").unwrap();
        ip().icmpv4_echo_request(1, 2).write(&mut frames[2].0, b"odd").unwrap();
        frames
    }

    #[test]
    fn checksums_become_what_others_make_them() {
        for (frame, field) in frames() {
            let mut spoilt = frame.clone();
            put_u16(&mut spoilt, ethernet::LEN + ipv4::CHECKSUM, 0);
            put_u16(&mut spoilt, field, 0x1234);
            // What pads the frame is not summed up.
            spoilt.extend_from_slice(&[0xff; 7]);
            seal(&mut spoilt);
            assert_eq!(spoilt[..frame.len()], frame);
        }
    }

    #[test]
    fn what_has_no_checksum_gets_none() {
        let (mut frame, field) = frames().swap_remove(1);
        put_u16(&mut frame, field, 0);
        let before = frame.clone();
        seal(&mut frame);
        assert_eq!(frame, before);
    }

    #[test]
    fn of_a_part_of_a_packet_only_the_header_changes() {
        let (frame, _) = frames().swap_remove(0);
        for len in 0..frame.len() {
            let mut cut = frame[..len].to_vec();
            seal(&mut cut);
            assert_eq!(cut, frame[..len], "the header was right before");
        }
        let mut fragment = frame.clone();
        put_u16(&mut fragment, ethernet::LEN + ipv4::FRAGMENT, ipv4::MORE_FRAGMENTS);
        put_u16(&mut fragment, 50, 0x1234);
        seal(&mut fragment);
        assert_eq!(checksum::of(&fragment[14..34]), 0);
        assert_eq!(u16_at(&fragment, 50), 0x1234);
    }
}
