"""Counting, for everyone to read: queues and endpoints, and what the leader says of the whole system."""

from __future__ import annotations

import asyncio

from relay.chores import Chore
from relay.clock.due import Work
from relay.db import Database
from relay.insight import counts, stats
from relay.insight.leader import LeaderGauges

_SETTLES_S = 10.0
_COUNT_ANYWAY_S = 30.0


class Counting:
    """One per clock; a system at rest is counted now and then only."""

    def __init__(self, db: Database, gauges: LeaderGauges, *, retention_days: int) -> None:
        self._db = db
        self._gauges = gauges
        self._retention_days = retention_days
        self._newest_n = 0
        self._moved_at = 0.0
        self._counted_at = -_COUNT_ANYWAY_S

    def chores(self) -> list[Chore]:
        """What the clock is to do, and how often."""
        return [Chore(self.count, every_s=2.0), Chore(self.survey, every_s=10.0)]

    def saw(self, work: Work) -> None:
        """Hear what the clock has just seen: while something moves, counts change."""
        if work.moved or work.newest_n != self._newest_n:
            self._newest_n = work.newest_n
            self._moved_at = asyncio.get_running_loop().time()

    async def count(self) -> None:
        """Count while something moves, and now and then all the same; counts of a system at rest stay right by themselves."""
        now = asyncio.get_running_loop().time()
        async with self._db.transaction() as conn:
            if now - self._moved_at < _SETTLES_S or now - self._counted_at >= _COUNT_ANYWAY_S:
                await counts.refresh(conn)
                await stats.refresh(conn)
                self._counted_at = now
            else:
                await counts.confirm(conn)
            await self._gauges.measure(conn)

    async def survey(self) -> None:
        """Say what needs no look every second."""
        async with self._db.connection() as conn:
            await self._gauges.survey(conn, keep_days=self._retention_days)
