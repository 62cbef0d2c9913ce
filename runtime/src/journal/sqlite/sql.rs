//! Every statement that runs more than once per start. A test checks that each uses its index.

/// Statements that write, in the order of their use.
pub(super) mod write {
    pub(crate) const FIND_CHAT: &str = "SELECT id, epoch_no, head_seq, version, era, updated_at FROM chats \
         WHERE principal = ?1 AND chat_id = ?2";
    pub(crate) const ADD_CHAT: &str = "INSERT INTO chats (principal, chat_id, epoch_no, head_seq, era, \
         last_command, created_at, updated_at, version) VALUES (?1, ?2, 1, 0, ?3, 0, ?4, 0, 0)";
    pub(crate) const ADD_EPOCH: &str =
        "INSERT INTO epochs (chat, no, epoch, began_at) VALUES (?1, ?2, ?3, ?4)";
    pub(crate) const RESET_EPOCH: &str =
        "UPDATE chats SET epoch_no = ?2, head_seq = 0, joined_to = 0, era = ?3 WHERE id = ?1";
    pub(crate) const ADD_EVENT: &str = "INSERT INTO events (id, chat, epoch_no, seq, first_seq, sum, frame) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    /// Records that an append is committed.
    pub(crate) const MOVE_CHAT: &str = "UPDATE chats SET version = ?2, head_seq = ?3, \
         last_command = max(last_command, ?4) WHERE id = ?1";
    /// Only for an activity, because this changes the index of the chats by activity.
    pub(crate) const MOVE_ACTIVITY: &str = "UPDATE chats SET updated_at = ?2 WHERE id = ?1";
    pub(crate) const ADD_TURN: &str = "INSERT INTO turns (chat, turn_id, hash, epoch_no, seq, starts_turn, \
         accepted_at, text, started_at, prompt) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    pub(crate) const START_TURN: &str =
        "UPDATE turns SET started_at = ?3 WHERE chat = ?1 AND turn_id = ?2 AND outcome IS NULL";
    /// Only for the running turn, or one that starts in the same append (?5), and only if the command has the turn's
    /// text.
    pub(crate) const PROMPT_TURN: &str = "UPDATE turns SET prompt = ?3 \
         WHERE chat = ?1 AND turn_id = ?2 AND outcome IS NULL AND prompt IS NULL \
         AND (started_at IS NOT NULL OR ?5) AND text = ?4";
    pub(crate) const CANCEL_TURN: &str = "UPDATE turns SET cancel_requested = 1, cancel_reason = ?3 \
         WHERE chat = ?1 AND turn_id = ?2 AND outcome IS NULL";
    pub(crate) const TURN_IS_OPEN: &str =
        "SELECT outcome IS NULL FROM turns WHERE chat = ?1 AND turn_id = ?2";
    pub(crate) const TURN_HAS_STARTED: &str =
        "SELECT started_at IS NOT NULL FROM turns WHERE chat = ?1 AND turn_id = ?2 AND outcome IS NULL";
    pub(crate) const END_TURN: &str = "UPDATE turns SET outcome = ?3, ended_at = ?4, text = NULL, prompt = NULL, \
         cancel_reason = NULL WHERE chat = ?1 AND turn_id = ?2 AND outcome IS NULL";
    /// Drops the cancellation of a turn, and its prompt if it is not in the row of the turn.
    pub(crate) const DROP_TURN_COMMANDS: &str =
        "DELETE FROM commands WHERE chat = ?1 AND about = ?2 AND kind <> 'answer'";
    pub(crate) const A_TURN_RUNS: &str = "SELECT EXISTS (SELECT 1 FROM turns INDEXED BY open_turns \
         WHERE chat = ?1 AND outcome IS NULL AND started_at IS NOT NULL) \
         OR (SELECT agent_turn IS NOT NULL FROM chats WHERE id = ?1)";
    pub(crate) const AGENT_TURN_ID: &str =
        "SELECT json_extract(agent_turn, '$.turn_id') FROM chats WHERE id = ?1";
    pub(crate) const SET_AGENT_TURN: &str = "UPDATE chats SET agent_turn = ?2 WHERE id = ?1";
    pub(crate) const SET_TASKS: &str = "UPDATE chats SET tasks = ?2 WHERE id = ?1";
    pub(crate) const DROP_COMMANDS: &str = "DELETE FROM commands WHERE chat = ?1";
    pub(crate) const ADD_REQUEST: &str = "INSERT INTO requests (chat, no, request_id, question, frame, \
         agent_request_id, input) \
         VALUES (?1, (SELECT coalesce(max(no), 0) + 1 FROM requests WHERE chat = ?1), ?2, ?3, ?4, ?5, ?6)";
    pub(crate) const RAISE_REQUEST: &str =
        "UPDATE chats SET last_request = max(last_request, ?2) WHERE id = ?1";
    pub(crate) const DROP_REQUEST: &str = "DELETE FROM requests WHERE chat = ?1 AND request_id = ?2";
    pub(crate) const ADD_COMMAND: &str =
        "INSERT OR REPLACE INTO commands (chat, id, kind, about, body) VALUES (?1, ?2, ?3, ?4, ?5)";
    pub(crate) const START_AGENT: &str = "UPDATE chats SET agent_run = ?2, agent_position = 0 WHERE id = ?1";
    pub(crate) const END_AGENT: &str =
        "UPDATE chats SET agent_run = NULL, agent_position = NULL WHERE id = ?1 AND agent_run = ?2";
    pub(crate) const MOVE_AGENT: &str =
        "UPDATE chats SET agent_position = ?3 WHERE id = ?1 AND agent_run = ?2";
    pub(crate) const DROP_CHECKPOINT: &str = "DELETE FROM checkpoints WHERE chat = ?1";
    pub(crate) const SET_CHECKPOINT: &str =
        "INSERT OR REPLACE INTO checkpoints (chat, position, state) VALUES (?1, ?2, ?3)";
    pub(crate) const SET_OPEN_WORK: &str = "UPDATE chats SET open_work = ?2 WHERE id = ?1";
    pub(crate) const SET_SESSION: &str = "UPDATE chats SET session = ?2 WHERE id = ?1";
    pub(crate) const SET_TITLE: &str = "UPDATE chats SET title = ?2 WHERE id = ?1";
    pub(crate) const SET_GOAL: &str = "UPDATE chats SET goal = ?2 WHERE id = ?1";
    pub(crate) const IS_DELETED: &str = "SELECT EXISTS (SELECT 1 FROM deleted WHERE hash = ?1)";
    pub(crate) const ADD_DELETED: &str = "INSERT INTO deleted (hash) VALUES (?1)";
    pub(crate) const COUNT_COMMIT: &str = "UPDATE meta SET commits = ?1 WHERE id = 1";

    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[
        FIND_CHAT,
        ADD_CHAT,
        ADD_EPOCH,
        RESET_EPOCH,
        ADD_EVENT,
        MOVE_CHAT,
        MOVE_ACTIVITY,
        ADD_TURN,
        START_TURN,
        PROMPT_TURN,
        CANCEL_TURN,
        TURN_IS_OPEN,
        TURN_HAS_STARTED,
        END_TURN,
        DROP_TURN_COMMANDS,
        A_TURN_RUNS,
        AGENT_TURN_ID,
        SET_AGENT_TURN,
        SET_TASKS,
        DROP_COMMANDS,
        ADD_REQUEST,
        DROP_REQUEST,
        ADD_COMMAND,
        RAISE_REQUEST,
        START_AGENT,
        END_AGENT,
        MOVE_AGENT,
        DROP_CHECKPOINT,
        SET_CHECKPOINT,
        SET_OPEN_WORK,
        SET_SESSION,
        SET_TITLE,
        SET_GOAL,
        COUNT_COMMIT,
        IS_DELETED,
        ADD_DELETED,
    ];
}

