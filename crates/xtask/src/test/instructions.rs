//! The packet path takes no more instructions than the commit says.

use std::time::Instant;

use anyhow::Result;

use crate::bench::instructions;
use crate::steps::Row;

/// The step that counts them.
///
/// # Errors
/// If they can't be counted.
#[expect(clippy::disallowed_methods, reason = "a development edge: the table shows real time")]
pub(super) fn row() -> Result<Row> {
    let (name, what) = ("instructions", "instructions per packet, beside those of the commit");
    let start = Instant::now();
    println!("\n== {name}: {what}");
    let rows = instructions::run(false)?;
    let failed = rows.iter().filter(|row| !row.holds()).count() as u64;
    if failed > 0 {
        println!("{name}: more than 3 % above benches/instructions.txt, or not in it");
        println!("{name}: if it must be, run `cargo xtask bench instructions --keep` and say why");
    }
    Ok(Row { name, what, passed: rows.len() as u64 - failed, failed, took: start.elapsed() })
}
