from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from relay.db import Conn
from relay.delivery.deliveries import DeliveryStatus
from relay.errors import Invalid, NotFound
from relay.intake import events
from relay.intake.events import EventFilter, EventStatus
from tests.rows import World, make_world


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def status(world: World, event_id: object) -> EventStatus:
    assert isinstance(event_id, type(world.tenant_id))
    return (await events.statuses(world.conn, [event_id]))[event_id]


async def test_an_event_reads_back_the_bytes_it_was_sent_with(world: World) -> None:
    id = await world.event()
    assert (await events.get(world.conn, world.tenant_id, id)).payload == b'{"a": 1e2}'


async def test_another_tenants_event_looks_like_none(world: World) -> None:
    id = await world.event()
    other = (await make_world(world.conn, "other")).tenant_id
    assert await events.find(world.conn, other, id) is None
    assert (await events.list_(world.conn, other, EventFilter(), first=10)).items == []
    assert await events.count(world.conn, other, EventFilter()) == 0
    for tenant_id, missing in ((other, id), (world.tenant_id, uuid4())):
        with pytest.raises(NotFound):
            await events.get(world.conn, tenant_id, missing)


async def test_an_event_is_queued_until_it_is_fanned_out_and_unmatched_if_nobody_gets_it(world: World) -> None:
    id = await world.event()
    assert await status(world, id) is EventStatus.QUEUED
    await world.fanned_out(id, matched=0)
    assert await status(world, id) is EventStatus.UNMATCHED


async def test_the_status_is_the_first_that_holds_over_all_endpoints(world: World) -> None:
    id = await world.event()
    await world.fanned_out(id, matched=6)
    await world.finished(id, "cancelled", endpoint_id=await world.endpoint())
    assert await status(world, id) is EventStatus.CANCELLED
    await world.finished(id, "delivered", endpoint_id=await world.endpoint())
    assert await status(world, id) is EventStatus.DELIVERED
    await world.finished(id, "dead", endpoint_id=await world.endpoint())
    assert await status(world, id) is EventStatus.DEAD
    await world.waiting(id, endpoint_id=await world.endpoint())
    assert await status(world, id) is EventStatus.QUEUED
    await world.waiting(id, endpoint_id=await world.endpoint(), attempts=1)
    assert await status(world, id) is EventStatus.FAILED
    await world.dispatched(id, owner=1)
    assert await status(world, id) is EventStatus.DELIVERING


async def test_only_the_newest_delivery_of_an_endpoint_counts(world: World) -> None:
    id = await world.event()
    await world.finished(id, "dead", attempts=11)
    await world.finished(id, "delivered", attempts=1)
    progress = (await events.progress(world.conn, [id]))[id]
    assert (progress.status, progress.attempts) == (EventStatus.DELIVERED, 12)
    assert progress.delivered_at is not None


async def test_an_event_is_delivered_at_no_time_until_all_have_it(world: World) -> None:
    id = await world.event()
    await world.finished(id)
    await world.waiting(id, endpoint_id=await world.endpoint())
    assert (await events.progress(world.conn, [id]))[id].delivered_at is None


async def test_a_list_is_paged_newest_first_without_gaps(world: World) -> None:
    made = [await world.event() for _ in range(5)]
    first = await events.list_(world.conn, world.tenant_id, EventFilter(), first=3)
    rest = await events.list_(world.conn, world.tenant_id, EventFilter(), first=3, after=first.items[-1].id)
    assert [one.id for one in first.items + rest.items] == made[::-1]
    assert (first.has_next, rest.has_next) == (True, False)
    assert await events.count(world.conn, world.tenant_id, EventFilter()) == 5


@pytest.mark.parametrize(
    ("pattern", "types"),
    [
        ("order.created", {"order.created"}),
        ("order.*", {"order.created", "order.x_y.z"}),
        ("*", {"order.created", "order.x_y.z", "order"}),
        ("relay.*", {"relay.test"}),
    ],
)
async def test_a_type_filter_is_a_name_or_a_pattern(world: World, pattern: str, types: set[str]) -> None:
    for type in ("order.created", "order.x_y.z", "order", "relay.test", None):
        await world.event(type)
    page = await events.list_(world.conn, world.tenant_id, EventFilter(event_type=pattern), first=10)
    assert {one.type for one in page.items} == types


async def test_a_wrong_pattern_is_invalid(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        await events.list_(world.conn, world.tenant_id, EventFilter(event_type="a..b"), first=10)
    assert refused.value.field == "eventType"


async def test_every_filter_keeps_exactly_what_it_names(world: World) -> None:
    old = await world.event(ago=timedelta(hours=2), idempotency_key="k", subject="ada")
    unmatched = await world.event()
    await world.fanned_out(unmatched, matched=0)
    other_endpoint = await world.endpoint()
    dead, waiting = await world.event(), await world.event()
    await world.finished(dead, "dead")
    await world.waiting(waiting, endpoint_id=other_endpoint, attempts=2)
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    expected = {
        EventFilter(since=an_hour_ago): {unmatched, dead, waiting},
        EventFilter(until=an_hour_ago): {old},
        EventFilter(idempotency_key="k"): {old},
        EventFilter(subject="ada"): {old},
        EventFilter(unmatched=True): {unmatched},
        EventFilter(unmatched=False): {old, dead, waiting},
        EventFilter(delivery_status=DeliveryStatus.DEAD): {dead},
        EventFilter(delivery_status=DeliveryStatus.FAILED): {waiting},
        EventFilter(delivery_status=DeliveryStatus.DELIVERED): set(),
        EventFilter(endpoint_id=other_endpoint): {waiting},
        EventFilter(endpoint_id=world.endpoint_id): {dead},
        EventFilter(endpoint_id=world.endpoint_id, delivery_status=DeliveryStatus.FAILED): set(),
        EventFilter(endpoint_id=uuid4()): set(),
    }
    for filter, ids in expected.items():
        page = await events.list_(world.conn, world.tenant_id, filter, first=10)
        assert {one.id for one in page.items} == ids, filter
        assert await events.count(world.conn, world.tenant_id, filter) == len(ids), filter


async def test_since_is_inclusive_and_until_exclusive(world: World) -> None:
    id = await world.event()
    at = (await events.get(world.conn, world.tenant_id, id)).created_at
    since = await events.list_(world.conn, world.tenant_id, EventFilter(since=at), first=1)
    until = await events.list_(world.conn, world.tenant_id, EventFilter(until=at), first=1)
    assert ([one.id for one in since.items], until.items) == ([id], [])


@pytest.mark.parametrize("text", ["a\0", "\ud800"])
def test_a_text_no_row_can_hold_is_invalid_in_a_filter(text: str) -> None:
    with pytest.raises(Invalid, match="subject"):
        EventFilter(subject=text)


async def test_the_ends_of_time_are_fine_in_a_filter(world: World) -> None:
    await world.event()
    widest = EventFilter(since=datetime.min.replace(tzinfo=UTC), until=datetime.max.replace(tzinfo=UTC))
    assert len((await events.list_(world.conn, world.tenant_id, widest, first=10)).items) == 1
