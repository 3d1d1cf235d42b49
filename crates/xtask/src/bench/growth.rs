//! How costs grow with what there is: flows, rules, forwards, hosts.
//!
//! The figures are those of the `growth` program of `benches`. A known flow may cost no more with ten thousand rules than with
//! one; whatever else grows may grow with what it is made for, not faster.

use std::path::Path;

use anyhow::Result;

use super::figures::{Figure, figures};
use super::plot::{Line, Plot};
use super::{Bar, Row};

/// What a figure may be of its reference, by the end of its name.
const BARS: [(&str, f64); 5] = [
    // The same, but for noise and what the caches hold.
    (".known_flow", 1.1),
    // Of ten times as much ten times, and noise.
    (".new_flow", 12.0),
    (".make", 12.0),
    (".bytes", 1.1),
    // Ten times the sessions, each of which costs the same.
    (".end_growth", 1.5),
];

/// Measures; the quick way leaves out the large tables.
pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    Ok(figures("growth", quick)?.into_iter().map(row).collect())
}

fn row(figure: Figure) -> Row {
    let bar = BARS.iter().find(|(end, _)| figure.name.ends_with(end));
    let bar = bar.filter(|_| figure.reference.is_some());
    figure.into_row("growth", bar.map(|(_, bar)| Bar::RatioAtMost(*bar)))
}

/// Draws what grows with flows, and what with rules and forwards.
pub(super) fn plots(rows: &[Row], folder: &Path) -> Result<()> {
    let line = |name: &str, of: &str, what: &str| {
        let (prefix, suffix) = (format!("growth.{of}_"), format!(".{what}"));
        let point = |row: &Row| {
            let count = row.name.strip_prefix(&prefix)?.strip_suffix(&suffix)?;
            Some((count.parse().ok()?, row.value))
        };
        Line { name: name.into(), points: rows.iter().filter_map(point).collect() }
    };
    let flows = [
        line("a packet", "flows", "packet"),
        line("the end of a session", "flows", "end"),
        line("upkeep between two batches, p99.9", "flows", "upkeep_p999"),
    ];
    let plot = Plot { title: "By flows", x: "flows", y: "TSC ticks", lines: &flows };
    plot.write(&folder.join("growth-flows.svg"))?;
    let counts = [
        line("a packet of a known flow, by rules", "rules", "known_flow"),
        line("a packet of a new flow, by rules", "rules", "new_flow"),
        line("a packet of a known flow, by forwards", "forwards", "known_flow"),
        line("a packet of a new flow, by forwards", "forwards", "new_flow"),
        line("a packet of a known flow, by hosts", "hosts", "known_flow"),
    ];
    let title = "By rules, forwards and hosts";
    let plot = Plot { title, x: "rules, forwards, hosts", y: "TSC ticks", lines: &counts };
    plot.write(&folder.join("growth-counts.svg"))?;
    let makes = [line("with rules", "rules", "make"), line("with forwards", "forwards", "make")];
    let title = "To make a configuration ready";
    let plot = Plot { title, x: "rules, forwards", y: "microseconds", lines: &makes };
    plot.write(&folder.join("growth-reload.svg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, ratio: f64) -> Figure {
        let reference = Some(("with 1".to_owned(), 50.0, ratio));
        Figure { name: name.into(), value: 50.0 * ratio, unit: "ticks".into(), reference }
    }

    #[test]
    fn known_flows_must_not_cost_more_and_new_ones_may_in_proportion() {
        assert!(row(figure("rules_10000.known_flow", 1.05)).holds());
        assert!(!row(figure("rules_10000.known_flow", 1.2)).holds());
        assert!(row(figure("rules_10000.new_flow", 9.0)).holds());
        assert!(!row(figure("rules_10000.new_flow", 13.0)).holds());
        assert!(row(figure("flows_1.packet", 100.0)).holds());
    }
}
