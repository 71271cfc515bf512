"""The daily partitions: made for the days to come, and gone after RETENTION_DAYS unless something waits in them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from relay.db import Conn
from relay.delivery.retention import GRACE_DAYS
from relay.doctor.postgres import Server
from relay.doctor.verdict import Check, Scope, Verdict, bad, doubtful, good
from relay.ids import floor_at
from relay.partitions import DEAD_DAYS, STAYS

_AHEAD = 3
#: The clock looks every ten minutes, and the day begins at midnight in UTC.
_LATE_DAYS = 1


async def ahead(server: Server) -> Verdict:
    """Whether every table has partitions for today and the next three days."""
    today, days = await _days(server.conn)
    ahead_of = {table: _days_in_a_row(there, today) for table, there in days.items()}
    if not ahead_of:
        return bad("There are no partitioned tables.", "Run `relay migrate`.")
    least = min(ahead_of.values())
    behind = ", ".join(sorted(table for table, count in ahead_of.items() if count == least))
    if least < _AHEAD:
        until = "not even today" if least < 0 else f"{least} days ahead"
        return bad(
            f"Partitions of {behind} are there {until}, and {_AHEAD} days are needed: without them no event is stored.",
            "Start a worker, whose clock makes them, or run `relay migrate`.",
        )
    return good(f"Partitions of all {len(ahead_of)} tables are there for {least} days ahead.")


async def pinned(server: Server) -> Verdict:
    """Whether partitions that are too old are still there, and what holds them."""
    keep = server.given.settings.retention_days
    today, days = await _days(server.conn)
    horizon = today - timedelta(days=keep + _LATE_DAYS)
    old = sorted(day for there in days.values() for day in there if day < horizon)
    if not old:
        return good(f"No partition is older than RETENTION_DAYS ({keep}).")
    what = await _what_waits(server.conn, horizon)
    reason = f"{len(old)} partitions are older than RETENTION_DAYS ({keep}), the oldest of {old[0]}"
    if what is None:
        return bad(
            f"{reason}, and nothing waits in them.",
            "Start a worker, whose clock retires them, and see who holds a transaction open.",
        )
    if old[0] < horizon - timedelta(days=GRACE_DAYS):
        return bad(
            f"{reason}: {what}, for longer than {GRACE_DAYS} days beyond it.",
            "Start a worker, whose clock ends what has waited for too long.",
        )
    return doubtful(f"{reason}: {what}.", "See with `relay why` what it waits for; resume, repair or cancel it.")


def _days_in_a_row(there: set[date], today: date) -> int:
    """How many days after today have one, without a gap; -1: not even today."""
    count = -1
    while today + timedelta(days=count + 1) in there:
        count += 1
    return count


async def _days(conn: Conn) -> tuple[date, dict[str, set[date]]]:
    """Today in Postgres's time, and by table the days of its partitions; those back from the archive are left out."""
    rows = await conn.execute(
        """SELECT (now() AT TIME ZONE 'UTC')::date, p.relname::text, right(c.relname::text, 8)
           FROM pg_partitioned_table t JOIN pg_class p ON p.oid = t.partrelid
           LEFT JOIN pg_inherits i ON i.inhparent = p.oid
           LEFT JOIN pg_class c ON c.oid = i.inhrelid AND c.relname ~ '_[0-9]{8}$'
               AND NOT starts_with(coalesce(obj_description(c.oid, 'pg_class'), ''), %s)
           WHERE t.partstrat = 'r'
             AND p.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('events'))""",
        (STAYS,),
    )
    days: dict[str, set[date]] = {}
    today = datetime.now(UTC).date()
    async for now, table, stamp in rows:
        today = now
        days.setdefault(table, set())
        if stamp:
            days[table].add(datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC).date())
    return today, days


async def _what_waits(conn: Conn, horizon: date) -> str | None:
    """The oldest thing from before the horizon that keeps its partition, in words."""
    rows = await conn.execute(
        """SELECT format(what, id) FROM (
               SELECT 'a delivery of event %%s waits', (SELECT event_id FROM live ORDER BY event_id LIMIT 1)
               UNION ALL SELECT 'delivery %%s waits', (SELECT id FROM live ORDER BY id LIMIT 1)
               UNION ALL SELECT 'event %%s is scheduled', (SELECT event_id FROM scheduled ORDER BY event_id LIMIT 1)
               UNION ALL SELECT 'event %%s is not fanned out', (SELECT event_id FROM outbox ORDER BY event_id LIMIT 1)
               UNION ALL SELECT 'event %%s died in the last week and may be repeated', (
                   SELECT event_id FROM dead_letters WHERE died_at > now() - make_interval(days => %s)
                   ORDER BY event_id LIMIT 1)
           ) AS w (what, id) WHERE id < %s ORDER BY id LIMIT 1""",
        (DEAD_DAYS, _floor(horizon)),
    )
    row = await rows.fetchone()
    return row[0] if row else None


def _floor(day: date) -> UUID:
    return floor_at(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


CHECKS = (
    Check("partitions-ahead", ahead, Scope.EVERYWHERE),
    Check("partitions-pinned", pinned, Scope.EVERYWHERE),
)
