//! See the crate description in the manifest.

fn main() {}
