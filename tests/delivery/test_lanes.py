"""Lanes: handed out whole to one worker, and never asleep with work in them."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from relay.db import REPEATABLE, Conn, Database
from relay.delivery import lanes
from relay.delivery.lanes import Lane
from relay.delivery.live import Claimed, Planned, insert, put_back
from relay.delivery.outcomes import Delivered, Reason, Retry
from relay.delivery.record import record
from relay.delivery.take import Want, lock, take_due
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, handed_out, recorded, rows
from tests.running import until_true
from tests.shop import Shop, open_shop

ME, OTHER = 1, 2


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings.model_copy(update={"database_max_conns": 12})) as shop:
        yield shop


async def waiting(shop: Shop, conn: Conn, count: int = 3) -> Lane:
    """The lane of a new endpoint, handed out, with deliveries in it."""
    await shop.endpoint(NOWHERE)
    await shop.send(count)
    await fan_out(shop, window=0)
    (lane,) = await handed_out(conn)
    return lane


async def taken_of(conn: Conn, lane: Lane, *, limit: int, worker: int = ME) -> list[Claimed]:
    """What the holder of a lane gets; in a transaction."""
    want = Want(lane, limit)
    await lock(conn, [want])
    (taken,) = await take_due(conn, [want], worker=worker)
    return taken.claimed


async def test_a_lane_is_held_by_one_whatever_messages_say(shop: Shop, conn: Conn) -> None:
    lane = await waiting(shop, conn)
    assert await lanes.hold(conn, [lane], worker=ME)
    assert not await lanes.hold(conn, [lane], worker=OTHER)
    assert not await lanes.hold(conn, [lane], worker=ME)
    assert not await lanes.hold(conn, [Lane(lane.endpoint_id, lane.key, lane.fence ^ 1)], worker=OTHER)


async def test_a_lane_that_is_held_is_not_handed_out_again_however_often_it_rings(shop: Shop, conn: Conn) -> None:
    lane = await waiting(shop, conn)
    assert await lanes.hold(conn, [lane], worker=ME)
    for _ in range(3):
        await shop.send(1)
        await fan_out(shop, window=0)
        assert await handed_out(conn) == []


async def test_only_the_holder_takes_and_it_takes_the_oldest_first(shop: Shop, conn: Conn) -> None:
    lane = await waiting(shop, conn, 5)
    async with conn.transaction():
        assert await taken_of(conn, lane, limit=3) == []
    await lanes.hold(conn, [lane], worker=ME)
    async with conn.transaction():
        taken = await taken_of(conn, lane, limit=3)
    oldest = await rows(conn, "SELECT id FROM live ORDER BY id LIMIT 3")
    assert [one.id for one in taken] == [row[0] for row in oldest]
    assert await rows(conn, "SELECT count(*) FROM live WHERE owner = 1 AND fence IS NOT NULL AND due_at IS NULL") == [
        (3,)
    ]


async def test_a_lane_let_go_is_ready_when_its_next_delivery_is_due(shop: Shop, conn: Conn) -> None:
    lane = await waiting(shop, conn)
    await lanes.hold(conn, [lane], worker=ME)
    for due, is_now in (("'1 hour'", False), ("'-1 second'", True)):
        await rows(conn, f"UPDATE live SET due_at = now() + interval {due} RETURNING 1")
        await rows(conn, "UPDATE lanes SET owner = 1, fence = %s, sent_at = now() RETURNING 1", (lane.fence,))
        async with conn.transaction():
            assert await lanes.lock_to_release(conn, [lane], worker=ME)
            assert (await lanes.release(conn, [lane]) == [lane]) is is_now
        assert await rows(conn, "SELECT ready_at = (SELECT min(due_at) FROM live), fence FROM lanes") == [(True, None)]


@pytest.mark.parametrize(
    ("gate", "ready_at"),
    [
        ("paused = true", None),
        ("gate_until = '2100-01-01', gate_reason = 'circuit_open'", True),
    ],
)
async def test_a_gate_puts_a_lane_to_sleep_and_stops_its_holder(
    shop: Shop, conn: Conn, gate: str, ready_at: bool | None
) -> None:
    lane = await waiting(shop, conn)
    await lanes.hold(conn, [lane], worker=ME)
    await rows(conn, f"UPDATE lanes SET {gate} RETURNING 1")
    async with conn.transaction():
        assert await taken_of(conn, lane, limit=3) == []
        await lanes.lock_to_release(conn, [lane], worker=ME)
        await lanes.release(conn, [lane])
    assert await handed_out(conn) == []
    assert await rows(conn, "SELECT ready_at = gate_until, ready, fence FROM lanes") == [(ready_at, False, None)]


async def test_a_message_that_nobody_took_up_is_given_again_with_its_fence(shop: Shop, conn: Conn) -> None:
    lane = await waiting(shop, conn)
    assert await lanes.unclaimed(conn, silent_s=5, more_than=0) == []
    await rows(conn, "UPDATE lanes SET sent_at = now() - interval '6 s' RETURNING 1")
    assert await lanes.unclaimed(conn, silent_s=5, more_than=1) == []
    assert await lanes.unclaimed(conn, silent_s=5, more_than=0) == [lane]
    assert await lanes.unclaimed(conn, silent_s=5, more_than=0) == []


async def test_every_client_has_its_turn(shop: Shop, conn: Conn) -> None:
    tenants = [UUID(int=n) for n in range(1, 6)]
    for tenant in tenants:
        for n in range(3):
            await rows(
                conn,
                "INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready, ready_at)"
                " VALUES (%s, '', %s, 1, true, now()) RETURNING 1",
                (UUID(int=tenant.int * 100 + n), tenant),
            )
    async with conn.transaction():
        first = await lanes.pick(conn, tier=1, after=UUID(int=0), limit=3)
        second = await lanes.pick(conn, tier=1, after=first[-1][2], limit=3)
    assert [one[2] for one in first + second] == tenants


async def test_where_clients_are_few_each_is_handed_as_many_lanes_as_there_is_room_for(shop: Shop, conn: Conn) -> None:
    for tenant, count in ((1, 300), (2, 10)):
        await rows(
            conn,
            """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready, ready_at)
               SELECT gen_random_uuid(), '', %s, 1, true, now() FROM generate_series(1, %s) RETURNING 1""",
            (UUID(int=tenant), count),
        )

    async def turns(limit: int) -> Counter[int]:
        async with conn.transaction():
            picked = await lanes.pick(conn, tier=1, after=UUID(int=0), limit=limit)
            await lanes.hand_out(conn, picked)
        return Counter(one[2].int for one in picked)

    assert await turns(16) == {1: 8, 2: 8}
    assert await turns(40) == {1: 20, 2: 2}
    assert await turns(400) == {1: 36}  # it holds 64 now
    assert await turns(400) == {1: 1}


def test_few_lanes_go_to_many_workers_and_many_in_few_messages() -> None:
    def sizes(count: int) -> list[int]:
        hints = lanes.hints_for([Lane(UUID(int=n), "", n) for n in range(count)])
        assert [fence for hint in hints for fence in hint.args["fences"]] == list(range(count))
        return [len(hint.args["keys"]) for hint in hints]

    assert sizes(0) == []
    assert sizes(3) == [1, 1, 1]
    assert sizes(20) == [3, 3, 3, 3, 3, 3, 2]
    assert sizes(200) == [16] * 12 + [8]


async def test_ten_thousand_clients_have_their_turn_before_any_has_a_second_in_rounds_of_a_few_ms(conn: Conn) -> None:
    """The deadline is five times looser than what `bench tenants` holds a round to."""
    clients, a_round, lanes_each = 10_000, 200, 2
    await rows(
        conn,
        """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready, ready_at)
           SELECT gen_random_uuid(), '', t.id, 1, true, now() - random() * interval '1 minute'
           FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, %s)) t, generate_series(1, %s) RETURNING 1""",
        (clients, lanes_each),
    )
    turns: Counter[UUID] = Counter()
    rounds_ms: list[float] = []
    after = UUID(int=0)
    for served in range(0, clients * lanes_each, a_round):
        after = UUID(int=0) if served == clients else after
        began = time.perf_counter()
        await lanes.promote(conn)
        async with conn.transaction():
            picked = await lanes.pick(conn, tier=1, after=after, limit=a_round)
            assert len(await lanes.hand_out(conn, picked)) == a_round
        rounds_ms.append((time.perf_counter() - began) * 1000)
        after = picked[-1][2]
        turns.update(one[2] for one in picked)
        assert max(turns.values()) == 1 + served // clients
    assert len(turns) == clients
    assert statistics.median(rounds_ms) < 40, rounds_ms


async def test_work_that_is_committed_while_a_lane_is_let_go_keeps_it_awake(shop: Shop, conn: Conn) -> None:
    """The release waits for whoever rings, and must then see what came: in one statement it would not."""
    lane = await waiting(shop, conn, 1)
    await lanes.hold(conn, [lane], worker=ME)
    await rows(conn, "DELETE FROM live RETURNING 1")
    ids = shop.web.ids
    late = Planned(ids(), shop.tenant_id, ids(), lane.endpoint_id, 1, "", 1)

    async def let_go() -> None:
        async with shop.web.db.transaction() as own:
            assert await lanes.lock_to_release(own, [lane], worker=ME)
            await lanes.release(own, [lane])

    async with shop.web.db.transaction() as own:
        assert await insert(own, [late], window=0) == []
        releasing = asyncio.ensure_future(let_go())
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)", 5)
    await releasing
    assert await rows(conn, "SELECT ready_at = (SELECT due_at FROM live), fence FROM lanes") == [(True, None)]


async def test_no_lane_falls_asleep_with_work_in_it(shop: Shop, conn: Conn) -> None:
    """Fan-out, records, returns and releases meet in every order; a lane must be rung or held while it has work."""
    for _ in range(3):
        await shop.endpoint(NOWHERE)
    db, chance = shop.web.db, random.Random(7)
    end = asyncio.get_running_loop().time() + 3.0

    async def producer() -> None:
        while asyncio.get_running_loop().time() < end:
            await shop.send(chance.randint(1, 4))
            await fan_out(shop, window=chance.choice([0, 0, 3]))
            await asyncio.sleep(chance.random() * 0.01)

    handing = asyncio.Lock()
    await asyncio.gather(producer(), *(_holder(db, handing, chance, until=end, me=me) for me in (1, 2, 3)))
    await rows(conn, "UPDATE live SET due_at = due_at - interval '1 minute' WHERE due_at IS NOT NULL RETURNING 1")
    assert await rows(conn, "SELECT count(*) > 100 FROM history") == [(True,)]
    assert await lanes.rearm_sleepers(conn) == 0


async def _holder(db: Database, handing: asyncio.Lock, chance: random.Random, *, until: float, me: int) -> None:
    while asyncio.get_running_loop().time() < until:
        async with handing, db.connection() as conn:
            out = await handed_out(conn)
        for lane in out:
            async with db.connection() as conn:
                assert await lanes.hold(conn, [lane], worker=me)
            for _ in range(chance.randint(1, 3)):
                await _take_and_record(db, lane, chance, me=me)
            async with db.transaction() as conn:
                if await lanes.lock_to_release(conn, [lane], worker=me):
                    await lanes.release(conn, [lane])
        await asyncio.sleep(0)


async def _take_and_record(db: Database, lane: Lane, chance: random.Random, *, me: int) -> None:
    async with db.transaction() as conn:
        taken = await taken_of(conn, lane, limit=chance.randint(1, 5), worker=me)
    for one in taken:
        what = chance.choice(["done", "done", "retry", "back"])
        while True:
            try:
                async with db.connection() as conn:
                    if what == "back":
                        await put_back(conn, [one])
                    else:
                        outcome = Delivered() if what == "done" else Retry(Reason.THROTTLED, chance.choice([0, 0.01]))
                        await record(conn, [recorded(one, outcome)])
                break
            except REPEATABLE:
                continue
