//! Answers that the forwarder writes itself: errors, truncated answers, local records.
//!
//! A reply is `header, question as the client spelled it, records, OPT`. It never exceeds what the
//! client can take: if the records do not fit, they are left out and TC is set (DN5).

use crate::Transport;
use crate::query::{Edns, Query};
use crate::wire::{
    self, EDNS_DO, FLAG_AA, FLAG_CD, FLAG_QR, FLAG_RA, FLAG_RD, FLAG_TC, FLAGS_OPCODE, HEADER_LEN,
    MESSAGE_MAX, Rcode,
};

/// What anyone may send over UDP without asking (RFC 1035 §4.2.1).
pub(crate) const PAYLOAD_PLAIN: u16 = 512;

/// Octets of an OPT record without options.
pub(crate) const OPT_LEN: usize = 11;

/// Octets of an extended error without text, as an option.
const EXTENDED_ERROR_LEN: usize = 6;

/// Why an answer is what it is, for the client's eyes (RFC 8914 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum ExtendedError {
    StaleAnswer = 3,
    Blocked = 15,
    NoReachableAuthority = 22,
    NetworkError = 23,
}

/// The parts of a query that its reply repeats.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// Name, type and class, octet for octet (the client may check the case of the name).
    pub(crate) question: &'a [u8],
    pub(crate) edns: Option<Edns>,
    /// Octets the client can take.
    pub(crate) limit: usize,
}

impl<'a> Ask<'a> {
    /// Takes from `query` what its reply needs; `payload_max` caps what goes over UDP.
    #[inline]
    pub(crate) fn new(query: &Query<'a>, transport: Transport, payload_max: u16) -> Self {
        Self {
            id: query.id,
            flags: query.flags,
            question: query.question_octets(),
            edns: query.edns,
            limit: limit(transport, query.edns, payload_max),
        }
    }
}

/// How many octets a client can take (DN5, DN6).
#[inline]
fn limit(transport: Transport, edns: Option<Edns>, payload_max: u16) -> usize {
    match (transport, edns) {
        (Transport::Tcp, _) => MESSAGE_MAX,
        (Transport::Udp, None) => usize::from(PAYLOAD_PLAIN),
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.payload.min(payload_max).max(PAYLOAD_PLAIN))
        }
    }
}

/// What stands in the header of a reply beside the id.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) flags: u16,
    pub(crate) answers: u16,
    pub(crate) authorities: u16,
}

impl Head {
    /// The flags of an answer that comes from here: opcode, RD and CD as asked.
    pub(crate) fn ours(ask: &Ask<'_>, rcode: Rcode) -> Self {
        let kept = ask.flags & (FLAGS_OPCODE | FLAG_RD | FLAG_CD);
        Self { flags: FLAG_QR | FLAG_RA | kept | rcode as u16, answers: 0, authorities: 0 }
    }

    /// As `ours`, from data that this router is the authority for.
    pub(crate) fn authoritative(ask: &Ask<'_>, rcode: Rcode) -> Self {
        let mut head = Self::ours(ask, rcode);
        head.flags |= FLAG_AA;
        head
    }
}

/// Writes a reply whose records are `records`, in wire form; names in them may point to offset 12.
pub(crate) fn write(
    out: &mut Vec<u8>,
    ask: &Ask<'_>,
    head: Head,
    records: &[u8],
    error: Option<ExtendedError>,
) {
    out.clear();
    out.extend_from_slice(&ask.id.to_be_bytes());
    out.extend_from_slice(&head.flags.to_be_bytes());
    for count in [1, head.answers, head.authorities, 0] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    out.extend_from_slice(ask.question);
    out.extend_from_slice(records);
    finish(out, ask, error);
}

/// Completes a reply that has its records: cuts them off if they do not fit, appends OPT.
pub(crate) fn finish(out: &mut Vec<u8>, ask: &Ask<'_>, error: Option<ExtendedError>) {
    let error = error.filter(|_| ask.edns.is_some());
    let option_len = if error.is_some() { EXTENDED_ERROR_LEN } else { 0 };
    let opt_len = if ask.edns.is_some() { OPT_LEN + option_len } else { 0 };
    if out.len() + opt_len > ask.limit {
        truncate(out, ask);
    }
    let Some(edns) = ask.edns else { return };
    let additional = u16::from_be_bytes([out[10], out[11]]);
    wire::put_u16(out, 10, additional.saturating_add(1));
    out.push(0);
    out.extend_from_slice(&wire::TYPE_OPT.to_be_bytes());
    out.extend_from_slice(&crate::PAYLOAD_ADVERTISED.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&(edns.flags & EDNS_DO).to_be_bytes());
    out.extend_from_slice(&(option_len as u16).to_be_bytes());
    if let Some(error) = error {
        const CODE: u16 = 15;
        for field in [CODE, 2, error as u16] {
            out.extend_from_slice(&field.to_be_bytes());
        }
    }
}

