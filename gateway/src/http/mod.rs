//! The HTTP front door: listeners, routes, the page.

mod cors;
mod page;
mod routes;
mod server;

pub use page::{Asset, assets};
pub use routes::{Route, Site, routes};
pub use server::{Accept, Shared, bind, serve};
