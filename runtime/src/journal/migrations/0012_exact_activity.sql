-- The index covered whole seconds of activity, so that a list sorted all chats of a second: of a hundred thousand chats that
-- were imported at once, all, for each page.
DROP INDEX chats_by_activity;
ALTER TABLE chats DROP COLUMN active_s;

-- A principal's chats by last activity.
CREATE INDEX chats_by_activity ON chats (principal, updated_at, chat_id);
