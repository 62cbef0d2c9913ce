//! Runs the steps one after the other, each within its time, and reports.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::report::{Report, Verdict};
use crate::steps::STEPS;
use crate::workspace::{Failure, Result};

/// One thing that CI proves.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What it proves, for `--list`.
    pub(crate) about: &'static str,
    /// Past this, whatever it runs is ended. Generous: it is against hanging, not against slowness.
    pub(crate) limit: Duration,
    pub(crate) run: fn(&Session) -> Result<Verdict>,
}

/// One run of `cargo xtask test`.
pub(crate) struct Session {
    nightly: bool,
    deadline: Cell<Instant>,
}

impl Session {
    /// One outside of a test run, for a person who can interrupt it.
    pub(crate) fn unhurried() -> Self {
        Self { nightly: false, deadline: Cell::new(Instant::now() + NIGHTLY_EXTRA) }
    }

    /// When the step that runs now must be done.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.get()
    }

    /// True if time is no object.
    pub(crate) fn is_nightly(&self) -> bool {
        self.nightly
    }

    /// For how many seconds each kind of randomised test runs, and how often those that kill do so at least: the
    /// variables that the tests read. One that is set already keeps its value.
    pub(crate) fn random_budgets(&self) -> Vec<(&'static str, String)> {
        let chosen = |name: &'static str, default: u32| {
            (name, std::env::var(name).unwrap_or_else(|_| default.to_string()))
        };
        let seconds = RANDOM_BUDGETS
            .iter()
            .map(|budget| chosen(budget.name, if self.nightly { budget.nightly } else { budget.ci }));
        let kills = self.nightly.then(|| chosen("SWITCHBOARD_CRASH_KILLS", NIGHTLY_KILLS));
        seconds.chain(kills).collect()
    }
}

/// For how long a kind of randomised test runs.
struct RandomBudget {
    /// The variable that its tests read.
    name: &'static str,
    /// How many tests that are.
    #[cfg_attr(not(test), expect(dead_code, reason = "what all of them take together is held to a limit"))]
    tests: u32,
    /// Seconds of each, in CI.
    ci: u32,
    /// Seconds of each, with `--nightly`.
    nightly: u32,
}

const RANDOM_BUDGETS: [RandomBudget; 4] = [
    RandomBudget { name: "SWITCHBOARD_SIM_SECONDS", tests: 1, ci: 120, nightly: 3600 },
    RandomBudget { name: "SWITCHBOARD_FUZZ_SECONDS", tests: 3, ci: 40, nightly: 1800 },
    RandomBudget { name: "SWITCHBOARD_CRASH_SECONDS", tests: 12, ci: 10, nightly: 600 },
    RandomBudget { name: "SWITCHBOARD_ENDURANCE_SECONDS", tests: 2, ci: 20, nightly: 7200 },
];

/// With `--nightly`, so many gateways are killed, half as many agents and a fifth as many hosts.
const NIGHTLY_KILLS: u32 = 10_000;

/// How much longer a step may take with `--nightly`.
const NIGHTLY_EXTRA: Duration = Duration::from_secs(5 * 3600);

/// The whole run is promised to stay below this on two cores.
const PROMISED: Duration = Duration::from_secs(25 * 60);

/// What to run, from the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    only: Vec<String>,
    nightly: bool,
    list: bool,
}

impl Options {
    /// Reads the arguments after `test`.
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--nightly" => options.nightly = true,
                "--list" => options.list = true,
                "--only" => options.only.push(known_step(args.next())?),
                other => {
                    let known = "--only STEP, --list and --nightly";
                    return Err(Failure::new(format!("`test` knows {known}, not `{other}`")));
                }
            }
        }
        Ok(options)
    }
}

fn known_step(name: Option<String>) -> Result<String> {
    let name = name.ok_or_else(|| Failure::new("--only needs the name of a step; --list shows them"))?;
    if STEPS.iter().any(|step| step.name == name) {
        return Ok(name);
    }
    let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    Err(Failure::new(format!("no step `{name}`; there are {}", known.join(", "))))
}

/// Runs what was asked for. A step that fails does not keep the others from running: whoever reads the result wants
/// to know all of it.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    if options.list {
        for step in STEPS {
            println!("{:<11} {}", step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }

    let session = Session { nightly: options.nightly, deadline: Cell::new(Instant::now()) };
    let begun = Instant::now();
    let mut report = Report::default();
    for step in
        STEPS.iter().filter(|step| options.only.is_empty() || options.only.iter().any(|n| n == step.name))
    {
        println!("\n== {}: {}", step.name, step.about);
        let step_begun = Instant::now();
        let extra = if options.nightly { NIGHTLY_EXTRA } else { Duration::ZERO };
        session.deadline.set(step_begun + step.limit + extra);
        let verdict = (step.run)(&session).unwrap_or_else(|failure| Verdict::Failed(failure.to_string()));
        match &verdict {
            Verdict::Passed => {}
            Verdict::Skipped(reason) => println!("{} skipped: {reason}", step.name),
            Verdict::Failed(reason) => println!("{} FAILED: {reason}", step.name),
        }
        report.add(step.name, verdict, step_begun.elapsed());
    }

    println!("\n{}", report.table());
    if begun.elapsed() > PROMISED && !options.nightly {
        println!("This took longer than the {} minutes that are promised.", PROMISED.as_secs() / 60);
    }
    println!("{}", report.counts_line());
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(args.iter().map(ToString::to_string))
    }

    #[test]
    fn options_are_read() {
        let options = parse(&["--nightly", "--only", "fmt", "--only", "deny"]).unwrap();
        assert_eq!(options, Options { only: vec!["fmt".into(), "deny".into()], nightly: true, list: false });
        assert!(parse(&["--only"]).unwrap_err().to_string().contains("--list"));
        assert!(parse(&["--only", "frmt"]).unwrap_err().to_string().contains("no step `frmt`"));
        assert!(parse(&["--fast"]).unwrap_err().to_string().contains("`--fast`"));
    }

    #[test]
    fn steps_have_names_of_their_own() {
        let mut names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }

    #[test]
    fn randomised_tests_fit_into_ci() {
        let in_ci: u32 = RANDOM_BUDGETS.iter().map(|budget| budget.tests * budget.ci).sum();
        assert!(in_ci <= 7 * 60);
    }
}
