//! The results of the steps: the table at the end and the one line for machines.

use std::fmt::Write as _;
use std::time::Duration;

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The step ran and found nothing wrong.
    Passed,
    /// The step found nothing wrong, but some of its tests could not run on this machine: which, and why.
    PassedInPart(String),
    /// The step could not run on this machine, for this reason. Never used for a check that found something.
    Skipped(String),
    /// The step found something wrong, or failed for another reason.
    Failed(String),
}

/// The verdicts so far, in the order of the steps.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<(String, Verdict, Duration)>,
}

impl Report {
    pub(crate) fn add(&mut self, step: &str, verdict: Verdict, took: Duration) {
        self.rows.push((step.to_owned(), verdict, took));
    }

    /// True if nothing failed and something passed: a run that skipped everything proved nothing.
    pub(crate) fn is_success(&self) -> bool {
        let (passed, failed, _) = self.counts();
        failed == 0 && passed > 0
    }

    /// One row per step, with the reason if it did not pass.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        for (step, verdict, took) in &self.rows {
            let (word, reason) = match verdict {
                Verdict::Passed => ("passed", ""),
                Verdict::PassedInPart(missing) => ("passed", missing.as_str()),
                Verdict::Skipped(reason) => ("skipped", reason.as_str()),
                Verdict::Failed(reason) => ("FAILED", reason.as_str()),
            };
            let first_line = reason.lines().next().unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{step:<11} {word:<8} {:>7.1} s  {first_line}", took.as_secs_f64());
        }
        let total: Duration = self.rows.iter().map(|(_, _, took)| *took).sum();
        let _ = writeln!(table, "{:<11} {:<8} {:>7.1} s", "in all", "", total.as_secs_f64());
        table
    }

    /// `N passed, N failed, N skipped`, counting steps.
    pub(crate) fn counts_line(&self) -> String {
        let (passed, failed, skipped) = self.counts();
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }

    fn counts(&self) -> (usize, usize, usize) {
        self.rows.iter().fold((0, 0, 0), |(passed, failed, skipped), (_, verdict, _)| match verdict {
            Verdict::Passed | Verdict::PassedInPart(_) => (passed + 1, failed, skipped),
            Verdict::Failed(_) => (passed, failed + 1, skipped),
            Verdict::Skipped(_) => (passed, failed, skipped + 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict]) -> Report {
        let mut report = Report::default();
        for verdict in verdicts {
            report.add("step", verdict.clone(), Duration::from_millis(1500));
        }
        report
    }

    #[test]
    fn the_last_line_counts_steps() {
        let report = report(&[
            Verdict::Passed,
            Verdict::Failed("no\nmore".into()),
            Verdict::Skipped("offline".into()),
        ]);
        assert_eq!(report.counts_line(), "1 passed, 1 failed, 1 skipped");
        assert!(!report.is_success());
        let table = report.table();
        assert!(table.contains("step        FAILED       1.5 s  no\n"), "{table}");
        assert!(table.contains("offline"), "{table}");
    }

    #[test]
    fn a_run_that_proved_nothing_is_no_success() {
        assert!(!report(&[]).is_success());
        assert!(!report(&[Verdict::Skipped("offline".into())]).is_success());
        assert!(report(&[Verdict::Passed, Verdict::Skipped("offline".into())]).is_success());
    }

    #[test]
    fn tests_that_a_step_skipped_are_in_the_table() {
        let report = report(&[Verdict::PassedInPart("skipped: full disks".into())]);
        assert!(report.is_success());
        let table = report.table();
        assert!(table.contains("passed       1.5 s  skipped: full disks\n"), "{table}");
    }
}
