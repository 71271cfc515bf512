-- What a notice that waits for its time will say.

ALTER TABLE notices ADD COLUMN details jsonb NOT NULL DEFAULT '{}';
