"""Index builds that nobody waits for: whatever kills them, the index is whole in the end, and inserts go on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from relay import indexes, partitions
from relay.errors import Unavailable
from relay.indexes import parse
from relay.migrate import migrate
from relay.settings import Settings
from tests.running import until
from tests.shop import Shop, open_shop
from tests.test_migrations import folder_with, start_migrating

ON_JOBS = {"9001_kind.concurrently.sql": "-- Why.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_kind ON jobs (kind);\n"}
ON_EVENTS = {
    "9001_type.concurrently.sql": "CREATE INDEX CONCURRENTLY IF NOT EXISTS events_type ON events (tenant_id, type)"
}
ROW = "INSERT INTO jobs (id, tenant_id, kind, input) VALUES (gen_random_uuid(), gen_random_uuid(), 'replay', '{}')"


@pytest.fixture
def db(database_url: str) -> Iterator[Connection[TupleRow]]:
    with psycopg.connect(database_url, autocommit=True, options="-c statement_timeout=5s") as conn:
        yield conn


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


@contextmanager
def open_writer(database_url: str, statement: sql.Composed | LiteralString) -> Iterator[Connection[TupleRow]]:
    """A transaction that wrote and stays open: a build waits for it."""
    with psycopg.connect(database_url) as conn:
        conn.execute(statement)
        yield conn


def state(db: Connection[TupleRow], name: str) -> tuple[int, bool] | None:
    """Number and validity of an index; None when there is none."""
    query = "SELECT indexrelid::int8, indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
    return db.execute(query, (name,)).fetchone()


def recorded(db: Connection[TupleRow]) -> bool:
    return db.execute("SELECT 1 FROM schema_migrations WHERE version = 9001").fetchone() is not None


async def until_it_waits(db: Connection[TupleRow], table: str) -> None:
    await until(lambda: "waiting for" in (indexes.progress(db, table) or ""), 10, what="a build that waits")


def leave_half_built(db: Connection[TupleRow], database_url: str, statement: LiteralString) -> None:
    """Begin to build, and be cancelled while a writer holds it up."""

    def begin() -> None:
        with psycopg.connect(database_url, autocommit=True) as conn, pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(statement)

    building = threading.Thread(target=begin)
    with open_writer(database_url, ROW):
        building.start()
        query = "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for%'"
        while building.is_alive():
            db.execute(query)
            building.join(0.05)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE INDEX a ON b (c)",
        "CREATE INDEX CONCURRENTLY a ON b (c)",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS a ON b (c); DROP TABLE d",
        "DROP INDEX CONCURRENTLY a",
        "",
    ],
)
def test_anything_but_one_index_that_may_be_there_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not one CREATE INDEX"):
        parse(text)


def test_a_name_that_does_not_fit_the_partitions_is_refused() -> None:
    index = parse(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {'a' * 55} ON events (type)")
    with pytest.raises(ValueError, match="too long"):
        index.on("events_20260101")


async def test_inserts_go_on_during_a_build_and_it_is_recorded_when_it_is_whole(
    database_url: str,
    db: Connection[TupleRow],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "relay.indexes")
    monkeypatch.setattr(indexes, "_TELL_S", 0.1)
    folder_with(ON_JOBS, tmp_path)
    with open_writer(database_url, ROW):
        migrating = asyncio.create_task(asyncio.to_thread(migrate, database_url, folder=tmp_path))
        await until_it_waits(db, "jobs")
        db.execute(ROW)
        found = state(db, "jobs_kind")
        assert found is not None
        assert not found[1]
        assert not recorded(db)
        await until(lambda: "index jobs_kind on jobs: waiting for writers" in caplog.text, 5, what="a line of the log")
    assert await migrating == ["9001_kind.concurrently"]
    assert state(db, "jobs_kind") == (found[0], True)
    assert recorded(db)
    assert migrate(database_url, folder=tmp_path) == []


async def test_a_half_built_index_is_dropped_and_built_anew(
    database_url: str, db: Connection[TupleRow], tmp_path: Path
) -> None:
    leave_half_built(db, database_url, "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_kind ON jobs (kind)")
    left = state(db, "jobs_kind")
    assert left is not None
    assert not left[1]
    assert migrate(database_url, folder=folder_with(ON_JOBS, tmp_path)) == ["9001_kind.concurrently"]
    built = state(db, "jobs_kind")
    assert built is not None
    assert built[1]
    assert built[0] != left[0]


async def test_a_build_whose_client_was_killed_is_waited_for_and_not_begun_again(
    database_url: str, db: Connection[TupleRow], tmp_path: Path
) -> None:
    folder_with(ON_JOBS, tmp_path)
    with open_writer(database_url, ROW):
        killed = start_migrating(database_url, tmp_path)
        await until_it_waits(db, "jobs")
        killed.kill()
        killed.wait()
        migrating = asyncio.create_task(asyncio.to_thread(migrate, database_url, folder=tmp_path))
        begun = state(db, "jobs_kind")
        assert begun is not None
        done, _ = await asyncio.wait([migrating], timeout=1.0)
        assert not done
    assert await migrating == ["9001_kind.concurrently"]
    assert state(db, "jobs_kind") == (begun[0], True), "what its backend goes on with is not built twice"


def test_several_that_build_at_once_end_with_one_whole_index_and_no_deadlock(
    database_url: str, db: Connection[TupleRow]
) -> None:
    leave_half_built(db, database_url, "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_kind ON jobs (kind)")
    index, together = parse(ON_JOBS["9001_kind.concurrently.sql"]), threading.Barrier(4)

    def build() -> None:
        with psycopg.connect(database_url, autocommit=True) as conn:
            together.wait(5)
            indexes.build(database_url, conn, index)

    with ThreadPoolExecutor(4) as pool:
        for building in [pool.submit(build) for _ in range(4)]:
            building.result(20)
    built = state(db, "jobs_kind")
    assert built is not None
    assert built[1]


def test_a_unique_index_that_cannot_be_is_not_left_behind(
    database_url: str, db: Connection[TupleRow], tmp_path: Path
) -> None:
    for _ in range(2):
        db.execute(ROW)
    unique = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS jobs_kind ON jobs (kind)"
    with pytest.raises(psycopg.errors.UniqueViolation):
        migrate(database_url, folder=folder_with({"9001_kind.concurrently.sql": unique}, tmp_path))
    assert state(db, "jobs_kind") is None
    assert not recorded(db)


def test_a_name_that_is_taken_is_one_sentence(database_url: str, db: Connection[TupleRow], tmp_path: Path) -> None:
    db.execute("CREATE INDEX jobs_kind ON stats (at)")
    with pytest.raises(Unavailable, match="jobs_kind cannot be built: something else has its name"):
        migrate(database_url, folder=folder_with(ON_JOBS, tmp_path))


async def test_a_partitioned_table_gets_its_index_part_by_part_also_after_a_kill(
    database_url: str, db: Connection[TupleRow], shop: Shop, tmp_path: Path
) -> None:
    folder_with(ON_EVENTS, tmp_path)
    await shop.send(1)
    today = db.execute("SELECT tableoid::regclass::text FROM events").fetchone()
    assert today is not None
    write = sql.SQL("UPDATE {} SET subject = 'held'").format(sql.Identifier(today[0]))
    with open_writer(database_url, write):
        killed = start_migrating(database_url, tmp_path)
        await until_it_waits(db, today[0])
        await asyncio.wait_for(shop.send(5), 5.0)
        killed.kill()
        killed.wait()
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index WHERE datname = current_database()"
        )
        parent = state(db, "events_type")
        assert parent is not None
        assert not parent[1]
        assert not recorded(db)
    assert await asyncio.to_thread(migrate, database_url, folder=tmp_path) == ["9001_type.concurrently"]
    assert state(db, "events_type") == (parent[0], True)
    assert partitions.ensure(db, now=datetime.now(UTC) + timedelta(days=1)) != []
    without = """SELECT count(*) FROM pg_inherits p WHERE p.inhparent = 'events'::regclass AND NOT EXISTS (
                     SELECT FROM pg_index i JOIN pg_inherits a ON a.inhrelid = i.indexrelid
                     WHERE i.indrelid = p.inhrelid AND i.indisvalid AND a.inhparent = 'events_type'::regclass)"""
    assert db.execute(without).fetchone() == (0,)
