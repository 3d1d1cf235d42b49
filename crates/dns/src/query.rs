//! What a client asked, and how transparently it has to be treated.

use crate::wire::{
    self, EDNS_DO, FLAG_QR, FLAGS_OPCODE, HEADER_LEN, Malformed, Question, Rcode, Records, Section,
};

/// What the client said in its OPT record (RFC 6891 §6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Edns {
    /// UDP payload the client can take, in octets.
    pub(crate) payload: u16,
    /// The flags, of which only DO is known (RFC 3225).
    pub(crate) flags: u16,
    /// Where the payload size stands in the query.
    pub(crate) payload_at: usize,
}

/// How much of a query is understood, and so what may be done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Treatment {
    /// A plain question: it may be answered from the cache and its answer be kept.
    Plain,
    /// Has parts whose effect on the answer is unknown: forwarded, never answered from the cache.
    Opaque,
    /// Signed (TSIG or SIG(0)): as `Opaque`, and no octet but the id may change (RFC 5625 §4.5).
    Signed,
}

/// A query from a client, as facts about its octets.
pub(crate) struct Query<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) question: Question,
    pub(crate) edns: Option<Edns>,
    pub(crate) treatment: Treatment,
}

/// Why a query is not looked at further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unusable {
    /// No answer is possible or allowed: no readable id, or itself a response.
    Silent,
    /// It is answered with this code and nothing else.
    Refused(Rcode),
}

impl From<Malformed> for Unusable {
    fn from(_: Malformed) -> Self {
        Unusable::Refused(Rcode::FormErr)
    }
}

const OPCODE_QUERY: u16 = 0;
const OPCODE_NOTIFY: u16 = 4;
const OPCODE_UPDATE: u16 = 5;

impl<'a> Query<'a> {
    /// Reads a query.
    ///
    /// # Errors
    /// [`Unusable`] says whether an error answer is due, and which.
    #[inline]
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Unusable> {
        if message.len() < HEADER_LEN || message[2] & 0x80 != 0 {
            return Err(Unusable::Silent);
        }
        let flags = wire::u16_at(message, 2)?;
        let opcode = (flags & FLAGS_OPCODE) >> 11;
        if !matches!(opcode, OPCODE_QUERY | OPCODE_NOTIFY | OPCODE_UPDATE) {
            return Err(Unusable::Refused(Rcode::NotImp));
        }
        if wire::u16_at(message, 4)? != 1 {
            return Err(Unusable::Refused(Rcode::FormErr));
        }
        let question = Question::parse(message)?;
        let (edns, treatment) = survey(message, usize::from(question.end))?;
        // Type 0 marks a name that does not exist in the cache's keys; nobody may store under it.
        let treatment = match treatment {
            Treatment::Plain if opcode != OPCODE_QUERY || question.rtype() == 0 => {
                Treatment::Opaque
            }
            other => other,
        };
        let id = wire::u16_at(message, 0)?;
        Ok(Self { message, id, flags, question, edns, treatment })
    }

    /// True for an ordinary question, false for NOTIFY and UPDATE.
    pub(crate) fn is_question(&self) -> bool {
        self.flags & FLAGS_OPCODE == 0
    }

    /// All of the header's flags, with DO in the place of QR: the part of a cache key that keeps
    /// answers apart which may differ (RFC 4035 §3.2, RFC 6840 §5.7).
    pub(crate) fn key_flags(&self) -> u16 {
        let wants_dnssec = self.edns.is_some_and(|edns| edns.flags & EDNS_DO != 0);
        self.flags | if wants_dnssec { FLAG_QR } else { 0 }
    }

    /// The octets of the question as the client spelled it.
    pub(crate) fn question_octets(&self) -> &'a [u8] {
        &self.message[HEADER_LEN..usize::from(self.question.end)]
    }
}

/// Looks at everything behind the question.
#[inline]
fn survey(message: &[u8], at: usize) -> Result<(Option<Edns>, Treatment), Unusable> {
    let mut records = Records::new(message, at)?;
    let mut edns = None;
    let mut treatment = Treatment::Plain;
    while let Some(record) = records.read()? {
        let additional = record.section == Section::Additional;
        match record.rtype {
            wire::TYPE_OPT => {
                // RFC 6891 §6.1.1: one, in the additional section, named by the root.
                if !additional || edns.is_some() || message[record.start] != 0 {
                    return Err(Unusable::Refused(Rcode::FormErr));
                }
                let flags = record.ttl as u16;
                let version_or_rcode = record.ttl >> 16;
                if version_or_rcode != 0
                    || flags & !EDNS_DO != 0
                    || !options_are_hop_by_hop(&message[record.rdata])?
                {
                    treatment = treatment.max_with(Treatment::Opaque);
                }
                let payload_at = record.ttl_at - 2;
                edns = Some(Edns { payload: record.class, flags, payload_at });
            }
            wire::TYPE_TSIG | wire::TYPE_SIG if additional => treatment = Treatment::Signed,
            _ => treatment = treatment.max_with(Treatment::Opaque),
        }
    }
    if records.offset() != message.len() {
        return Err(Unusable::Refused(Rcode::FormErr));
    }
    Ok((edns, treatment))
}

