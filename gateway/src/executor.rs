//! The threads that run async code.

use tokio::runtime::{Builder, Runtime};

use crate::failure::{Failure, Result};

/// Starts the tokio runtime of the process.
///
/// # Errors
///
/// The system does not let the process start its threads.
pub(crate) fn start() -> Result<Runtime> {
    Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::new(
            format!("The system does not let the program start its threads: {error}."),
            "Look at the limits of this user (ulimit -a).",
        )
    })
}
