//! The steps that cargo runs.
//!
//! They use the same packages and features, `--workspace --all-features`, and do not change `RUSTFLAGS`, so that
//! nothing is compiled twice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::command::Task;
use crate::report::Verdict;
use crate::runner::Session;
use crate::snapshots;
use crate::workspace::{Context as _, Failure, Result, empty_scratch, find_program, read, target};

/// The packages and features of all builds: with other features, most dependencies would be built again.
const EVERYTHING: [&str; 2] = ["--workspace", "--all-features"];

/// Targets that the core must build for: one without `std`, whose `core` and `alloc` rustup has prebuilt, and one for
/// browsers.
const CORE_TARGETS: [&str; 2] = ["wasm32v1-none", "wasm32-unknown-unknown"];

/// The library crates and their intended features. Each crate must build alone, without the features that other
/// members of the workspace turn on.
pub(crate) const LIBRARIES: [(&str, &[&str]); 6] = [
    ("core", &["schema"]),
    ("runtime", &["sqlite"]),
    ("transport-ws", &[]),
    ("transport-unix", &[]),
    ("transport-sse", &[]),
    ("agent-bridge", &[]),
];

/// The least amounts of work of tests with `--nightly`: malformed frames over each transport, inputs of each fuzz
/// target, steps of the simulator, turns in one chat, chains of daemons.
const NIGHTLY_COUNTS: [(&str, &str); 5] = [
    ("SWITCHBOARD_FUZZ_FRAMES", "10000000"),
    ("BOLERO_RANDOM_ITERATIONS", "100000"),
    ("SWITCHBOARD_SIM_STEPS", "100000000"),
    ("SWITCHBOARD_ENDURANCE_TURNS", "100000"),
    ("SWITCHBOARD_DAEMON_CHAINS", "300"),
];

/// The optimisation level of tests with `--nightly`: without optimisation, these amounts would take a day.
const NIGHTLY_OPT_LEVEL: (&str, &str) = ("CARGO_PROFILE_DEV_OPT_LEVEL", "2");

pub(crate) fn format(session: &Session) -> Result<Verdict> {
    // Lists the names of the files only: `cargo fmt` shows the rest.
    let files = Task::cargo().args(["fmt", "--all", "--check", "--", "-l"]);
    files.run(session.deadline()).context("run `cargo fmt`")?;
    Ok(Verdict::Passed)
}

pub(crate) fn clippy(session: &Session) -> Result<Verdict> {
    let clippy = Task::cargo().arg("clippy").arg("--locked").args(EVERYTHING).arg("--all-targets");
    clippy.args(["--", "-D", "warnings"]).run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// Checks the core, without its `schema` feature, for targets without an operating system.
pub(crate) fn no_std(session: &Session) -> Result<Verdict> {
    if !says_no_std(&read("core/src/lib.rs")?) {
        return Err(Failure::new("core/src/lib.rs does not say no_std"));
    }
    let mut missing = Vec::new();
    for target in CORE_TARGETS {
        if !has_target(session, target) {
            let added = Task::new("rustup").args(["target", "add", target]).output(session.deadline());
            if let Err(failure) = added {
                missing.push(format!("the target {target} is not installed and cannot be: {failure}"));
                continue;
            }
        }
        let core = ["clippy", "--locked", "--package", "switchboard-core", "--target", target];
        Task::cargo().args(core).args(["--", "-D", "warnings"]).run(session.deadline())?;
    }
    if missing.len() == CORE_TARGETS.len() {
        return Ok(Verdict::Skipped(missing.join("; ")));
    }
    missing.iter().for_each(|reason| println!("not built: {reason}"));
    Ok(Verdict::Passed)
}

/// Checks each library alone, without features and with each single feature.
pub(crate) fn features(session: &Session) -> Result<Verdict> {
    for (library, features) in LIBRARIES {
        let manifest = read(&format!("{library}/Cargo.toml"))?;
        let declared = declared_features(&manifest);
        if declared != features {
            let failure =
                format!("{library} has the features {declared:?}; xtask/src/rust.rs lists {features:?}");
            return Err(Failure::new(failure));
        }
        for feature in std::iter::once("").chain(features.iter().copied()) {
            let package = format!("switchboard-{library}");
            let check = ["check", "--locked", "--quiet", "--no-default-features", "--package", &package];
            Task::cargo().args(check).args(["--features", feature]).run(session.deadline())?;
        }
    }
    Ok(Verdict::Passed)
}

/// The names of the features in a manifest.
fn declared_features(manifest: &str) -> Vec<&str> {
    let section = manifest.lines().skip_while(|line| *line != "[features]").skip(1);
    let lines = section.take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| Some(line.split_once(" = ")?.0)).filter(|name| !name.starts_with('#')).collect()
}

fn says_no_std(crate_root: &str) -> bool {
    let is_declaration = |line: &str| line.starts_with("#![") && line.contains("no_std");
    crate_root.lines().any(|line| is_declaration(line.trim()))
}

