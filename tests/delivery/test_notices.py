"""Notices: one per subject and kind in ten minutes, with a count; events like any other, and what the page says."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from relay.catalog.subscriptions import RESERVED, matches
from relay.db import Conn
from relay.delivery import notices
from relay.delivery.notices import Kind, Notice, forget, is_told_of, send_due, tell
from relay.delivery.outcomes import Reason
from relay.ids import Uuid7
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, rows
from tests.documents import ROOT, table
from tests.rows import World, make_world
from tests.shop import Shop, open_shop

NOW = datetime(2025, 1, 31, 12, tzinfo=UTC)
PAGE = ROOT / "docs" / "notices.md"


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


def death(world: World, endpoint_id: UUID | None = None) -> Notice:
    """A notice of one death."""
    return notices.dead(
        world.tenant_id,
        endpoint_id or world.endpoint_id,
        delivery_id=world.ids(),
        event_id=world.ids(),
        reason=Reason.GONE,
    )


async def said(conn: Conn) -> list[dict[str, Any]]:
    """The payloads of all notices accepted, in their order."""
    found = await rows(conn, "SELECT convert_from(payload, 'UTF8') FROM events ORDER BY id")
    return [json.loads(str(row[0])) for row in found]


async def ten_minutes_pass(conn: Conn) -> None:
    await rows(conn, "UPDATE notices SET sent_at = sent_at - interval '10 min' RETURNING 1")


async def test_the_first_is_sent_at_once_as_an_event_in_the_outbox(world: World) -> None:
    notice = death(world)
    shards = await tell(world.conn, [notice], ids=world.ids)
    assert shards == {world.tenant_id.int & 15}
    found = await rows(
        world.conn, "SELECT e.type, e.tenant_id, e.subject, o.shard FROM events e JOIN outbox o ON o.event_id = e.id"
    )
    assert found == [("relay.delivery.dead", world.tenant_id, str(world.endpoint_id), world.tenant_id.int & 15)]
    (payload,) = await said(world.conn)
    assert datetime.fromisoformat(payload.pop("at")).tzinfo is not None
    assert payload == {
        "endpointId": str(world.endpoint_id),
        "url": "http://127.0.0.1:9000/",
        **notice.details,
        "count": 1,
    }


async def test_what_follows_within_ten_minutes_is_counted_and_sent_when_they_are_over(world: World) -> None:
    first, *others = [death(world) for _ in range(5)]
    await tell(world.conn, [first], ids=world.ids)
    for other in others:
        assert await tell(world.conn, [other], ids=world.ids) == frozenset()
    assert await send_due(world.conn, ids=world.ids) == frozenset()
    await ten_minutes_pass(world.conn)
    assert await send_due(world.conn, ids=world.ids)
    assert await send_due(world.conn, ids=world.ids) == frozenset()
    payloads = await said(world.conn)
    assert [payload["count"] for payload in payloads] == [1, 4]
    assert payloads[1]["deliveryId"] == others[-1].details["deliveryId"]


async def test_what_is_pending_goes_out_with_the_next_that_comes_after_ten_minutes(world: World) -> None:
    for _ in range(3):
        await tell(world.conn, [death(world)], ids=world.ids)
    await ten_minutes_pass(world.conn)
    await tell(world.conn, [death(world)], ids=world.ids)
    assert [payload["count"] for payload in await said(world.conn)] == [1, 3]


async def test_many_at_once_are_one_notice_for_each_subject_and_kind(world: World) -> None:
    second = await world.endpoint("a")
    many = [death(world, id) for id in (world.endpoint_id, second) for _ in range(50)]
    closed = notices.circuit_closed(world.tenant_id, second)
    await tell(world.conn, [*many, closed], ids=world.ids)
    found = sorted((payload["endpointId"], payload["count"]) for payload in await said(world.conn))
    assert found == sorted([(str(world.endpoint_id), 50), (str(second), 50), (str(second), 1)])


async def test_of_those_who_tell_at_once_one_sends_and_none_is_forgotten(world: World, shop: Shop) -> None:
    async def once(notice: Notice) -> None:
        async with shop.web.db.transaction() as conn:
            await tell(conn, [notice], ids=shop.web.ids)

    await asyncio.gather(*(once(death(world)) for _ in range(20)))
    await ten_minutes_pass(world.conn)
    await send_due(world.conn, ids=world.ids)
    payloads = await said(world.conn)
    assert len(payloads) == 2
    assert sum(payload["count"] for payload in payloads) == 20


async def test_nothing_is_sent_when_the_transaction_that_tells_is_undone(world: World, shop: Shop) -> None:
    async with shop.web.db.transaction() as conn:
        await tell(conn, [death(world)], ids=shop.web.ids)
        await conn.rollback()
    assert await said(world.conn) == []
    await tell(world.conn, [death(world)], ids=world.ids)
    assert [payload["count"] for payload in await said(world.conn)] == [1]


async def test_a_notice_is_for_those_who_ask_for_it_and_not_for_those_who_take_everything(
    shop: Shop, conn: Conn
) -> None:
    everything = await shop.endpoint(NOWHERE)
    watcher = await shop.endpoint(NOWHERE, event_types=["relay.*"])
    exact = await shop.endpoint(NOWHERE, event_types=["relay.delivery.dead"])
    await shop.endpoint(NOWHERE, event_types=["relay.job.done"])
    async with shop.web.db.transaction() as own:
        notice = notices.dead(
            shop.tenant_id, everything, delivery_id=shop.web.ids(), event_id=shop.web.ids(), reason=Reason.GONE
        )
        await tell(own, [notice], ids=shop.web.ids)
    await fan_out(shop)
    assert await rows(conn, "SELECT endpoint_id FROM live ORDER BY endpoint_id") == sorted([(watcher,), (exact,)])
    assert await rows(conn, "SELECT matched FROM fanouts") == [(2,)]


async def test_what_no_row_would_say_as_well_is_forgotten(world: World) -> None:
    second = await world.endpoint("a")
    await tell(world.conn, [death(world), death(world, second)], ids=world.ids)
    await tell(world.conn, [death(world)], ids=world.ids)
    await forget(world.conn)
    assert await rows(world.conn, "SELECT count(*) FROM notices") == [(2,)]
    await ten_minutes_pass(world.conn)
    await forget(world.conn)
    assert await rows(world.conn, "SELECT subject_id, pending FROM notices") == [(world.endpoint_id, 1)]


async def test_good_news_is_no_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "relay.delivery.notices"):
        await tell(
            world.conn, [death(world), notices.circuit_closed(world.tenant_id, world.endpoint_id)], ids=world.ids
        )
    assert {record.args[0]: record.levelname for record in caplog.records if isinstance(record.args, tuple)} == {
        Kind.DELIVERY_DEAD: "WARNING",
        Kind.CIRCUIT_CLOSED: "INFO",
    }


def test_deliveries_of_notices_make_none_and_nobody_who_takes_everything_gets_them() -> None:
    for kind in Kind:
        assert kind.startswith(RESERVED)
        assert not is_told_of(kind)
        assert matches("relay.*", kind)
        assert not matches("*", kind)
    assert is_told_of("order.paid")
    assert is_told_of("relayed.order")
    assert is_told_of(None)


def of_every_kind(world: World) -> list[Notice]:
    tenant, endpoint = world.tenant_id, world.endpoint_id
    return [
        death(world),
        notices.failing(tenant, endpoint, since=NOW, days=3),
        notices.disabled(tenant, endpoint, reason=Reason.GONE),
        notices.circuit_opened(tenant, endpoint, next_probe_at=NOW),
        notices.circuit_closed(tenant, endpoint),
        notices.job_done(tenant, Uuid7()(), status="DONE", done=3, skipped=2, failed=1),
    ]


async def test_the_page_names_every_type_with_its_fields_and_shows_one(world: World) -> None:
    await tell(world.conn, of_every_kind(world), ids=world.ids)
    found = await rows(world.conn, "SELECT type, convert_from(payload, 'UTF8') FROM events")
    real = {str(row[0]): sorted(json.loads(str(row[1]))) for row in found}
    assert set(real) == set(Kind)
    listed = table(PAGE, "| type | tells that | fields |")
    assert {row[0].strip("`"): sorted(re.findall(r"`(\w+)`", row[2])) for row in listed} == real
    example = re.search(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example
    assert sorted(json.loads(example[1])) == real[Kind.DELIVERY_DEAD]
