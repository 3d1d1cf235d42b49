//! smoltcp's device: two bounded queues instead of a NIC.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// IP packets that may wait in either direction between two polls. A DNS burst of a busy house is tens; what
/// exceeds this is dropped by the sender's back-off, as on any full queue.
const QUEUE_LEN: usize = 256;

/// Largest IP packet that the stack sends or takes: any. Workers put together what comes in fragments, and cut what a
/// link can't carry, so a big ping is answered; they also lower what a SYN promises to what the link carries.
pub const MTU: usize = 65_535;

/// IP packets in and out.
#[derive(Debug, Default)]
pub struct Queues {
    received: VecDeque<Bytes>,
    to_send: VecDeque<BytesMut>,
}

impl Queues {
    /// Hands an IP packet to the stack; `false` if the queue is full.
    pub fn push(&mut self, packet: &[u8]) -> bool {
        if self.received.len() == QUEUE_LEN || packet.len() > MTU {
            return false;
        }
        self.received.push_back(Bytes::copy_from_slice(packet));
        true
    }

    /// Length of the next IP packet that the stack wants to send.
    pub fn next_len(&self) -> Option<usize> {
        self.to_send.front().map(|packet| packet.len())
    }

    /// Next IP packet that the stack wants to send.
    pub fn pop(&mut self) -> Option<BytesMut> {
        self.to_send.pop_front()
    }
}

/// A received packet.
pub struct Rx(Bytes);

/// A place for a packet to send.
pub struct Tx<'a>(&'a mut VecDeque<BytesMut>);

impl smoltcp::phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl smoltcp::phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = BytesMut::zeroed(len);
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Rx, Tx<'_>)> {
        if self.to_send.len() >= QUEUE_LEN {
            return None;
        }
        let packet = self.received.pop_front()?;
        Some((Rx(packet), Tx(&mut self.to_send)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        (self.to_send.len() < QUEUE_LEN).then_some(Tx(&mut self.to_send))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        let mut checksum = ChecksumCapabilities::default();
        checksum.ipv4 = Checksum::Both;
        capabilities.checksum = checksum;
        capabilities
    }
}
