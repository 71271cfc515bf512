"""Postgres: the pool of a process, transactions, and migrations.

No session state is ever set (PgBouncer in transaction mode is safe): what a statement needs, it sets for itself with
`set_config(…, true)`. Functions that take a `conn` never commit; whoever opened the transaction does.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import TypeVar

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from relay import metrics, partitions
from relay.errors import Unavailable
from relay.settings import Settings

Conn = AsyncConnection[TupleRow]

#: The connection is gone, or was never there; a repeat may work. Caught after the two below, which are told apart from it.
LOST = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)
#: Postgres chose this statement as the victim; the same statement works when repeated.
REPEATABLE = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
#: One row of a batch is at fault; halving the batch finds it.
SPLITTABLE = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.LockNotAvailable, UnicodeError)

_MIGRATION_LOCK = 7000
_POOL_WAIT_S = 5.0
#: After an outage the pool is back within this time: its back-off doubles, and would else grow with the outage.
_RECONNECT_S = 5.0
_AGAIN_S = 0.5


class Database:
    """The connections of one process."""

    def __init__(
        self, settings: Settings, *, connections: int | None = None, on_lost: Callable[[], None] = lambda: None
    ) -> None:
        """At most `connections` (DATABASE_MAX_CONNS); `on_lost` is called when one is lost: Postgres may have restarted."""
        connections = connections or settings.database_max_conns
        self._on_lost = on_lost
        self._checking: asyncio.Task[None] | None = None
        self._pool = AsyncConnectionPool[Conn](
            settings.database_url,
            min_size=min(2, connections),
            max_size=connections,
            timeout=_POOL_WAIT_S,
            reconnect_timeout=_RECONNECT_S,
            open=False,
            configure=_refuse_asynchronous_default,
            kwargs={
                "autocommit": True,
                "prepare_threshold": None if settings.database_pgbouncer else 5,
                "connect_timeout": 5,
                "application_name": "relay",
            },
        )

    async def open(self) -> None:
        """Start the pool; it connects in the background and goes on trying."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Conn]:
        """Lend a connection on which each statement is its own transaction."""
        try:
            began = time.perf_counter()
            async with self._pool.connection() as conn:
                metrics.DATABASE_SECONDS.labels("connect").observe(time.perf_counter() - began)
                yield conn
        except LOST as cause:
            if not isinstance(cause, (PoolTimeout, *REPEATABLE, *SPLITTABLE)):
                self._on_lost()
                self._replace_dead()
            raise

    def _replace_dead(self) -> None:
        """One connection was lost, so others may be: look at those in the pool before they are lent again."""
        if not self._pool.closed and (self._checking is None or self._checking.done()):
            self._checking = asyncio.get_running_loop().create_task(self._pool.check())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Conn]:
        """Lend a connection inside a transaction; see `transaction`."""
        async with self.connection() as conn, transaction(conn):
            yield conn


@asynccontextmanager
async def transaction(conn: Conn) -> AsyncIterator[None]:
    """Make a transaction of the block that Postgres ends itself if it stands idle for 5 s.

    Commits at the end; an exception rolls back, as every connection that goes back to the pool does.
    """
    await conn.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'")
    yield
    await conn.commit()


async def _refuse_asynchronous_default(conn: Conn) -> None:
    row = await (await conn.execute("SHOW synchronous_commit")).fetchone()
    if row is not None and row[0] == "off":
        raise Unavailable("Postgres has synchronous_commit off by default: accepted events could be lost. Turn it on.")


Row = TypeVar("Row")


async def write_all(
    db: Database,
    batch: Sequence[Row],
    write: Callable[[Conn, Sequence[Row]], Awaitable[None]],
    *,
    hopeless: Callable[[Row, Exception], Awaitable[None]],
) -> None:
    """Write a batch, whatever happens: repeated on deadlock, kept while Postgres is away, halved on a bad row.

    A row that fails alone goes to `hopeless` and never blocks the rest. `write` must be safe to repeat.
    """
    while True:
        try:
            async with db.connection() as conn:
                return await write(conn, batch)
        except REPEATABLE:
            continue
        except SPLITTABLE as cause:
            if len(batch) == 1:
                return await hopeless(batch[0], cause)
            middle = len(batch) // 2
            await write_all(db, batch[:middle], write, hopeless=hopeless)
            return await write_all(db, batch[middle:], write, hopeless=hopeless)
        except LOST:
            await asyncio.sleep(_AGAIN_S)


def migrate(database_url: str) -> list[str]:
    """Bring the schema up to date and return the names applied; safe when two start at once, and to repeat."""
    with psycopg.connect(database_url, autocommit=True, connect_timeout=5) as conn:
        applied: list[str] = []
        for name, sql in _migrations():
            if _apply(conn, name, sql):
                applied.append(name)
        partitions.ensure(conn)
        return applied


def _apply(conn: Connection[TupleRow], name: str, sql: str) -> bool:
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (version int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        version = int(name.partition("_")[0])
        if conn.execute("SELECT 1 FROM schema_migrations WHERE version = %s", (version,)).fetchone():
            return False
        conn.execute(sql.encode())
        conn.execute("INSERT INTO schema_migrations (version, name) VALUES (%s, %s)", (version, name))
        return True


def _migrations() -> list[tuple[str, str]]:
    files = resources.files("relay.migrations").iterdir()
    named = [(f.name.removesuffix(".sql"), f.read_text(encoding="utf-8")) for f in files if f.name.endswith(".sql")]
    return sorted(pair for pair in named if re.match(r"\d{4}_", pair[0]))


def newest_migration() -> int:
    """The schema version this code was written for."""
    return int(_migrations()[-1][0].partition("_")[0])


async def schema_version(conn: Conn) -> int:
    """The newest migration applied to this database; 0 before the first."""
    found = await (await conn.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")).fetchone()
    if not (found and found[0]):
        return 0
    row = await (await conn.execute("SELECT coalesce(max(version), 0) FROM schema_migrations")).fetchone()
    return int(row[0]) if row else 0
