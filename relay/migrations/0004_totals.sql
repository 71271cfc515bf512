-- What was recorded in all before `until`, the end of a minute that nothing can change any more; later minutes stand in stats.
CREATE TABLE totals (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    until     timestamptz NOT NULL DEFAULT '-infinity',
    delivered bigint NOT NULL DEFAULT 0,
    dead      bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    attempts  bigint NOT NULL DEFAULT 0,
    ok        bigint NOT NULL DEFAULT 0
);
INSERT INTO totals DEFAULT VALUES;
