"""Totals from the records: each minute once, whatever closes it when, and however little is kept."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import AsyncConnection

from relay.db import Conn
from relay.insight import stats, totals
from tests.rows import World, make_world


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def add(world: World, minutes_ago: int, *, delivered: int, attempts: int, ok: int) -> None:
    await world.conn.execute(
        """INSERT INTO stats (grain, at, tenant_id, endpoint_id, delivered, dead, attempts, ok)
           VALUES ('minute', date_trunc('minute', now() - make_interval(mins => %s)), %s, gen_random_uuid(), %s, 1, %s, %s)""",
        (minutes_ago, world.tenant_id, delivered, attempts, ok),
    )


async def counted(world: World) -> None:
    await world.conn.execute(
        """INSERT INTO counted (name, at) VALUES ('stats', now())
           ON CONFLICT (name) DO UPDATE SET at = excluded.at"""
    )


async def sums(conn: Conn) -> tuple[int, int, int, int]:
    found = await totals.read(conn)
    return found.delivered, found.dead, found.attempts, found.ok


async def test_a_minute_counts_once_before_and_after_it_is_closed_and_when_it_is_forgotten(world: World) -> None:
    assert await sums(world.conn) == (0, 0, 0, 0)
    for minutes_ago in (3000, 30, 6, 1, 0):
        await add(world, minutes_ago, delivered=10, attempts=30, ok=11)
    await totals.close(world.conn)  # nothing was counted yet: nothing has settled
    assert await sums(world.conn) == (50, 5, 150, 55)
    await counted(world)
    for _ in range(2):
        await totals.close(world.conn)
        assert await sums(world.conn) == (50, 5, 150, 55)
    await world.conn.execute("DELETE FROM stats WHERE at < now() - interval '20 min'")
    assert await sums(world.conn) == (50, 5, 150, 55)
    rows = await world.conn.execute("SELECT until <= now() - interval '5 min', delivered FROM totals")
    assert await rows.fetchall() == [(True, 30)]


async def test_a_minute_that_changes_before_it_has_settled_is_counted_as_it_is(world: World) -> None:
    await add(world, 2, delivered=1, attempts=1, ok=1)
    await counted(world)
    await totals.close(world.conn)
    await world.conn.execute("UPDATE stats SET delivered = 5, attempts = 9, ok = 5")
    assert await sums(world.conn) == (5, 1, 9, 5)


async def test_two_that_close_at_once_count_nothing_twice(world: World, database_url: str) -> None:
    for minutes_ago in (30, 20, 10):
        await add(world, minutes_ago, delivered=10, attempts=10, ok=10)
    await counted(world)
    async with await AsyncConnection.connect(database_url, autocommit=True) as other:
        await asyncio.gather(*(totals.close(conn) for conn in (world.conn, other, world.conn, other)))
    assert await sums(world.conn) == (30, 3, 30, 30)


async def test_the_rate_is_that_of_the_last_minutes(world: World) -> None:
    await add(world, 30, delivered=100_000, attempts=0, ok=0)
    await add(world, 1, delivered=1_199, attempts=0, ok=0)
    rate = (await totals.read(world.conn)).per_s
    assert 1_200 / 180 <= rate <= 1_200 / 120


async def test_the_days_are_closed_from_minutes_that_count_already(world: World) -> None:
    await add(world, 60 * 24 * 4, delivered=7, attempts=7, ok=7)
    await counted(world)
    await totals.close(world.conn)
    await stats.close_days(world.conn)
    assert await (await world.conn.execute("SELECT count(*) FROM stats WHERE grain = 'minute'")).fetchall() == [(0,)]
    assert await sums(world.conn) == (7, 1, 7, 7)