impl Treatment {
    /// The stricter of two.
    fn max_with(self, other: Treatment) -> Treatment {
        match (self, other) {
            (Treatment::Signed, _) | (_, Treatment::Signed) => Treatment::Signed,
            (Treatment::Opaque, _) | (_, Treatment::Opaque) => Treatment::Opaque,
            _ => Treatment::Plain,
        }
    }
}

/// True if no option can change the records of the answer, so that a cached one may serve.
fn options_are_hop_by_hop(mut options: &[u8]) -> Result<bool, Malformed> {
    const NSID: u16 = 3;
    const COOKIE: u16 = 10;
    const KEEPALIVE: u16 = 11;
    const PADDING: u16 = 12;
    const EXTENDED_ERROR: u16 = 15;
    let mut hop_by_hop = true;
    while !options.is_empty() {
        let code = wire::u16_at(options, 0)?;
        let end = 4 + usize::from(wire::u16_at(options, 2)?);
        options = options.get(end..).ok_or(Malformed::Truncated)?;
        hop_by_hop &= matches!(code, NSID | COOKIE | KEEPALIVE | PADDING | EXTENDED_ERROR);
    }
    Ok(hop_by_hop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02ex\x00\x00\x01\x00\x01";

    fn with_additional(record: &[u8]) -> Vec<u8> {
        let mut message = [PLAIN, record].concat();
        message[11] = 1;
        message
    }

    fn treatment(message: &[u8]) -> Result<Treatment, Unusable> {
        Query::parse(message).map(|query| query.treatment)
    }

    #[test]
    fn plain_question_may_use_the_cache() {
        assert_eq!(treatment(PLAIN), Ok(Treatment::Plain));
    }

    #[test]
    fn dn6_cookie_leaves_a_query_plain_and_client_subnet_does_not() {
        let cookie = with_additional(b"\0\0\x29\x10\0\0\0\x80\0\0\x0c\0\x0a\0\x0812345678");
        assert_eq!(treatment(&cookie), Ok(Treatment::Plain));
        let subnet =
            with_additional(b"\0\0\x29\x10\0\0\0\x80\0\0\x0a\0\x08\0\x06\0\x01\x10\0\x0a\0");
        assert_eq!(treatment(&subnet), Ok(Treatment::Opaque));
    }

    #[test]
    fn dn6_payload_size_and_do_are_read() {
        let message = with_additional(b"\0\0\x29\x10\0\0\0\x80\0\0\0");
        let query = Query::parse(&message).ok().unwrap();
        assert_eq!(query.edns.map(|edns| (edns.payload, edns.flags)), Some((4096, EDNS_DO)));
        assert_eq!(query.key_flags(), 0x8100);
    }

    #[test]
    fn dn7_tsig_makes_a_query_signed() {
        let message = with_additional(b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\0");
        assert_eq!(treatment(&message), Ok(Treatment::Signed));
    }

    #[test]
    fn two_opt_records_are_a_format_error() {
        let opt = b"\0\0\x29\x10\0\0\0\0\0\0\0";
        let mut message = with_additional(&[&opt[..], opt].concat());
        message[11] = 2;
        assert_eq!(treatment(&message), Err(Unusable::Refused(Rcode::FormErr)));
    }

    #[test]
    fn status_and_unassigned_opcodes_are_not_implemented() {
        for opcode in [1, 2, 3, 6, 15] {
            let mut message = PLAIN.to_vec();
            message[2] = opcode << 3;
            assert_eq!(treatment(&message), Err(Unusable::Refused(Rcode::NotImp)));
        }
    }

    #[test]
    fn responses_and_fragments_of_a_header_are_met_with_silence() {
        let mut response = PLAIN.to_vec();
        response[2] |= 0x80;
        assert_eq!(treatment(&response), Err(Unusable::Silent));
        assert_eq!(treatment(&PLAIN[..11]), Err(Unusable::Silent));
    }

    #[test]
    fn octets_behind_the_last_record_are_a_format_error() {
        let message = [PLAIN, b"x"].concat();
        assert_eq!(treatment(&message), Err(Unusable::Refused(Rcode::FormErr)));
    }
}
