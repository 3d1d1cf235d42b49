//! A file, or its text, in; a configuration or everything that is wrong with it out.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

use crate::defaults;
use crate::document::{Problems, Section};
use crate::error::{LoadError, Place};
use crate::fault::Fault;
use crate::model::Config;
use crate::read;

/// Reads the configuration in the file at `path`.
///
/// # Errors
/// The file cannot be read, or [`parse`] refuses it.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let name = path.display().to_string();
    let refuse = |fault| LoadError::new(&name, "", vec![(fault, None)], 1);
    let max = defaults::FILE_BYTES_MAX;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max + 1).read_to_end(&mut bytes))
        .map_err(|error| refuse(Fault::Unreadable { reason: error.kind() }))?;
    if bytes.len() as u64 > max {
        return Err(refuse(Fault::FileTooLong { max }));
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(&name, &text),
        Err(error) => {
            let legal = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let place = Place { at: legal..legal, see: None };
            Err(LoadError::new(&name, &text, vec![(Fault::NotUtf8, Some(place))], 1))
        }
    }
}

/// Reads the configuration in `text`; `name` is what reports call the file.
///
/// # Errors
/// Everything that is wrong, each problem with its place and its remedy. A file that is no TOML
/// reports that alone, for nothing behind it could be trusted.
pub fn parse(name: &str, text: &str) -> Result<Config, LoadError> {
    let refuse = |problems| LoadError::new(name, text, problems, defaults::PROBLEMS_MAX);
    if text.len() as u64 > defaults::FILE_BYTES_MAX {
        return Err(refuse(vec![(Fault::FileTooLong { max: defaults::FILE_BYTES_MAX }, None)]));
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(refuse(errors.iter().map(|error| syntax(error, text)).collect()));
    }
    let problems = Problems::default();
    let config = read::config(Section::root(table.get_ref(), &problems));
    match config {
        Some(config) if problems.count() == 0 => Ok(config),
        _ => Err(refuse(problems.into_list())),
    }
}

fn syntax(error: &toml::de::Error, text: &str) -> (Fault, Option<Place>) {
    let message = error.message();
    let fault = match message.split_once(", expected ") {
        _ if message == "duplicate key" => Fault::DuplicateKey,
        Some((message, expected)) => Fault::Syntax {
            message: message.to_owned(),
            expected: format!("here belongs {expected}"),
        },
        None => Fault::Syntax {
            message: message.to_owned(),
            expected: "look at the mark and just before it".to_owned(),
        },
    };
    let at = error.span().unwrap_or(0..0);
    // A mark at the very end would be on a line that is not there.
    let end = text.trim_end().len();
    let at = if at.start >= text.len() { end..end } else { at };
    (fault, Some(Place { at, see: None }))
}
