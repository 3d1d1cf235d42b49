//! What the operator asked for: TOML in, validated Config out, every default in one place.
