//! Helpers of an agent that have left it in every way: daemons.

use super::eventually;

/// How many daemons [`script`] starts.
pub(crate) const COUNT: usize = 20;

/// A shell script that reads a line and then starts daemons: their parent exits, they are in sessions of their own, and
/// their environment is empty. Then it reads its input to the end. `name` is a number of seconds, by which
/// [`running`] finds them.
pub(crate) fn script(name: usize) -> String {
    let test = std::process::id();
    format!(
        "read -r line; n=0
        while [ $n -lt {COUNT} ]; do ( setsid env -i sleep {name}.{test} & ); n=$((n + 1)); done
        while read -r line; do :; done"
    )
}

/// The number of processes `sleep` of this test run with this name.
pub(crate) fn running(name: usize) -> usize {
    with_arguments(&["sleep", &format!("{name}.{}", std::process::id())])
}

/// Waits until all daemons of a script run.
pub(crate) async fn all_run(name: usize) {
    eventually("all daemons run", || running(name) == COUNT).await;
}

/// The number of processes whose first arguments, the program included, are these.
pub(crate) fn with_arguments(arguments: &[&str]) -> usize {
    let wanted: String = arguments.iter().flat_map(|argument| [argument, "\0"]).collect();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(&wanted)).count()
}
