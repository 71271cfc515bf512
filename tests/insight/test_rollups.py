from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from relay.db import Conn, Database
from relay.insight import analytics, rollups
from relay.insight.analytics import AnalyticsDimension, AnalyticsFilter, Figures
from relay.insight.buckets import Granularity
from relay.insight.latencies import Percentiles
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.rows import World, make_world

_ALL = """SELECT grain, at, endpoint_id, event_type, reason, status, attempts, latency_us, latency, delivered, dead, cancelled
          FROM rollups ORDER BY 1, 2, 3, 4, 5, 6"""


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def kept(conn: Conn) -> list[tuple[Any, ...]]:
    """All rollups."""
    return await rows(conn, _ALL)


async def reach_back(conn: Conn, age: timedelta) -> None:
    """Let the clock have counted nothing since then, and count what it missed."""
    await conn.execute("INSERT INTO counted VALUES ('rollups', now() - %s::interval)", (age,))
    for _ in range(int(age / timedelta(minutes=7)) + 2):
        await rollups.refresh(conn)


async def busy_hours(world: World) -> None:
    """Attempts and ends of two types at two endpoints in the last three hours."""
    other = await world.endpoint()
    for minutes in range(0, 180, 7):
        event = await world.event(None if minutes % 2 else "order.paid")
        endpoint = world.endpoint_id if minutes % 3 else other
        state = "delivered" if minutes % 4 else "dead"
        delivery = await world.finished(event, state, endpoint_id=endpoint, ago=timedelta(minutes=minutes))
        status = 200 if state == "delivered" else 503 if minutes % 8 else None
        await world.attempt(delivery, status=status, total_ms=1.1 * (minutes + 1), ago_s=60 * minutes)


async def test_counting_again_counts_nothing_twice(world: World) -> None:
    delivery = await world.finished(await world.event())
    await world.attempt(delivery, status=500, total_ms=10)
    for n in range(2, 5):
        await world.attempt(delivery, n, total_ms=100)
        await rollups.refresh(world.conn)
        await rollups.refresh(world.conn)
    summary = await analytics.summary(world.conn, world.tenant_id, AnalyticsFilter())
    ((_, found),) = summary.figures
    assert (found.attempts, found.succeeded, found.failed, found.delivered) == (4, 3, 1, 1)
    assert found.avg_latency_ms == pytest.approx(77.5)
    assert (await analytics.percentiles(world.conn, summary.asked))[""].p95_ms == pytest.approx(100, rel=0.1)


async def test_the_type_is_that_of_the_event_whoever_recorded_it(world: World) -> None:
    noted, waiting = await world.finished(await world.event()), await world.waiting(await world.event("invoice.paid"))
    for delivery in (noted, waiting):
        await world.attempt(delivery)
    await world.conn.execute("UPDATE attempts SET event_type = 'noted.with.it' WHERE delivery_id = %s", (noted,))
    await world.attempt(await world.waiting(await world.event(None)))
    await rollups.refresh(world.conn)
    found = await analytics.breakdown(
        world.conn, None, AnalyticsFilter(), AnalyticsDimension.EVENT_TYPE, first=10
    )  # the ends of the first, whose history notes no type, have the event's
    assert {key: figures.attempts for key, figures in found.figures} == {
        "noted.with.it": 1, "invoice.paid": 1, "": 1, "order.created": 0,
    }  # fmt: skip


async def test_hours_and_days_that_are_over_are_made_of_finer_ones_and_change_no_figure(world: World) -> None:
    await busy_hours(world)
    await reach_back(world.conn, timedelta(hours=4))

    async def figures() -> tuple[Figures, list[Figures], dict[datetime, Percentiles]]:
        whole = await analytics.summary(world.conn, world.tenant_id, AnalyticsFilter())
        by_hour = await analytics.series(world.conn, world.tenant_id, AnalyticsFilter(), Granularity.HOUR)
        latencies = await analytics.percentiles(world.conn, by_hour.asked)
        return whole.figures[0][1], [found for _, found in by_hour.figures], latencies

    before = await figures()
    assert before[0].attempts == sum(found.attempts for found in before[1]) == 26
    await rollups.close(world.conn)
    assert await rows(world.conn, "SELECT count(*) > 0 FROM rollups WHERE grain = 'hour'") == [(True,)]
    assert await figures() == before
    await world.conn.execute(
        "DELETE FROM rollups WHERE grain = 'minute' AND at < date_trunc('hour', now()) - interval '1 h'"
    )
    assert (await figures())[1:] == before[1:], "closed hours are read from hours"
    await rollups.close(world.conn)
    assert (await figures())[1:] == before[1:]


