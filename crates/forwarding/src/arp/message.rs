//! The ARP message on Ethernet (RFC 826).

use std::net::Ipv4Addr;

use packet::MacAddr;

/// Length of the frames that are sent: the least an Ethernet frame may have without its checksum.
pub const ARP_FRAME_LEN: usize = 60;

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP message asks or says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP message for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArpMessage {
    /// Request or reply.
    pub operation: ArpOperation,
    /// The sender's station.
    pub sender_mac: MacAddr,
    /// The sender's address; unspecified in a probe (RFC 5227 §1.1).
    pub sender: Ipv4Addr,
    /// The station spoken to; zero in a request.
    pub target_mac: MacAddr,
    /// The address asked for.
    pub target: Ipv4Addr,
}

impl ArpMessage {
    /// Reads a frame from its Ethernet header on; `None` if it is anything but a whole request or
    /// reply for IPv4 over Ethernet from a station.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let ethertype = frame.get(12..14)?;
        let body: &[u8; 28] = frame.get(14..)?.first_chunk()?;
        if ethertype != ETHERTYPE_ARP || body[..6] != ETHERNET_IPV4 {
            return None;
        }
        let operation = match body[6..8] {
            [0, 1] => ArpOperation::Request,
            [0, 2] => ArpOperation::Reply,
            _ => return None,
        };
        let message = Self {
            operation,
            sender_mac: mac_at(body, 8),
            sender: address_at(body, 14),
            target_mac: mac_at(body, 18),
            target: address_at(body, 24),
        };
        message.sender_mac.is_unicast().then_some(message)
    }

    /// Writes the frame to `destination`, padded to the length of the shortest frame.
    #[must_use]
    pub fn emit(&self, destination: MacAddr) -> [u8; ARP_FRAME_LEN] {
        let mut frame = [0; ARP_FRAME_LEN];
        frame[..6].copy_from_slice(&destination.0);
        frame[6..12].copy_from_slice(&self.sender_mac.0);
        frame[12..14].copy_from_slice(&ETHERTYPE_ARP);
        frame[14..20].copy_from_slice(&ETHERNET_IPV4);
        frame[21] = match self.operation {
            ArpOperation::Request => 1,
            ArpOperation::Reply => 2,
        };
        frame[22..28].copy_from_slice(&self.sender_mac.0);
        frame[28..32].copy_from_slice(&self.sender.octets());
        frame[32..38].copy_from_slice(&self.target_mac.0);
        frame[38..42].copy_from_slice(&self.target.octets());
        frame
    }
}

fn mac_at(body: &[u8; 28], at: usize) -> MacAddr {
    let mut mac = MacAddr::ZERO;
    mac.0.copy_from_slice(&body[at..at + 6]);
    mac
}

fn address_at(body: &[u8; 28], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3])
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use etherparse::{ArpEthIpv4Packet, ArpOperation as Op, PacketBuilder};

    fn request() -> ArpMessage {
        ArpMessage {
            operation: ArpOperation::Request,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MacAddr::ZERO,
            target: Ipv4Addr::new(10, 0, 0, 2),
        }
    }

    fn by_etherparse(message: &ArpMessage, operation: Op, destination: MacAddr) -> Vec<u8> {
        let arp = ArpEthIpv4Packet {
            operation,
            sender_mac: message.sender_mac.0,
            sender_ipv4: message.sender.octets(),
            target_mac: message.target_mac.0,
            target_ipv4: message.target.octets(),
        };
        let builder = PacketBuilder::ethernet2(message.sender_mac.0, destination.0).arp(arp.into());
        let mut frame = Vec::new();
        builder.write(&mut frame).unwrap();
        frame
    }

    #[test]
    fn emitting_agrees_with_etherparse_but_for_the_padding() {
        let request = request();
        let frame = request.emit(MacAddr::BROADCAST);
        assert_eq!(frame[..42], by_etherparse(&request, Op::REQUEST, MacAddr::BROADCAST));
        assert_eq!(frame[42..], [0; 18]);
        let reply = ArpMessage { operation: ArpOperation::Reply, ..request };
        let to = MacAddr([2, 0, 0, 0, 0, 2]);
        assert_eq!(reply.emit(to)[..42], by_etherparse(&reply, Op::REPLY, to));
    }

    #[test]
    fn parsing_takes_what_emitting_wrote() {
        let frame = request().emit(MacAddr::BROADCAST);
        assert_eq!(ArpMessage::parse(&frame), Some(request()));
        assert_eq!(ArpMessage::parse(&frame[..42]), Some(request()));
    }

    #[test]
    fn parsing_refuses_what_is_cut_short() {
        let frame = request().emit(MacAddr::BROADCAST);
        for len in 0..42 {
            assert_eq!(ArpMessage::parse(&frame[..len]), None, "{len}");
        }
    }

    #[test]
    fn parsing_refuses_other_protocols_operations_and_group_senders() {
        // Ethertype, hardware type, protocol type, address lengths, operation, sender.
        for at in [12, 15, 16, 18, 19, 21, 22] {
            let mut frame = request().emit(MacAddr::BROADCAST);
            frame[at] |= 0x41;
            assert_eq!(ArpMessage::parse(&frame), None, "octet {at}");
        }
    }
}
