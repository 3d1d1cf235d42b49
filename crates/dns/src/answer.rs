//! What a server answered: is it sound, how long may it live, what is kept of it.
//!
//! One answer message is one unit. It is kept and given out whole, under the question it answers,
//! so no record of it ever answers another question: whatever a server adds out of zone stays
//! where it is (RFC 2181 §5.4.1, DN14).

use std::net::IpAddr;

use crate::rebinding;
use crate::wire::{
    self, FLAG_AA, FLAG_TC, FLAGS_RCODE, HEADER_LEN, Malformed, Question, Rcode, Records, Section,
};

/// TTLs above this are cut to it; one with the top bit set is large, not negative (RFC 8767 §4,
/// DN13). Seconds.
pub(crate) const TTL_MAX: u32 = 7 * 86_400;

/// Longest life of an answer that says no (RFC 2308 §5, DN15). Seconds.
pub(crate) const TTL_NEGATIVE_MAX: u32 = 3 * 3_600;

/// Life of a server's failure: long enough to break a storm of retries, far below the 5 minutes
/// that RFC 2308 §7.1 allows, because servers recover (DN15, RFC 9520 §3.2). Seconds.
pub(crate) const TTL_FAILURE: u32 = 5;

/// The authority's SOA record in an answer that says no.
#[derive(Clone, Debug)]
struct Soa {
    start: usize,
    ttl_at: usize,
    /// min(TTL, MINIMUM), seconds.
    ttl: u32,
    end: usize,
}

/// An upstream answer that repeats the question, walked once.
#[derive(Debug)]
pub(crate) struct Answer {
    /// With the upper bits from OPT (RFC 6891 §6.1.3).
    pub(crate) rcode: u16,
    pub(crate) truncated: bool,
    question_end: usize,
    /// Where the kept part ends: at OPT if there is one. `additional_kept` records precede it.
    kept_end: usize,
    additional_kept: u16,
    ttl_offsets: Vec<u16>,
    /// Shortest TTL of all records that are kept.
    ttl: u32,
    answers: u16,
    /// True if a record of the answer section has the type that was asked for.
    satisfied: bool,
    soa: Option<Soa>,
    signed: bool,
    /// A private address in it (DN24).
    pub(crate) private: Option<IpAddr>,
}

impl Answer {
    /// Reads an answer to `question`.
    ///
    /// # Errors
    /// A record or a name, also within the data of the types that may be compressed, is malformed.
    pub(crate) fn parse(message: &[u8], question: &Question) -> Result<Self, Malformed> {
        let flags = wire::u16_at(message, 2)?;
        let mut answer = Answer {
            rcode: flags & FLAGS_RCODE,
            truncated: flags & FLAG_TC != 0,
            question_end: usize::from(question.end),
            kept_end: 0,
            additional_kept: 0,
            ttl_offsets: Vec::new(),
            ttl: TTL_MAX,
            answers: wire::u16_at(message, 6)?,
            satisfied: false,
            soa: None,
            signed: false,
            private: None,
        };
        let mut records = Records::new(message, answer.question_end)?;
        let mut opt_seen = false;
        while let Some(record) = records.read()? {
            if record.rtype == wire::TYPE_OPT && record.section == Section::Additional {
                answer.rcode |= (record.ttl >> 24 << 4) as u16;
                opt_seen = true;
            } else {
                answer.take(message, &record, question, opt_seen)?;
            }
            if !opt_seen {
                answer.kept_end = records.offset();
            }
        }
        answer.kept_end = answer.kept_end.max(answer.question_end);
        Ok(answer)
    }

