"""The tick of the clock. It runs in every worker process; a lease lets one of them do the work.

The lease only saves work: every action here is correct if two clocks do it at once. Nothing depends on the doorbell, on
Redis keeping a message, or on a worker staying alive; this is where all of that is made good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from relay.chores import Aside, Chore
from relay.clock.amends import Amends
from relay.clock.counting import Counting
from relay.clock.due import Starter, look
from relay.clock.keeping import Keeping
from relay.db import LOST, REPEATABLE, Database
from relay.ids import fence
from relay.insight.leader import LeaderGauges
from relay.queue import UNREACHABLE, Queue

TICK_S = 0.2
LEASE_S = 3
_SHORTEST_S = 0.005
_LOG = logging.getLogger(__name__)


class Clock:
    """One per worker process. `run` never ends by itself, whatever fails."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        *,
        retention_days: int,
        maintain: Callable[[], None],
        chores: Iterable[Chore | Aside] = (),
        gauges: LeaderGauges | None = None,
    ) -> None:
        """`maintain` makes and retires partitions; it blocks and is called in a thread. `chores` come after its own."""
        self._db = db
        self._me = fence()
        self._woken = asyncio.Event()
        self._gauges = gauges or LeaderGauges()
        self._starter = Starter(db, queue, on_more=self.wake)
        self._counting = Counting(db, self._gauges, retention_days=retention_days)
        self.amends = Amends(db, queue)
        keeping = Keeping(db, retention_days=retention_days, maintain=maintain)
        self._chores: list[Chore | Aside] = [
            *self.amends.chores(),
            *self._counting.chores(),
            *keeping.chores(),
            *chores,
        ]
        self.leads = False

    def wake(self) -> None:
        """A lane is due: look now instead of at the next tick."""
        self._woken.set()

    async def run(self) -> None:
        """Tick for ever; whatever ends it, this process no longer says what only the leader knows."""
        try:
            await self._run()
        finally:
            self._gauges.drop()
            for chore in self._chores:
                await chore.end()

    async def _run(self) -> None:
        renew_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if loop.time() >= renew_at:
                    renew_at = loop.time() + 1.0
                    await self._renew()
                    self.amends.connected_since = self.amends.connected_since or loop.time()
                if self.leads:
                    await self._tick()
            except REPEATABLE as cause:
                _LOG.info("the clock tries again: %s", cause)
            except (*LOST, *UNREACHABLE) as cause:
                _LOG.warning("the clock goes on: %s", cause)
                self.amends.connected_since = None
            except Exception:
                _LOG.exception("the clock goes on")
            await asyncio.sleep(_SHORTEST_S)
            await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):  # `wait_for` of Python 3.11 forgets a cancellation that meets the end
                await self._woken.wait()
        self._woken.clear()

    async def _renew(self) -> None:
        """Ask for the lease; what leads on without an answer says so no longer than a lease lasts."""
        asked_at = asyncio.get_running_loop().time()
        self.leads = await self._lease()
        if self.leads:
            self._gauges.keep(until=asked_at + LEASE_S)
        else:
            self._gauges.lose()

    async def _lease(self) -> bool:
        async with self._db.connection() as conn:
            rows = await conn.execute(
                """WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
                   INSERT INTO leases AS l (name, holder, until)
                   SELECT 'clock', %s, now() + make_interval(secs => %s) FROM s
                   ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                   WHERE l.holder = excluded.holder OR l.until < now() RETURNING 1""",
                (self._me, LEASE_S),
            )
            return await rows.fetchone() is not None

    async def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        async with self._db.connection() as conn:
            work = await look(conn)
        self._counting.saw(work)
        with suppress(*UNREACHABLE):  # the chores do not wait for Redis
            await self._starter.start(work)
        for chore in self._chores:
            await chore.run_if_due(now)
