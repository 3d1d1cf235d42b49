//! What a captured frame begins with, and the Ethernet frame that it is or can be made into.

use std::fmt;

use packet::MacAddr;

/// The MAC addresses of frames that were captured without an Ethernet header (locally administered).
const MADE_UP_SOURCE: MacAddr = MacAddr([0x02, 0, 0x5e, 0, 0, 1]);
const MADE_UP_DESTINATION: MacAddr = MacAddr([0x02, 0, 0x5e, 0, 0, 2]);

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Smaller values of the field are lengths (IEEE 802.3 §3.2.6).
const ETHERTYPE_MIN: u16 = 0x0600;

/// The number of a link-layer type in the registry of the pcap formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkType(pub u32);

impl LinkType {
    /// Ethernet frames.
    pub const ETHERNET: LinkType = LinkType(1);

    /// What the registry calls it, of those that are read and those that are met often.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "NULL",
            1 => "ETHERNET",
            6 => "IEEE802_5",
            9 => "PPP",
            10 => "FDDI",
            12 | 14 | 101 => "RAW",
            50 => "PPP_HDLC",
            51 => "PPP_ETHER",
            104 => "C_HDLC",
            105 => "IEEE802_11",
            107 => "FRELAY",
            108 => "LOOP",
            113 => "LINUX_SLL",
            119 => "IEEE802_11_PRISM",
            127 => "IEEE802_11_RADIOTAP",
            189 => "USB_LINUX",
            195 => "IEEE802_15_4_WITHFCS",
            201 => "BLUETOOTH_HCI_H4_WITH_PHDR",
            220 => "USB_LINUX_MMAPPED",
            228 => "IPV4",
            229 => "IPV6",
            230 => "IEEE802_15_4_NOFCS",
            239 => "NFLOG",
            249 => "USBPCAP",
            276 => "LINUX_SLL2",
            _ => return None,
        })
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Why a captured frame can't be turned into an Ethernet frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotEthernet {
    /// The link-layer type is none that carries IP in a way we know.
    #[error("link-layer type {0} is not supported")]
    LinkType(LinkType),
    /// The link-layer type is known, but this frame carries neither IP nor anything with an EtherType.
    #[error("the frame of link-layer type {0} carries no IP")]
    Payload(LinkType),
}

/// What a frame comes to: the addresses and EtherType of its Ethernet header, and what follows it.
struct Carried<'a> {
    destination: MacAddr,
    source: MacAddr,
    ethertype: u16,
    payload: &'a [u8],
}

impl<'a> Carried<'a> {
    /// What comes from a link that has no MAC addresses.
    fn without_macs((ethertype, payload): (u16, &'a [u8])) -> Self {
        Self { destination: MADE_UP_DESTINATION, source: MADE_UP_SOURCE, ethertype, payload }
    }
}

/// Writes a captured frame into `frame` as an Ethernet frame.
///
/// Raw IP (12, 14, 101, 228, 229), BSD loopback (0, 108), PPP (9, 50), Linux cooked captures (113, 276) and NFLOG
/// (239) get an Ethernet header with made-up MAC addresses; data frames of Wi-Fi (105, 127) and FDDI (10) one with their
/// own.
///
/// # Errors
/// If that can't be done; `frame` is then empty.
pub fn to_ethernet(
    link_type: LinkType,
    data: &[u8],
    frame: &mut Vec<u8>,
) -> Result<(), NotEthernet> {
    frame.clear();
    let carried = match link_type.0 {
        1 => {
            frame.extend_from_slice(data);
            return Ok(());
        }
        12 | 14 | 101 | 228 | 229 => ip_payload(data).map(Carried::without_macs),
        // The address family's number and byte order are those of the machine that captured; all that
        // matters is which version of IP follows.
        0 | 108 => data.get(4..).and_then(ip_payload).map(Carried::without_macs),
        9 | 50 => ppp_payload(data).map(Carried::without_macs),
        113 => cooked_payload(data, 14, 16).map(Carried::without_macs),
        276 => cooked_payload(data, 0, 20).map(Carried::without_macs),
        239 => nflog_payload(data).map(Carried::without_macs),
        10 => fddi(data),
        105 => wifi(data),
        127 => radiotap_payload(data).and_then(wifi),
        _ => return Err(NotEthernet::LinkType(link_type)),
    };
    let Carried { destination, source, ethertype, payload } =
        carried.ok_or(NotEthernet::Payload(link_type))?;
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&source.0);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    Ok(())
}

