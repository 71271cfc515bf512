-- Events that applications on this Postgres send inside their own transactions: `relay.send_event`.
-- relay/intake/producers.py takes them in after the commit; relay/producer_role.py makes the role that may call it.

CREATE TABLE producer_events (
    n            bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    -- What the caller was given; becomes the event's id.
    id           uuid NOT NULL,
    tenant_id    uuid NOT NULL,
    type         text NOT NULL,
    payload      bytea NOT NULL,
    content_type text NOT NULL,
    headers      jsonb,
    subject      text,
    priority     smallint NOT NULL CHECK (priority BETWEEN 1 AND 10),
    key          text,
    deliver_at   timestamptz,
    sent_at      timestamptz NOT NULL,
    -- Set: broke a rule that only Relay knows; set aside so that it blocks nobody.
    refused      text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX producer_events_waiting ON producer_events (n) WHERE refused IS NULL;
CREATE INDEX producer_events_refused ON producer_events (n) WHERE refused IS NOT NULL;

-- A UUIDv7 whose bits behind the millisecond begin with n: ids of one session, and of sessions one after the other, are
-- in the order of their n.
CREATE FUNCTION producer_event_id(at timestamptz, n bigint) RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
        || '7' || lpad(to_hex(n >> 26 & 4095), 3, '0')
        || lpad(to_hex((2::bigint << 30) | (n & 67108863) << 4 | floor(random() * 16)::bigint), 8, '0')
        || right(replace(gen_random_uuid()::text, '-', ''), 8))::uuid;

-- Not IF NOT EXISTS, which asks for the right to make one even where there is one.
DO $$
BEGIN
    IF to_regnamespace('relay') IS NULL THEN
        CREATE SCHEMA relay;
    END IF;
END $$;

-- Sends an event to all endpoints of the client that are subscribed to its type, if and only if the calling transaction
-- commits. Returns the event's id. What is wrong at first sight is an error in the caller's transaction.
-- It runs with the rights of Relay's role, and somebody else may be allowed to make functions in the schema of its path:
-- every call in it is of the exact types of a built-in function, which then comes first.
CREATE FUNCTION relay.send_event(
    client text,
    type text,
    payload bytea,
    key text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    subject text DEFAULT NULL,
    priority int DEFAULT 5,
    deliver_at timestamptz DEFAULT NULL,
    content_type text DEFAULT 'application/json'
) RETURNS uuid LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    receiver uuid;
    refuses  boolean;
    place    bigint;
    moment   timestamptz := clock_timestamp();
    event_id uuid;
BEGIN
    SELECT t.id, t.unknown_event_types = 'refuse' INTO receiver, refuses FROM tenants t WHERE t.name = send_event.client;
    IF receiver IS NULL AND send_event.client ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
        SELECT t.id, t.unknown_event_types = 'refuse' INTO receiver, refuses FROM tenants t
        WHERE t.id = send_event.client::uuid;
    END IF;
    IF receiver IS NULL THEN
        RAISE EXCEPTION 'relay.send_event: there is no client %', coalesce(quote_literal(client), 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'relay client list shows them.';
    END IF;
    IF send_event.type IS NULL OR send_event.type !~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$' OR length(send_event.type) > 255 THEN
        RAISE EXCEPTION 'relay.send_event: type must be 1 to 255 of a-z A-Z 0-9 _ - in segments parted by dots'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF starts_with(send_event.type, 'relay.') THEN
        RAISE EXCEPTION 'relay.send_event: type must not begin with relay., those are Relay''s own notices'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF refuses AND NOT EXISTS (
        SELECT FROM event_types e WHERE e.tenant_id = receiver AND e.name = send_event.type) THEN
        RAISE EXCEPTION 'relay.send_event: type % is not known, and this client refuses unknown ones', send_event.type
            USING ERRCODE = 'invalid_parameter_value', HINT = 'createEventType makes it.';
    ELSIF send_event.payload IS NULL THEN
        RAISE EXCEPTION 'relay.send_event: payload must not be null' USING ERRCODE = 'null_value_not_allowed';
    ELSIF length(send_event.key) NOT BETWEEN 1 AND 255 THEN
        RAISE EXCEPTION 'relay.send_event: key must have 1 to 255 characters' USING ERRCODE = 'invalid_parameter_value';
    ELSIF length(send_event.subject) NOT BETWEEN 1 AND 255 THEN
        RAISE EXCEPTION 'relay.send_event: subject must have 1 to 255 characters' USING ERRCODE = 'invalid_parameter_value';
    ELSIF coalesce(send_event.priority, 5) NOT BETWEEN 1 AND 10 THEN
        RAISE EXCEPTION 'relay.send_event: priority must be between 1 and 10' USING ERRCODE = 'invalid_parameter_value';
    ELSIF send_event.deliver_at > moment + interval '30 days' THEN
        RAISE EXCEPTION 'relay.send_event: deliver_at must be at most 30 days ahead' USING ERRCODE = 'invalid_parameter_value';
    ELSIF send_event.headers IS NOT NULL AND jsonb_typeof(send_event.headers) NOT IN ('object', 'null') THEN
        RAISE EXCEPTION 'relay.send_event: headers must be a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF coalesce(send_event.content_type, 'application/json') ~* '^(application/json|[^;]*\+json)' THEN
        PERFORM convert_from(send_event.payload, 'UTF8'::name)::json;  -- raises with the place in it
    END IF;
    -- The transaction gets its id before its number, as relay/intake/outbox.py (Hints) needs it.
    PERFORM pg_current_xact_id();
    place := nextval('producer_events_n_seq'::regclass);
    event_id := producer_event_id(moment, place);
    INSERT INTO producer_events (
        n, id, tenant_id, type, payload, content_type, headers, subject, priority, key, deliver_at, sent_at)
    OVERRIDING SYSTEM VALUE
    VALUES (place, event_id, receiver, send_event.type, send_event.payload,
            coalesce(send_event.content_type, 'application/json'), nullif(send_event.headers, 'null'), send_event.subject,
            coalesce(send_event.priority, 5), send_event.key, send_event.deliver_at, moment);
    RETURN event_id;
END $$;

CREATE FUNCTION relay.send_event(
    client text,
    type text,
    payload text,
    key text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    subject text DEFAULT NULL,
    priority int DEFAULT 5,
    deliver_at timestamptz DEFAULT NULL,
    content_type text DEFAULT 'application/json'
) RETURNS uuid LANGUAGE sql VOLATILE
RETURN relay.send_event(client, type, convert_to(payload, 'UTF8'), key, headers, subject, priority, deliver_at, content_type);

CREATE FUNCTION relay.send_event(
    client text,
    type text,
    payload jsonb,
    key text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    subject text DEFAULT NULL,
    priority int DEFAULT 5,
    deliver_at timestamptz DEFAULT NULL
) RETURNS uuid LANGUAGE sql VOLATILE
RETURN relay.send_event(client, type, convert_to(payload::text, 'UTF8'), key, headers, subject, priority, deliver_at);

-- Nobody may call it but the owner and relay_producer.
REVOKE ALL ON FUNCTION
    relay.send_event(text, text, bytea, text, jsonb, text, int, timestamptz, text),
    relay.send_event(text, text, text, text, jsonb, text, int, timestamptz, text),
    relay.send_event(text, text, jsonb, text, jsonb, text, int, timestamptz)
FROM PUBLIC;
