"""Answers made to hurt: each is a recorded attempt with a reason, the worker's memory stays flat, others get theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from relay.db import Conn
from tests.faults.conftest import StartWorker
from tests.faults.hostile import BEHAVIOURS, BOMB, misbehaving
from tests.running import Running, until, until_so
from tests.scale import sized, tell
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

#: Requests to each behaviour, and how many of them at a time.
REQUESTS = sized(1000, 20)
AT_ONCE = sized(60, 10)
#: Where an answer is waited for in vain: long enough for that many to be connected.
TIMEOUT_MS = sized(400, 100)
MOST_GROWTH = 30 << 20


async def subscribe(shop: Shop, port: int) -> None:
    for name, (_, reason, _) in BEHAVIOURS.items():
        await shop.endpoint(
            f"http://127.0.0.1:{port}/{name}",
            event_types=[name],
            timeout_ms=TIMEOUT_MS if reason == "response_timeout" else 10_000,
            max_retries=0,
            max_concurrency=AT_ONCE,
            circuit_threshold=1_000,
        )


def memory(worker: Running) -> int:
    return sum(member.memory_info().rss for member in worker.family())


@asynccontextmanager
async def watching(worker: Running) -> AsyncIterator[list[int]]:
    """The worker's memory, looked at ten times a second."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            seen.append(memory(worker))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(look())
    yield seen
    task.cancel()


async def beside(shop: Shop, sink: Sink, *, until_done: asyncio.Event) -> list[float]:
    """Send to the neighbour all the while; return how long each took to arrive, in order."""
    accepted_at: dict[str, float] = {}
    while not until_done.is_set():
        (id,) = await shop.send(1, type="neighbour")
        accepted_at[id] = time.monotonic()
        await asyncio.sleep(0.02)
    await until(lambda: accepted_at.keys() <= sink.events("/neighbour").keys(), 20, what="the neighbour's arrivals")
    return sorted(one.at - accepted_at[one.event_id] for one in sink.arrivals if one.event_id in accepted_at)


@dataclass
class Seen:
    """The most memory while something went on, and the time that 95 % of the neighbour's took at most meanwhile."""

    memory: int
    p95_s: float


async def seen_while(shop: Shop, sink: Sink, worker: Running, doing: Awaitable[None], what: str) -> Seen:
    """Do something while the neighbour gets its own."""
    done = asyncio.Event()
    async with watching(worker) as memories:
        neighbours = asyncio.create_task(beside(shop, sink, until_done=done))
        await doing
        done.set()
        took = await neighbours
    seen = Seen(max(memories), took[len(took) * 95 // 100])
    tell(
        f"{what}: {seen.memory / (1 << 20):.1f} MB at most; 95 % of the neighbour's {len(took)} within {seen.p95_s:.3f} s,"
        f" the slowest {took[-1]:.3f} s"
    )
    return seen


async def test_hostile_answers_are_recorded_and_harm_neither_memory_nor_neighbours(
    shop: Shop, conn: Conn, start_worker: StartWorker
) -> None:
    def answer(arrival: Arrival) -> Answer:
        return Answer(delay_s=0.2 if arrival.path == "/warm" else 0.0)

    async def send(types: Iterable[str], ended: int) -> None:
        async def are_recorded() -> bool:
            rows = await conn.execute("SELECT count(*) FROM history WHERE endpoint_id <> %s", (neighbour,))
            return (await rows.fetchall())[0][0] >= ended

        for type in types:
            await shop.send(REQUESTS, type=type)
        await until_so(are_recorded, sized(600, 60))

    every = REQUESTS * len(BEHAVIOURS)
    with Sink(answer) as sink, misbehaving() as port:
        neighbours = await shop.neighbour()
        neighbour = await neighbours.endpoint(sink.url("/neighbour"), event_types=["neighbour"])
        for name in BEHAVIOURS:
            await shop.endpoint(sink.url("/warm"), event_types=[f"warm.{name}"], max_concurrency=AT_ONCE)
        worker = start_worker()
        await neighbours.send(1, type="neighbour")
        await until(lambda: bool(sink.arrivals), 20, what="the first delivery")
        alone = await seen_while(neighbours, sink, worker, asyncio.sleep(sized(5, 1)), "alone")
        polite = send((f"warm.{name}" for name in BEHAVIOURS), every)
        control = await seen_while(neighbours, sink, worker, polite, f"beside {every} polite answers")
        await subscribe(shop, port)
        hostile = await seen_while(
            neighbours,
            sink,
            worker,
            send(BEHAVIOURS, 2 * every),
            f"beside {every} answers, hostile in {len(BEHAVIOURS)} ways",
        )
    tell(f"memory beyond that with as many polite answers: {(hostile.memory - control.memory) / (1 << 20):.1f} MB")
    await check_records(conn)
    assert hostile.memory - control.memory < MOST_GROWTH
    assert hostile.p95_s < max(1.0, 5 * alone.p95_s)


async def check_records(conn: Conn) -> None:
    rows = await conn.execute(
        """SELECT regexp_replace(request_url, '.*/', ''), array_agg(DISTINCT reason || ' ' ||
               CASE reason WHEN 'response_timeout' THEN 0 ELSE coalesce(status, 0) END), count(*),
               bool_and(reason = 'ok' OR error <> ''), max(octet_length(body)), max(length(response_headers::text))
           FROM attempts WHERE request_url NOT LIKE '%/warm' AND request_url NOT LIKE '%/neighbour' GROUP BY 1"""
    )
    every = await rows.fetchall()
    found = {name: (ends, count, told) for name, ends, count, told, *_ in every}
    assert found == {
        name: ([f"{reason} {status or 0}"], REQUESTS, True) for name, (_, reason, status) in BEHAVIOURS.items()
    }
    assert max(body or 0 for *_, body, _ in every) == 16_384
    assert max(headers or 0 for *_, headers in every) < 20_000
    rows = await conn.execute("SELECT DISTINCT body FROM attempts WHERE request_url LIKE '%/bomb'")
    assert await rows.fetchall() == [(BOMB[:16_384],)]
    rows = await conn.execute("SELECT count(*) FROM attempts WHERE request_url LIKE '%/neighbour' AND reason <> 'ok'")
    assert await rows.fetchall() == [(0,)]
