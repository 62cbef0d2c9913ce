//! Tests that cannot run on every machine.

use std::{fs::File, io::Write as _};

/// Says which tests are skipped on this machine, and why, such as "tests of full disks: this needs root". The test
/// harness hides the output of a test that passes, so the sentence is written past the harness to standard error. It
/// is also appended to the file that `SWITCHBOARD_SKIPPED` names, which `cargo xtask test` prints at its end.
pub fn report_skipped(what: &str) {
    std::io::stderr().write_all(format!("SKIPPED: {what}\n").as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("SWITCHBOARD_SKIPPED") {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        // One write, since tests run side by side.
        file.write_all(format!("{what}\n").as_bytes()).unwrap();
    }
}
