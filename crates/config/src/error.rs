//! All that is wrong with a file, shown at its place.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};

use crate::fault::Fault;

/// Why a file is no configuration: every problem that could be found, in file order.
///
/// A [`Diagnostic`] whose related diagnostics are the problems; [`report`](Self::report) renders it
/// for people, [`lines`](Self::lines) for logs and the API.
#[derive(Debug)]
pub struct LoadError {
    file: String,
    problems: Vec<Problem>,
    left_out: usize,
}

/// One problem and its place.
#[derive(Debug, Clone)]
pub struct Problem {
    fault: Fault,
    place: Option<Place>,
    source: Arc<NamedSource<String>>,
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bytes of the file.
    pub(crate) at: Range<usize>,
    /// The other half of a contradiction, with a word about it.
    pub(crate) see: Option<(Range<usize>, &'static str)>,
}

/// Whether a report may use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportStyle {
    /// For a terminal.
    Coloured,
    /// For everything else.
    Plain,
}

impl LoadError {
    /// `problems` is not empty; those past `max` are counted only.
    pub(crate) fn new(
        file: &str,
        text: &str,
        mut problems: Vec<(Fault, Option<Place>)>,
        max: usize,
    ) -> Self {
        problems.sort_by_key(|(_, place)| place.as_ref().map_or(0, |place| place.at.start));
        let left_out = problems.len().saturating_sub(max);
        let source = Arc::new(NamedSource::new(file, text.to_owned()));
        let problems = problems
            .into_iter()
            .take(max)
            .map(|(fault, place)| Problem { fault, place, source: Arc::clone(&source) })
            .collect();
        LoadError { file: file.to_owned(), problems, left_out }
    }

    /// The problems, in file order; at least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// One line for each problem: `FILE:LINE: message; remedy`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |problem: &Problem| {
            let line = problem.line().map_or(String::new(), |line| format!("{line}:"));
            format!("{}:{line} {}; {}", self.file, problem.fault, problem.fault.remedy())
        };
        let more = (self.left_out > 0).then(|| format!("{}: {} more", self.file, self.left_out));
        self.problems.iter().map(line).chain(more).collect()
    }

    /// The problems with the lines of the file that they are about.
    #[must_use]
    pub fn report(&self, style: ReportStyle) -> String {
        let theme = match style {
            ReportStyle::Coloured => GraphicalTheme::unicode(),
            ReportStyle::Plain => GraphicalTheme::unicode_nocolor(),
        };
        let mut text = String::new();
        let rendered = GraphicalReportHandler::new_themed(theme)
            .with_links(false)
            .with_width(REPORT_COLUMNS)
            .render_report(&mut text, self);
        match rendered {
            Ok(()) => text,
            Err(fmt::Error) => self.lines().join("\n"),
        }
    }
}

impl Problem {
    /// What is wrong, with its values.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.fault.remedy()
    }

    /// The line where it is, from 1; `None` when it is about the file as a whole.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        let place = self.place.as_ref()?;
        let before = self.source.inner().as_bytes().get(..place.at.start)?;
        Some(before.iter().filter(|byte| **byte == b'\n').count() + 1)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len() + self.left_out;
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{} is refused: {count} {noun}", self.file)?;
        if self.left_out > 0 {
            write!(f, ", of which {} are not shown", self.left_out)
        } else {
            Ok(())
        }
    }
}

impl std::error::Error for LoadError {}

impl Diagnostic for LoadError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.fault.help()
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.place.as_ref().map(|_| &*self.source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let here = LabeledSpan::new_primary_with_span(Some("here".to_owned()), place.at.clone());
        let see = place
            .see
            .as_ref()
            .map(|(at, word)| LabeledSpan::new_with_span(Some((*word).to_owned()), at.clone()));
        Some(Box::new(std::iter::once(here).chain(see)))
    }
}

/// Columns of a report: the width of a terminal nobody resized, and the same in a log.
const REPORT_COLUMNS: usize = 100;
