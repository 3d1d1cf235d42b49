//! Telling senders that a neighbour does not answer (RFC 1812 §5.2.7.1).

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use forwarding::WaitingFrame;
use packet::icmp::{ErrorKind, answer, may_answer};
use packet::{Instant, LinkId, MacAddr, PacketBuf, Parsed, SMALL_FRAME_MAX, parse};

/// Time that one error costs: a host that talks to a dead one needs a few a second to give up, and a scan of a
/// subnet must not be answered address by address (RFC 1812 §4.3.2.8).
const COST: Duration = Duration::from_millis(50);

/// Errors that may leave back to back: the frames that waited for a few neighbours.
const BURST: u32 = 16;

/// Host-unreachable messages on their way out, rate limited.
#[derive(Default)]
pub struct Unreachables {
    /// When the bucket is full again, on virtual time.
    full_at: Instant,
    frames: VecDeque<(LinkId, PacketBuf)>,
}

impl Unreachables {
    /// Tells the sender of `waiting` that its packet's next hop does not answer, unless nobody may be told or too
    /// many were. `router_mac` and `router` are the router's own on the link that the packet arrived on.
    pub fn tell(
        &mut self,
        waiting: &WaitingFrame,
        router_mac: MacAddr,
        router: Ipv4Addr,
        now: Instant,
    ) {
        let Ok(Parsed::Ipv4(datagram)) = parse(&waiting.frame, waiting.offload) else { return };
        let is_small = waiting.frame.len() <= SMALL_FRAME_MAX;
        let mut packet = if is_small { PacketBuf::small() } else { PacketBuf::large() };
        if !may_answer(&waiting.frame, &datagram)
            || !packet.copy_from(&waiting.frame)
            || self.frames.len() >= BURST as usize
            || !self.admit(now)
        {
            return;
        }
        packet.offload = waiting.offload;
        answer(&mut packet, &datagram, ErrorKind::HostUnreachable, router_mac, router);
        self.frames.push_back((waiting.ingress, packet));
    }

    /// Writes the next message into `buffer`, which holds a small frame.
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<(LinkId, usize)> {
        let (egress, packet) = self.frames.pop_front()?;
        buffer[..packet.len()].copy_from_slice(packet.frame());
        Some((egress, packet.len()))
    }

    fn admit(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + COST;
        let admitted = full_at - now <= COST * BURST;
        if admitted {
            self.full_at = full_at;
        }
        admitted
    }
}
