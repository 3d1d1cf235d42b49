//! Figures as `cargo xtask bench` reads them.

use std::ffi::OsString;
use std::io;

use serde::Serialize;

use crate::median;

/// One figure; the name is that of `xtask bench`'s rows without the suite's.
#[derive(Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// What it was measured beside, the value of that, and the median ratio to it.
    reference: Option<(String, f64, f64)>,
}

/// The figures of a program, printed as they come.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds one.
    pub fn note(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        println!("{name:36} {value:10.1} {unit}");
        self.0.push(Figure { name, value, unit, reference: None });
    }

    /// Adds one that was measured beside another, a pair in each run: of each the median, and the median of the ratios, so
    /// that what else the machine does meanwhile does not count.
    pub fn compare(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        than: &str,
        runs: &[[f64; 2]],
    ) {
        let name = name.into();
        let of = |which: usize| median(runs.iter().map(|run| run[which]).collect());
        let ratio = median(runs.iter().map(|[value, other]| value / other).collect());
        let (value, other) = (of(0), of(1));
        println!("{name:36} {value:10.1} {unit}, {ratio:.2} of {than}");
        self.0.push(Figure { name, value, unit, reference: Some((than.to_owned(), other, ratio)) });
    }

    /// Writes them to a file.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, file: OsString) -> io::Result<()> {
        std::fs::write(file, serde_json::to_vec(&self.0)?)
    }
}

/// The file that the program's caller wants the figures in, and whether they are to be had quickly.
///
/// # Errors
/// If no file is named.
pub fn arguments(program: &str) -> io::Result<(OsString, bool)> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = || io::Error::other(format!("usage: {program} FILE [--quick]"));
    let file = arguments.next().ok_or_else(usage)?;
    Ok((file, arguments.any(|argument| argument == "--quick")))
}
