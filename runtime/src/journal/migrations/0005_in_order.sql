-- Events and turns lie in the order in which they were written, found by an index. Beside one another by chat, the
-- growth of each chat pushed its neighbours around: a commit for many chats wrote three times as many pages.
ALTER TABLE events RENAME TO events_by_chat;
ALTER TABLE turns RENAME TO turns_by_chat;

-- The log. An event covers the numbers first_seq to seq; within an epoch they are contiguous from 1.
CREATE TABLE events (
    id          INTEGER PRIMARY KEY,
    chat        INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    epoch_no    INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    first_seq   INTEGER NOT NULL,
    sum         INTEGER NOT NULL,               -- CRC-32 of the frame: SQLite itself does not notice damaged text
    frame       TEXT    NOT NULL,               -- the event's JSON, as every client gets it; of several deltas, joined
    lengths     BLOB,                           -- of a joined record: the bytes of text of each of its numbers, as LEB128
    CHECK (first_seq BETWEEN 1 AND seq)
) STRICT;

INSERT INTO events (chat, epoch_no, seq, first_seq, sum, frame, lengths)
    SELECT chat, epoch_no, seq, first_seq, sum, frame, lengths FROM events_by_chat ORDER BY chat, epoch_no, seq;
DROP TABLE events_by_chat;

-- Where an event is.
CREATE UNIQUE INDEX events_by_place ON events (chat, epoch_no, seq);

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
    outcome             TEXT CHECK (outcome IN ('completed', 'cancelled', 'failed', 'interrupted')),
    text                TEXT,                   -- the content, until the turn ends
    CHECK ((outcome IS NULL) = (ended_at IS NULL)),
    CHECK ((outcome IS NULL) = (text IS NOT NULL))
) STRICT;

INSERT INTO turns (chat, turn_id, hash, epoch_no, seq, starts_turn, accepted_at, started_at, cancel_requested,
        ended_at, outcome, text)
    SELECT chat, turn_id, hash, epoch_no, seq, starts_turn, accepted_at, started_at, cancel_requested,
        ended_at, outcome, text FROM turns_by_chat ORDER BY accepted_at;
DROP TABLE turns_by_chat;

-- A turn_id is used once in a chat.
CREATE UNIQUE INDEX turns_by_turn_id ON turns (chat, turn_id);

-- Turns that have not ended, in the order in which they came.
CREATE INDEX open_turns ON turns (chat, epoch_no, seq) WHERE outcome IS NULL;

-- A turn ends once.
CREATE TRIGGER turns_end_once BEFORE UPDATE OF outcome ON turns WHEN old.outcome IS NOT NULL
BEGIN
    SELECT RAISE (ABORT, 'a turn ends once');
END;
