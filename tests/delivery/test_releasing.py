"""Lanes are let go together, each for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from relay.db import Conn
from relay.delivery import lanes
from relay.delivery.releasing import Releaser
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, handed_out, open_crew, rows
from tests.shop import Shop, open_shop


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def test_lanes_let_go_in_one_moment_are_let_go_in_one_transaction(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    for _ in range(5):
        await shop.endpoint(NOWHERE)
    await shop.send(1)
    await fan_out(shop, window=0)
    woken: list[None] = []
    async with open_crew(settings) as crew:
        held = [lane for _ in range(5) for lane in await handed_out(conn)]
        assert len(await lanes.hold(conn, held, worker=crew.beats.no)) == 5
        taken_away = held[0]
        await rows(conn, "UPDATE lanes SET owner = 99 WHERE endpoint_id = %s RETURNING 1", (taken_away.endpoint_id,))
        releaser = Releaser(crew.db, beats=crew.beats, on_waiting=lambda: woken.append(None))
        await asyncio.gather(*(releaser.release(lane) for lane in held))
    found = await rows(conn, "SELECT endpoint_id, xmin::text, owner, ready_at <= now() FROM lanes")
    let_go = [row for row in found if row[2] is None]
    assert {row[0] for row in let_go} == {lane.endpoint_id for lane in held[1:]}
    assert len({row[1] for row in let_go}) == 1
    assert all(row[3] for row in let_go)
    assert len(woken) == 1
    assert [UUID(str(row[0])) for row in found if row[2] == 99] == [taken_away.endpoint_id]
