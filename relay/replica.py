"""Reads that may be stale: a streaming replica answers them while it is near enough to the primary, or else the primary.

How far the replica is behind is found from positions in the log of changes: what the primary had written some time ago,
the replica must have replayed. That needs no clock of another machine, and holds for a replica that is paused or cut off.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from relay.db import LOST, Conn, Database
from relay.postgres import one_line, prepare_reader
from relay.settings import Settings
from relay.tasks import cancel, every

#: What a reader is shown is at most so old.
MAX_LAG_S = 30.0
_LOOK_EVERY_S = 2.0
#: A replica that has no connection to lend within this time is away, and the primary answers.
_PATIENCE_S = 0.5
_LOG = logging.getLogger(__name__)


class Positions:
    """Where the primary's log was when: what tells how old the things are that a replica shows."""

    def __init__(self) -> None:
        self._passed: deque[tuple[float, int]] = deque()

    def passed(self, position: int, *, at: float) -> None:
        """The primary had reached this position at that time."""
        self._passed.append((at, position))
        while self._passed[0][0] < at - 2 * MAX_LAG_S:
            self._passed.popleft()

    def shown_at(self, replayed: int) -> float:
        """The newest time of which a replica at this position shows everything; minus infinity when unknown."""
        return next((at for at, position in reversed(self._passed) if position <= replayed), -float("inf"))


class Replica:
    """Chooses between the primary and the replica of DATABASE_REPLICA_URL, if there is one."""

    def __init__(self, settings: Settings, primary: Database) -> None:
        self._primary = primary
        self._positions = Positions()
        self._shown_at = -float("inf")
        self._in_use = False
        self._tasks: list[asyncio.Task[None]] = []
        self._replica: Database | None = None
        if settings.database_replica_url:
            self._replica = Database(
                settings,
                url=settings.database_replica_url,
                prepare=prepare_reader,
                patience_s=_PATIENCE_S,
                on_lost=self.distrust,
            )

    async def open(self) -> None:
        """Connect to the replica and follow how far it is behind."""
        if self._replica is not None:
            await self._replica.open()
            self._tasks = [asyncio.create_task(every(_LOOK_EVERY_S, self.look))]

    async def close(self) -> None:
        """Close the connections to the replica."""
        await cancel(self._tasks)
        if self._replica is not None:
            await self._replica.close()

    def database(self) -> Database:
        """Return the replica while what it shows is less than 30 s old, otherwise the primary."""
        if self._replica is None or time.monotonic() - self._shown_at >= MAX_LAG_S:
            return self._primary
        return self._replica

    def distrust(self) -> None:
        """The replica failed somebody: the primary answers until the next look finds it well."""
        self._shown_at = -float("inf")

    async def look(self) -> None:
        """Measure once how far the replica is behind."""
        assert self._replica is not None
        try:
            await self._measure(self._replica)
        except LOST as cause:
            self.distrust()
            self._tell(why=one_line(cause))
        else:
            self._tell(why=f"it shows nothing of the last {MAX_LAG_S:.0f} s")

    async def _measure(self, replica: Database) -> None:
        now = time.monotonic()
        async with self._primary.connection() as conn:
            self._positions.passed(await _position(conn), at=now)
        async with replica.connection() as conn:
            self._shown_at = self._positions.shown_at(await _position(conn))

    def _tell(self, *, why: str) -> None:
        """Log a change of who answers, not each look."""
        in_use = self.database() is not self._primary
        if in_use and not self._in_use:
            _LOG.info("the replica answers lists")
        elif self._in_use and not in_use:
            _LOG.warning("the primary answers lists, for the replica cannot: %s", why)
        self._in_use = in_use


async def _position(conn: Conn) -> int:
    """Where a server is in the log of changes: what it has written, or as a standby, replayed."""
    rows = await conn.execute(
        """SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
                   - '0/0'::pg_lsn)::bigint"""
    )
    ((position,),) = await rows.fetchall()
    return position
