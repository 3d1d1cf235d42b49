//! When a rule exists: days and hours of the week in local time.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::fault::Fault;

/// Minutes of the week since Monday 00:00, local time; below 10080.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WeekMinute(u16);

impl WeekMinute {
    /// The minute of the week at a time, given in seconds since 1970 as POSIX counts them.
    #[must_use]
    pub fn at(unix_secs: u64, offset: UtcOffset) -> Self {
        // 1970 began on a Thursday.
        const EPOCH: u64 = 3 * DAY as u64;
        let minutes = unix_secs / 60 + EPOCH + u64::from(WEEK);
        let minutes = minutes.saturating_add_signed(offset.0.into());
        Self((minutes % u64::from(WEEK)) as u16)
    }
}

/// How far local time is ahead of UTC, in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UtcOffset(i16);

impl FromStr for UtcOffset {
    type Err = Fault;

    /// Reads `+01:00`, `-03:30`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let fault = || Fault::NotUtcOffset { given: text.to_owned() };
        let (sign, rest) = match text.split_at_checked(1) {
            Some(("+", rest)) => (1, rest),
            Some(("-", rest)) => (-1, rest),
            _ => return Err(fault()),
        };
        let minutes = clock(rest).filter(|minutes| *minutes <= OFFSET_MAX).ok_or_else(fault)?;
        Ok(Self(sign * minutes as i16))
    }
}

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        let minutes = self.0.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

impl Serialize for UtcOffset {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Days of the week, and hours on each: from the first minute to before the last. Hours that end before they
/// begin, or when they begin, end on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// One bit each, Monday first; at least one.
    days: u8,
    /// Minute of the day; below 1440.
    from: u16,
    /// Minute of the day; at most 1440.
    to: u16,
}

impl Schedule {
    /// Whether the schedule includes a minute.
    #[must_use]
    pub fn contains(self, minute: WeekMinute) -> bool {
        let length = match self.to.checked_sub(self.from) {
            None | Some(0) => self.to + DAY - self.from,
            Some(length) => length,
        };
        let mut days = (0..DAYS.len() as u16).filter(|day| self.days >> day & 1 == 1);
        days.any(|day| (minute.0 + WEEK - day * DAY - self.from) % WEEK < length)
    }
}

impl FromStr for Schedule {
    type Err = Fault;

    /// Reads `mon-fri 08:00-17:00`, `sat,sun 00:00-24:00`, `daily 22:00-06:00`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let read = || {
            let (days, hours) = text.split_once(' ')?;
            let (from, to) = hours.trim().split_once('-')?;
            let (from, to) = (clock(from)?, clock(to)?);
            (from < DAY && to <= DAY).then_some(Schedule { days: days_of(days)?, from, to })
        };
        read().ok_or_else(|| Fault::NotSchedule { given: text.to_owned() })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days == EVERY_DAY {
            f.write_str("daily")?;
        } else {
            let days = DAYS.iter().enumerate().filter(|(day, _)| self.days >> day & 1 == 1);
            let names: Vec<&str> = days.map(|(_, name)| *name).collect();
            f.write_str(&names.join(","))?;
        }
        let (from, to) = (self.from, self.to);
        write!(f, " {:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// Reads `mon`, `mon-fri`, `fri-mon`, `sat,sun` or `daily`.
fn days_of(text: &str) -> Option<u8> {
    if text == "daily" {
        return Some(EVERY_DAY);
    }
    let day = |text: &str| DAYS.iter().position(|name| *name == text);
    text.split(',').try_fold(0, |all, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + DAYS.len() - first) % DAYS.len() + 1;
        Some((first..first + count).fold(all, |all, day| all | 1 << (day % DAYS.len())))
    })
}

/// Reads `08:00` as minutes.
fn clock(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours <= 24 && minutes < 60).then_some(hours * 60 + minutes)
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const EVERY_DAY: u8 = 0x7f;
/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Minutes of a week.
const WEEK: u16 = 7 * DAY;
/// Farthest that local time is from UTC: UTC+14 on Kiritimati.
const OFFSET_MAX: u16 = 14 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u16, hour: u16, minute: u16) -> WeekMinute {
        WeekMinute(day * DAY + hour * 60 + minute)
    }

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    #[test]
    fn office_hours_are_from_the_first_minute_to_before_the_last() {
        let office = schedule("mon-fri 08:00-17:00");
        for (minute, expected) in [
            (at(0, 7, 59), false),
            (at(0, 8, 0), true),
            (at(4, 16, 59), true),
            (at(4, 17, 0), false),
            (at(5, 12, 0), false),
        ] {
            assert_eq!(office.contains(minute), expected, "{minute:?}");
        }
    }

    #[test]
    fn a_night_ends_on_the_next_day_even_over_the_end_of_the_week() {
        let night = schedule("sun 22:00-06:00");
        for (minute, expected) in [
            (at(6, 21, 59), false),
            (at(6, 22, 0), true),
            (at(0, 5, 59), true),
            (at(0, 6, 0), false),
            (at(0, 22, 0), false),
        ] {
            assert_eq!(night.contains(minute), expected, "{minute:?}");
        }
    }

    #[test]
    fn days_may_be_listed_ranged_over_sunday_or_all() {
        let days = |text| {
            let schedule = schedule(&format!("{text} 00:00-24:00"));
            (0..7).filter(|day| schedule.contains(at(*day, 12, 0))).collect::<Vec<u16>>()
        };
        assert_eq!(days("sat,sun"), [5, 6]);
        assert_eq!(days("sat-mon,wed"), [0, 2, 5, 6]);
        assert_eq!(days("daily"), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(days("mon-sun"), [0, 1, 2, 3, 4, 5, 6]);
        let all = schedule("daily 09:00-09:00");
        assert!((0..WEEK).all(|minute| all.contains(WeekMinute(minute))));
    }

    #[test]
    fn schedules_print_as_they_read() {
        for text in ["mon,tue,wed 08:00-17:30", "daily 22:00-06:00", "sun 00:00-24:00"] {
            assert_eq!(schedule(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in [
            "",
            "mon",
            "08:00-17:00",
            "monday 08:00-17:00",
            "mon 8-17",
            "mon 08:00",
            "mon 08:60-17:00",
            "mon 24:00-25:00",
            "mon 24:00-12:00",
            "mon, 08:00-17:00",
            "mon +8:00-17:00",
        ] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_minute_of_the_week_follows_the_clock_and_the_offset() {
        let minute = |secs, offset: &str| WeekMinute::at(secs, offset.parse().unwrap());
        // Thursday 1970-01-01 00:00 UTC.
        assert_eq!(minute(0, "+00:00"), at(3, 0, 0));
        assert_eq!(minute(0, "+05:30"), at(3, 5, 30));
        assert_eq!(minute(0, "-03:30"), at(2, 20, 30));
        // Monday 2001-09-10 01:46:40 UTC is a day after the billionth second.
        assert_eq!(minute(1_000_000_000 + 86_400, "+00:00"), at(0, 1, 46));
        assert_eq!(minute(1_000_000_000 + 86_400, "-02:00"), at(6, 23, 46));
        for bad in ["", "1:00", "01:00", "+1:00", "+15:00", "+01:60", "UTC"] {
            assert!(bad.parse::<UtcOffset>().is_err(), "{bad}");
        }
        assert_eq!("-03:30".parse::<UtcOffset>().unwrap().to_string(), "-03:30");
    }
}