/// Statements that erase deleted chats, whose principal is empty.
pub(super) mod erase {
    pub(crate) const NEXT: &str = "SELECT id FROM chats WHERE principal = '' LIMIT 1";
    /// Removes everything that a start or a query would find. Nothing reads the rows that remain.
    pub(crate) const HIDE: &[&str] = &[
        "UPDATE chats SET principal = '', chat_id = CAST(id AS TEXT), title = NULL, goal = NULL, session = NULL, \
         agent_run = NULL, agent_position = NULL, open_work = NULL, agent_turn = NULL, tasks = NULL, joined_to = head_seq WHERE id = ?1",
        "DELETE FROM turns WHERE chat = ?1 AND outcome IS NULL",
        "DELETE FROM checkpoints WHERE chat = ?1",
        "DELETE FROM commands WHERE chat = ?1",
        "DELETE FROM requests WHERE chat = ?1",
    ];
    /// SQLite gets the length of a text from the header of its row, without reading the text.
    pub(crate) const POSITIONS: &str = "SELECT epoch_no, seq, octet_length(frame) FROM events WHERE chat = ?1 \
         ORDER BY epoch_no, seq LIMIT ?2";
    pub(crate) const EVENTS: &str = "DELETE FROM events WHERE chat = ?1 AND (epoch_no, seq) <= (?2, ?3)";
    pub(crate) const TURNS: &str =
        "DELETE FROM turns WHERE id IN (SELECT id FROM turns WHERE chat = ?1 LIMIT ?2)";
    /// The row of the chat is removed last.
    pub(crate) const REST: &[&str] =
        &["DELETE FROM epochs WHERE chat = ?1", "DELETE FROM chats WHERE id = ?1"];

    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[NEXT, POSITIONS, EVENTS, TURNS];
}

