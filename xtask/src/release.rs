//! Subcommands that build and run another program of the workspace in release mode.

use crate::command::Task;
use crate::runner::Session;
use crate::tools;
use crate::workspace::{Failure, find_program};

/// Builds the gateway in release mode and becomes `switchboard serve`. Needs no Node, since the page's bundle is
/// committed. Returns only on failure.
pub(crate) fn serve(args: Vec<String>) -> Failure {
    // Without `--quiet`, since the first build takes a while and should show its progress.
    let gateway =
        ["run", "--release", "--package", "switchboard-gateway", "--bin", "switchboard", "--", "serve"];
    Task::cargo().args(gateway).args(flags(args)).keep_dir().become_it()
}

/// Builds the gateway and the bench in release mode and becomes the bench. Returns only on failure.
pub(crate) fn bench(args: Vec<String>) -> Failure {
    let session = Session::unhurried();
    // Some rows are measured beside websocketd. Without it, they say that they skip this reference.
    if find_program("websocketd").is_none()
        && let Err(failure) = tools::apt_install(&session, "websocketd", &["websocketd"])
    {
        println!("{failure}");
    }
    // The bench starts the gateway, but does not depend on it.
    let gateway = ["build", "--release", "--package", "switchboard-gateway", "--bin", "switchboard"];
    if let Err(failure) = Task::cargo().args(gateway).run(session.deadline()) {
        return failure;
    }
    let bench = ["run", "--release", "--package", "switchboard-bench", "--"];
    Task::cargo().args(bench).args(flags(args)).become_it()
}

/// The arguments after the subcommand, without a leading `--`.
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
    fn the_first_argument_of_two_dashes_is_dropped() {
        let strings = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(flags(strings(&["--", "--no-auth"])), ["--no-auth"]);
        assert_eq!(flags(strings(&["--no-auth", "--"])), ["--no-auth", "--"]);
        assert_eq!(flags(strings(&["--", "--"])), ["--"]);
    }
}
