//! Where the fields are, and how to read and write one.
//!
//! Offsets are from the start of the header that they belong to. Every accessor takes the frame and an
//! offset that [`crate::parse`] has already found to lie inside it.

/// Ethernet II.
pub mod ethernet {
    /// Destination MAC address.
    pub const DESTINATION: usize = 0;
    /// Source MAC address.
    pub const SOURCE: usize = 6;
    /// EtherType.
    pub const ETHERTYPE: usize = 12;
    /// Length of the header.
    pub const LEN: usize = 14;
    /// EtherType of IPv4.
    pub const IPV4: u16 = 0x0800;
    /// EtherType of ARP.
    pub const ARP: u16 = 0x0806;
    /// EtherType of IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// EtherTypes of VLAN tags (802.1Q, 802.1ad).
    pub const VLAN: [u16; 2] = [0x8100, 0x88a8];
}

/// IPv4 (RFC 791 §3.1).
pub mod ipv4 {
    /// Type of service: DSCP and ECN.
    pub const TOS: usize = 1;
    /// Total length.
    pub const TOTAL_LENGTH: usize = 2;
    /// Identification.
    pub const IDENTIFICATION: usize = 4;
    /// Flags and fragment offset.
    pub const FRAGMENT: usize = 6;
    /// Time to live.
    pub const TTL: usize = 8;
    /// Protocol.
    pub const PROTOCOL: usize = 9;
    /// Header checksum.
    pub const CHECKSUM: usize = 10;
    /// Source address.
    pub const SOURCE: usize = 12;
    /// Destination address.
    pub const DESTINATION: usize = 16;
    /// Length of a header without options.
    pub const LEN_MIN: usize = 20;
    /// Length of a header full of options.
    pub const LEN_MAX: usize = 60;
    /// "Don't fragment" in the flags word.
    pub const DONT_FRAGMENT: u16 = 0x4000;
    /// "More fragments" in the flags word.
    pub const MORE_FRAGMENTS: u16 = 0x2000;
    /// The offset in the flags word, in units of eight bytes.
    pub const OFFSET_MASK: u16 = 0x1fff;
    /// "More fragments" and the offset: non-zero in every fragment.
    pub const FRAGMENT_MASK: u16 = 0x3fff;
}

/// TCP (RFC 9293 §3.1).
pub mod tcp {
    /// Source port.
    pub const SOURCE: usize = 0;
    /// Destination port.
    pub const DESTINATION: usize = 2;
    /// Sequence number.
    pub const SEQUENCE: usize = 4;
    /// Acknowledgement number.
    pub const ACKNOWLEDGEMENT: usize = 8;
    /// Data offset, in the high four bits, in words.
    pub const DATA_OFFSET: usize = 12;
    /// Flags.
    pub const FLAGS: usize = 13;
    /// Window.
    pub const WINDOW: usize = 14;
    /// Checksum.
    pub const CHECKSUM: usize = 16;
    /// Length of a header without options.
    pub const LEN_MIN: usize = 20;
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// CWR.
    pub const CWR: u8 = 0x80;
}

/// UDP (RFC 768).
pub mod udp {
    /// Source port.
    pub const SOURCE: usize = 0;
    /// Destination port.
    pub const DESTINATION: usize = 2;
    /// Length of header and data.
    pub const LENGTH: usize = 4;
    /// Checksum; zero means none.
    pub const CHECKSUM: usize = 6;
    /// Length of the header.
    pub const LEN: usize = 8;
}

/// UDP-Lite (RFC 3828 §3.1): ports and checksum lie where UDP's do.
pub mod udp_lite {
    /// How many bytes the checksum covers, from the start of the header; 0 means all.
    pub const COVERAGE: usize = 4;
    /// Checksum; never zero.
    pub const CHECKSUM: usize = 6;
    /// Length of the header, which is always covered.
    pub const LEN: usize = 8;
}

