"""Letting go of lanes: those whose time is over in one moment are let go in one transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.db import REPEATABLE, Database
from relay.delivery import lanes
from relay.delivery.beats import Beats
from relay.delivery.lanes import Lane
from relay.pump import Pump

_BATCH = 100


@dataclass(frozen=True, slots=True)
class _Request:
    lane: Lane
    per_s: float | None
    done: asyncio.Future[None]


class Releaser:
    """Lets go of lanes for their holders."""

    def __init__(self, db: Database, *, beats: Beats, on_waiting: Callable[[], None]) -> None:
        """`on_waiting` is called when a lane was let go with deliveries that are due."""
        self._db = db
        self._beats = beats
        self._on_waiting = on_waiting
        self._waiting: deque[_Request] = deque()
        self._pump = Pump(self._release_batch, self._waiting, at_once=1)

    async def release(self, lane: Lane, *, per_s: float | None = None) -> None:
        """Let go of a lane unless it is another's by now; see `lanes.release` for `per_s`. Raises what Postgres does."""
        request = _Request(lane, per_s, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._pump.wake()
        await request.done

    async def _release_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        try:
            due = await self._release(batch)
        except BaseException as cause:
            for request in batch:
                if not request.done.done():
                    request.done.set_exception(cause)
            if not isinstance(cause, Exception):
                raise
            return
        for request in batch:
            if not request.done.done():
                request.done.set_result(None)
        if due:
            self._on_waiting()

    async def _release(self, batch: Sequence[_Request]) -> list[Lane]:
        paces = {request.lane: request.per_s for request in batch if request.per_s is not None}
        while True:
            try:
                async with self._db.transaction() as conn:
                    ours = await lanes.lock_to_release(conn, [request.lane for request in batch], worker=self._beats.no)
                    return await lanes.release(conn, ours, per_s=paces) if ours else []
            except REPEATABLE:
                continue
