"""The daily partitions of the append-only tables: made ahead, retired when nothing that waits can need them.

Made as plain tables and attached, retired by DETACH CONCURRENTLY and then dropped or put elsewhere, and given up after
2 s: neither waits long behind a reader, nor does intake behind it. There is no DEFAULT partition, which would forbid both.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, Connection, sql
from psycopg.rows import TupleRow

from relay.ids import floor_at

#: Days of which partitions are made anew where they are missing: what is younger is never taken away.
DAYS_BEHIND = 2
_DAYS_AHEAD = 7
#: What died is kept at least so long, however old it is, for somebody to see and repeat it.
DEAD_DAYS = 7
_BY_ID = ("events", "history", "fanouts")
_BY_TIME = ("attempts",)
TABLES = _BY_ID + _BY_TIME
_EXISTING = """SELECT c.relname::text, i.inhdetachpending, obj_description(c.oid, 'pg_class')
               FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
               WHERE c.relkind = 'r' AND c.relname ~ %s
                 AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('events'))
               ORDER BY 1"""
_NAMES = f"^({'|'.join(TABLES)})_[0-9]{{8}}$"
_PATIENCE_S = 2.0
#: How to take a partition away: attached, or pending because an earlier try was given up (FINALIZE needs no second wait).
_DETACH = {False: sql.SQL("CONCURRENTLY"), True: sql.SQL("FINALIZE")}
_LOCK = 7002
#: Somebody reads it, or somebody else takes it away at the same moment.
_NOT_NOW = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.UndefinedTable,
)
#: The comment on a partition that was brought back from the archive, with the end of its stay behind it.
STAYS = "relay: brought back from the archive, stays until "
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Partition:
    """A day of a table. `pending`: attached (False), half detached (True), or detached and left over (None).

    `stays_until` is set for one that was brought back from the archive.
    """

    table: str
    day: date
    pending: bool | None = False
    stays_until: datetime | None = None

    @property
    def name(self) -> str:
        """The name of the partition's own table."""
        return f"{self.table}_{self.day:%Y%m%d}"


PutAway: TypeAlias = Callable[[Connection[TupleRow], Partition], None]


def ensure(conn: Connection[TupleRow], *, now: datetime | None = None) -> list[str]:
    """Make the partitions of two days back to seven ahead that are missing; return their names. Needs autocommit."""
    today = (now or datetime.now(UTC)).date()
    names = {partition.name for partition in existing(conn)}
    made: list[str] = []
    for offset in range(-DAYS_BEHIND, _DAYS_AHEAD + 1):
        for table in TABLES:
            partition = Partition(table, today + timedelta(days=offset))
            if partition.name not in names and _make(conn, partition):
                made.append(partition.name)
    return made


def drop(conn: Connection[TupleRow], partition: Partition) -> None:
    """Drop a partition that was detached."""
    conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition.name)))


def retire(
    conn: Connection[TupleRow], *, keep_days: int, now: datetime | None = None, put_away: PutAway = drop
) -> list[str]:
    """Put away partitions wholly older than `keep_days` and than anything that waits; return their names. Needs autocommit.

    Those that a delivery needs which died in the last 7 days, and was settled by nobody, stay too, as do those that were
    brought back from the archive. A table whose oldest partition somebody reads keeps its others until the next time.
    """
    horizon = (now or datetime.now(UTC)).date() - timedelta(days=keep_days)
    oldest = oldest_needed(conn, horizon)
    limit = min(horizon, oldest) if oldest else horizon
    old = [one for one in existing(conn) if one.day < limit and one.stays_until is None]
    return [one.name for one in take_away(conn, old, put_away=put_away)]


def take_away(conn: Connection[TupleRow], partitions: Iterable[Partition], *, put_away: PutAway) -> list[Partition]:
    """Detach these partitions and put each away, in a transaction of its own; return those that were. Needs autocommit."""
    gone: list[Partition] = []
    in_use: set[str] = set()
    for partition in partitions:
        if partition.table in in_use:
            continue
        try:
            _detach(conn, partition)
            with conn.transaction():
                patiently(conn)
                put_away(conn, partition)
            gone.append(partition)
        except _NOT_NOW as cause:
            in_use.add(partition.table)
            _LOG.info("partition %s is not taken away now, somebody reads it: %s", partition.name, cause)
    return gone


