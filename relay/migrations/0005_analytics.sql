-- Rollups: what was tried and what ended, by client, endpoint, event type, reason and status code.

-- The type of the event ('': it has none), noted with the outcome so that rollups need not look for it. Null where an
-- older release recorded it, or where nothing was tried: then the event tells.
ALTER TABLE attempts ADD COLUMN event_type text;
ALTER TABLE history ADD COLUMN event_type text;

-- Minutes are set from attempts and history, closed hours from minutes, closed days from hours; nothing is ever added.
-- status 0: no answer, or no attempt. latency: attempts with an answer, by bucket; latency_us: the sum of theirs.
CREATE TABLE rollups (
    grain       text NOT NULL CHECK (grain IN ('minute', 'hour', 'day')),
    at          timestamptz NOT NULL,
    tenant_id   uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    event_type  text NOT NULL,
    reason      text NOT NULL,
    status      int NOT NULL,
    attempts    bigint NOT NULL,
    latency_us  bigint NOT NULL,
    latency     bigint[] NOT NULL,
    delivered   bigint NOT NULL,
    dead        bigint NOT NULL,
    cancelled   bigint NOT NULL,
    PRIMARY KEY (grain, tenant_id, endpoint_id, at, event_type, reason, status)
);
CREATE INDEX rollups_of_tenant ON rollups (grain, tenant_id, at);
CREATE INDEX rollups_at ON rollups (grain, at);

-- What ended before the moment in `counted`, of what is stored: the sums of days, one row per client.
CREATE TABLE finished_counts (
    tenant_id uuid PRIMARY KEY,
    delivered bigint NOT NULL,
    cancelled bigint NOT NULL
);
