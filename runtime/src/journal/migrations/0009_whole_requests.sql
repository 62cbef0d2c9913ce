-- A request was known by the agent's own id, which can come again, and its whole input was with the agent's codec alone.
ALTER TABLE chats ADD COLUMN last_request INTEGER NOT NULL DEFAULT 0;   -- how many requests there have been: makes their ids
ALTER TABLE requests ADD COLUMN agent_request_id TEXT;                  -- NULL in rows of before: it is request_id
ALTER TABLE requests ADD COLUMN input TEXT;                             -- of a permission: the whole input as JSON text; NULL in rows of before
