//! Octets of DNS messages: header fields, names, records as offsets.
//!
//! The forwarder keeps messages as bytes and needs few facts about them, so this module walks a
//! message without building anything. Every walk is bounded: a pointer must lead backwards
//! (RFC 1035 §4.1.4), a name has at most 255 octets, a record must lie inside the message.

use std::ops::Range;

/// Octets of the fixed header (RFC 1035 §4.1.1).
pub(crate) const HEADER_LEN: usize = 12;
/// Octets of the longest name (RFC 1035 §2.3.4).
pub(crate) const NAME_MAX: usize = 255;
/// Octets of the longest message: the length prefix of TCP has 16 bits (RFC 1035 §4.2.2).
pub const MESSAGE_MAX: usize = 65_535;

pub(crate) const FLAG_QR: u16 = 0x8000;
pub(crate) const FLAGS_OPCODE: u16 = 0x7800;
pub(crate) const FLAG_AA: u16 = 0x0400;
pub(crate) const FLAG_TC: u16 = 0x0200;
pub(crate) const FLAG_RD: u16 = 0x0100;
pub(crate) const FLAG_RA: u16 = 0x0080;
pub(crate) const FLAG_CD: u16 = 0x0010;
pub(crate) const FLAGS_RCODE: u16 = 0x000f;

pub(crate) const TYPE_A: u16 = 1;
pub(crate) const TYPE_NS: u16 = 2;
pub(crate) const TYPE_CNAME: u16 = 5;
pub(crate) const TYPE_SOA: u16 = 6;
pub(crate) const TYPE_PTR: u16 = 12;
pub(crate) const TYPE_HINFO: u16 = 13;
pub(crate) const TYPE_MX: u16 = 15;
pub(crate) const TYPE_SIG: u16 = 24;
pub(crate) const TYPE_AAAA: u16 = 28;
pub(crate) const TYPE_OPT: u16 = 41;
pub(crate) const TYPE_DS: u16 = 43;
pub(crate) const TYPE_DNSKEY: u16 = 48;
pub(crate) const TYPE_SVCB: u16 = 64;
pub(crate) const TYPE_HTTPS: u16 = 65;
pub(crate) const TYPE_TSIG: u16 = 250;
pub(crate) const TYPE_IXFR: u16 = 251;
pub(crate) const TYPE_AXFR: u16 = 252;
pub(crate) const TYPE_ANY: u16 = 255;
pub(crate) const CLASS_IN: u16 = 1;
pub(crate) const CLASS_ANY: u16 = 255;

/// The DO flag in the TTL field of an OPT record (RFC 3225 §3).
pub(crate) const EDNS_DO: u16 = 0x8000;

/// A response code that this forwarder originates (RFC 1035 §4.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
}

/// Why the octets are not a DNS message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the message ends inside a field")]
    Truncated,
    #[error("a label has a reserved type")]
    LabelType,
    #[error("a compression pointer does not lead backwards")]
    Pointer,
    #[error("a name is longer than 255 octets")]
    NameTooLong,
}

/// Reads a 16-bit field, or nothing if the message ends before.
#[inline]
pub(crate) fn u16_at(message: &[u8], at: usize) -> Result<u16, Malformed> {
    let octets = message.get(at..at + 2).ok_or(Malformed::Truncated)?;
    Ok(u16::from_be_bytes([octets[0], octets[1]]))
}

/// Reads a 32-bit field, or nothing if the message ends before.
#[inline]
pub(crate) fn u32_at(message: &[u8], at: usize) -> Result<u32, Malformed> {
    let octets = message.get(at..at + 4).ok_or(Malformed::Truncated)?;
    Ok(u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]))
}

