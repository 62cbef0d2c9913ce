//! What the suite checks.

use switchboard_runtime::Accounts;

/// A store that the suite checks.
pub trait AccountsUnderTest {
    /// The type of the store.
    type Accounts: Accounts;

    /// The open store.
    fn accounts(&self) -> &Self::Accounts;

    /// Closes the store as a crash of the process would, and opens it again. Nothing that was answered may be lost.
    fn reopen(&mut self);
}
