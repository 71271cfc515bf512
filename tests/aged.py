"""Time that passed: everything that was accepted and done, moved back by days, as if it had happened then."""

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
