"""The slots of a worker process: how many requests it has in flight, of whom, and who comes next when they are all taken."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from relay.delivery.live import TIERS
from relay.delivery.shares import Shares


class Slots:
    """At most `total` requests at once, at most half of them of one tenant; waiting tiers have their turns by share."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._in_flight = 0
        self._of_tenant: Counter[UUID] = Counter()
        self._queues: tuple[deque[asyncio.Future[None]], ...] = tuple(deque() for _ in TIERS)
        self._shares = Shares()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def in_flight(self) -> int:
        """Slots that are taken."""
        return self._in_flight

    @property
    def free(self) -> int:
        """Slots that are not taken."""
        return self._total - self._in_flight

    def left(self, tenant_id: UUID) -> int:
        """How many slots a tenant may take now; 0 or less: none."""
        return min(self.free, (self._total + 1) // 2 - self._of_tenant[tenant_id])

    def take(self, tenant_id: UUID) -> None:
        """Take a slot."""
        self._in_flight += 1
        self._of_tenant[tenant_id] += 1
        self._empty.clear()

    def give(self, tenant_id: UUID) -> None:
        """Give a slot back, and let the next of those who wait come."""
        self._in_flight -= 1
        self._of_tenant[tenant_id] -= 1
        if not self._of_tenant[tenant_id]:
            del self._of_tenant[tenant_id]
        if not self._in_flight:
            self._empty.set()
        self._call_next()

    def close(self) -> None:
        """Have no slots any more, and let nobody wait for one."""
        self._total = 0
        for queue in self._queues:
            while queue:
                _wake(queue.popleft())

    @asynccontextmanager
    async def turn(self, tier: int) -> AsyncIterator[None]:
        """Wait for a free slot and this tier's turn, for the work of the block; when it is over, the next may come.

        There is no wait once there are no slots any more.
        """
        if self._total and (self.free <= 0 or any(self._queues)):
            await self._wait(tier)
        try:
            yield
        finally:
            self._call_next()

    async def _wait(self, tier: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues[tier].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._queues[tier]:
                self._queues[tier].remove(turn)
            self._call_next()
            raise

    async def wait_until_empty(self) -> None:
        """Wait until no slot is taken."""
        await self._empty.wait()

    def _call_next(self) -> None:
        if self.free > 0 and (waiting := [tier for tier, queue in enumerate(self._queues) if queue]):
            _wake(self._queues[self._shares.next(waiting)].popleft())


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
