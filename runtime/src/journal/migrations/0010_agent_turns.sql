-- The turn that the agent began by itself (JSON), beside a person's turn. NULL: none is open.
ALTER TABLE chats ADD COLUMN agent_turn TEXT;
-- The running background tasks of the agent (JSON). NULL: none runs.
ALTER TABLE chats ADD COLUMN tasks TEXT;
-- Chats that must be recovered even without a prompted turn and an agent.
CREATE INDEX chats_with_agent_work ON chats (id) WHERE agent_turn IS NOT NULL OR tasks IS NOT NULL;
