"""Events from an application's own transactions, delivered by real workers: soon after the commit, and never without one."""

from __future__ import annotations

import asyncio
import time
from statistics import median

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from relay.db import Conn
from tests.delivery.crew import rows
from tests.faults.conftest import StartWorker
from tests.running import until, until_true
from tests.scale import sized, tell
from tests.shop import Shop
from tests.sink import Sink

SEND = "SELECT relay.send_event('shop', 'order.paid', %s)"
#: How soon half of them must be there after their commit, on a machine that does nothing else, and on one that does.
DIRECT_S = sized(60, 1_000) / 1000
HELD_S = float(sized(60, 1))


async def test_what_is_committed_arrives_soon_and_what_is_rolled_back_never(
    shop: Shop, start_worker: StartWorker, conn: Conn, database_url: str
) -> None:
    with Sink() as sink:
        await shop.endpoint(sink.url())
        start_worker()
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM leases WHERE until > now())")
        async with (
            await AsyncConnection.connect(database_url) as app,
            await AsyncConnection.connect(database_url) as late,
        ):
            half = median(await latencies(app, sink, count=sized(200, 15)))
            tell(f"from the commit to the arrival: p50 {half * 1000:.0f} ms")
            began = time.monotonic()
            (held,) = await (await late.execute(SEND, ('"held"',))).fetchall()
            sent = await others(app, count=sized(10_000, 500))
            await until(lambda: set(sent) <= set(sink.events()), sized(180, 30), what="all the others")
            await asyncio.sleep(max(0.0, HELD_S - (time.monotonic() - began)))
            assert str(held[0]) not in sink.events()
            tell(f"{len(sent)} others passed a transaction that was open for {time.monotonic() - began:.1f} s")
            await late.commit()
            await until(lambda: str(held[0]) in sink.events(), 10, what="the one held back")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM producer_events)")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)")
        assert {arrival.body for arrival in sink.arrivals if arrival.body.startswith(b'"no')} == set()
        assert set(sink.events().values()) == {1}
    assert await rows(conn, "SELECT count(*) FROM events") == [(len(sink.events()),)]
    assert half <= DIRECT_S


async def latencies(app: AsyncConnection[TupleRow], sink: Sink, *, count: int) -> list[float]:
    """Seconds from the end of each commit to the arrival, one event after the other, by the receiver's clock."""
    found: list[float] = []
    for n in range(count):
        ((id,),) = await (await app.execute(SEND, (str(n),))).fetchall()
        await app.commit()
        at = time.monotonic()
        await until(lambda id=str(id): id in sink.events(), 20, what="the event")
        found.append(next(one.at for one in sink.arrivals if one.event_id == str(id)) - at)
        await asyncio.sleep(n % 7 / 100)  # so that the commits do not keep step with the looks
    return found


async def others(app: AsyncConnection[TupleRow], *, count: int) -> list[str]:
    """Send that many in transactions of ten; every second one is followed by one that is rolled back."""
    sent: list[str] = []
    for start in range(0, count, 10):
        found = await app.execute(f"{SEND} FROM generate_series(1, 10)", (str(start),))
        sent += [str(id) for (id,) in await found.fetchall()]
        await app.commit()
        if start % 20:
            await app.execute(SEND, ('"not this one"',))
            await app.rollback()
    return sent
