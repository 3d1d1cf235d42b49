//! A SYN flood from the WAN while a LAN host carries a TCP stream.
//!
//! The stream through our router is measured while the flood reaches the router and while a plain drop rule in
//! nftables takes it out on the box's NIC, in front of the router. Both times the generator has its share of the
//! same processors, so the ratio shows what the router's own handling costs. For the reader, both routers' share
//! of their throughput without a flood is there too; in it the generator's appetite counts.

use anyhow::{Context, Result, ensure};
use lab::house::{ISP, KERNEL_WAN, Programs};
use serde_json::Value;

use super::{Bar, Reference, Row, Site};
use crate::demo::json;
use crate::measure::{Direction, median, median_ratio, throughput};

/// Share of the throughput behind nftables' rule that has to be left.
const BAR: f64 = 0.9;

/// Takes the flood out where it enters the box.
const RULE: &str = "table netdev flood {
    chain ingress {
        type filter hook ingress device \"igb0\" priority 0; policy accept;
        tcp flags & (syn | ack) == syn counter drop
    }
}
";

/// Bits per second of one direction, a figure for each round.
#[derive(Default)]
struct Figures {
    calm: Vec<f64>,
    behind_rule: Vec<f64>,
    reached: Vec<f64>,
    kernel_calm: Vec<f64>,
    kernel_dropping: Vec<f64>,
}

/// Measures; a whole round floods our router for 30 s in one go.
pub(super) fn run(programs: &Programs, quick: bool) -> Result<Vec<Row>> {
    let site = Site::build(programs)?;
    let (rounds, secs) = if quick { (1, 3) } else { (3, 15) };
    let mut directions = [Figures::default(), Figures::default()];
    let mut measure = |address: &str, slot: fn(&mut Figures) -> &mut Vec<f64>| -> Result<()> {
        for (direction, figures) in Direction::BOTH.into_iter().zip(&mut directions) {
            slot(figures).push(throughput(&site.host, address, direction, secs)?);
        }
        Ok(())
    };
    let wan = status(&site)?["wan"]["address"].as_str().context("no WAN address")?.to_owned();
    let wan = wan.split('/').next().unwrap_or_default();
    let through_kernel = site.kernel.reach(&site.host)?;
    site.kernel.drop_syn()?;
    let opened_before = opened(&site)?;
    for round in 0..rounds {
        println!("round {} of {rounds}: {} s", round + 1, 10 * secs);
        measure(ISP, |figures| &mut figures.calm)?;
        let flood = site.house.flood(wan)?;
        site.house.host.exec_with_input(["nft", "-f", "-"], RULE)?;
        measure(ISP, |figures| &mut figures.behind_rule)?;
        site.house.host.exec(["nft", "delete", "table", "netdev", "flood"])?;
        measure(ISP, |figures| &mut figures.reached)?;
        drop(flood);
        measure(through_kernel, |figures| &mut figures.kernel_calm)?;
        let _flood = site.house.flood(KERNEL_WAN)?;
        measure(through_kernel, |figures| &mut figures.kernel_dropping)?;
    }
    let opened = opened(&site)? - opened_before;
    // Each test opens a connection for its results and one for its payload; the router itself asks an NTP or DNS
    // server now and then.
    let expected = rounds as u64 * 3 * 2 * 2 + 20;
    ensure!(opened <= expected, "the flood opened sessions: {opened} since the start");
    let (dropped, by_link) = dropped(&site)?;
    ensure!(dropped > 10_000, "the flood did not reach the router: it dropped {dropped} packets");
    println!(
        "the router dropped {dropped} packets, {by_link} of them in its link's filter, and opened {opened} sessions, \
         the tests' own"
    );
    let names = [
        ["flood.tcp_1.up", "flood.share.up", "flood.share_kernel.up"],
        ["flood.tcp_1.down", "flood.share.down", "flood.share_kernel.down"],
    ];
    Ok(directions.iter().zip(names).flat_map(|(figures, names)| rows(figures, names)).collect())
}

fn rows(figures: &Figures, names: [&'static str; 3]) -> [Row; 3] {
    let Figures { calm, behind_rule, reached, kernel_calm, kernel_dropping } = figures;
    [
        row(names[0], reached, "behind an nftables drop rule", behind_rule, Some(BAR)),
        row(names[1], reached, "without a flood", calm, None),
        row(names[2], kernel_dropping, "without a flood", kernel_calm, None),
    ]
}

fn row(
    name: &'static str,
    values: &[f64],
    reference: &'static str,
    references: &[f64],
    bar: Option<f64>,
) -> Row {
    let (value, reference_value) = (median(values) / 1e9, median(references) / 1e9);
    let ratio = median_ratio(values, references);
    Row {
        name: name.into(),
        value,
        unit: "Gbit/s".into(),
        reference: Some(Reference { name: reference.into(), value: reference_value, ratio }),
        bar: bar.map(Bar::RatioAtLeast),
    }
}

fn status(site: &Site) -> Result<Value> {
    json(&site.router.control.run("--json status")?)
}

/// Sessions that our router opened so far.
fn opened(site: &Site) -> Result<u64> {
    status(site)?["flows"]["opened"].as_u64().context("the status counts opened flows")
}

/// Packets that our router dropped so far, and those of them that its link's filter dropped.
fn dropped(site: &Site) -> Result<(u64, u64)> {
    let drops = json(&site.router.control.run("--json drops")?)?;
    let drops = drops.as_array().context("drops are a list")?;
    let count = |drop: &Value| drop["count"].as_u64().unwrap_or(0);
    let by_link = drops.iter().filter(|drop| drop["reason"] == "syn-flood");
    Ok((drops.iter().map(count).sum(), by_link.map(count).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_that_of_figures_of_the_same_round() {
        let row = row("flood", &[2e9, 9e9, 1e9], "calm", &[2e9, 10e9, 2e9], Some(BAR));
        let reference = row.reference.as_ref().unwrap();
        assert_eq!((row.value, reference.value, reference.ratio), (2.0, 2.0, 0.9));
        assert!(row.holds());
    }
}
