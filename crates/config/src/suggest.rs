//! What the operator may have meant.

/// A remedy for a key that does not exist, given those that do.
pub(crate) fn key(given: &str, known: &[&str]) -> String {
    match nearest(given, known) {
        Some(key) => format!("did you mean `{key}`?"),
        None if known.is_empty() => "take it out".to_owned(),
        None => format!("take it out; the keys here are {}", listed(known)),
    }
}

/// A remedy for a word that is not among those that exist.
pub(crate) fn word(given: &str, known: &[&str]) -> String {
    match nearest(given, known) {
        Some(word) => format!("did you mean `{word}`? Possible are {}", listed(known)),
        None => format!("use {}", listed(known)),
    }
}

/// The one of `known` that is nearest to `given`, if a slip of the finger explains the difference.
pub(crate) fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    // Distances cost the product of the lengths, and no key is as long as a hostile one.
    if given.len() > GIVEN_LEN_MAX {
        return None;
    }
    let given = given.to_ascii_lowercase();
    known
        .iter()
        .map(|one| (strsim::damerau_levenshtein(&given, &one.to_ascii_lowercase()), *one))
        .filter(|(distance, one)| *distance <= (one.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, one)| one)
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Longest text that is compared with known words: twice the longest key.
const GIVEN_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_key() {
        let keys = ["address", "link", "name", "filtering"];
        for (given, meant) in
            [("adress", "address"), ("lnik", "link"), ("Name", "name"), ("filter", "filtering")]
        {
            assert_eq!(nearest(given, &keys), Some(meant), "{given}");
        }
    }

    #[test]
    fn a_stranger_gets_the_list_of_keys() {
        assert_eq!(
            key("colour", &["link", "name"]),
            "take it out; the keys here are `link`, `name`"
        );
    }
}
