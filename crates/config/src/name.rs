//! Which names are legal.

/// Reads a host name: one label of letters, digits and inner hyphens (RFC 1123 §2.1), lowered.
pub(crate) fn host(text: &str) -> Result<String, ()> {
    let label = |text: &str| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    if label(text) { Ok(text.to_ascii_lowercase()) } else { Err(()) }
}
