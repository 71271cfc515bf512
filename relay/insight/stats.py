"""What happened when: sums per endpoint and minute, and per day. They are set from what is stored, never added to.

A minute is recomputed while anything in it may still commit, so two clocks, or one that starts again, count nothing
twice. A latency histogram is an array of pairs (bucket, attempts).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import sql

from relay.db import Conn
from relay.delivery.deliveries import id_bounds
from relay.errors import Invalid
from relay.insight.latencies import STEPS, Percentiles, percentiles

_LOCK = 7011
_MAX_HOURS = 24 * 366
#: How long a minute counts by itself before the sum of its day holds it; longer than refresh looks back.
SETTLES = timedelta(minutes=5)
_CAUGHT_UP_AT_ONCE = timedelta(hours=1)
_MINUTES_KEPT = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class EndpointStats:
    """What happened at an endpoint in some hours; `failed` and `pending` are of this moment. Latencies in ms."""

    created: int = 0
    delivered: int = 0
    dead: int = 0
    attempts: int = 0
    success_rate: float = 1.0
    avg_latency_ms: float = 0.0
    failed: int = 0
    pending: int = 0


async def refresh(conn: Conn, *, minutes: int = 3) -> None:
    """Recompute the last minutes, or the next hour of what was missed since the last time.

    Does nothing while another process does it.
    """
    async with conn.transaction():
        if not await _lock(conn):
            return
        rows = await conn.execute(
            """SELECT date_trunc('minute', least(now(), (SELECT at FROM counted WHERE name = 'stats'))
                                           - make_interval(mins => %s))""",
            (minutes,),
        )
        since: datetime = (await rows.fetchall())[0][0]
        until = since + timedelta(minutes=minutes) + _CAUGHT_UP_AT_ONCE
        await _set_created(conn, since, until=until)
        await _set_finished(conn, since, until=until)
        await _set_attempts(conn, since, until=until)
        await conn.execute(
            """INSERT INTO counted (name, at) VALUES ('stats', least(now(), %s))
               ON CONFLICT (name) DO UPDATE SET at = excluded.at""",
            (until,),
        )


async def _lock(conn: Conn) -> bool:
    rows = await conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
    return (await rows.fetchall())[0][0]


async def _set_created(conn: Conn, since: datetime, *, until: datetime) -> None:
    await conn.execute(
        """INSERT INTO stats AS s (grain, at, tenant_id, endpoint_id, created)
           SELECT 'minute', date_trunc('minute', created_at), tenant_id, endpoint_id, count(*) FROM (
               SELECT created_at, tenant_id, endpoint_id FROM live
               WHERE id >= %(from_id)s AND id < %(to_id)s AND created_at >= %(since)s AND created_at < %(until)s UNION ALL
               SELECT created_at, tenant_id, endpoint_id FROM history
               WHERE id >= %(from_id)s AND id < %(to_id)s AND created_at >= %(since)s AND created_at < %(until)s) d
           GROUP BY 2, 3, 4
           ON CONFLICT (grain, tenant_id, endpoint_id, at) DO UPDATE SET created = excluded.created
           WHERE s.created <> excluded.created""",
        {"since": since, "until": until, **id_bounds(since, until)},
    )


async def _set_finished(conn: Conn, since: datetime, *, until: datetime) -> None:
    await conn.execute(
        """INSERT INTO stats AS s (grain, at, tenant_id, endpoint_id, delivered, dead, cancelled)
           SELECT 'minute', date_trunc('minute', finished_at), tenant_id, endpoint_id,
                  count(*) FILTER (WHERE state = 'delivered'), count(*) FILTER (WHERE state = 'dead'),
                  count(*) FILTER (WHERE state = 'cancelled')
           FROM history WHERE finished_at >= %(since)s AND finished_at < %(until)s GROUP BY 2, 3, 4
           ON CONFLICT (grain, tenant_id, endpoint_id, at) DO UPDATE
               SET delivered = excluded.delivered, dead = excluded.dead, cancelled = excluded.cancelled
           WHERE (s.delivered, s.dead, s.cancelled) <> (excluded.delivered, excluded.dead, excluded.cancelled)""",
        {"since": since, "until": until},
    )


async def _set_attempts(conn: Conn, since: datetime, *, until: datetime) -> None:
    await conn.execute(
        """INSERT INTO stats AS s (grain, at, tenant_id, endpoint_id, attempts, ok, answered, latency_ms, latency)
           SELECT 'minute', minute, tenant_id, endpoint_id, sum(n), sum(ok),
                  coalesce(sum(n) FILTER (WHERE bucket >= 0), 0), coalesce(sum(ms) FILTER (WHERE bucket >= 0), 0),
                  coalesce(array_agg(ARRAY[bucket, n] ORDER BY bucket) FILTER (WHERE bucket >= 0), '{}')
           FROM (
               SELECT date_trunc('minute', at) AS minute, tenant_id, endpoint_id, count(*) AS n,
                      CASE WHEN status > 0
                           THEN ceil(ln(greatest(total_ms::float8, 1)) / ln(2::float8) * %(steps)s)::int8
                           ELSE -1 END AS bucket,
                      count(*) FILTER (WHERE status BETWEEN 200 AND 299) AS ok, sum(total_ms::float8) AS ms
               FROM attempts WHERE at >= %(since)s AND at < %(until)s GROUP BY 1, 2, 3, 5) a
           GROUP BY 2, 3, 4
           ON CONFLICT (grain, tenant_id, endpoint_id, at) DO UPDATE
               SET attempts = excluded.attempts, ok = excluded.ok, answered = excluded.answered,
                   latency_ms = excluded.latency_ms, latency = excluded.latency
           WHERE (s.attempts, s.ok, s.latency_ms) <> (excluded.attempts, excluded.ok, excluded.latency_ms)""",
        {"since": since, "until": until, "steps": STEPS},
    )


async def close_days(conn: Conn) -> None:
    """Set the sums of days from their minutes so far, and forget minutes of closed days after two days.

    Call it every ten minutes or so: totals read a day's sum and only the minutes after it. Nothing while another does.
    """
    async with conn.transaction():
        if not await _lock(conn):
            return
        rows = await conn.execute(
            """SELECT coalesce((SELECT date_trunc('day', at, 'UTC') FROM counted WHERE name = 'stats_days'),
                               '1970-01-01+00'),
                      (SELECT date_trunc('minute', at - %s) FROM counted WHERE name = 'stats')""",
            (SETTLES,),
        )
        first_day, until = (await rows.fetchall())[0]
        if until is None:
            return
        await _set_days(conn, first_day, until=until)
        await conn.execute(
            """INSERT INTO counted (name, at) VALUES ('stats_days', %s)
               ON CONFLICT (name) DO UPDATE SET at = excluded.at""",
            (until,),
        )
        await conn.execute(
            """DELETE FROM stats
               WHERE grain = 'minute' AND at < date_trunc('day', least(%s, now() - %s::interval), 'UTC')""",
            (until, _MINUTES_KEPT),
        )


async def _set_days(conn: Conn, first_day: datetime, *, until: datetime) -> None:
    await conn.execute(
        """WITH m AS MATERIALIZED (
               SELECT date_trunc('day', at, 'UTC') AS day, tenant_id, endpoint_id, created, delivered, dead, cancelled,
                      attempts, ok, answered, latency_ms, latency
               FROM stats WHERE grain = 'minute' AND at >= %s AND at < %s),
           b AS (
               SELECT day, tenant_id, endpoint_id, latency[i][1] AS bucket, sum(latency[i][2])::int8 AS n
               FROM m, generate_subscripts(latency, 1) AS i GROUP BY 1, 2, 3, 4),
           h AS (
               SELECT day, tenant_id, endpoint_id, array_agg(ARRAY[bucket, n] ORDER BY bucket) AS latency
               FROM b GROUP BY 1, 2, 3),
           d AS (
               SELECT day, tenant_id, endpoint_id, sum(created) AS created, sum(delivered) AS delivered,
                      sum(dead) AS dead, sum(cancelled) AS cancelled, sum(attempts) AS attempts, sum(ok) AS ok,
                      sum(answered) AS answered, sum(latency_ms) AS latency_ms
               FROM m GROUP BY 1, 2, 3)
           INSERT INTO stats (grain, at, tenant_id, endpoint_id, created, delivered, dead, cancelled, attempts, ok,
                              answered, latency_ms, latency)
           SELECT 'day', day, tenant_id, endpoint_id, created, delivered, dead, cancelled, attempts, ok, answered,
                  latency_ms, coalesce(h.latency, '{}')
           FROM d LEFT JOIN h USING (day, tenant_id, endpoint_id)
           ON CONFLICT (grain, tenant_id, endpoint_id, at) DO UPDATE
               SET created = excluded.created, delivered = excluded.delivered, dead = excluded.dead,
                   cancelled = excluded.cancelled, attempts = excluded.attempts, ok = excluded.ok,
                   answered = excluded.answered, latency_ms = excluded.latency_ms, latency = excluded.latency""",
        (first_day, until),
    )


async def forget_days(conn: Conn, *, keep_days: int) -> None:
    """Delete the sums of days older than this: totals are of what is stored."""
    await conn.execute(
        "DELETE FROM stats WHERE grain = 'day' AND at < date_trunc('day', now() - make_interval(days => %s), 'UTC')",
        (keep_days,),
    )


# Up to two days come from minutes, exactly; more from whole closed days, and the minutes since.
_IN_WINDOW = sql.SQL(
    """FROM endpoints e JOIN stats s ON s.tenant_id = e.tenant_id AND s.endpoint_id = e.id
       CROSS JOIN (SELECT coalesce((SELECT date_trunc('day', at, 'UTC') FROM counted WHERE name = 'stats_days'),
                                   '-infinity') AS at) AS today
       WHERE e.id = ANY(%(ids)s::uuid[]) AND (
           (s.grain = 'minute' AND s.at >= date_trunc('minute', now() - %(window)s)
            AND (%(window)s <= %(kept)s OR s.at >= today.at))
           OR (s.grain = 'day' AND %(window)s > %(kept)s AND s.at < today.at
               AND s.at >= date_trunc('day', now() - %(window)s, 'UTC'))) """
)


async def of_endpoints(conn: Conn, endpoint_ids: Iterable[UUID], hours: int) -> dict[UUID, EndpointStats]:
    """Return what happened at each endpoint in the last `hours` (1..8 784). Ids: those the caller may see."""
    ids = list(endpoint_ids)
    window = _window(ids, hours)
    sums = await conn.execute(
        sql.SQL(
            """SELECT e.id, sum(s.created)::int8, sum(s.delivered)::int8, sum(s.dead)::int8, sum(s.attempts)::int8,
                      sum(s.ok)::int8, sum(s.answered)::int8, sum(s.latency_ms) """
        )
        + _IN_WINDOW
        + sql.SQL("GROUP BY e.id"),
        window,
    )
    happened = {row[0]: row[1:] for row in await sums.fetchall()}
    waiting = await _waiting(conn, ids)
    nothing = (0, 0, 0, 0, 0, 0, 0.0)
    return {id: _stats(happened.get(id, nothing), waiting.get(id, (0, 0))) for id in ids}


def _window(ids: list[UUID], hours: int) -> Mapping[str, object]:
    if not 1 <= hours <= _MAX_HOURS:
        raise Invalid(f"lastHours must be between 1 and {_MAX_HOURS}.", field="lastHours")
    return {"ids": ids, "window": timedelta(hours=hours), "kept": _MINUTES_KEPT}


async def percentiles_of_endpoints(conn: Conn, endpoint_ids: Iterable[UUID], hours: int) -> dict[UUID, Percentiles]:
    """Return the latencies of each endpoint in the last `hours`, if it had any: apart, for they cost ten times the sums."""
    rows = await conn.execute(
        sql.SQL("SELECT id, bucket, sum(n)::int8 FROM (SELECT e.id, s.latency ")
        + _IN_WINDOW
        + sql.SQL(
            """) x CROSS JOIN LATERAL (
                   SELECT latency[i][1] AS bucket, latency[i][2] AS n FROM generate_subscripts(latency, 1) AS i) b
               GROUP BY id, bucket ORDER BY id, bucket"""
        ),
        _window(list(endpoint_ids), hours),
    )
    found: dict[UUID, list[tuple[int, int]]] = {}
    async for id, bucket, n in rows:
        found.setdefault(id, []).append((bucket, n))
    return {id: percentiles(latencies) for id, latencies in found.items()}


async def _waiting(conn: Conn, ids: list[UUID]) -> dict[UUID, tuple[int, int]]:
    rows = await conn.execute(
        """SELECT e.id, sum(q.retrying)::int8, sum(q.waiting + q.delayed + q.held + q.in_flight)::int8
           FROM endpoints e JOIN queue_counts q ON q.tenant_id = e.tenant_id AND q.endpoint_id = e.id
           WHERE e.id = ANY(%s::uuid[]) GROUP BY e.id""",
        (ids,),
    )
    return {row[0]: (row[1], row[2]) async for row in rows}


def _stats(sums: tuple[int, int, int, int, int, int, float], waiting: tuple[int, int]) -> EndpointStats:
    created, delivered, dead, attempts, ok, answered, latency_ms = sums
    return EndpointStats(
        created=created,
        delivered=delivered,
        dead=dead,
        attempts=attempts,
        success_rate=ok / attempts if attempts else 1.0,
        avg_latency_ms=latency_ms / answered if answered else 0.0,
        failed=waiting[0],
        pending=waiting[1],
    )
