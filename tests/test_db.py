"""Nothing is left behind on a connection: what PgBouncer in transaction mode would hand to somebody else."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from relay.db import Conn, Database
from relay.delivery.live import claim, put_back
from relay.delivery.outcomes import Delivered, Reason, Retry
from relay.delivery.record import record
from relay.errors import Unavailable
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
                await crew.holder.hold(lane)
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
    await conn.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$"
    )
    db = Database(settings.model_copy(update={"database_max_conns": 2}))
    db._pool.timeout = 0.5
    await db.open()
    with pytest.raises((psycopg.OperationalError, Unavailable)):
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