async def test_a_rebuild_gives_what_the_clock_kept(settings: Settings, world: World) -> None:
    await busy_hours(world)
    await reach_back(world.conn, timedelta(hours=4))
    await rollups.close(world.conn)
    before = await kept(world.conn)
    assert len(before) > 50
    await world.conn.execute("UPDATE rollups SET attempts = attempts + 7, latency_us = 0 WHERE status = 200")
    await world.conn.execute("DELETE FROM rollups WHERE status = 503")
    await world.conn.execute(
        "INSERT INTO rollups SELECT DISTINCT grain, at, tenant_id, endpoint_id, 'made.up', reason, status,"
        " 1, 1, '{}'::bigint[], 0, 0, 0 FROM rollups WHERE status = 0 AND dead = 0"
    )
    await rebuilt(settings)
    assert await kept(world.conn) == before


async def rebuilt(settings: Settings, *, since: datetime | None = None) -> dict[str, int]:
    db = Database(settings, connections=1)
    await db.open()
    try:
        return {str(day): attempts async for day, attempts in rollups.rebuild(db, since=since)}
    finally:
        await db.close()


async def test_days_of_before_the_clock_counted_come_by_a_rebuild_and_are_kept_as_days(
    settings: Settings, world: World
) -> None:
    midnight = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    two_days_ago = midnight - timedelta(days=2)
    delivery = await world.finished(await world.event(), ago=datetime.now(UTC) - two_days_ago - timedelta(hours=5))
    for n, hour in enumerate((5, 5, 23), 1):
        ago = datetime.now(UTC) - two_days_ago - timedelta(hours=hour)
        await world.attempt(delivery, n, total_ms=50, ago_s=ago.total_seconds())
    by_day = AnalyticsFilter(since=two_days_ago)

    async def attempts() -> list[int]:
        found = await analytics.series(world.conn, None, by_day, Granularity.DAY)
        return [figures.attempts for _, figures in found.figures]

    await rollups.refresh(world.conn)
    await rollups.close(world.conn)
    assert await attempts() == [0, 0, 0]
    assert await rebuilt(settings, since=midnight) == {str(midnight.date()): 0}
    assert await attempts() == [0, 0, 0]
    assert (await rebuilt(settings))[str(two_days_ago.date())] == 3
    assert await attempts() == [3, 0, 0]
    await world.conn.execute("DELETE FROM rollups WHERE grain <> 'day'")
    assert await attempts() == [3, 0, 0]
    series = await analytics.series(world.conn, world.tenant_id, by_day, Granularity.DAY)
    at, first = series.figures[0]
    assert (at, first.succeeded, first.delivered) == (two_days_ago, 3, 1)
    assert (await analytics.percentiles(world.conn, series.asked))[at].p50_ms == pytest.approx(50, rel=0.1)


async def test_what_is_too_old_is_forgotten_grain_by_grain(world: World) -> None:
    await world.attempt(await world.finished(await world.event()))
    await rollups.refresh(world.conn)
    await world.conn.execute("DELETE FROM rollups WHERE attempts = 0")
    for grain, days in (("minute", 4), ("hour", 4), ("hour", 40), ("day", 40), ("day", 500)):
        await world.conn.execute(
            """INSERT INTO rollups SELECT %s, now() - make_interval(days => %s), tenant_id, endpoint_id, event_type, reason,
                   status, attempts, latency_us, latency, delivered, dead, cancelled
               FROM rollups WHERE grain = 'minute' AND at > now() - interval '1 h'""",
            (grain, days),
        )
    await world.conn.execute("INSERT INTO counted VALUES ('rollup_days', now()), ('rollup_hours', now())")
    await rollups.close(world.conn)
    left = await rows(
        world.conn, "SELECT grain, (extract(epoch FROM now() - at) / 86400)::int FROM rollups ORDER BY 1, 2"
    )
    assert left == [("day", 40), ("hour", 4), ("minute", 0)]
