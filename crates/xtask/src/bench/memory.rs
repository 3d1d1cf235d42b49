//! The packet path in memory, beside what VPP took for the same work.
//!
//! The figures are those of the `memory` program of `benches`, which runs in a process of its own, so that nothing of
//! this one is in its caches. VPP is no package of Debian's: its figures are from an earlier measurement, on a machine
//! that the reference names.

use std::path::Path;

use anyhow::Result;

use super::figures::{Figure, figures};
use super::plot::{Line, Plot};
use super::{Bar, Row};

/// What VPP took, and what we may take at most, by the name of a figure.
struct Known(&'static str, Option<f64>, Option<f64>);

const VPP: &str = "VPP, on an EPYC Zen 5";

const KNOWN: [Known; 17] = [
    Known("outbound.flows_1", Some(82.5), Some(42.0)),
    Known("inbound.flows_1", Some(78.9), Some(42.0)),
    Known("outbound.flows_1000", Some(92.5), Some(42.0)),
    Known("inbound.flows_1000", Some(89.8), Some(42.0)),
    Known("outbound.flows_64000", Some(245.0), Some(48.0)),
    Known("inbound.flows_64000", Some(250.0), Some(48.0)),
    Known("outbound.flows_1000000", Some(713.0), Some(70.0)),
    Known("inbound.flows_1000000", Some(697.0), Some(70.0)),
    Known("outbound.flows_10000000", None, Some(90.0)),
    Known("inbound.flows_10000000", None, Some(90.0)),
    Known("batch_1", Some(841.0), Some(180.0)),
    Known("batch_4", Some(286.0), Some(75.0)),
    Known("batch_32", Some(116.0), Some(46.0)),
    Known("shaping_added", None, Some(120.0)),
    Known("new_session.addresses_1", Some(1800.0), Some(450.0)),
    Known("new_session.addresses_32", Some(3000.0), Some(500.0)),
    Known("bytes_per_session", Some(370.0), Some(168.0)),
];

/// Times that the program is run. What shares a core with the machine doubles every figure for tens of seconds, so the
/// quietest run of each counts; within a run it is the median.
const RUNS: usize = 3;

/// Measures; the quick way leaves out the large tables.
pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let runs = (0..if quick { 1 } else { RUNS }).map(|_| figures("memory", quick));
    Ok(quietest(runs.collect::<Result<_>>()?).into_iter().map(row).collect())
}

/// Of each figure that only a disturbance makes larger the smallest, of a ratio the one in the middle.
fn quietest(runs: Vec<Vec<Figure>>) -> Vec<Figure> {
    let mut figures: Vec<Vec<Figure>> = Vec::new();
    for run in runs {
        for (place, figure) in run.into_iter().enumerate() {
            match figures.get_mut(place) {
                Some(same) => same.push(figure),
                None => figures.push(vec![figure]),
            }
        }
    }
    let ratio = |figure: &Figure| figure.reference.as_ref().map(|(_, _, ratio)| *ratio);
    let choose = |mut same: Vec<Figure>| {
        let by = |figure: &Figure| ratio(figure).unwrap_or(figure.value);
        same.sort_by(|a, b| by(a).total_cmp(&by(b)));
        let place = if ratio(&same[0]).is_some() { same.len() / 2 } else { 0 };
        same.swap_remove(place)
    };
    figures.into_iter().map(choose).collect()
}

/// Draws the ticks of a packet by the number of flows.
pub(super) fn plots(rows: &[Row], folder: &Path) -> Result<()> {
    let of = |way: &str, value: fn(&Row) -> Option<f64>| -> Vec<(f64, f64)> {
        let prefix = format!("memory.{way}.flows_");
        let point = |row: &Row| {
            let flows: f64 = row.name.strip_prefix(&prefix)?.parse().ok()?;
            Some((flows, value(row)?))
        };
        rows.iter().filter_map(point).collect()
    };
    let vpp = |row: &Row| Some(row.reference.as_ref()?.value);
    let lines = [
        Line { name: "outbound".into(), points: of("outbound", |row| Some(row.value)) },
        Line { name: "inbound".into(), points: of("inbound", |row| Some(row.value)) },
        Line { name: format!("{VPP}, outbound"), points: of("outbound", vpp) },
    ];
    let plot = Plot { title: "A packet in memory", x: "flows", y: "TSC ticks", lines: &lines };
    plot.write(&folder.join("memory.svg"))
}

fn row(mut figure: Figure) -> Row {
    if figure.name == "two_workers" {
        return figure.into_row("memory", Some(Bar::RatioAtLeast(TWO_WORKERS)));
    }
    let known = KNOWN.iter().find(|known| known.0 == figure.name);
    if let Some(vpp) = known.and_then(|known| known.1) {
        figure.reference = Some((VPP.to_owned(), vpp, figure.value / vpp));
    }
    figure.into_row("memory", known.and_then(|known| known.2).map(Bar::ValueAtMost))
}

/// What two workers carry of what one does.
const TWO_WORKERS: f64 = 1.85;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quietest_run_counts_for_each_figure_alone_and_of_ratios_the_one_in_the_middle() {
        let run = |value, other, ratio| {
            let figure = |name: &str, value, reference| Figure {
                name: name.into(),
                value,
                unit: "ticks".into(),
                reference,
            };
            let beside = Some(("one".to_owned(), 1.0, ratio));
            vec![figure("a", value, None), figure("b", other, None), figure("c", 9.0, beside)]
        };
        let runs = vec![run(50.0, 9.0, 1.9), run(100.0, 7.0, 1.5), run(51.0, 8.0, 2.8)];
        let figures = quietest(runs);
        assert_eq!((figures[0].value, figures[1].value), (50.0, 7.0));
        assert_eq!(figures[2].reference.as_ref().map(|reference| reference.2), Some(1.9));
    }

    #[test]
    fn a_figure_is_held_against_its_bar_and_compared_with_the_peers() {
        let figure = |name: &str, value| Figure {
            name: name.into(),
            value,
            unit: "ticks".into(),
            reference: None,
        };
        let row = row(figure("outbound.flows_1", 41.0));
        assert!(row.holds() && row.name == "memory.outbound.flows_1");
        assert!(row.reference.is_some_and(|reference| reference.ratio < 0.5));
        assert!(!super::row(figure("outbound.flows_1", 43.0)).holds());
        let free = super::row(figure("imix.outbound", 1e6));
        assert!(free.holds() && free.reference.is_none());
    }
}
