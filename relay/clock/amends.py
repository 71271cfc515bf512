"""Making good what was lost: the claims of a silent worker, a message that nobody took up, a lane that sleeps."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from relay import metrics
from relay.chores import Chore
from relay.db import Database
from relay.delivery import beats, lanes, live
from relay.delivery.live import TIERS, hints_for
from relay.queue import UNREACHABLE, Queue

RESEND_S = 3.5
#: What is lost comes back within seconds, however slow the connections are.
_AT_LATEST_S = 2.0
_LOG = logging.getLogger(__name__)


class Amends:
    """One per clock."""

    def __init__(self, db: Database, queue: Queue) -> None:
        self._db = db
        self._queue = queue
        #: The event loop's time since when Postgres has answered this clock; None: it does not.
        self.connected_since: float | None = None

    def chores(self) -> list[Chore]:
        """What the clock is to do, and how often."""
        return [
            Chore(self.give_back, every_s=1.0, at_latest_s=_AT_LATEST_S),
            Chore(self.resend, every_s=1.0, at_latest_s=_AT_LATEST_S),
            Chore(self.rearm, every_s=60.0),
        ]

    async def give_back(self) -> None:
        """Take from silent workers what they hold, once this clock could itself have heard them for long enough."""
        if self.connected_since is None:
            return
        if asyncio.get_running_loop().time() - self.connected_since < beats.SILENT_S:
            return
        async with self._db.connection() as conn:
            silent = await beats.silent(conn)
        for no in silent:
            async with self._db.transaction() as conn:
                count = await beats.give_back_silent(conn, no)
            metrics.GIVEN_BACK.inc(count)
            _LOG.warning("worker %s is silent: %d deliveries go back", no, count)

    async def resend(self) -> None:
        """A message that nobody took up may be lost: send it again within 5 s, unless the queue is just long."""
        with suppress(*UNREACHABLE):
            await self._resend_unclaimed()

    async def _resend_unclaimed(self) -> None:
        messages = sum([await self._queue.length(f"deliver_{tier}") for tier in TIERS])
        lane_messages = await self._queue.length("lane")
        async with self._db.connection() as conn:
            dispatched = await live.unclaimed(conn, silent_s=RESEND_S, more_than=messages)
            out = await lanes.unclaimed(conn, silent_s=RESEND_S, more_than=lane_messages)
        if dispatched or out:
            metrics.RESENT.inc(len(dispatched) + len(out))
            _LOG.info(
                "%d deliveries and %d lanes were not taken up and are handed out again", len(dispatched), len(out)
            )
            await self._queue.enqueue([*hints_for(dispatched), *lanes.hints_for(out)])

    async def rearm(self) -> None:
        """Wake lanes that sleep with work in them."""
        async with self._db.connection() as conn:
            count = await lanes.rearm_sleepers(conn)
        if count:
            metrics.SLEEPING_LANES.inc(count)
            _LOG.error("%d lanes slept with work in them; this is a bug in Relay, please report it", count)
