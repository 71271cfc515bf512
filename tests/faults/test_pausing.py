"""An endpoint under load is paused, resumed, disabled and deleted while real workers are at it."""

from __future__ import annotations

import time

from relay.db import Conn
from relay.delivery import disabling
from relay.delivery.outcomes import Reason
from tests.delivery.crew import rows
from tests.faults.conftest import StartWorker
from tests.rows import insert_waiting
from tests.running import until, until_true
from tests.shop import Shop
from tests.sink import Answer, Sink

STOPS_S = 2.0


async def test_a_pause_stops_within_two_seconds_keeps_everything_and_a_resume_sends_it(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    with Sink(lambda _: Answer(delay_s=0.02)) as sink:
        endpoint = await shop.endpoint(sink.url("/held"))
        await shop.endpoint(sink.url("/other"))
        sent = await shop.send(3000, at_once=500)
        start_worker()
        await until(lambda: len(sink.events("/held")) > 200, 20, what="the first arrivals")
        await shop.pause(endpoint)
        paused_at = time.monotonic()
        sent += await shop.send(500, at_once=500)
        await until(lambda: len(sink.events("/other")) == 3500, 30, what="the other endpoint's arrivals")
        await until(lambda: time.monotonic() > paused_at + STOPS_S + 1.0)
        last_s = max(a.at for a in sink.arrivals if a.path == "/held") - paused_at
        arrived = len(sink.events("/held"))
        print(f"the last arrived {last_s:.2f} s after the pause; {arrived} of 3500 had come")
        assert arrived < 3500
        assert last_s < STOPS_S
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live WHERE owner IS NOT NULL)")
        assert await rows(conn, "SELECT count(*) FROM live") == [(3500 - arrived,)]
        await shop.resume(endpoint)
        await until(lambda: len(sink.events("/held")) == 3500, 30, what="the rest")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)")
    assert sink.events("/held") == dict.fromkeys(sent, 1)


async def test_many_pauses_and_resumes_under_load_lose_nothing_and_send_nothing_twice(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    with Sink() as sink:
        endpoint = await shop.endpoint(sink.url())
        for _ in range(2):
            start_worker()
        await until_true(conn, "SELECT count(*) = 2 FROM workers")
        sent: list[str] = []
        for _ in range(40):
            sent += await shop.send(50)
            await shop.pause(endpoint)
            sent += await shop.send(20)
            await shop.resume(endpoint)
        await until(lambda: len(sink.events()) == len(sent), 30, what="every arrival")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)")
    assert sink.events() == dict.fromkeys(sent, 1)


async def test_what_waits_for_a_deleted_endpoint_is_cancelled_to_the_last(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    with Sink() as sink:
        endpoint = await shop.endpoint(sink.url())
        start_worker()
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM workers)")
        await shop.pause(endpoint)
        await insert_waiting(conn, shop.tenant_id, endpoint, 6_000)
        async with shop.web.db.transaction() as tx:
            await disabling.delete(tx, shop.tenant_id, endpoint)
        await shop.web.hint(shop.web.queue.wake_clock())
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 20)
    assert sink.arrivals == []
    assert await rows(conn, "SELECT state, reason, count(*) FROM history GROUP BY 1, 2") == [
        ("cancelled", Reason.ENDPOINT_DELETED, 6_000)
    ]
