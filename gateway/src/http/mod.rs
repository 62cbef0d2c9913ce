//! The HTTP server: listeners, routes and the static page.

mod cors;
mod page;
mod routes;
mod server;

pub use page::{Asset, assets};
pub use routes::{Route, Site, routes};
pub use server::{Accept, Shared, bind, serve};