fn has_target(session: &Session, target: &str) -> bool {
    let libraries =
        Task::new("rustc").args(["--print", "target-libdir", "--target", target]).output(session.deadline());
    libraries.is_ok_and(|dir| Path::new(dir.trim()).is_dir())
}

/// Compiles the programs, tests and examples that later steps run.
pub(crate) fn build(session: &Session) -> Result<Verdict> {
    let build = Task::cargo().args(["build", "--locked"]).args(EVERYTHING);
    build.args(["--lib", "--bins", "--tests", "--examples"]).run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// Runs all tests, names those that could not run on this machine, and finds snapshots that no test uses.
pub(crate) fn tests(session: &Session) -> Result<Verdict> {
    let references = snapshots::References::start()?;
    let skipped = empty_scratch("skipped")?.join("tests");
    let mut tests = test_runner(session, &["--no-fail-fast"])
        .env("INSTA_UPDATE", "no")
        .env("INSTA_FORCE_PASS", "0")
        .env("INSTA_SNAPSHOT_REFERENCES_FILE", references.path())
        .env("SWITCHBOARD_SKIPPED", &skipped);
    for (name, seconds) in session.random_budgets() {
        println!("{name}={seconds}");
        tests = tests.env(name, seconds);
    }
    if session.is_nightly() {
        for (name, count) in NIGHTLY_COUNTS.into_iter().chain([NIGHTLY_OPT_LEVEL]) {
            println!("{name}={count}");
            tests = tests.env(name, count);
        }
    }
    tests.run(session.deadline())?;
    references.require_all(session)?;
    // Without skipped tests there is no such file.
    let skipped = std::fs::read_to_string(skipped).unwrap_or_default();
    let all: BTreeSet<&str> = skipped.lines().collect();
    if all.is_empty() {
        return Ok(Verdict::Passed);
    }
    let all: Vec<&str> = all.into_iter().collect();
    Ok(Verdict::PassedInPart(format!("SKIPPED here: {}", all.join("; "))))
}

/// The command for the tests of the workspace: nextest, which ends tests that hang, or cargo if nextest is missing.
pub(crate) fn test_runner(session: &Session, args: &[&str]) -> Task {
    if find_program("cargo-nextest").is_none() {
        println!("There is no cargo-nextest, so cargo runs the tests; only the whole step has a time limit.");
        return Task::cargo()
            .args(["test", "--locked"])
            .args(EVERYTHING)
            .args(["--lib", "--bins", "--tests"])
            .args(args);
    }
    let nextest = Task::cargo().args(["nextest", "run", "--locked", "--config-file", ".ci/nextest.toml"]);
    let profile = if session.is_nightly() { "nightly" } else { "default" };
    nextest.args(["--profile", profile, "--test-threads", &test_threads()]).args(EVERYTHING).args(args)
}

/// The number of tests that run at once: twice the number of processors, because many tests wait most of the time.
fn test_threads() -> String {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (2 * processors).to_string()
}

/// The command for the integration tests of this name.
pub(crate) fn one_test(session: &Session, name: &str) -> Task {
    test_runner(session, &["--no-fail-fast", "--test", name])
}

pub(crate) fn doctests(session: &Session) -> Result<Verdict> {
    Task::cargo().args(["test", "--locked", "--doc"]).args(EVERYTHING).run(session.deadline())?;
    Ok(Verdict::Passed)
}

pub(crate) fn documentation(session: &Session) -> Result<Verdict> {
    let doc = Task::cargo().args(["doc", "--locked", "--no-deps"]).args(EVERYTHING);
    doc.env("RUSTDOCFLAGS", "-D warnings").run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// Builds an example of the workspace, and returns its path.
pub(crate) fn example(session: &Session, name: &str) -> Result<PathBuf> {
    let build = Task::cargo().args(["build", "--locked"]).args(EVERYTHING).args(["--example", name]);
    build.run(session.deadline())?;
    Ok(target().join("debug/examples").join(name))
}

/// Builds and runs an example of the workspace, and returns its output.
pub(crate) fn example_output(session: &Session, name: &str, args: &[&str]) -> Result<String> {
    let program = example(session, name)?;
    Task::new(&program).args(args).output(session.deadline()).context(format_args!("the example {name}"))
}

#[cfg(test)]
mod tests {
    use super::{declared_features, says_no_std};

    #[test]
    fn features_are_read() {
        let manifest = "[package]\nname = \"x\"\n\n[features]\n# a = b\nschema = []\nsqlite = [\"dep:y\"]\n\n[lints]\nz = 1\n";
        assert_eq!(declared_features(manifest), ["schema", "sqlite"]);
        assert!(declared_features("[package]\n").is_empty());
    }

    #[test]
    fn a_crate_root_that_uses_std_is_noticed() {
        assert!(says_no_std("//! Docs.\n#![no_std]\n"));
        assert!(says_no_std("#![cfg_attr(not(feature = \"schema\"), no_std)]\n"));
        assert!(!says_no_std("//! It is no_std.\nuse std::fmt;\n"));
    }
}
