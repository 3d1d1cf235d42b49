//! Where in the configuration file a value stands, for errors that only appear when it is used.

use std::path::Path;

/// `file:line: key = "value"`; without the line if the file no longer says so.
pub fn of(file: &Path, key: &str, value: &str) -> String {
    let setting = format!("{key} = {value:?}");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    match line_of(&text, key, value) {
        Some(line) => format!("{}:{line}: {setting}", file.display()),
        None => format!("{}: {setting}", file.display()),
    }
}

/// The line that sets `key` to the string `value`, counted from 1.
fn line_of(text: &str, key: &str, value: &str) -> Option<usize> {
    let sets = |line: &str| {
        let (left, right) = line.split_once('=')?;
        let quoted = [format!("\"{value}\""), format!("'{value}'")];
        (left.trim() == key && quoted.iter().any(|q| right.trim().starts_with(q))).then_some(())
    };
    text.lines().position(|line| sets(line).is_some()).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_sets_a_value_is_found() {
        let text = "[wan]\nlink = \"wan0\"\n[[lan]]\nlink=\"lan0\" # the house\n";
        assert_eq!(line_of(text, "link", "wan0"), Some(2));
        assert_eq!(line_of(text, "link", "lan0"), Some(4));
        assert_eq!(line_of(text, "link", "lan1"), None);
        assert_eq!(line_of(text, "name", "lan0"), None);
    }

    #[test]
    fn a_value_that_is_a_default_is_named_without_a_line() {
        let place = of(Path::new("/nowhere/router.toml"), "socket", "/run/x");
        assert_eq!(place, "/nowhere/router.toml: socket = \"/run/x\"");
    }
}
