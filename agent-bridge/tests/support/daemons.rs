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

/// A shell script that reads a line, starts the first of a chain of daemons, and writes `received` when it has read
/// another line. Each daemon starts the next one, in a session of its own and with an empty environment, and exits at
/// once. `name` is that of a file in the workspace, by which [`links`] finds them.
pub(crate) fn chain(name: &str) -> String {
    format!(
        r#"cat > {name} <<'END'
[ "$1" -lt 100000 ] && {{ setsid env -i sh {name} $(($1 + 1)) & }}
END
        setsid env -i sh {name} 0 &
        while read -r line; do echo >> received; done"#
    )
}

/// The number of running daemons of a chain.
pub(crate) fn links(name: &str) -> usize {
    with_arguments(&["sh", name])
}

/// How many chains each test starts, one after the other: the variable `SWITCHBOARD_DAEMON_CHAINS`, or few.
pub(crate) fn chains() -> usize {
    const FEW: usize = 3;
    std::env::var("SWITCHBOARD_DAEMON_CHAINS").map_or(FEW, |chains| chains.parse().unwrap())
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
fn with_arguments(arguments: &[&str]) -> usize {
    let wanted: String = arguments.iter().flat_map(|argument| [argument, "\0"]).collect();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(&wanted)).count()
}
