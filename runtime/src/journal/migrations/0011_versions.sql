-- The number of appends that were committed for the chat. Chats of earlier schemas begin at 1.
ALTER TABLE chats ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

-- The row of a chat is always up to date from now on. Until now, it could lag behind the chat's newest event, whose row
-- had the agent's position. The column agent_position of events is not used any more.
UPDATE chats SET head_seq = n.seq, agent_position = n.agent_position
FROM (
    SELECT c.id AS chat, e.seq AS seq, e.agent_position AS agent_position FROM chats c
    JOIN events e ON e.chat = c.id AND e.epoch_no = c.epoch_no AND e.seq =
        (SELECT max(seq) FROM events WHERE chat = c.id AND epoch_no = c.epoch_no)
    WHERE e.seq > c.head_seq AND e.agent_position IS NOT NULL
) n WHERE n.chat = chats.id;
