"""A worker's side of the feed: writes what was recorded for those who watch, and nothing for those who do not.

Nobody waits for it. What Redis does not take within a second is lost, and who watches is told so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from relay.delivery.gates import Closed, Opened
from relay.delivery.record import Recorded
from relay.feed import wire
from relay.feed.lines import Line, of_circuit, of_outcome
from relay.queue import UNREACHABLE
from relay.redis_clients import Limits, asyncio_client
from relay.tasks import cancel

_GATHER_S = 0.1
_TIMEOUT_S = 1.0
MAX_KEPT = 5000


class Publisher:
    """Hears by plain calls, works in a task of its own."""

    def __init__(self, redis_url: str, *, now: Callable[[], float] = time.time) -> None:
        """`now` is the time that lines show, in seconds since 1970. Holds one connection, from the first line on."""
        self._redis = asyncio_client(redis_url, Limits(1, timeout_s=_TIMEOUT_S))
        self._now = now
        self._watched: frozenset[UUID] = frozenset()
        self._fresh_until = float("-inf")
        self._lines: list[Line] = []
        self._lost: set[UUID] = set()
        self._working: asyncio.Task[None] | None = None

    def hear(self, batch: Sequence[Recorded]) -> None:
        """Take in recorded outcomes. While nobody watches this is one comparison."""
        if self._nobody_watches():
            return
        mine = [one for one in batch if self._may_be_watched(one.delivery.tenant_id)]
        self._take([of_outcome(one, now_s=self._now()) for one in mine])

    def hear_circuits(self, moved: Sequence[Opened | Closed]) -> None:
        """Take in circuits that have opened or closed."""
        if not self._nobody_watches():
            self._take([of_circuit(one, now_s=self._now()) for one in moved if self._may_be_watched(one.tenant_id)])

    async def close(self) -> None:
        """Write what is there, within a second, and close the connection."""
        if (working := self._working) is not None:
            await asyncio.wait([working], timeout=_TIMEOUT_S)
            await cancel([working])
        await self._redis.aclose()

    def _is_fresh(self) -> bool:
        return time.monotonic() < self._fresh_until

    def _nobody_watches(self) -> bool:
        return not self._watched and self._is_fresh()

    def _may_be_watched(self, tenant_id: UUID) -> bool:
        return tenant_id in self._watched or not self._is_fresh()

    def _take(self, lines: Sequence[Line]) -> None:
        room = MAX_KEPT - len(self._lines)
        self._lines += lines[:room]
        self._lost.update(line.tenant_id for line in lines[room:])
        if self._lines and self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._lines:
                await self._write()
                if self._watched:
                    await asyncio.sleep(_GATHER_S)
        finally:
            self._working = None

    async def _write(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if not self._is_fresh():
                    self._watched = await wire.look(self._redis)
                    self._fresh_until = time.monotonic() + wire.FRESH_S
                await self._write_lines()
        except UNREACHABLE:
            self._lost.update(line.tenant_id for line in self._lines if line.tenant_id in self._watched)
            self._lines.clear()
            self._fresh_until = time.monotonic() + wire.FRESH_S

    async def _write_lines(self) -> None:
        lines, self._lines = self._lines, []
        by_tenant: dict[UUID, list[Line]] = {}
        for line in lines:
            if line.tenant_id in self._watched:
                by_tenant.setdefault(line.tenant_id, []).append(line)
        self._lost &= self._watched
        if by_tenant:
            lost = frozenset(self._lost)
            self._lost |= by_tenant.keys()
            await wire.write(self._redis, by_tenant, lost=lost)
            self._lost -= by_tenant.keys()
