-- Relay's foundation. What waits, waits in a lane; what is final, is history; Postgres is the truth and Redis only hints.
-- Partitions of events, history, attempts and fanouts are made and retired by relay/partitions.py; there is no DEFAULT one.

-- ---- tenancy --------------------------------------------------------------------------------------------------------

CREATE TABLE tenants (
    id             uuid PRIMARY KEY,
    name           text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 255),
    -- Grows with every change of the tenant's endpoints, in the same transaction: caches compare it.
    config_version bigint NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    name         text NOT NULL,
    prefix       text NOT NULL,
    hash         bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    scopes       text[] NOT NULL CHECK (scopes <@ ARRAY['send', 'read', 'manage', 'admin', 'operator'] AND scopes <> '{}'),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);

-- ---- catalog --------------------------------------------------------------------------------------------------------

CREATE TABLE endpoints (
    id                 uuid PRIMARY KEY,
    tenant_id          uuid NOT NULL REFERENCES tenants,
    kind               text NOT NULL CHECK (kind IN ('subscribed', 'adhoc')),
    url                text NOT NULL,
    description        text,
    event_types        text[] NOT NULL DEFAULT '{}',
    status             text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    max_retries        int NOT NULL CHECK (max_retries BETWEEN 0 AND 100),
    retry_backoff_ms   int NOT NULL CHECK (retry_backoff_ms > 0),
    retry_backoff_max  int NOT NULL CHECK (retry_backoff_max >= retry_backoff_ms),
    retry_backoff_mult double precision NOT NULL CHECK (retry_backoff_mult >= 1),
    retry_schedule     int[] CHECK (cardinality(retry_schedule) BETWEEN 1 AND 100),
    timeout_ms         int NOT NULL CHECK (timeout_ms BETWEEN 100 AND 120000),
    max_concurrency    int NOT NULL CHECK (max_concurrency BETWEEN 1 AND 1000),
    custom_headers     jsonb,
    version            bigint NOT NULL DEFAULT 1,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    deleted_at         timestamptz
);
CREATE UNIQUE INDEX endpoints_adhoc ON endpoints (tenant_id, url) WHERE kind = 'adhoc';
CREATE INDEX endpoints_of_tenant ON endpoints (tenant_id, id) WHERE deleted_at IS NULL;

-- Signing secrets of endpoints and, for createEvent, of clients; sealed with AES-256-GCM under a key from SIGNING_KEY.
CREATE TABLE secrets (
    owner_id   uuid NOT NULL,
    slot       text NOT NULL CHECK (slot IN ('current', 'previous')),
    tenant_id  uuid NOT NULL REFERENCES tenants,
    sealed     bytea NOT NULL,
    key_id     bytea NOT NULL,
    hint       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    PRIMARY KEY (owner_id, slot),
    CHECK ((slot = 'previous') = (expires_at IS NOT NULL))
);

-- ---- intake ---------------------------------------------------------------------------------------------------------

CREATE TABLE events (
    id              uuid NOT NULL PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    type            text,
    payload         bytea NOT NULL,
    content_type    text NOT NULL,
    headers         jsonb,
    subject         text,
    priority        smallint NOT NULL CHECK (priority BETWEEN 1 AND 10),
    idempotency_key text,
    -- Set: for this endpoint alone (createEvent, testEndpoint); type decides nothing then.
    endpoint_id     uuid,
    max_attempts    smallint CHECK (max_attempts BETWEEN 1 AND 101),
    scheduled_at    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (id);
CREATE INDEX events_of_tenant ON events (tenant_id, id);

-- Accepted and not fanned out. Order is n: Postgres hands it out after the commit of what was acknowledged before.
CREATE TABLE outbox (
    n             bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    shard         smallint NOT NULL CHECK (shard BETWEEN 0 AND 15),
    tenant_id     uuid NOT NULL,
    event_id      uuid NOT NULL,
    since         timestamptz NOT NULL DEFAULT now(),
    -- Set: could not be fanned out; set aside so that it blocks nobody.
    failed_reason text,
    PRIMARY KEY (shard, n)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE scheduled (
    event_id  uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    due_at    timestamptz NOT NULL
);
CREATE INDEX scheduled_due ON scheduled (due_at);

CREATE TABLE idempotency_keys (
    tenant_id    uuid NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    event_id     uuid NOT NULL,
    request_hash bytea NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key)
) PARTITION BY HASH (tenant_id, key);
DO $$
BEGIN
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE idempotency_keys_%s PARTITION OF idempotency_keys FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i);
    END LOOP;
