//! `crates/nat/RFC.md` says of every requirement what became of it, and names tests that exist.
//!
//! That the tests named there also ran and passed is checked by `cargo xtask test`, which sees them run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every requirement by RFC; a letter that stands for itself follows its number.
const REQUIREMENTS: &[(&str, &str)] = &[
    ("4787-", "1 2 3 3a 4 5 5a 5b 5c 6 6a 7 8 8a 9 9a 10 10a 11 12 12a 12b 13 13a 14 14a"),
    ("5382-", "1 2 2a 3 3a 3b 4 4a 5 5a 6 7 8 8a 9 10"),
    ("5508-", "1 1a 2 2a 3 3a 3b 3c 3d 4 5 6 7 7a 8 9 10a 10b 10c 10d 10e 10f 11"),
    ("7857-", "2 2.1 2.2 3 4 5 6 7 7.1 8 9 10 11 12"),
    ("6888-", "1 2 3 4 4a 4b 4c 5 6 7 8 9 10 11a 11b 11c 11d 12 13 14 15"),
    ("6056-", "3.2 3.3 3.4 4-not-preserving 4-preserving 4-parity"),
    ("3022-", "4.1-checksums 4.1-icmp 4.2 4.3 5 6.2 6.3"),
    (
        "trap-",
        "port-parity hairpin-source hairpin-filter simultaneous-open syn-six-seconds reset-keeps \
         inner-options inner-truncated icmp-extension udp-checksum-zero fragment-tail-first \
         same-ip-id rejected-refresh every-icmp-type determinism no-eviction hold-down \
         lease-in-lan address-change own-address hairpin-error pmtu",
    ),
];

const LEVELS: &[&str] = &["M", "S", "O", "M/S", "O/S"];

/// Shortest reason that says anything.
const REASON_LEN_MIN: usize = 20;

/// Crates that packets go through.
const PACKET_PATH: &[&str] =
    &["packet", "flow-table", "nat", "firewall", "forwarding", "qos", "pipeline"];

/// Crates that write logs or files.
const LOGS: &[&str] = &["tracing", "log", "tracing-subscriber"];

#[derive(Debug)]
struct Row {
    id: String,
    level: String,
    requirement: String,
    status: Status,
    tests: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Status {
    Met,
    MetByConfiguration(String),
    DeliberatelyNot(String),
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        if text == "met" {
            return Some(Self::Met);
        }
        let key = text.strip_prefix("met by configuration `").and_then(|key| key.strip_suffix('`'));
        let reason = text.strip_prefix("deliberately not: ").map(str::to_owned);
        key.map(|key| Self::MetByConfiguration(key.to_owned()))
            .or(reason.map(Self::DeliberatelyNot))
    }
}

fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), ".."].iter().collect()
}

/// The rows of every table of the page.
fn rows() -> Vec<Row> {
    let page = fs::read_to_string(root().join("crates/nat/RFC.md")).expect("the page is there");
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, level, requirement, status, tests] = cells[..] else {
            panic!("not five cells: {line}")
        };
        if id == "ID" || id.starts_with("---") {
            continue;
        }
        rows.push(Row {
            id: id.to_owned(),
            level: level.to_owned(),
            requirement: requirement.to_owned(),
            status: Status::parse(status).unwrap_or_else(|| panic!("{id}: no status: {status}")),
            tests: names(id, tests),
        });
    }
    rows
}

/// The names in a list `` `a`, `b` ``.
fn names(id: &str, list: &str) -> Vec<String> {
    let names = list.split(", ").filter(|name| !name.is_empty());
    names
        .map(|name| {
            let bare = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
            bare.unwrap_or_else(|| panic!("{id}: no name of a test: {name}")).to_owned()
        })
        .collect()
}

#[test]
fn every_requirement_has_one_row_and_no_row_is_of_no_requirement() {
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for (prefix, numbers) in REQUIREMENTS {
        for number in numbers.split_whitespace() {
            assert_eq!(expected.insert(format!("{prefix}{number}"), 0), None, "listed twice");
        }
    }
    for row in rows() {
        let Some(count) = expected.get_mut(&row.id) else { panic!("{} is no requirement", row.id) };
        *count += 1;
    }
    let wrong: Vec<_> = expected.iter().filter(|(_, count)| **count != 1).collect();
    assert!(wrong.is_empty(), "requirements without a row, or with several: {wrong:?}");
}

