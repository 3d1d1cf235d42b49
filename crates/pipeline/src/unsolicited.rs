//! SYNs from outside that nobody asked for, answered late (RFC 5382 §4.3, REQ-4).
//!
//! Such a SYN may be the first half of a simultaneous open, and an error would end that before the
//! second half has come. So it waits six seconds, and is answered only if nobody inside has sent a
//! SYN of the same connection meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use flow_table::Pass;
use nat::{SessionKey, Tables};
use packet::icmp::{self, ErrorKind};
use packet::{Datagram, DropReason, Instant, LinkId, PacketBuf, Side};

use crate::counters::Counters;
use crate::egress::Egress;
use crate::limit::IcmpLimit;
use crate::snapshot::Snapshot;

/// SYNs that wait for their answer, the oldest first.
pub(crate) struct Unsolicited {
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    due: Instant,
    datagram: Datagram,
    head: [u8; HEAD_MAX],
}

impl Unsolicited {
    pub fn new() -> Self {
        Self { waiting: VecDeque::with_capacity(WAITING_MAX) }
    }

    /// Lets a SYN wait, unless it does already or too many do.
    pub fn push(&mut self, packet: &PacketBuf, datagram: &Datagram, now: Instant) {
        let ends = (datagram.source, datagram.destination);
        let mut waiting = self.waiting.iter().map(|one| &one.datagram);
        let is_full = self.waiting.len() == WAITING_MAX;
        if is_full || waiting.any(|one| (one.source, one.destination) == ends) {
            return;
        }
        let len = (datagram.end as usize).min(HEAD_MAX);
        let mut head = [0; HEAD_MAX];
        head[..len].copy_from_slice(&packet.frame()[..len]);
        let datagram = Datagram { end: len as u32, ..*datagram };
        self.waiting.push_back(Waiting { due: now + WAIT, datagram, head });
    }

    /// When the next answer is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.front().map(|one| one.due)
    }

    /// The next SYN whose time has come.
    fn poll(&mut self, now: Instant) -> Option<Waiting> {
        self.waiting.pop_front_if(|one| one.due <= now)
    }

    /// Answers what is due, by "port unreachable".
    pub fn answer(
        &mut self,
        (tables, pass): (&Tables, &Pass<'_>),
        limit: &mut IcmpLimit,
        (egress, counters): (&mut Egress, &Counters),
        snapshot: &Snapshot,
        now: Instant,
    ) {
        while let Some(Waiting { datagram, head, .. }) = self.poll(now) {
            let key = SessionKey(datagram.key(Side::Outside));
            let Some(link) = snapshot.link(LinkId::WAN) else { return };
            let address = datagram.destination.address;
            let is_ours = snapshot.nat.is_external(address);
            if !is_ours || tables.sessions().lookup(pass, &key).is_some() {
                continue;
            }
            if !limit.admit(now) {
                counters.count_egress_drop(LinkId::WAN, DropReason::IcmpRateLimited);
                continue;
            }
            let Some(mut packet) = egress.large_pool().take() else {
                counters.count_egress_drop(LinkId::WAN, DropReason::BuffersExhausted);
                continue;
            };
            let whole = packet.copy_from(&head[..datagram.end as usize]);
            debug_assert!(whole, "every buffer holds a head");
            icmp::answer(&mut packet, &datagram, ErrorKind::PortUnreachable, link.mac, address);
            packet.ingress = LinkId::WAN;
            packet.egress = LinkId::WAN;
            egress.send_now(packet, counters);
        }
    }
}

/// How long a SYN waits.
const WAIT: Duration = Duration::from_secs(6);

/// SYNs that wait at once. More than come in six seconds by chance; a scan that fills it learns
/// less from us than the silence it gets by default tells it.
const WAITING_MAX: usize = 256;

/// Bytes that are kept of a frame: a SYN with Ethernet, IP and TCP headers and all options of both
/// would be 134; an error quotes the IP header and eight bytes at least (RFC 792).
const HEAD_MAX: usize = 128;
