"""Indexes of large tables, built while events are accepted.

`CREATE INDEX CONCURRENTLY` waits for whoever writes, never the other way round, but a build that was killed leaves an
index behind that is not valid: used by no query, kept by every insert. Such a one is dropped and built anew. Of two
processes one begins; a build that goes on without its client, which was killed, is seen in Postgres's own list of them
and waited for.

A partitioned table cannot be done at once. Its index is made on it alone, which takes a moment; then one is built on
each partition and attached, and with the last of them the whole is valid.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from relay.errors import Unavailable
from relay.postgres import connect, conninfo

_STATEMENT = re.compile(
    r"CREATE (?P<kind>UNIQUE INDEX|INDEX) CONCURRENTLY IF NOT EXISTS (?P<name>\w+) ON (?P<table>\w+) (?P<rest>[^;]+);?"
)
_LONGEST_NAME = 63
_LOCK = 7003
_LOOK_S = 0.5
_TELL_S = 10.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Index:
    """An index as its migration describes it; `rest` is what stands behind the table's name."""

    kind: str
    name: str
    table: str
    rest: str

    def on(self, partition: str) -> Index:
        """The part of it that belongs to one partition."""
        name = f"{self.name}_{partition.removeprefix(f'{self.table}_')}"
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"index {self.name}: its name is too long for the partitions of {self.table}")
        return replace(self, name=name, table=partition)


def parse(text: str) -> Index:
    """Read a `.concurrently.sql` file: one CREATE INDEX CONCURRENTLY IF NOT EXISTS, and comments. ValueError otherwise."""
    statement = " ".join(re.sub(r"--.*", "", text).split())
    found = _STATEMENT.fullmatch(statement)
    if found is None:
        raise ValueError(f"not one CREATE INDEX CONCURRENTLY IF NOT EXISTS name ON table …: {statement[:100]}")
    return Index(found["kind"], found["name"], found["table"], found["rest"])


def build(database_url: str, conn: Connection[TupleRow], index: Index) -> None:
    """Return when the index is there and valid. Needs autocommit; raises LockNotAvailable and deadlocks, to be repeated."""
    row = conn.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = %s::regclass", (index.table,)).fetchone()
    if row == (True,):
        _build_partitioned(database_url, conn, index)
    else:
        _build_plain(database_url, conn, index)


def progress(conn: Connection[TupleRow], table: str) -> str | None:
    """What a build of an index on this table is doing now; None while there is none."""
    row = conn.execute(
        """SELECT phase, lockers_total - lockers_done, round(100.0 * blocks_done / nullif(blocks_total, 0))::int
           FROM pg_stat_progress_create_index WHERE relid = %s::regclass AND datname = current_database()""",
        (table,),
    ).fetchone()
    if row is None:
        return None
    phase, waits_for, percent = row
    return phase + (f", {percent} %" if percent is not None else "") + (f", for {waits_for} more" if waits_for else "")


def _build_plain(database_url: str, conn: Connection[TupleRow], index: Index) -> None:
    with _told(database_url, index):
        while (valid := _is_valid(conn, index)) is not True:
            with _claimed(database_url, index) as mine:
                if not mine or progress(conn, index.table) is not None:
                    time.sleep(_LOOK_S)
                elif valid is None:
                    _create(conn, index)
                else:
                    _drop_leftover(conn, index)


@contextmanager
def _claimed(database_url: str, index: Index) -> Iterator[bool]:
    """Whether nobody else begins to build on this table during the block.

    The lock is that of a transaction which stands idle on a connection of its own: no build waits for it, and it ends
    with the client, however that ends. Two that begin in the same moment would deadlock, perhaps after hours.
    """
    with psycopg.connect(conninfo(database_url)) as conn:
        # Without parameters: those leave a portal open with its snapshot, for which a build would wait.
        claim = sql.SQL("SELECT pg_try_advisory_xact_lock({}, hashtext({}))").format(_LOCK, index.table)
        yield conn.execute(claim).fetchone() == (True,)


def _is_valid(conn: Connection[TupleRow], index: Index) -> bool | None:
    """None when there is no such index."""
    row = conn.execute(
        """SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
           WHERE c.relname = %s AND i.indrelid = %s::regclass""",
        (index.name, index.table),
    ).fetchone()
    return None if row is None else bool(row[0])


def _create(conn: Connection[TupleRow], index: Index) -> None:
    _LOG.info("index %s on %s is being built", index.name, index.table)
    statement = f"CREATE {index.kind} CONCURRENTLY IF NOT EXISTS {index.name} ON {index.table} {index.rest}"
    try:
        conn.execute(statement.encode())
    except psycopg.errors.UniqueViolation:
        _drop_leftover(conn, index)  # it would refuse what is written from now on
        raise
    if _is_valid(conn, index) is None:
        raise Unavailable(f"Index {index.name} cannot be built: something else has its name.")


def _drop_leftover(conn: Connection[TupleRow], index: Index) -> None:
    """Drop it, unless it is valid after all; a build that has just begun is waited for."""
    with conn.transaction():
        conn.execute("SELECT set_config('lock_timeout', '2s', true)")
        conn.execute(f"LOCK TABLE {index.table} IN SHARE UPDATE EXCLUSIVE MODE".encode())  # keeps builders out
        if _is_valid(conn, index) is False:
            _LOG.warning("index %s was left half built, and is built anew", index.name)
            conn.execute(f"DROP INDEX {index.name}".encode())


def _build_partitioned(database_url: str, conn: Connection[TupleRow], index: Index) -> None:
    if _is_valid(conn, index) is None:
        with conn.transaction():
            conn.execute("SELECT set_config('lock_timeout', '2s', true)")
            conn.execute(f"CREATE {index.kind} IF NOT EXISTS {index.name} ON ONLY {index.table} {index.rest}".encode())
    while partitions := _partitions_without(conn, index):
        for partition in partitions:
            try:
                _build_plain(database_url, conn, index.on(partition))
                _attach(conn, index, index.on(partition))
            except psycopg.errors.UndefinedTable:
                _LOG.info("partition %s was retired meanwhile and needs no index", partition)
    if not _is_valid(conn, index):
        raise Unavailable(f"Index {index.name} is on every partition and not valid: drop it, then migrate again.")


def _partitions_without(conn: Connection[TupleRow], index: Index) -> list[str]:
    rows = conn.execute(
        """SELECT c.relname::text FROM pg_inherits p JOIN pg_class c ON c.oid = p.inhrelid
           WHERE p.inhparent = %s::regclass AND NOT p.inhdetachpending AND NOT EXISTS (
               SELECT FROM pg_index i JOIN pg_inherits a ON a.inhrelid = i.indexrelid
               WHERE i.indrelid = c.oid AND a.inhparent = %s::regclass)
           ORDER BY 1""",
        (index.table, index.name),
    )
    return [row[0] for row in rows]


def _attach(conn: Connection[TupleRow], index: Index, part: Index) -> None:
    with conn.transaction():
        conn.execute("SELECT set_config('lock_timeout', '2s', true)")
        conn.execute(f"ALTER INDEX {index.name} ATTACH PARTITION {part.name}".encode())


@contextmanager
def _told(database_url: str, index: Index) -> Iterator[None]:
    """Tell how far the build is, now and then, on a thread and a connection of their own."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(_TELL_S):
            try:
                with connect(database_url) as conn:
                    _LOG.info("index %s on %s: %s", index.name, index.table, progress(conn, index.table) or "waiting")
            except psycopg.Error as cause:
                _LOG.info("index %s on %s: %s", index.name, index.table, cause)

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    try:
        yield
    finally:
        done.set()
        telling.join()
