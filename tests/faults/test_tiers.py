"""Priorities: what is urgent overtakes a backlog, and what is not still moves while the urgent is saturated."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from tests.delivery.crew import fan_out
from tests.faults.conftest import StartWorker
from tests.running import until
from tests.shop import Shop, accepted
from tests.sink import Answer, Sink

HIGH, LOW = 1, 10


async def send(shop: Shop, count: int, *, priority: int) -> list[str]:
    events = [shop.event(b'{"priority":%d}' % priority, priority=priority) for _ in range(count)]
    return [str(receipt.id) for receipt in accepted(await shop.accept(*events))]


async def test_an_urgent_event_overtakes_a_backlog_of_its_endpoint(shop: Shop, start_worker: StartWorker) -> None:
    """The bar is a second behind 50 000; here it is five behind a backlog that takes longer than that."""
    with Sink(lambda _: Answer(delay_s=0.05)) as sink:
        await shop.endpoint(sink.url(), max_concurrency=10)
        await shop.send(2500)
        await fan_out(shop, window=0)
        start_worker()
        start_worker()
        await until(lambda: len(sink.arrivals) > 50, 20, what="the first of the backlog")
        waits: list[float] = []
        for _ in range(5):
            (id,) = await send(shop, 1, priority=HIGH)
            sent_at = time.monotonic()
            await until(lambda id=id: id in sink.events(), 5, what="the urgent one")
            waits.append(time.monotonic() - sent_at)
            await asyncio.sleep(0)
        assert len(sink.arrivals) < 2500, "there was no backlog any more"
        print(f"urgent ones waited {max(waits):.3f} s at most")


async def test_the_least_urgent_has_its_share_while_the_urgent_is_saturated(
    shop: Shop, start_worker: StartWorker
) -> None:
    with Sink(lambda _: Answer(delay_s=0.05)) as sink:
        await shop.endpoint(sink.url(), max_concurrency=5)
        await send(shop, 500, priority=HIGH)
        await send(shop, 500, priority=LOW)
        await fan_out(shop, window=0)
        start_worker()
        start_worker()
        await until(lambda: len(sink.arrivals) >= 400, 30, what="arrivals")
        of = Counter(b'"priority":10' in arrival.body for arrival in sink.arrivals[100:400])
    print(f"share of the low tier: {of[True] / 300:.2f}")
    assert 0.1 <= of[True] / 300 <= 0.5
