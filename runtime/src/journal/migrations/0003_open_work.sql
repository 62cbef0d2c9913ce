-- What an agent has begun in the turn that runs and not ended (JSON: streams, uses of tools). Whoever takes up the
-- turn after a crash ends it with the turn. NULL: nothing.
ALTER TABLE chats ADD COLUMN open_work TEXT;
