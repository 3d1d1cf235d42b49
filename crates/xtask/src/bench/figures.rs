//! Figures of the programs of `benches`.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{Bar, Reference, Row};
use crate::{cargo, interrupt};

/// A figure as the program prints it.
#[derive(Deserialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: String,
    /// What it was measured beside, and the ratio to that.
    #[serde(default)]
    pub(super) reference: Option<(String, f64, f64)>,
}

impl Figure {
    /// The row of a suite.
    pub(super) fn into_row(self, suite: &str, bar: Option<Bar>) -> Row {
        let Self { name, value, unit, reference } = self;
        let reference =
            reference.map(|(name, value, ratio)| Reference { name: name.into(), value, ratio });
        Row { name: format!("{suite}.{name}"), value, unit, reference, bar }
    }
}

/// Runs a program of `benches` that writes its figures to a file.
pub(super) fn figures(program: &str, quick: bool) -> Result<Vec<Figure>> {
    let target = cargo::target()?;
    let file = target.join(format!("{program}.json"));
    let mut command = cargo::cargo();
    command.args(["run", "--release", "-p", "benches", "--bin", program]);
    command.arg("--target-dir").arg(target).arg("--").arg(&file).args(quick.then_some("--quick"));
    // Of glibc's allocator: the packet buffers lie in large pages, as the tables do.
    command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    let status = interrupt::status(&mut command)?;
    ensure!(status.success(), "the program {program}: {status}");
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).context("read the figures")
}
