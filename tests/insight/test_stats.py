from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.db import Conn
from relay.errors import Invalid
from relay.insight import counts, stats
from relay.insight.latencies import Percentiles, percentile
from relay.insight.stats import EndpointStats
from tests.rows import World, make_world


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def happened(world: World, hours: int = 24) -> EndpointStats:
    await stats.refresh(world.conn)
    await counts.refresh(world.conn)
    return (await stats.of_endpoints(world.conn, [world.endpoint_id], hours))[world.endpoint_id]


async def latencies(world: World, hours: int = 24) -> Percentiles | None:
    return (await stats.percentiles_of_endpoints(world.conn, [world.endpoint_id], hours)).get(world.endpoint_id)


async def delivered(world: World) -> int:
    return (await counts.queue_stats(world.conn, world.tenant_id)).delivered


async def grow_old(world: World, age: timedelta) -> None:
    """Let all that was counted, and the counting, be of `age` ago: whole days, or the sums of days would move."""
    await world.conn.execute("UPDATE stats SET at = at - %s", (age,))
    await world.conn.execute("UPDATE counted SET at = at - %s", (age,))
    for update in (
        "UPDATE history SET finished_at = finished_at - %s, created_at = created_at - %s",
        "UPDATE live SET created_at = created_at - %s, reason = CASE WHEN %s > '0'::interval THEN reason END",
    ):
        await world.conn.execute(update.encode(), (age, age))


async def test_without_attempts_the_success_rate_is_one(world: World) -> None:
    assert await happened(world) == EndpointStats()
    assert await latencies(world) is None


async def test_what_happened_is_summed_by_endpoint(world: World) -> None:
    event = await world.event()
    flaky, dead, _ = (
        await world.finished(event),
        await world.finished(event, "dead"),
        await world.waiting(event, attempts=1),
    )
    await world.attempt(flaky, 1, status=500, total_ms=100)
    await world.attempt(flaky, 2, status=200, total_ms=300)
    await world.attempt(dead, 1, status=None, total_ms=30_000)
    found = await happened(world)
    assert (found.created, found.delivered, found.dead, found.attempts) == (3, 1, 1, 3)
    assert (found.failed, found.pending) == (1, 1)
    assert found.success_rate == pytest.approx(1 / 3)
    assert found.avg_latency_ms == pytest.approx(200)
    taken = await latencies(world)
    assert taken is not None
    assert taken.p50_ms == pytest.approx(100, rel=0.1)
    assert taken.p99_ms == pytest.approx(300, rel=0.1)


async def test_counting_again_counts_nothing_twice(world: World) -> None:
    event = await world.event()
    delivery = await world.waiting(event)
    first = await happened(world)
    await world.move_to_history(delivery, "delivered")
    await world.attempt(delivery)
    again = [await happened(world) for _ in range(3)][-1]
    assert (first.created, first.delivered) == (1, 0)
    assert (again.created, again.delivered, again.attempts) == (1, 1, 1)


async def test_what_was_recorded_while_nobody_counted_is_caught_up_with(world: World) -> None:
    delivery = await world.finished(await world.event())
    await world.attempt(delivery, ago_s=3000)
    await stats.refresh(world.conn)
    assert (await happened(world)).attempts == 0
    await world.conn.execute("UPDATE counted SET at = now() - interval '1 hour' WHERE name = 'stats'")
    assert (await happened(world)).attempts == 1


async def test_a_closed_day_keeps_its_sums_when_its_minutes_are_gone(world: World) -> None:
    delivery = await world.finished(await world.event())
    await world.attempt(delivery, total_ms=100)
    await happened(world, hours=100)
    before = await latencies(world, hours=100)
    await grow_old(world, timedelta(days=3))
    await world.conn.execute("UPDATE counted SET at = now() WHERE name = 'stats'")
    for _ in range(2):
        await stats.close_days(world.conn)
        assert await delivered(world) == 1
        found = (await stats.of_endpoints(world.conn, [world.endpoint_id], 100))[world.endpoint_id]
        assert (found.delivered, found.attempts) == (1, 1)
        assert await latencies(world, hours=100) == before is not None
    minutes = await world.conn.execute("SELECT count(*) FROM stats WHERE grain = 'minute'")
    assert await minutes.fetchall() == [(0,)]
    assert (await stats.of_endpoints(world.conn, [world.endpoint_id], 24))[world.endpoint_id].attempts == 0


async def test_the_total_stays_right_while_a_day_goes_on(world: World) -> None:
    event = await world.event()
    await stats.refresh(world.conn)
    await world.conn.execute("UPDATE counted SET at = now() - interval '150 minutes'")
    for minutes in (130, 20, 8, 0):
        await world.finished(event, ago=timedelta(minutes=minutes))
    for _ in range(4):
        await stats.refresh(world.conn)
    for expected in (4, 5, 6):
        assert await delivered(world) == expected
        await stats.close_days(world.conn)
        assert await delivered(world) == expected
        await world.finished(event)
        await stats.refresh(world.conn)
    days = await world.conn.execute("SELECT sum(delivered)::int FROM stats WHERE grain = 'day'")
    assert await days.fetchall() == [(3,)]


async def test_days_beyond_what_is_stored_are_forgotten(world: World) -> None:
    await world.finished(await world.event())
    await stats.refresh(world.conn)
    await world.conn.execute("UPDATE stats SET grain = 'day', at = now() - interval '40 days'")
    await stats.forget_days(world.conn, keep_days=50)
    assert await delivered(world) == 1
    await stats.forget_days(world.conn, keep_days=30)
    assert await delivered(world) == 0


@pytest.mark.parametrize("hours", [0, -1, 100_000])
async def test_hours_out_of_range_are_invalid(world: World, hours: int) -> None:
    with pytest.raises(Invalid) as refused:
        await happened(world, hours)
    assert refused.value.field == "lastHours"


@given(
    st.lists(st.tuples(st.integers(0, 68), st.integers(1, 1000)), min_size=1, unique_by=lambda pair: pair[0]).map(
        sorted
    )
)
def test_percentiles_grow_with_their_share_and_lie_within_what_was_seen(latencies: list[tuple[int, int]]) -> None:
    found = [percentile(latencies, share) for share in (0.01, 0.5, 0.95, 0.99, 1.0)]
    assert found == sorted(found)
    assert 2 ** ((latencies[0][0] - 1) / 4) <= found[0]
    assert found[-1] <= 2 ** (latencies[-1][0] / 4)
