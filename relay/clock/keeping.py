"""Keeping house: idempotency keys that are over, days that are closed, partitions that are made and retired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from relay.chores import Chore
from relay.db import Database
from relay.insight import finished, stats, totals
from relay.intake import accept

_LOG = logging.getLogger(__name__)


class Keeping:
    """One per clock."""

    def __init__(self, db: Database, *, retention_days: int, maintain: Callable[[], None]) -> None:
        """`maintain` makes and retires partitions; it blocks and is called in a thread."""
        self._db = db
        self._retention_days = retention_days
        self._maintain = maintain
        self._maintaining: asyncio.Future[None] | None = None

    def chores(self) -> list[Chore]:
        """What the clock is to do, and how often."""
        return [
            Chore(self.sweep, every_s=60.0),
            Chore(self.close_days, every_s=600.0),
            Chore(self.partition, every_s=600.0),
        ]

    async def sweep(self) -> None:
        """Forget idempotency keys that are over."""
        async with self._db.connection() as conn:
            await accept.forget_expired_keys(conn)

    async def close_days(self) -> None:
        """Add what is over to the totals and the counts by day, and forget days that are too old."""
        async with self._db.connection() as conn:
            await totals.close(conn)  # before minutes are forgotten
            await stats.close_days(conn)
            await stats.forget_days(conn, keep_days=self._retention_days)
            await finished.close(conn)

    async def partition(self) -> None:
        """Not waited for: whoever reads an old partition holds it up for some seconds, and lanes must not wait for that."""
        if self._maintaining is None or self._maintaining.done():
            self._maintaining = asyncio.get_running_loop().run_in_executor(None, self._maintain)
            self._maintaining.add_done_callback(_tell_of_failure)


def _tell_of_failure(maintaining: asyncio.Future[None]) -> None:
    if not maintaining.cancelled() and (cause := maintaining.exception()) is not None:
        _LOG.warning("partitions are looked after at the next turn: %s", cause)
