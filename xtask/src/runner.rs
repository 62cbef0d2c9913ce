//! Runs the steps one after the other, each within its time limit, and reports the results.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::report::{Report, Verdict};
use crate::workspace::{Failure, Result};

/// One step of CI.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What the step proves, for `--list`.
    pub(crate) about: &'static str,
    /// The step's programs are ended after this time. Generous: the limit is against hanging, not against slowness.
    pub(crate) limit: Duration,
    pub(crate) run: fn(&Session) -> Result<Verdict>,
}

/// One run of `cargo xtask test`.
pub(crate) struct Session {
    nightly: bool,
    deadline: Cell<Instant>,
    steps: &'static [Step],
}

impl Session {
    /// A session outside of a test run, with a deadline that does not matter in practice: a person can interrupt it.
    pub(crate) fn unhurried() -> Self {
        Self { nightly: false, deadline: Cell::new(Instant::now() + NIGHTLY_EXTRA), steps: &[] }
    }

    /// The deadline of the current step.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.get()
    }

    /// The names of all steps, whether or not this run includes them.
    pub(crate) fn step_names(&self) -> Vec<&'static str> {
        self.steps.iter().map(|step| step.name).collect()
    }

    /// Whether `--nightly` was given.
    pub(crate) fn is_nightly(&self) -> bool {
        self.nightly
    }

    /// The environment variables that tell randomised tests how many seconds to run, and crash tests how often to kill
    /// at least. A variable that is already set keeps its value.
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

/// The duration of one kind of randomised test.
struct RandomBudget {
    /// The environment variable that the tests read.
    name: &'static str,
    /// The number of tests of this kind.
    #[cfg_attr(not(test), expect(dead_code, reason = "what all of them take together is held to a limit"))]
    tests: u32,
    /// Seconds per test in CI.
    ci: u32,
    /// Seconds per test with `--nightly`.
    nightly: u32,
}

const RANDOM_BUDGETS: [RandomBudget; 4] = [
    RandomBudget { name: "SWITCHBOARD_SIM_SECONDS", tests: 1, ci: 30, nightly: 3600 },
    RandomBudget { name: "SWITCHBOARD_FUZZ_SECONDS", tests: 3, ci: 10, nightly: 1800 },
    RandomBudget { name: "SWITCHBOARD_CRASH_SECONDS", tests: 12, ci: 5, nightly: 600 },
    RandomBudget { name: "SWITCHBOARD_ENDURANCE_SECONDS", tests: 2, ci: 10, nightly: 7200 },
];

/// Least number of gateways to kill with `--nightly`; half as many agents and a fifth as many hosts are killed, too.
const NIGHTLY_KILLS: u32 = 10_000;

/// Additional time for each step with `--nightly`.
const NIGHTLY_EXTRA: Duration = Duration::from_secs(5 * 3600);

/// The promised duration of a whole run on two cores.
const PROMISED: Duration = Duration::from_secs(25 * 60);

/// The options of `cargo xtask test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    only: Vec<String>,
    nightly: bool,
    list: bool,
}

impl Options {
    /// Parses the arguments after `test`.
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--nightly" => options.nightly = true,
                "--list" => options.list = true,
                "--only" => {
                    let name = args.next();
                    let missing = || Failure::new("--only needs the name of a step; --list shows them");
                    options.only.push(name.ok_or_else(missing)?);
                }
                other => {
                    let known = "--only STEP, --list and --nightly";
                    return Err(Failure::new(format!("`test` knows {known}, not `{other}`")));
                }
            }
        }
        Ok(options)
    }
}

/// Fails if one of the chosen steps does not exist.
fn check_names(chosen: &[String], steps: &[Step]) -> Result<()> {
    let is_known = |name: &String| steps.iter().any(|step| step.name == *name);
    let Some(unknown) = chosen.iter().find(|name| !is_known(name)) else { return Ok(()) };
    let known: Vec<&str> = steps.iter().map(|step| step.name).collect();
    Err(Failure::new(format!("no step `{unknown}`; there are {}", known.join(", "))))
}

/// Runs the chosen ones of `steps`. The steps after a failed one run as well, so that the report is complete.
pub(crate) fn run(options: Options, steps: &'static [Step]) -> Result<ExitCode> {
    check_names(&options.only, steps)?;
    if options.list {
        for step in steps {
            println!("{:<11} {}", step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }

    let session = Session { nightly: options.nightly, deadline: Cell::new(Instant::now()), steps };
    let begun = Instant::now();
    let mut report = Report::default();
    for step in
        steps.iter().filter(|step| options.only.is_empty() || options.only.iter().any(|n| n == step.name))
    {
        println!("\n== {}: {}", step.name, step.about);
        let step_begun = Instant::now();
        let extra = if options.nightly { NIGHTLY_EXTRA } else { Duration::ZERO };
        session.deadline.set(step_begun + step.limit + extra);
        let verdict = (step.run)(&session).unwrap_or_else(|failure| Verdict::Failed(failure.to_string()));
        match &verdict {
            Verdict::Passed => {}
            Verdict::PassedInPart(missing) => println!("{} passed in part: {missing}", step.name),
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
    use crate::steps::STEPS;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(args.iter().map(ToString::to_string))
    }

    #[test]
    fn options_are_read() {
        let options = parse(&["--nightly", "--only", "fmt", "--only", "deny"]).unwrap();
        assert_eq!(options, Options { only: vec!["fmt".into(), "deny".into()], nightly: true, list: false });
        assert!(parse(&["--only"]).unwrap_err().to_string().contains("--list"));
        assert!(check_names(&["fmt".into()], STEPS).is_ok());
        assert!(check_names(&["frmt".into()], STEPS).unwrap_err().to_string().contains("no step `frmt`"));
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
        assert!(in_ci <= 150);
    }
}
