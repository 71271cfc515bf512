-- What authenticates Relay to an endpoint, sealed: secret headers, a login or token, certificates. `shown` is the part that
-- may be seen; the rest cannot be read without SIGNING_KEY.
CREATE TABLE credentials (
    endpoint_id uuid NOT NULL REFERENCES endpoints ON DELETE CASCADE,
    kind        text NOT NULL CHECK (kind IN ('headers', 'auth', 'tls')),
    tenant_id   uuid NOT NULL REFERENCES tenants,
    sealed      bytea NOT NULL,
    key_id      bytea NOT NULL,
    shown       jsonb NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (endpoint_id, kind)
);
