//! The core's interface to the journal, which stores the chats: appends, questions and their answers.
//!
//! The hub never assumes that stored data is in memory: it asks the journal, and gets the answer as a later input.
//! A journal answers each append and each question exactly once. It answers the appends of one chat in their order;
//! there is no order between chats.

mod answer;
mod append;
mod class;
mod compaction;
mod fold;
mod memory;
mod ownership;
mod page;
mod query;
mod record;
mod version;

pub use answer::{ChatsPage, Found, HistoryPage, JournalAnswer};
pub use append::{Append, AppendId, Change, LogEvent};
pub use class::{Durability, EventClass};
pub use compaction::{CompactedDelta, DeltaRun};
pub use fold::{Conflict, Effects};
pub use memory::MemoryJournal;
pub use ownership::{Grant, Term};
pub use page::PageBuilder;
pub use query::{Ask, AskId, PageStart, Query};
pub use record::{
    ChatRecord, OpenAgentTurn, OpenRequest, OpenStream, OpenTool, OpenTurn, OpenWork, RecordedAgent,
    TurnRecord,
};
pub use version::Version;
