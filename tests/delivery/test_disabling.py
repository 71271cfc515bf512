"""Disabling: nothing more is matched, what waited is dead and not lost, and what is being sent is left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.db import Conn
from relay.delivery import disabling
from relay.delivery.disabling import disable
from relay.delivery.live import claim
from relay.delivery.outcomes import Reason
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, claimed, fan_out, rows
from tests.rows import World, make_world
from tests.shop import Shop, open_shop


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def version(world: World) -> object:
    return (await rows(world.conn, "SELECT config_version FROM tenants WHERE id = %s", [world.tenant_id]))[0][0]


async def test_a_disabled_endpoint_says_why_and_since_when_and_is_disabled_once(world: World) -> None:
    before = await version(world)
    assert await disable(world.conn, world.tenant_id, world.endpoint_id, reason=Reason.GONE)
    assert not await disable(world.conn, world.tenant_id, world.endpoint_id, reason=Reason.DNS_FAILED)
    found = await rows(world.conn, "SELECT status, disabled_reason, disabled_at <= now(), version FROM endpoints")
    assert found == [("disabled", "gone", True, 2)]
    assert await version(world) == before + 1  # pyright: ignore[reportOperatorIssue]


async def test_it_is_not_matched_any_more(shop: Shop, conn: Conn) -> None:
    endpoint_id = await shop.endpoint(NOWHERE)
    await shop.send(1)
    await fan_out(shop)
    await disable(conn, shop.tenant_id, endpoint_id, reason=Reason.GONE)
    await shop.send(1)
    await fan_out(shop)
    assert await rows(conn, "SELECT matched FROM fanouts ORDER BY event_id") == [(1,), (0,)]


async def test_what_waited_is_dead_and_settled_by_nobody(world: World) -> None:
    event_id = await world.event()
    waiting = [await world.waiting(event_id, due_s=due_s, attempts=2) for due_s in (0, 3600)]
    await disable(world.conn, world.tenant_id, world.endpoint_id, reason=Reason.GONE)
    found = await rows(world.conn, "SELECT id, state, reason, attempts FROM history ORDER BY id")
    assert found == [(id, "dead", "endpoint_disabled", 2) for id in waiting]
    letters = await rows(world.conn, "SELECT id, reason, told FROM dead_letters ORDER BY id")
    assert letters == [(id, "endpoint_disabled", False) for id in waiting]
    assert await rows(world.conn, "SELECT 1 FROM live") == []


async def test_what_is_handed_out_or_being_sent_or_a_test_stays_and_so_do_others(world: World) -> None:
    event_id = await world.event()
    other = await world.endpoint("*")
    stay = {
        await world.dispatched(event_id),
        await world.dispatched(event_id, owner=7),
        await world.waiting(event_id, endpoint_id=other),
        await world.waiting(event_id),
    }
    test = max(stay)
    await rows(world.conn, "UPDATE live SET lane = 'test' WHERE id = %s RETURNING 1", [test])
    await disable(world.conn, world.tenant_id, world.endpoint_id, reason=Reason.GONE)
    assert {row[0] for row in await rows(world.conn, "SELECT id FROM live")} == stay


async def test_gates_are_cleared_under_a_new_epoch_and_every_lane_is_rung(shop: Shop, conn: Conn) -> None:
    endpoint_id = await shop.endpoint(NOWHERE)
    await claimed(shop, conn, 1)
    await rows(
        conn,
        """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, blocked_by)
           SELECT endpoint_id, 'fifo:a', tenant_id, 1, gen_random_uuid() FROM lanes RETURNING 1""",
    )
    await rows(
        conn,
        """UPDATE lanes SET paused = true, gate_reason = 'circuit_open', gate_until = 'infinity', probe_until = now(),
               opened_at = now(), pace_per_sec = 5, paced_at = now(), gate_epoch = 7 WHERE key = '' RETURNING 1""",
    )
    await disable(conn, shop.tenant_id, endpoint_id, reason=Reason.GONE)
    found = await rows(
        conn,
        """SELECT key, ready_at <= now(), paused, num_nulls(gate_reason, gate_until, probe_until, opened_at, pace_per_sec,
                  paced_at, blocked_by), gate_epoch IN (0, 7) FROM lanes ORDER BY key""",
    )
    assert found == [("", True, False, 7, False), ("fifo:a", True, False, 7, True)]


async def test_what_is_too_much_for_one_transaction_stays_for_workers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disabling, "AT_ONCE", 3)
    event_id = await world.event()
    for _ in range(5):
        await world.waiting(event_id)
    await disable(world.conn, world.tenant_id, world.endpoint_id, reason=Reason.GONE)
    assert await rows(world.conn, "SELECT count(*) FROM live") == [(2,)]
    assert await rows(world.conn, "SELECT ready_at <= now() FROM lanes WHERE key = ''") == [(True,)]


async def test_a_delivery_that_another_transaction_holds_is_left_to_it(world: World, shop: Shop) -> None:
    event_id = await world.event()
    held, free = [await world.waiting(event_id) for _ in range(2)]
    async with shop.web.db.transaction() as other:
        await other.execute("SELECT 1 FROM live WHERE id = %s FOR UPDATE", (held,))
        await disable(world.conn, world.tenant_id, world.endpoint_id, reason=Reason.GONE)
    assert await rows(world.conn, "SELECT id FROM live") == [(held,)]
    assert await rows(world.conn, "SELECT id FROM history") == [(free,)]


async def test_hidden_deleted_and_strange_endpoints_are_not_disabled(world: World, conn: Conn) -> None:
    stranger = await make_world(conn, "stranger")
    assert not await disable(conn, stranger.tenant_id, world.endpoint_id, reason=Reason.GONE)
    await rows(conn, "UPDATE endpoints SET kind = 'adhoc' WHERE id = %s RETURNING 1", [world.endpoint_id])
    assert not await disable(conn, world.tenant_id, world.endpoint_id, reason=Reason.GONE)
    await rows(conn, "UPDATE endpoints SET deleted_at = now() WHERE id = %s RETURNING 1", [stranger.endpoint_id])
    assert not await disable(conn, stranger.tenant_id, stranger.endpoint_id, reason=Reason.GONE)
    assert await rows(conn, "SELECT DISTINCT status FROM endpoints") == [("active",)]


async def test_what_was_handed_out_before_is_still_claimed_and_so_settled(shop: Shop, conn: Conn) -> None:
    endpoint_id = await shop.endpoint(NOWHERE)
    await shop.send(1)
    dispatched = await fan_out(shop)
    await disable(conn, shop.tenant_id, endpoint_id, reason=Reason.GONE)
    assert len(await claim(conn, dispatched, worker=1)) == 1
