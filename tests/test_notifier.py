"""The notifier: what follows from deaths and failures reaches whoever subscribed, once, with and without messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from relay import metrics
from relay.db import Conn
from relay.delivery.outcomes import Dead, Reason
from relay.delivery.record import record
from relay.runtime import Worker
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, claimed, fan_out, open_crew, recorded, rows
from tests.running import until_true
from tests.shop import Shop, open_shop
from tests.sink import Sink

TEN_MINUTES_PASS = "UPDATE notices SET sent_at = sent_at - interval '10 min' RETURNING 1"
TEN_SECONDS_PASS = "UPDATE dead_letters SET died_at = died_at - interval '10 s' RETURNING 1"


@pytest.fixture
async def crew(settings: Settings) -> AsyncIterator[Worker]:
    async with open_crew(settings) as crew:
        yield crew


@asynccontextmanager
async def two_crews(settings: Settings) -> AsyncIterator[tuple[Worker, Worker]]:
    async with open_crew(settings) as first, open_crew(settings) as second:
        yield first, second


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def died(shop: Shop, conn: Conn, count: int, reason: Reason = Reason.ATTEMPTS_EXHAUSTED) -> list[UUID]:
    """That many deliveries of the shop's endpoint die, as workers record it."""
    many = sorted(await claimed(shop, conn, count), key=lambda one: one.id)
    return await record(conn, [recorded(one, Dead(reason)) for one in many])


async def said(conn: Conn) -> list[tuple[str, int]]:
    """The notices accepted, with their counts, in their order."""
    found = await rows(
        conn, "SELECT type, convert_from(payload, 'UTF8') FROM events WHERE type LIKE 'relay.%%' ORDER BY id"
    )
    return [(str(row[0]), json.loads(str(row[1]))["count"]) for row in found]


async def chores_done(crew: Worker) -> None:
    for chore in crew.notifier.chores():
        await chore.do()


async def test_a_message_tells_of_deaths_at_once_and_rings_for_the_notice(crew: Worker, shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    ids = await died(shop, conn, 3)
    before = metrics.NOTICES.labels("relay.delivery.dead")._value.get()
    await asyncio.gather(*(crew.notifier.tell_of_dead(ids) for _ in range(3)))
    assert await said(conn) == [("relay.delivery.dead", 3)]
    assert metrics.NOTICES.labels("relay.delivery.dead")._value.get() == before + 1
    assert await crew.queue.length("fan_out") >= 1


async def test_without_any_message_the_clock_tells_of_each_death_once(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    await shop.endpoint(NOWHERE)
    await died(shop, conn, 30)
    async with two_crews(settings) as crews:
        await asyncio.gather(*map(chores_done, crews))
        assert await said(conn) == []
        await rows(conn, TEN_SECONDS_PASS)
        await asyncio.gather(*map(chores_done, crews))
        await rows(conn, TEN_MINUTES_PASS)
        await asyncio.gather(*map(chores_done, crews))
    assert sum(count for _, count in await said(conn)) == 30
    assert await rows(conn, "SELECT 1 FROM dead_letters WHERE NOT told") == []


async def test_more_deaths_than_one_chunk_are_told_of_in_one_turn(
    crew: Worker, shop: Shop, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.notifier._CHUNK", 10)
    await shop.endpoint(NOWHERE)
    await died(shop, conn, 35)
    await rows(conn, TEN_SECONDS_PASS)
    await chores_done(crew)
    assert await rows(conn, "SELECT 1 FROM dead_letters WHERE NOT told") == []
    assert await said(conn) == [("relay.delivery.dead", 10)]
    assert await rows(conn, "SELECT pending FROM notices") == [(25,)]


async def test_what_is_pending_is_sent_by_the_clock(crew: Worker, shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    for _ in range(3):
        await crew.notifier.tell_of_dead(await died(shop, conn, 2))
    await chores_done(crew)
    assert await said(conn) == [("relay.delivery.dead", 2)]
    await rows(conn, TEN_MINUTES_PASS)
    await chores_done(crew)
    assert await said(conn) == [("relay.delivery.dead", 2), ("relay.delivery.dead", 4)]


async def test_without_redis_it_is_told_all_the_same(settings: Settings, shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    ids = await died(shop, conn, 1)
    async with open_crew(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as crew:
        await crew.notifier.tell_of_dead(ids)
    assert await said(conn) == [("relay.delivery.dead", 1)]


async def test_a_410_is_told_of_to_who_subscribed_by_a_signed_delivery(crew: Worker, shop: Shop, conn: Conn) -> None:
    gone = await shop.endpoint(NOWHERE)
    ids = await died(shop, conn, 1, Reason.GONE)
    with Sink() as sink:
        await shop.endpoint(sink.url("/watcher"), event_types=["relay.*"])
        await shop.endpoint(sink.url("/everything"))
        await crew.notifier.tell_of_dead(ids)
        await crew.deliverer.deliver(await fan_out(shop))
        await until_true(conn, "SELECT count(*) = 2 FROM history WHERE state = 'delivered'", 10)
        told: list[dict[str, Any]] = [json.loads(arrival.body) for arrival in sink.arrivals]
        assert sink.by_path() == {"/watcher": 2}
        assert all(arrival.headers["webhook-signature"] for arrival in sink.arrivals)
    assert {(one["endpointId"], one["reason"], one["url"]) for one in told} == {(str(gone), "GONE", NOWHERE)}
    assert await said(conn) == [("relay.delivery.dead", 1), ("relay.endpoint.disabled", 1)]


async def test_a_failing_endpoint_is_told_of_and_disabled_by_the_clock(crew: Worker, shop: Shop, conn: Conn) -> None:
    endpoint_id = await shop.endpoint(NOWHERE)
    for days in (1, 3, 4, 5):
        await rows(conn, TEN_MINUTES_PASS)
        await rows(
            conn,
            """INSERT INTO failing (endpoint_id, tenant_id, since, last_at)
               VALUES (%s, %s, now() - make_interval(days => %s), now()) ON CONFLICT (endpoint_id)
               DO UPDATE SET since = excluded.since, last_at = excluded.last_at RETURNING 1""",
            (endpoint_id, shop.tenant_id, days),
        )
        for _ in range(2):
            await chores_done(crew)
    assert [kind for kind, _ in await said(conn)] == [*3 * ["relay.endpoint.failing"], "relay.endpoint.disabled"]
    assert await rows(conn, "SELECT status, disabled_reason FROM endpoints") == [("disabled", "attempts_exhausted")]


async def test_a_lane_that_falls_asleep_while_its_endpoint_is_disabled_wakes_after_it(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    await shop.endpoint(NOWHERE)
    dead = await died(shop, conn, 1, Reason.GONE)
    await conn.execute(
        """CREATE FUNCTION fall_asleep() RETURNS trigger LANGUAGE plpgsql
           AS $$ BEGIN UPDATE lanes SET ready_at = NULL; RETURN NULL; END $$"""
    )
    await conn.execute(
        """CREATE CONSTRAINT TRIGGER asleep AFTER UPDATE ON endpoints DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION fall_asleep()"""
    )
    await crew.notifier.tell_of_dead(dead)
    assert await rows(conn, "SELECT status FROM endpoints") == [("disabled",)]
    assert await rows(conn, "SELECT ready_at <= now() FROM lanes") == [(True,)]
