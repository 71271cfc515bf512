from __future__ import annotations

from uuid import uuid4

import pytest

from relay.delivery import deliveries
from relay.errors import Conflict, NotFound
from relay.recovery.retry import retry
from tests.delivery.crew import rows
from tests.rows import World, make_world


async def test_a_failed_delivery_is_due_now_and_its_lane_is_rung(world: World) -> None:
    id = await world.waiting(await world.event(), attempts=3, due_s=3600)
    assert await retry(world.conn, world.tenant_id, id, ids=world.ids) == id
    assert await rows(world.conn, "SELECT due_at <= now(), attempts FROM live") == [(True, 3)]
    assert await rows(world.conn, "SELECT ready_at <= now() FROM lanes WHERE key = ''") == [(True,)]


async def test_one_that_waits_for_a_worker_keeps_its_place(world: World) -> None:
    event = await world.event()
    overdue, out = await world.waiting(event, attempts=1, due_s=-60), await world.dispatched(event, attempts=1)
    for id in (overdue, out):
        assert await retry(world.conn, world.tenant_id, id, ids=world.ids) == id
    assert await rows(world.conn, "SELECT due_at < now() - interval '50 s' FROM live WHERE id = %s", (overdue,)) == [
        (True,)
    ]


@pytest.mark.parametrize("state", ["dead", "cancelled"])
async def test_what_ended_without_arriving_gets_a_successor_once(world: World, state: str) -> None:
    id = await world.finished(await world.event(), state)
    new = await retry(world.conn, world.tenant_id, id, ids=world.ids)
    assert (await deliveries.get(world.conn, world.tenant_id, new)).replay_of == id
    with pytest.raises(Conflict, match="before"):
        await retry(world.conn, world.tenant_id, id, ids=world.ids)


async def test_nothing_else_is_retried(world: World) -> None:
    event = await world.event()
    for id, words in (
        (await world.waiting(event), "first attempt"),
        (await world.dispatched(event), "first attempt"),
        (await world.dispatched(event, owner=1, attempts=1), "in flight"),
        (await world.finished(event), "arrived"),
    ):
        with pytest.raises(Conflict, match=words):
            await retry(world.conn, world.tenant_id, id, ids=world.ids)


async def test_an_unknown_delivery_and_anothers_are_not_found(world: World) -> None:
    event = await world.event()
    failed, dead = await world.waiting(event, attempts=1, due_s=60), await world.finished(event, "dead")
    other = await make_world(world.conn, "other")
    for tenant_id, id in ((other.tenant_id, failed), (other.tenant_id, dead), (world.tenant_id, uuid4())):
        with pytest.raises(NotFound):
            await retry(world.conn, tenant_id, id, ids=world.ids)
    assert await rows(world.conn, "SELECT count(*) FROM live WHERE due_at <= now()") == [(0,)]
