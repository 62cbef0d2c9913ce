//! What the tests of the journal share: a journal whose answers are waited for, and appends as the hub makes them. The
//! tests inside the crate (`src/journal/sqlite/tests.rs`) use it too, with the crate's own types.

pub mod desk;
pub mod make;
