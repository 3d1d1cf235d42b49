//! Frames that wait for the MAC address of their next hop.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use packet::{LinkId, Offload};

use super::Key;

/// Frames that may wait for one neighbour: a batch. One neighbour is the gateway, for which the first
/// packets of every host wait at once; one that is there answers within a millisecond.
pub const FRAMES_PER_NEIGHBOUR_MAX: usize = packet::BATCH_MAX;

/// Frames that may wait in all.
pub const WAITING_MAX: usize = 256;

/// Bytes that may wait in all: every frame of a 1500-byte link that may wait.
pub const WAITING_BYTES_MAX: usize = 512 * 1024;

/// Longest frame that may wait, in bytes: any, for a packet that came in fragments may be the first
/// to its next hop, and the second may be as long.
pub const WAITING_FRAME_LEN_MAX: usize = packet::LARGE_FRAME_MAX;

/// A frame whose next hop is not known yet, as it arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingFrame {
    /// The link that it arrived on, and on which it is to be injected again.
    pub ingress: LinkId,
    /// Work left undone by its sender.
    pub offload: Offload,
    /// Its bytes from the Ethernet header on.
    pub frame: Vec<u8>,
}

/// Frames in order of arrival, whatever they wait for: with 256 of them a scan is cheap, and the
/// oldest is at the front.
#[derive(Default)]
pub(super) struct WaitingRoom {
    frames: VecDeque<(Key, WaitingFrame)>,
    bytes: usize,
}

impl WaitingRoom {
    /// Adds a frame; returns how many older ones had to go.
    pub(super) fn push(&mut self, key: Key, frame: WaitingFrame) -> u64 {
        let mut dropped = 0;
        let is_sibling = |(other, _): &&(Key, WaitingFrame)| *other == key;
        if self.frames.iter().filter(is_sibling).count() >= FRAMES_PER_NEIGHBOUR_MAX
            && let Some(oldest) = self.frames.iter().position(|(other, _)| *other == key)
        {
            self.frames.remove(oldest).inspect(|(_, gone)| self.bytes -= gone.frame.len());
            dropped += 1;
        }
        self.bytes += frame.frame.len();
        while (self.frames.len() >= WAITING_MAX || self.bytes > WAITING_BYTES_MAX)
            && let Some((_, oldest)) = self.frames.pop_front()
        {
            self.bytes -= oldest.frame.len();
            dropped += 1;
        }
        self.frames.push_back((key, frame));
        dropped
    }

    /// Takes out the frames that wait for a neighbour, in order of arrival.
    pub(super) fn take(&mut self, key: (LinkId, Ipv4Addr)) -> Vec<WaitingFrame> {
        let mut taken = Vec::new();
        for _ in 0..self.frames.len() {
            // Once around: every frame is popped and either taken or put back behind the others.
            let Some((other, frame)) = self.frames.pop_front() else { break };
            if other == key {
                self.bytes -= frame.frame.len();
                taken.push(frame);
            } else {
                self.frames.push_back((other, frame));
            }
        }
        taken
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        (LinkId(1), Ipv4Addr::from(n))
    }

    fn frame(n: u8) -> WaitingFrame {
        WaitingFrame { ingress: LinkId(2), offload: Offload::NONE, frame: vec![n] }
    }

    #[test]
    fn one_frame_too_many_for_a_neighbour_replaces_the_first() {
        let mut room = WaitingRoom::default();
        let max = FRAMES_PER_NEIGHBOUR_MAX as u8;
        for n in 0..=max {
            assert_eq!(room.push(key(1), frame(n)), u64::from(n == max));
        }
        let left: Vec<u8> = room.take(key(1)).iter().map(|f| f.frame[0]).collect();
        assert_eq!(left, (1..=max).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_room_drops_its_oldest_frame() {
        let mut room = WaitingRoom::default();
        for n in 0..WAITING_MAX as u32 {
            assert_eq!(room.push(key(n), frame(0)), 0);
        }
        assert_eq!(room.push(key(9999), frame(1)), 1);
        assert!(room.take(key(0)).is_empty());
        assert_eq!(room.take(key(1)).len(), 1);
        assert_eq!(room.take(key(9999)).len(), 1);
    }

    #[test]
    fn long_frames_wait_as_far_as_bytes_allow() {
        let mut room = WaitingRoom::default();
        let long = || WaitingFrame { frame: vec![0; WAITING_FRAME_LEN_MAX], ..frame(0) };
        let fit = (WAITING_BYTES_MAX / WAITING_FRAME_LEN_MAX) as u32;
        for n in 0..fit {
            assert_eq!(room.push(key(n), long()), 0);
        }
        assert_eq!(room.push(key(fit), long()), 1);
        assert_eq!((room.take(key(0)).len(), room.take(key(1)).len()), (0, 1));
        assert_eq!(room.push(key(fit + 1), long()), 0);
    }

    #[test]
    fn taking_keeps_the_others_in_order() {
        let mut room = WaitingRoom::default();
        for n in 0..6u8 {
            room.push(key(u32::from(n) % 2), frame(n));
        }
        let take = |room: &mut WaitingRoom, n| -> Vec<u8> {
            room.take(key(n)).iter().map(|f| f.frame[0]).collect()
        };
        assert_eq!(take(&mut room, 1), [1, 3, 5]);
        assert_eq!(take(&mut room, 0), [0, 2, 4]);
    }
}
