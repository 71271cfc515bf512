"""Chores: what the leading clock does now and then. Whoever has some hands them to the clock."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay.db import LOST, REPEATABLE
from relay.tasks import cancel

#: What a chore may take of the time, at most: one part in so many.
_REST = 50
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Chore:
    """Something the leader does every `every_s` seconds, and for at most 2 % of its time; but once in `at_latest_s`.

    It must be correct if two do it at once, and short: the clock waits for it. When it raises, its turn is over.
    """

    do: Callable[[], Awaitable[None]]
    every_s: float
    at_latest_s: float = math.inf
    _next_at: float = field(default=0.0, init=False)

    def is_due(self, now: float) -> bool:
        """Whether its time has come; `now` is the event loop's time."""
        return now >= self._next_at

    async def run_if_due(self, now: float) -> None:
        """Do it if its time has come; `now` is the event loop's time."""
        if not self.is_due(now):
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._next_at = began + self.every_s
        await self.do()
        rest_s = min(_REST * (loop.time() - began), self.at_latest_s)
        self._next_at = began + max(self.every_s, rest_s)

    async def end(self) -> None:
        """The clock ends; this is done or not begun."""


@dataclass(slots=True)
class Aside:
    """A chore that the clock begins and does not wait for: lanes start on time however long it takes.

    One turn begins after the other has ended. It must be correct if two do it at once, and when it fails it has had its
    turn.
    """

    do: Callable[[], Awaitable[None]]
    every_s: float
    _chore: Chore = field(init=False)
    _doing: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._chore = Chore(self.do, self.every_s)

    async def run_if_due(self, now: float) -> None:
        """Begin it if its time has come; `now` is the event loop's time."""
        if self._chore.is_due(now) and (self._doing is None or self._doing.done()):
            self._doing = asyncio.create_task(self._do(now))

    async def end(self) -> None:
        """Cancel what is being done."""
        await cancel([self._doing] if self._doing else [])

    async def _do(self, now: float) -> None:
        try:
            await self._chore.run_if_due(now)
        except (*REPEATABLE, *LOST) as cause:
            _LOG.info("a chore is left for its next turn: %s", cause)
        except Exception:
            _LOG.exception("a chore failed and is left for its next turn")
