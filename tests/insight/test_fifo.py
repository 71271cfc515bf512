from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from relay.db import Conn
from relay.insight import fifo
from relay.insight.fifo import Queue
from tests.rows import World, insert_waiting, make_world

SEND_HEAD = """UPDATE live SET due_at = NULL, fence = 7, sent_at = now(), owner = 1 WHERE id = %s"""
HOLD = "UPDATE lanes SET fence = 7, sent_at = now(), owner = 1 WHERE key = %s"


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def fill(world: World, key: str, count: int) -> list[UUID]:
    return await insert_waiting(world.conn, world.tenant_id, world.endpoint_id, count, lane=f"fifo:{key}")


async def longest(world: World, *, endpoint_id: UUID | None = None, first: int = 100) -> list[Queue]:
    return await fifo.list_longest(world.conn, world.tenant_id, endpoint_id=endpoint_id, first=first)


async def only(world: World) -> Queue:
    (queue,) = await longest(world)
    return queue


async def test_lanes_come_the_longest_first_and_no_more_than_asked_for(world: World) -> None:
    for key, count in (("a", 1), ("b", 3), ("", 2)):
        await fill(world, key, count)
    await insert_waiting(world.conn, world.tenant_id, world.endpoint_id, 9)
    assert [(one.partition_key, one.length) for one in await longest(world)] == [("b", 3), ("", 2), ("a", 1)]
    assert [one.partition_key for one in await longest(world, first=1)] == ["b"]
    assert await fifo.totals(world.conn, world.tenant_id, world.endpoint_id) == (3, 6)


async def test_what_is_sent_is_in_flight_and_no_longer_counts_as_waiting(world: World) -> None:
    head, _ = await fill(world, "a", 2)
    resting = await only(world)
    assert (resting.length, resting.in_flight, resting.locked, resting.head_id) == (2, False, False, head)
    await world.conn.execute(HOLD, ("fifo:a",))
    held = await only(world)
    assert (held.in_flight, held.locked) == (False, True)
    await world.conn.execute(SEND_HEAD, (head,))
    sent = await only(world)
    assert (sent.length, sent.in_flight, sent.locked, sent.head_id) == (1, True, True, head)
    assert await fifo.totals(world.conn, world.tenant_id, world.endpoint_id) == (1, 1)


async def test_a_blocked_lane_shows_the_dead_head_also_with_nothing_behind_it(world: World) -> None:
    dead = await world.finished(await world.event(), "dead")
    (head,) = await fill(world, "a", 1)
    await world.conn.execute("UPDATE lanes SET blocked_by = %s WHERE key = 'fifo:a'", (dead,))
    assert ((await only(world)).head_id, (await only(world)).locked) == (dead, True)
    await world.conn.execute("DELETE FROM live WHERE id = %s", (head,))
    empty = await only(world)
    assert (empty.length, empty.in_flight, empty.head_id, empty.oldest_age_s) == (0, False, dead, 0)
    assert await fifo.totals(world.conn, world.tenant_id, world.endpoint_id) == (1, 0)


async def test_a_lane_says_until_when_it_sleeps(world: World) -> None:
    head, _ = await fill(world, "a", 2)
    assert (await only(world)).blocked_until is None
    await world.conn.execute("UPDATE live SET due_at = now() + interval '1 min' WHERE id = %s", (head,))
    retry = (await only(world)).blocked_until
    assert retry is not None
    gate = "UPDATE lanes SET gate_reason = 'throttled', gate_until = now() + interval '1 h' WHERE key = ''"
    await world.conn.execute(gate)
    gated = (await only(world)).blocked_until
    assert gated is not None
    assert gated > retry
    await world.conn.execute("UPDATE lanes SET paused = true WHERE key = ''")
    assert (await only(world)).blocked_until is None, "until somebody resumes it"


async def test_the_age_is_that_of_the_oldest(world: World) -> None:
    ids = await fill(world, "a", 2)
    await world.conn.execute("UPDATE live SET created_at = now() - interval '1 min' WHERE id = %s", (ids[1],))
    assert 60 <= (await only(world)).oldest_age_s < 70


async def test_another_clients_lanes_and_those_of_other_endpoints_are_not_shown(world: World) -> None:
    await fill(world, "a", 1)
    other = await make_world(world.conn, "other")
    assert await longest(other) == []
    assert await fifo.totals(world.conn, other.tenant_id, world.endpoint_id) == (0, 0)
    assert await longest(world, endpoint_id=await world.endpoint()) == []
    assert await longest(world, endpoint_id=uuid4()) == []
    assert len(await longest(world, endpoint_id=world.endpoint_id)) == 1


async def test_a_thousand_lanes_are_listed_quickly(world: World) -> None:
    await world.conn.execute(
        """INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, lane, seq, due_at)
           SELECT gen_random_uuid(), %s, gen_random_uuid(), %s, 1, 'fifo:' || mod(n, 1000), n, now()
           FROM generate_series(1, 50000) n""",
        (world.tenant_id, world.endpoint_id),
    )
    rows = await world.conn.execute("SELECT clock_timestamp()")
    began = (await rows.fetchall())[0][0]
    assert [one.length for one in await longest(world)] == 100 * [50]
    rows = await world.conn.execute("SELECT extract(epoch FROM clock_timestamp() - %s)::float8", (began,))
    took_s = (await rows.fetchall())[0][0]
    print(f"50 000 deliveries in 1 000 lanes: {took_s * 1000:.0f} ms")
    assert took_s < 2
