//! What the demo prints: steps with their commands, what came of them, and a verdict each.

use std::fmt::Display;

use anyhow::{Context, Result, ensure};
use lab::{CommandFailed, Namespace};

use crate::interrupt;

/// Lines of a command's output that are shown; the rest is counted.
const SHOWN_LINES_MAX: usize = 12;

/// Counts the steps and which of them passed.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: usize,
    passed: usize,
}

impl Report {
    /// Runs a step: `work` shows what it does and returns the figure to be proud of.
    ///
    /// Returns whether it passed. After an interruption steps are passed over without a word.
    pub(crate) fn step(&mut self, title: &str, work: impl FnOnce() -> Result<String>) -> bool {
        if interrupt::is_set() {
            return false;
        }
        self.steps += 1;
        println!("\n{:2}. {title}", self.steps);
        let outcome = work();
        match &outcome {
            Ok(figure) => {
                self.passed += 1;
                println!("    ✓ {figure}");
            }
            Err(_) if interrupt::is_set() => {}
            Err(error) => println!("    ✗ {}", indented(&format!("{error:#}"))),
        }
        outcome.is_ok()
    }

    /// The last line, and whether all steps passed.
    pub(crate) fn conclude(&self) -> bool {
        println!("\ndemo: {} of {} checks passed", self.passed, self.steps);
        self.passed == self.steps
    }
}

/// Shows a command line as typed on a host.
pub(crate) fn show_command(host: &str, line: &str) {
    println!("    {host}# {line}");
}

/// Shows what a command printed.
pub(crate) fn show(text: impl Display) {
    let text = text.to_string();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in lines.iter().take(SHOWN_LINES_MAX) {
        println!("      {line}");
    }
    if lines.len() > SHOWN_LINES_MAX {
        println!("      ... {} more lines", lines.len() - SHOWN_LINES_MAX);
    }
}

fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n      ")
}

/// Runs a command on a host, showing it and what it printed.
pub(crate) fn run(host: &Namespace, line: &str) -> Result<String, CommandFailed> {
    let output = run_quietly(host, line)?;
    show(&output);
    Ok(output)
}

/// Runs a command on a host, showing it but not what it printed.
pub(crate) fn run_quietly(host: &Namespace, line: &str) -> Result<String, CommandFailed> {
    show_command(host.label(), line);
    host.exec(line.split(' ')).map(|output| output.stdout)
}

/// Fails, naming `what`, unless `text` contains `part`.
pub(crate) fn expect_part(text: &str, part: &str, what: &str) -> Result<()> {
    ensure!(text.contains(part), "{what}: {part:?} is not in the answer");
    Ok(())
}

/// Reads JSON that a program printed.
pub(crate) fn json(text: &str) -> Result<serde_json::Value> {
    serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))
}
