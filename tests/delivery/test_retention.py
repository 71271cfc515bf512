"""What is too old ends or goes, visibly, and never while somebody needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from relay import partitions
from relay.db import Conn
from relay.delivery import retention
from relay.delivery.live import Planned, insert
from relay.ids import floor_at
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, rows
from tests.running import until_true
from tests.shop import Shop, open_shop

KEEP_DAYS = 30
OLD = datetime.now(UTC) - timedelta(days=70)
FIFO = "fifo:a"


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    with psycopg.connect(settings.database_url, autocommit=True) as conn:
        partitions.ensure(conn, now=OLD)
    async with open_shop(settings) as shop:
        yield shop


async def waiting(
    conn: Conn, shop: Shop, endpoint_id: UUID, *, at: datetime = OLD, lane: str = "", seq: int | None = None
) -> UUID:
    """A delivery that was made then and still waits, for tomorrow."""
    id = UUID(int=floor_at(at.timestamp()).int + int(shop.web.ids().int & 0xFFFFFFFF))
    await rows(
        conn,
        """INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, lane, seq, due_at, attempts, created_at)
           VALUES (%s, %s, %s, %s, 1, %s, %s, now() + interval '1 day', 2, %s) RETURNING 1""",
        (id, shop.tenant_id, id, endpoint_id, lane, seq, at),
    )
    return id


async def expire(shop: Shop, *, limit: int = 2000) -> int:
    async with shop.web.db.transaction() as conn:
        return await retention.expire(conn, keep_days=KEEP_DAYS, limit=limit)


async def fifo(conn: Conn, shop: Shop, *, on_dead: str = "park", key: str = FIFO, used: str = "31 days") -> UUID:
    """An endpoint with an empty FIFO lane that sleeps."""
    endpoint_id = await shop.endpoint(NOWHERE)
    await rows(
        conn,
        "UPDATE endpoints SET fifo = true, fifo_on_dead = %s WHERE id = %s RETURNING 1",
        (on_dead, endpoint_id),
    )
    await rows(
        conn,
        f"""INSERT INTO lanes (endpoint_id, key, tenant_id, tier, next_seq, used_at)
            VALUES (%s, %s, %s, 1, 5, now() - interval '{used}') RETURNING 1""",
        (endpoint_id, key, shop.tenant_id),
    )
    return endpoint_id


async def test_what_has_waited_for_too_long_is_dead_and_listed(shop: Shop, conn: Conn) -> None:
    endpoint_id = await shop.endpoint(NOWHERE)
    old = [await waiting(conn, shop, endpoint_id) for _ in range(3)]
    young = await waiting(conn, shop, endpoint_id, at=datetime.now(UTC) - timedelta(days=59))
    sent = await waiting(conn, shop, endpoint_id)
    await rows(
        conn,
        "UPDATE live SET due_at = NULL, fence = 1, owner = 1, sent_at = now() WHERE id = %s RETURNING 1",
        (sent,),
    )
    assert [await expire(shop, limit=2) for _ in range(3)] == [2, 1, 0]
    assert {row[0] for row in await rows(conn, "SELECT id FROM live")} == {young, sent}
    ended = await rows(conn, "SELECT id, state, reason, attempts, first FROM history ORDER BY id")
    assert ended == [(id, "dead", "expired", 2, True) for id in sorted(old)]
    letters = await rows(conn, "SELECT id, reason, told FROM dead_letters ORDER BY id")
    assert letters == [(id, "expired", False) for id in sorted(old)]


async def test_what_was_handed_out_and_not_claimed_expires_too(shop: Shop, conn: Conn) -> None:
    await waiting(conn, shop, await shop.endpoint(NOWHERE))
    await rows(conn, "UPDATE live SET due_at = NULL, fence = 1, sent_at = now() RETURNING 1")
    assert await expire(shop) == 1


@pytest.mark.parametrize("on_dead", ["park", "block"])
async def test_a_lane_goes_on_after_its_head_expired_or_is_blocked_by_it(shop: Shop, conn: Conn, on_dead: str) -> None:
    endpoint_id = await fifo(conn, shop, on_dead=on_dead)
    heads = [await waiting(conn, shop, endpoint_id, lane=FIFO, seq=seq) for seq in (1, 2)]
    await waiting(conn, shop, endpoint_id, lane=FIFO, seq=3, at=datetime.now(UTC))
    assert await expire(shop) == 2
    blocked_by = heads[0] if on_dead == "block" else None
    assert await rows(
        conn, "SELECT ready_at <= now(), blocked_by FROM lanes WHERE key = %s", (FIFO,)
    ) == [(True, blocked_by)]  # fmt: skip
    assert await rows(conn, "SELECT lane, seq FROM history ORDER BY seq") == [(FIFO, 1), (FIFO, 2)]


async def test_expiry_waits_for_whoever_takes_from_the_lane(shop: Shop, conn: Conn) -> None:
    """Lanes are locked before their rows by all, so that nobody waits in a circle."""
    endpoint_id = await fifo(conn, shop)
    id = await waiting(conn, shop, endpoint_id, lane=FIFO, seq=1)
    async with shop.web.db.transaction() as taker:
        await rows(taker, "SELECT 1 FROM lanes WHERE key = %s FOR SHARE", (FIFO,))
        expiring = asyncio.ensure_future(expire(shop))
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)", 5)
        await rows(
            taker,
            "UPDATE live SET due_at = NULL, fence = 1, owner = 1, sent_at = now() WHERE id = %s RETURNING 1",
            (id,),
        )
    assert await expiring == 0


async def forget(shop: Shop, *, limit: int = 1000) -> int:
    async with shop.web.db.transaction() as conn:
        return await retention.forget_idle_lanes(conn, keep_days=KEEP_DAYS, limit=limit)


async def test_fifo_lanes_that_nobody_uses_go_and_no_others(shop: Shop, conn: Conn) -> None:
    await fifo(conn, shop)
    await fifo(conn, shop, key="fifo:")
    kept = [await fifo(conn, shop, used="29 days"), await fifo(conn, shop)]
    await waiting(conn, shop, kept[-1], lane=FIFO, seq=4)
    for change in (
        "ready = true",
        "ready_at = now()",
        "fence = 1, sent_at = now()",
        "blocked_by = endpoint_id",
        "key = 'low'",
    ):
        kept.append(await fifo(conn, shop))
        await rows(conn, f"UPDATE lanes SET {change} WHERE endpoint_id = %s AND key <> '' RETURNING 1", (kept[-1],))
    assert [await forget(shop, limit=1) for _ in range(3)] == [1, 1, 0]
    assert {row[0] for row in await rows(conn, "SELECT endpoint_id FROM lanes WHERE key <> ''")} == set(kept)
    assert await rows(conn, "SELECT count(*) FROM lanes WHERE key = ''") == [(9,)]


def planned(shop: Shop, endpoint_id: UUID) -> Planned:
    ids = shop.web.ids
    return Planned(ids(), shop.tenant_id, ids(), endpoint_id, 1, FIFO, 1, waits=True)


async def test_a_lane_that_gets_a_delivery_at_this_moment_stays(shop: Shop, conn: Conn) -> None:
    endpoint_id = await fifo(conn, shop)
    async with shop.web.db.transaction() as fan_out:
        await insert(fan_out, [planned(shop, endpoint_id)], window=0)
        assert await forget(shop) == 0
    assert await forget(shop) == 0
    assert await rows(conn, "SELECT seq FROM live") == [(5,)]


async def test_a_delivery_for_a_lane_that_goes_at_this_moment_makes_it_anew(shop: Shop, conn: Conn) -> None:
    endpoint_id = await fifo(conn, shop)

    async def fan_out() -> None:
        async with shop.web.db.transaction() as own:
            await insert(own, [planned(shop, endpoint_id)], window=0)

    async with shop.web.db.transaction() as forgetting:
        assert await retention.forget_idle_lanes(forgetting, keep_days=KEEP_DAYS) == 1
        waits = asyncio.ensure_future(fan_out())
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)", 5)
    await waits
    assert await rows(conn, "SELECT seq FROM live") == [(1,)]
    assert await rows(conn, "SELECT next_seq, ready_at IS NOT NULL FROM lanes WHERE key = %s", (FIFO,)) == [(2, True)]


async def test_fan_out_and_forgetting_together_lose_no_place(shop: Shop, conn: Conn) -> None:
    """Many of both at once: each delivery has its lane, rung, and a place that no other has."""
    endpoint_id = await fifo(conn, shop)
    old = "UPDATE lanes SET used_at = now() - interval '31 days', ready_at = NULL WHERE key = %s RETURNING 1"

    async def fan_out() -> None:
        for _ in range(40):
            async with shop.web.db.transaction() as own:
                await insert(own, [planned(shop, endpoint_id)], window=0)
            if await rows(conn, "SELECT count(*) FROM live") == [(3,)]:
                await rows(conn, "DELETE FROM live RETURNING 1")
                await rows(conn, old, (FIFO,))

    adding = asyncio.ensure_future(fan_out())
    gone = 0
    while not adding.done():
        gone += await forget(shop)
    await adding
    assert gone > 0
    assert await rows(conn, "SELECT count(*) FROM live") == [(1,)]
    assert await rows(conn, "SELECT ready_at IS NOT NULL FROM lanes WHERE key = %s", (FIFO,)) == [(True,)]


async def test_dead_letters_go_with_their_history_but_not_before_somebody_could_see_them(
    shop: Shop, conn: Conn
) -> None:
    endpoint_id = await shop.endpoint(NOWHERE)
    ids = sorted([await waiting(conn, shop, endpoint_id) for _ in range(3)])
    await expire(shop)
    assert await retention.forget_dead_letters(conn, keep_days=KEEP_DAYS) == 0
    await rows(conn, "UPDATE dead_letters SET died_at = now() - interval '8 days' WHERE id <> %s RETURNING 1", ids[:1])
    assert await retention.forget_dead_letters(conn, keep_days=KEEP_DAYS) == 0
    await rows(conn, "DELETE FROM history WHERE id <> %s RETURNING 1", ids[1:2])
    assert await retention.forget_dead_letters(conn, keep_days=KEEP_DAYS) == 1
    assert [row[0] for row in await rows(conn, "SELECT id FROM dead_letters ORDER BY id")] == ids[:2]
