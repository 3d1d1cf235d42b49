//! A packet in pieces of all kinds, and what the packet path makes of them.

use etherparse::PacketBuilder;
use packet::header::{ethernet, ipv4, put_u16, seal_ipv4, udp};
use packet::{Instant, LinkId, Offload, Parsed, parse};

use super::path::{ADDRESSES, router, wait};
use super::{Input, STEPS_MAX, router_mac, station};

const HOME: LinkId = LinkId(1);
const L4: usize = ethernet::LEN + ipv4::LEN_MIN;

/// Longest payload: a few times what leaves in one fragment.
const LEN_MAX: u16 = 12_000;

/// Bits of a step.
const SPOILT: u8 = 1;
const ENDS_OTHERWISE: u8 = 2;
const OF_ANOTHER: u8 = 4;

/// Cuts a packet into pieces and sends them: in any order, again, overlapping, with bytes changed, with the wrong end,
/// under another identification.
///
/// **Shape**: the length of the payload (two bytes), then steps. Each is a byte (what is wrong in bits 0-2, time that
/// passes before in bits 4-7), where the piece begins in units of eight bytes (two) and how many it has (one).
///
/// # Panics
/// If something leaves that is neither the packet nor bytes that were sent in its place, if a frame has not one
/// verdict, or if a buffer is lost.
pub fn fragments(data: &[u8]) {
    let mut input = Input(data);
    let whole = whole(usize::from(input.u16() % LEN_MAX));
    let mut spoilt = vec![false; whole.len() - L4];
    let mut now = Instant::from_secs(1000);
    let mut router = router(now);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let step = input.u8();
        now += wait(step >> 4);
        router.expire(now);
        let units = (whole.len() - L4).div_ceil(8);
        let begin = usize::from(input.u16()) % units * 8;
        let end = (begin + (usize::from(input.u8()) + 1) * 8).min(whole.len() - L4);
        let frame = piece(&whole, (begin, end), step, &mut spoilt);
        let mut sent = Vec::new();
        router.receive(HOME, &frame, Offload::NONE, now, |_, frame| sent.push(frame.to_vec()));
        if !sent.is_empty() {
            check(&sent, &whole, &spoilt);
        }
    }
    router.finish(now);
}

fn whole(len: usize) -> Vec<u8> {
    let (host, remote) = (ADDRESSES[0], ADDRESSES[2]);
    let payload: Vec<u8> = (0..len).map(|index| (index % 241) as u8).collect();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(station(host).0, router_mac(HOME.0).0)
        .ipv4(host.octets(), remote.octets(), 64)
        .udp(5000, 53)
        .write(&mut frame, &payload)
        .expect("a vector has room");
    frame
}

/// The fragment with these bytes of the IP payload; notes which it spoils.
fn piece(whole: &[u8], (begin, end): (usize, usize), step: u8, spoilt: &mut [bool]) -> Vec<u8> {
    let mut frame = [&whole[..L4], &whole[L4 + begin..L4 + end]].concat();
    // The header is left alone, so that the packet stays one of its flow.
    if step & SPOILT != 0 && end > udp::LEN {
        frame[L4 + end - begin - 1] ^= 0xff;
        spoilt[end - 1] = true;
    }
    let more = (L4 + end < whole.len()) != (step & ENDS_OTHERWISE != 0);
    let word = (begin / 8) as u16 | if more { ipv4::MORE_FRAGMENTS } else { 0 };
    put_u16(&mut frame, ethernet::LEN + ipv4::TOTAL_LENGTH, (ipv4::LEN_MIN + end - begin) as u16);
    put_u16(&mut frame, ethernet::LEN + ipv4::FRAGMENT, word);
    let identification = if step & OF_ANOTHER == 0 { 7 } else { 8 };
    put_u16(&mut frame, ethernet::LEN + ipv4::IDENTIFICATION, identification);
    seal_ipv4(&mut frame, ethernet::LEN, ipv4::LEN_MIN);
    frame
}

/// What left is the whole packet, in order.
fn check(sent: &[Vec<u8>], whole: &[u8], spoilt: &[bool]) {
    let mut payload = Vec::new();
    for (index, frame) in sent.iter().enumerate() {
        match parse(frame, Offload::NONE) {
            Ok(Parsed::Fragment(fragment)) => {
                assert_eq!(usize::from(fragment.offset), payload.len(), "out of order");
                assert_eq!(fragment.more, index + 1 < sent.len());
                let bytes = usize::from(fragment.payload)..fragment.end as usize;
                payload.extend_from_slice(&frame[bytes]);
            }
            Ok(Parsed::Ipv4(datagram)) => {
                assert_eq!(sent.len(), 1, "more than the packet left");
                payload.extend_from_slice(&frame[usize::from(datagram.l4)..datagram.end as usize]);
            }
            other => panic!("{other:?} left"),
        }
    }
    let original = &whole[L4..];
    assert_eq!(payload.len(), original.len(), "a packet of another length left");
    for (at, (left, sent)) in payload.iter().zip(original).enumerate().skip(udp::LEN) {
        assert!(left == sent || spoilt[at] && *left == sent ^ 0xff, "byte {at} was never sent");
    }
}
