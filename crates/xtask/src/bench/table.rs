//! The flow table beside other maps, and under two threads.
//!
//! The figures are those of the `table` program of `benches`.

use anyhow::Result;

use super::figures::{Figure, figures};
use super::{Bar, Row};

/// What two readers find of what one does.
const TWO_READERS: f64 = 1.8;

/// What a reader's slow batches may take, beside a writer, of what they take alone.
const READER_P99: f64 = 2.0;

/// Measures; the quick way leaves out the large tables.
pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    Ok(figures("table", quick)?.into_iter().map(row).collect())
}

fn row(figure: Figure) -> Row {
    let bar = if figure.name.starts_with("two_readers") {
        Bar::RatioAtLeast(TWO_READERS)
    } else if figure.name.starts_with("reader_p99") {
        Bar::RatioAtMost(READER_P99)
    } else {
        // Of what the other map takes.
        Bar::RatioAtMost(1.0)
    };
    figure.into_row("table", Some(bar))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_held_against_themselves_alone_and_the_table_against_others() {
        let row = |name: &str, ratio| {
            let reference = Some(("other".to_owned(), 10.0, ratio));
            row(Figure { name: name.into(), value: 1.0, unit: "ticks".into(), reference })
        };
        assert!(row("two_readers_64000", 1.9).holds() && !row("two_readers_64000", 1.7).holds());
        assert!(row("reader_p99_64000", 1.9).holds() && !row("reader_p99_64000", 2.1).holds());
        assert!(row("find_1000.dashmap", 0.9).holds() && !row("find_1000.dashmap", 1.1).holds());
    }
}
