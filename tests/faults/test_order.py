"""A FIFO lane keeps its order through retries and kills, and what repeats is only ever the last one sent."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from itertools import pairwise

from relay.catalog.policies import FIFOHeadPolicy
from relay.db import Conn
from relay.recovery.retry import retry
from tests.faults.conftest import StartWorker
from tests.running import until, until_true
from tests.scale import sized, tell
from tests.shop import Shop, accepted
from tests.sink import Answer, Arrival, Sink

DONE = "SELECT NOT EXISTS (SELECT 1 FROM live) AND NOT EXISTS (SELECT 1 FROM outbox)"
LANES = 20
KEYED = {"fifo": True, "fifo_partition_key": "$.key"}
#: At full size a worker is killed every 5 s until all has arrived.
KILLS = sized(1_000, 2)
KILL_EVERY_S = sized(5, 0)
PATIENT = {"retry_schedule": [50, 50, 100], "max_retries": 100, "circuit_threshold": 1000}


async def send(shop: Shop, *, each: int) -> None:
    """Accept `each` events for each lane, in turn."""
    for n in range(each):
        events = [shop.event(json.dumps({"key": f"lane {lane}", "n": n}).encode()) for lane in range(LANES)]
        accepted(await shop.accept(*events))


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
    each = sized(500, 25)
    chance = random.Random(1)

    def answer(_: Arrival) -> Answer:
        return Answer(status=500 if chance.random() < 0.2 else 200)

    with Sink(answer) as sink:
        await shop.endpoint(sink.url(), **KEYED, **PATIENT)
        await send(shop, each=each)
        workers = [start_worker(), start_worker()]
        kills = 0
        while kills < KILLS and len(sink.events()) < LANES * each:
            enough = min(len(sink.events()) + each, LANES * each)
            await asyncio.sleep(KILL_EVERY_S)
            await until(lambda enough=enough: len(sink.events()) >= enough, 40, what="arrivals")
            workers[kills % 2].kill()
            workers[kills % 2].start()
            kills += 1
        await until_true(conn, DONE, 90 + each)
    tell(f"{LANES} lanes of {each}, {kills} kills, {len(sink.arrivals)} requests, breaks of order: {len(breaks(sink))}")
    assert breaks(sink) == []
    lanes = by_lane(sink)
    assert len(lanes) == LANES
    for arrivals in lanes.values():
        assert sorted({n for n, _ in arrivals}) == list(range(each))
        assert all(int(arrival.headers["x-relay-sequence"]) == n + 1 for n, arrival in arrivals)


async def test_a_lane_goes_on_as_fast_as_its_answers_come(shop: Shop, conn: Conn, start_worker: StartWorker) -> None:
    rtt_s, each = 0.02, sized(500, 60)
    with Sink(lambda _: Answer(delay_s=rtt_s)) as sink:
        await shop.endpoint(sink.url(), **KEYED)
        await send(shop, each=each)
        start_worker()
        start_worker()
        await until_true(conn, DONE, 60)
    assert breaks(sink) == []
    rates = [(len(a) - 1) / (a[-1][1].at - a[0][1].at) * rtt_s for a in by_lane(sink).values()]
    tell(f"{LANES} lanes, RTT 20 ms: {min(rates):.2f} to {max(rates):.2f} of 1/RTT")
    assert min(rates) > 0.7 / 5


async def test_a_dead_head_blocks_its_lane_until_it_is_repeated_in_its_place(
    shop: Shop, conn: Conn, start_worker: StartWorker
) -> None:
    ill = True
    with Sink(lambda _: Answer(status=500 if ill else 200)) as sink:
        await shop.endpoint(
            sink.url(), fifo=True, fifo_on_dead=FIFOHeadPolicy.BLOCK, max_retries=0, circuit_threshold=1000
        )
        await shop.send(3)
        start_worker()
        await until_true(conn, "SELECT count(*) = 1 FROM lanes WHERE blocked_by IS NOT NULL", 20)
        await until_true(conn, "SELECT count(*) = 2 AND count(owner) = 0 FROM live", 10)
        assert len(sink.arrivals) == 1
        ill = False
        rows = await conn.execute("SELECT id FROM history WHERE state = 'dead'")
        ((dead,),) = await rows.fetchall()
        async with shop.web.db.transaction() as own:
            await retry(own, shop.tenant_id, dead, ids=shop.web.ids)
        await until(lambda: len(sink.arrivals) == 4, 20, what="the whole lane")
        await until_true(conn, DONE, 10)
    assert [json.loads(one.body)["n"] for one in sink.arrivals] == [0, 0, 1, 2]
    assert [one.headers["x-relay-sequence"] for one in sink.arrivals] == ["1", "1", "2", "3"]
    assert sink.arrivals[1].headers["relay-replay-of"] == str(dead)
