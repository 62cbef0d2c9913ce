//! Checks that forbidden dependencies between crates, and circles of modules within one, do not exist, which keeps the
//! architecture from eroding.

use std::collections::BTreeSet;

use crate::command::Task;
use crate::git::Tree;
use crate::modules;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Failure, Result};

/// Crates that may occur in one version only: two versions would be two WebSocket implementations with separate limits.
const SINGLE: [&str; 2] = ["tungstenite", "tokio-tungstenite"];

/// Crates for async code. A name that ends in `-` stands for all crates with that prefix.
const ASYNC: [&str; 14] = [
    "async", "async-", "axum", "axum-", "futures", "futures-", "hyper", "hyper-", "mio", "pollster", "smol",
    "tokio", "tokio-", "tower-",
];

/// A crate of the workspace, the crates that it must not depend on, and the reason.
struct Rule {
    from: &'static str,
    to: &'static [&'static str],
    /// Whether the rule also covers dependencies of tests and examples.
    in_tests: bool,
    why: &'static str,
}

/// The forbidden dependencies. A name that ends in `-` stands for all crates with that prefix.
const RULES: [Rule; 7] = [
    Rule {
        from: "switchboard-core",
        to: &ASYNC,
        in_tests: true,
        why: "the core is a state machine without I/O",
    },
    Rule {
        from: "switchboard-core",
        to: &["switchboard-"],
        in_tests: false,
        why: "everything else is around the core",
    },
    Rule {
        from: "switchboard-core",
        to: &[
            "switchboard-runtime",
            "switchboard-transport-",
            "switchboard-agent-bridge",
            "switchboard-gateway",
        ],
        in_tests: true,
        why: "the core is tested without what is around it",
    },
    Rule {
        from: "switchboard-transport-",
        to: &["switchboard-transport-", "switchboard-agent-bridge"],
        in_tests: false,
        why: "a transport carries frames and knows neither the other transports nor the agents",
    },
    Rule {
        from: "switchboard-runtime",
        to: &["switchboard-transport-", "switchboard-agent-bridge"],
        in_tests: false,
        why: "transports and agents plug into the runtime, not the other way round",
    },
    Rule {
        from: "switchboard-agent-bridge",
        to: &["switchboard-transport-"],
        in_tests: false,
        why: "an agent does not know how clients come in",
    },
    Rule {
        from: "xtask",
        to: &["switchboard-"],
        in_tests: true,
        why: "xtask has to work while everything else is broken",
    },
];

/// The name and the version of a crate.
type Package = (String, String);

/// Asks cargo for the dependency trees and checks them against the rules; checks the modules of each crate.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let members = tree(session, &["--workspace", "--depth", "0"])?;
    let everything = tree(session, &["--workspace", "--edges", "normal,build,dev"])?;
    let mut broken = repeated(&everything);
    for rule in &RULES {
        let from: Vec<&str> =
            members.iter().map(|(name, _)| name.as_str()).filter(|name| covers(rule.from, name)).collect();
        if from.is_empty() {
            broken
                .push(format!("no crate of the workspace is called {}, of which there is a rule", rule.from));
        }
        for name in from {
            let edges = if rule.in_tests { "normal,build,dev" } else { "normal,build" };
            let reached = tree(session, &["--package", name, "--edges", edges])?;
            broken.extend(violations(rule, name, &reached));
        }
    }
    broken.extend(modules::circles(&Tree::read(session)?));
    if broken.is_empty() { Ok(Verdict::Passed) } else { Err(Failure::new(broken.join("\n"))) }
}

/// The packages in a dependency tree, over all features and targets.
fn tree(session: &Session, args: &[&str]) -> Result<BTreeSet<Package>> {
    let whole =
        ["tree", "--locked", "--all-features", "--target", "all", "--prefix", "none", "--format", "{p}"];
    Ok(packages(&Task::cargo().args(whole).args(args).output(session.deadline())?))
}

/// Parses lines such as `serde v1.0.229` and `core v0.1.0 (path)`.
fn packages(tree: &str) -> BTreeSet<Package> {
    let package = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let version = words.next()?.strip_prefix('v')?;
        Some((name.to_owned(), version.to_owned()))
    };
    tree.lines().filter_map(package).collect()
}

/// Whether a name in a rule covers this crate.
fn covers(name_or_prefix: &str, name: &str) -> bool {
    name == name_or_prefix || (name_or_prefix.ends_with('-') && name.starts_with(name_or_prefix))
}

/// The dependencies of a crate that violate a rule, as messages.
fn violations(rule: &Rule, from: &str, reached: &BTreeSet<Package>) -> Vec<String> {
    let is_forbidden = |name: &str| name != from && rule.to.iter().any(|to| covers(to, name));
    let say = |name: &str| format!("{from} reaches {name} (cargo tree -p {from} -i {name}): {}", rule.why);
    reached.iter().map(|(name, _)| name.as_str()).filter(|name| is_forbidden(name)).map(say).collect()
}

/// The crates of [`SINGLE`] that do not occur in exactly one version, as messages.
fn repeated(everything: &BTreeSet<Package>) -> Vec<String> {
    let versions = |single: &str| -> Vec<&str> {
        everything.iter().filter(|(name, _)| name == single).map(|(_, version)| version.as_str()).collect()
    };
    let check = |single: &&str| {
        let versions = versions(single);
        let count = versions.len();
        (count != 1).then(|| format!("{count} versions of {single} in the tree, not one: {versions:?}"))
    };
    SINGLE.iter().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: &str) -> &'static Rule {
        RULES.iter().find(|rule| rule.from == from).unwrap()
    }

    fn broken_by(from: &str, reached: &str) -> usize {
        let owner = RULES.iter().find(|rule| covers(rule.from, from)).unwrap();
        violations(rule(owner.from), from, &packages(reached)).len()
    }

    #[test]
    fn an_async_core_is_noticed() {
        assert_eq!(
            broken_by("switchboard-core", "switchboard-core v0.1.0 (path)\nserde v1.0.0\nbytes v1.1.0 (*)"),
            0
        );
        for name in ["tokio", "tokio-util", "futures", "futures-core", "async-trait", "mio"] {
            assert_eq!(broken_by("switchboard-core", &format!("serde v1.0.0\n{name} v0.1.0")), 1, "{name}");
        }
    }

    #[test]
    fn a_transport_reaches_neither_another_nor_the_agents() {
        let own = "switchboard-transport-ws v0.1.0\nswitchboard-runtime v0.1.0\nswitchboard-core v0.1.0\n";
        assert_eq!(broken_by("switchboard-transport-ws", own), 0);
        for name in ["switchboard-transport-unix", "switchboard-transport-sse", "switchboard-agent-bridge"] {
            assert_eq!(broken_by("switchboard-transport-ws", &format!("{own}{name} v0.1.0")), 1, "{name}");
        }
    }

    #[test]
    fn xtask_depends_on_nothing_of_the_workspace() {
        assert_eq!(broken_by("xtask", "xtask v0.1.0"), 0);
        assert_eq!(broken_by("xtask", "xtask v0.1.0\nswitchboard-core v0.1.0"), 1);
    }

    #[test]
    fn a_second_version_of_a_package_is_found() {
        let one = "tungstenite v0.30.0\ntokio-tungstenite v0.30.0\ntungstenite v0.30.0 (*)\n";
        assert!(repeated(&packages(one)).is_empty());
        assert_eq!(repeated(&packages(&format!("{one}tungstenite v0.28.0\n"))).len(), 1);
        assert_eq!(repeated(&packages("")).len(), SINGLE.len());
    }
}
