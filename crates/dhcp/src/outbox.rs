//! What a machine has produced and its driver has not fetched yet.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use packet::MacAddr;

use crate::frame::{self, Addressing};

/// A frame to be written when the driver has a buffer for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    Datagram { addressing: Addressing, payload: Vec<u8> },
    Arp { sender_mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr },
}

/// The three queues behind `poll_store`, `poll_transmit` and `poll_event`.
#[derive(Debug)]
pub(crate) struct Outbox<Record, Event> {
    records: VecDeque<Record>,
    outputs: VecDeque<Output>,
    events: VecDeque<Event>,
}

impl<Record, Event> Outbox<Record, Event> {
    pub fn new() -> Self {
        Self { records: VecDeque::new(), outputs: VecDeque::new(), events: VecDeque::new() }
    }

    pub fn store(&mut self, record: Record) {
        self.records.push_back(record);
    }

    pub fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Queues a frame; beyond [`OUTPUTS_MAX`] it is as good as lost on the wire.
    pub fn transmit(&mut self, output: Output) {
        if self.outputs.len() < OUTPUTS_MAX {
            self.outputs.push_back(output);
        } else {
            tracing::debug!("DHCP frame dropped: the driver does not fetch");
        }
    }

    pub fn poll_store(&mut self) -> Option<Record> {
        self.records.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Writes the next frame, unless a record must be stored first.
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if !self.records.is_empty() {
            return None;
        }
        Some(match self.outputs.pop_front()? {
            Output::Datagram { addressing, payload } => frame::emit(buffer, &addressing, &payload),
            Output::Arp { sender_mac, sender, target } => {
                frame::emit_arp(buffer, sender_mac, sender, target)
            }
        })
    }

    pub fn discard_transmits(&mut self) {
        self.outputs.clear();
    }
}

/// Frames waiting for a driver that drains after every input: one input makes at most a handful, and
/// one timeout of the server at most one for each address that it probes.
const OUTPUTS_MAX: usize = 1024;
