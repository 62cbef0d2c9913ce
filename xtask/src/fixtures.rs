//! Rewrites the committed files that are generated. Read the difference before you commit it.

use std::process::ExitCode;

use crate::command::Task;
use crate::runner::Session;
use crate::workspace::Result;
use crate::{generated, rust, web};

/// Rewrites the snapshots, the schemas and types of the wire and the page's bundle.
pub(crate) fn rewrite() -> Result<ExitCode> {
    let session = Session::unhurried();

    let tests = rust::test_runner(&session, &["--no-fail-fast"]);
    tests.env("INSTA_UPDATE", "always").env("INSTA_FORCE_PASS", "1").run(session.deadline())?;

    generated::rewrite_wire(&session)?;

    web::install(&session)?;
    web::npm(&["run", "build"])?.run(session.deadline())?;

    println!("\nWhat changed:");
    Task::new("git").args(["status", "--short"]).run(session.deadline())?;
    Ok(ExitCode::SUCCESS)
}
