"""The gauges of the whole system: said by one process, and by none as soon as another may say them."""

from __future__ import annotations

import asyncio

from relay import metrics
from relay.db import Conn
from relay.insight import counts
from relay.insight.leader import LeaderGauges
from tests.rows import make_world
from tests.running import until


def depth() -> float:
    return metrics.QUEUE_DEPTH.labels("normal")._value.get()


async def test_without_an_answer_to_the_renewal_they_fall_when_the_lease_may_have_lapsed(conn: Conn) -> None:
    world = await make_world(conn)
    await world.waiting(await world.event())
    await counts.refresh(conn)
    gauges, now = LeaderGauges(), asyncio.get_running_loop().time
    gauges.keep(until=now() + 0.1)
    gauges.keep(until=now() + 0.5)
    await gauges.measure(conn)
    metrics.UNACCOUNTED.set(2)
    assert depth() == 1
    await until(lambda: depth() == 0, 2, what="0 after the lease")
    assert metrics.UNACCOUNTED._value.get() == 0
    await gauges.measure(conn)
    assert depth() == 0, "what was counted too late is not said"
