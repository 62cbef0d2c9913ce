//! Generated files that are committed: the JSON Schema, TypeScript types and reference of the wire, so that client
//! authors need no Rust and a review shows changes of the wire, and the page's bundle, so that building the gateway needs no Node.

use std::process::ExitCode;

use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Context as _, Failure, Result, read, root};
use crate::{rust, web};

/// A file that an example of `switchboard-core` prints.
struct Printed {
    file: &'static str,
    example: &'static str,
    args: &'static [&'static str],
}

/// The schemas, types and reference of the wire, for client authors and for the page.
const WIRE: [Printed; 5] = [
    Printed { file: "docs/schema/client.json", example: "wire_schema", args: &["client"] },
    Printed { file: "docs/schema/server.json", example: "wire_schema", args: &["server"] },
    Printed { file: "docs/schema/wire.ts", example: "wire_types", args: &[] },
    Printed { file: "web/src/client/wire.ts", example: "wire_types", args: &[] },
    // Reads the schemas, and is therefore printed after them.
    Printed { file: "docs/reference.md", example: "wire_reference", args: &[] },
];

/// Generates all files again and compares them with the committed ones.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let mut stale = Vec::new();
    for Printed { file, example, args } in WIRE {
        if rust::example_output(session, example, args)? != read(file).unwrap_or_default() {
            stale.push(file);
        }
    }
    if !stale.is_empty() {
        let advice = "`cargo xtask schema` writes them anew";
        return Err(Failure::new(format!("not what the wire generates: {}; {advice}", stale.join(", "))));
    }

    // Builds the bundle in another directory and compares it with the committed one.
    web::install(session)?;
    web::npm(&["run", "verify-dist"])?.run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// Rewrites the schemas and types of the wire.
pub(crate) fn rewrite_wire(session: &Session) -> Result {
    for Printed { file, example, args } in WIRE {
        let text = rust::example_output(session, example, args)?;
        std::fs::write(root().join(file), text).context(format_args!("writing {file}"))?;
    }
    Ok(())
}

/// Runs `cargo xtask schema`: rewrites the schemas and types of the wire, and lists the files.
pub(crate) fn schema() -> Result<ExitCode> {
    rewrite_wire(&Session::unhurried())?;
    for Printed { file, .. } in WIRE {
        println!("{file}");
    }
    Ok(ExitCode::SUCCESS)
}
