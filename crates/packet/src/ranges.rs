//! Sets of addresses and of ports.

use std::net::Ipv4Addr;

/// Addresses, as ranges.
pub type AddressSet = RangeSet<Ipv4Addr>;

/// Ports, as ranges.
pub type PortSet = RangeSet<u16>;

/// Values given as ranges, asked for by binary search.
///
/// **Shape**: first and last value of each range, sorted, no two with a value in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeSet<T> {
    ranges: Box<[(T, T)]>,
}

impl<T: Copy + Ord> RangeSet<T> {
    /// Whether the value is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, value: T) -> bool {
        self.range_of(value).is_some()
    }

    /// Whether every value of the other set is in this one. Of two ranges that touch without a value in common
    /// nothing is concluded, so a `false` may be a `true` that was not seen.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other
            .ranges
            .iter()
            .all(|(first, last)| self.range_of(*first).is_some_and(|(_, covered)| *last <= covered))
    }

    /// The ranges, first and last value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (T, T)> {
        self.ranges.iter().copied()
    }

    fn range_of(&self, value: T) -> Option<(T, T)> {
        let behind = self.ranges.partition_point(|(first, _)| *first <= value);
        let range = *self.ranges.get(behind.checked_sub(1)?)?;
        (value <= range.1).then_some(range)
    }
}

impl<T: Copy + Ord> FromIterator<(T, T)> for RangeSet<T> {
    /// Makes a set of ranges in any order; one whose last value is below its first is empty.
    fn from_iter<I: IntoIterator<Item = (T, T)>>(ranges: I) -> Self {
        let mut given: Vec<(T, T)> =
            ranges.into_iter().filter(|(first, last)| first <= last).collect();
        given.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(given.len());
        for (first, last) in given {
            match merged.last_mut() {
                Some(earlier) if first <= earlier.1 => earlier.1 = earlier.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self { ranges: merged.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_ends_of_a_range_belong_to_it() {
        let set: PortSet = [(80, 80), (1000, 1999)].into_iter().collect();
        let found = [79, 80, 81, 999, 1000, 1999, 2000].map(|port| set.contains(port));
        assert_eq!(found, [false, true, false, false, true, true, false]);
    }

    #[test]
    fn the_ends_of_the_number_line_are_ordinary() {
        let all: PortSet = [(0, u16::MAX)].into_iter().collect();
        assert!(all.contains(0) && all.contains(u16::MAX));
        let none: PortSet = [(9, 8)].into_iter().collect();
        assert!((0..=u16::MAX).all(|port| !none.contains(port)));
    }

    #[test]
    fn a_set_covers_what_lies_within_one_of_its_ranges() {
        let wide: PortSet = [(10, 20), (15, 30), (50, 60)].into_iter().collect();
        let set = |first, last| PortSet::from_iter([(first, last)]);
        assert!(wide.covers(&set(12, 28)) && wide.covers(&set(50, 60)));
        assert!(!wide.covers(&set(25, 50)) && !wide.covers(&set(0, 10)));
    }

    proptest! {
        #[test]
        fn a_value_is_in_the_set_if_it_is_in_a_range(
            ranges in prop::collection::vec((0u16..200, 0u16..200), 0..20),
            value in 0u16..220,
        ) {
            let set: PortSet = ranges.iter().copied().collect();
            let expected = ranges.iter().any(|(first, last)| (*first..=*last).contains(&value));
            prop_assert_eq!(set.contains(value), expected);
        }
    }
}