    fn take(
        &mut self,
        message: &[u8],
        record: &wire::Record,
        question: &Question,
        behind_opt: bool,
    ) -> Result<(), Malformed> {
        check_names(message, record)?;
        match record.section {
            Section::Answer => {
                self.satisfied |=
                    record.rtype == question.rtype() || question.rtype() == wire::TYPE_ANY;
            }
            Section::Authority if record.rtype == wire::TYPE_SOA && self.soa.is_none() => {
                self.soa = Some(Soa {
                    start: record.start,
                    ttl_at: record.ttl_at,
                    ttl: soa_minimum(message, record)?.min(record.ttl),
                    end: record.rdata.end,
                });
            }
            Section::Authority => {}
            Section::Additional => {
                self.signed |= matches!(record.rtype, wire::TYPE_TSIG | wire::TYPE_SIG);
                self.additional_kept += u16::from(!behind_opt);
            }
        }
        if self.private.is_none() && record.class == wire::CLASS_IN {
            self.private = rebinding::private_address(message, record);
        }
        // Offsets beyond 65535 do not exist: a message is not longer.
        if !behind_opt {
            self.ttl_offsets.push(record.ttl_at as u16);
            self.ttl = self.ttl.min(record.ttl);
        }
        Ok(())
    }

    /// True if another server may know better: the failure is the server's, not the name's (DN20).
    pub(crate) fn is_failure(&self) -> bool {
        [Rcode::ServFail, Rcode::Refused, Rcode::NotImp]
            .iter()
            .any(|rcode| *rcode as u16 == self.rcode)
    }

    /// What can be said again to another client, or nothing if the answer is for one client only:
    /// signed, truncated, or with a code that speaks about the client's EDNS.
    pub(crate) fn kept(&self, message: &[u8]) -> Option<Kept> {
        if self.truncated || self.signed || self.rcode > FLAGS_RCODE {
            return None;
        }
        let mut kept = message[..self.kept_end].to_vec();
        let flags = u16::from_be_bytes([kept[2], kept[3]]) & !FLAG_AA;
        wire::put_u16(&mut kept, 2, flags);
        wire::put_u16(&mut kept, 10, self.additional_kept);
        for at in &self.ttl_offsets {
            let at = usize::from(*at);
            let ttl = u32::from_be_bytes([kept[at], kept[at + 1], kept[at + 2], kept[at + 3]]);
            wire::put_u32(&mut kept, at, ttl.min(TTL_MAX));
        }
        if let Some(soa) = self.soa.as_ref().filter(|_| self.is_negative()) {
            wire::put_u32(&mut kept, soa.ttl_at, self.ttl_negative(soa));
        }
        Some(Kept {
            message: kept.into_boxed_slice(),
            ttl_offsets: self.ttl_offsets.clone().into_boxed_slice(),
            question_end: self.question_end,
        })
    }

    /// True if the name or the type does not exist (RFC 2308 §2).
    fn is_negative(&self) -> bool {
        self.rcode == Rcode::NxDomain as u16
            || (self.rcode == Rcode::NoError as u16 && !self.satisfied)
    }

    fn ttl_negative(&self, soa: &Soa) -> u32 {
        self.ttl.min(soa.ttl).min(TTL_NEGATIVE_MAX)
    }

    /// How the answer is to be cached, or nothing if it is not (DN13, DN15).
    pub(crate) fn lifetime(&self) -> Option<Lifetime> {
        const NO_ERROR: u16 = Rcode::NoError as u16;
        const NX_DOMAIN: u16 = Rcode::NxDomain as u16;
        const SERV_FAIL: u16 = Rcode::ServFail as u16;
        let (scope, seconds) = match self.rcode {
            NO_ERROR if self.satisfied => (Scope::Type, self.ttl),
            NO_ERROR => (Scope::Type, self.ttl_negative(self.soa.as_ref()?)),
            // With a CNAME in front it is the target that does not exist (RFC 2308 §2.1).
            NX_DOMAIN if self.answers > 0 => (Scope::Type, self.ttl_negative(self.soa.as_ref()?)),
            NX_DOMAIN => (Scope::Name, self.ttl_negative(self.soa.as_ref()?)),
            SERV_FAIL => (Scope::Failure, TTL_FAILURE),
            _ => return None,
        };
        (seconds > 0).then_some(Lifetime { scope, seconds })
    }

