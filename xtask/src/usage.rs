//! The subcommands and their explanation.

/// All subcommands; `tidy` checks that documents name no other.
pub(crate) const SUBCOMMANDS: [&str; 5] = ["serve", "test", "bench", "schema", "fixtures"];

pub(crate) const USAGE: &str = "\
cargo xtask serve [-- FLAGS]     build the release gateway and run `switchboard serve FLAGS`
cargo xtask test [OPTIONS]       run everything that CI runs
    --only STEP                  only this step (repeatable)
    --list                       the steps and what each one proves
    --nightly                    randomised tests run for much longer
    --resume FILE                with --nightly: note in FILE which steps pass, and leave out those that
                                 have passed on this commit
cargo xtask bench [-- ARGS]      measure against the limit and print a table of ratios
cargo xtask schema               write the JSON Schema and the TypeScript types of the wire anew
cargo xtask fixtures             write these, the snapshots and the page's bundle anew";

#[cfg(test)]
mod tests {
    use super::{SUBCOMMANDS, USAGE};

    #[test]
    fn every_subcommand_is_explained() {
        for subcommand in SUBCOMMANDS {
            assert!(USAGE.contains(&format!("cargo xtask {subcommand}")), "{subcommand}");
        }
    }
}
