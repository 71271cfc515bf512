"""Group commit: who waits gets an answer, whoever else goes away and whatever becomes of the connections."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from relay.db import Conn
from relay.errors import Unavailable
from relay.intake.accept import Accepted, Candidate, store
from relay.intake.collector import _Item
from relay.settings import Settings
from tests.shop import Shop, accepted, open_shop


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def numbers(conn: Conn) -> list[bytes]:
    """The payloads in the order of acceptance."""
    rows = await conn.execute("SELECT payload FROM outbox o JOIN events e ON e.id = o.event_id ORDER BY n")
    return [bytes(row[0]) for row in await rows.fetchall()]


async def test_many_requests_share_a_commit(shop: Shop, conn: Conn) -> None:
    for one in await asyncio.gather(*(shop.accept(shop.event()) for _ in range(200))):
        accepted(one)
    rows = await conn.execute("SELECT count(*), count(DISTINCT xmin::text) FROM events")
    events, commits = (await rows.fetchall())[0]
    assert events == 200
    assert commits <= 4


async def test_clients_that_went_away_leave_nobody_hanging(shop: Shop, conn: Conn) -> None:
    requests = [asyncio.ensure_future(shop.accept(shop.event(idempotency_key=f"k{n // 2}"))) for n in range(100)]
    requests += [asyncio.ensure_future(shop.accept(*(shop.event(b"x") for _ in range(700)))) for _ in range(4)]
    await asyncio.sleep(0)
    gone = requests[::2]
    for request in gone:
        request.cancel()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in answers[::2])
    for one in answers[1::2]:
        assert isinstance(one, list)
        accepted(one)


async def test_two_lists_at_once_keep_their_orders(shop: Shop, conn: Conn) -> None:
    lists = [[b'"%d-%04d"' % (i, n) for n in range(1100)] for i in range(3)]
    await asyncio.gather(*(shop.accept(*(shop.event(payload) for payload in one)) for one in lists))
    stored = await numbers(conn)
    for i, one in enumerate(lists):
        assert [payload for payload in stored if payload.startswith(b'"%d-' % i)] == one


async def test_what_comes_the_moment_both_statements_end_is_stored_too(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector, together = shop.web.collector, asyncio.Event()
    store_leaders = collector._store_leaders

    async def store_leaders_together(*args: Any, **named: Any) -> None:
        await store_leaders(*args, **named)
        await together.wait()

    monkeypatch.setattr(collector, "_store_leaders", store_leaders_together)
    first = asyncio.ensure_future(shop.accept(shop.event()))
    await asyncio.sleep(0.1)
    second = asyncio.ensure_future(shop.accept(shop.event()))
    accepted(await first)
    accepted(await second)
    together.set()
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        accepted(await shop.accept(shop.event()))


async def test_a_list_with_a_bad_row_keeps_the_order_of_the_others(shop: Shop, conn: Conn) -> None:
    events = [shop.event(b"%d" % n, priority=11 if n in (100, 555) else 5) for n in range(800)]
    answers = await shop.accept(*events)
    assert [n for n, one in enumerate(answers) if not isinstance(one, Accepted)] == [100, 555]
    assert await numbers(conn) == [b"%d" % n for n in range(800) if n not in (100, 555)]


async def test_lost_connections_store_nothing_twice_and_lose_nothing(shop: Shop, conn: Conn) -> None:
    """Every backend is ended again and again while events come, now and then with time between; what was answered is
    stored, once.
    """
    receipts: list[Accepted] = []
    refused = 0

    async def send(who: int) -> None:
        nonlocal refused
        for n in range(5):
            for one in await shop.accept(*(shop.event(b'"%d-%d-%d"' % (who, n, k)) for k in range(20))):
                if isinstance(one, Accepted):
                    receipts.append(one)
                else:
                    assert isinstance(one, Unavailable)
                    refused += 1

    senders = [asyncio.ensure_future(send(who)) for who in range(4)]
    for pause_s in itertools.cycle((0.02, 0.05, 0.5)):
        if all(sender.done() for sender in senders):
            break
        await conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'relay'")
        await asyncio.sleep(pause_s)
    await asyncio.gather(*senders)
    rows = await conn.execute("SELECT id, count(*) OVER (PARTITION BY payload) FROM events")
    times = dict(await rows.fetchall())
    assert set(times.values()) == {1}
    assert {receipt.id for receipt in receipts} <= set(times)
    assert len(receipts) + refused == 4 * 5 * 20
    assert len(await numbers(conn)) == len(times)


async def test_without_postgres_the_answer_is_unavailable(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database_url": "postgresql://u@127.0.0.1:1/x"})
    async with open_shop(settings) as here, asyncio.timeout(30):
        web = type(here.web)(nowhere)
        web.db._pool.timeout = 0.2
        await web.open()
        with pytest.raises(Unavailable, match="not told its time"):
            await web.collector.accept([here.event()])
        web.time.measured(here.web.time(), at=time.monotonic())
        (answer,) = await web.collector.accept([here.event()])
        await web.close()
    assert isinstance(answer, Unavailable)


async def test_what_a_lost_connection_stored_after_all_is_no_error(shop: Shop, conn: Conn) -> None:
    """The first try's commit lands after the look-up: the second meets its own rows."""
    ids = shop.web.ids
    repeated = [ids() for _ in range(3)]
    await store(conn, [Candidate(id, shop.event()) for id in repeated], lock_timeout_ms=250)
    items = [_Item(Candidate(id, shop.event()), asyncio.get_running_loop().create_future(), []) for id in repeated]
    await shop.web.collector._store_leaders(items)
    assert [receipt.id for receipt in accepted([item.done.result() for item in items])] == repeated
