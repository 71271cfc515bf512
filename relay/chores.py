"""Chores: what the leading clock does now and then. Whoever has some hands them to the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Chore:
    """Something the leader does every `every_s` seconds, and for at most 2 % of its time.

    It must be correct if two do it at once, and short: the clock waits for it. When it raises, its turn is over.
    """

    do: Callable[[], Awaitable[None]]
    every_s: float
    _next_at: float = field(default=0.0, init=False)

    async def run_if_due(self, now: float) -> None:
        """Do it if its time has come; `now` is the event loop's time."""
        if now < self._next_at:
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._next_at = began + self.every_s
        await self.do()
        self._next_at = began + max(self.every_s, 50 * (loop.time() - began))
