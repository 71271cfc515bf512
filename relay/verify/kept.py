"""Since when everything is in place: a day that was archived or retired leaves a gap, before which nothing is compared."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta

from relay.db import Conn
from relay.partitions import TABLES, Partition


async def whole_since(conn: Conn, *, now: datetime) -> datetime:
    """Return when the first of the days began that all lie in the tables, up to today, one after the other."""
    rows = await conn.execute(
        """SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           WHERE i.inhparent = ANY(%s::text[]::regclass[]) AND NOT i.inhdetachpending""",
        (list(TABLES),),
        prepare=False,
    )
    return first_of_run({row[0] for row in await rows.fetchall()}, now.astimezone(UTC).date())


def first_of_run(names: Collection[str], today: date) -> datetime:
    """Return the beginning of the first day that is whole, with all that follow; of today, if yesterday is not."""
    day = today
    while all(Partition(table, day - timedelta(days=1)).name in names for table in TABLES):
        day -= timedelta(days=1)
    return datetime.combine(day, time(), UTC)
