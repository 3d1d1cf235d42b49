//! Plain tables, at most 80 columns wide.

/// Width of the narrowest terminal that people use.
const COLUMNS_MAX: usize = 80;

/// Characters between two columns.
const GAP: &str = "  ";

/// Narrowest that a column is squeezed to: enough to tell two values apart.
const COLUMN_MIN: usize = 6;

/// Which edge of its column a value touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; one that begins with `>` is for numbers.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let align = |heading: &&str| {
            if heading.starts_with('>') { Align::Right } else { Align::Left }
        };
        let first = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned());
        Self { align: headings.iter().map(align).collect(), rows: vec![first.collect()] }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has another number of values than there are headings.
    pub(crate) fn row<const N: usize>(&mut self, row: [String; N]) {
        assert_eq!(N, self.align.len(), "a value for each heading");
        self.rows.push(row.into());
    }

    /// The table as lines; nothing if it has no rows.
    pub(crate) fn render(&self) -> String {
        if self.rows.len() == 1 {
            return String::new();
        }
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((value, width), align) in row.iter().zip(&widths).zip(&self.align) {
                let value = shorten(value, *width);
                match align {
                    Align::Left => line.push_str(&format!("{value:<width$}{GAP}")),
                    Align::Right => line.push_str(&format!("{value:>width$}{GAP}")),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Width of each column: what it needs, the widest squeezed until the line fits.
    fn widths(&self) -> Vec<usize> {
        let need = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.align.len()).map(need).collect();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > COLUMNS_MAX {
            let Some(widest) = widths.iter_mut().max() else { break };
            if *widest <= COLUMN_MIN {
                break;
            }
            *widest -= 1;
        }
        widths
    }
}

/// Cuts a value that is too long and says so with an ellipsis.
fn shorten(value: &str, width: usize) -> String {
    if value.chars().count() <= width {
        return value.to_owned();
    }
    value.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A time span in its two largest units.
pub(crate) fn span(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", secs % 60),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// A number with a decimal prefix and three digits: 999, 1.23k, 45.6M.
pub(crate) fn short(number: u64) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut scaled = number as f64;
    let mut prefix = 0;
    // 999.5 would be shown as 1000.
    while scaled >= 999.5 {
        scaled /= 1000.0;
        prefix += 1;
    }
    let digits = match scaled {
        _ if prefix == 0 || scaled >= 99.95 => 0,
        _ if scaled >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{}", PREFIXES[prefix])
}

/// A value that may not be known.
pub(crate) fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_needed_and_numbers_stand_right() {
        let mut table = Table::new(&["NAME", ">BYTES"]);
        table.row(["a".into(), "1".into()]);
        table.row(["longer".into(), "1000000".into()]);
        assert_eq!(table.render(), "NAME      BYTES\na             1\nlonger  1000000\n");
    }

    #[test]
    fn no_line_is_longer_than_80_columns() {
        let mut table = Table::new(&["A", "B", "C"]);
        table.row(["x".repeat(60), "y".repeat(50), "short".into()]);
        let text = table.render();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("short") && text.contains('…'));
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert_eq!(Table::new(&["A"]).render(), "");
    }

    #[test]
    fn spans_have_two_units() {
        let shown = [0, 59, 61, 3600, 43_199, 90_000].map(span);
        assert_eq!(shown, ["0s", "59s", "1m01s", "1h00m", "11h59m", "1d01h"]);
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0, 999, 1000, 1234, 9_995, 99_950, 999_499, 999_500, u64::MAX].map(short);
        assert_eq!(
            shown,
            ["0", "999", "1.00k", "1.23k", "10.0k", "100k", "999k", "1.00M", "18.4E"]
        );
    }
}
