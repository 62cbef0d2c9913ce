-- The journal's first format. Never edited once released: a change is a new file with the next number.
--
-- Times are milliseconds of Unix time. `chat` is always `chats.id`. A place in a chat's log is an epoch's
-- number (`epoch_no`, from 1) and a number within it (`seq`, from 1); the name of an epoch is in `epochs`.

-- One row about the whole journal.
CREATE TABLE meta (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    journal_id  TEXT    NOT NULL,               -- random; the side file names it too
    created_at  INTEGER NOT NULL,
    commits     INTEGER NOT NULL,               -- transactions so far; the side file's count is never ahead, unless some were lost
    era         INTEGER NOT NULL,               -- grows when events may have been lost; a chat of an older era gets a new epoch when it is next opened
    boot_id     TEXT    NOT NULL,               -- the boot in which it was last opened
    clean       INTEGER NOT NULL CHECK (clean IN (0, 1))    -- 1: it was closed with everything on the disk
) STRICT;

-- Every chat.
CREATE TABLE chats (
    id              INTEGER PRIMARY KEY,
    principal       TEXT    NOT NULL,           -- whose it is
    chat_id         TEXT    NOT NULL,           -- as the wire names it
    epoch_no        INTEGER NOT NULL,           -- the present epoch
    head_seq        INTEGER NOT NULL,           -- the newest event of the present epoch; 0: none yet
    era             INTEGER NOT NULL,           -- the journal's era when the present epoch began; -1: to be renewed
    title           TEXT,
    goal            TEXT,                       -- JSON
    session         TEXT,                       -- the agent's name for the conversation
    last_command    INTEGER NOT NULL,           -- the highest number of a command
    agent_run       INTEGER,                    -- which life of the agent the chat has, if any
    agent_position  INTEGER,                    -- how far its records are in the log
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,           -- the last activity
    UNIQUE (principal, chat_id),
    CHECK ((agent_run IS NULL) = (agent_position IS NULL))
) STRICT;

-- A principal's chats by last activity.
CREATE INDEX chats_by_activity ON chats (principal, updated_at, chat_id);

-- Chats that have an agent: what a start has to look after.
CREATE INDEX chats_with_agent ON chats (id) WHERE agent_run IS NOT NULL;

-- The numberings of each chat's events. Normally one; a new one begins where events may have been lost.
CREATE TABLE epochs (
    chat        INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    no          INTEGER NOT NULL,
    epoch       TEXT    NOT NULL,               -- its name on the wire
    began_at    INTEGER NOT NULL,
    PRIMARY KEY (chat, no),
    UNIQUE (chat, epoch)
) STRICT, WITHOUT ROWID;

-- The log. An event covers the numbers first_seq to seq; within an epoch they are contiguous from 1.
CREATE TABLE events (
    chat        INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    epoch_no    INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    first_seq   INTEGER NOT NULL,
    sum         INTEGER NOT NULL,               -- CRC-32 of the frame: SQLite itself does not notice damaged text
    frame       TEXT    NOT NULL,               -- the event's JSON, as every client gets it
    PRIMARY KEY (chat, epoch_no, seq),
    CHECK (first_seq BETWEEN 1 AND seq)
) STRICT, WITHOUT ROWID;

-- Every message ever accepted. Rows outlive the events, so that a repeated message is recognised for ever.
CREATE TABLE turns (
    chat                INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    turn_id             TEXT    NOT NULL,       -- made by the client
    hash                BLOB    NOT NULL CHECK (length(hash) = 32),     -- SHA-256 of the content
    epoch_no            INTEGER NOT NULL,       -- with seq: the place of its user_message
    seq                 INTEGER NOT NULL,
    starts_turn         INTEGER NOT NULL CHECK (starts_turn IN (0, 1)),
    accepted_at         INTEGER NOT NULL,
    started_at          INTEGER,
    cancel_requested    INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),
    ended_at            INTEGER,
    outcome             TEXT CHECK (outcome IN ('completed', 'cancelled', 'failed', 'interrupted')),
    text                TEXT,                   -- the content, until the turn ends
    PRIMARY KEY (chat, turn_id),
    CHECK ((outcome IS NULL) = (ended_at IS NULL)),
    CHECK ((outcome IS NULL) = (text IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Turns that have not ended, in the order in which they came.
CREATE INDEX open_turns ON turns (chat, epoch_no, seq) WHERE outcome IS NULL;

-- A turn ends once.
CREATE TRIGGER turns_end_once BEFORE UPDATE OF outcome ON turns WHEN old.outcome IS NOT NULL
BEGIN
    SELECT RAISE (ABORT, 'a turn ends once');
END;

-- Permission requests and questions that nobody has answered yet.
CREATE TABLE requests (
    chat        INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    no          INTEGER NOT NULL,               -- their order
    request_id  TEXT    NOT NULL,
    question    INTEGER NOT NULL CHECK (question IN (0, 1)),
    frame       TEXT    NOT NULL,               -- its event
    PRIMARY KEY (chat, no)
) STRICT, WITHOUT ROWID;

-- What the agent was told in the turn that runs. An agent that outlives its gateway is told again.
CREATE TABLE commands (
    chat        INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    id          INTEGER NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('prompt', 'cancel', 'answer')),
    about       TEXT    NOT NULL,               -- a turn_id; of an answer, the request_id
    body        TEXT,                           -- of a prompt, the text; of an answer, its JSON
    PRIMARY KEY (chat, id)
) STRICT, WITHOUT ROWID;

-- The newest state of the decoder of each chat's agent, at or before `agent_position`.
CREATE TABLE checkpoints (
    chat        INTEGER PRIMARY KEY REFERENCES chats (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    state       BLOB    NOT NULL
) STRICT;
