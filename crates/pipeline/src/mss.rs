//! MSS clamping: a SYN never promises more than the narrower link carries (RFC 879 §3: MTU - 40).

use packet::header::{put_u16, tcp, u16_at};
use packet::{Datagram, L4, PacketBuf, checksum};

/// Bytes of IPv4 and TCP header without options.
pub const HEADERS_LEN: u16 = 40;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;

/// Lowers the MSS option of a SYN to `mss_max`; leaves every other packet alone.
#[inline]
pub fn clamp(packet: &mut PacketBuf, datagram: &Datagram, mss_max: u16) {
    let Some(at) = place(packet, datagram) else { return };
    let l4 = usize::from(datagram.l4);
    let old = u16_at(packet.frame(), at);
    if old <= mss_max {
        return;
    }
    let partial = packet.offload.checksum.is_some();
    let frame = packet.frame_mut();
    put_u16(frame, at, mss_max);
    // A partial checksum covers the pseudo-header only, so the option is summed later.
    if !partial {
        // RFC 3022 §4.2: a difference holds at even offsets; at an odd one the bytes trade places.
        let delta = if (at - l4).is_multiple_of(2) {
            checksum::Delta::word(old, mss_max)
        } else {
            checksum::Delta::word(old.swap_bytes(), mss_max.swap_bytes())
        };
        checksum::update(frame, l4 + tcp::CHECKSUM, checksum::apply, delta);
    }
}

/// The MSS that a SYN promises.
pub fn promised(packet: &PacketBuf, datagram: &Datagram) -> Option<u16> {
    place(packet, datagram).map(|at| u16_at(packet.frame(), at))
}

/// Offset of the MSS value of a SYN within the frame.
#[inline]
fn place(packet: &PacketBuf, datagram: &Datagram) -> Option<usize> {
    let L4::Tcp { flags, header_len } = datagram.transport else { return None };
    if flags & tcp::SYN == 0 {
        return None;
    }
    let l4 = usize::from(datagram.l4);
    let options = l4 + tcp::LEN_MIN..l4 + usize::from(header_len);
    let at = find_mss(&packet.frame()[options.clone()])?;
    Some(options.start + at)
}

/// Offset of the MSS value within the options; a malformed list ends the search.
fn find_mss(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            OPTION_END => return None,
            OPTION_NOP => at += 1,
            kind => {
                let len = usize::from(*options.get(at + 1)?);
                if kind == OPTION_MSS {
                    return (len == 4 && at + 4 <= options.len()).then_some(at + 2);
                }
                at += len.max(2);
            }
        }
    }
    None
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement as Opt, TransportSlice};
    use packet::{Offload, Parsed, parse};

    fn syn(options: &[Opt]) -> PacketBuf {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 2], [198, 51, 100, 7], 64)
            .tcp(5000, 80, 1, 1000)
            .syn()
            .options(options)
            .unwrap()
            .write(&mut bytes, &[])
            .unwrap();
        let mut packet = PacketBuf::small();
        assert!(packet.copy_from(&bytes));
        packet
    }

    fn clamped(options: &[Opt], mss_max: u16) -> (Option<u16>, bool) {
        let mut packet = syn(options);
        let Ok(Parsed::Ipv4(datagram)) = parse(packet.frame(), Offload::NONE) else { panic!() };
        clamp(&mut packet, &datagram, mss_max);
        let sliced = SlicedPacket::from_ethernet(packet.frame()).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!() };
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!() };
        let header = tcp.to_header();
        let sum = header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()).unwrap();
        let mss = tcp.options_iterator().flatten().find_map(|option| match option {
            Opt::MaximumSegmentSize(mss) => Some(mss),
            _ => None,
        });
        (mss, header.checksum == sum)
    }

    #[test]
    fn a_large_mss_is_lowered_and_the_checksum_stays_right() {
        assert_eq!(clamped(&[Opt::MaximumSegmentSize(1460)], 1400), (Some(1400), true));
    }

    #[test]
    fn an_mss_at_an_odd_offset_keeps_the_checksum_right() {
        let options = [Opt::Noop, Opt::MaximumSegmentSize(1460), Opt::Noop, Opt::WindowScale(7)];
        assert_eq!(clamped(&options, 536), (Some(536), true));
    }

    #[test]
    fn a_small_or_missing_mss_is_left_alone() {
        assert_eq!(clamped(&[Opt::MaximumSegmentSize(1000)], 1400), (Some(1000), true));
        assert_eq!(clamped(&[Opt::WindowScale(7)], 1400), (None, true));
    }

    #[test]
    fn malformed_options_end_the_search() {
        assert_eq!(find_mss(&[2]), None);
        assert_eq!(find_mss(&[2, 4, 5]), None);
        assert_eq!(find_mss(&[3, 0, 2, 4, 5, 180]), Some(4));
        assert_eq!(find_mss(&[0, 2, 4, 5, 180]), None);
    }
}
