"""Postgres: the pool of a process, and transactions.

No session state is ever set (PgBouncer in transaction mode is safe): what a statement needs, it sets for itself with
`set_config(…, true)`. Functions that take a `conn` never commit; whoever opened the transaction does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from relay import metrics
from relay.postgres import Conn, conninfo, one_line, prepare_writer, remembering
from relay.settings import Settings

#: The connection is gone, or was never there; a repeat may work. Caught after the two below, which are told apart from it.
LOST = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)
#: Postgres chose this statement as the victim; the same statement works when repeated.
REPEATABLE = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
#: One row of a batch is at fault; halving the batch finds it.
SPLITTABLE = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.LockNotAvailable, UnicodeError)

_POOL_WAIT_S = 5.0
#: After an outage the pool is back within this time: its back-off doubles, and would else grow with the outage.
_RECONNECT_S = 5.0
_AGAIN_S = 0.5


class Database:
    """The connections of one process."""

    def __init__(
        self,
        settings: Settings,
        *,
        url: str | None = None,
        connections: int | None = None,
        prepare: Callable[[Conn], Awaitable[None]] = prepare_writer,
        patience_s: float = _POOL_WAIT_S,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """At most `connections` (DATABASE_MAX_CONNS) to `url` (DATABASE_URL), each of which `prepare` has accepted.

        Who asks for one waits `patience_s`; `on_lost` is called when one is lost: Postgres may have restarted.
        """
        connections = connections or settings.database_max_conns
        self._prepare = prepare
        self._on_lost = on_lost
        self._checking: asyncio.Task[None] | None = None
        #: Why the last try to connect failed; None while tries succeed.
        self._refusal: Exception | None = None
        self._pool = AsyncConnectionPool[Conn](
            conninfo(url or settings.database_url),
            connection_class=remembering(self._refused),
            min_size=min(2, connections),
            max_size=connections,
            timeout=patience_s,
            reconnect_timeout=_RECONNECT_S,
            open=False,
            configure=self._configure,
            kwargs={"autocommit": True, "prepare_threshold": None if settings.database_pgbouncer else 5},
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
            async with self._pool.connection() as conn, _lost_if_broken(conn):
                metrics.DATABASE_SECONDS.labels("connect").observe(time.perf_counter() - began)
                yield conn
        except PoolTimeout as cause:
            if self._refusal is None:
                raise
            raise PoolTimeout(f"{cause}: {one_line(self._refusal)}") from self._refusal
        except LOST as cause:
            if not isinstance(cause, (*REPEATABLE, *SPLITTABLE)):
                self._on_lost()
                self._replace_dead(all_of_them=isinstance(cause.__cause__, psycopg.errors.ReadOnlySqlTransaction))
            raise

    def _replace_dead(self, *, all_of_them: bool) -> None:
        """One connection was lost, so others may be: look at those in the pool before they are lent again.

        Those to a server that only reads now work, so they are all replaced.
        """
        if not self._pool.closed and (self._checking is None or self._checking.done()):
            look = self._pool.drain() if all_of_them else self._pool.check()
            self._checking = asyncio.get_running_loop().create_task(look)

    async def _configure(self, conn: Conn) -> None:
        try:
            await self._prepare(conn)
        except Exception as cause:
            self._refused(cause)
            await conn.close()
            raise
        self._refusal = None

    def _refused(self, cause: Exception) -> None:
        self._refusal = cause

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


@asynccontextmanager
async def _lost_if_broken(conn: Conn) -> AsyncIterator[None]:
    """Make an OperationalError of what psycopg raised on a connection that is gone, or whose server only reads now.

    Where the server ends in the middle of a statement, psycopg may find half an answer or none, and then raises what
    fits (an IndexError, too); a demoted primary answers with an error of its own. Both are as good as a lost connection.
    """
    try:
        yield
    except psycopg.errors.ReadOnlySqlTransaction as cause:
        await conn.close()
        raise psycopg.OperationalError("Postgres only reads: it is a standby now, or was set read-only") from cause
    except (psycopg.DatabaseError, IndexError) as cause:
        if conn.closed and not isinstance(cause, psycopg.OperationalError):
            raise psycopg.OperationalError(f"the connection broke: {one_line(cause)}") from cause
        raise


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
