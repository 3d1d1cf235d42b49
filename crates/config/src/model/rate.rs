//! Rates with a unit.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::defaults;

/// A rate between 64 kbit/s and 10 Gbit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// The rate in bits per second.
    #[must_use]
    pub const fn bits_per_sec(self) -> u64 {
        self.0
    }
}

/// Why a text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRateError {
    /// A number alone says nothing.
    #[error("a rate needs a unit")]
    NoUnit {
        /// The digits that were given.
        number: String,
    },
    /// The unit is none of those that exist.
    #[error("`{unit}` is no unit of rate")]
    UnknownUnit {
        /// What stands behind the number.
        unit: String,
    },
    /// There is no number in front of the unit.
    #[error("`{text}` does not begin with a number")]
    NoNumber {
        /// The whole text.
        text: String,
    },
    /// Too slow or too fast.
    #[error("a rate lies between 64kbit/s and 10Gbit/s")]
    OutOfRange,
}

impl ParseRateError {
    /// What to write instead.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            ParseRateError::NoUnit { number } => {
                format!("write the unit: `{number}Mbit/s`, `{number}kbit/s` or `{number}Gbit/s`")
            }
            ParseRateError::UnknownUnit { .. } => {
                "use kbit/s, Mbit/s or Gbit/s (bits, not bytes)".to_owned()
            }
            ParseRateError::NoNumber { .. } => "write a rate such as `100Mbit/s`".to_owned(),
            ParseRateError::OutOfRange => {
                "give a rate in that range, or leave the key out for no shaping".to_owned()
            }
        }
    }
}

impl FromStr for Rate {
    type Err = ParseRateError;

    /// Reads `100Mbit/s`, `2.5 Gbit/s`, `512kbit/s`.
    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..split], text[split..].trim());
        let Some(amount) = number.parse::<f64>().ok().filter(|amount| amount.is_finite()) else {
            return Err(ParseRateError::NoNumber { text: text.to_owned() });
        };
        let scale = match unit {
            "" => return Err(ParseRateError::NoUnit { number: number.to_owned() }),
            "bit/s" => 1.0,
            "kbit/s" => 1e3,
            "Mbit/s" => 1e6,
            "Gbit/s" => 1e9,
            _ => return Err(ParseRateError::UnknownUnit { unit: unit.to_owned() }),
        };
        let bits = (amount * scale).round();
        if bits < defaults::RATE_MIN as f64 || bits > defaults::RATE_MAX as f64 {
            return Err(ParseRateError::OutOfRange);
        }
        Ok(Rate(bits as u64))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0;
        for (scale, unit) in [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s"), (1_000, "kbit/s")] {
            if bits.is_multiple_of(scale) {
                return write!(f, "{}{unit}", bits / scale);
            }
        }
        write!(f, "{bits}bit/s")
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_with_their_units() {
        for (text, bits) in [
            ("100Mbit/s", 100_000_000),
            ("512kbit/s", 512_000),
            ("1Gbit/s", 1_000_000_000),
            ("2.5 Gbit/s", 2_500_000_000),
            ("64000bit/s", 64_000),
        ] {
            assert_eq!(text.parse::<Rate>().map(Rate::bits_per_sec), Ok(bits), "{text}");
        }
    }

    #[test]
    fn a_printed_rate_reads_back_as_the_same_rate() {
        for bits in [64_000, 64_001, 1_500_000, 20_000_000, 10_000_000_000] {
            assert_eq!(Rate(bits).to_string().parse(), Ok(Rate(bits)));
        }
    }

    #[test]
    fn a_plain_number_is_refused_with_the_units() {
        let error = "100".parse::<Rate>().unwrap_err();
        assert!(error.remedy().contains("100Mbit/s"), "{}", error.remedy());
    }

    #[test]
    fn rates_outside_the_limits_are_refused() {
        for text in ["63kbit/s", "10.1Gbit/s", "0Mbit/s", "99999999999999999999Gbit/s"] {
            assert_eq!(text.parse::<Rate>(), Err(ParseRateError::OutOfRange), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["", "fast", "-5Mbit/s", "1..2Mbit/s", "100MB/s", "100Mbps", "NaNMbit/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
