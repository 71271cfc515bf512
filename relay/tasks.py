"""Tasks of the event loop that go on for ever, and how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from relay.db import LOST
from relay.errors import RelayError

_AGAIN_S = 2.0
_CANCEL_AGAIN_S = 1.0
_LOG = logging.getLogger(__name__)


async def every(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    """Do it every so many seconds, for ever; when it failed, again after 2 s at the latest."""
    while True:
        pause_s = min(seconds, _AGAIN_S)
        try:
            await do()
            pause_s = seconds
        except (*LOST, RelayError) as cause:
            _LOG.warning("trying again in %s s: %s", pause_s, cause)
        except Exception:
            _LOG.exception("trying again in %s s", pause_s)
        await asyncio.sleep(pause_s)


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """End these tasks; one that goes on is cancelled again, for the libraries below may swallow a cancellation."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
