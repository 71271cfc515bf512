"""A process starts with the right time, and ends when it is told to, whatever it is doing at that moment."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay import tasks
from relay.intake.accept import Accepted
from relay.runtime import Web, Worker, postgres_time
from relay.settings import Settings
from tests.shop import open_shop

STOP_S = 5.0


async def test_a_clock_that_is_woken_at_the_moment_it_is_cancelled_ends(settings: Settings) -> None:
    worker = Worker(settings)
    await worker.db.open()
    for turns in range(8):
        clock = asyncio.ensure_future(worker.clock.run())
        await asyncio.sleep(0.1)
        worker.clock.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        clock.cancel()
        ended, _ = await asyncio.wait([clock], timeout=STOP_S)
        assert ended, f"cancelled {turns} turns of the loop after it was woken, it goes on"
    await worker.queue.close()
    await worker.db.close()


async def test_no_event_is_stored_at_the_time_of_this_machine_before_that_of_postgres_is_known(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an event had no partition, and since ids only grow, nor had any that came later."""
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + 10 * 365 * 86_400)
    follow = postgres_time.follow

    async def follow_later(*args: object) -> None:
        await asyncio.sleep(0.5)
        await follow(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(postgres_time, "follow", follow_later)
    async with open_shop(settings) as shop:
        for _ in range(2):
            (receipt,) = await shop.accept(shop.event())
            assert isinstance(receipt, Accepted)


async def test_without_postgres_a_web_process_starts_all_the_same_and_asks_again_soon(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_time, "HEALTH_S", 0.2)
    monkeypatch.setattr(tasks, "_AGAIN_S", 0.1)
    web = Web(settings.model_copy(update={"database_url": "postgresql://u@127.0.0.1:1/x"}))
    web.db._pool.timeout = 0.2
    async with asyncio.timeout(5):
        await web.open()
        assert not web.time.known.is_set()
    web.db._pool.conninfo = settings.database_url
    async with asyncio.timeout(20):
        await web.time.known.wait()
    await web.close()
