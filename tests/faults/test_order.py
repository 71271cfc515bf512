"""A FIFO lane keeps its order through retries and kills, and what repeats is only ever the last one sent."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from itertools import pairwise

from relay.db import Conn
from tests.faults.conftest import StartWorker
from tests.running import until, until_true
from tests.shop import Shop, accepted
from tests.sink import Answer, Arrival, Sink

DONE = "SELECT NOT EXISTS (SELECT 1 FROM live) AND NOT EXISTS (SELECT 1 FROM outbox)"
LANES = 20


async def send(shop: Shop, *, each: int) -> None:
    """Accept `each` events for each lane, in turn."""
    for n in range(each):
        events = [shop.event(json.dumps({"key": f"lane {lane}", "n": n}).encode()) for lane in range(LANES)]
        accepted(await shop.accept(*events))


async def fifo_endpoint(shop: Shop, conn: Conn, url: str, **fields: object) -> None:
    id = await shop.endpoint(url, **fields)
    await conn.execute("UPDATE endpoints SET fifo = true, fifo_partition_key = '$.key' WHERE id = %s", (id,))
    await conn.execute("UPDATE tenants SET config_version = config_version + 1")


def by_lane(sink: Sink) -> dict[str, list[tuple[int, Arrival]]]:
    lanes: dict[str, list[tuple[int, Arrival]]] = defaultdict(list)
    for arrival in sink.arrivals:
        body = json.loads(arrival.body)
        lanes[body["key"]].append((body["n"], arrival))
    return lanes


def breaks(sink: Sink) -> list[str]:
    """Where an arrival is neither the next of its lane nor the same again."""
    found: list[str] = []
    for key, arrivals in by_lane(sink).items():
        for (before, _), (now, _) in pairwise(arrivals):
            if now not in (before, before + 1):
                found.append(f"{key}: {now} after {before}")
    return found


async def test_lanes_keep_their_order_through_failures_and_kills(
    shop: Shop, conn: Conn, start_worker: StartWorker
) -> None:
    each = 40
    chance = random.Random(1)

    def answer(_: Arrival) -> Answer:
        return Answer(status=500 if chance.random() < 0.2 else 200)

    with Sink(answer) as sink:
        await fifo_endpoint(
            shop, conn, sink.url(), retry_schedule=[50, 50, 100], max_retries=100, circuit_threshold=1000
        )
        await send(shop, each=each)
        workers = [start_worker(), start_worker()]
        for victim in (0, 1):
            seen = len(sink.arrivals)
            await until(lambda seen=seen: len(sink.arrivals) > seen + 100, 30, what="arrivals")
            workers[victim].kill()
            workers[victim].start()
        await until_true(conn, DONE, 90)
    assert breaks(sink) == []
    lanes = by_lane(sink)
    assert len(lanes) == LANES
    for arrivals in lanes.values():
        assert sorted({n for n, _ in arrivals}) == list(range(each))
        assert all(int(arrival.headers["x-relay-sequence"]) == n + 1 for n, arrival in arrivals)


async def test_a_lane_goes_on_as_fast_as_its_answers_come(shop: Shop, conn: Conn, start_worker: StartWorker) -> None:
    rtt_s, each = 0.02, 100
    with Sink(lambda _: Answer(delay_s=rtt_s)) as sink:
        await fifo_endpoint(shop, conn, sink.url())
        await send(shop, each=each)
        start_worker()
        start_worker()
        await until_true(conn, DONE, 60)
    assert breaks(sink) == []
    rates = [(len(a) - 1) / (a[-1][1].at - a[0][1].at) * rtt_s for a in by_lane(sink).values()]
    print(f"share of 1/RTT: {min(rates):.2f} to {max(rates):.2f}")
    assert min(rates) > 0.7 / 5
