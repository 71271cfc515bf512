"""An answer that kills the worker that reads it is given up after five workers, and takes nobody else with it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from relay.db import Conn
from relay.settings import Settings
from tests.delivery.crew import fan_out
from tests.running import CHECKOUT, Running, environment, until_so
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

#: In the suite the delivery has killed three workers before; each more takes its silence of 10 s.
KILLED_BEFORE = 3


@asynccontextmanager
async def supervised(settings: Settings, folder: Path) -> AsyncIterator[list[Running]]:
    """Two workers that are started again whenever they die, as a supervisor does."""
    argv = [sys.executable, "-m", "dramatiq", "tests.faults.deadly", "--processes", "1", "--threads", "8"]
    env = environment(settings, PYTHONPATH=str(CHECKOUT))
    workers = [Running(argv, env, folder / f"deadly-{n}.log") for n in range(2)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            print(worker.text())


async def test_a_deadly_answer_ends_as_worker_lost_and_its_neighbours_arrive(
    shop: Shop, conn: Conn, settings: Settings, tmp_path: Path
) -> None:
    def answer(arrival: Arrival) -> Answer:
        if arrival.path == "/deadly":
            return Answer(headers={"X-Deadly": "yes"})
        return Answer(delay_s=0.3)

    with Sink(answer) as sink:
        await shop.endpoint(sink.url("/deadly"), event_types=["deadly"])
        await shop.endpoint(sink.url("/neighbour"), event_types=["neighbour"], max_concurrency=5)
        sent = await shop.send(100, type="neighbour")
        (poison,) = await shop.send(1, type="deadly")
        await fan_out(shop, window=0)
        await conn.execute("UPDATE live SET lost = %s WHERE event_id = %s", (KILLED_BEFORE, poison))
        async with supervised(settings, tmp_path) as workers:
            deaths = 0

            async def over() -> bool:
                nonlocal deaths
                for worker in workers:
                    if worker.process.poll() is not None:
                        deaths += 1
                        worker.start()
                rows = await conn.execute("SELECT count(*) FROM history")
                return (await rows.fetchall())[0][0] == 101

            await until_so(over, 120)
            ends = await conn.execute(
                "SELECT state, reason, count(*), max(attempts) FROM history GROUP BY 1, 2 ORDER BY 1"
            )
            assert await ends.fetchall() == [("dead", "worker_lost", 1, 0), ("delivered", "ok", 100, 1)]
            assert set(sink.events("/neighbour")) == set(sent)
            print(f"{deaths} workers died")
