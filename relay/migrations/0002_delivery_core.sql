-- The delivery core: order, gates, rate limits, notices, and work that outlives a process.
-- Written before anybody ran Relay, so its tables are empty: nothing is scanned or built for long. No later one may do so.
-- squawk-ignore-file constraint-missing-not-valid, require-concurrent-index-creation

-- ---- endpoints ------------------------------------------------------------------------------------------------------

ALTER TABLE endpoints
    ADD COLUMN rate_limit_per_sec    int NOT NULL DEFAULT 0 CHECK (rate_limit_per_sec BETWEEN 0 AND 10000),
    ADD COLUMN circuit_threshold     int NOT NULL DEFAULT 5 CHECK (circuit_threshold BETWEEN 1 AND 1000),
    ADD COLUMN circuit_reset_ms      int NOT NULL DEFAULT 300000 CHECK (circuit_reset_ms BETWEEN 100 AND 86400000),
    ADD COLUMN terminal_status_codes int[] NOT NULL DEFAULT '{}',
    ADD COLUMN fifo                  boolean NOT NULL DEFAULT false,
    ADD COLUMN fifo_partition_key    text,
    ADD COLUMN fifo_on_dead          text NOT NULL DEFAULT 'park' CHECK (fifo_on_dead IN ('park', 'block')),
    ADD COLUMN disabled_reason       text,
    ADD COLUMN disabled_at           timestamptz,
    ADD CHECK ((status = 'disabled') = (disabled_at IS NOT NULL)),
    ADD CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL));

-- ---- lanes ----------------------------------------------------------------------------------------------------------

