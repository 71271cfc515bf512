-- Who changed what. Written in the transaction of the change; nothing may alter it, and only the retention removes it.
CREATE TABLE audit_log (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    actor         text NOT NULL,
    actor_key     uuid,
    -- An operator's key that acted for a client which is not its own.
    acts_for      boolean NOT NULL DEFAULT false,
    action        text NOT NULL,
    subject_type  text NOT NULL,
    subject_id    uuid,
    before        jsonb,
    after         jsonb,
    ip            text,
    request_id    text
);
CREATE INDEX audit_log_of_tenant ON audit_log (tenant_id, id);

-- A DELETE passes where its transaction says what it removes (relay/tenancy/audit.py), and never for the last 30 days.
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('relay.audit_retention', true) = 'on' THEN
        IF OLD.at < now() - interval '30 days' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
