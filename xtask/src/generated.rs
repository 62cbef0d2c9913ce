//! Files that programs write and that are committed all the same: the types of the wire for TypeScript, so that a
//! change of the wire shows in a review, and the page's bundle, so that building the gateway needs no Node.

use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Failure, Result, read};
use crate::{rust, web};

/// The types of the wire, and the example of `switchboard-core` that prints them.
pub(crate) const WIRE_TYPES: (&str, &str) = ("web/src/client/wire.ts", "wire_types");

/// Generates everything anew beside the committed files and compares.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let (file, example) = WIRE_TYPES;
    if rust::example_output(session, example)? != read(file)? {
        let advice = "`cargo xtask fixtures` writes it anew";
        return Err(Failure::new(format!("{file} is not what its source generates; {advice}")));
    }

    // Builds elsewhere and compares.
    web::install(session)?;
    web::npm(&["run", "verify-dist"])?.run(session.deadline())?;
    Ok(Verdict::Passed)
}
