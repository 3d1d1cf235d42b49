//! What the tests of refused files share.

use config::parse;

/// Asserts that the file has exactly one problem, on the marked line, with these words.
#[track_caller]
pub fn refused(file: &str, message: &str, remedy: &str) {
    let error = parse("router.toml", file).expect_err("the file is wrong");
    let [problem] = error.problems() else { panic!("{}", error.lines().join("\n")) };
    let line = file.lines().position(|line| line.contains("# HERE"));
    assert_eq!(problem.line(), line.map(|line| line + 1), "{problem}");
    assert!(problem.to_string().contains(message), "{problem}");
    assert!(problem.remedy().contains(remedy), "{}", problem.remedy());
}
