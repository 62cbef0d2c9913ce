//! `switchboard doctor`.

use std::process::ExitCode;

use crate::cli::ServeArgs;

pub(crate) fn run(_args: &ServeArgs) -> ExitCode {
    ExitCode::SUCCESS
}
