"""Deliveries that are not final: handed out once, claimed once, taken back only while nobody sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise

import pytest

from relay.db import REPEATABLE, Conn
from relay.delivery import live
from relay.delivery.live import Claimed, Dispatched, claim
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, claimed, fan_out, rows
from tests.shop import Shop, open_shop


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def test_each_delivery_is_claimed_once_by_however_many_workers(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    await shop.send(300)
    dispatched = await fan_out(shop)

    async def worker(no: int) -> list[Claimed]:
        mine: list[Claimed] = []
        for batch in (dispatched[n : n + 50] for n in range(0, 300, 50)):
            for order in (batch, batch[::-1]):
                mine += await _claim(shop, order, no)
        return mine

    found = [one.id for mine in await asyncio.gather(*(worker(no) for no in (1, 2, 3))) for one in mine]
    assert len(found) == 300
    assert set(found) == {one.id for one in dispatched}


async def _claim(shop: Shop, batch: list[Dispatched], no: int) -> list[Claimed]:
    while True:
        try:
            async with shop.web.db.connection() as own:
                return await claim(own, batch, worker=no)
        except REPEATABLE:
            continue


async def test_a_fence_is_no_counter_and_comes_once(shop: Shop) -> None:
    """A crash after an asynchronous commit would hand a counter's or a sequence's numbers out again."""
    await shop.endpoint(NOWHERE)
    fences: list[int] = []
    for _ in range(4):
        await shop.send(100)
        fences += [one.fence for one in await fan_out(shop)]
    assert len(set(fences)) == 400
    assert all(0 <= fence < 1 << 62 for fence in fences)
    steps = [b - a for a, b in pairwise(fences)]
    assert 100 < sum(step > 0 for step in steps) < 300
    assert min(map(abs, steps)) > 1 << 32


async def test_what_is_new_waits_behind_what_waits(shop: Shop) -> None:
    await shop.endpoint(NOWHERE)
    await shop.send(2)
    assert await fan_out(shop, window=0) == []
    await shop.send(2)
    assert await fan_out(shop, window=4000) == []


async def test_the_window_is_what_is_handed_out_and_claimed_by_nobody(shop: Shop, conn: Conn) -> None:
    for _ in range(4):
        await shop.endpoint(NOWHERE, event_types=["early"])
    await shop.send(10, type="early")
    out = await fan_out(shop, window=15)
    assert len(out) == 15
    await claim(conn, out, worker=1)
    await shop.endpoint(NOWHERE, event_types=["late"])
    await shop.send(20, type="late")
    assert len(await fan_out(shop, window=15)) == 15


async def test_an_endpoint_with_a_closed_gate_gets_nothing_at_once(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    for gate in ("paused = true", "paused = false, gate_until = '2100-01-01', gate_reason = 'throttled'"):
        await rows(conn, f"UPDATE lanes SET {gate}, ready_at = NULL RETURNING 1")
        await shop.send(1)
        assert await fan_out(shop) == []


async def test_only_what_was_silent_for_long_is_handed_out_again_under_its_fence(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    await shop.send(3)
    out = await fan_out(shop)
    await claim(conn, out[:1], worker=1)
    assert await live.unclaimed(conn, silent_s=5, more_than=0) == []
    await rows(conn, "UPDATE live SET sent_at = now() - interval '6 s' RETURNING 1")
    assert await live.unclaimed(conn, silent_s=5, more_than=2) == []
    again = await live.unclaimed(conn, silent_s=5, more_than=0)
    assert sorted(again, key=lambda one: one.id) == out[1:]
    assert await live.unclaimed(conn, silent_s=5, more_than=0) == []


async def test_what_goes_back_is_due_and_its_lane_rung_but_not_under_an_old_fence(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    one, two = await claimed(shop, conn, 2)
    await live.put_back(conn, [one, replace(two, fence=two.fence ^ 1)])
    assert await rows(conn, "SELECT id, due_at <= now(), attempts, lost FROM live WHERE owner IS NULL") == [
        (one.id, True, 0, 0)
    ]
    assert await rows(conn, "SELECT ready_at <= now() FROM lanes") == [(True,)]


async def test_what_another_worker_owns_by_now_is_not_put_back(shop: Shop, conn: Conn) -> None:
    """A crash of Postgres forgot our claim, the message went out again, and another worker claimed under the same fence."""
    await shop.endpoint(NOWHERE)
    (ours,) = await claimed(shop, conn, 1, worker=1)
    await conn.execute("UPDATE live SET owner = 2")
    await live.put_back(conn, [ours])
    assert await rows(conn, "SELECT owner, due_at FROM live") == [(2, None)]
