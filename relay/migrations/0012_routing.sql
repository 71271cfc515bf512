-- What an endpoint takes, and what becomes of it before it is sent; what the events of a type must look like.

-- `json`, not `jsonb`: a filter and a schema are shown as they were written.
ALTER TABLE endpoints
    ADD COLUMN filter json,
    ADD COLUMN transformation text,
    ADD COLUMN transformation_version int,
    ADD COLUMN transformation_on_error text NOT NULL DEFAULT 'fail',
    ADD COLUMN format text NOT NULL DEFAULT 'raw',
    ADD COLUMN gzip boolean NOT NULL DEFAULT false;

ALTER TABLE event_types
    ADD COLUMN schema json,
    ADD COLUMN schema_version text,
    ADD COLUMN revision int NOT NULL DEFAULT 0;

-- Every schema a type had: the one of `event_types.revision` is the newest.
CREATE TABLE event_type_revisions (
    type_id        uuid NOT NULL REFERENCES event_types ON DELETE CASCADE,
    revision       int NOT NULL,
    schema         json,
    schema_version text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (type_id, revision)
);
