from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection

from relay.db import Conn
from relay.delivery import deliveries
from relay.delivery.deliveries import DeliveryFilter, DeliveryStatus
from relay.errors import Conflict, NotFound
from relay.intake import events
from relay.recovery.replay import finals_of_events, replay, replay_event, replay_to
from relay.recovery.targets import Refusal
from tests.delivery.crew import rows
from tests.rows import World, make_world

NEW = "SELECT event_id, endpoint_id, tier, lane, seq, first, replay_of, fence, due_at <= now() FROM live ORDER BY id"


async def replayed(world: World, event: UUID) -> dict[UUID, UUID | Refusal]:
    states = ["delivered", "dead", "cancelled"]
    finals = await finals_of_events(world.conn, world.tenant_id, [event], states=states)
    async with world.conn.transaction():
        return await replay(world.conn, world.tenant_id, finals, ids=world.ids)


async def in_lane(world: World, delivery: UUID, lane: str, seq: int | None, *, tier: int = 1) -> None:
    await rows(world.conn, "UPDATE history SET lane = %s, seq = %s, tier = %s WHERE id = %s RETURNING 1", (
        lane, seq, tier, delivery,
    ))  # fmt: skip


async def make_fifo(world: World, *lanes: tuple[str, int, UUID | None]) -> None:
    await rows(world.conn, "UPDATE endpoints SET fifo = true RETURNING 1")
    for key, next_seq, blocked_by in lanes:
        await rows(
            world.conn,
            """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, next_seq, blocked_by)
               VALUES (%s, %s, %s, 1, %s, %s) RETURNING 1""",
            (world.endpoint_id, key, world.tenant_id, next_seq, blocked_by),
        )


async def test_a_replay_is_a_new_delivery_that_waits_and_the_dead_one_is_settled(world: World) -> None:
    event = await world.event()
    dead = await world.finished(event, "dead")
    (new,) = (await replayed(world, event)).values()
    assert isinstance(new, UUID)
    assert new != dead
    assert await rows(world.conn, NEW) == [(event, world.endpoint_id, 1, "", None, False, dead, None, True)]
    assert await rows(world.conn, "SELECT ready_at <= now() FROM lanes WHERE key = ''") == [(True,)]
    settled = DeliveryFilter(settled=True)
    assert [one.id for one in (await deliveries.list_(world.conn, world.tenant_id, settled, first=9)).items] == [dead]
    (successor,) = (await deliveries.replays_of(world.conn, world.tenant_id, [dead, new])).items()
    assert (successor[0], successor[1].id) == (dead, new)


async def test_what_is_dead_or_cancelled_is_repeated_once_and_what_arrived_whenever_asked(world: World) -> None:
    event = await world.event()
    dead, cancelled = await world.finished(event, "dead"), await world.finished(event, "cancelled")
    arrived = await world.finished(event)
    first, second = await replayed(world, event), await replayed(world, event)
    assert all(isinstance(one, UUID) for one in first.values())
    assert (second[dead], second[cancelled]) == (Refusal.SETTLED, Refusal.SETTLED)
    assert isinstance(second[arrived], UUID)


async def test_of_many_replays_at_once_one_wins(world: World, database_url: str) -> None:
    event = await world.event()
    dead, cancelled = await world.finished(event, "dead"), await world.finished(event, "cancelled")
    finals = await finals_of_events(world.conn, world.tenant_id, [event], states=["dead", "cancelled"])

    async def once() -> dict[UUID, UUID | Refusal]:
        async with await AsyncConnection.connect(database_url) as conn:
            return await replay(conn, world.tenant_id, finals, ids=world.ids)

    results = await asyncio.gather(*(once() for _ in range(6)))
    for id in (dead, cancelled):
        assert sum(isinstance(result[id], UUID) for result in results) == 1
    assert await rows(world.conn, "SELECT count(*), count(DISTINCT replay_of) FROM live") == [(2, 2)]


async def test_an_endpoint_that_is_gone_or_disabled_gets_no_replay(world: World) -> None:
    event = await world.event()
    gone, off, paused = [await world.endpoint() for _ in range(3)]
    finals = {e: await world.finished(event, "dead", endpoint_id=e) for e in (gone, off, paused)}
    await rows(world.conn, "UPDATE endpoints SET deleted_at = now() WHERE id = %s RETURNING 1", (gone,))
    await rows(
        world.conn,
        """UPDATE endpoints SET status = 'disabled', disabled_at = now(), disabled_reason = 'gone' WHERE id = %s
           RETURNING 1""",
        (off,),
    )
    await rows(world.conn, "UPDATE lanes SET paused = true WHERE endpoint_id = %s RETURNING 1", (paused,))
    results = await replayed(world, event)
    assert (results[finals[gone]], results[finals[off]]) == (Refusal.DELETED, Refusal.DISABLED)
    assert isinstance(results[finals[paused]], UUID)
    assert await rows(world.conn, "SELECT count(*) FROM dead_letters") == [(2,)]
    with pytest.raises(Conflict, match="disabled"):
        await replay_event(world.conn, world.tenant_id, event, ids=world.ids)


