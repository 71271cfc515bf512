-- What a client decides for itself: whether types nobody created may be sent, and how many requests a second (0: the setting).
ALTER TABLE tenants
    ADD COLUMN unknown_event_types text NOT NULL DEFAULT 'allow' CHECK (unknown_event_types IN ('allow', 'refuse')),
    ADD COLUMN rate_limit_per_sec  int NOT NULL DEFAULT 0 CHECK (rate_limit_per_sec >= 0);