#[test]
fn every_must_is_met_or_explained_and_what_is_met_has_a_test() {
    let mut wrong = Vec::new();
    for row in rows() {
        let has_tests = !row.tests.is_empty();
        let complaint = match &row.status {
            _ if !LEVELS.contains(&row.level.as_str()) => "has no level",
            _ if row.requirement.is_empty() => "does not say what it requires",
            Status::Met | Status::MetByConfiguration(_) if !has_tests => "is met, but by no test",
            Status::MetByConfiguration(key) if !is_key(key) => "is met by a key that there is not",
            Status::DeliberatelyNot(why) if why.len() < REASON_LEN_MIN => "is not met, and not why",
            Status::DeliberatelyNot(_) if row.level.starts_with('M') && row.level != "M/S" => {
                "is a MUST, which no reason excuses"
            }
            _ => continue,
        };
        wrong.push(format!("{} {complaint}", row.id));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the printed defaults, which show every key, know a dotted one.
fn is_key(dotted: &str) -> bool {
    let printed = config::print_defaults();
    let (table, key) = dotted.rsplit_once('.').unwrap_or(("", dotted));
    let has = |wanted: &str| {
        printed.lines().any(|line| {
            let line = line.trim_start_matches('#').trim();
            line == format!("[{wanted}]") || line == format!("[[{wanted}]]")
        })
    };
    let is_assigned = printed.lines().any(|line| {
        let line = line.trim_start_matches('#').trim();
        line.split_once('=').is_some_and(|(name, _)| name.trim() == key)
    });
    has(dotted) || ((table.is_empty() || has(table)) && is_assigned)
}

#[test]
fn every_test_that_a_row_names_exists() {
    let mut missing = Vec::new();
    for row in rows() {
        for name in &row.tests {
            if let Err(why) = find(name) {
                missing.push(format!("{}: {name}: {why}", row.id));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Finds a test's function in the file of its module.
fn find(name: &str) -> Result<(), String> {
    let (target, path) = name.split_once("::").ok_or("no module path")?;
    let mut modules: Vec<&str> = path.split("::").collect();
    let function = modules.pop().ok_or("no function")?;
    let (package, start) = match target.split_once('/') {
        Some((package, target)) => {
            let tests = folder_of(package).join("tests");
            let main = tests.join(target).join("main.rs");
            let file = if main.exists() { main } else { tests.join(format!("{target}.rs")) };
            // A program of one file has the modules that are its own beside it too, by `#[path]`.
            let modules_in = tests.join(target);
            (package, (file, modules_in))
        }
        None => {
            let source = folder_of(target).join("src");
            (target, (source.join("lib.rs"), source))
        }
    };
    let (mut file, mut folder) = start;
    for module in modules {
        let beside = folder.join(format!("{module}.rs"));
        let below = folder.join(module).join("mod.rs");
        if beside.exists() {
            file = beside;
        } else if below.exists() {
            file = below;
        } else if !text_of(&file)?.contains(&format!("mod {module} {{")) {
            return Err(format!("{package} has no module {module} there"));
        }
        folder = folder.join(module);
    }
    if is_test(&text_of(&file)?, function) {
        Ok(())
    } else {
        Err(format!("{} has no such test", file.display()))
    }
}

fn folder_of(package: &str) -> PathBuf {
    if package == "tests" { root().join(package) } else { root().join("crates").join(package) }
}

fn text_of(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Whether a text has a function of this name with `#[test]` among the attributes above it.
fn is_test(text: &str, function: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let is_it = |line: &str| {
        let rest = line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(function));
        rest.is_some_and(|rest| rest.starts_with('('))
    };
    lines.iter().enumerate().filter(|(_, line)| is_it(line)).any(|(at, _)| {
        let above = lines[..at].iter().rev();
        above.take_while(|line| line.starts_with(['#', '/'])).any(|line| *line == "#[test]")
    })
}

#[test]
fn req6888_12_req6888_14_the_packet_path_has_no_log() {
    let manifest = root().join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec();
    let metadata = metadata.expect("cargo knows the workspace");
    for name in PACKET_PATH {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == *name);
        let package = package.unwrap_or_else(|| panic!("there is no crate {name}"));
        let mut normal =
            package.dependencies.iter().filter(|used| used.kind == DependencyKind::Normal);
        let log = normal.find(|used| LOGS.contains(&used.name.as_str()));
        assert!(log.is_none(), "{name} could write of flows by {log:?}");
    }
}

#[test]
fn a_name_without_a_test_is_noticed() {
    assert!(find("nat::tests::mappings::req1_no_such_test").is_err());
    assert!(find("nat::tests::no_such_module::x").is_err());
    assert!(find("nat/no_such_target::x").is_err());
    let text = "#[test]\nfn one() {}\n\nfn other() {}\n/// Says.\n#[test]\n#[should_panic]\nfn third(x: u8) {}";
    assert!(is_test(text, "one") && is_test(text, "third"));
    assert!(!is_test(text, "other") && !is_test(text, "thir"));
}

#[test]
fn a_status_is_one_of_three() {
    assert_eq!(Status::parse("met"), Some(Status::Met));
    let key = Status::MetByConfiguration("lan.filtering".to_owned());
    assert_eq!(Status::parse("met by configuration `lan.filtering`"), Some(key));
    let why = "deliberately not: nobody can tell two apart";
    assert!(matches!(Status::parse(why), Some(Status::DeliberatelyNot(_))));
    for word in ["mostly met", "pending: somebody", "met by configuration lan.filtering", ""] {
        assert_eq!(Status::parse(word), None, "{word}");
    }
    assert!(is_key("nat.timeouts.udp") && is_key("forward") && !is_key("nat.magic"));
}