async def horizon(conn: AsyncConnection[TupleRow], *, keep_days: int) -> tuple[int, int]:
    """Return for how many days from today on every partition is there, and how many are older than `keep_days`.

    Those that were brought back from the archive are not counted.
    """
    rows = await conn.execute(_EXISTING, (_NAMES,))
    found = [Partition(*parsed(row[0]), row[1], _end_of_stay(row[2])) async for row in rows]
    attached = [one for one in found if one.pending is not None and one.stays_until is None]
    today = datetime.now(UTC).date()
    there = {(one.table, one.day) for one in attached}
    ahead = 0
    while all((table, today + timedelta(days=ahead)) in there for table in TABLES):
        ahead += 1
    return ahead - 1, sum(one.day < today - timedelta(days=keep_days) for one in attached)


def oldest_needed(conn: Connection[TupleRow], horizon: date) -> date | None:
    """The day of the oldest event that something needs which waits, or died lately and before the horizon."""
    row = conn.execute(
        """SELECT least((SELECT event_id FROM live ORDER BY event_id LIMIT 1), (SELECT id FROM live ORDER BY id LIMIT 1),
                        (SELECT event_id FROM scheduled ORDER BY event_id LIMIT 1),
                        (SELECT event_id FROM outbox ORDER BY event_id LIMIT 1),
                        (SELECT event_id FROM dead_letters WHERE id < %s AND died_at > now() - make_interval(days => %s)
                         ORDER BY event_id LIMIT 1))""",
        (floor_of(horizon), DEAD_DAYS),
    ).fetchone()
    if row is None or row[0] is None:
        return None
    return datetime.fromtimestamp((row[0].int >> 80) / 1000, UTC).date()


def existing(conn: Connection[TupleRow]) -> list[Partition]:
    """The partitions that there are, by name, those that were detached and left over too."""
    rows = conn.execute(_EXISTING, (_NAMES,))
    return [Partition(*parsed(name), pending, _end_of_stay(comment)) for name, pending, comment in rows]


def parsed(name: str) -> tuple[str, date]:
    """Table and day from a partition's name."""
    table, _, stamp = name.rpartition("_")
    return table, datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC).date()


def stay(conn: Connection[TupleRow], partition: Partition, *, until: datetime) -> None:
    """Keep a partition from being retired until then."""
    conn.execute(
        sql.SQL("COMMENT ON TABLE {} IS {}").format(
            sql.Identifier(partition.name), sql.Literal(f"{STAYS}{until.isoformat(timespec='seconds')}")
        )
    )


def _end_of_stay(comment: str | None) -> datetime | None:
    found = re.fullmatch(re.escape(STAYS) + r"(\S+)", comment or "")
    return datetime.fromisoformat(found[1]) if found else None


def floor_of(day: date) -> UUID:
    """The smallest id of a day."""
    return floor_at(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def patiently(conn: Connection[TupleRow]) -> None:
    """Have the open transaction alone at the partitions, and wait for no lock longer than 2 s."""
    conn.execute("SELECT set_config('lock_timeout', '2s', true), pg_advisory_xact_lock(%s)", (_LOCK,))


def attach(conn: Connection[TupleRow], partition: Partition) -> None:
    """Make a table of the partition's name its partition."""
    low, high = (sql.Literal(bound) for bound in _bounds(partition))
    conn.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier(partition.table), sql.Identifier(partition.name), low, high
        )
    )


def _bounds(partition: Partition) -> tuple[str, str]:
    day, next_day = partition.day, partition.day + timedelta(days=1)
    if partition.table in _BY_TIME:
        return f"{day}T00:00:00+00:00", f"{next_day}T00:00:00+00:00"
    return str(floor_of(day)), str(floor_of(next_day))


def home(conn: Connection[TupleRow]) -> str:
    """Return the schema that Relay's tables are in, which need not be the one that comes first in the search path."""
    rows = conn.execute(
        """SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.oid = 'events'::regclass"""
    )
    return rows.fetchall()[0][0]


def _make(conn: Connection[TupleRow], partition: Partition) -> bool:
    child, parent = sql.Identifier(home(conn), partition.name), sql.Identifier(partition.table)
    try:
        with conn.transaction():
            patiently(conn)
            if conn.execute("SELECT to_regclass(%s)", (partition.name,)).fetchone() != (None,):
                return False
            conn.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(child, parent))
            attach(conn, partition)
    except psycopg.errors.LockNotAvailable as cause:
        _LOG.info("partition %s not made now: %s", partition.name, cause)
        return False
    return True


def _detach(conn: Connection[TupleRow], partition: Partition) -> None:
    if partition.pending is None:
        return
    with _at_most(conn, _PATIENCE_S):
        conn.execute(
            sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(
                sql.Identifier(partition.table), sql.Identifier(partition.name), _DETACH[partition.pending]
            )
        )


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
