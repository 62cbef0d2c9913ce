-- What belongs to principals beside their chats. Small values, changed by compare-and-set.
CREATE TABLE account_entries (
    space       TEXT    NOT NULL,               -- what the entry is for, such as 'tokens'
    owner       TEXT    NOT NULL,               -- the principal that it belongs to
    name        TEXT    NOT NULL,
    version     INTEGER NOT NULL,               -- the count of commits when the value was stored, so no version is used twice
    value       BLOB    NOT NULL,
    PRIMARY KEY (space, owner, name)
) STRICT;

-- What a principal has used, in windows of time. Of each period, the newest windows of a counter are kept.
CREATE TABLE account_counters (
    owner       TEXT    NOT NULL,
    name        TEXT    NOT NULL,               -- what is counted
    period      TEXT    NOT NULL,               -- 'hour', 'day' or 'month'
    window      TEXT    NOT NULL,               -- the beginning of the window, as in ISO 8601
    total       INTEGER NOT NULL,
    PRIMARY KEY (owner, name, period, window)
) STRICT, WITHOUT ROWID;
