"""The doorbell: tells workers that the outbox has work. No request ever waits for it, whatever Redis does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from relay.queue import UNREACHABLE, Queue

_QUIET_S = 1.0
_TIMEOUT_S = 0.1
_LOG = logging.getLogger(__name__)


class Doorbell:
    """Rings for outbox shards from a task of its own. Without Redis it tries once a second; the clock looks anyway."""

    def __init__(self, queue: Queue, *, on_failure: Callable[[], None] = lambda: None) -> None:
        self._queue = queue
        self._on_failure = on_failure
        self._pending: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        self._quiet_until = 0.0

    def ring(self, shards: frozenset[int]) -> None:
        """Ring soon; what comes while a ring is under way goes with the next one."""
        self._pending |= shards
        loop = asyncio.get_running_loop()
        if loop.time() < self._quiet_until:
            self._pending.clear()
        elif self._task is None:
            self._task = loop.create_task(self._run())

    async def close(self) -> None:
        """Wait for the ring that is under way; its connection must be back before the queue is closed."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._pending:
                shards, self._pending = self._pending, set()
                await asyncio.wait_for(self._queue.ring(sorted(shards)), _TIMEOUT_S)
        except UNREACHABLE as cause:
            self._quiet_until = asyncio.get_running_loop().time() + _QUIET_S
            self._on_failure()
            _LOG.warning("the doorbell did not ring, the clock will find the work: %s", cause or type(cause).__name__)
        finally:
            self._task = None