/// A packet and the EtherType that its version field says.
fn ip_payload(data: &[u8]) -> Option<(u16, &[u8])> {
    match data.first()? >> 4 {
        4 => Some((ETHERTYPE_IPV4, data)),
        6 => Some((ETHERTYPE_IPV6, data)),
        _ => None,
    }
}

/// What follows a cooked header of `header_len` bytes with its protocol at `protocol_at`.
fn cooked_payload(data: &[u8], protocol_at: usize, header_len: usize) -> Option<(u16, &[u8])> {
    let payload = data.get(header_len..)?;
    let ethertype = u16::from_be_bytes([data[protocol_at], data[protocol_at + 1]]);
    (ethertype >= ETHERTYPE_MIN).then_some((ethertype, payload))
}

/// The packet in a PPP frame: address and control may be left out (RFC 1662 §3.1), and the protocol's first byte
/// where it is zero (RFC 1661 §6.5).
fn ppp_payload(data: &[u8]) -> Option<(u16, &[u8])> {
    const ADDRESS_AND_CONTROL: &[u8] = &[0xff, 0x03];
    let data = data.strip_prefix(ADDRESS_AND_CONTROL).unwrap_or(data);
    match data {
        [0x00, 0x21, payload @ ..] | [0x21, payload @ ..] => Some((ETHERTYPE_IPV4, payload)),
        [0x00, 0x57, payload @ ..] | [0x57, payload @ ..] => Some((ETHERTYPE_IPV6, payload)),
        _ => None,
    }
}

/// The packet in a message of netfilter's log, whose lengths and types are in the byte order of the machine that wrote
/// it.
fn nflog_payload(data: &[u8]) -> Option<(u16, &[u8])> {
    const HEADER_LEN: usize = 4;
    let attributes = data.get(HEADER_LEN..)?;
    let packet = nflog_attribute(attributes, u16::from_le_bytes)
        .or_else(|| nflog_attribute(attributes, u16::from_be_bytes));
    packet.and_then(ip_payload)
}