/// Overwrites a 16-bit field.
///
/// # Panics
/// If the message ends before; callers patch only fields that they have read.
#[inline]
pub(crate) fn put_u16(message: &mut [u8], at: usize, value: u16) {
    message[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Overwrites a 32-bit field.
///
/// # Panics
/// If the message ends before; callers patch only fields that they have read.
#[inline]
pub(crate) fn put_u32(message: &mut [u8], at: usize, value: u32) {
    message[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Visits the labels of the name at `at` (each with its length octet, the root too) and returns the
/// offset after the name where it stands.
///
/// # Errors
/// A reserved label type, a pointer that does not lead before the run of labels it ends, more than
/// 255 octets, or the end of the message.
#[inline]
fn walk_name(message: &[u8], at: usize, mut visit: impl FnMut(&[u8])) -> Result<usize, Malformed> {
    let (mut cursor, mut run_start, mut length) = (at, at, 0);
    let mut end = None;
    loop {
        let octet = *message.get(cursor).ok_or(Malformed::Truncated)?;
        match octet & 0xc0 {
            0x00 => {
                let next = cursor + 1 + usize::from(octet);
                length += next - cursor;
                if length > NAME_MAX {
                    return Err(Malformed::NameTooLong);
                }
                visit(message.get(cursor..next).ok_or(Malformed::Truncated)?);
                if octet == 0 {
                    return Ok(end.unwrap_or(next));
                }
                cursor = next;
            }
            0xc0 => {
                let target = usize::from(u16_at(message, cursor)? & 0x3fff);
                if target >= run_start || target < HEADER_LEN {
                    return Err(Malformed::Pointer);
                }
                end.get_or_insert(cursor + 2);
                (cursor, run_start) = (target, target);
            }
            _ => return Err(Malformed::LabelType),
        }
    }
}

/// Checks the name at `at` and returns the offset after it.
///
/// # Errors
/// As for every walk over a name: see [`Malformed`].
pub(crate) fn skip_name(message: &[u8], at: usize) -> Result<usize, Malformed> {
    walk_name(message, at, |_| {})
}

/// Appends the name at `at`, uncompressed and in its own case, and returns the offset after it.
///
/// # Errors
/// As for every walk over a name: see [`Malformed`].
pub(crate) fn expand_name(
    message: &[u8],
    at: usize,
    out: &mut Vec<u8>,
) -> Result<usize, Malformed> {
    walk_name(message, at, |label| out.extend_from_slice(label))
}

/// The question of a message in canonical form: what caches and tables are keyed with.
///
/// **Shape**: two octets of flags, type, class, then the name uncompressed and in lower case. The
/// name comes last so that the key of a parent domain can be made in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    octets: [u8; Question::PREFIX + NAME_MAX],
    len: u16,
    /// Offset of the octet after the question in its message.
    pub(crate) end: u16,
}

impl Question {
    /// Octets before the name.
    pub(crate) const PREFIX: usize = 6;

    /// Reads the question that follows the header.
    ///
    /// # Errors
    /// As for every walk over a name; a pointer is always wrong here, nothing precedes it.
    #[inline]
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut octets = [0; Self::PREFIX + NAME_MAX];
        let mut len = Self::PREFIX;
        let end = walk_name(message, HEADER_LEN, |label| {
            for (to, from) in octets[len..len + label.len()].iter_mut().zip(label) {
                *to = from.to_ascii_lowercase();
            }
            len += label.len();
        })?;
        let rest = message.get(end..end + 4).ok_or(Malformed::Truncated)?;
        octets[2..Self::PREFIX].copy_from_slice(rest);
        // Both fit: a name has at most 255 octets and starts at offset 12.
        Ok(Self { octets, len: len as u16, end: end as u16 + 4 })
    }

    /// The type asked for.
    pub(crate) fn rtype(&self) -> u16 {
        u16::from_be_bytes([self.octets[2], self.octets[3]])
    }

    /// The class asked for.
    pub(crate) fn class(&self) -> u16 {
        u16::from_be_bytes([self.octets[4], self.octets[5]])
    }

    /// The name: uncompressed, lower case, with the root label.
    pub(crate) fn name(&self) -> &[u8] {
        &self.octets[Self::PREFIX..usize::from(self.len)]
    }

    /// Type, class and name: what an answer has to repeat (RFC 5452 §9.1).
    pub(crate) fn identity(&self) -> &[u8] {
        &self.octets[2..usize::from(self.len)]
    }

    /// The whole key, with `flags` in front.
    pub(crate) fn key(&mut self, flags: u16) -> &[u8] {
        self.octets[..2].copy_from_slice(&flags.to_be_bytes());
        &self.octets[..usize::from(self.len)]
    }

    /// Calls `visit` with the key of this name and of each parent but the root, nearest first, for
    /// type `rtype`, until it returns something.
    pub(crate) fn find_upwards<T>(
        &self,
        flags: u16,
        rtype: u16,
        mut visit: impl FnMut(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let mut octets = self.octets;
        let mut at = Self::PREFIX;
        while octets[at] != 0 {
            let start = at - Self::PREFIX;
            let label = usize::from(octets[at]);
            octets[start..start + 2].copy_from_slice(&flags.to_be_bytes());
            octets[start + 2..start + 4].copy_from_slice(&rtype.to_be_bytes());
            octets[start + 4..at].copy_from_slice(&self.octets[4..6]);
            if let Some(found) = visit(&octets[start..usize::from(self.len)]) {
                return Some(found);
            }
            at += 1 + label;
        }
        None
    }
}

/// Which part of a message a record stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// A resource record as offsets into its message.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) section: Section,
    /// Where its name starts.
    pub(crate) start: usize,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// Where its TTL stands.
    pub(crate) ttl_at: usize,
    pub(crate) ttl: u32,
    pub(crate) rdata: Range<usize>,
}

/// A walk over the records behind the question.
pub(crate) struct Records<'a> {
    message: &'a [u8],
    at: usize,
    left: [u16; 3],
}

impl<'a> Records<'a> {
    /// Starts a walk at `at`, the offset after the question.
    ///
    /// # Errors
    /// If the message is shorter than a header.
    #[inline]
    pub(crate) fn new(message: &'a [u8], at: usize) -> Result<Self, Malformed> {
        let left = [u16_at(message, 6)?, u16_at(message, 8)?, u16_at(message, 10)?];
        Ok(Self { message, at, left })
    }

    /// The offset after the last record that was read.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Reads the next record, or nothing after the last one.
    ///
    /// # Errors
    /// A malformed name or a record that does not fit into the message.
    #[inline]
    pub(crate) fn read(&mut self) -> Result<Option<Record>, Malformed> {
        let section = match self.left {
            [0, 0, 0] => return Ok(None),
            [0, 0, _] => Section::Additional,
            [0, _, _] => Section::Authority,
            _ => Section::Answer,
        };
        self.left[section as usize] -= 1;
        let start = self.at;
        let fixed = skip_name(self.message, start)?;
        let rdata_start = fixed + 10;
        let rdata_end = rdata_start + usize::from(u16_at(self.message, fixed + 8)?);
        if rdata_end > self.message.len() {
            return Err(Malformed::Truncated);
        }
        self.at = rdata_end;
        Ok(Some(Record {
            section,
            start,
            rtype: u16_at(self.message, fixed)?,
            class: u16_at(self.message, fixed + 2)?,
            ttl_at: fixed + 4,
            ttl: u32_at(self.message, fixed + 4)?,
            rdata: rdata_start..rdata_end,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_with(name: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER_LEN];
        message[5] = 1;
        message.extend_from_slice(name);
        message.extend_from_slice(&[0, 1, 0, 1]);
        message
    }

    #[test]
    fn question_is_lower_cased_and_keeps_type_and_class() {
        let message = message_with(b"\x03WwW\x02Ex\x00");
        let mut question = Question::parse(&message).unwrap();
        assert_eq!(question.name(), b"\x03www\x02ex\x00");
        assert_eq!((question.rtype(), question.class()), (1, 1));
        assert_eq!(usize::from(question.end), message.len());
        assert_eq!(question.key(0x0100), b"\x01\x00\x00\x01\x00\x01\x03www\x02ex\x00");
    }

    #[test]
    fn dn3_pointer_to_itself_or_forward_is_refused() {
        for pointer in [12_u8, 13, 40] {
            let message = message_with(&[0xc0, pointer]);
            assert_eq!(Question::parse(&message).err(), Some(Malformed::Pointer));
        }
    }

    #[test]
    fn dn3_two_pointers_that_form_a_loop_are_refused() {
        // Offset 12: "a" then a pointer to 16; offset 16: a pointer back to 12.
        let message = [&[0; 12][..], b"\x01a\xc0\x10", b"\xc0\x0c"].concat();
        assert_eq!(skip_name(&message, 16), Err(Malformed::Pointer));
        assert_eq!(skip_name(&message, 12), Err(Malformed::Pointer));
    }

    #[test]
    fn dn3_name_of_256_octets_is_refused_and_of_255_is_read() {
        let mut name = Vec::new();
        for _ in 0..3 {
            name.push(63);
            name.extend_from_slice(&[b'x'; 63]);
        }
        let longest = [&name[..], &[61], &[b'x'; 61], &[0]].concat();
        let too_long = [&name[..], &[62], &[b'x'; 62], &[0]].concat();
        assert_eq!(Question::parse(&message_with(&longest)).unwrap().name().len(), 255);
        assert_eq!(Question::parse(&message_with(&too_long)).err(), Some(Malformed::NameTooLong));
    }

    #[test]
    fn dn3_reserved_label_types_are_refused() {
        for octet in [0x40, 0x80] {
            let message = message_with(&[octet, 0]);
            assert_eq!(Question::parse(&message).err(), Some(Malformed::LabelType));
        }
    }

    #[test]
    fn parents_are_visited_nearest_first_and_never_the_root() {
        let question = Question::parse(&message_with(b"\x01a\x01b\x01c\x00")).unwrap();
        let mut seen = Vec::new();
        question.find_upwards(7, 9, |key| {
            seen.push(key.to_vec());
            None::<()>
        });
        assert_eq!(
            seen,
            [
                b"\x00\x07\x00\x09\x00\x01\x01a\x01b\x01c\x00".to_vec(),
                b"\x00\x07\x00\x09\x00\x01\x01b\x01c\x00".to_vec(),
                b"\x00\x07\x00\x09\x00\x01\x01c\x00".to_vec(),
            ]
        );
    }
}
