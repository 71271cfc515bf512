"""Nothing is left behind on a connection: what PgBouncer in transaction mode would hand to somebody else."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from relay.db import Conn, Database
from relay.delivery.live import claim, put_back
from relay.delivery.outcomes import Delivered, Reason, Retry
from relay.delivery.record import record
from relay.postgres import conninfo
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, handed_out, open_crew, recorded, rows
from tests.shop import open_shop

CHECKOUT = Path(__file__).resolve().parent.parent
SESSION = re.compile(
    r"\bSET SESSION\b|[\"';]\s*SET (?!LOCAL\b)\w+ *(=|TO\b)|\bUNLISTEN\b|[\"';]\s*LISTEN\b|CREATE TEMP|PREPARE \w"
    r"|pg_(try_)?advisory_(lock|unlock)|set_config\([^)]*false\)|[?&]options=|\"options\":"
)


async def state(conn: Conn) -> list[tuple[object, ...]]:
    """What this session has set, listens to, locks and keeps."""
    return await rows(
        conn,
        """SELECT 'setting', name FROM pg_settings WHERE source = 'session'
           UNION ALL SELECT 'channel', pg_listening_channels()
           UNION ALL SELECT 'lock', locktype FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'
           UNION ALL SELECT 'table', relname FROM pg_class WHERE relpersistence = 't'""",
    )


async def test_a_whole_life_of_events_leaves_no_session_state(settings: Settings, conn: Conn) -> None:
    async with open_shop(settings) as shop, open_crew(settings) as crew:
        await shop.endpoint(NOWHERE)
        async with crew.db.connection() as own:
            assert await state(own) == []
            await shop.web.collector.accept([shop.event(idempotency_key="k"), shop.event(idempotency_key="k")])
            await shop.send(30)
            first, second, *others = await claim(own, await fan_out(shop), worker=crew.beats.no)
            assert await state(own) == []
            await record(own, [recorded(first, Delivered()), recorded(second, Retry(Reason.THROTTLED, 0))])
            await put_back(own, others)
            assert await state(own) == []
        async with asyncio.timeout(10):
            for lane in await handed_out(conn):
                await crew.holder.hold([lane])
            await crew.holder.stop()
            await crew.beats.beat()
            await crew.clock._lease()
            await crew.clock._tick()
        for db in (shop.web.db, crew.db):
            for own in [await db._pool.getconn() for _ in range(db._pool.get_stats()["pool_size"])]:
                assert await state(own) == []
                assert await rows(own, "SHOW synchronous_commit") == [("on",)]
                await db._pool.putconn(own)


def test_no_statement_sets_session_state() -> None:
    for path in (file for folder in ("relay", "actors", "api") for file in (CHECKOUT / folder).rglob("*.py")):
        found = SESSION.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.name}: {found}"


async def test_a_transaction_that_stands_idle_is_ended_by_postgres_and_the_limit_with_it(settings: Settings) -> None:
    db = Database(settings)
    await db.open()
    async with db.transaction() as conn:
        assert await rows(conn, "SHOW idle_in_transaction_session_timeout") == [("5s",)]
    async with db.connection() as conn:
        assert await rows(conn, "SHOW idle_in_transaction_session_timeout") == [("0",)]
    await db.close()


async def test_an_error_inside_a_transaction_leaves_nothing_of_it(settings: Settings) -> None:
    db = Database(settings)
    await db.open()
    for times, error in ((1, ZeroDivisionError), (2, psycopg.errors.UniqueViolation)):
        with pytest.raises(error):
            await _count_and_fail(db, times=times)
    async with db.connection() as conn:
        assert await rows(conn, "SELECT * FROM counted") == []
    await db.close()


async def _count_and_fail(db: Database, *, times: int) -> None:
    async with db.transaction() as conn:
        for _ in range(times):
            await conn.execute("INSERT INTO counted VALUES ('x', now())")
        raise ZeroDivisionError


async def test_a_database_that_commits_asynchronously_by_default_is_refused(settings: Settings, conn: Conn) -> None:
    await conn.execute(_default("synchronous_commit", "off"))
    db = Database(settings.model_copy(update={"database_max_conns": 2}))
    db._pool.timeout = 0.5
    await db.open()
    with pytest.raises(PoolTimeout, match="synchronous_commit off"):
        async with db.connection():
            pass
    await db.close()


async def test_only_a_lost_connection_makes_claims_doubtful(settings: Settings, conn: Conn) -> None:
    lost: list[str] = []
    db = Database(settings, on_lost=lambda: lost.append("lost"))
    await db.open()
    async with conn.transaction():
        await conn.execute("LOCK TABLE counted")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await _execute(db, "BEGIN; SET LOCAL lock_timeout = '10ms'; SELECT 1 FROM counted")
    assert lost == []
    with pytest.raises(psycopg.OperationalError):
        await _execute(db, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert lost == ["lost"]
    await db.close()


async def _execute(db: Database, statement: LiteralString) -> None:
    async with db.connection() as conn:
        await conn.execute(statement)


@asynccontextmanager
async def counting_losses(settings: Settings) -> AsyncIterator[tuple[Database, list[str]]]:
    lost: list[str] = []
    db = Database(settings, on_lost=lambda: lost.append("lost"))
    await db.open()
    try:
        yield db, lost
    finally:
        await db.close()


async def test_whatever_is_raised_on_a_broken_connection_is_a_lost_one(settings: Settings) -> None:
    async with counting_losses(settings) as (db, lost):
        for garbled in (
            psycopg.InternalError("no result"),
            psycopg.DatabaseError("lost synchronization"),
            IndexError(),
        ):
            with pytest.raises(psycopg.OperationalError, match="the connection broke"):
                await _raise(db, garbled, after=Conn.close)
            with pytest.raises(type(garbled)):
                await _raise(db, garbled, after=Conn.commit)
        assert lost == ["lost"] * 3


async def test_a_server_that_only_reads_now_is_lost_with_all_its_connections(settings: Settings, conn: Conn) -> None:
    async with counting_losses(settings) as (db, lost):
        await db._pool.wait()
        before = set(db._pool._pool)
        await conn.execute(_default("default_transaction_read_only", "on"))
        with pytest.raises(psycopg.OperationalError, match="only reads"):
            await _execute(db, "BEGIN READ ONLY; INSERT INTO counted VALUES ('x', now())")
        assert lost == ["lost"]
        assert db._checking is not None
        await db._checking
        db._pool.timeout = 0.3
        with pytest.raises(PoolTimeout, match="The Postgres of DATABASE_URL only reads"):
            await _execute(db, "SELECT 1")
        await conn.execute(_default("default_transaction_read_only", "off"))
        db._pool.timeout = 10
        await _execute(db, "INSERT INTO counted VALUES ('x', now())")
        assert before.isdisjoint(db._pool._pool)


async def test_a_machine_that_vanishes_is_given_up_within_10_s(settings: Settings) -> None:
    async with counting_losses(settings) as (db, _), db.connection() as conn:
        with socket.socket(fileno=os.dup(conn.pgconn.socket)) as tcp:
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
            assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle, interval, count = (
                tcp.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + interval * count == 10


def test_what_the_url_says_about_time_outs_stands() -> None:
    assert "connect_timeout=5" in conninfo("postgresql://h/relay")
    assert "connect_timeout=2" in conninfo("postgresql://h,i:5433/relay")
    assert "connect_timeout=9" in conninfo("postgresql://h/relay?connect_timeout=9")


async def _raise(db: Database, error: Exception, *, after: Callable[[Conn], Awaitable[None]]) -> None:
    async with db.connection() as conn:
        await after(conn)
        raise error


def _default(setting: LiteralString, value: LiteralString) -> LiteralString:
    return f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting} = {value}', current_database()); END $$"
