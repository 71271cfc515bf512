from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection

from relay.delivery.live import Claimed, Dispatched, claim
from relay.errors import Conflict, NotFound
from relay.recovery.cancel import cancel
from relay.recovery.retry import retry
from tests.delivery.crew import rows
from tests.rows import World, make_world
from tests.running import until_true


async def test_a_waiting_delivery_is_cancelled_and_so_is_one_that_was_only_handed_out(world: World) -> None:
    event = await world.event()
    made = [await world.waiting(event), await world.dispatched(event, attempts=2)]
    for id in made:
        await cancel(world.conn, world.tenant_id, id)
    found = await rows(world.conn, "SELECT id, state, reason, attempts FROM history ORDER BY id")
    assert found == [
        (made[0], "cancelled", "cancelled_by_user", 0),
        (made[1], "cancelled", "cancelled_by_user", 2),
    ]
    assert await rows(world.conn, "SELECT count(*) FROM live") == [(0,)]


async def test_what_a_worker_sends_is_in_flight(world: World) -> None:
    id = await world.dispatched(await world.event(), owner=1)
    with pytest.raises(Conflict, match="in flight"):
        await cancel(world.conn, world.tenant_id, id)


async def test_a_dead_one_is_settled_once_and_cannot_be_replayed_then(world: World) -> None:
    dead = await world.finished(await world.event(), "dead")
    await cancel(world.conn, world.tenant_id, dead)
    assert await rows(world.conn, "SELECT count(*) FROM dead_letters") == [(0,)]
    for again in (
        cancel(world.conn, world.tenant_id, dead),
        retry(world.conn, world.tenant_id, dead, ids=world.ids),
    ):
        with pytest.raises(Conflict, match="before"):
            await again


@pytest.mark.parametrize("state", ["delivered", "cancelled"])
async def test_what_is_over_is_not_cancelled(world: World, state: str) -> None:
    with pytest.raises(Conflict):
        await cancel(world.conn, world.tenant_id, await world.finished(await world.event(), state))


async def test_an_unknown_delivery_and_anothers_are_not_found(world: World) -> None:
    id = await world.waiting(await world.event())
    dead = await world.finished(await world.event(), "dead")
    other = await make_world(world.conn, "other")
    for tenant_id, wanted in ((other.tenant_id, id), (other.tenant_id, dead), (world.tenant_id, uuid4())):
        with pytest.raises(NotFound):
            await cancel(world.conn, tenant_id, wanted)
    assert await rows(world.conn, "SELECT count(*) FROM dead_letters") == [(1,)]


async def test_a_cancelled_head_and_a_settled_one_let_their_lane_go_on(world: World) -> None:
    event = await world.event()
    waiting, dead = await world.waiting(event, due_s=3600), await world.finished(event, "dead")
    await rows(world.conn, "UPDATE live SET lane = 'fifo:a', seq = 1 RETURNING 1")
    await rows(world.conn, "UPDATE history SET lane = 'fifo:b', seq = 1 RETURNING 1")
    for key, blocked_by in (("fifo:a", None), ("fifo:b", dead)):
        await rows(
            world.conn,
            "INSERT INTO lanes (endpoint_id, key, tenant_id, tier, blocked_by) VALUES (%s, %s, %s, 1, %s) RETURNING 1",
            (world.endpoint_id, key, world.tenant_id, blocked_by),
        )
    await cancel(world.conn, world.tenant_id, waiting)
    await cancel(world.conn, world.tenant_id, dead)
    lanes = "SELECT key, blocked_by, ready_at <= now() FROM lanes WHERE key <> '' ORDER BY key"
    assert await rows(world.conn, lanes) == [("fifo:a", None, True), ("fifo:b", None, True)]


async def test_cancelling_a_head_that_is_being_taken_is_no_deadlock(world: World, database_url: str) -> None:
    """A take has locked the lane, and goes for its head next."""
    head = await world.waiting(await world.event())
    await rows(world.conn, "UPDATE live SET lane = 'fifo:a', seq = 1 RETURNING 1")
    await rows(
        world.conn,
        "INSERT INTO lanes (endpoint_id, key, tenant_id, tier) VALUES (%s, 'fifo:a', %s, 1) RETURNING 1",
        (world.endpoint_id, world.tenant_id),
    )

    async def try_cancel() -> None:
        async with await AsyncConnection.connect(database_url) as conn:
            await cancel(conn, world.tenant_id, head)

    async with await AsyncConnection.connect(database_url) as taking:
        await taking.execute("SELECT 1 FROM lanes WHERE key = 'fifo:a' FOR SHARE")
        cancelling = asyncio.ensure_future(try_cancel())
        await until_true(
            world.conn,
            """SELECT EXISTS (SELECT 1 FROM pg_stat_activity
                              WHERE datname = current_database() AND wait_event_type = 'Lock')""",
            5,
        )
        await taking.execute("UPDATE live SET due_at = NULL, fence = 1, owner = 1, sent_at = now()")
    with pytest.raises(Conflict, match="in flight"):
        await cancelling


async def test_of_a_claim_and_many_cancels_at_once_exactly_one_wins(world: World, database_url: str) -> None:
    event = await world.event()
    for _ in range(10):
        id = await world.dispatched(event)

        async def try_claim(id: UUID = id) -> list[Claimed]:
            async with await AsyncConnection.connect(database_url) as conn:
                return await claim(conn, [Dispatched(id, 7)], worker=1)

        async def try_cancel(id: UUID = id) -> bool:
            async with await AsyncConnection.connect(database_url) as conn:
                try:
                    await cancel(conn, world.tenant_id, id)
                except Conflict:
                    return False
            return True

        results = await asyncio.gather(try_cancel(), try_claim(), try_cancel(), try_cancel())
        assert [bool(result) for result in results].count(True) == 1
        await rows(world.conn, "DELETE FROM live RETURNING 1")


async def test_of_a_replay_and_a_cancel_of_a_dead_one_at_once_exactly_one_wins(world: World, database_url: str) -> None:
    for _ in range(10):
        dead = await world.finished(await world.event(), "dead")

        async def try_it(what: str, dead: UUID = dead) -> bool:
            async with await AsyncConnection.connect(database_url) as conn:
                try:
                    if what == "cancel":
                        await cancel(conn, world.tenant_id, dead)
                    else:
                        await retry(conn, world.tenant_id, dead, ids=world.ids)
                except Conflict:
                    return False
            return True

        results = await asyncio.gather(*(try_it(what) for what in ("cancel", "retry", "cancel", "retry")))
        assert results.count(True) == 1
        won = results.index(True) % 2
        assert await rows(world.conn, "SELECT count(*) FROM live WHERE replay_of = %s", (dead,)) == [(won,)]