END $$;

-- ---- delivery -------------------------------------------------------------------------------------------------------

-- Deliveries that are not final.
--   waiting:    due_at set, fence null          (in its lane)
--   dispatched: due_at null, fence set          (a message carries the fence)
--   sending:    owner set                       (a worker holds it while it beats)
-- Half of each page stays free: a batch claims whole pages at once, and each claim is to be a HOT update.
CREATE TABLE live (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    event_id    uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    tier        smallint NOT NULL CHECK (tier BETWEEN 0 AND 2),
    lane        text NOT NULL DEFAULT '',
    due_at      timestamptz,
    fence       bigint,
    owner       bigint,
    sent_at     timestamptz,
    attempts    int NOT NULL DEFAULT 0,
    lost        smallint NOT NULL DEFAULT 0,
    reason      text,
    replay_of   uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CHECK ((due_at IS NULL) = (fence IS NOT NULL)),
    CHECK ((sent_at IS NULL) = (fence IS NULL)),
    CHECK (owner IS NULL OR fence IS NOT NULL)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX live_of_event ON live (event_id);
CREATE INDEX live_of_tenant ON live (tenant_id, id);
CREATE INDEX live_waiting ON live (endpoint_id, lane, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX live_dispatched ON live (sent_at) WHERE fence IS NOT NULL;

CREATE TABLE history (
    id          uuid NOT NULL PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    event_id    uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    state       text NOT NULL CHECK (state IN ('delivered', 'dead', 'cancelled')),
    tier        smallint NOT NULL,
    attempts    int NOT NULL,
    reason      text NOT NULL,
    replay_of   uuid,
    created_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (id);
CREATE INDEX history_of_event ON history (event_id);
CREATE INDEX history_of_tenant ON history (tenant_id, id);
CREATE INDEX history_of_endpoint ON history (endpoint_id, id);
CREATE INDEX history_undelivered ON history (tenant_id, id) WHERE state <> 'delivered';
CREATE INDEX history_finished ON history USING brin (finished_at) WITH (pages_per_range = 16, autosummarize = on);

-- Dead, and settled by nobody.
CREATE TABLE dead_letters (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    event_id    uuid NOT NULL,
    reason      text NOT NULL,
    died_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letters_of_tenant ON dead_letters (tenant_id, id);

CREATE TABLE attempts (
    delivery_id      uuid NOT NULL,
    n                int NOT NULL,
    at               timestamptz NOT NULL DEFAULT now(),
    tenant_id        uuid NOT NULL,
    endpoint_id      uuid NOT NULL,
    status           int,
    reason           text NOT NULL,
    error            text,
    request_url      text NOT NULL,
    request_headers  jsonb,
    response_headers jsonb,
    body             bytea,
    body_truncated   boolean NOT NULL DEFAULT false,
    peer_ip          text,
    dns_ms           real,
    connect_ms       real,
    tls_ms           real,
    first_byte_ms    real,
    total_ms         real NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX attempts_of_delivery ON attempts (delivery_id);
CREATE INDEX attempts_at ON attempts USING brin (at) WITH (pages_per_range = 16, autosummarize = on);

-- Proof that an event was fanned out, even to nobody.
CREATE TABLE fanouts (
    event_id       uuid NOT NULL PRIMARY KEY,
    tenant_id      uuid NOT NULL,
    matched        int NOT NULL,
    config_version bigint NOT NULL,
    at             timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (event_id);
CREATE INDEX fanouts_unmatched ON fanouts (tenant_id, event_id) WHERE matched = 0;

-- Where the deliveries of one endpoint wait. Key: '' (the endpoint's gates stand here too), 'high' or 'low'.
--   asleep: ready_at null · until ready_at · ready: to be handed out · handed out: fence set · held: owner set
CREATE TABLE lanes (
    endpoint_id uuid NOT NULL,
    key         text NOT NULL,
    tenant_id   uuid NOT NULL,
    tier        smallint NOT NULL CHECK (tier BETWEEN 0 AND 2),
    ready_at    timestamptz,
    ready       boolean NOT NULL DEFAULT false,
    owner       bigint,
    fence       bigint,
    sent_at     timestamptz,
    paused      boolean NOT NULL DEFAULT false,
    gate_until  timestamptz,
    gate_reason text,
    gate_epoch  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (endpoint_id, key),
    CHECK ((sent_at IS NULL) = (fence IS NULL)),
    CHECK (owner IS NULL OR fence IS NOT NULL),
    CHECK (NOT (ready AND fence IS NOT NULL)),
    CHECK (gate_until IS NULL OR gate_reason IS NOT NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lanes_ready ON lanes (tier, tenant_id, ready_at) WHERE ready;
CREATE INDEX lanes_due ON lanes (ready_at) WHERE ready_at IS NOT NULL AND NOT ready AND fence IS NULL;
CREATE INDEX lanes_dispatched ON lanes (sent_at) WHERE fence IS NOT NULL;

-- ---- processes ------------------------------------------------------------------------------------------------------

CREATE TABLE workers (
    no         bigint PRIMARY KEY,
    name       text NOT NULL,
    beat_at    timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE leases (
    name   text PRIMARY KEY,
    holder bigint NOT NULL,
    until  timestamptz NOT NULL
);

-- ---- insight: kept by the clock, always set and never added, so two clocks count nothing twice ----------------------

CREATE TABLE queue_counts (
    tenant_id   uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    tier        smallint NOT NULL,
    waiting     bigint NOT NULL,
    delayed     bigint NOT NULL,
    held        bigint NOT NULL,
    in_flight   bigint NOT NULL,
    retrying    bigint NOT NULL,
    oldest      timestamptz,
    PRIMARY KEY (tenant_id, endpoint_id, tier)
);
CREATE TABLE dead_counts (
    tenant_id   uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    dead        bigint NOT NULL,
    PRIMARY KEY (tenant_id, endpoint_id)
);
CREATE TABLE intake_counts (
    tenant_id uuid PRIMARY KEY,
    queued    bigint NOT NULL,
    scheduled bigint NOT NULL,
    oldest    timestamptz
);
CREATE TABLE counted (
    name text PRIMARY KEY,
    at   timestamptz NOT NULL
);

-- What happened in a minute, or in a closed day, at one endpoint. latency: attempts with an answer, by bucket.
CREATE TABLE stats (
    grain       text NOT NULL CHECK (grain IN ('minute', 'day')),
    at          timestamptz NOT NULL,
    tenant_id   uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    created     bigint NOT NULL DEFAULT 0,
    delivered   bigint NOT NULL DEFAULT 0,
    dead        bigint NOT NULL DEFAULT 0,
    cancelled   bigint NOT NULL DEFAULT 0,
    attempts    bigint NOT NULL DEFAULT 0,
    ok          bigint NOT NULL DEFAULT 0,
    answered    bigint NOT NULL DEFAULT 0,
    latency_ms  double precision NOT NULL DEFAULT 0,
    latency     bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (grain, tenant_id, endpoint_id, at)
);
CREATE INDEX stats_at ON stats (grain, at);
