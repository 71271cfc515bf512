"""Workers that stop, freeze or are asked to end: nothing is lost, and nothing is sent twice that need not be."""

from __future__ import annotations

import asyncio
import signal
import time

from relay.db import Conn
from tests.faults.conftest import StartWorker
from tests.running import until, until_true
from tests.shop import Shop
from tests.sink import Answer, Sink

BUSY_SQL = "SELECT count(DISTINCT owner) > 1 FROM live WHERE owner IS NOT NULL"


async def test_sigterm_finishes_what_is_sent_and_gives_the_rest_back(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    with Sink(lambda _: Answer(delay_s=1.0)) as sink:
        for n in range(10):
            await shop.endpoint(sink.url(f"/{n}"), max_concurrency=20)
        process = start_worker()
        sent = await shop.send(30)
        await until(lambda: len(sink.arrivals) > 50, 20, what="requests under way")
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 8.0
        rows = await conn.execute("SELECT count(*) FROM live WHERE owner IS NOT NULL")
        assert await rows.fetchall() == [(0,)]
        rows = await conn.execute("SELECT count(*) FROM workers")
        assert await rows.fetchall() == [(0,)]
        assert 0 < len(sink.arrivals) < 300
        start_worker()
        await until(lambda: len(sink.arrivals) >= 300, 40, what="every arrival")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 10)
    for n in range(10):
        assert sink.events(f"/{n}") == dict.fromkeys(sent, 1)


async def send_until_both_are_busy(shop: Shop, conn: Conn) -> list[str]:
    """Send, and go on sending while one of the two takes all of it; return what was sent."""
    sent = await shop.send(100)
    async with asyncio.timeout(30):
        while not (await (await conn.execute(BUSY_SQL)).fetchall())[0][0]:
            sent += await shop.send(5)
            await asyncio.sleep(0.05)
    return sent


async def test_the_work_of_a_frozen_worker_goes_to_others_and_it_begins_again(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    with Sink(lambda _: Answer(delay_s=0.3)) as sink:
        for n in range(5):
            await shop.endpoint(sink.url(f"/{n}"))
        start_worker()
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM leases)", 20)
        second = start_worker()
        await until_true(conn, "SELECT count(*) = 2 FROM workers", 20)
        sent = await send_until_both_are_busy(shop, conn)
        second.signal(signal.SIGSTOP)
        await until_true(conn, "SELECT count(*) = 1 FROM workers", 25)
        rows = await conn.execute("SELECT no FROM workers")
        (first,) = await rows.fetchall()
        await until(lambda: all(set(sink.events(f"/{n}")) == set(sent) for n in range(5)), 30, what="every arrival")
        second.signal(signal.SIGCONT)
        await until_true(conn, "SELECT count(*) = 2 FROM workers", 10)
        rows = await conn.execute("SELECT name, count(*) FROM workers WHERE no <> %s GROUP BY 1", first)
        assert len(await rows.fetchall()) == 1
        later = await send_until_both_are_busy(shop, conn)
        await until(lambda: all(set(later) <= set(sink.events(f"/{n}")) for n in range(5)), 20, what="later arrivals")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 20)
        rows = await conn.execute("SELECT count(*) FROM history WHERE state <> 'delivered'")
        assert await rows.fetchall() == [(0,)]


async def test_a_rolling_restart_under_load_loses_nothing_and_repeats_nothing(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    """Requests of 0.2 s outlive no grace, so nothing may come twice."""
    with Sink(lambda _: Answer(delay_s=0.2)) as sink:
        for n in range(5):
            await shop.endpoint(sink.url(f"/{n}"))
        workers = [start_worker(), start_worker()]
        await until_true(conn, "SELECT count(*) = 2 FROM workers", 20)
        sent = await send_until_both_are_busy(shop, conn)
        for worker in workers:
            stopping = asyncio.get_running_loop().run_in_executor(None, worker.stop)
            while not stopping.done():
                sent += await shop.send(5)
                await asyncio.sleep(0.05)
            assert await stopping == 0
            worker.start()
            await until_true(conn, "SELECT count(*) = 2 FROM workers", 20)
        await until(lambda: all(set(sink.events(f"/{n}")) == set(sent) for n in range(5)), 40, what="every arrival")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 20)
    assert [count for count in sink.events().values() if count != 5] == []
