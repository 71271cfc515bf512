"""Upkeep: the ledger's number, one for all processes and gone with the lead, and what is too old ends by itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from relay import metrics, partitions
from relay.db import Conn, Database
from relay.settings import Settings
from relay.upkeep import Upkeep
from tests.delivery.crew import NOWHERE, fan_out, open_crew, rows, ticking
from tests.delivery.test_retention import OLD, waiting
from tests.rows import World, make_world
from tests.running import until
from tests.shop import Shop, open_shop


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


@pytest.fixture
async def upkeep(settings: Settings) -> AsyncIterator[Upkeep]:
    db = Database(settings, connections=2)
    await db.open()
    yield Upkeep(db, retention_days=30)
    await db.close()


async def walk(upkeep: Upkeep) -> None:
    """Take the ledger's steps to the end of its walk."""
    upkeep._sweep_at = 0.0
    await upkeep.account()
    while upkeep._sweep is not None:
        await upkeep.account()


def shown() -> float:
    (value,) = re.findall(rb"^relay_unaccounted_events (\S+)$", metrics.render(), re.MULTILINE)
    return float(value)


async def test_the_number_is_what_the_ledger_finds_of_the_last_hours(
    upkeep: Upkeep, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await walk(upkeep)
    assert shown() == 0
    await world.event(ago=timedelta(hours=5))
    lost = [await world.event() for _ in range(3)]
    await walk(upkeep)
    assert shown() == 3
    assert "3 records do not fit together" in caplog.text
    for event_id in lost:
        await world.fanned_out(event_id, matched=0)
    assert shown() == 3
    await walk(upkeep)
    assert shown() == 0


async def test_a_walk_begins_once_a_minute_and_a_step_is_one_statement(upkeep: Upkeep, world: World) -> None:
    steps = 0
    await upkeep.account()
    while upkeep._sweep is not None:
        await upkeep.account()
        steps += 1
    assert steps > 5
    await upkeep.account()
    assert upkeep._sweep is None


async def test_a_walk_that_fails_begins_anew(upkeep: Upkeep, world: World) -> None:
    await upkeep.account()
    await upkeep._db.close()
    with pytest.raises(psycopg.OperationalError):
        await upkeep.account()
    assert upkeep._sweep is None


async def test_whoever_loses_the_lead_says_nothing_any_more(settings: Settings, conn: Conn) -> None:
    async with open_crew(settings) as crew:
        metrics.UNACCOUNTED.set(7)
        await rows(
            conn,
            "INSERT INTO leases (name, holder, until) VALUES ('clock', 1, now() + interval '1 day') RETURNING 1",
        )
        async with ticking(crew):
            await until(lambda: shown() == 0, 5)


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    with psycopg.connect(settings.database_url, autocommit=True) as conn:
        partitions.ensure(conn, now=OLD)
    async with open_shop(settings) as shop:
        yield shop


async def test_the_clock_ends_what_is_too_old_and_says_so(
    settings: Settings, shop: Shop, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_id = await shop.endpoint(NOWHERE)
    for _ in range(2):
        await waiting(conn, shop, endpoint_id)
    await rows(
        conn,
        """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, used_at)
           VALUES (%s, 'fifo:', %s, 1, now() - interval '31 days') RETURNING 1""",
        (endpoint_id, shop.tenant_id),
    )
    await shop.send(1)
    await fan_out(shop, window=0)
    async with open_crew(settings) as crew:
        await crew.clock._tick()
    assert await rows(conn, "SELECT state, reason, count(*) FROM history GROUP BY 1, 2") == [("dead", "expired", 2)]
    assert "2 deliveries have waited for 60 days and are dead: expired" in caplog.text
    assert await rows(conn, "SELECT count(*) FROM live") == [(1,)]
    assert await rows(conn, "SELECT key FROM lanes") == [("",)]
