-- What is left of deleted chats: nothing but that their ids are never used again. A client's chat that is gone is
-- told from one that never was by this alone.
CREATE TABLE deleted (
    hash        BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32)  -- SHA-256 of the principal, a zero byte and the chat_id
) STRICT, WITHOUT ROWID;
