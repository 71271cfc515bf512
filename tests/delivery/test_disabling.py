"""What waits for an endpoint that is disabled or deleted ends visibly, however much it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from relay.db import Conn
from relay.delivery import disabling
from relay.delivery.live import claim
from relay.delivery.outcomes import Reason
from relay.errors import NotFound
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, handed_out, open_crew, rows
from tests.rows import insert_waiting
from tests.running import until_true
from tests.shop import Shop, open_shop

ENDED = "SELECT state, reason, count(*) FROM history GROUP BY 1, 2"
GATES = """SELECT count(*) FROM lanes WHERE paused OR gate_reason IS NOT NULL OR gate_until IS NOT NULL
           OR probe_until IS NOT NULL OR opened_at IS NOT NULL OR pace_per_sec IS NOT NULL OR blocked_by IS NOT NULL
           OR ready_at IS NULL"""


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


@pytest.fixture
async def endpoint(shop: Shop) -> UUID:
    return await shop.endpoint(NOWHERE)


async def disable(shop: Shop, endpoint: UUID, reason: Reason = Reason.CANCELLED_BY_USER) -> bool:
    async with shop.web.db.transaction() as conn:
        return await disabling.disable(conn, shop.tenant_id, endpoint, reason=reason)


async def delete(shop: Shop, endpoint: UUID) -> None:
    async with shop.web.db.transaction() as conn:
        await disabling.delete(conn, shop.tenant_id, endpoint)


async def in_every_state(shop: Shop, endpoint: UUID, conn: Conn) -> UUID:
    """Two waiting, two handed out, one of them claimed; return the claimed one."""
    await shop.send(2)
    dispatched = await fan_out(shop)
    (mine,) = await claim(conn, dispatched[:1], worker=1)
    await insert_waiting(conn, shop.tenant_id, endpoint, 2)
    return mine.id


async def test_disabling_lets_everything_die_that_nobody_owns_and_test_deliveries_go_on(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    mine = await in_every_state(shop, endpoint, conn)
    await shop.web.send_test(shop.tenant_id, endpoint, None)
    assert await disable(shop, endpoint)
    assert await rows(conn, ENDED) == [("dead", "endpoint_disabled", 3)]
    assert await rows(conn, "SELECT reason, told, count(*) FROM dead_letters GROUP BY 1, 2") == [
        ("endpoint_disabled", True, 3)
    ]
    left = {(row[0], row[1]) for row in await rows(conn, "SELECT id, lane FROM live")}
    assert (mine, "") in left
    assert {lane for _, lane in left} == {"", "test"}


async def test_a_disabled_endpoint_says_why_and_is_matched_no_more(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    await shop.send(1)
    await fan_out(shop)
    assert await disable(shop, endpoint, Reason.GONE)
    shown = "SELECT status, disabled_reason, disabled_at IS NOT NULL, version FROM endpoints"
    assert await rows(conn, shown) == [("disabled", "gone", True, 2)]
    assert not await disable(shop, endpoint)
    assert await rows(conn, shown) == [("disabled", "gone", True, 2)]
    await shop.send(1)
    await fan_out(shop)
    assert await rows(conn, "SELECT count(*) FROM live") == [(0,)]


async def test_there_is_nothing_to_disable_at_what_is_hidden_deleted_or_unknown(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    assert not await disable(shop, uuid4())
    await conn.execute("UPDATE endpoints SET kind = 'adhoc'")
    assert not await disable(shop, endpoint)
    await conn.execute("UPDATE endpoints SET kind = 'subscribed'")
    await delete(shop, endpoint)
    assert not await disable(shop, endpoint)


async def test_deleting_cancels_everything_that_nobody_owns(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    mine = await in_every_state(shop, endpoint, conn)
    await shop.web.send_test(shop.tenant_id, endpoint, None)
    await delete(shop, endpoint)
    assert await rows(conn, ENDED) == [("cancelled", "endpoint_deleted", 4)]
    assert await rows(conn, "SELECT id FROM live") == [(mine,)]
    assert await rows(conn, "SELECT count(*) FROM dead_letters") == [(0,)]
    with pytest.raises(NotFound):
        await delete(shop, endpoint)


@pytest.mark.parametrize("end", [disable, delete])
async def test_the_first_five_thousand_end_at_once_and_every_lane_is_open_for_the_rest(
    shop: Shop, endpoint: UUID, conn: Conn, end: Callable[[Shop, UUID], Awaitable[object]]
) -> None:
    await insert_waiting(conn, shop.tenant_id, endpoint, 6001)
    await insert_waiting(conn, shop.tenant_id, endpoint, 10, lane="fifo:a")
    await conn.execute("UPDATE lanes SET blocked_by = gen_random_uuid() WHERE key = 'fifo:a'")
    await conn.execute(
        """UPDATE lanes SET paused = true, gate_reason = 'circuit_open', gate_until = now(), opened_at = now(),
               probe_until = now(), pace_per_sec = 5, paced_at = now(), gate_epoch = 7 WHERE key = ''"""
    )
    await conn.execute("UPDATE lanes SET ready_at = NULL")
    await end(shop, endpoint)
    assert await rows(conn, "SELECT count(*) FROM history") == [(5000,)]
    assert await rows(conn, "SELECT count(*) FROM live") == [(1011,)]
    assert await rows(conn, GATES) == [(0,)]
    assert await rows(conn, "SELECT count(*) FROM lanes WHERE key = '' AND gate_epoch = 7") == [(0,)]


async def test_workers_cancel_what_a_deletion_leaves(
    settings: Settings, shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    await insert_waiting(conn, shop.tenant_id, endpoint, 5300)
    await conn.execute("UPDATE lanes SET paused = true WHERE key = ''")
    await delete(shop, endpoint)
    async with open_crew(settings) as crew:
        for lane in await handed_out(conn):
            await crew.holder.hold([lane])
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 20)
    assert await rows(conn, ENDED) == [("cancelled", "endpoint_deleted", 5300)]
    assert await rows(conn, "SELECT count(*) FROM attempts") == [(0,)]
