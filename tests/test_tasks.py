"""Tasks of the event loop end when they are told to."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from relay.tasks import cancel

STOP_S = 5.0


async def test_what_swallows_a_cancellation_is_cancelled_again() -> None:
    async def deaf() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(STOP_S * 10)
        await asyncio.sleep(STOP_S * 10)

    task = asyncio.ensure_future(deaf())
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel([task]), STOP_S)
    assert task.cancelled()
