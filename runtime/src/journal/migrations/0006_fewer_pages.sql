-- A commit wrote a page only to count itself, and another to keep what the agent is told, which the turn has already.
ALTER TABLE meta RENAME TO meta_before;

-- One row about the whole journal.
CREATE TABLE meta (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    journal_id  TEXT    NOT NULL,               -- random; the side file names it too
    created_at  INTEGER NOT NULL,
    commits     INTEGER NOT NULL,               -- the count of commits when one without events, or a deletion, was last made: the count is this or max(events.id), whichever is greater; the side file's is never ahead, unless some were lost
    era         INTEGER NOT NULL,               -- grows when events may have been lost; a chat of an older era gets a new epoch when it is next opened
    boot_id     TEXT    NOT NULL,               -- the boot in which it was last opened
    clean       INTEGER NOT NULL CHECK (clean IN (0, 1))    -- 1: it was closed with everything on the disk
) STRICT;

INSERT INTO meta SELECT id, journal_id, created_at, commits, era, boot_id, clean FROM meta_before;
DROP TABLE meta_before;

ALTER TABLE turns ADD COLUMN prompt INTEGER;    -- the number of the command that tells the agent of the turn, with its text, while it runs
