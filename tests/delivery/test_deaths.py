"""What follows from a death follows once: a line, a notice, and after a 410 the end of the endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from relay.db import Conn
from relay.delivery import deaths
from relay.delivery.deaths import Death, see_to, take, take_forgotten
from relay.delivery.notices import Kind, Notice
from relay.delivery.outcomes import Reason
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.rows import World, make_world
from tests.shop import Shop, open_shop


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def died(world: World, *, type: str = "order.paid", reason: Reason = Reason.ATTEMPTS_EXHAUSTED) -> UUID:
    """A delivery of the world's endpoint that died just now."""
    id = await world.finished(await world.event(type), "dead")
    await rows(world.conn, "UPDATE dead_letters SET reason = %s WHERE id = %s RETURNING 1", [reason, id])
    return id


async def seen_to(world: World, *ids: UUID) -> list[Notice]:
    return await see_to(world.conn, await take(world.conn, ids))


def of(notices: list[Notice], kind: Kind) -> list[Notice]:
    return [notice for notice in notices if notice.kind is kind]


async def test_a_death_is_taken_once_however_often_a_message_comes(world: World) -> None:
    id = await died(world)
    (taken,) = await take(world.conn, [id, id, world.ids()])
    assert (taken.id, taken.endpoint_id, taken.reason) == (id, world.endpoint_id, Reason.ATTEMPTS_EXHAUSTED)
    assert await take(world.conn, [id]) == []


async def test_two_messages_at_once_share_the_deaths(world: World, shop: Shop) -> None:
    ids = [await died(world) for _ in range(20)]

    async def once() -> list[Death]:
        async with shop.web.db.transaction() as conn:
            return await take(conn, ids)

    taken = await asyncio.gather(*(once() for _ in range(3)))
    assert sorted(death.id for some in taken for death in some) == ids


async def test_what_no_message_came_for_is_found_when_it_is_old_enough(world: World) -> None:
    old, young = await died(world), await died(world)
    await rows(world.conn, "UPDATE dead_letters SET died_at = now() - interval '11 s' WHERE id = %s RETURNING 1", [old])
    assert [death.id for death in await take_forgotten(world.conn, silent_s=10, limit=9)] == [old]
    assert await take_forgotten(world.conn, silent_s=10, limit=9) == []
    assert [death.id for death in await take(world.conn, [old, young])] == [young]


async def test_a_death_is_logged_and_told_of_to_its_client(world: World, caplog: pytest.LogCaptureFixture) -> None:
    id = await died(world)
    (notice,) = await seen_to(world, id)
    assert (notice.kind, notice.tenant_id, notice.subject_id) == (
        Kind.DELIVERY_DEAD,
        world.tenant_id,
        world.endpoint_id,
    )
    assert (notice.details["deliveryId"], notice.details["reason"]) == (str(id), "ATTEMPTS_EXHAUSTED")
    assert caplog.messages == [f"delivery {id} is dead: ATTEMPTS_EXHAUSTED"]
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("type", [*Kind, "relay.test"])
async def test_the_death_of_a_notice_or_a_test_is_not_told_of(world: World, type: str) -> None:
    notice, order = await died(world, type=type), await died(world)
    told = await seen_to(world, notice, order)
    assert [one.details["deliveryId"] for one in told] == [str(order)]


async def test_a_410_disables_the_endpoint_with_one_notice(world: World) -> None:
    waiting = await world.waiting(await world.event())
    notices = await seen_to(world, *[await died(world, reason=Reason.GONE) for _ in range(3)])
    assert [one.details for one in of(notices, Kind.ENDPOINT_DISABLED)] == [{"reason": "GONE"}]
    assert len(of(notices, Kind.DELIVERY_DEAD)) == 3
    assert await rows(world.conn, "SELECT status, disabled_reason FROM endpoints") == [("disabled", "gone")]
    again = await seen_to(world, await died(world, reason=Reason.GONE))
    assert [one.kind for one in again] == [Kind.DELIVERY_DEAD]
    letters = await rows(world.conn, "SELECT reason, told FROM dead_letters WHERE id = %s", [waiting])
    assert letters == [("endpoint_disabled", True)], "one notice tells of the endpoint, none of each that died with it"


async def test_a_410_to_a_notice_disables_the_endpoint_without_one(world: World) -> None:
    assert await seen_to(world, await died(world, type=Kind.DELIVERY_DEAD, reason=Reason.GONE)) == []
    assert await rows(world.conn, "SELECT disabled_reason FROM endpoints") == [("gone",)]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.GONE])
async def test_no_other_death_disables_anything(world: World, reason: Reason) -> None:
    await seen_to(world, await died(world, reason=reason))
    assert await rows(world.conn, "SELECT status FROM endpoints") == [("active",)]


async def test_many_endpoints_that_are_gone_at_once_are_all_disabled_beside_changes_of_them(
    world: World, shop: Shop
) -> None:
    second = await world.endpoint("a")
    first, other = await died(world, reason=Reason.GONE), await died(world, reason=Reason.GONE)
    await rows(world.conn, "UPDATE dead_letters SET endpoint_id = %s WHERE id = %s RETURNING 1", [second, other])

    async def change(endpoint_id: UUID) -> None:
        async with shop.web.db.transaction() as conn:
            await conn.execute("UPDATE endpoints SET description = 'x' WHERE id = %s", (endpoint_id,))
            await conn.execute(
                "UPDATE tenants SET config_version = config_version + 1 WHERE id = %s", (world.tenant_id,)
            )

    async def end() -> None:
        async with shop.web.db.transaction() as conn:
            await deaths.see_to(conn, await take(conn, [first, other]))

    await asyncio.gather(end(), *(change(id) for id in (second, world.endpoint_id)))
    assert await rows(world.conn, "SELECT DISTINCT status FROM endpoints") == [("disabled",)]
