"""Old days: what was accepted and done, moved back as if it had happened then, or rows put there directly."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from psycopg import Connection
from psycopg.rows import TupleRow

from relay import partitions

_SHIFT = """CREATE FUNCTION pg_temp.aged(id uuid, days int) RETURNS uuid LANGUAGE sql AS $$
    SELECT (lpad(to_hex(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint - days * 86400000::bigint), 12, '0')
            || substr(replace(id::text, '-', ''), 13))::uuid $$"""
_AGE = (
    "UPDATE events SET id = pg_temp.aged(id, {0}), created_at = created_at - interval '{0} days'",
    "UPDATE fanouts SET event_id = pg_temp.aged(event_id, {0}), at = at - interval '{0} days'",
    """UPDATE history SET id = pg_temp.aged(id, {0}), event_id = pg_temp.aged(event_id, {0}),
           replay_of = pg_temp.aged(replay_of, {0}),
           created_at = created_at - interval '{0} days', finished_at = finished_at - interval '{0} days'""",
    "UPDATE attempts SET delivery_id = pg_temp.aged(delivery_id, {0}), at = at - interval '{0} days'",
    """UPDATE dead_letters SET id = pg_temp.aged(id, {0}), event_id = pg_temp.aged(event_id, {0}),
           died_at = died_at - interval '{0} days'""",
    "UPDATE idempotency_keys SET expires_at = expires_at - interval '{0} days'",
    "UPDATE endpoints SET created_at = created_at - interval '{0} days'",
)


def pass_days(conn: Connection[TupleRow], days: int) -> date:
    """Let that many days pass; return what is now the day of that which was of today."""
    at = datetime.now(UTC) - timedelta(days=days)
    for offset in (0, days // 2, days):
        partitions.ensure(conn, now=at + timedelta(days=offset))
    conn.execute(_SHIFT)
    for statement in _AGE:
        conn.execute(statement.format(days).encode())
    return at.date()


def fill(conn: Connection[TupleRow], day: date, count: int) -> None:
    """Insert events with a dead delivery each, every third of them settled; their texts have all that COPY escapes."""
    conn.execute(
        r"""WITH n AS (SELECT n, %(start)s::timestamptz + n * interval '1 min' AS at,
                              (left(%(prefix)s, 15) || lpad(to_hex(n), 3, '0') || '-8000-000000000000')::uuid AS id
                       FROM generate_series(1, %(count)s) n),
        e AS (INSERT INTO events (id, tenant_id, type, payload, content_type, headers, priority, created_at)
              SELECT id, id, 'a.b', decode(repeat('5c0a0d09', n), 'hex'), 'x/x', '{"a": "\\ \t"}', 5, at FROM n),
        f AS (INSERT INTO fanouts (event_id, tenant_id, matched, config_version) SELECT id, id, 1, 1 FROM n),
        h AS (INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, created_at,
                                   finished_at)
              SELECT id, id, id, id, 'dead', 1, 1, 'gone', at, at FROM n),
        d AS (INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason, died_at)
              SELECT id, id, id, id, 'gone', at FROM n WHERE mod(n, 3) > 0)
        INSERT INTO attempts (delivery_id, n, at, tenant_id, endpoint_id, reason, request_url, total_ms, error)
        SELECT id, 1, at, id, id, 'gone', 'http://x/', n / 3.0, E'ä\\n\n\\.\r\t' FROM n""",
        {
            "start": datetime.combine(day, datetime.min.time(), UTC),
            "prefix": str(partitions.floor_of(day)),
            "count": count,
        },
    )
