"""Traffic at a fixed rate: a request leaves when it is due, whatever became of those before it."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import count
from time import monotonic

from bench.connections import Client, connected
from bench.plan import Load

_MOST_CONNECTIONS = 512


class OpenLoop:
    """Sends at the plan's rate and remembers by how much each request left after it was due.

    A request that finds no free connection gets a new one, up to a number that only a system at a standstill reaches.
    """

    def __init__(self, load: Load) -> None:
        self.late_ms: list[float] = []
        self._load = load
        self._free: list[Client] = []
        self._owed: deque[tuple[float, range]] = deque()
        self._connections = 0
        self._over = False

    async def run(self) -> None:
        """Send until the plan is through and every request is answered."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.plan.clients):
                self._connect(group)
            await self._keep_pace(group, per_s=self._load.plan.rate or 1.0)
            self._over = True
            for client in self._free:
                client.end()
        if self._owed:
            self._load.statuses["not sent"] += len(self._owed)

    async def _keep_pace(self, group: asyncio.TaskGroup, *, per_s: float) -> None:
        began = monotonic()
        for turn in count():
            due = began + turn / per_s
            if (wait_s := due - monotonic()) > 0:
                await asyncio.sleep(wait_s)
            if not (numbers := self._load.take()):
                return
            self._leave(group, due, numbers)

    def _leave(self, group: asyncio.TaskGroup, due: float, numbers: range) -> None:
        while self._free:
            client = self._free.pop()
            if client.is_open:
                self._send(client, due, numbers)
                return
        self._owed.append((due, numbers))
        if self._connections < _MOST_CONNECTIONS:
            self._connect(group)

    def _send(self, client: Client, due: float, numbers: range) -> None:
        self.late_ms.append(max(0.0, monotonic() - due) * 1000)
        client.send(numbers)

    def _connect(self, group: asyncio.TaskGroup) -> None:
        self._connections += 1
        group.create_task(self._connection())

    async def _connection(self) -> None:
        if client := await connected(self._load, self._take):
            await client.watch()
        self._connections -= 1

    def _take(self, client: Client) -> None:
        """Give a free connection what is due, and keep it for what will be."""
        if not client.is_open:
            return
        if self._owed:
            self._send(client, *self._owed.popleft())
        elif self._over:
            client.end()
        else:
            self._free.append(client)
