"""The daily partitions of the append-only tables: made ahead, retired when nothing that waits can need them.

Made as plain tables and attached, retired by DETACH CONCURRENTLY and DROP, and given up after 2 s: neither waits long
behind a reader, nor does intake behind it. There is no DEFAULT partition, which would forbid both.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, Connection, sql
from psycopg.rows import TupleRow

from relay.ids import floor_at

_DAYS_BEHIND = 2
_DAYS_AHEAD = 7
#: What died is kept at least so long, however old it is, for somebody to see and repeat it.
DEAD_DAYS = 7
_BY_ID = ("events", "history", "fanouts")
_BY_TIME = ("attempts",)
_NAMES = f"^({'|'.join(_BY_ID + _BY_TIME)})_[0-9]{{8}}$"
_EXISTING = """SELECT c.relname::text, i.inhdetachpending FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
               WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND c.relname ~ %s"""
_PATIENCE_S = 2.0
#: How to take a partition away: attached, or pending because an earlier try was given up (FINALIZE needs no second wait).
_DETACH = {False: sql.SQL("CONCURRENTLY"), True: sql.SQL("FINALIZE")}
_LOCK = 7002
_LOG = logging.getLogger(__name__)


def ensure(conn: Connection[TupleRow], *, now: datetime | None = None) -> list[str]:
    """Make the partitions of two days back to seven ahead that are missing; return their names. Needs autocommit."""
    today = (now or datetime.now(UTC)).date()
    existing = _existing(conn)
    made: list[str] = []
    for offset in range(-_DAYS_BEHIND, _DAYS_AHEAD + 1):
        day = today + timedelta(days=offset)
        for table in _BY_ID + _BY_TIME:
            name = _name(table, day)
            if name not in existing and _make(conn, table, day):
                made.append(name)
    return made


def retire(conn: Connection[TupleRow], *, keep_days: int, now: datetime | None = None) -> list[str]:
    """Drop partitions wholly older than `keep_days` and than anything that waits; return their names. Needs autocommit.

    Those that a delivery needs which died in the last 7 days, and was settled by nobody, stay too.
    A table whose oldest partition somebody reads keeps its others until the next time, too.
    """
    horizon = (now or datetime.now(UTC)).date() - timedelta(days=keep_days)
    oldest = _oldest_needed(conn, horizon)
    limit = min(horizon, oldest) if oldest else horizon
    dropped: list[str] = []
    in_use: set[str] = set()
    for name, pending in sorted(_existing(conn).items()):
        table, _, stamp = name.rpartition("_")
        day = _day(stamp)
        if day >= limit or table in in_use:
            continue
        if _drop(conn, table, name, pending=pending):
            dropped.append(name)
        else:
            in_use.add(table)
    return dropped


async def horizon(conn: AsyncConnection[TupleRow], *, keep_days: int) -> tuple[int, int]:
    """Return for how many days from today on every partition is there, and how many are older than `keep_days`."""
    rows = await conn.execute(_EXISTING, (_NAMES,))
    days: dict[str, set[date]] = {table: set() for table in _BY_ID + _BY_TIME}
    async for name, pending in rows:
        table, _, stamp = name.rpartition("_")
        if pending is not None:
            days[table].add(_day(stamp))
    today = datetime.now(UTC).date()
    ahead = 0
    while all(today + timedelta(days=ahead) in made for made in days.values()):
        ahead += 1
    pinned = sum(day < today - timedelta(days=keep_days) for made in days.values() for day in made)
    return ahead - 1, pinned


def _oldest_needed(conn: Connection[TupleRow], horizon: date) -> date | None:
    row = conn.execute(
        """SELECT least((SELECT event_id FROM live ORDER BY event_id LIMIT 1), (SELECT id FROM live ORDER BY id LIMIT 1),
                        (SELECT event_id FROM scheduled ORDER BY event_id LIMIT 1),
                        (SELECT event_id FROM outbox ORDER BY event_id LIMIT 1),
                        (SELECT event_id FROM dead_letters WHERE id < %s AND died_at > now() - make_interval(days => %s)
                         ORDER BY event_id LIMIT 1))""",
        (_floor(horizon), DEAD_DAYS),
    ).fetchone()
    if row is None or row[0] is None:
        return None
    return datetime.fromtimestamp((row[0].int >> 80) / 1000, UTC).date()


def _existing(conn: Connection[TupleRow]) -> dict[str, bool | None]:
    """Partitions by name: attached (False), half detached (True), or detached and left over (None)."""
    rows = conn.execute(_EXISTING, (_NAMES,))
    return {row[0]: row[1] for row in rows}


def _name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


def _day(stamp: str) -> date:
    return datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC).date()


def _bounds(table: str, day: date) -> tuple[str, str]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = start + timedelta(days=1)
    if table in _BY_TIME:
        return start.isoformat(), end.isoformat()
    return str(_floor(start)), str(_floor(end))


def _floor(day: date) -> UUID:
    """The smallest id of a day."""
    return floor_at(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _make(conn: Connection[TupleRow], table: str, day: date) -> bool:
    child, parent = sql.Identifier(_name(table, day)), sql.Identifier(table)
    low, high = (sql.Literal(bound) for bound in _bounds(table, day))
    try:
        with conn.transaction():
            conn.execute("SELECT set_config('lock_timeout', '2s', true), pg_advisory_xact_lock(%s)", (_LOCK,))
            if conn.execute("SELECT to_regclass(%s)", (_name(table, day),)).fetchone() != (None,):
                return False
            conn.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(child, parent))
            conn.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    parent, child, low, high
                )
            )
    except psycopg.errors.LockNotAvailable as cause:
        _LOG.info("partition %s not made now: %s", _name(table, day), cause)
        return False
    return True


def _drop(conn: Connection[TupleRow], table: str, name: str, *, pending: bool | None) -> bool:
    child, parent = sql.Identifier(name), sql.Identifier(table)
    try:
        with _at_most(conn, _PATIENCE_S):
            if pending is not None:
                conn.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(parent, child, _DETACH[pending]))
            conn.execute(sql.SQL("DROP TABLE {}").format(child))
    except psycopg.errors.QueryCanceled:
        _LOG.info("partition %s not dropped now: somebody reads it", name)
        return False
    return True


@contextmanager
def _at_most(conn: Connection[TupleRow], seconds: float) -> Iterator[None]:
    """Cancel what runs on the connection after that time. DETACH CONCURRENTLY takes no `lock_timeout` of a transaction."""
    timer = threading.Timer(seconds, conn.cancel)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
