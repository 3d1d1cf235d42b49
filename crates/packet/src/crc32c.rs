//! CRC32c, the checksum of SCTP (RFC 9260 Appendix A).

/// The checksum of an SCTP packet whose own field is zero, in the order of the bytes on the wire.
#[must_use]
pub fn of(bytes: &[u8]) -> [u8; 4] {
    let crc =
        bytes.iter().fold(u32::MAX, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8));
    (!crc).to_le_bytes()
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut rest = index as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ REFLECTED_POLYNOMIAL } else { rest >> 1 };
            bit += 1;
        }
        table[index] = rest;
        index += 1;
    }
    table
}

/// 0x1EDC6F41 with its bits reversed.
const REFLECTED_POLYNOMIAL: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3720_examples() {
        // RFC 3720 Appendix B.4 lists the bytes as they are sent.
        assert_eq!(of(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(of(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(of(&up), [0x4e, 0x79, 0xdd, 0x46]);
        let down: Vec<u8> = (0..32).rev().collect();
        assert_eq!(of(&down), [0x5c, 0xdb, 0x3f, 0x11]);
    }
}
