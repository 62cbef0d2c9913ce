-- Deltas of a stream that has ended are joined into records of at most 64 KiB.
ALTER TABLE events ADD COLUMN lengths BLOB;         -- of a joined record: the bytes of text of each of its numbers, as LEB128

ALTER TABLE chats ADD COLUMN joined_to INTEGER NOT NULL DEFAULT 0;   -- up to this event of the present epoch, deltas are joined
