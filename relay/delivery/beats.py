"""Worker processes and their beats: ownership is by liveness, not by time.

A process beats every 2 s. What a process silent for 10 s owned goes back. A process that could not beat for 8 s starts no
send, and after such a gap, or when it was given up, it begins again under a new number.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from uuid import UUID

from relay.db import LOST, Conn, Database
from relay.delivery import lanes, live
from relay.delivery.holdings import Holdings
from relay.ids import fence

BEAT_S = 2.0
SILENT_S = 10.0
FRESH_S = 8.0
_LOG = logging.getLogger(__name__)


class Beats:
    """This process's number, its generation, and whether it may send."""

    def __init__(self, db: Database, holdings: Holdings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._holdings = holdings
        self._clock = clock
        self._last_beat = -FRESH_S
        self._started_at: object = None
        self._unknown: set[tuple[UUID, int]] = set()
        self._unknown_lanes: set[int] = set()
        self.no = 0
        self.generation = 0
        self._has_number = asyncio.Event()

    def may_send(self, generation: int) -> bool:
        """True while claims of that generation are still ours and the last beat began less than 8 s ago."""
        return generation == self.generation and self._clock() - self._last_beat < FRESH_S

    def distrust(self) -> None:
        """A connection was lost: Postgres may have restarted and forgotten claims. What was not begun is dropped."""
        self.generation += 1

    async def ready(self) -> None:
        """Wait until this process has a number to claim under."""
        await self._has_number.wait()

    async def _begin(self) -> None:
        """Take a new number, committed before the first claim under it."""
        began = self._clock()
        no = fence()
        async with self._db.connection() as conn:
            await conn.execute(
                "INSERT INTO workers (no, name) VALUES (%s, %s)", (no, f"{socket.gethostname()}:{os.getpid()}")
            )
        self.no = no
        self.generation += 1
        self._last_beat = began
        self._has_number.set()

    async def beat(self) -> None:
        """Beat once; give back what Postgres thinks is ours and memory has not known at two beats running."""
        if self.no == 0:
            return await self._begin()
        began = self._clock()
        try:
            async with self._db.connection() as conn:
                alive = await _beat(conn, self.no)
        except LOST as cause:
            _LOG.warning("no beat: %s", cause)
            return None
        if alive is None or began - self._last_beat >= FRESH_S:
            _LOG.warning("worker %s was silent too long and begins again under a new number", self.no)
            return await self._begin()
        if self._started_at not in (None, alive):
            self.distrust()
        self._started_at = alive
        self._last_beat = began
        await self._reconcile()

    async def end(self) -> None:
        """Give back all that is owned and take the number out of the list."""
        if self.no:
            async with self._db.transaction() as conn:
                await give_back(conn, self.no, lost=0)

    async def _reconcile(self) -> None:
        async with self._db.connection() as conn:
            unknown = {key for key in await live.owned(conn, self.no) if key not in self._holdings}
            unknown_lanes = [lane for lane in await lanes.held(conn, self.no) if lane.fence not in self._holdings.lanes]
        twice = [key for key in unknown & self._unknown if key not in self._holdings]
        lanes_twice = [
            lane
            for lane in unknown_lanes
            if lane.fence in self._unknown_lanes and lane.fence not in self._holdings.lanes
        ]
        self._unknown = unknown
        self._unknown_lanes = {lane.fence for lane in unknown_lanes}
        if twice or lanes_twice:
            async with self._db.transaction() as conn:
                await lanes.give_back(conn, worker=self.no, only=lanes_twice)
                await live.give_back(conn, worker=self.no, only=twice)
            _LOG.info("gave back %d deliveries and %d lanes that nobody was working on", len(twice), len(lanes_twice))


async def _beat(conn: Conn, no: int) -> object | None:
    """Beat in Postgres time and return when Postgres started; None when the number is gone."""
    rows = await conn.execute(
        """WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
           UPDATE workers SET beat_at = now() FROM s WHERE no = %s RETURNING pg_postmaster_start_time()""",
        (no,),
    )
    row = await rows.fetchone()
    return row[0] if row else None


async def silent(conn: Conn) -> list[int]:
    """Numbers that have not beaten for 10 s, and numbers that own something without being in the list."""
    rows = await conn.execute(
        """SELECT no FROM workers WHERE beat_at < now() - make_interval(secs => %s)
           UNION SELECT owner FROM live WHERE fence IS NOT NULL AND owner IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM workers WHERE no = owner)
           UNION SELECT owner FROM lanes WHERE fence IS NOT NULL AND owner IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM workers WHERE no = owner)""",
        (SILENT_S,),
    )
    return [row[0] async for row in rows]


async def give_back_silent(conn: Conn, no: int) -> int:
    """Take a number that is still silent out of the list and return all it owned, in the caller's one transaction."""
    rows = await conn.execute(
        "SELECT beat_at < now() - make_interval(secs => %s) FROM workers WHERE no = %s FOR UPDATE", (SILENT_S, no)
    )
    row = await rows.fetchone()
    if row is not None and not row[0]:
        return 0
    return await give_back(conn, no, lost=1)


async def give_back(conn: Conn, no: int, *, lost: int) -> int:
    """Delete the number and return its deliveries and lanes; return how many deliveries."""
    await conn.execute("DELETE FROM workers WHERE no = %s", (no,))
    await lanes.give_back(conn, worker=no)
    return await live.give_back(conn, worker=no, lost=lost)


async def alive(conn: Conn) -> int:
    """Worker processes that beat."""
    rows = await conn.execute(
        "SELECT count(*) FROM workers WHERE beat_at >= now() - make_interval(secs => %s)", (SILENT_S,)
    )
    row = await rows.fetchone()
    return row[0] if row else 0
