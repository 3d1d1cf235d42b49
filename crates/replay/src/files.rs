//! Which files to replay.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// How deep folders are followed; a loop of links ends here.
const DEPTH_MAX: usize = 16;

/// The files named and those in the folders named, in the order of their names.
///
/// # Errors
/// If something named can't be read, or folders are nested too deep.
pub fn captures(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        collect(path, 0, &mut files)?;
    }
    Ok(files)
}

fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || path.display().to_string();
    if depth > DEPTH_MAX {
        bail!("{}: folders are nested deeper than {DEPTH_MAX}", path.display());
    }
    if !fs::metadata(path).with_context(context)?.is_dir() {
        // Notes lie beside captures; a file that was named itself is taken whatever its name.
        if depth == 0 || is_capture(path) {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(context)?;
    let entries = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<Result<Vec<_>, _>>().with_context(context)?;
    entries.sort();
    entries.iter().try_for_each(|entry| collect(entry, depth + 1, files))
}

fn is_capture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["pcap", "pcapng", "cap"].contains(&extension))
}
