"""A FIFO lane's next head is taken with the record of the last, and never at its expense."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.db import Conn
from relay.runtime import Worker
from relay.settings import Settings
from tests.delivery.crew import fan_out, handed_out, open_crew, rows
from tests.running import until, until_true
from tests.shop import Shop, open_shop
from tests.sink import Answer, Sink

DONE = "SELECT NOT EXISTS (SELECT 1 FROM live)"
XIDS = "SELECT count(DISTINCT xmin::text), count(*) FROM attempts"


@pytest.fixture
async def crew(settings: Settings) -> AsyncIterator[Worker]:
    async with open_crew(settings) as crew:
        yield crew


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def in_one_lane(shop: Shop, crew: Worker, conn: Conn, url: str, count: int, **fields: object) -> list[str]:
    await shop.endpoint(url, fifo=True, **fields)
    sent = await shop.send(count)
    await fan_out(shop)
    for lane in await handed_out(conn):
        await crew.holder.hold([lane])
    return sent


async def test_head_after_head_is_sent_while_the_lane_is_held_and_each_is_taken_by_the_record_before(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    with Sink() as sink:
        sent = await in_one_lane(shop, crew, conn, sink.url(), 10)
        await until_true(conn, DONE, 10)
    assert [one.event_id for one in sink.arrivals] == sent
    await until(lambda: not crew.holder._tasks, 10)
    assert (len(crew.holdings), crew.holdings.lanes, crew.sender.in_flight) == (0, set(), 0)
    assert await rows(conn, XIDS) == [(10, 10)], "one record, and so one transaction, a head"
    assert await rows(conn, "SELECT owner, fence, ready_at FROM lanes WHERE key = 'fifo:'") == [(None, None, None)]


async def test_what_fails_of_the_next_head_does_not_undo_the_record_of_the_last(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    await conn.execute(
        """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql
           AS $$ BEGIN RAISE EXCEPTION 'of the test' USING ERRCODE = '22000'; END $$"""
    )
    await conn.execute(
        """CREATE TRIGGER fail BEFORE UPDATE ON live FOR EACH ROW WHEN (new.owner IS NOT NULL AND new.seq = 2)
           EXECUTE FUNCTION fail()"""
    )
    with Sink() as sink:
        sent = await in_one_lane(shop, crew, conn, sink.url(), 3)
        await until(lambda: not crew.holder._tasks, 10)
        assert [one.event_id for one in sink.arrivals] == sent[:1]
        assert await rows(conn, "SELECT state, attempts FROM history") == [("delivered", 1)]
        assert (len(crew.holdings), crew.sender.in_flight) == (0, 0)
        await conn.execute("DROP TRIGGER fail ON live")
        for _ in range(3):
            await crew.beats.beat()
            for lane in await handed_out(conn):
                await crew.holder.hold([lane])
        await until_true(conn, DONE, 10)
    assert [one.event_id for one in sink.arrivals] == sent


async def test_a_head_that_is_tried_again_soon_is_waited_for_and_nothing_overtakes_it(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    with Sink(lambda one: Answer(500 if one.attempt == 1 else 200)) as sink:
        sent = await in_one_lane(shop, crew, conn, sink.url(), 3, retry_schedule=[50])
        await until_true(conn, DONE, 10)
    assert [one.event_id for one in sink.arrivals] == [id for id in sent for _ in range(2)]


async def test_a_stopping_worker_lets_go_after_the_head_it_sends(settings: Settings, shop: Shop, conn: Conn) -> None:
    with Sink(lambda _: Answer(delay_s=0.3)) as sink:
        async with open_crew(settings) as crew:
            await in_one_lane(shop, crew, conn, sink.url(), 3)
            await until(lambda: len(sink.arrivals) == 1, 10)
        assert len(sink.arrivals) == 1
    assert await rows(conn, "SELECT count(*), count(owner) FROM live") == [(2, 0)]
    assert await rows(conn, "SELECT owner, fence, ready_at <= now() FROM lanes WHERE key = 'fifo:'") == [
        (None, None, True)
    ]
