"""What holders of lanes get: by gate, by rate, and of a FIFO lane its head."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import LiteralString
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from relay.db import Conn
from relay.delivery import lanes
from relay.delivery.gates import try_probe
from relay.delivery.lanes import Lane
from relay.delivery.take import Taken, Want, lock, take_due, take_heads
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, handed_out, rows
from tests.shop import Shop, accepted, open_shop

ME = 1
RATE = 100


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def held(conn: Conn) -> list[Lane]:
    """Hand out every due lane and hold it."""
    out = await handed_out(conn)
    for lane in out:
        assert await lanes.hold(conn, [lane], worker=ME)
    return out


async def take(conn: Conn, *wants: Want) -> list[Taken]:
    async with conn.transaction():
        await lock(conn, wants)
        return await (take_heads if wants[0].lane.ordered else take_due)(conn, wants, worker=ME)


async def ordered(shop: Shop, conn: Conn, count: int = 3, **fields: object) -> Lane:
    """The lane of a FIFO endpoint with deliveries in it, held."""
    await shop.endpoint(NOWHERE, fifo=True, **fields)
    await shop.send(count)
    await fan_out(shop)
    (lane,) = await held(conn)
    return lane


async def ids_in_order(conn: Conn) -> list[UUID]:
    found = await conn.execute("SELECT id FROM live ORDER BY seq")
    return [row[0] async for row in found]


async def read_of_live(conn: Conn) -> int:
    """How many rows the transaction has read of it."""
    found = await conn.execute(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'live'"
    )
    return (await found.fetchall())[0][0]


# ---- rates -----------------------------------------------------------------------------------------------------------


async def test_a_burst_and_then_no_more_than_the_rate(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE, rate_limit_per_sec=RATE)
    await shop.send(100)
    assert await fan_out(shop) == [], "nothing of a metered endpoint goes out at once"
    (lane,) = await held(conn)
    wants = [Want(lane, 100)]
    async with conn.transaction():  # in which time stands still
        await lock(conn, wants)
        first = await take_due(conn, wants, worker=ME)
        second = await take_due(conn, wants, worker=ME)
    assert (len(first[0].claimed), first[0].rate, first[0].wait_s) == (18, RATE, 0.14)
    assert (len(second[0].claimed), second[0].wait_s) == (0, 0.14)
    await conn.execute("UPDATE lanes SET tat = now() + interval '0.05 s'")
    (third,) = await take(conn, *wants)
    assert 12 <= len(third.claimed) <= 18


async def test_to_take_some_of_very_many_reads_and_locks_no_more_than_those(
    shop: Shop, conn: Conn, database_url: str
) -> None:
    await shop.endpoint(NOWHERE, rate_limit_per_sec=10_000)
    await shop.send(1)
    await fan_out(shop)
    (lane,) = await held(conn)
    await conn.execute(
        """INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, due_at)
           SELECT gen_random_uuid(), tenant_id, event_id, endpoint_id, 1, now() FROM live, generate_series(1, 30000)"""
    )
    await conn.execute("ANALYZE live")
    async with await AsyncConnection.connect(database_url, autocommit=True) as other:
        for waiting in range(30_001, 28_800, -100):  # by then Postgres may have made one plan for all
            async with conn.transaction():
                await lock(conn, [Want(lane, 100)])
                before = await read_of_live(conn)
                (taken,) = await take_due(conn, [Want(lane, 100)], worker=ME)
                assert len(taken.claimed) == 100
                assert await read_of_live(conn) - before <= 400
                free = await rows(other, "SELECT FROM live WHERE due_at IS NOT NULL FOR UPDATE SKIP LOCKED")
                assert len(free) == waiting - 100


async def test_the_lanes_of_an_endpoint_share_its_rate(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE, rate_limit_per_sec=RATE)
    await shop.send(50)
    accepted(await shop.accept(*(shop.event(priority=1) for _ in range(50))))
    await fan_out(shop)
    await conn.execute("UPDATE lanes SET tier = 1")
    both = [*await held(conn), *await held(conn)]
    assert len(both) == 2
    taken = await take(conn, *(Want(lane, 100) for lane in both))
    assert sum(len(one.claimed) for one in taken) == 18
    assert [one.rate for one in taken] == [RATE, RATE]


async def test_a_pace_of_a_resume_meters_too_and_ends_with_what_it_was_for(shop: Shop, conn: Conn) -> None:
    endpoint = await shop.endpoint(NOWHERE)
    await shop.send(5)
    await fan_out(shop, window=0)
    await conn.execute("UPDATE lanes SET pace_per_sec = 10, paced_at = now()")
    (lane,) = await held(conn)
    (taken,) = await take(conn, Want(lane, 100))
    assert (len(taken.claimed), taken.rate) == (1, 10.0)
    await lanes.end_pace(conn, endpoint)
    assert await rows(conn, "SELECT pace_per_sec FROM lanes") == [(10,)]
    await conn.execute("UPDATE live SET created_at = now() + interval '1 s'")
    await lanes.end_pace(conn, endpoint)
    assert await rows(conn, "SELECT pace_per_sec, paced_at FROM lanes") == [(None, None)]


async def test_a_disabled_endpoint_has_no_rate(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE, rate_limit_per_sec=RATE)
    await shop.send(40)
    await fan_out(shop)
    (lane,) = await held(conn)
    await conn.execute("UPDATE endpoints SET status = 'disabled', disabled_at = now(), disabled_reason = 'gone'")
    (taken,) = await take(conn, Want(lane, 100))
    assert (len(taken.claimed), taken.rate) == (40, None)


async def test_lanes_that_have_to_wait_spread_over_the_time_their_endpoint_needs(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE, fifo=True, fifo_partition_key="$.n")
    await shop.send(20)
    await fan_out(shop)
    spread: list[float] = []
    for _ in range(20):
        (lane,) = await held(conn)
        async with conn.transaction():
            assert await lanes.lock_to_release(conn, [lane], worker=ME)
            await lanes.release(conn, [lane], per_s={lane: 1.0})
        found = await rows(
            conn,
            "SELECT extract(epoch FROM ready_at - now())::float8 FROM lanes WHERE endpoint_id = %s AND key = %s",
            (lane.endpoint_id, lane.key),
        )
        spread.append(float(str(found[0][0])))
    assert max(spread) <= 20.0
    assert max(spread) > 1.0


# ---- heads -----------------------------------------------------------------------------------------------------------


async def test_of_a_fifo_lane_only_the_head_is_taken(shop: Shop, conn: Conn) -> None:
    lane = await ordered(shop, conn)
    head, *_ = await ids_in_order(conn)
    (taken,) = await take(conn, Want(lane))
    assert [(one.id, one.seq) for one in taken.claimed] == [(head, 1)]
    (none,) = await take(conn, Want(lane))
    assert (none.claimed, none.wait_s) == ([], None), "the head is being sent, and only its record tells more"


async def test_a_head_that_waits_for_a_retry_holds_up_what_is_behind_it(shop: Shop, conn: Conn) -> None:
    lane = await ordered(shop, conn)
    await conn.execute("UPDATE live SET due_at = now() + interval '9 s' WHERE seq = 1")
    (taken,) = await take(conn, Want(lane))
    assert taken.claimed == []
    assert taken.wait_s is not None
    assert 2 < taken.wait_s <= 9


async def test_a_dead_head_that_blocks_lets_nothing_pass(shop: Shop, conn: Conn) -> None:
    lane = await ordered(shop, conn)
    await conn.execute("UPDATE lanes SET blocked_by = gen_random_uuid() WHERE key LIKE 'fifo:%'")
    assert await take(conn, Want(lane)) == [Taken()]


async def test_a_head_that_killed_two_workers_is_taken_alone_only(shop: Shop, conn: Conn) -> None:
    lane = await ordered(shop, conn)
    await conn.execute("UPDATE live SET lost = 2 WHERE seq = 1")
    (taken,) = await take(conn, Want(lane))
    assert (taken.claimed, taken.suspect) == ([], True)
    (taken,) = await take(conn, Want(lane, alone=True))
    assert [one.seq for one in taken.claimed] == [1]


# ---- gates -----------------------------------------------------------------------------------------------------------

OPEN: LiteralString = "gate_reason = 'circuit_open', gate_until = now() + interval '1 minute'"
HALF_OPEN: LiteralString = "gate_reason = 'circuit_open', gate_until = now() - interval '1 s', gate_epoch = 5"


@pytest.mark.parametrize(
    "gate", ["paused = true", OPEN, "gate_reason = 'throttled', gate_until = now() + interval '1 h'"]
)
@pytest.mark.parametrize("fifo", [False, True])
async def test_nothing_passes_a_closed_gate(shop: Shop, conn: Conn, gate: str, fifo: bool) -> None:
    await shop.endpoint(NOWHERE, fifo=fifo)
    await shop.send(3)
    await fan_out(shop, window=0)
    (lane,) = await held(conn)
    await conn.execute(f"UPDATE lanes SET {gate} WHERE key = ''".encode())
    (taken,) = await take(conn, Want(lane, 3))
    assert (taken.claimed, taken.half_open) == ([], False)


@pytest.mark.parametrize("fifo", [False, True])
async def test_a_half_open_circuit_lets_the_one_probe_pass_under_its_epoch(shop: Shop, conn: Conn, fifo: bool) -> None:
    endpoint = await shop.endpoint(NOWHERE, fifo=fifo)
    await shop.send(3)
    await fan_out(shop, window=0)
    (lane,) = await held(conn)
    await conn.execute("UPDATE lanes SET " + HALF_OPEN + " WHERE key = ''")
    (taken,) = await take(conn, Want(lane, 3))
    assert (taken.claimed, taken.half_open) == ([], True)
    assert await try_probe(conn, endpoint) == 5
    (probe,) = await take(conn, Want(lane, 1, probes=True))
    assert [one.epoch for one in probe.claimed] == [5]
    (taken,) = await take(conn, Want(lane, 3))
    assert (taken.claimed, taken.half_open) == ([], False)


async def test_a_lane_of_somebody_else_gives_nothing(shop: Shop, conn: Conn) -> None:
    lane = await ordered(shop, conn)
    await conn.execute("UPDATE lanes SET owner = 2 WHERE key LIKE 'fifo:%'")
    assert await take(conn, Want(lane)) == [Taken()]


async def test_many_lanes_are_served_by_one_statement_each_with_its_own(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE, fifo=True, fifo_partition_key="$.n")
    await shop.send(5)
    await fan_out(shop)
    every: list[Lane] = []
    for _ in range(5):
        every += await held(conn)
    taken = await take(conn, *(Want(lane) for lane in every))
    assert keys(taken) == [lane.key for lane in every]


def keys(taken: Sequence[Taken]) -> list[str]:
    return [one.lane for answer in taken for one in answer.claimed]
