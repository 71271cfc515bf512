"""A pause holds and loses nothing; a resume lets everything go on, whatever the two meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from relay.db import Conn
from relay.delivery import disabling, live, pausing
from relay.delivery.live import claim
from relay.delivery.outcomes import Reason
from relay.errors import Conflict, Invalid, NotFound
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, handed_out, open_crew, rows
from tests.running import until, until_true
from tests.shop import Shop, open_shop
from tests.sink import Sink

GATE = "SELECT paused, pace_per_sec, paced_at IS NOT NULL FROM lanes WHERE key = ''"


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


@pytest.fixture
async def endpoint(shop: Shop) -> UUID:
    return await shop.endpoint(NOWHERE)


async def test_a_pause_takes_back_what_nobody_claimed_and_leaves_what_is_sent(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    await shop.send(5)
    dispatched = await fan_out(shop)
    mine = await claim(conn, dispatched[:2], worker=1)
    await conn.execute("UPDATE lanes SET ready_at = NULL, ready = false")
    assert await shop.pause(endpoint) == 3
    assert await claim(conn, dispatched, worker=1) == []
    waiting = (
        "SELECT count(*) FROM live WHERE due_at <= now() AND fence IS NULL AND sent_at IS NULL AND reason = 'paused'"
    )
    assert await rows(conn, waiting) == [(3,)]
    assert await rows(conn, "SELECT id FROM live WHERE owner = 1 ORDER BY id") == [(one.id,) for one in mine]
    assert await rows(conn, "SELECT ready_at <= now() FROM lanes") == [(True,)]


async def test_a_pause_is_not_answered_before_what_is_being_claimed_is_known_to_be_in_flight(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    await shop.send(1)
    dispatched = await fan_out(shop)
    async with shop.web.db.transaction() as claiming:
        mine = await claim(claiming, dispatched, worker=1)
        answer = asyncio.ensure_future(shop.pause(endpoint))
        await until_true(
            conn,
            """SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                              AND wait_event_type = 'Lock' AND query LIKE '%FROM live%')""",
            5,
        )
    assert await answer == 0
    assert await live.owned(conn, 1) == [(mine[0].id, mine[0].fence)]


async def test_a_pause_is_no_matter_for_other_endpoints_and_for_test_deliveries(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    other = await shop.endpoint(NOWHERE)
    await shop.send(1)
    assert len(await fan_out(shop)) == 2
    await shop.web.send_test(shop.tenant_id, endpoint, None)
    assert await shop.pause(endpoint) == 1
    left = await rows(conn, "SELECT endpoint_id, lane FROM live WHERE fence IS NOT NULL ORDER BY lane")
    assert left == [(other, ""), (endpoint, "test")]


async def test_pausing_twice_is_fine_and_a_paused_endpoint_gets_nothing(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    assert [await shop.pause(endpoint), await shop.pause(endpoint)] == [0, 0]
    await shop.send(2)
    assert await fan_out(shop) == []
    assert await handed_out(conn) == []


async def test_a_resume_rings_every_lane_and_opens_no_circuit(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    for key in ("high", "low", "fifo:a"):
        await conn.execute(
            "INSERT INTO lanes (endpoint_id, key, tenant_id, tier) VALUES (%s, %s, %s, 1)",
            (endpoint, key, shop.tenant_id),
        )
    await conn.execute("UPDATE lanes SET ready_at = CASE key WHEN 'high' THEN 'infinity'::timestamptz END")
    await conn.execute("UPDATE lanes SET gate_reason = 'circuit_open', gate_until = now() + '1 h' WHERE key = ''")
    await shop.pause(endpoint)
    await shop.resume(endpoint)
    assert await rows(conn, "SELECT count(*) FROM lanes WHERE ready_at <= now()") == [(4,)]
    assert await rows(conn, "SELECT paused, gate_reason FROM lanes WHERE key = ''") == [(False, "circuit_open")]


async def test_a_rate_paces_what_was_created_until_the_resume_and_the_next_resume_clears_it(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    await shop.pause(endpoint)
    await shop.resume(endpoint, rate_per_sec=50)
    assert await rows(conn, GATE) == [(False, 50, True)]
    assert await rows(conn, "SELECT count(*) FROM lanes WHERE paced_at < clock_timestamp()") == [(1,)]
    await shop.resume(endpoint)
    assert await rows(conn, GATE) == [(False, None, False)]


@pytest.mark.parametrize("rate", [0, -1, 10_001])
async def test_a_rate_that_cannot_be_is_invalid(shop: Shop, endpoint: UUID, rate: int) -> None:
    with pytest.raises(Invalid) as refused:
        await shop.resume(endpoint, rate_per_sec=rate)
    assert refused.value.field == "ratePerSec"


async def test_a_disabled_endpoint_cannot_be_paused_and_a_resume_enables_it(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    async with shop.web.db.transaction() as tx:
        assert await disabling.disable(tx, shop.tenant_id, endpoint, reason=Reason.GONE)
    await conn.execute(
        "INSERT INTO failing (endpoint_id, tenant_id, since, last_at) VALUES (%s, %s, now(), now())",
        (endpoint, shop.tenant_id),
    )
    with pytest.raises(Conflict, match="resume it first"):
        await shop.pause(endpoint)
    versions = "SELECT version, config_version FROM endpoints e JOIN tenants t ON t.id = e.tenant_id"
    ((before, config_before),) = await rows(conn, versions)
    await shop.resume(endpoint)
    assert await rows(conn, "SELECT status, disabled_reason, disabled_at FROM endpoints") == [("active", None, None)]
    assert await rows(conn, "SELECT count(*) FROM failing") == [(0,)]
    assert await rows(conn, versions) == [(before + 1, config_before + 1)]  # pyright: ignore[reportOperatorIssue]
    await shop.send(1)
    await fan_out(shop)
    assert await rows(conn, "SELECT count(*) FROM live") == [(1,)]


async def test_what_is_no_endpoint_of_the_client_is_not_found(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    await conn.execute("UPDATE endpoints SET kind = 'adhoc'")
    for id in (endpoint, uuid4()):
        for change in (shop.pause, shop.resume):
            with pytest.raises(NotFound):
                await change(id)


async def test_a_lane_that_a_clock_puts_to_sleep_meanwhile_wakes_with_the_resume(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    """The lane is new: the resume has rung before it was there, and the clock still reads the closed gate."""
    await shop.pause(endpoint)
    async with shop.web.db.transaction() as resuming:
        await pausing.resume(resuming, shop.tenant_id, endpoint)
        await conn.execute(
            "INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at) VALUES (%s, 'low', %s, 1, now())",
            (endpoint, shop.tenant_id),
        )
        assert await handed_out(conn) == []
    async with shop.web.db.transaction() as ringing:
        await pausing.ring_lanes(ringing, endpoint)
    assert "low" in [lane.key for _ in range(2) for lane in await handed_out(conn)]


async def test_pauses_and_resumes_at_once_with_claims_lose_nothing_and_send_nothing_twice(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    with Sink() as sink:
        endpoint = await shop.endpoint(sink.url())
        async with open_crew(settings) as crew:

            async def deliver() -> list[str]:
                sent: list[str] = []
                for _ in range(20):
                    sent += await shop.send(20)
                    await crew.deliverer.deliver(await fan_out(shop))
                return sent

            all_done = asyncio.Event()

            async def work_lanes() -> None:
                while not all_done.is_set():
                    for lane in await handed_out(conn):
                        await crew.holder.hold([lane])
                    await asyncio.sleep(0.01)

            async def disturb() -> None:
                for _ in range(30):
                    await shop.pause(endpoint)
                    await shop.resume(endpoint)

            working = asyncio.ensure_future(work_lanes())
            sent, _, _ = await asyncio.gather(deliver(), disturb(), disturb())
            await until(lambda: len(sink.events()) == len(sent), 20, what="every arrival")
            await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 10)
            all_done.set()
            await working
    assert sink.events() == dict.fromkeys(sent, 1)
    assert await rows(conn, "SELECT count(*) FROM history WHERE state = 'delivered'") == [(len(sent),)]


async def test_what_a_fan_out_hands_out_while_the_pause_commits_is_not_claimed(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    await shop.send(1)
    dispatched = await fan_out(shop)
    async with shop.web.db.transaction() as tx:
        await pausing.pause(tx, shop.tenant_id, endpoint)
    assert await claim(conn, dispatched, worker=1) == []
    await shop.resume(endpoint)
    assert len(await claim(conn, dispatched, worker=1)) == 1
    assert await live.owned(conn, 1)
