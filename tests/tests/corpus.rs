//! The committed corpus through the fuzz targets' own functions.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus", target].iter().collect()
}

#[test]
fn every_input_of_the_corpus_passes() -> Result<()> {
    for (target, run) in sim::fuzz::TARGETS {
        let folder = corpus(target);
        let mut inputs = 0;
        for entry in fs::read_dir(&folder).with_context(|| format!("open {folder:?}"))? {
            let path = entry?.path();
            let data = fs::read(&path).with_context(|| format!("read {path:?}"))?;
            // Shown only if the test fails: the input that did it.
            println!("{target}: {}", path.display());
            run(&data);
            inputs += 1;
        }
        assert!(inputs > 0, "{target} has no corpus");
    }
    Ok(())
}

#[test]
fn every_target_takes_nothing_and_plain_noise() {
    for (_, run) in sim::fuzz::TARGETS {
        run(&[]);
        for byte in (0..=u8::MAX).step_by(17) {
            run(&[byte; 80]);
        }
    }
}
