"""Claiming and sending in one process: a double sends nothing, and nothing claimed is ever forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from relay.catalog import endpoints
from relay.db import Conn
from relay.delivery.lanes import hold
from relay.runtime import Worker
from relay.settings import Settings
from tests.delivery.crew import claimed, fan_out, handed_out, open_crew, rows
from tests.running import until, until_true
from tests.shop import Shop, open_shop
from tests.sink import Answer, Sink

DONE = "SELECT NOT EXISTS (SELECT 1 FROM live)"
HOLDS_NOTHING = "SELECT NOT EXISTS (SELECT 1 FROM live WHERE owner IS NOT NULL)"


@pytest.fixture
async def crew(settings: Settings) -> AsyncIterator[Worker]:
    async with open_crew(settings) as crew:
        yield crew


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def test_a_message_that_comes_many_times_at_once_sends_once(crew: Worker, shop: Shop, conn: Conn) -> None:
    with Sink(lambda _: Answer(delay_s=0.02)) as sink:
        for n in range(10):
            await shop.endpoint(sink.url(f"/{n}"))
        sent = await shop.send(2)
        dispatched = await fan_out(shop)
        await asyncio.gather(*(crew.deliverer.deliver(dispatched) for _ in range(5)))
        await until_true(conn, DONE, 10)
        await crew.deliverer.deliver(dispatched)
        await crew.recorder.flush()
        assert sink.events() == dict.fromkeys(sent, 10)
    assert len(crew.holdings) == 0
    for table in ("attempts", "history"):  # what was sent is noted with its type, which analytics need not look for
        assert await rows(conn, f"SELECT event_type, count(*) FROM {table} GROUP BY 1") == [("order.paid", 20)]


async def test_what_cannot_be_read_to_be_sent_goes_back(
    crew: Worker, shop: Shop, conn: Conn, database_url: str
) -> None:
    """The connection is lost between claim and send: memory must not hold what nobody will send."""
    with Sink() as sink:
        await shop.endpoint(sink.url())
        sent = await shop.send(3)
        dispatched = await fan_out(shop)
        crew.db._pool.timeout = 0.3
        async with await psycopg.AsyncConnection.connect(database_url) as blocker:
            await blocker.execute("LOCK TABLE live IN ACCESS EXCLUSIVE MODE")
            delivering = asyncio.ensure_future(crew.deliverer.deliver(dispatched))
            await until_true(conn, "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)", 10)
            # Whoever waits for a connection comes before the next statement of the delivery.
            size = crew.settings.database_max_conns
            taken = [asyncio.ensure_future(crew.db._pool.getconn(timeout=10)) for _ in range(size)]
            await asyncio.sleep(0)
        with pytest.raises(psycopg.OperationalError):
            await delivering
        for one in taken:
            await crew.db._pool.putconn(await one)
        await crew.recorder.flush()
        assert len(crew.holdings) == 0
        await until_true(conn, HOLDS_NOTHING, 5)
        (lane,) = await handed_out(conn)
        await crew.holder.hold([lane])
        await until(lambda: set(sink.events()) == set(sent), 10)
        await until_true(conn, DONE, 10)


@pytest.mark.parametrize("state", ["40P01", "XX000"])
async def test_a_take_whose_commit_fails_leaves_nothing_in_memory(
    crew: Worker, shop: Shop, conn: Conn, state: str
) -> None:
    with Sink() as sink:
        await shop.endpoint(sink.url())
        sent = await shop.send(3)
        await fan_out(shop, window=0)
        await conn.execute(
            f"""CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql
                AS $$ BEGIN RAISE EXCEPTION 'of the test' USING ERRCODE = '{state}'; END $$""".encode()
        )
        await conn.execute(
            "CREATE CONSTRAINT TRIGGER fail AFTER UPDATE ON live DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW WHEN (new.owner IS NOT NULL) EXECUTE FUNCTION fail()"
        )
        for lane in await handed_out(conn):
            await crew.holder.hold([lane])
        await until(lambda: not crew.holder._tasks, 10)
        assert len(crew.holdings) == 0
        assert not sink.arrivals
        await conn.execute("DROP TRIGGER fail ON live")
        for _ in range(3):
            await crew.beats.beat()
            for lane in await handed_out(conn):
                await crew.holder.hold([lane])
        await until(lambda: set(sink.events()) == set(sent), 10)
        await until_true(conn, DONE, 10)


async def test_an_endpoint_that_is_gone_cancels_and_a_delivery_that_killed_five_workers_dies(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    with Sink() as sink:
        gone, other = await shop.endpoint(sink.url("/gone")), await shop.endpoint(sink.url("/other"))
        await shop.send(1)
        dispatched = await fan_out(shop)
        async with shop.web.db.transaction() as own:
            await endpoints.delete(own, shop.tenant_id, gone)
        await rows(conn, "UPDATE live SET lost = 5 WHERE endpoint_id = %s RETURNING 1", (other,))
        await crew.deliverer.deliver(dispatched)
        await until_true(conn, DONE, 10)
        assert sorted(await rows(conn, "SELECT endpoint_id, state, reason, attempts FROM history")) == sorted(
            [(gone, "cancelled", "endpoint_deleted", 0), (other, "dead", "worker_lost", 0)]
        )
        assert not sink.arrivals


async def test_what_was_claimed_before_a_doubt_is_not_sent(crew: Worker, shop: Shop, conn: Conn) -> None:
    with Sink() as sink:
        await shop.endpoint(sink.url())
        mine = await claimed(shop, conn, 2, worker=crew.beats.no)
        crew.holdings.enter((one.id, one.fence) for one in mine)
        generation = crew.beats.generation
        crew.beats.distrust()
        await crew.deliverer.ship(mine, generation=generation)
        await crew.recorder.flush()
        assert not sink.arrivals
        assert await rows(conn, "SELECT count(*) FROM live WHERE owner IS NULL AND due_at <= now()") == [(2,)]
        assert len(crew.holdings) == 0


async def test_over_the_width_of_an_endpoint_goes_back_into_its_lane(crew: Worker, shop: Shop, conn: Conn) -> None:
    with Sink(lambda _: Answer(delay_s=0.5)) as sink:
        await shop.endpoint(sink.url())
        await shop.send(50)
        await crew.deliverer.deliver(await fan_out(shop))
        await until(lambda: len(sink.arrivals) == 2, 10)
        await until_true(conn, "SELECT count(*) = 48 FROM live WHERE due_at <= now() AND attempts = 0", 5)
        assert await rows(conn, "SELECT ready_at <= now() FROM lanes") == [(True,)]
        await until_true(conn, "SELECT count(*) = 2 FROM history", 5)


async def test_a_stopping_worker_waits_for_no_room_and_gives_back(settings: Settings, shop: Shop, conn: Conn) -> None:
    with Sink(lambda _: Answer(delay_s=0.3)) as sink:
        await shop.endpoint(sink.url())
        async with open_crew(settings.model_copy(update={"worker_concurrency": 4})) as crew:
            await shop.send(4)
            dispatched = await fan_out(shop)
            await crew.deliverer.deliver(dispatched[:2])
            await until(lambda: len(sink.arrivals) == 2, 10)
            await crew.begin_stop()
            async with asyncio.timeout(2):
                await crew.deliverer.deliver(dispatched[2:])
            await crew.recorder.flush()
        assert await rows(conn, "SELECT state, count(*) FROM history GROUP BY 1") == [("delivered", 2)]
        assert await rows(conn, "SELECT count(*) FROM live WHERE owner IS NULL AND due_at IS NOT NULL") == [(2,)]
    assert len(sink.arrivals) == 2


async def test_a_lane_message_under_an_old_fence_or_for_a_held_lane_does_nothing(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    with Sink() as sink:
        await shop.endpoint(sink.url())
        await shop.send(1)
        await fan_out(shop, window=0)
        (lane,) = await handed_out(conn)
        assert await hold(conn, [lane], worker=99)
        await crew.holder.hold([lane])
        await crew.holder.hold([replace(lane, fence=lane.fence ^ 1)])
        assert not crew.holder._tasks
        assert not crew.holdings.lanes
        assert not sink.arrivals


@pytest.mark.parametrize("table", ["secrets", "credentials"])
async def test_a_secret_that_cannot_be_read_holds_up_its_own_endpoint_only(
    crew: Worker, shop: Shop, conn: Conn, table: str
) -> None:
    with Sink() as sink:
        for path in ("/lost", "/good"):
            await shop.endpoint(
                sink.url(path), secret_headers={"X-Token": "of the customer"}, retry_schedule=[3_600_000]
            )
        lost = SQL(
            "UPDATE {} SET sealed = %s, key_id = %s WHERE {} = (SELECT id FROM endpoints WHERE url LIKE '%%/lost')"
        )
        owner = Identifier("owner_id" if table == "secrets" else "endpoint_id")
        await conn.execute(lost.format(Identifier(table), owner), (b"0" * 40, b"of a key"))
        await shop.send(2)
        await crew.deliverer.deliver(await fan_out(shop))
        await until_true(conn, "SELECT count(*) = 4 FROM attempts")
        assert {arrival.path for arrival in sink.arrivals} == {"/good"}
    tried = await rows(conn, "SELECT DISTINCT reason, error ~ 'SIGNING_KEY' FROM attempts WHERE reason <> 'ok'")
    assert tried == [("auth_failed", True)]
    assert await rows(conn, "SELECT count(*) FROM live") == [(2,)]  # they are tried again
