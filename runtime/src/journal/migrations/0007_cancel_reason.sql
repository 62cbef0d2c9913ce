-- A gateway that takes up a turn which the one before was cancelling did not know why, and its turn_end did not say.
ALTER TABLE turns ADD COLUMN cancel_reason TEXT;    -- JSON: the error of its turn_end, where nobody asked for the cancel; while it runs
