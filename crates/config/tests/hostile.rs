//! No text makes the reader panic, and every refusal can be shown.

use config::{ReportStyle, parse, print_defaults};
use proptest::prelude::*;

/// A file in which every key has a value.
fn full() -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key.to_owned(),
        _ => line.to_owned(),
    };
    print_defaults().lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

fn shown(text: &str) {
    if let Err(error) = parse("fuzz.toml", text) {
        assert!(!error.problems().is_empty());
        for problem in error.problems() {
            assert!(!problem.remedy().is_empty(), "{problem}");
        }
        assert!(!error.lines().is_empty());
        assert!(!error.report(ReportStyle::Plain).is_empty());
    }
}

/// Values of every kind, legal in no place or in few.
fn strange_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("TOML spells infinity and NaN otherwise", |f| f.is_finite())
            .prop_map(|f| format!("{f:?}")),
        any::<bool>().prop_map(|b| b.to_string()),
        "[ -!#-\\[\\]-~äß€]{0,24}".prop_map(|text| format!("\"{text}\"")),
        "(25[0-9]|[0-9]{1,3})(\\.[0-9]{1,3}){3}(/[0-9]{1,2}|-0\\.0\\.0\\.0)?"
            .prop_map(|text| format!("\"{text}\"")),
        "[0-9]{1,20}(s|m|h|days|Mbit/s|Gbit/s|-[0-9]{1,6})?".prop_map(|text| format!("\"{text}\"")),
        Just("[]".to_owned()),
        Just("[[], {}, 1, \"x\"]".to_owned()),
        Just("{}".to_owned()),
        Just("{ bytes = -99999999999999999999 }".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("0xffffffffffffffffffff".to_owned()),
        Just("\"255.255.255.255/0\"".to_owned()),
        Just("\"0.0.0.0-255.255.255.255\"".to_owned()),
        Just("\"255.255.255.254/8\"".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn a_value_of_any_kind_at_any_key_is_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), strange_value()), 1..4),
    ) {
        let mut lines: Vec<String> = full().lines().map(str::to_owned).collect();
        for (index, value) in changes {
            let keys: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].contains(" = ")).collect();
            let line = &mut lines[keys[index.index(keys.len())]];
            let key = line.split(" = ").next().unwrap_or_default().to_owned();
            *line = format!("{key} = {value}");
        }
        shown(&lines.join("\n"));
    }

    #[test]
    fn a_file_with_lines_missing_or_moved_is_read_or_refused(
        seed in proptest::collection::vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let mut lines: Vec<String> = full().lines().map(str::to_owned).collect();
        for pair in seed.chunks(2) {
            let taken = lines.remove(pair[0].index(lines.len()));
            if let Some(place) = pair.get(1) {
                lines.insert(place.index(lines.len()), taken);
            }
        }
        shown(&lines.join("\n"));
    }

    #[test]
    fn a_file_with_characters_changed_is_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..6),
    ) {
        let mut text: Vec<char> = full().chars().collect();
        for (index, with) in changes {
            let at = index.index(text.len());
            text[at] = with;
        }
        shown(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        shown(&text);
    }
}

#[test]
fn deep_nesting_is_refused_rather_than_followed() {
    shown(&format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)));
    shown(&format!("a{} = 1", ".a".repeat(100_000)));
}
