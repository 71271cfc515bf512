"""The ledger read again and again beside workers that fail, retry and are killed: what moves is never an offender."""

from __future__ import annotations

import asyncio
import itertools
import time

from relay.db import Conn
from tests.delivery.crew import rows
from tests.faults.conftest import StartWorker
from tests.ledger import offenders
from tests.running import until_true
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

LOAD_S = 8.0


async def test_nothing_is_found_under_load_and_nothing_after_it(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    turns = itertools.count()

    def answer(arrival: Arrival) -> Answer:
        return Answer(503 if arrival.path == "/dead" or next(turns) % 5 == 0 else 200, delay_s=0.01)

    with Sink(answer) as sink:
        for path, fields in (
            ("/flaky", {"retry_schedule": [50, 100, 200]}),
            ("/dead", {"retry_schedule": [20], "max_retries": 1}),
            ("/narrow", {"retry_schedule": [20], "max_concurrency": 1}),
        ):
            await shop.endpoint(sink.url(path), circuit_threshold=1000, **fields)
        first, _ = start_worker(), start_worker()
        readings, end = 0, time.monotonic() + LOAD_S
        loading = asyncio.ensure_future(_load(shop, until=end))
        while time.monotonic() < end:
            assert await offenders(shop.web.db) == {}
            readings += 1
            if readings == 10:
                first.kill()
        await loading
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live) AND NOT EXISTS (SELECT 1 FROM outbox)", 60)
    assert readings > 10
    assert await offenders(shop.web.db) == {}
    assert await rows(conn, "SELECT count(DISTINCT state) FROM history") == [(2,)]


async def _load(shop: Shop, *, until: float) -> None:
    while time.monotonic() < until:
        await shop.send(10)
        await asyncio.sleep(0.2)
