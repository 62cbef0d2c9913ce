//! The steps that have passed, in a file, so that an interrupted run can go on behind them.
//!
//! Each line is about one step: the commit, the step's name, and what of the step could not run, if anything.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::command::Task;
use crate::report::Verdict;
use crate::workspace::{Context as _, Failure, Result, root};

/// The steps that have passed on the checked-out commit.
pub(crate) struct PassedSteps {
    file: File,
    commit: String,
    /// By the step's name.
    verdicts: BTreeMap<String, Verdict>,
}

impl PassedSteps {
    /// Opens the file, or makes it. Fails if a tracked file differs from the commit.
    pub(crate) fn open(path: &Path, deadline: Instant) -> Result<Self> {
        let doing = format_args!("opening {}", path.display()).to_string();
        let commit = clean_commit(deadline)?;
        let path = root().join(path);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.context(&doing)?,
        };
        let mut file = OpenOptions::new().create(true).append(true).open(path).context(&doing)?;
        if !text.is_empty() && !text.ends_with('\n') {
            // The run before was killed while it wrote.
            writeln!(file).context(&doing)?;
        }
        Ok(Self { file, verdicts: parse(&text, &commit), commit })
    }

    /// The verdict on a step that has passed before.
    pub(crate) fn verdict(&self, step: &str) -> Option<Verdict> {
        self.verdicts.get(step).cloned()
    }

    /// Adds a step if it has passed. Fails if the sources have changed since the start: it is unknown which of them the
    /// step has seen.
    pub(crate) fn add(&mut self, step: &str, verdict: &Verdict, deadline: Instant) -> Result {
        let missing = match verdict {
            Verdict::Passed => "",
            Verdict::PassedInPart(missing) => missing,
            Verdict::Skipped(_) | Verdict::Failed(_) => return Ok(()),
        };
        if clean_commit(deadline)? != self.commit {
            return Err(Failure::new("another commit was checked out meanwhile"));
        }
        let line = format!("{} {step} {}\n", self.commit, missing.replace('\n', " "));
        self.file.write_all(line.as_bytes()).context("noting a step that has passed")
    }
}

/// The checked-out commit.
fn clean_commit(deadline: Instant) -> Result<String> {
    let git = |args: &[&str]| Task::new("git").args(args).output(deadline);
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    if let Some(first) = changed.lines().next() {
        let why = format!("--resume needs a commit, and not all changes are committed: {}", first.trim());
        return Err(Failure::new(why));
    }
    Ok(git(&["rev-parse", "HEAD"])?.trim().to_owned())
}

/// The verdicts of the lines about a commit. A line that was not written to its end is none.
fn parse(text: &str, commit: &str) -> BTreeMap<String, Verdict> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let of_commit = whole.lines().filter_map(|line| line.strip_prefix(commit)?.strip_prefix(' '));
    of_commit
        .filter_map(|line| {
            let (step, missing) = line.split_once(' ')?;
            let verdict =
                if missing.is_empty() { Verdict::Passed } else { Verdict::PassedInPart(missing.to_owned()) };
            Some((step.to_owned(), verdict))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_about_the_commit_count() {
        let text = "aaa fmt \naaa tests SKIPPED here: x\nbbb tidy \naaaa edges \naaa\naaa web\naaa doctests \naaa doc";
        let verdicts = parse(text, "aaa");
        let names: Vec<&str> = verdicts.keys().map(String::as_str).collect();
        assert_eq!(names, ["doctests", "fmt", "tests"]);
        assert_eq!(verdicts["fmt"], Verdict::Passed);
        assert_eq!(verdicts["tests"], Verdict::PassedInPart("SKIPPED here: x".into()));
        assert!(parse("", "aaa").is_empty() && parse("aaa fmt ", "aaa").is_empty());
    }
}
