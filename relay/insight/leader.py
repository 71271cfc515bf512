"""What only the leading clock's process exports: gauges of the whole system, which must not be summed over processes.

They fall to 0 when the lease goes to another process, when the clock ends, and as soon as the lease may have lapsed
because Postgres does not answer. A process that dies is left out by `metrics.render`.
"""

from __future__ import annotations

import asyncio

from relay import metrics
from relay.db import Conn
from relay.delivery.live import TIERS
from relay.insight import counts


class LeaderGauges:
    """One per clock."""

    def __init__(self) -> None:
        self._lapse: asyncio.TimerHandle | None = None

    def keep(self, *, until: float) -> None:
        """This process leads, and another may from then on (the event loop's time)."""
        if self._lapse is not None:
            self._lapse.cancel()
        self._lapse = asyncio.get_running_loop().call_at(until, self.drop)

    def drop(self) -> None:
        """Another process leads, or may: say 0."""
        if self._lapse is not None:
            self._lapse.cancel()
        self._lapse = None
        metrics.UNACCOUNTED.set(0)
        for tier in TIERS:
            metrics.QUEUE_DEPTH.labels(tier).set(0)

    async def measure(self, conn: Conn) -> None:
        """Set the queue's depth as last counted, while this process leads."""
        depth = await counts.depth(conn)
        if self._lapse is not None:
            for tier, ready in depth.items():
                metrics.QUEUE_DEPTH.labels(tier).set(ready)