fn nflog_attribute(mut attributes: &[u8], number: impl Fn([u8; 2]) -> u16) -> Option<&[u8]> {
    const HEADER_LEN: usize = 4;
    /// `NFULA_PAYLOAD` of Linux.
    const PAYLOAD: u16 = 9;
    while let [a, b, c, d, ..] = *attributes {
        let len = usize::from(number([a, b]));
        let value = attributes.get(HEADER_LEN..len)?;
        if number([c, d]) == PAYLOAD {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

/// EtherType and payload behind a header of LLC with SNAP (RFC 1042).
fn snap_payload(data: &[u8]) -> Option<(u16, &[u8])> {
    let [0xaa, 0xaa, 0x03, 0, 0, 0, high, low, payload @ ..] = data else { return None };
    Some((u16::from_be_bytes([*high, *low]), payload))
}

/// FDDI: frame control, destination, source, LLC (RFC 1390).
fn fddi(data: &[u8]) -> Option<Carried<'_>> {
    /// LLC frames, of any priority.
    const LLC: u8 = 0b0101_0000;
    let is_llc = data.first()? & 0b1111_0000 == LLC;
    let (ethertype, payload) = snap_payload(data.get(13..).filter(|_| is_llc)?)?;
    Some(Carried { destination: mac_at(data, 1)?, source: mac_at(data, 7)?, ethertype, payload })
}

/// What follows a radiotap header: its length is its third field, little-endian on every machine.
fn radiotap_payload(data: &[u8]) -> Option<&[u8]> {
    let &[_version, _padding, low, high, ..] = data else { return None };
    data.get(usize::from(u16::from_le_bytes([low, high]))..)
}

/// A data frame of Wi-Fi that is neither encrypted nor an aggregate nor a fragment (IEEE 802.11 §9.3.2.1).
fn wifi(data: &[u8]) -> Option<Carried<'_>> {
    const TO_DS: u8 = 0x01;
    const FROM_DS: u8 = 0x02;
    const MORE_FRAGMENTS: u8 = 0x04;
    const PROTECTED: u8 = 0x40;
    /// In a QoS frame: four more bytes follow.
    const ORDER: u8 = 0x80;
    const AGGREGATE: u8 = 0x80;
    let &[control, flags, ..] = data else { return None };
    let (kind, subtype) = (control >> 2 & 0b11, control >> 4);
    let fragment = data.get(22)? & 0x0f;
    // Of the data frames, those whose third subtype bit is set carry nothing.
    let is_data = control & 0b11 == 0 && kind == 2 && subtype & 0b0100 == 0;
    if !is_data || flags & (PROTECTED | MORE_FRAGMENTS) != 0 || fragment != 0 {
        return None;
    }
    let (destination_at, source_at, header_len) = match flags & (TO_DS | FROM_DS) {
        0 => (4, 10, 24),
        TO_DS => (16, 10, 24),
        FROM_DS => (4, 16, 24),
        _ => (16, 24, 30),
    };
    let has_qos = subtype & 0b1000 != 0;
    let qos_len = match (has_qos, flags & ORDER != 0) {
        (false, _) => 0,
        (true, false) => 2,
        (true, true) => 6,
    };
    if has_qos && data.get(header_len)? & AGGREGATE != 0 {
        return None;
    }
    let (ethertype, payload) = snap_payload(data.get(header_len + qos_len..)?)?;
    Some(Carried {
        destination: mac_at(data, destination_at)?,
        source: mac_at(data, source_at)?,
        ethertype,
        payload,
    })
}

fn mac_at(data: &[u8], at: usize) -> Option<MacAddr> {
    data.get(at..)?.first_chunk().map(|mac| MacAddr(*mac))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const IPV4: [u8; 20] = [0x45; 20];
    const IPV6: [u8; 40] = [0x60; 40];
    const SNAP: [u8; 8] = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];

    /// A data frame from station 1 by access point 2 to station 3, or the other way.
    fn wifi_frame(subtype: u8, flags: u8, behind: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![subtype << 4 | 0b1000, flags, 0, 0];
        for station in [1u8, 2, 3] {
            frame.extend_from_slice(&[0x02, 0, 0, 0, 0, station]);
        }
        frame.extend_from_slice(&[0x10, 0]);
        behind.iter().for_each(|part| frame.extend_from_slice(part));
        frame
    }

    fn ethernet(link_type: u32, data: &[u8]) -> Result<Vec<u8>, NotEthernet> {
        let mut frame = vec![9; 3];
        let made = to_ethernet(LinkType(link_type), data, &mut frame);
        assert!(made.is_ok() || frame.is_empty());
        made.map(|()| frame)
    }

    #[test]
    fn frames_without_an_ethernet_header_get_one() {
        let mut sll = [0u8; 16];
        sll[14..].copy_from_slice(&[0x08, 0x06]);
        let mut sll2 = [0u8; 20];
        sll2[..2].copy_from_slice(&[0x86, 0xdd]);
        let nflog = [2, 0, 0, 1, 5, 0, 1, 0, 7, 0, 0, 0, 24, 0, 9, 0];
        let nflog_of_big_endian = [2, 0, 0, 1, 0, 5, 0, 1, 7, 0, 0, 0, 0, 24, 0, 9];
        let cases: [(u32, &[u8], &[u8], u16); 13] = [
            (101, &[], &IPV4, ETHERTYPE_IPV4),
            (228, &[], &IPV4, ETHERTYPE_IPV4),
            (12, &[], &IPV6, ETHERTYPE_IPV6),
            (0, &[2, 0, 0, 0], &IPV4, ETHERTYPE_IPV4),
            (108, &[0, 0, 0, 24], &IPV6, ETHERTYPE_IPV6),
            (9, &[0xff, 3, 0, 0x21], &IPV4, ETHERTYPE_IPV4),
            (9, &[0, 0x57], &IPV6, ETHERTYPE_IPV6),
            (50, &[0x21], &IPV4, ETHERTYPE_IPV4),
            (113, &sll, &[1; 28], 0x0806),
            (276, &sll2, &IPV6, ETHERTYPE_IPV6),
            (239, &nflog, &IPV4, ETHERTYPE_IPV4),
            (239, &nflog_of_big_endian, &IPV4, ETHERTYPE_IPV4),
            (10, &[&[0x57; 13][..], &SNAP].concat(), &IPV4, ETHERTYPE_IPV4),
        ];
        for (link_type, header, payload, ethertype) in cases {
            let frame = ethernet(link_type, &[header, payload].concat()).unwrap();
            assert_eq!(frame[12..14], ethertype.to_be_bytes(), "{link_type}");
            assert_eq!(&frame[14..], payload, "{link_type}");
        }
    }

    #[test]
    fn a_data_frame_of_wifi_keeps_its_stations() {
        let qos: &[u8] = &[0, 0];
        let cases: [(u8, u8, &[u8], [u8; 2]); 4] = [
            (0, 0, &[], [1, 2]),
            (0, 1, &[], [3, 2]),
            (8, 2, qos, [1, 3]),
            (8, 0x82, &[0, 0, 1, 2, 3, 4], [1, 3]),
        ];
        for (subtype, flags, before, [destination, source]) in cases {
            let plain = wifi_frame(subtype, flags, &[before, &SNAP, &IPV4]);
            let tapped = [&[0, 0, 10, 0, 1, 2, 3, 4, 5, 6][..], &plain].concat();
            for (link_type, data) in [(105, plain), (127, tapped)] {
                let frame = ethernet(link_type, &data).unwrap();
                assert_eq!((frame[5], frame[11]), (destination, source));
                assert_eq!(frame[12..], [&[8, 0][..], &IPV4].concat());
            }
        }
    }

    #[test]
    fn an_ethernet_frame_stays_as_it_is() {
        assert_eq!(ethernet(1, &[1, 2, 3]).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn what_carries_no_ip_is_refused_with_its_link_type() {
        let unknown = LinkType(230);
        assert_eq!(ethernet(230, &[0; 64]), Err(NotEthernet::LinkType(unknown)));
        let beacon = [0x80; 64];
        let encrypted = wifi_frame(0, 0x41, &[&SNAP, &IPV4]);
        let aggregate = wifi_frame(8, 1, &[&[0x80, 0], &SNAP, &IPV4]);
        let token = [&[0x80; 13][..], &SNAP, &IPV4].concat();
        let cases: [(u32, &[u8]); 12] = [
            (101, &[0; 20]),
            (101, &[]),
            (0, &[2, 0]),
            (113, &[0; 16]),
            (9, &[0xc0, 0x21, 1]),
            (239, &[2, 0, 0, 1, 0, 0, 0, 0]),
            (239, &[2, 0, 0, 1, 0xff, 0xff, 9, 0]),
            (10, &token),
            (105, &beacon),
            (105, &encrypted),
            (105, &aggregate),
            (127, &[0, 0, 0xff, 0xff]),
        ];
        for (link_type, data) in cases {
            let refused = ethernet(link_type, data);
            assert_eq!(refused, Err(NotEthernet::Payload(LinkType(link_type))));
        }
    }

    #[test]
    fn a_link_type_is_named_where_it_has_a_name() {
        assert_eq!(LinkType(230).to_string(), "230 (IEEE802_15_4_NOFCS)");
        assert_eq!(LinkType(9999).to_string(), "9999");
    }
}
