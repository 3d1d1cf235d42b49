//! Commands that run one after the other, and the table of how they went.
//!
//! A step that fails does not keep the next from running.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::interrupt;

/// A step of a run.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) command: fn() -> Result<Command>,
}

/// How a step went.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) took: Duration,
}

/// Tests that passed: `program::module::name`, where the program is a crate's library, or `/` and the name of a
/// test program of its own.
pub(crate) type Passed = BTreeSet<String>;

/// Runs a step, and notes the tests that pass in it.
pub(crate) fn run(step: &Step, tests: &mut Passed) -> Row {
    run_command(step.name, step.what, (step.command)(), tests)
}

/// As [`run`], for a command that was made already.
#[expect(clippy::disallowed_methods, reason = "a development edge: the table shows real time")]
pub(crate) fn run_command(
    name: &'static str,
    what: &'static str,
    command: Result<Command>,
    tests: &mut Passed,
) -> Row {
    let start = Instant::now();
    println!("\n== {name}: {what}");
    let [passed, failed] = match command.and_then(|command| count(command, name, tests)) {
        Ok(counts) => counts,
        Err(error) => {
            println!("{name}: {error:#}");
            [0, 1]
        }
    };
    Row { name, what, passed, failed, took: start.elapsed() }
}

/// Tests that passed and failed in all steps together.
pub(crate) fn totals(rows: &[Row]) -> [u64; 2] {
    [rows.iter().map(|row| row.passed).sum(), rows.iter().map(|row| row.failed).sum()]
}

/// Runs a command; tests that passed and failed, where it runs tests, else itself as one.
fn count(mut command: Command, name: &str, tests: &mut Passed) -> Result<[u64; 2]> {
    // One pipe for both: cargo says on the one which program it runs, the program on the other what passed.
    let (output, input) = std::io::pipe().context("make a pipe")?;
    command.stdout(input.try_clone().context("make a pipe")?).stderr(input);
    let mut child = command.spawn().context("run cargo")?;
    // Holds the ends that are written to.
    drop(command);
    let mut counts = None;
    let mut program = None;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(started) = program_started(&line) {
            program = started;
        }
        if let (Some(program), Some(test)) = (&program, test_passed(&line)) {
            tests.insert(format!("{program}::{test}"));
        }
        if let Some(result) = test_result(&line) {
            let [passed, failed] = counts.unwrap_or([0, 0]);
            counts = Some([passed + result[0], failed + result[1]]);
        }
    }
    let status = interrupt::wait(&mut child)?;
    let has_succeeded = status.success();
    let [passed, failed] = counts.unwrap_or([u64::from(has_succeeded), 0]);
    // Such as a test that does not build, or a test program that a signal ended.
    let failed = if has_succeeded { failed } else { failed.max(1) };
    if failed > 0 {
        println!("{name}: failed ({status})");
    }
    Ok([passed, failed])
}

/// Reads `Running tests/x.rs (target/debug/deps/x-0123)`, or `Doc-tests x`, whose tests have no names.
fn program_started(line: &str) -> Option<Option<String>> {
    let line = line.trim_start();
    if line.starts_with("Doc-tests ") {
        return Some(None);
    }
    let (source, file) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let (name, _) = file.rsplit('/').next()?.rsplit_once('-')?;
    let is_library = source.starts_with("unittests ");
    Some(Some(if is_library { name.to_owned() } else { format!("/{name}") }))
}

/// Reads `test module::name ... ok`.
fn test_passed(line: &str) -> Option<&str> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... ok")?;
    Some(name.strip_suffix(" - should panic").unwrap_or(name))
}

/// Reads `test result: ok. 12 passed; 0 failed; ...`.
fn test_result(line: &str) -> Option<[u64; 2]> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = counts.split("; ");
    let mut next = |word| parts.next()?.strip_suffix(word)?.trim().parse().ok();
    Some([next("passed")?, next("failed")?])
}

/// The rows as a person reads them.
pub(crate) struct Table<'a>(pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:11} {:42} {:>7} {:>7} {:>8}  result",
            "step", "what ran", "passed", "failed", "time"
        )?;
        for Row { name, what, passed, failed, took } in self.0 {
            let result = if *failed == 0 { "ok" } else { "FAILED" };
            let secs = took.as_secs_f64();
            writeln!(f, "{name:11} {what:42} {passed:7} {failed:7} {secs:6.0} s  {result}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_a_test_program_are_read() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(test_result(line), Some([12, 3]));
        assert_eq!(test_result("test dhcp::tests::x ... ok"), None);
    }

    #[test]
    fn a_test_is_named_after_its_program() {
        let library = "     Running unittests src/lib.rs (target/debug/deps/flow_table-331e07c3)";
        assert_eq!(program_started(library), Some(Some("flow_table".to_owned())));
        let own = "     Running tests/path/main.rs (/a b/target/debug/deps/path-64f896)";
        assert_eq!(program_started(own), Some(Some("/path".to_owned())));
        assert_eq!(program_started("   Doc-tests nat"), Some(None));
        assert_eq!(program_started("running 3 tests"), None);
        assert_eq!(test_passed("test a::b - should panic ... ok"), Some("a::b"));
        assert_eq!(test_passed("test a::b ... FAILED"), None);
    }

    #[test]
    fn a_step_that_runs_no_tests_counts_as_one() {
        let mut tests = Passed::new();
        let mut good = Command::new("true");
        good.arg("x");
        assert_eq!(count(good, "good", &mut tests).unwrap(), [1, 0]);
        assert_eq!(count(Command::new("false"), "bad", &mut tests).unwrap(), [0, 1]);
        assert!(tests.is_empty());
    }

    #[test]
    fn tests_that_pass_are_noted_and_others_are_not() {
        let script = "echo '     Running tests/x.rs (target/debug/deps/x-12)' >&2\n\
                      echo 'test a::good ... ok'\necho 'test a::bad ... FAILED'\n\
                      echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        let mut tests = Passed::new();
        assert_eq!(count(shell, "x", &mut tests).unwrap(), [1, 1]);
        assert_eq!(tests, Passed::from(["/x::a::good".to_owned()]));
    }
}
