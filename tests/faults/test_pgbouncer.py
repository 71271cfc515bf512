"""Relay behind PgBouncer in transaction mode, with fewer sessions of Postgres than it has connections."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from uuid import UUID

import psycopg
import pytest

from relay import partitions, postgres
from relay.db import LOST, Database
from relay.migrate import migrate
from relay.recovery.replay import replay_to
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.faults.test_postgres import Load
from tests.faults.test_send_event import latencies
from tests.ledger import offenders
from tests.pooler import pgbouncer
from tests.running import Running, until, until_so, until_true, worker
from tests.scale import sized, tell
from tests.servers import OwnServer, own_postgres
from tests.shop import Shop, open_shop
from tests.sink import Answer, Arrival, Sink
from tests.test_db import state

SESSIONS = 4
EACH = 60
#: What PgBouncer sets for whom it lends a session to.
THE_POOLERS_OWN = {"application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"}
OLD = datetime.now(UTC) - timedelta(days=60)

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Pooled:
    """A Postgres, and the URL of the PgBouncer before it."""

    postgres: OwnServer
    url: str


@pytest.fixture(scope="module")
def pooled() -> Iterator[Pooled]:
    with own_postgres() as server, pgbouncer(server.server.url, sessions=SESSIONS) as url:
        migrate(url)
        yield Pooled(server, url)


@pytest.fixture
def behind(settings: Settings, pooled: Pooled) -> Settings:
    return settings.model_copy(update={"database_url": pooled.url, "database_pgbouncer": True})


@pytest.fixture
def process(behind: Settings, tmp_path: Path) -> Iterator[Running]:
    process = worker(behind, tmp_path / "worker.log", processes=2)
    yield process
    process.kill()
    print(process.text()[-6000:])


@pytest.fixture
async def shop(behind: Settings) -> AsyncIterator[Shop]:
    async with open_shop(behind) as shop:
        yield shop
        assert await offenders(shop.web.db) == {}


def flaky(arrival: Arrival) -> Answer:
    """The first request of each event at /flaky fails."""
    return Answer(status=500 if arrival.path == "/flaky" and arrival.attempt == 1 else 200, delay_s=0.005)


async def test_the_whole_life_of_events_and_a_crash_behind_the_pooler(
    pooled: Pooled, shop: Shop, process: Running
) -> None:
    with Sink(flaky) as sink:
        await shop.endpoint(sink.url("/plain"))
        await shop.endpoint(sink.url("/flaky"), retry_schedule=[50], max_retries=10, circuit_threshold=1000)
        await shop.endpoint(sink.url("/fifo"), fifo=True)
        sent = await shop.send(EACH)
        for path in ("/plain", "/flaky", "/fifo"):
            await until(lambda path=path: set(sink.events(path)) == set(sent), 30, what=f"all at {path}")
        assert [one.event_id for one in sink.arrivals if one.path == "/fifo"] == sent
        await _all_delivered(shop)
        await _sent_by_sql(pooled, sink)
        await _replayed(shop, sink, sent[0])
        await _survives_a_crash(pooled, shop, sink)
        await _all_delivered(shop)
    fifo = [one.event_id for one in sink.arrivals if one.path == "/fifo"]
    once = [event for event, _ in itertools.groupby(fifo)]
    assert len(once) == len(set(once)) + 1, "what repeats is the replay, or the last one sent"
    assert not [line for line in process.text().splitlines() if '"level":"error","logger":"relay' in line]
    await _sessions_hold_nothing(pooled)


async def _all_delivered(shop: Shop) -> None:
    async with shop.web.db.connection() as conn:
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live) AND NOT EXISTS (SELECT 1 FROM outbox)", 30)
        assert await rows(conn, "SELECT DISTINCT state FROM history") == [("delivered",)]


async def _sent_by_sql(pooled: Pooled, sink: Sink) -> None:
    """Half of them are there within half a second of their commit; the machine of the tests may do other things."""
    async with await psycopg.AsyncConnection.connect(pooled.url, prepare_threshold=None) as app:
        took = median(await latencies(app, sink, count=sized(100, 9)))
    tell(f"behind PgBouncer, from the commit to the arrival: p50 {took * 1000:.0f} ms")
    assert took <= sized(500, 2_000) / 1000


async def _replayed(shop: Shop, sink: Sink, event: str) -> None:
    before = len(sink.arrivals)
    async with shop.web.db.transaction() as conn:
        ((endpoint,),) = await rows(conn, "SELECT id FROM endpoints WHERE fifo")
        await replay_to(conn, shop.tenant_id, UUID(event), UUID(str(endpoint)), ids=shop.web.ids)
    await until(lambda: len(sink.arrivals) > before, 20, what="the replay")


async def _survives_a_crash(pooled: Pooled, shop: Shop, sink: Sink) -> None:
    load, before = Load(shop, at_once=1), len(sink.arrivals)
    try:
        await until(lambda: len(sink.arrivals) > before + 100, 30, what="arrivals under load")
        pooled.postgres.kill()
        pooled.postgres.start()  # on this thread: the server ends with the thread that started it
        known = len(load.accepted)
        await until(lambda: len(load.accepted) > known + 50, 30, what="accepted events after the crash")
    finally:
        sent = await load.stop()
    for path in ("/plain", "/flaky", "/fifo"):
        await until(lambda path=path: sent <= set(sink.events(path)), 45, what=f"all at {path}")


async def _sessions_hold_nothing(pooled: Pooled) -> None:
    """Take every session of Postgres that the pooler has, all at once, and look at what is left in it."""
    clients = [await psycopg.AsyncConnection.connect(pooled.url, prepare_threshold=None) for _ in range(SESSIONS)]
    try:
        for conn in clients:
            assert await rows(conn, "SELECT name FROM pg_prepared_statements") == []
            assert {name for _, name in await state(conn)} <= THE_POOLERS_OWN
    finally:
        for conn in clients:
            await conn.close()


def test_partitions_are_retired_through_the_pooler_and_a_reader_puts_it_off(pooled: Pooled) -> None:
    def old(conn: psycopg.Connection[tuple[object, ...]]) -> list[str]:
        return [one.name for one in partitions.existing(conn) if one.name.endswith(f"{OLD:%Y%m%d}")]

    with postgres.connect(pooled.url) as conn, psycopg.connect(pooled.url, prepare_threshold=None) as reader:
        with ThreadPoolExecutor(3) as several:  # whose statements meet in the same sessions
            list(several.map(_ensure, [pooled.url] * 3))
        assert len(old(conn)) == 4
        reader.execute("SELECT count(*) FROM history")
        retiring = threading.Thread(target=partitions.retire, args=(conn,), kwargs={"keep_days": 30})
        retiring.start()
        retiring.join(20)
        with postgres.connect(pooled.url) as other:
            assert [name for name in old(other) if name.startswith("history")]
        reader.rollback()
        partitions.retire(conn, keep_days=30)
        assert old(conn) == []
        assert migrate(pooled.url) == []


def _ensure(url: str) -> None:
    with postgres.connect(url) as conn:
        partitions.ensure(conn, now=OLD)


async def test_a_pooler_that_nobody_told_of_is_noticed(behind: Settings, caplog: pytest.LogCaptureFixture) -> None:
    db = Database(behind.model_copy(update={"database_pgbouncer": False}), connections=3)
    await db.open()

    async def ask() -> None:
        async with db.connection() as conn:
            for _ in range(8):
                await conn.execute("SELECT 1 WHERE %s = 1", (1,))

    await asyncio.gather(*(ask() for _ in range(12)))
    await db.close()
    assert "set DATABASE_PGBOUNCER=true" in caplog.text


async def test_a_pooler_without_postgres_is_a_lost_connection(behind: Settings, pooled: Pooled) -> None:
    lost: list[int] = []
    db = Database(behind, connections=2, on_lost=lambda: lost.append(1))
    await db.open()
    with pytest.raises(psycopg.OperationalError):
        await _cut_off(db, pooled.postgres)
    pooled.postgres.start()
    await until_so(lambda: _answers(db), 20)
    await db.close()
    assert lost


async def _cut_off(db: Database, server: OwnServer) -> None:
    async with db.transaction() as conn:
        await conn.execute("SELECT 1")
        server.kill()
        await conn.execute("SELECT 1")


async def _answers(db: Database) -> bool:
    try:
        async with db.connection() as conn:
            return await rows(conn, "SELECT 1") == [(1,)]
    except LOST:
        return False
