-- SQLite makes a table for a list of more than two values each time it checks it: that was a tenth of keeping a message.
ALTER TABLE turns RENAME TO turns_before;
DROP INDEX turns_by_turn_id;
DROP INDEX open_turns;
DROP TRIGGER turns_end_once;

-- Every message ever accepted. Rows outlive the events, so that a repeated message is recognised for ever.
CREATE TABLE turns (
    id                  INTEGER PRIMARY KEY,
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
    outcome             TEXT CHECK (outcome = 'completed' OR outcome = 'cancelled' OR outcome = 'failed' OR outcome = 'interrupted'),
    text                TEXT,                   -- the content, until the turn ends
    prompt              INTEGER,                -- the number of the command that tells the agent of the turn, with its text, while it runs
    cancel_reason       TEXT,                   -- JSON: the error of its turn_end, where nobody asked for the cancel; while it runs
    CHECK ((outcome IS NULL) = (ended_at IS NULL)),
    CHECK ((outcome IS NULL) = (text IS NOT NULL))
) STRICT;

INSERT INTO turns SELECT id, chat, turn_id, hash, epoch_no, seq, starts_turn, accepted_at, started_at, cancel_requested,
    ended_at, outcome, text, prompt, cancel_reason FROM turns_before ORDER BY id;
DROP TABLE turns_before;

-- A turn_id is used once in a chat.
CREATE UNIQUE INDEX turns_by_turn_id ON turns (chat, turn_id);

-- Turns that have not ended, in the order in which they came.
CREATE INDEX open_turns ON turns (chat, epoch_no, seq) WHERE outcome IS NULL;

-- A turn ends once.
CREATE TRIGGER turns_end_once BEFORE UPDATE OF outcome ON turns WHEN old.outcome IS NOT NULL
BEGIN
    SELECT RAISE (ABORT, 'a turn ends once');
END;

-- The index of the chats by activity was written with each message of each of them.
DROP INDEX chats_by_activity;
ALTER TABLE chats ADD COLUMN active_s INTEGER /* the second of updated_at */ NOT NULL DEFAULT 0;
UPDATE chats SET active_s = updated_at / 1000;

-- A principal's chats by last activity; those of one second are sorted when they are read.
CREATE INDEX chats_by_activity ON chats (principal, active_s);

-- What waits for no disk leaves its chat's row alone: its own row says how far the agent is, and the chat's follows with
-- whatever does more.
ALTER TABLE events ADD COLUMN agent_position /* counts where seq is after chats.head_seq */ INTEGER;