/// SCTP (RFC 9260 §3).
pub mod sctp {
    /// Source port.
    pub const SOURCE: usize = 0;
    /// Destination port.
    pub const DESTINATION: usize = 2;
    /// CRC32c over the whole packet, which covers no address.
    pub const CHECKSUM: usize = 8;
    /// Length of the common header.
    pub const LEN: usize = 12;
    /// Type of the first chunk.
    pub const CHUNK_TYPE: usize = 12;
    /// Length of the first chunk, its header included.
    pub const CHUNK_LENGTH: usize = 14;
    /// Length of the header of a chunk.
    pub const CHUNK_HEADER_LEN: usize = 4;
}

/// GRE (RFC 2784 §2, RFC 2890 §2, RFC 2637 §4.1).
pub mod gre {
    /// Flags and version.
    pub const FLAGS: usize = 0;
    /// A checksum follows, with two bytes more.
    pub const CHECKSUM_PRESENT: u16 = 0x8000;
    /// The same of RFC 1701's source routes.
    pub const ROUTING_PRESENT: u16 = 0x4000;
    /// A key follows.
    pub const KEY_PRESENT: u16 = 0x2000;
    /// The version, 0; 1 is PPTP's.
    pub const VERSION_MASK: u16 = 0x0007;
    /// Length of a header without options.
    pub const LEN_MIN: usize = 4;
}

/// ESP (RFC 4303 §2).
pub mod esp {
    /// Security parameters index.
    pub const SPI: usize = 0;
    /// Length of SPI and sequence number.
    pub const LEN: usize = 8;
}

/// ICMP (RFC 792).
pub mod icmp {
    /// Type.
    pub const TYPE: usize = 0;
    /// Code.
    pub const CODE: usize = 1;
    /// Checksum.
    pub const CHECKSUM: usize = 2;
    /// Identifier of a query.
    pub const IDENTIFIER: usize = 4;
    /// Next-hop MTU of "fragmentation needed" (RFC 1191 §4).
    pub const NEXT_HOP_MTU: usize = 6;
    /// Length of the header; in errors the embedded packet follows.
    pub const LEN: usize = 8;
}

/// Reads a byte.
#[must_use]
#[inline]
pub fn u8_at(frame: &[u8], at: usize) -> u8 {
    frame[at]
}

/// Reads a big-endian 16-bit field.
#[must_use]
#[inline]
pub fn u16_at(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes_at(frame, at))
}

/// Reads a big-endian 32-bit field.
#[must_use]
#[inline]
pub fn u32_at(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes_at(frame, at))
}

/// Reads `N` bytes.
///
/// # Panics
/// If they lie outside the frame.
#[must_use]
#[inline]
pub fn bytes_at<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    *frame[at..].first_chunk().expect("the field lies inside the frame, parse saw to it")
}

/// Writes a big-endian 16-bit field.
#[inline]
pub fn put_u16(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian 32-bit field.
#[inline]
pub fn put_u32(frame: &mut [u8], at: usize, value: u32) {
    frame[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Writes the two MAC addresses of a frame.
#[inline]
pub fn put_macs(frame: &mut [u8], destination: crate::MacAddr, source: crate::MacAddr) {
    frame[..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&source.0);
}

/// Destination MAC address of a frame.
#[must_use]
#[inline]
pub fn destination_mac(frame: &[u8]) -> crate::MacAddr {
    crate::MacAddr(bytes_at(frame, ethernet::DESTINATION))
}

/// Source MAC address of a frame.
#[must_use]
#[inline]
pub fn source_mac(frame: &[u8]) -> crate::MacAddr {
    crate::MacAddr(bytes_at(frame, ethernet::SOURCE))
}

/// Computes and writes the checksum of the IPv4 header at `l3`, of `len` bytes.
#[inline]
pub fn seal_ipv4(frame: &mut [u8], l3: usize, len: usize) {
    put_u16(frame, l3 + ipv4::CHECKSUM, 0);
    let checksum = crate::checksum::of(&frame[l3..l3 + len]);
    put_u16(frame, l3 + ipv4::CHECKSUM, checksum);
}
