//! What a frame occupies on the operator's wire.

/// Octets of a frame before its IP packet: overheads count from the IP packet, as in the tables of
/// tc-cake.
const ETHERNET_HEADER_LEN: usize = 14;

/// How the wire cuts packets up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cells {
    /// It doesn't.
    None,
    /// ATM: 48 octets of payload in cells of 53, the last one padded (ITU-T I.361).
    Atm,
    /// PTM: one octet for every 64 (IEEE 802.3 §61.3.3, 64/65-octet encoding).
    Ptm,
}

/// What the wire adds to each IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Overhead {
    /// Octets around the IP packet; negative where a line counts fewer than the packet has.
    pub per_packet: i16,
    /// Least octets that a packet occupies, overhead included.
    pub min: u16,
    /// How the wire cuts packets up.
    pub cells: Cells,
}

impl Overhead {
    /// The Ethernet frame as we send it, without its checksum.
    pub const NONE: Overhead = Overhead { per_packet: 14, min: 0, cells: Cells::None };
    /// Ethernet: header 14, FCS 4, preamble 8, gap 12; at least 84.
    pub const ETHERNET: Overhead = Overhead { per_packet: 38, min: 84, cells: Cells::None };
    /// Cable modems count the frame with its FCS; at least 64.
    pub const DOCSIS: Overhead = Overhead { per_packet: 18, min: 64, cells: Cells::None };
    /// PPPoE over VDSL2: PPP 2, PPPoE 6, Ethernet 14, FCS 4, PTM 4.
    pub const PPPOE_PTM: Overhead = Overhead { per_packet: 30, min: 0, cells: Cells::Ptm };
    /// Ethernet over VDSL2.
    pub const BRIDGED_PTM: Overhead = Overhead { per_packet: 22, min: 0, cells: Cells::Ptm };
    /// PPPoE over ADSL, LLC/SNAP: the largest of the ADSL encapsulations, so never too little.
    pub const PPPOE_LLC_ATM: Overhead = Overhead { per_packet: 40, min: 0, cells: Cells::Atm };

    /// The presets by the names that the configuration uses.
    pub const PRESETS: [(&'static str, Overhead); 6] = [
        ("none", Self::NONE),
        ("ethernet", Self::ETHERNET),
        ("docsis", Self::DOCSIS),
        ("pppoe-ptm", Self::PPPOE_PTM),
        ("bridged-ptm", Self::BRIDGED_PTM),
        ("pppoe-llc-atm", Self::PPPOE_LLC_ATM),
    ];

    /// The preset with this name.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        Self::PRESETS.iter().find(|(preset, _)| *preset == name).map(|&(_, overhead)| overhead)
    }

    /// Octets on the wire of a frame that has `frame_len` octets from its Ethernet header on.
    #[must_use]
    #[inline]
    pub fn wire_len(&self, frame_len: usize) -> usize {
        let packet = frame_len.saturating_sub(ETHERNET_HEADER_LEN);
        let len = packet.saturating_add_signed(self.per_packet.into()).max(usize::from(self.min));
        match self.cells {
            Cells::None => len,
            Cells::Atm => len.div_ceil(48) * 53,
            Cells::Ptm => len + len.div_ceil(64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_occupy_what_their_wires_do() {
        // Frames with an IP packet of 1500, 576 and 40 octets.
        let lens = |name| {
            let overhead = Overhead::preset(name).unwrap();
            [1514, 590, 54].map(|len| overhead.wire_len(len))
        };
        assert_eq!(lens("none"), [1514, 590, 54]);
        assert_eq!(lens("ethernet"), [1538, 614, 84]);
        assert_eq!(lens("docsis"), [1518, 594, 64]);
        assert_eq!(lens("pppoe-ptm"), [1530 + 24, 606 + 10, 70 + 2]);
        assert_eq!(lens("bridged-ptm"), [1522 + 24, 598 + 10, 62 + 1]);
        assert_eq!(lens("pppoe-llc-atm"), [33 * 53, 13 * 53, 2 * 53]);
        assert_eq!(Overhead::preset("token-ring"), None);
    }

    #[test]
    fn a_runt_counts_as_its_overhead() {
        assert_eq!(Overhead::DOCSIS.wire_len(0), 64);
        assert_eq!(Overhead::NONE.wire_len(3), 14);
    }
}
