"""An endpoint that never answers, and one that takes its time, hold up nobody else, however much waits for them."""

from __future__ import annotations

import asyncio
import time

from tests.delivery.crew import fan_out
from tests.faults.conftest import StartWorker
from tests.running import until
from tests.scale import sized, tell
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

#: For each of the two; `make bench ARGS=blackhole` compares the healthy with and without them.
WAITING = sized(1000, 300)


async def test_the_healthy_get_theirs_beside_a_black_hole_and_a_slow_one(shop: Shop, start_worker: StartWorker) -> None:
    def answer(arrival: Arrival) -> Answer:
        return Answer(delay_s={"/hole": 60.0, "/slow": 2.0}.get(arrival.path, 0.0))

    with Sink(answer) as sink:
        for path in ("/hole", "/slow"):
            await shop.endpoint(sink.url(path), event_types=[path.strip("/")], timeout_ms=30_000)
            await shop.send(WAITING, type=path.strip("/"))
        await fan_out(shop, window=0)
        for n in range(10):
            await shop.endpoint(sink.url(f"/healthy/{n}"), event_types=[f"healthy.{n}"])
        start_worker()
        start_worker()
        await until(lambda: {"/hole", "/slow"} <= sink.by_path().keys(), 20, what="requests to the two")
        accepted_at: dict[str, float] = {}
        for n in range(300):
            (id,) = await shop.send(1, type=f"healthy.{n % 10}")
            accepted_at[id] = time.monotonic()
            await asyncio.sleep(0.01)
        await until(lambda: accepted_at.keys() <= sink.events().keys(), 20, what="the healthy ones' arrivals")
        took = sorted(one.at - accepted_at[one.event_id] for one in sink.arrivals if one.event_id in accepted_at)
        assert sink.by_path()["/slow"] < WAITING, "there was no backlog any more"
    tell(f"of 300 to healthy endpoints 95 % took {took[285]:.3f} s at most, the slowest {took[-1]:.3f} s")
    assert took[285] < 1.0