/// Leaves header and question, and says so with TC (RFC 2181 §9).
fn truncate(out: &mut Vec<u8>, ask: &Ask<'_>) {
    out.truncate(HEADER_LEN + ask.question.len());
    let flags = u16::from_be_bytes([out[2], out[3]]);
    wire::put_u16(out, 2, flags | FLAG_TC);
    out[6..HEADER_LEN].fill(0);
}

/// Writes an answer from upstream for the client whose query was forwarded: every octet as it came
/// but the id and the case of the question. Too large an answer is truncated instead.
pub(crate) fn relay(out: &mut Vec<u8>, ask: &Ask<'_>, answer: &[u8], spelling: Spelling) {
    out.clear();
    if answer.len() > ask.limit {
        out.extend_from_slice(&answer[..HEADER_LEN]);
        wire::put_u16(out, 0, ask.id);
        out.extend_from_slice(ask.question);
        truncate(out, ask);
        return finish(out, ask, None);
    }
    out.extend_from_slice(answer);
    wire::put_u16(out, 0, ask.id);
    if spelling == Spelling::Client {
        out[HEADER_LEN..HEADER_LEN + ask.question.len()].copy_from_slice(ask.question);
    }
}

/// Whose letters the question of a relayed answer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spelling {
    /// The client's: it may compare octets.
    Client,
    /// As it came, because a signature covers it.
    Upstream,
}

/// Writes an error for a message of which only the header was readable.
pub(crate) fn bare_error(out: &mut Vec<u8>, message: &[u8], rcode: Rcode) {
    let asked = u16::from_be_bytes([message[2], message[3]]);
    let flags = FLAG_QR | FLAG_RA | asked & (FLAGS_OPCODE | FLAG_RD | FLAG_CD) | rcode as u16;
    out.clear();
    out.extend_from_slice(&message[..2]);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x01a\x02ex\x00\x00\x01\x00\x01";

    fn ask(edns: Option<Edns>) -> Ask<'static> {
        let limit = limit(Transport::Udp, edns, 1232);
        Ask { id: 7, flags: FLAG_RD, question: QUESTION, edns, limit }
    }

    fn edns(payload: u16) -> Option<Edns> {
        Some(Edns { payload, flags: 0, payload_at: 0 })
    }

    #[test]
    fn dn6_limit_follows_the_client_between_512_and_our_own_cap() {
        assert_eq!(ask(None).limit, 512);
        assert_eq!(ask(edns(100)).limit, 512);
        assert_eq!(ask(edns(900)).limit, 900);
        assert_eq!(ask(edns(4096)).limit, 1232);
        assert_eq!(limit(Transport::Tcp, None, 1232), MESSAGE_MAX);
    }

    #[test]
    fn dn5_answer_too_large_keeps_question_and_opt_and_sets_tc() {
        let ask = ask(edns(512));
        let mut out = vec![0xee; 4];
        let head = Head { answers: 1, ..Head::ours(&ask, Rcode::NoError) };
        write(&mut out, &ask, head, &[0; 600], None);
        assert_eq!(out.len(), HEADER_LEN + QUESTION.len() + OPT_LEN);
        assert_eq!(out[2] & 0x02, 0x02);
        assert_eq!(out[4..12], [0, 1, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn extended_error_needs_edns() {
        let mut out = Vec::new();
        for (edns, len) in [(None, 0), (edns(512), OPT_LEN + EXTENDED_ERROR_LEN)] {
            let ask = ask(edns);
            let head = Head::ours(&ask, Rcode::ServFail);
            write(&mut out, &ask, head, &[], Some(ExtendedError::NetworkError));
            assert_eq!(out.len(), HEADER_LEN + QUESTION.len() + len);
        }
    }
}
