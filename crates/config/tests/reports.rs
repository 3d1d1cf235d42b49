//! How a refusal looks to people and to programs.

use std::fs;

use config::{Fault, ReportStyle, load, parse};

const TWO_FAULTS: &str = "\
[wan]
link = \"wan0\"
colour = \"red\"

[[lan]]
name = \"home\"
link = \"lan0\"
address = \"10.0.0.1/24\"
[lan.dhcp]
pool = \"10.0.0.1-10.0.0.99\"
";

#[test]
fn all_that_is_wrong_is_shown_together_in_file_order() {
    let error = parse("router.toml", TWO_FAULTS).unwrap_err();
    assert_eq!(error.to_string(), "router.toml is refused: 2 problems");
    let lines = error.lines();
    assert!(lines[0].starts_with("router.toml:3: `colour` is not a key of `[wan]`; take it out"));
    assert_eq!(
        lines[1],
        "router.toml:10: the pool contains 10.0.0.1, the router's own address; begin the pool \
         behind 10.0.0.1, or end it before"
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_report_shows_the_line_the_place_and_the_remedy_without_colours() {
    let report = parse("router.toml", TWO_FAULTS).unwrap_err().report(ReportStyle::Plain);
    for part in [
        "router.toml is refused: 2 problems",
        "[router.toml:10:8]",
        "10 │ pool = \"10.0.0.1-10.0.0.99\"",
        "help: begin the pool",
        "the LAN's address",
    ] {
        assert!(report.contains(part), "{part} is missing in\n{report}");
    }
    assert!(!report.contains('\u{1b}'), "{report}");
}

#[test]
fn a_report_for_a_terminal_has_colours() {
    let report = parse("router.toml", TWO_FAULTS).unwrap_err().report(ReportStyle::Coloured);
    assert!(report.contains('\u{1b}'), "{report}");
}

#[test]
fn a_file_with_countless_faults_gets_a_report_of_bounded_length() {
    let unknown: String = (0..1000).map(|i| format!("key{i} = 1\n")).collect();
    let error = parse("router.toml", &unknown).unwrap_err();
    assert_eq!(error.problems().len(), 50);
    assert_eq!(error.lines().last().map(String::as_str), Some("router.toml: 952 more"));
}

#[test]
fn a_wrong_reservation_is_reported_once_and_not_again_by_the_forward_to_it() {
    let file = "[wan]\nlink = \"wan0\"\n[[lan]]\nname = \"home\"\nlink = \"lan0\"\n\
        address = \"10.0.0.1/24\"\n[lan.dhcp]\npool = \"10.0.0.100-10.0.0.199\"\n\
        [[lan.dhcp.reservation]]\nmac = \"?\"\naddress = \"10.0.0.5\"\nname = \"web\"\n\
        [[forward]]\nprotocol = \"tcp\"\nport = 80\nto = \"web\"\n";
    let lines = parse("router.toml", file).unwrap_err().lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn a_file_is_loaded_from_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.toml");
    fs::write(&path, config::print_defaults()).unwrap();
    assert!(load(&path).is_ok());
}

#[test]
fn a_file_that_is_not_there_is_reported_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.toml");
    let lines = load(&path).unwrap_err().lines();
    assert!(lines[0].starts_with(&format!("{}: the file cannot be read", path.display())));
}

#[test]
fn a_file_that_is_no_text_is_reported_at_the_first_wrong_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.toml");
    fs::write(&path, b"[wan]\nlink = \"\xff\"\n").unwrap();
    let error = load(&path).unwrap_err();
    assert_eq!(error.problems()[0].line(), Some(2));
    assert!(matches!(error.problems()[0].fault(), Fault::NotUtf8));
    assert!(!error.report(ReportStyle::Plain).is_empty());
}

#[test]
fn a_file_past_the_limit_is_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.toml");
    fs::write(&path, vec![b'#'; (4 << 20) + 1]).unwrap();
    assert!(load(&path).unwrap_err().lines()[0].contains("longer than 4194304 bytes"));
}