async def test_replays_go_to_the_tail_of_their_fifo_lane_in_order(world: World) -> None:
    event = await world.event()
    dead = [await world.finished(event, "dead") for _ in range(3)]
    for seq, id in enumerate(dead, 4):
        await in_lane(world, id, "fifo:a" if seq < 6 else "fifo:b", seq)
    await make_fifo(world, ("fifo:a", 9, None))
    await replayed(world, event)
    assert await rows(world.conn, "SELECT replay_of, tier, lane, seq FROM live ORDER BY id") == [
        (dead[0], 1, "fifo:a", 9),
        (dead[1], 1, "fifo:a", 10),
        (dead[2], 1, "fifo:b", 1),
    ]
    lanes = "SELECT key, next_seq, ready_at <= now() FROM lanes WHERE key <> '' ORDER BY key"
    assert await rows(world.conn, lanes) == [("fifo:a", 11, True), ("fifo:b", 2, True)]


async def test_the_replay_of_the_dead_head_that_blocks_a_lane_takes_its_place(world: World) -> None:
    event = await world.event()
    head, other = await world.finished(event, "dead"), await world.finished(event, "dead")
    await in_lane(world, head, "fifo:", 3)
    await in_lane(world, other, "fifo:", 2)
    await make_fifo(world, ("fifo:", 7, head))
    await replayed(world, event)
    assert await rows(world.conn, "SELECT replay_of, seq FROM live ORDER BY seq") == [(head, 3), (other, 7)]
    assert await rows(world.conn, "SELECT next_seq, blocked_by FROM lanes WHERE key = 'fifo:'") == [(8, None)]


async def test_an_endpoint_that_gave_up_its_order_gets_ordinary_replays_and_its_lane_goes_on(world: World) -> None:
    event = await world.event()
    head = await world.finished(event, "dead")
    await in_lane(world, head, "fifo:", 3)
    await make_fifo(world, ("fifo:", 7, head))
    await rows(world.conn, "UPDATE endpoints SET fifo = false RETURNING 1")
    await replayed(world, event)
    assert await rows(world.conn, "SELECT lane, seq FROM live") == [("", None)]
    blocked = "SELECT blocked_by, ready_at <= now() FROM lanes WHERE key = 'fifo:'"
    assert await rows(world.conn, blocked) == [(None, True)]


@pytest.mark.parametrize(("lane", "tier"), [("high", 0), ("low", 2), ("test", 0)])
async def test_a_replay_keeps_its_tier_and_a_test_stays_a_test(world: World, lane: str, tier: int) -> None:
    event = await world.event()
    await in_lane(world, await world.finished(event, "dead"), lane, None, tier=tier)
    await replayed(world, event)
    assert await rows(world.conn, "SELECT lane, tier FROM live") == [(lane, tier)]
    assert await rows(world.conn, "SELECT tier FROM lanes WHERE key = %s", (lane,)) == [(tier,)]


async def test_replaying_an_event_repeats_its_dead_and_cancelled_ones_and_then_has_nothing_left(world: World) -> None:
    event = await world.event()
    for state in ("dead", "cancelled", "delivered"):
        await world.finished(event, state, endpoint_id=await world.endpoint())
    async with world.conn.transaction():
        await replay_event(world.conn, world.tenant_id, event, ids=world.ids)
    assert await rows(world.conn, "SELECT count(*) FROM live") == [(2,)]
    assert (await events.statuses(world.conn, [event]))[event] == "queued"
    with pytest.raises(Conflict):
        await replay_event(world.conn, world.tenant_id, event, ids=world.ids)


async def test_an_event_goes_to_one_endpoint_whatever_came_before(world: World) -> None:
    event = await world.event()
    fresh = await world.endpoint("never.matched")
    first = await replay_to(world.conn, world.tenant_id, event, fresh, ids=world.ids)
    second = await replay_to(world.conn, world.tenant_id, event, fresh, ids=world.ids)
    found = await deliveries.find_many(world.conn, world.tenant_id, [first, second])
    assert (found[first].replay_of, found[second].replay_of) == (None, first)
    dead = await world.finished(event, "dead")
    third = await replay_to(world.conn, world.tenant_id, event, world.endpoint_id, ids=world.ids)
    assert (await deliveries.get(world.conn, world.tenant_id, third)).replay_of == dead
    assert await rows(world.conn, "SELECT count(*) FROM dead_letters") == [(0,)]


async def test_nothing_of_another_client_is_replayed(world: World) -> None:
    event = await world.event()
    await world.finished(event, "dead")
    other = await make_world(world.conn, "other")
    for attempt in (
        replay_event(world.conn, other.tenant_id, event, ids=world.ids),
        replay_event(world.conn, world.tenant_id, uuid4(), ids=world.ids),
        replay_to(world.conn, other.tenant_id, event, other.endpoint_id, ids=world.ids),
        replay_to(world.conn, world.tenant_id, event, other.endpoint_id, ids=world.ids),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await rows(world.conn, "SELECT count(*) FROM live") == [(0,)]
    assert await deliveries.count(world.conn, other.tenant_id, DeliveryFilter(status=DeliveryStatus.DEAD)) == 0


async def test_a_finished_replay_is_found_in_the_history(world: World, conn: Conn) -> None:
    event = await world.event()
    dead = await world.finished(event, "dead")
    new = (await replayed(world, event))[dead]
    await rows(
        conn,
        """WITH f AS (DELETE FROM live RETURNING *)
           INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, replay_of, created_at)
           SELECT id, tenant_id, event_id, endpoint_id, 'delivered', tier, 1, 'ok', replay_of, created_at
           FROM f RETURNING 1""",
    )
    assert (await deliveries.replays_of(conn, world.tenant_id, [dead]))[dead].id == new
    assert (await events.statuses(conn, [event]))[event] == "delivered"
