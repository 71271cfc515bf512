"""The archive: days that were taken out of Relay's tables and lie in the schema `relay_archive`, to be brought back.

A day is its partitions and its dead letters. Each step is one transaction and finds what an earlier run left, so that
what is killed anywhere is finished by running it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from relay.errors import Conflict, NotFound, Unavailable
from relay.partitions import (
    DAYS_BEHIND,
    TABLES,
    Partition,
    attach,
    existing,
    floor_of,
    home,
    oldest_needed,
    parsed,
    patiently,
    retire,
    stay,
    take_away,
)

SCHEMA = "relay_archive"
#: Dead letters have no partitions; those of the day's deliveries go with it.
LETTERS = "dead_letters"
_HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Day:
    """A day in the archive: its tables, and their bytes on disk with indexes."""

    day: date
    tables: tuple[str, ...]
    bytes: int


def list_(conn: Connection[TupleRow]) -> list[Day]:
    """Return the days in the archive, the oldest first."""
    rows = conn.execute(
        """SELECT c.relname::text, pg_total_relation_size(c.oid) FROM pg_class c
           WHERE c.relkind = 'r' AND c.relnamespace = to_regnamespace(%s)::oid AND c.relname ~ %s ORDER BY 1""",
        (SCHEMA, f"^({'|'.join((*TABLES, LETTERS))})_[0-9]{{8}}$"),
    )
    found: dict[date, dict[str, int]] = {}
    for name, size in rows:
        table, day = parsed(name)
        found.setdefault(day, {})[table] = size
    return [Day(day, tuple(tables), sum(tables.values())) for day, tables in sorted(found.items())]


def get(conn: Connection[TupleRow], day: date) -> Day:
    """Return a day of the archive; raise NotFound."""
    for one in list_(conn):
        if one.day == day:
            return one
    raise NotFound(f"{day} is not in the archive.")


def move(conn: Connection[TupleRow], partition: Partition) -> None:
    """Move a detached partition into the archive; with that of the deliveries go those that nobody has settled."""
    make_schema(conn)
    name = sql.Identifier(partition.name)
    conn.execute(sql.SQL("COMMENT ON TABLE {} IS NULL").format(name))
    conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(name, sql.Identifier(SCHEMA)))
    if partition.table != _HISTORY:
        return
    letters = archived(LETTERS, partition.day)
    conn.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (LIKE dead_letters INCLUDING ALL)").format(letters))
    bounds = (floor_of(partition.day), floor_of(partition.day + timedelta(days=1)))
    conn.execute(
        sql.SQL(
            """WITH gone AS (DELETE FROM dead_letters WHERE id >= %s AND id < %s RETURNING *)
               INSERT INTO {} SELECT * FROM gone"""
        ).format(letters),
        bounds,
    )


def put(conn: Connection[TupleRow], day: date, *, now: datetime | None = None) -> list[str]:
    """Archive a day; return the partitions that were moved, none when all are there already. Needs autocommit.

    Raises NotFound for a day without any partition, Conflict for one that is needed, Unavailable while somebody reads it.
    """
    youngest = (now or datetime.now(UTC)).date() - timedelta(days=DAYS_BEHIND + 1)
    if day > youngest:
        raise Conflict(f"{day} is too young: days up to {youngest} can be archived.")
    here = [one for one in existing(conn) if one.day == day]
    if not here:
        if day not in {one.day for one in list_(conn)}:
            raise NotFound(f"There is nothing of {day}, neither in place nor in the archive.")
        return []
    _refuse_needed(conn, day)
    moved = [one.name for one in take_away(conn, here, put_away=move)]
    missing = [one.name for one in here if one.name not in moved]
    if missing:
        raise Unavailable(f"{', '.join(missing)} cannot be archived while somebody reads it; try again.")
    return moved


def _refuse_needed(conn: Connection[TupleRow], day: date) -> None:
    oldest = oldest_needed(conn, day + timedelta(days=1))
    if oldest is not None and oldest <= day:
        raise Conflict(
            f"{day} cannot be archived: something that waits, or died in the last 7 days, needs what is from {oldest} on."
        )


def put_older(conn: Connection[TupleRow], *, keep_days: int, now: datetime | None = None) -> list[str]:
    """Archive every day that is older and that nothing needs; return the partitions that were moved. Needs autocommit."""
    return retire(conn, keep_days=max(keep_days, DAYS_BEHIND), now=now, put_away=move)


def put_back(conn: Connection[TupleRow], *, now: datetime | None = None) -> list[str]:
    """Archive again the days whose stay is over; return the partitions that were moved. Needs autocommit."""
    over = [one for one in existing(conn) if one.stays_until and one.stays_until < (now or datetime.now(UTC))]
    moved: list[Partition] = []
    for day in sorted({one.day for one in over}):
        oldest = oldest_needed(conn, day + timedelta(days=1))
        if oldest is None or day < oldest:
            moved += take_away(conn, [one for one in over if one.day == day], put_away=move)
    return [one.name for one in moved]


def restore(conn: Connection[TupleRow], day: date, *, until: datetime) -> list[str]:
    """Attach an archived day again, all of it or nothing, to stay until then; return its partitions. Needs autocommit.

    Raises NotFound for a day that is not archived, and Conflict for one that is in place already. Where the tables have
    changed since, its rows are copied into new ones by the names of their columns.
    """
    take_away(conn, [one for one in existing(conn) if one.day == day and one.pending is not False], put_away=move)
    here = {one.table for one in existing(conn) if one.day == day}
    there = _get_unless_here(conn, day, here)
    if both := here & set(there.tables):
        names = ", ".join(Partition(table, day).name for table in sorted(both))
        raise Conflict(f"{names} cannot be restored: a partition of this name is in place.")
    try:
        return _attach_all(conn, there, until=until)
    except psycopg.errors.DatatypeMismatch:
        for table in there.tables:
            _reshape(conn, table, day)
        return _attach_all(conn, there, until=until)


def _get_unless_here(conn: Connection[TupleRow], day: date, here: set[str]) -> Day:
    """Return a day of the archive; raise Conflict when it is in place instead, NotFound when there is nothing of it."""
    try:
        return get(conn, day)
    except NotFound:
        if here:
            raise Conflict(f"{day} is not in the archive; it is in place.") from None
        raise


def _attach_all(conn: Connection[TupleRow], there: Day, *, until: datetime) -> list[str]:
    partitions = [Partition(table, there.day) for table in TABLES if table in there.tables]
    with alone(conn):
        for partition in partitions:
            _come_back(conn, archived(partition.table, there.day))
            attach(conn, partition)
            _drop_bounds(conn, partition)
            stay(conn, partition, until=until)
        if LETTERS in there.tables:
            _readmit_letters(conn, there.day)
    return [partition.name for partition in partitions]


def _come_back(conn: Connection[TupleRow], table: sql.Identifier) -> None:
    conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(table, sql.Identifier(home(conn))))


def _drop_bounds(conn: Connection[TupleRow], partition: Partition) -> None:
    """Drop the copy of its bounds that DETACH CONCURRENTLY left, which spared ATTACH a look at every row."""
    rows = conn.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c' AND coninhcount = 0",
        (partition.name,),
    )
    for (name,) in rows.fetchall():
        conn.execute(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(partition.name), sql.Identifier(name))
        )


def _readmit_letters(conn: Connection[TupleRow], day: date) -> None:
    letters = archived(LETTERS, day)
    names = _common_columns(conn, letters, sql.Identifier(LETTERS))
    conn.execute(
        sql.SQL("INSERT INTO dead_letters ({0}) SELECT {0} FROM {1} ON CONFLICT DO NOTHING").format(names, letters)
    )
    conn.execute(sql.SQL("DROP TABLE {}").format(letters))


def _reshape(conn: Connection[TupleRow], table: str, day: date) -> None:
    """Replace an archived table by one of today's shape with the same rows; a column that is new gets its default."""
    old, parent = archived(table, day), sql.Identifier(table)
    new = sql.Identifier(SCHEMA, f"reshaped_{table}_{day:%Y%m%d}")
    names = _common_columns(conn, old, parent)
    with conn.transaction():
        conn.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(new, parent))
        conn.execute(sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM {2}").format(new, names, old))
        conn.execute(sql.SQL("DROP TABLE {}").format(old))
        conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(new, sql.Identifier(f"{table}_{day:%Y%m%d}")))


