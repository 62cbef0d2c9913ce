//! Runs the steps one after the other, each within its time limit, and reports the results.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::passed::PassedSteps;
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

/// How long git may take.
const GIT: Duration = Duration::from_secs(60);

/// Additional time for each step with `--nightly`.
const NIGHTLY_EXTRA: Duration = Duration::from_secs(5 * 3600);

/// The longest that a whole run in CI may take, on two cores. It is far more than a run takes on a quiet machine: the same run
/// has taken 14 and 33 minutes on machines of one kind.
const LONGEST: Duration = Duration::from_secs(50 * 60);

/// The options of `cargo xtask test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    only: Vec<String>,
    nightly: bool,
    list: bool,
    /// The file with the steps that have passed.
    resume: Option<PathBuf>,
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
                "--resume" => {
                    let missing = || Failure::new("--resume needs the name of a file");
                    options.resume = Some(args.next().ok_or_else(missing)?.into());
                }
                other => {
                    let known = "--only STEP, --list, --nightly and --resume FILE";
                    return Err(Failure::new(format!("`test` knows {known}, not `{other}`")));
                }
            }
        }
        if options.resume.is_some() && !options.nightly {
            // Otherwise a short run would count as a long one.
            return Err(Failure::new("--resume goes with --nightly"));
        }
        Ok(options)
    }

    fn chooses(&self, step: &Step) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == step.name)
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

    let begun = Instant::now();
    let session = Session { nightly: options.nightly, deadline: Cell::new(begun), steps };
    let mut passed = match &options.resume {
        Some(file) => Some(PassedSteps::open(file, begun + GIT)?),
        None => None,
    };
    let mut report = Report::default();
    for step in steps.iter().filter(|step| options.chooses(step)) {
        println!("\n== {}: {}", step.name, step.about);
        if let Some(verdict) = passed.as_ref().and_then(|passed| passed.verdict(step.name)) {
            println!("{} has passed on this commit before", step.name);
            report.add(step.name, verdict, Duration::ZERO);
            continue;
        }
        let step_begun = Instant::now();
        let extra = if options.nightly { NIGHTLY_EXTRA } else { Duration::ZERO };
        session.deadline.set(step_begun + step.limit + extra);
        let verdict = (step.run)(&session).unwrap_or_else(|failure| Verdict::Failed(failure.to_string()));
        if let Some(passed) = &mut passed {
            let noted = passed.add(step.name, &verdict, Instant::now() + GIT);
            if let Err(failure) = noted {
                println!("{} has to run again with --resume: {failure}", step.name);
            }
        }
        match &verdict {
            Verdict::Passed => {}
            Verdict::PassedInPart(missing) => println!("{} passed in part: {missing}", step.name),
            Verdict::Skipped(reason) => println!("{} skipped: {reason}", step.name),
            Verdict::Failed(reason) => println!("{} FAILED: {reason}", step.name),
        }
        report.add(step.name, verdict, step_begun.elapsed());
    }

    let is_whole = !options.nightly && options.only.is_empty();
    let too_long = if is_whole { too_long(begun.elapsed()) } else { None };
    match too_long {
        Some(reason) if std::env::var_os("CI").is_some() => {
            report.add("duration", Verdict::Failed(reason), Duration::ZERO);
        }
        // A machine that does something else besides says nothing about the tests.
        Some(reason) => println!("\nIn CI this would be a failure: {reason}"),
        None => {}
    }
    println!("\n{}", report.table());
    println!("{}", report.counts_line());
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why the duration of a whole run is a failure; `None` if it is short enough.
fn too_long(took: Duration) -> Option<String> {
    let minutes = |duration: Duration| duration.as_secs().div_ceil(60);
    (took > LONGEST).then(|| {
        let (took, longest) = (minutes(took), minutes(LONGEST));
        format!("all steps took {took} min and may take {longest}: make one of the longest steps of this table faster")
    })
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
        assert_eq!(
            options,
            Options { only: vec!["fmt".into(), "deny".into()], nightly: true, list: false, resume: None }
        );
        assert!(parse(&["--only"]).unwrap_err().to_string().contains("--list"));
        assert!(check_names(&["fmt".into()], STEPS).is_ok());
        assert!(check_names(&["frmt".into()], STEPS).unwrap_err().to_string().contains("no step `frmt`"));
        assert!(parse(&["--nightly", "--resume"]).unwrap_err().to_string().contains("a file"));
        assert!(parse(&["--resume", "f"]).unwrap_err().to_string().contains("--nightly"));
        let options = parse(&["--resume", "f", "--nightly"]).unwrap();
        assert_eq!(options.resume.as_deref(), Some("f".as_ref()));
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
    fn a_run_that_takes_longer_than_it_may_is_a_failure() {
        assert_eq!(too_long(LONGEST), None);
        let reason = too_long(LONGEST + Duration::from_secs(1)).unwrap();
        assert!(reason.starts_with("all steps took 51 min and may take 50"), "{reason}");
    }

    #[test]
    fn randomised_tests_fit_into_ci() {
        let in_ci: u32 = RANDOM_BUDGETS.iter().map(|budget| budget.tests * budget.ci).sum();
        assert!(in_ci <= 150);
    }
}
