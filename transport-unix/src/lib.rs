//! Unix-socket transport for Switchboard: one JSON object per line, both ways.
//!
//! A peer with the gateway's own user id needs no token and acts as [`Options::principal`]; other peers are refused. From the moment
//! the socket exists, only its owner can connect to it ([`Listener::bind`]).
//!
//! ```no_run
//! # async fn example(gateway: switchboard_runtime::Gateway) -> Result<(), Box<dyn std::error::Error>> {
//! use switchboard_transport_unix::{Listener, Options, serve};
//!
//! let listener = Listener::bind("~/.local/state/switchboard/socket")?;
//! tokio::select! {
//!     result = serve(&listener, gateway, Options::default()) => result?,
//!     _ = std::future::pending::<()>() => {} // the program's own reason to stop
//! }
//! listener.remove(); // in an orderly stop, and only if the socket is still ours
//! # Ok(())
//! # }
//! ```

mod bind;
#[cfg(test)]
#[path = "../fuzz/mod.rs"]
mod fuzz;
mod lines;
mod options;
mod refused;
mod session;
mod socket;

use std::sync::Arc;

use switchboard_runtime::Gateway;
use tokio::sync::Semaphore;

pub use bind::{BindError, Listener};
pub use options::Options;

/// Serves peers until the future is dropped. Connections that were accepted before go on.
///
/// # Errors
/// If [`Listener::accept`] fails.
pub async fn serve(listener: &Listener, gateway: Gateway, options: Options) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(options.connections));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
        let socket = listener.accept().await?;
        let (gateway, options) = (gateway.clone(), options.clone());
        tokio::spawn(async move {
            session::run(socket, &gateway, &options).await;
            drop(permit);
        });
    }
}
