"""A worker process ends when it is told to, whatever it is doing at that moment."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from relay import runtime
from relay.runtime import Worker
from relay.settings import Settings

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


async def test_what_swallows_a_cancellation_is_cancelled_again() -> None:
    async def deaf() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(STOP_S * 10)
        await asyncio.sleep(STOP_S * 10)

    task = asyncio.ensure_future(deaf())
    await asyncio.sleep(0)
    await asyncio.wait_for(runtime._cancel([task]), STOP_S)
    assert task.cancelled()
