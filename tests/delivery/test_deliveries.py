from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from relay.db import Conn
from relay.delivery import attempts, deliveries
from relay.delivery.deliveries import DeliveryFilter, DeliveryStatus
from relay.delivery.outcomes import Reason
from relay.errors import Invalid, NotFound
from tests.rows import World, make_world


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def test_each_state_of_a_row_has_its_status(world: World) -> None:
    event = await world.event()
    expected = {
        await world.waiting(event): DeliveryStatus.QUEUED,
        await world.dispatched(event): DeliveryStatus.QUEUED,
        await world.waiting(event, attempts=1, due_s=60): DeliveryStatus.FAILED,
        await world.dispatched(event, attempts=1): DeliveryStatus.FAILED,
        await world.dispatched(event, owner=1, attempts=1): DeliveryStatus.DELIVERING,
        await world.finished(event, "delivered"): DeliveryStatus.DELIVERED,
        await world.finished(event, "dead"): DeliveryStatus.DEAD,
        await world.finished(event, "cancelled"): DeliveryStatus.CANCELLED,
    }
    found = await deliveries.find_many(world.conn, world.tenant_id, expected)
    assert {id: one.status for id, one in found.items()} == expected
    for status in DeliveryStatus:
        ids = [id for id, its in expected.items() if its is status]
        page = await deliveries.list_(world.conn, world.tenant_id, DeliveryFilter(status=status), first=10)
        assert [one.id for one in page.items] == sorted(ids, reverse=True)
        assert await deliveries.count(world.conn, world.tenant_id, DeliveryFilter(status=status)) == len(ids)


async def test_a_list_mixes_live_and_final_ones_newest_first_without_gaps(world: World) -> None:
    event = await world.event()
    made = []
    for _ in range(3):
        made += [await world.waiting(event), await world.finished(event)]
    seen = []
    after = None
    while True:
        page = await deliveries.list_(world.conn, world.tenant_id, DeliveryFilter(), first=2, after=after)
        seen += [one.id for one in page.items]
        if not page.has_next:
            break
        after = page.items[-1].id
    assert seen == made[::-1]


async def test_another_tenants_delivery_looks_like_none(world: World) -> None:
    id = await world.waiting(await world.event())
    other = (await make_world(world.conn, "other")).tenant_id
    assert await deliveries.find(world.conn, other, id) is None
    assert (await deliveries.list_(world.conn, other, DeliveryFilter(), first=10)).items == []
    for tenant_id, missing in ((other, id), (world.tenant_id, uuid4())):
        with pytest.raises(NotFound):
            await deliveries.get(world.conn, tenant_id, missing)


async def test_every_filter_keeps_exactly_what_it_names(world: World) -> None:
    order, till = await world.event("order"), await world.event("till")
    other_endpoint = await world.endpoint()
    waiting = await world.waiting(order)
    dead = await world.finished(till, "dead", endpoint_id=other_endpoint)
    settled = await world.finished(till, "dead")
    await world.conn.execute("DELETE FROM dead_letters WHERE id = %s", (settled,))
    everything, now = {waiting, dead, settled}, datetime.now(UTC)
    expected = {
        DeliveryFilter(): everything,
        DeliveryFilter(event_id=order): {waiting},
        DeliveryFilter(event_type="till"): {dead, settled},
        DeliveryFilter(endpoint_id=other_endpoint): {dead},
        DeliveryFilter(reason=Reason.ATTEMPTS_EXHAUSTED): {dead, settled},
        DeliveryFilter(settled=True): {settled},
        DeliveryFilter(status=DeliveryStatus.DEAD, settled=False): {dead},
        DeliveryFilter(since=now - timedelta(minutes=1)): everything,
        DeliveryFilter(since=now + timedelta(minutes=1)): set(),
        DeliveryFilter(until=now + timedelta(minutes=1)): everything,
        DeliveryFilter(until=now - timedelta(minutes=1)): set(),
    }
    for filter, ids in expected.items():
        page = await deliveries.list_(world.conn, world.tenant_id, filter, first=10)
        assert {one.id for one in page.items} == ids, filter


async def test_settled_is_for_dead_ones_only(world: World) -> None:
    contradiction = DeliveryFilter(status=DeliveryStatus.QUEUED, settled=False)
    with pytest.raises(Invalid) as refused:
        await deliveries.list_(world.conn, world.tenant_id, contradiction, first=1)
    assert refused.value.field == "settled"


async def test_the_newest_deliveries_of_many_events_come_in_one_go(world: World) -> None:
    first, second, lonely = await world.event(), await world.event(), await world.event()
    old, new = await world.finished(first), await world.waiting(first)
    only = await world.waiting(second)
    found = await deliveries.of_events(world.conn, [first, second, lonely], 1)
    assert {id: [one.id for one in some] for id, some in found.items()} == {first: [new], second: [only], lonely: []}
    both = await deliveries.of_events(world.conn, [first], 50)
    assert [one.id for one in both[first]] == [new, old]
    assert await deliveries.of_events(world.conn, [], 50) == {}


async def test_attempts_come_in_order_for_each_delivery(world: World) -> None:
    event = await world.event()
    delivery, untried = await world.finished(event), await world.waiting(event)
    await world.attempt(delivery, 2)
    await world.attempt(delivery, 1, status=None, ago_s=2)
    found = await attempts.of_deliveries(world.conn, world.tenant_id, [delivery, untried])
    assert [(one.n, one.status, one.reason) for one in found[delivery]] == [
        (1, None, Reason.RESPONSE_TIMEOUT),
        (2, 200, Reason.OK),
    ]
    assert found[delivery][0].body == b"hi"
    assert found[untried] == []
    other = (await make_world(world.conn, "other")).tenant_id
    assert await attempts.of_deliveries(world.conn, other, [delivery]) == {delivery: []}


async def test_the_newest_attempts_of_an_event_come_in_order_of_time_over_all_its_deliveries(world: World) -> None:
    event = await world.event()
    first, second = await world.finished(event), await world.waiting(event)
    for delivery, n, ago_s in ((first, 1, 30), (second, 1, 20), (first, 2, 10)):
        await world.attempt(delivery, n, ago_s=ago_s)
    found = await attempts.of_events(world.conn, world.tenant_id, [event], newest=2)
    assert [(one.delivery_id, one.n) for one in found[event]] == [(second, 1), (first, 2)]
