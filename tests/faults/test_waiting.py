"""What waits moves: a backlog drains fast and in order, a black hole holds up nobody, and no wake-up is needed."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.db import Conn
from relay.delivery.fanout import FanOut
from relay.ids import Uuid7
from relay.intake import outbox
from relay.intake.collector import Collector
from tests.faults.conftest import StartWorker
from tests.running import until, until_true
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink


async def test_a_backlog_of_one_endpoint_drains_fast_and_before_what_is_new(
    shop: Shop, start_worker: StartWorker
) -> None:
    with Sink() as sink:
        await shop.endpoint(sink.url())
        backlog = await shop.send(5000, at_once=500)
        async for dispatched in FanOut(shop.web.db, ids=Uuid7(), window=0).drain(list(outbox.SHARDS)):
            assert not dispatched
        start_worker()
        await until(lambda: len(sink.arrivals) > 500, 15, what="the first arrivals")
        (new,) = await shop.send(1)
        await until(lambda: len(sink.events()) == 5001, 20, what="every arrival")
    assert set(sink.events()) == {*backlog, new}
    first, last = sink.arrivals[0].at, sink.arrivals[-1].at
    assert 5000 / (last - first) > 500
    place = [arrival.event_id for arrival in sink.arrivals].index(new)
    assert place > 4700, "new before what waited"


async def test_endpoints_that_never_answer_hold_up_nobody(shop: Shop, start_worker: StartWorker) -> None:
    def answer(arrival: Arrival) -> Answer:
        return Answer(delay_s=60.0 if arrival.path.startswith("/hole") else 0.0)

    with Sink(answer) as sink:
        for n in range(20):
            await shop.endpoint(sink.url(f"/hole/{n}"), event_types=["hole"])
        await shop.endpoint(sink.url("/good"), event_types=["good"])
        process = start_worker()
        await shop.send(40, type="hole")
        await until(lambda: len(sink.arrivals) >= 40, 15, what="requests to the holes")
        accepted_at: dict[str, float] = {}
        for _ in range(200):
            (id,) = await shop.send(1, type="good")
            accepted_at[id] = time.monotonic()
            await asyncio.sleep(0.01)
        await until(lambda: len(sink.events("/good")) == 200, 15, what="the good endpoint's arrivals")
        took = sorted(a.at - accepted_at[a.event_id] for a in sink.arrivals if a.path == "/good")
        assert took[197] < 1.0
        before, began = process.cpu_s(), time.monotonic()
        await until(lambda: time.monotonic() - began > 2.0)
        assert (process.cpu_s() - before) / 2.0 < 0.3, "the worker is busy although all it can do is wait"


async def test_without_a_bell_the_clock_finds_the_work(shop: Shop, start_worker: StartWorker) -> None:
    with Sink() as sink:
        await shop.endpoint(sink.url())
        start_worker()
        (first,) = await shop.send(1)
        await until(lambda: first in sink.events(), 20, what="the first arrival")
        web = shop.web
        for ring in (lambda _: None, web.doorbell.ring):
            web.collector = Collector(web.db, ids=web.ids, ring=ring)
            await web.queue.ring(list(outbox.SHARDS))
            await web.queue._redis.delete("dramatiq:fanout", "dramatiq:fanout.msgs")
            began = time.monotonic()
            (id,) = await shop.send(1)
            await until(lambda id=id: id in sink.events(), 5, what="the arrival")
            assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("count", [30])
async def test_without_a_clock_actors_alone_deliver(
    shop: Shop, start_worker: StartWorker, conn: Conn, count: int
) -> None:
    await conn.execute("INSERT INTO leases (name, holder, until) VALUES ('clock', 1, now() + interval '1 day')")
    with Sink() as sink:
        await shop.endpoint(sink.url())
        start_worker()
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM workers)")
        for n in range(count):
            sent = await shop.send(1 + n % 3)
            await until(lambda sent=sent: set(sent) <= set(sink.events()), 5, what=f"arrival {n}")
            await asyncio.sleep(0.01)
    rows = await conn.execute("SELECT holder FROM leases WHERE name = 'clock'")
    assert await rows.fetchall() == [(1,)]
