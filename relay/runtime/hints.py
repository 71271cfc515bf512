"""Hints that a worker sends and does not wait for; without Redis they are not missed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from uuid import UUID

from relay.queue import UNREACHABLE, Hint, Queue


class Hints:
    """One per worker process."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._sending: set[asyncio.Task[None]] = set()

    def announce_dead(self, ids: list[UUID]) -> None:
        """Say that these deliveries are dead letters now."""
        self._send(self._queue.enqueue([Hint("dead_letter", {"ids": [id.hex for id in ids]})]))

    def wake_clock(self) -> None:
        """Let the leading clock look now instead of at its next tick."""
        self._send(self._queue.wake_clock())

    def _send(self, command: Coroutine[Any, Any, None]) -> None:
        async def send() -> None:
            with suppress(*UNREACHABLE):
                await command

        task = asyncio.get_running_loop().create_task(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
