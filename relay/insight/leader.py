"""What the leading clock's process says of the whole system (`relay.metrics.cluster`).

It says nothing any more when the lease goes to another process, when the clock ends, and as soon as the lease may have
lapsed because Postgres does not answer. Everything is read from what the clock has counted before.
"""

from __future__ import annotations

import asyncio
import time

from relay import metrics, partitions
from relay.db import Conn
from relay.insight import counts, survey, totals
from relay.metrics import cluster

#: Endpoints that have a metric of their own, at most.
WORST = 10


class LeaderGauges:
    """One per clock."""

    def __init__(self, *, asked: bool = True) -> None:
        """`asked`: whether anybody reads metrics; else nothing is looked up for them."""
        self._asked = asked
        self._leads = False

    def keep(self, *, until: float) -> None:
        """This process leads, and another may from then on (the event loop's time)."""
        self._leads = True
        cluster.keep(time.monotonic() + until - asyncio.get_running_loop().time())

    def lose(self) -> None:
        """Another process leads."""
        if self._leads:
            metrics.LEASES_LOST.inc()
        self.drop()

    def drop(self) -> None:
        """Another process leads, or may: say nothing."""
        self._leads = False
        cluster.drop()

    async def measure(self, conn: Conn) -> None:
        """Say what waits, and what was done in all, as last counted."""
        if not self._asked:
            return
        depth, waiting = await counts.depth(conn), await counts.waiting(conn)
        done = await totals.read(conn)
        for tier, ready in depth.items():
            cluster.QUEUE_DEPTH.set(ready, tier)
        for tier, age_s in waiting.oldest_s.items():
            cluster.OLDEST.set(age_s, tier)
        cluster.HELD.set(waiting.held)
        cluster.DELAYED.set(waiting.delayed)
        cluster.IN_FLIGHT.set(waiting.in_flight)
        cluster.DEAD_LETTERS.set(waiting.dead)
        cluster.DRAIN.set(drain_s(sum(depth.values()), per_s=done.per_s))
        for state in ("delivered", "dead", "cancelled"):
            cluster.RECORDED_DELIVERIES.set(getattr(done, state), state)
        cluster.RECORDED_ATTEMPTS.set(done.ok, "ok")
        cluster.RECORDED_ATTEMPTS.set(done.attempts - done.ok, "failed")
        cluster.publish()

    async def survey(self, conn: Conn, *, keep_days: int) -> None:
        """Say what needs no look every second; settle what is to be added to the totals."""
        if not self._asked:
            return
        await totals.close(conn)
        for state, n in (await survey.circuits(conn)).items():
            cluster.CIRCUITS.set(n, state)
        for state, n in (await survey.lanes(conn)).items():
            cluster.LANES.set(n, state)
        worst = await survey.worst(conn, limit=WORST)
        cluster.WORST.replace({(str(one.endpoint_id),): one.failures for one in worst})
        cluster.WORST_ATTEMPTS.replace({(str(one.endpoint_id),): one.attempts for one in worst})
        cluster.WORST_SECONDS.replace({(str(one.endpoint_id),): one.answer_s for one in worst})
        ahead, pinned = await partitions.horizon(conn, keep_days=keep_days)
        cluster.AHEAD.set(ahead)
        cluster.PINNED.set(pinned)
        cluster.publish()


def drain_s(ready: int, *, per_s: float) -> float:
    """How long what is ready would take at this rate; infinity when nothing moves."""
    if not ready:
        return 0.0
    return ready / per_s if per_s else float("inf")