def _common_columns(conn: Connection[TupleRow], one: sql.Identifier, other: sql.Identifier) -> sql.Composed:
    names = columns(conn, one)
    others = set(columns(conn, other))
    return sql.SQL(", ").join(sql.Identifier(name) for name in names if name in others)


def columns(conn: Connection[TupleRow], table: sql.Identifier) -> list[str]:
    """Return the names of a table's columns in their order."""
    rows = conn.execute(
        """SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
           ORDER BY attnum""",
        (table.as_string(conn),),
    )
    return [row[0] for row in rows]


def drop(conn: Connection[TupleRow], day: date) -> Day:
    """Delete a day from the archive for good; raise NotFound."""
    there = get(conn, day)
    with alone(conn):
        drop_tables(conn, day, there.tables)
    return there


def drop_tables(conn: Connection[TupleRow], day: date, tables: Sequence[str]) -> None:
    """Delete tables of an archived day, in the caller's transaction."""
    for table in tables:
        conn.execute(sql.SQL("DROP TABLE {}").format(archived(table, day)))


@contextmanager
def alone(conn: Connection[TupleRow]) -> Iterator[None]:
    """Make a transaction of the block that is alone at the partitions; Unavailable when a lock takes longer than 2 s."""
    try:
        with conn.transaction():
            patiently(conn)
            yield
    except psycopg.errors.LockNotAvailable as cause:
        raise Unavailable("Somebody else uses these tables now; try again.") from cause


def archived(table: str, day: date) -> sql.Identifier:
    """The name of a day's table in the archive."""
    return sql.Identifier(SCHEMA, f"{table}_{day:%Y%m%d}")


def make_schema(conn: Connection[TupleRow]) -> None:
    """Make the archive's schema where there is none yet, in a transaction that is alone at the partitions."""
    if conn.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchone() == (None,):
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
