//! Every test that the table of conformance names ran and passed.
//!
//! That the table itself is whole is checked by a test: `tests/tests/conformance.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cargo;
use crate::steps::{Passed, Row};

/// The table, from the root of the repository.
const PAGE: &str = "crates/nat/RFC.md";

/// The step that looks for the named tests among those that passed.
///
/// # Errors
/// If the table can't be read.
pub(super) fn row(passed: &Passed) -> Result<Row> {
    let what = "tests that RFC.md names ran and passed";
    println!("\n== conformance: {what}");
    let page = fs::read_to_string(cargo::root().join(PAGE)).with_context(|| PAGE.to_owned())?;
    let named = named(&page);
    ensure!(!named.is_empty(), "{PAGE} names no test");
    let missing: Vec<_> = named.iter().filter(|name| !passed.contains(&program(name))).collect();
    for name in &missing {
        println!("conformance: {name} did not run and pass");
    }
    let failed = missing.len() as u64;
    let passed = named.len() as u64 - failed;
    Ok(Row { name: "conformance", what, passed, failed, took: Duration::ZERO })
}

/// The tests in the last column of every table, each once.
fn named(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let lists = rows.filter_map(|row| row.rsplit('|').next());
    let names = lists.flat_map(|list| list.split('`').skip(1).step_by(2));
    names.filter(|name| name.contains("::")).map(str::to_owned).collect()
}

/// The name by which a step notes the test `crate::module::name` or `package/target::module::name`.
fn program(name: &str) -> String {
    match name.split_once("::") {
        Some((target, test)) => match target.split_once('/') {
            Some((_, target)) => format!("/{target}::{test}"),
            None => format!("{}::{test}", target.replace('-', "_")),
        },
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| ID | Tests |\n|---|---|\n\
                         | 1 | `flow-table::a::b`, `tests/nat::c` |\n| `x::y` | `tests/nat::c` |\n";

    #[test]
    fn names_are_those_of_the_last_column() {
        let expected = ["flow-table::a::b", "tests/nat::c"].map(str::to_owned);
        assert_eq!(named(TABLE), BTreeSet::from(expected));
        let programs: Vec<_> = named(TABLE).iter().map(|name| program(name)).collect();
        assert_eq!(programs, ["flow_table::a::b", "/nat::c"]);
    }

    #[test]
    fn a_named_test_that_did_not_run_fails_the_step() {
        let row = row(&Passed::new()).unwrap();
        assert!(row.failed > 100 && row.passed == 0, "{} named", row.failed);
    }
}
