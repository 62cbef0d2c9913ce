//! Commands that become a release build of something else.

use crate::command::Task;
use crate::workspace::Failure;

/// Becomes `switchboard serve`, built for release. Needs no Node: the page's bundle is part of the sources.
pub(crate) fn serve(args: Vec<String>) -> Failure {
    // Cargo's own flags keep the build's progress visible: the first build takes a while.
    let gateway =
        ["run", "--release", "--package", "switchboard-gateway", "--bin", "switchboard", "--", "serve"];
    Task::cargo().args(gateway).args(flags(args)).keep_dir().become_it()
}

/// Becomes the bench, built for release.
pub(crate) fn bench(args: Vec<String>) -> Failure {
    let bench = ["run", "--release", "--package", "switchboard-bench", "--"];
    Task::cargo().args(bench).args(flags(args)).become_it()
}

/// What the caller wrote after the subcommand, with or without a `--` in front.
fn flags(mut args: Vec<String>) -> Vec<String> {
    if args.first().is_some_and(|arg| arg == "--") {
        args.remove(0);
    }
    args
}

#[cfg(test)]
mod tests {
    use super::flags;

    #[test]
    fn one_separator_is_ours_and_a_second_is_theirs() {
        let strings = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(flags(strings(&["--", "--no-auth"])), ["--no-auth"]);
        assert_eq!(flags(strings(&["--no-auth", "--"])), ["--no-auth", "--"]);
        assert_eq!(flags(strings(&["--", "--"])), ["--"]);
    }
}
