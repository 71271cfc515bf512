"""A pump: a few tasks that work as long as something waits. What comes while all are at it is taken by who is done first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sized


class Pump:
    """Does `work` again and again while `waiting` holds something, in at most `at_once` tasks.

    `work` takes something off `waiting` before it waits for anything. What it raises ends its task, and is lost.
    """

    def __init__(self, work: Callable[[], Awaitable[None]], waiting: Sized, *, at_once: int) -> None:
        self._work = work
        self._waiting = waiting
        self._at_once = at_once
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Something waits now: unless all are at work, one more begins, in the next turn of the event loop."""
        if len(self._tasks) < self._at_once:
            self._tasks.add(asyncio.get_running_loop().create_task(self._run()))

    async def _run(self) -> None:
        """The task stops counting while it runs: a callback would come a moment later, and who wakes in it be left alone."""
        try:
            await asyncio.sleep(0)
            while self._waiting:
                await self._work()
        finally:
            self._tasks -= {asyncio.current_task()}
