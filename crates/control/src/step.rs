//! Steps: what a plan consists of.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

/// What to do, in order, and what was left alone on purpose. Empty steps: nothing drifted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
    /// What the operator should know besides: things in use that were made by others.
    pub notes: Vec<String>,
}

/// One action with its reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// Why, for a person.
    pub reason: String,
    /// What.
    pub action: Action,
    /// What takes it back by hand, where that is one command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<Vec<String>>,
}

/// Something done to the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Run a command to its end; it must exit 0.
    Run(Vec<String>),
    /// Put a file in place, whole or not at all, and make its folder.
    Write {
        /// Where.
        path: PathBuf,
        /// What.
        contents: String,
    },
    /// Remove a file; one that is gone already is no failure.
    Remove(PathBuf),
    /// Start a command that outlives us.
    Spawn {
        /// The command; it must not change its process id.
        argv: Vec<String>,
        /// Where its process id goes.
        pid_file: PathBuf,
        /// Where its output is appended.
        log_file: PathBuf,
    },
}

impl Plan {
    /// Adds a command.
    pub(crate) fn run<S: Into<String>>(
        &mut self,
        reason: impl Into<String>,
        argv: impl IntoIterator<Item = S>,
    ) -> &mut Step {
        self.push(reason, Action::Run(argv.into_iter().map(Into::into).collect()))
    }

    pub(crate) fn push(&mut self, reason: impl Into<String>, action: Action) -> &mut Step {
        let at = self.steps.len();
        self.steps.push(Step { reason: reason.into(), action, undo: None });
        &mut self.steps[at]
    }

    /// The plan as a shell script that stops at the first failure.
    #[must_use]
    pub fn script(&self) -> String {
        let mut script = String::from("#!/bin/sh\nset -eu\n");
        for note in &self.notes {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(script, "# note: {note}");
        }
        for step in &self.steps {
            let _ = writeln!(script, "\n# {}", step.reason);
            step.action.write_shell(&mut script);
        }
        script
    }
}

impl Step {
    pub(crate) fn undo<S: Into<String>>(&mut self, argv: impl IntoIterator<Item = S>) {
        self.undo = Some(argv.into_iter().map(Into::into).collect());
    }
}

impl Action {
    /// The action in one line, as a shell would be told.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Run(argv) => shell_line(argv),
            Self::Write { path, .. } => format!("write {}", path.display()),
            Self::Remove(path) => format!("rm -f {}", quote(&path.to_string_lossy())),
            Self::Spawn { argv, .. } => format!("{} &", shell_line(argv)),
        }
    }

    fn write_shell(&self, script: &mut String) {
        let path = |path: &PathBuf| quote(&path.to_string_lossy());
        let _ = match self {
            Self::Run(_) | Self::Remove(_) => writeln!(script, "{}", self.summary()),
            Self::Write { path: file, contents } => {
                if let Some(folder) = file.parent() {
                    let _ = writeln!(script, "mkdir -p {}", path(&folder.to_owned()));
                }
                let end = heredoc_end(contents);
                let newline = if contents.ends_with('\n') { "" } else { "\n" };
                writeln!(script, "cat > {} <<'{end}'\n{contents}{newline}{end}", path(file))
            }
            Self::Spawn { argv, pid_file, log_file } => writeln!(
                script,
                "{} < /dev/null >> {} 2>&1 &\necho $! > {}",
                shell_line(argv),
                path(log_file),
                path(pid_file)
            ),
        };
    }
}

/// A line that ends a here-document and does not occur in it.
fn heredoc_end(contents: &str) -> String {
    let mut end = String::from("END");
    while contents.lines().any(|line| line == end) {
        end.push('_');
    }
    end
}

/// A command as a shell reads it.
pub(crate) fn shell_line(argv: &[String]) -> String {
    argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=,@%+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_would_misread_them() {
        assert_eq!(quote("zone-router:zr0"), "zone-router:zr0");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn a_script_carries_files_whole() {
        let mut plan = Plan::default();
        plan.push("file", Action::Write { path: "/s/f".into(), contents: "END\n$x".into() });
        assert_eq!(
            plan.script(),
            "#!/bin/sh\nset -eu\n\n# file\nmkdir -p /s\ncat > /s/f <<'END_'\nEND\n$x\nEND_\n"
        );
    }
}