/// Statements about accounts.
pub(super) mod account {
    pub(crate) const GET: &str =
        "SELECT version, value FROM account_entries WHERE space = ?1 AND owner = ?2 AND name = ?3";
    pub(crate) const VERSION: &str =
        "SELECT version FROM account_entries WHERE space = ?1 AND owner = ?2 AND name = ?3";
    pub(crate) const SET: &str = "INSERT OR REPLACE INTO account_entries (space, owner, name, version, value) \
         VALUES (?1, ?2, ?3, ?4, ?5)";
    pub(crate) const REMOVE: &str =
        "DELETE FROM account_entries WHERE space = ?1 AND owner = ?2 AND name = ?3";
    pub(crate) const LIST_FROM: &str = "SELECT version, value, name FROM account_entries \
         WHERE space = ?1 AND owner = ?2 AND name >= ?3 ORDER BY name";
    pub(crate) const LIST_AFTER: &str = "SELECT version, value, name FROM account_entries \
         WHERE space = ?1 AND owner = ?2 AND name > ?3 ORDER BY name";
    pub(crate) const TOTAL: &str = "SELECT total FROM account_counters \
         WHERE owner = ?1 AND name = ?2 AND period = ?3 AND window = ?4";
    pub(crate) const SET_TOTAL: &str = "INSERT OR REPLACE INTO account_counters \
         (owner, name, period, window, total) VALUES (?1, ?2, ?3, ?4, ?5)";
    /// Forgets the windows before ?4 except for the ?5 newest of them.
    pub(crate) const FORGET_WINDOWS: &str = "DELETE FROM account_counters \
         WHERE owner = ?1 AND name = ?2 AND period = ?3 AND window < \
         (SELECT window FROM account_counters WHERE owner = ?1 AND name = ?2 AND period = ?3 AND window <= ?4 \
         ORDER BY window DESC LIMIT 1 OFFSET ?5)";

    #[cfg(test)]
    pub(crate) const ALL: &[&str] =
        &[GET, VERSION, SET, REMOVE, LIST_FROM, LIST_AFTER, TOTAL, SET_TOTAL, FORGET_WINDOWS];
}

/// Statements of compaction.
pub(super) mod compact {
    pub(crate) const LAST_CHAT: &str = "SELECT max(id) FROM chats";
    pub(crate) const UNCOMPACTED_CHATS: &str =
        "SELECT id FROM chats WHERE id > ?1 AND id <= ?2 AND joined_to < head_seq";
    pub(crate) const POSITION: &str = "SELECT epoch_no, head_seq, joined_to FROM chats WHERE id = ?1";
    /// Frames of ?5 bytes or more are not read: SQLite gets the length of a text from the header of its row.
    pub(crate) const ROWS: &str = "SELECT first_seq, seq, octet_length(frame) >= ?5, sum, \
         CASE WHEN octet_length(frame) < ?5 THEN frame END, \
         CASE WHEN octet_length(frame) < ?5 THEN lengths END FROM events \
         WHERE chat = ?1 AND epoch_no = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4";
    pub(crate) const DROP_ROWS: &str =
        "DELETE FROM events WHERE chat = ?1 AND epoch_no = ?2 AND seq >= ?3 AND seq < ?4";
    pub(crate) const MERGE_ROW: &str = "UPDATE events SET first_seq = ?4, sum = ?5, frame = ?6, lengths = ?7 \
         WHERE chat = ?1 AND epoch_no = ?2 AND seq = ?3";
    pub(crate) const MOVE_COMPACTED: &str = "UPDATE chats SET joined_to = ?3 WHERE id = ?1 AND epoch_no = ?2";

    #[cfg(test)]
    pub(crate) const ALL: &[&str] =
        &[LAST_CHAT, UNCOMPACTED_CHATS, POSITION, ROWS, DROP_ROWS, MERGE_ROW, MOVE_COMPACTED];
}

/// Statements that read.
pub(super) mod read {
    pub(crate) use super::write::IS_DELETED;

