-- What a client says of its event types, and events that are emptied for good.

CREATE TABLE event_types (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    description  text,
    redact_paths text[] NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
CREATE INDEX event_types_of_tenant ON event_types (tenant_id, id);

-- Grows with every change of the tenant's event types, in the same transaction: caches compare it.
ALTER TABLE tenants ADD COLUMN types_version bigint NOT NULL DEFAULT 1;

-- Null: erased (eraseEvents). Days in the archive can be erased too. No older release writes one, and none reads one unless
-- somebody erases before all processes are new, of which docs/privacy.md warns.
-- squawk-ignore ban-drop-not-null
ALTER TABLE events ALTER COLUMN payload DROP NOT NULL;
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT c.relname FROM pg_class c
                WHERE c.relkind = 'r' AND c.relnamespace = to_regnamespace('relay_archive')::oid AND c.relname ~ '^events_[0-9]{8}$'
    LOOP
        EXECUTE format('ALTER TABLE relay_archive.%I ALTER COLUMN payload DROP NOT NULL', name);
    END LOOP;
END $$;