-- Keys: '' (normal; the endpoint's gates stand on this row), 'high', 'low', 'test' (testEndpoint: no gate holds it), and
-- 'fifo:' with the partition key behind it, in whose lane one delivery at a time is sent, by seq.
ALTER TABLE lanes
    -- Of the '' lane. GCRA's theoretical arrival time: when the endpoint's rate limit is used up.
    ADD COLUMN tat          timestamptz,
    -- Of the '' lane. Half-open: somebody probes, and nobody else does until then.
    ADD COLUMN probe_until  timestamptz,
    ADD COLUMN opened_at    timestamptz,
    -- Of the '' lane. After a resume: what was created before paced_at goes out at this rate.
    ADD COLUMN pace_per_sec int CHECK (pace_per_sec > 0),
    ADD COLUMN paced_at     timestamptz,
    -- Of a FIFO lane: the next place in it, and the dead head that blocks it.
    ADD COLUMN next_seq     bigint NOT NULL DEFAULT 1,
    ADD COLUMN blocked_by   uuid,
    ADD COLUMN used_at      timestamptz NOT NULL DEFAULT now(),
    ADD CHECK ((pace_per_sec IS NULL) = (paced_at IS NULL)),
    ADD CHECK (key = '' OR NOT paused AND gate_reason IS NULL);
CREATE INDEX lanes_gated ON lanes (endpoint_id) WHERE key = '' AND (paused OR gate_reason IS NOT NULL);

-- Whether a gate keeps deliveries from an endpoint. An open circuit does until it is closed, also when its time is over:
-- then a probe, and nothing else, may pass.
CREATE FUNCTION gate_closed(paused boolean, gate_reason text, gate_until timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN paused OR gate_reason IS NOT DISTINCT FROM 'circuit_open' OR coalesce(gate_until > now(), false);

-- Until when nobody needs to look at an endpoint's lanes: null now, infinity until somebody acts.
CREATE FUNCTION gate_sleeps_until(paused boolean, gate_reason text, gate_until timestamptz, probe_until timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN paused THEN 'infinity'
            WHEN gate_until > now() THEN gate_until
            WHEN gate_reason = 'circuit_open' AND probe_until > now() THEN probe_until END;

-- What stands before an endpoint now. rate: deliveries a second, if they are metered; burst: how many may go at once, 18 %
-- of a second's; tokens: how many of those are left.
CREATE VIEW gates AS
SELECT g.endpoint_id, e.version, g.gate_epoch AS epoch, gate_closed(g.paused, g.gate_reason, g.gate_until) AS closed,
       NOT g.paused AND g.gate_reason IS NOT DISTINCT FROM 'circuit_open' AND g.gate_until <= now()
           AND coalesce(g.probe_until <= now(), true) AS half_open,
       m.rate, b.burst, b.burst - m.rate * greatest(extract(epoch FROM g.tat - now())::float8, 0) AS tokens
FROM lanes g JOIN endpoints e ON e.id = g.endpoint_id
CROSS JOIN LATERAL (SELECT CASE WHEN e.status = 'active' AND e.deleted_at IS NULL
    THEN least(nullif(e.rate_limit_per_sec, 0), g.pace_per_sec)::float8 END AS rate) m
CROSS JOIN LATERAL (SELECT CASE WHEN m.rate IS NOT NULL THEN greatest(1, m.rate * 0.18) END AS burst) b
WHERE g.key = '';

-- ---- deliveries -----------------------------------------------------------------------------------------------------

-- first: made by the event's fan-out, not by a replay or a backfill. seq: its place in a FIFO lane.
ALTER TABLE live
    ADD COLUMN seq            bigint,
    ADD COLUMN first          boolean NOT NULL DEFAULT true,
    ADD COLUMN job_id         uuid,
    -- The fence that releaseFIFOLock took away: its holder's late answer counts as an attempt, once.
    ADD COLUMN released_fence bigint,
    ADD CHECK ((seq IS NULL) = (lane NOT LIKE 'fifo:%'));
CREATE UNIQUE INDEX live_ordered ON live (endpoint_id, lane, seq) WHERE seq IS NOT NULL;
CREATE INDEX live_replays ON live (replay_of) WHERE replay_of IS NOT NULL;

-- Whether the dead head of a FIFO lane of this endpoint stops the lane.
CREATE FUNCTION blocks_lane(endpoint_id uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
RETURN EXISTS (SELECT 1 FROM endpoints e WHERE e.id = blocks_lane.endpoint_id AND e.fifo AND e.fifo_on_dead = 'block'
               AND e.status = 'active' AND e.deleted_at IS NULL);

ALTER TABLE history
    ADD COLUMN lane   text NOT NULL DEFAULT '',
    ADD COLUMN seq    bigint,
    ADD COLUMN first  boolean NOT NULL DEFAULT true,
    ADD COLUMN job_id uuid;
CREATE INDEX history_replays ON history (replay_of) WHERE replay_of IS NOT NULL;

-- told: its side effects (notice, log line, disabling after a 410) have been seen to.
ALTER TABLE dead_letters ADD COLUMN told boolean NOT NULL DEFAULT true;
ALTER TABLE dead_letters ALTER COLUMN told SET DEFAULT false;
CREATE INDEX dead_letters_untold ON dead_letters (died_at) WHERE NOT told;
CREATE INDEX dead_letters_of_endpoint ON dead_letters (endpoint_id, id);

-- cancelled: a scheduled event that was taken back before its fan-out.
ALTER TABLE fanouts ADD COLUMN cancelled boolean NOT NULL DEFAULT false;

-- ---- endpoints that fail, and who is told ---------------------------------------------------------------------------

-- Endpoints of which nothing but failures is known since `since`; a success removes the row.
CREATE TABLE failing (
    endpoint_id uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    since       timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    told_days   smallint NOT NULL DEFAULT 0
);

-- When each subject was last spoken of; pending counts what happened since and was not told, details is the last of it.
CREATE TABLE notices (
    subject_id uuid NOT NULL,
    kind       text NOT NULL,
    tenant_id  uuid NOT NULL,
    sent_at    timestamptz NOT NULL DEFAULT now(),
    pending    int NOT NULL DEFAULT 0,
    details    jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (subject_id, kind)
);
CREATE INDEX notices_pending ON notices (sent_at) WHERE pending > 0;

-- ---- jobs -----------------------------------------------------------------------------------------------------------

-- cursor: the last item looked at. A chunk of items and this row are one transaction, so that no item is done twice.
CREATE TABLE jobs (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('replay', 'backfill', 'erasure')),
    status       text NOT NULL DEFAULT 'waiting'
                 CHECK (status IN ('waiting', 'running', 'paused', 'done', 'cancelled', 'failed')),
    dry_run      boolean NOT NULL DEFAULT false,
    input        jsonb NOT NULL,
    rate_per_sec int CHECK (rate_per_sec BETWEEN 1 AND 10000),
    cursor       uuid,
    total        bigint,
    done         bigint NOT NULL DEFAULT 0,
    skipped      bigint NOT NULL DEFAULT 0,
    failed       bigint NOT NULL DEFAULT 0,
    result       jsonb,
    error        text,
    next_at      timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CHECK ((finished_at IS NOT NULL) = (status IN ('done', 'cancelled', 'failed')))
);
CREATE INDEX jobs_of_tenant ON jobs (tenant_id, id);
CREATE INDEX jobs_open ON jobs (next_at) WHERE status IN ('waiting', 'running');
