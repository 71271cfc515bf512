"""Migrations: numbered SQL files, applied once each and in order, without ever standing in the way of intake.

A file `NNNN_name.sql` is one transaction. A file `NNNN_name.concurrently.sql` is one index, built outside of any
(relay/indexes.py). No lock is waited for longer than 2 s, since what comes later queues behind the one who waits: a
migration that does not get it gives way, and tries again. No session state, so PgBouncer is safe: a lock that lasts as
long as a transaction keeps two that run at once apart, and whoever is killed leaves nothing but what is built anew.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from relay import indexes, partitions, producer_role
from relay.db import REPEATABLE
from relay.errors import Unavailable
from relay.postgres import Conn, connect

#: Where Relay's own are.
FOLDER: Traversable = resources.files("relay.migrations")
#: How long a migration gives way each time that it did not get its lock within 2 s; about two minutes in all.
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)
_FILE = re.compile(r"(\d{4})_\w+(\.concurrently)?\.sql")
_LOCK = 7000
_LOOK_S = 0.2
_TELL_S = 10.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file; `concurrent` are those that build an index while Relay goes on."""

    version: int
    name: str
    sql: str
    concurrent: bool


def migrations(folder: Traversable = FOLDER) -> list[Migration]:
    """Every migration in order."""
    found = [(file, match) for file in folder.iterdir() if (match := _FILE.fullmatch(file.name))]
    return sorted(
        (
            Migration(int(match[1]), file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"), bool(match[2]))
            for file, match in found
        ),
        key=lambda migration: migration.version,
    )


def newest_migration(folder: Traversable = FOLDER) -> int:
    """The schema version this code was written for."""
    return max(int(match[1]) for file in folder.iterdir() if (match := _FILE.fullmatch(file.name)))


async def schema_version(conn: Conn) -> int:
    """The newest migration applied to this database; 0 before the first."""
    found = await (await conn.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")).fetchone()
    if not (found and found[0]):
        return 0
    row = await (await conn.execute("SELECT coalesce(max(version), 0) FROM schema_migrations")).fetchone()
    return int(row[0]) if row else 0


def migrate(database_url: str, *, folder: Traversable = FOLDER, pauses_s: Sequence[float] = PAUSES_S) -> list[str]:
    """Bring the schema up to date and return the names applied; safe when two start at once, to kill and to repeat.

    Waits while another process migrates. Raises Unavailable when a lock is not to be had.
    """
    # Nothing is prepared: PgBouncer may give each transaction another session.
    with connect(database_url) as conn:
        with _alone(conn):
            # Not IF NOT EXISTS: that looks into the first schema of the path alone, and there may be one named like the user.
            if conn.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,):
                conn.execute(
                    "CREATE TABLE schema_migrations"
                    " (version int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
                )
        applied: list[str] = []
        for migration in migrations(folder):
            apply = partial(_build, database_url) if migration.concurrent else _apply
            if _patiently(conn, migration, apply, pauses_s):
                applied.append(migration.name)
        partitions.ensure(conn)
        producer_role.ensure(conn)
        return applied


def _patiently(
    conn: Connection[TupleRow],
    migration: Migration,
    apply: Callable[[Connection[TupleRow], Migration], bool],
    pauses_s: Sequence[float],
) -> bool:
    pauses = iter(pauses_s)
    while True:
        try:
            return apply(conn, migration)
        except (psycopg.errors.LockNotAvailable, *REPEATABLE) as cause:
            if (pause_s := next(pauses, None)) is None:
                raise Unavailable(
                    f"Migration {migration.name} is not applied: {len(pauses_s) + 1} times it did not get a lock within"
                    f" 2 s. {_oldest_transaction(conn)} End what is open for long, then migrate again."
                ) from cause
            _LOG.warning("migration %s gives way for %s s: %s", migration.name, pause_s, str(cause).splitlines()[0])
            time.sleep(pause_s)


def _apply(conn: Connection[TupleRow], migration: Migration) -> bool:
    """Apply it in one transaction; False when it is applied."""
    with _alone(conn):
        if _is_applied(conn, migration):
            return False
        # The second, so that a killed client's statement does not go on, and with it the turn that others wait for.
        # The third, so that what is made stands with what there is, and functions know where that is.
        conn.execute(
            """SELECT set_config('lock_timeout', '2s', true),
                      set_config('client_connection_check_interval', '1s', true),
                      set_config('search_path', quote_ident(n.nspname) || ', pg_temp', true)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'schema_migrations'::regclass"""
        )
        conn.execute(migration.sql.encode())
        return _record(conn, migration)


def _build(database_url: str, conn: Connection[TupleRow], migration: Migration) -> bool:
    """Build its index; False when it is built and another process has said so."""
    if _is_applied(conn, migration):
        return False
    indexes.build(database_url, conn, indexes.parse(migration.sql))
    return _record(conn, migration)


@contextmanager
def _alone(conn: Connection[TupleRow]) -> Iterator[None]:
    """Make a transaction of the block that no other process which migrates is in; wait for it to end, holding nothing."""
    tell_at = time.monotonic() + _TELL_S
    while True:
        with conn.transaction():
            if conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone() == (True,):
                yield
                return
        if time.monotonic() > tell_at:
            _LOG.info("waiting for another process that migrates")
            tell_at += _TELL_S
        time.sleep(_LOOK_S)


def _is_applied(conn: Connection[TupleRow], migration: Migration) -> bool:
    found = conn.execute("SELECT 1 FROM schema_migrations WHERE version = %s", (migration.version,))
    return found.fetchone() is not None


def _record(conn: Connection[TupleRow], migration: Migration) -> bool:
    recorded = conn.execute(
        "INSERT INTO schema_migrations (version, name) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1",
        (migration.version, migration.name),
    )
    return recorded.fetchone() is not None


def _oldest_transaction(conn: Connection[TupleRow]) -> str:
    """Who probably holds the lock, in one sentence."""
    row = conn.execute(
        """SELECT pid, coalesce(nullif(application_name, ''), 'unnamed'), extract(epoch FROM now() - xact_start)::int
           FROM pg_stat_activity
           WHERE datname = current_database() AND xact_start IS NOT NULL AND backend_type = 'client backend'
             AND pid <> pg_backend_pid()
           ORDER BY xact_start LIMIT 1"""
    ).fetchone()
    if row is None:
        return "No transaction is open now."
    return f"The oldest open transaction is that of pid {row[0]} ({row[1]}), {row[2]} s old."
