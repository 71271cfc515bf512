"""No event is passed over, whatever the order in which transactions and clocks come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from relay.db import Conn
from relay.intake import outbox
from relay.intake.outbox import Entry, Head, Hints
from relay.settings import Settings
from tests.shop import open_shop

TENANT = UUID(int=0)
SHARD = 0
INSERT = "INSERT INTO outbox (shard, tenant_id, event_id) VALUES (0, %s, %s) RETURNING n"


@asynccontextmanager
async def transaction(database_url: str) -> AsyncIterator[Conn]:
    """A connection inside a transaction that already has its xid; the test commits it."""
    connection: AsyncConnection[TupleRow] = await AsyncConnection.connect(database_url)
    async with connection:
        await connection.execute("SELECT pg_current_xact_id()")
        yield connection


async def add(conn: Conn) -> int:
    row = await (await conn.execute(INSERT, (TENANT, uuid4()))).fetchone()
    assert row is not None
    return row[0]


async def drain(conn: Conn, hints: Hints, *, limit: int = 500) -> list[int]:
    """Drain the shard as fan-out does; return what came."""
    async with conn.transaction():
        assert await outbox.lock_shards(conn, [SHARD]) == [SHARD]
        head = await outbox.read_head(conn, [SHARD], hints=hints, limit=limit)
        await outbox.remove(conn, head.entries)
    hints.learn([SHARD], head)
    return [entry.n for entry in head.entries]


async def test_a_commit_that_is_late_is_not_passed_over(conn: Conn, database_url: str) -> None:
    hints = Hints()
    async with transaction(database_url) as late:
        first = await add(late)
        for _ in range(5):
            await add(conn)
            assert first not in await drain(conn, hints)
        await late.commit()
    assert await drain(conn, hints) == [first]


async def test_a_late_commit_is_not_passed_over_although_its_transaction_is_the_younger_one(
    conn: Conn, database_url: str
) -> None:
    """The older transaction takes its number last and commits first: its snapshot's xmax does not cover the younger."""
    hints = Hints()
    async with transaction(database_url) as older, transaction(database_url) as younger:
        first = await add(younger)
        second = await add(older)
        await older.commit()
        assert await drain(conn, hints) == [second]
        for _ in range(3):
            assert await drain(conn, hints) == []
        await younger.commit()
    assert await drain(conn, hints) == [first]


async def test_the_hint_moves_on_once_nothing_smaller_can_commit(conn: Conn) -> None:
    hints, n = Hints(), 0
    for _ in range(4):
        n = await add(conn)
        await drain(conn, hints)
    await drain(conn, hints)
    assert hints.low[SHARD] == n + 1


async def test_a_drain_cut_by_its_limit_proves_nothing(conn: Conn) -> None:
    hints = Hints()
    numbers = [await add(conn) for _ in range(5)]
    drained = [n for _ in range(6) for n in await drain(conn, hints, limit=1)]
    assert drained == numbers


@dataclass
class Pending:
    """A model of a transaction: it takes its xid, then its number, and commits some time later."""

    xid: int
    n: int | None = None


STEPS = st.tuples(st.sampled_from(["begin", "begin", "number", "number", "commit", "drain"]), st.integers(0, 1))


@given(st.lists(STEPS, min_size=8, max_size=30))
@examples(max_examples=500, deadline=None)
def test_no_interleaving_of_commits_and_drains_passes_over_a_number(steps: list[tuple[str, int]]) -> None:
    hints, running, visible = Hints(), list[Pending](), set[int]()
    next_xid, next_n, completed = 100, 1, 99
    for what, which in [*steps, *[("commit", 0)] * 30, *[("drain", 0)] * 3]:
        if what == "begin":
            running.append(Pending(next_xid))
            next_xid += 1
        elif what == "number" and running and running[which % len(running)].n is None:
            running[which % len(running)].n = next_n
            next_n += 1
        elif what == "commit" and running:
            pending = running.pop(which % len(running))
            completed = max(completed, pending.xid)
            visible |= {pending.n} if pending.n else set()
        elif what == "drain":
            found = sorted(n for n in visible if n >= hints.of([SHARD])[0])
            xmin = min([p.xid for p in running if p.xid <= completed], default=completed + 1)
            entries = [Entry(SHARD, n, TENANT, TENANT, 1) for n in found]
            hints.learn([SHARD], Head(entries, xmin=xmin, ceiling=next_xid, cut=False))
            visible -= set(found)
            if found:
                completed, next_xid = next_xid, next_xid + 1
    assert not visible


@pytest.mark.parametrize("off_s", [-5.0, 5.0])
async def test_the_clock_of_a_web_process_decides_nothing(settings: Settings, conn: Conn, off_s: float) -> None:
    hints = Hints()
    async with open_shop(settings) as exact, open_shop(settings, clock_off_s=off_s) as skewed:
        sent: list[str] = []
        drained: list[str] = []
        for _ in range(20):
            for shop in (exact, skewed):
                sent += await shop.send(3)
            if len(sent) % 5 == 0:
                drained += await drained_events(conn, exact.tenant_id, hints)
        drained += await drained_events(conn, exact.tenant_id, hints)
    assert drained == sent


async def drained_events(conn: Conn, tenant_id: UUID, hints: Hints) -> list[str]:
    shard = tenant_id.int & 15
    async with conn.transaction():
        assert await outbox.lock_shards(conn, [shard]) == [shard]
        head = await outbox.read_head(conn, [shard], hints=hints, limit=500)
        await outbox.remove(conn, head.entries)
    hints.learn([shard], head)
    return [str(entry.event_id) for entry in head.entries]


async def test_a_shard_is_drained_by_one_at_a_time(conn: Conn, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        async with conn.transaction():
            assert await outbox.lock_shards(conn, [1, 2]) == [1, 2]
            assert await outbox.lock_shards(other, [2, 3]) == [3]
        assert await outbox.lock_shards(other, [1, 2]) == [1, 2]


async def test_what_was_set_aside_is_in_nobodys_way_and_stays(conn: Conn) -> None:
    numbers = [await add(conn) for _ in range(3)]
    hints = Hints()
    head = await outbox.read_head(conn, [SHARD], hints=hints, limit=500)
    await outbox.set_aside(conn, head.entries[0], reason="of the test")
    assert await drain(conn, hints) == numbers[1:]
    rows = await (await conn.execute("SELECT n, failed_reason FROM outbox")).fetchall()
    assert rows == [(numbers[0], "of the test")]
    assert await outbox.shards_with_work(conn) == []
