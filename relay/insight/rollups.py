"""Rollups: what was tried and what ended, by minute, hour and day. They are set from what is stored, never added to.

A minute is recomputed while anything in it may still commit; an hour is made of its minutes, and a day of its hours, when
nothing can change them any more. So two clocks, or one that is killed anywhere, count nothing twice and forget nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta

from psycopg import sql

from relay.db import Conn, Database
from relay.insight.buckets import DAYS_KEPT, HOURS_KEPT, MINUTES_KEPT, Grain
from relay.insight.latencies import STEPS
from relay.insight.stats import SETTLES

_LOCK = 7012
_LOOKS_BACK = timedelta(minutes=3)
_CAUGHT_UP_AT_ONCE = timedelta(minutes=10)
_KEPT = {Grain.MINUTE: MINUTES_KEPT, Grain.HOUR: HOURS_KEPT, Grain.DAY: DAYS_KEPT}
#: Names in `counted`: up to when minutes are set, and hours and days are closed.
MINUTES_SET, HOURS_CLOSED, DAYS_CLOSED = "rollups", "rollup_hours", "rollup_days"
_REBUILT, _REBUILT_LATELY = "rollup_rebuild", timedelta(minutes=15)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


async def refresh(conn: Conn) -> None:
    """Recompute the last minutes, or the next ten of what was missed; do nothing while another process does it."""
    async with conn.transaction():
        if not await _try_lock(conn):
            return
        rows = await conn.execute(
            "SELECT date_trunc('minute', least(now(), (SELECT at FROM counted WHERE name = %s)) - %s, 'UTC')",
            (MINUTES_SET, _LOOKS_BACK),
        )
        since: datetime = (await rows.fetchall())[0][0]
        until = since + _LOOKS_BACK + _CAUGHT_UP_AT_ONCE
        await _set_minutes(conn, since, until)
        await _say(conn, MINUTES_SET, at_most=until)


async def close(conn: Conn) -> None:
    """Set the hours and days that are over, and forget what is kept in a coarser grain; nothing while another does."""
    async with conn.transaction():
        if not await _try_lock(conn):
            return
        if (until := await _settled(conn)) is None:
            return
        keeps = await _is_rebuilt(conn)  # what was made anew is needed until its day is made of it
        for finer, coarser, name in (
            (Grain.MINUTE, Grain.HOUR, HOURS_CLOSED),
            (Grain.HOUR, Grain.DAY, DAYS_CLOSED),
        ):
            until = await _close(conn, finer, coarser, name=name, until=until)
            if not keeps:
                await _forget(conn, finer, before=until)
        await _forget(conn, Grain.DAY, before=until)


async def _is_rebuilt(conn: Conn) -> bool:
    rows = await conn.execute("SELECT FROM counted WHERE name = %s AND at > now() - %s", (_REBUILT, _REBUILT_LATELY))
    return await rows.fetchone() is not None


async def _settled(conn: Conn) -> datetime | None:
    rows = await conn.execute("SELECT at - %s FROM counted WHERE name = %s", (SETTLES, MINUTES_SET))
    found = await rows.fetchone()
    return found[0] if found else None


async def _close(conn: Conn, finer: Grain, coarser: Grain, *, name: str, until: datetime) -> datetime:
    """Merge what is over by `until`; return up to when all is merged now."""
    rows = await conn.execute(
        """SELECT coalesce((SELECT at FROM counted WHERE name = %s), '1970-01-01+00'),
                  date_trunc(%s, %s::timestamptz, 'UTC')""",
        (name, coarser.value, until),
    )
    since, over = (await rows.fetchall())[0]
    if since >= over:
        return since
    await _merge(conn, finer, coarser, since=since, until=over)
    await _say(conn, name, at_most=over)
    return over


async def _forget(conn: Conn, grain: Grain, *, before: datetime) -> None:
    await conn.execute(
        """DELETE FROM rollups
           WHERE grain = %s AND at < date_trunc('day', least(%s::timestamptz, now() - %s::interval), 'UTC')""",
        (grain.value, before, _KEPT[grain]),
    )


async def rebuild(db: Database, *, since: datetime | None = None) -> AsyncIterator[tuple[date, int]]:
    """Make the rollups of whole days anew from attempts and history, the oldest first; yield each day and its attempts.

    Days without a partition of attempts (retired, archived) stay as they are. Each hour is one transaction, so one that is
    killed leaves every hour either as it was or made anew. Safe while Relay runs, and to repeat.
    """
    async with db.connection() as conn:
        await refresh(conn)
        await close(conn)
        days = await _days_stored(conn)
    for day in days:
        begins = datetime.combine(day, time(), UTC)
        if since is not None and begins + _DAY <= since:
            continue
        for hour in range(24):
            async with db.connection() as conn:
                await _rebuild_hour(conn, begins + hour * _HOUR)
        async with db.connection() as conn:
            yield day, await _rebuild_day(conn, begins)


async def _days_stored(conn: Conn) -> list[date]:
    rows = await conn.execute(
        """SELECT to_date(right(c.relname, 8), 'YYYYMMDD') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           WHERE i.inhparent = 'attempts'::regclass ORDER BY 1"""
    )
    return [row[0] async for row in rows if row[0] <= datetime.now(UTC).date()]


async def _rebuild_hour(conn: Conn, begins: datetime) -> None:
    async with conn.transaction():
        await _wait_for_lock(conn)
        ends = begins + _HOUR
        reached = await _reached(conn, MINUTES_SET)
        if begins >= reached:
            return
        await _say(conn, _REBUILT)
        await _delete(conn, Grain.MINUTE, since=begins, until=ends)
        await _set_minutes(conn, begins, ends)
        if ends <= await _reached(conn, HOURS_CLOSED):
            await _delete(conn, Grain.HOUR, since=begins, until=ends)
            await _merge(conn, Grain.MINUTE, Grain.HOUR, since=begins, until=ends)
            await _forget(conn, Grain.MINUTE, before=ends)


async def _rebuild_day(conn: Conn, begins: datetime) -> int:
    async with conn.transaction():
        await _wait_for_lock(conn)
        ends = begins + _DAY
        if ends <= await _reached(conn, DAYS_CLOSED):
            await _delete(conn, Grain.DAY, since=begins, until=ends)
            await _merge(conn, Grain.HOUR, Grain.DAY, since=begins, until=ends)
            await _forget(conn, Grain.HOUR, before=ends)
        rows = await conn.execute("SELECT count(*) FROM attempts WHERE at >= %s AND at < %s", (begins, ends))
        return (await rows.fetchall())[0][0]


async def _say(conn: Conn, name: str, *, at_most: datetime | None = None) -> None:
    await conn.execute(
        """INSERT INTO counted (name, at) VALUES (%s, least(now(), %s))
           ON CONFLICT (name) DO UPDATE SET at = excluded.at""",
        (name, at_most),
    )


async def _reached(conn: Conn, name: str) -> datetime:
    rows = await conn.execute("SELECT at FROM counted WHERE name = %s", (name,))
    found = await rows.fetchone()
    return found[0] if found else datetime.fromtimestamp(0, UTC)


async def _try_lock(conn: Conn) -> bool:
    rows = await conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
    return (await rows.fetchall())[0][0]


async def _wait_for_lock(conn: Conn) -> None:
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


async def _delete(conn: Conn, grain: Grain, *, since: datetime, until: datetime) -> None:
    await conn.execute("DELETE FROM rollups WHERE grain = %s AND at >= %s AND at < %s", (grain.value, since, until))


_SET = sql.SQL(
    """ ON CONFLICT (grain, tenant_id, endpoint_id, at, event_type, reason, status) DO UPDATE
           SET attempts = excluded.attempts, latency_us = excluded.latency_us, latency = excluded.latency,
               delivered = excluded.delivered, dead = excluded.dead, cancelled = excluded.cancelled
       WHERE (r.attempts, r.latency_us, r.delivered, r.dead, r.cancelled) <> (
           excluded.attempts, excluded.latency_us, excluded.delivered, excluded.dead, excluded.cancelled)"""
)
_INTO = sql.SQL(
    """INSERT INTO rollups AS r (grain, at, tenant_id, endpoint_id, event_type, reason, status, attempts, latency_us,
           latency, delivered, dead, cancelled) """
)


async def _set_minutes(conn: Conn, since: datetime, until: datetime) -> None:
    """Set minutes from attempts and history. What notes no type takes it from its event."""
    await conn.execute(
        _INTO
        + sql.SQL(
            """SELECT 'minute', minute, tenant_id, endpoint_id, type, reason, status, sum(n), sum(us),
                      coalesce(array_agg(ARRAY[bucket, n] ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}'),
                      sum(delivered), sum(dead), sum(cancelled)
               FROM (
                   SELECT date_trunc('minute', at) AS minute, tenant_id, endpoint_id, reason,
                          coalesce(status, 0) AS status,
                          coalesce(event_type, (SELECT e.type FROM events e WHERE e.id = coalesce(
                              (SELECT event_id FROM live WHERE id = delivery_id),
                              (SELECT event_id FROM history WHERE id = delivery_id))), '') AS type,
                          CASE WHEN status > 0
                               THEN ceil(ln(greatest(total_ms::float8, 1)) / ln(2::float8) * %(steps)s)::int8 END AS bucket,
                          count(*) AS n,
                          coalesce(sum((total_ms::float8 * 1000)::int8) FILTER (WHERE status > 0), 0) AS us,
                          0 AS delivered, 0 AS dead, 0 AS cancelled
                   FROM attempts WHERE at >= %(since)s AND at < %(until)s GROUP BY 1, 2, 3, 4, 5, 6, 7
                   UNION ALL
                   SELECT date_trunc('minute', finished_at), tenant_id, endpoint_id, reason, 0,
                          coalesce(event_type, (SELECT e.type FROM events e WHERE e.id = event_id), '') AS type,
                          NULL, 0, 0, count(*) FILTER (WHERE state = 'delivered'),
                          count(*) FILTER (WHERE state = 'dead'), count(*) FILTER (WHERE state = 'cancelled')
                   FROM history WHERE finished_at >= %(since)s AND finished_at < %(until)s GROUP BY 1, 2, 3, 4, 6) x
               GROUP BY 2, 3, 4, 5, 6, 7"""
        )
        + _SET,
        {"since": since, "until": until, "steps": STEPS},
    )


async def _merge(conn: Conn, finer: Grain, coarser: Grain, *, since: datetime, until: datetime) -> None:
    await conn.execute(
        sql.SQL(
            """WITH f AS MATERIALIZED (
                   SELECT date_trunc(%(coarser)s, at, 'UTC') AS begins, tenant_id, endpoint_id, event_type, reason, status,
                          attempts, latency_us, latency, delivered, dead, cancelled
                   FROM rollups WHERE grain = %(finer)s AND at >= %(since)s AND at < %(until)s),
               b AS (
                   SELECT begins, tenant_id, endpoint_id, event_type, reason, status, latency[i][1] AS bucket,
                          sum(latency[i][2])::int8 AS n
                   FROM f, generate_subscripts(latency, 1) AS i GROUP BY 1, 2, 3, 4, 5, 6, 7),
               h AS (
                   SELECT begins, tenant_id, endpoint_id, event_type, reason, status,
                          array_agg(ARRAY[bucket, n] ORDER BY bucket) AS latency
                   FROM b GROUP BY 1, 2, 3, 4, 5, 6),
               s AS (
                   SELECT begins, tenant_id, endpoint_id, event_type, reason, status, sum(attempts) AS attempts,
                          sum(latency_us) AS latency_us, sum(delivered) AS delivered, sum(dead) AS dead,
                          sum(cancelled) AS cancelled
                   FROM f GROUP BY 1, 2, 3, 4, 5, 6) """
        )
        + _INTO
        + sql.SQL(
            """SELECT %(coarser)s, begins, tenant_id, endpoint_id, event_type, reason, status, attempts, latency_us,
                      coalesce(h.latency, '{}'), delivered, dead, cancelled
               FROM s LEFT JOIN h USING (begins, tenant_id, endpoint_id, event_type, reason, status)"""
        )
        + _SET,
        {"finer": finer.value, "coarser": coarser.value, "since": since, "until": until},
    )