    pub(crate) const EPOCH: &str = "SELECT c.id, c.era, e.epoch, c.epoch_no FROM chats c \
         JOIN epochs e ON e.chat = c.id AND e.no = c.epoch_no WHERE c.principal = ?1 AND c.chat_id = ?2";
    /// Its first columns are those of [`EPOCH`].
    pub(crate) const CHAT: &str = "SELECT c.id, c.era, e.epoch, c.epoch_no, c.head_seq, c.title, c.goal, c.session, \
         c.last_command, c.agent_run, c.agent_position, c.open_work, c.last_request, c.agent_turn, c.tasks, \
         c.version, c.updated_at FROM chats c \
         JOIN epochs e ON e.chat = c.id AND e.no = c.epoch_no WHERE c.principal = ?1 AND c.chat_id = ?2";
    pub(crate) const CHECKPOINT: &str = "SELECT state FROM checkpoints WHERE chat = ?1";
    pub(crate) const OPEN_TURNS: &str = "SELECT t.turn_id, t.text, t.hash, t.epoch_no, t.seq, t.accepted_at, \
         t.started_at, t.cancel_requested, e.sum, e.frame, t.prompt, t.cancel_reason \
         FROM turns t INDEXED BY open_turns \
         JOIN events e ON e.chat = t.chat AND e.epoch_no = t.epoch_no AND e.seq = t.seq \
         WHERE t.chat = ?1 AND t.outcome IS NULL ORDER BY t.epoch_no, t.seq";
    pub(crate) const REQUESTS: &str = "SELECT request_id, question, frame, agent_request_id, input FROM requests WHERE chat = ?1 ORDER BY no";
    pub(crate) const COMMANDS: &str =
        "SELECT id, kind, about, body FROM commands WHERE chat = ?1 ORDER BY id";
    pub(crate) const EARLIER: &str = "SELECT n.epoch, e.seq FROM events e \
         JOIN epochs n ON n.chat = e.chat AND n.no = e.epoch_no \
         WHERE e.chat = ?1 AND e.epoch_no < ?2 ORDER BY e.epoch_no DESC, e.seq DESC LIMIT 1";
    pub(crate) const TURN: &str = "SELECT t.hash, e.epoch, t.seq, t.starts_turn FROM turns t \
         JOIN epochs e ON e.chat = t.chat AND e.no = t.epoch_no \
         WHERE t.chat = (SELECT id FROM chats WHERE principal = ?1 AND chat_id = ?2) AND t.turn_id = ?3";
    pub(crate) const AFTER: &str = "SELECT first_seq, seq, sum, frame, lengths FROM events \
         WHERE chat = ?1 AND epoch_no = ?2 AND seq > ?3 ORDER BY seq";
    pub(crate) const HEAD: &str = "SELECT head_seq FROM chats WHERE id = ?1";
    pub(crate) const COVERING: &str = "SELECT first_seq, seq, sum, frame, lengths FROM events \
         WHERE chat = ?1 AND epoch_no = ?2 AND seq > ?3 ORDER BY seq LIMIT 1";
    pub(crate) const EPOCH_NO: &str = "SELECT no FROM epochs WHERE chat = ?1 AND epoch = ?2";
    pub(crate) const EPOCH_NAME: &str = "SELECT epoch FROM epochs WHERE chat = ?1 AND no = ?2";
    pub(crate) const BEFORE: &str = "SELECT epoch_no, seq, sum, frame FROM events \
         WHERE chat = ?1 AND (epoch_no, seq) <= (?2, ?3) ORDER BY epoch_no DESC, seq DESC";
    pub(crate) const CHATS: &str = "SELECT c.chat_id, c.title, c.updated_at, e.epoch, c.head_seq, \
         c.agent_turn IS NOT NULL OR EXISTS \
         (SELECT 1 FROM turns t INDEXED BY open_turns \
         WHERE t.chat = c.id AND t.outcome IS NULL AND t.started_at IS NOT NULL), \
         EXISTS (SELECT 1 FROM requests r WHERE r.chat = c.id) \
         FROM chats c JOIN epochs e ON e.chat = c.id AND e.no = c.epoch_no \
         WHERE c.principal = ?1 AND (c.updated_at, c.chat_id) < (?2, ?3) \
         ORDER BY c.updated_at DESC, c.chat_id DESC LIMIT ?4";

    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[
        EPOCH, CHAT, CHECKPOINT, OPEN_TURNS, REQUESTS, COMMANDS, EARLIER, TURN, AFTER, HEAD, COVERING,
        EPOCH_NO, EPOCH_NAME, BEFORE, CHATS,
    ];
}