    /// The SOA record of a negative answer with its names written out, to stand in another message.
    pub(crate) fn soa_record(&self, message: &[u8]) -> Option<Box<[u8]>> {
        let soa = self.soa.as_ref()?;
        let mut record = Vec::with_capacity(soa.end - soa.start);
        let fixed = wire::expand_name(message, soa.start, &mut record).ok()?;
        record.extend_from_slice(&message[fixed..fixed + 4]);
        record.extend_from_slice(&self.ttl_negative(soa).to_be_bytes());
        let length_at = record.len();
        record.extend_from_slice(&[0; 2]);
        let rname = wire::expand_name(message, fixed + 10, &mut record).ok()?;
        let numbers = wire::expand_name(message, rname, &mut record).ok()?;
        record.extend_from_slice(&message[numbers..soa.end]);
        let length = u16::try_from(record.len() - length_at - 2).ok()?;
        wire::put_u16(&mut record, length_at, length);
        Some(record.into_boxed_slice())
    }
}

/// What an answer that is cached stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// The type at the name: records, or their absence.
    Type,
    /// The name, and all below: it does not exist (RFC 8020).
    Name,
    /// The servers' inability to say.
    Failure,
}

/// How an answer is to be cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lifetime {
    pub(crate) scope: Scope,
    pub(crate) seconds: u32,
}

/// An answer without what concerned one client only: OPT gone, TTLs within limits, AA clear.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) message: Box<[u8]>,
    /// Where the TTLs stand.
    pub(crate) ttl_offsets: Box<[u16]>,
    pub(crate) question_end: usize,
}

impl Kept {
    /// Writes the answer for a client that asked for the same name: its id and spelling, and each
    /// TTL as `age` has left it. OPT is for the caller to add.
    #[inline]
    pub(crate) fn write(&self, out: &mut Vec<u8>, id: u16, question: &[u8], age: Age) {
        debug_assert_eq!(HEADER_LEN + question.len(), self.question_end);
        out.clear();
        out.extend_from_slice(&self.message);
        wire::put_u16(out, 0, id);
        out[HEADER_LEN..HEADER_LEN + question.len()].copy_from_slice(question);
        for at in &self.ttl_offsets {
            let at = usize::from(*at);
            let field = &mut out[at..at + 4];
            let ttl = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
            let left = match age {
                Age::Fresh { seconds } => ttl.saturating_sub(seconds),
                Age::Stale { ttl } => ttl,
            };
            field.copy_from_slice(&left.to_be_bytes());
        }
    }
}

/// How old an answer is that is given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Age {
    /// Whole seconds since it came.
    Fresh {
        /// To be taken off each TTL.
        seconds: u32,
    },
    /// Past its life; every TTL becomes this.
    Stale {
        /// RFC 8767 §4: 30 seconds.
        ttl: u32,
    },
}

/// Checks the names in the data of the types whose names may be compressed (RFC 3597 §4), so that
/// no client gets to see a pointer loop (DN3).
fn check_names(message: &[u8], record: &wire::Record) -> Result<(), Malformed> {
    let start = record.rdata.start;
    let end = match record.rtype {
        wire::TYPE_NS | wire::TYPE_CNAME | wire::TYPE_PTR => wire::skip_name(message, start)?,
        wire::TYPE_MX => wire::skip_name(message, start + 2)?,
        wire::TYPE_SOA => wire::skip_name(message, wire::skip_name(message, start)?)? + 20,
        _ => return Ok(()),
    };
    if end == record.rdata.end { Ok(()) } else { Err(Malformed::Truncated) }
}

/// The MINIMUM field, last of an SOA record that `check_names` has passed.
fn soa_minimum(message: &[u8], record: &wire::Record) -> Result<u32, Malformed> {
    wire::u32_at(message, record.rdata.end - 4)
}
