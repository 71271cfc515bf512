from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from relay.catalog import endpoints
from relay.db import Conn
from relay.delivery.outcomes import Reason
from relay.insight.explain import FanoutDecision, FanoutReason, explain
from tests.rows import World, make_world


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def reasons(world: World, event_id: UUID) -> dict[UUID, FanoutReason]:
    return {one.endpoint_id: one.why for one in await explain(world.conn, world.tenant_id, event_id)}


async def test_before_the_fan_out_those_that_fit_are_still_to_come(world: World) -> None:
    event = await world.event("order.created")
    stranger = await world.endpoint("till.*")
    assert await reasons(world, event) == {
        world.endpoint_id: FanoutReason.NOT_FANNED_OUT_YET,
        stranger: FanoutReason.TYPE_NOT_SUBSCRIBED,
    }


async def test_after_the_fan_out_every_endpoint_has_its_reason(world: World) -> None:
    stranger, disabled = await world.endpoint("till.*"), await world.endpoint("*")
    deleted = await world.endpoint("*")
    await endpoints.delete(world.conn, world.tenant_id, deleted)
    await world.conn.execute(
        "UPDATE endpoints SET status = 'disabled', disabled_at = now(), disabled_reason = 'gone' WHERE id = %s",
        (disabled,),
    )
    event = await world.event("order.created")
    await world.finished(event, "dead")
    newest = await world.waiting(event)
    await world.fanned_out(event, matched=1)
    late = await world.endpoint("*")
    decisions = await explain(world.conn, world.tenant_id, event)
    first = decisions[0]
    assert (first.endpoint_id, first.delivery_id, first.recorded) == (world.endpoint_id, newest, True)
    assert first.matched
    assert {one.endpoint_id: one.why for one in decisions[1:]} == {
        stranger: FanoutReason.TYPE_NOT_SUBSCRIBED,
        disabled: FanoutReason.ENDPOINT_DISABLED,
        late: FanoutReason.CREATED_LATER,
    }
    assert not any(one.matched or one.recorded for one in decisions[1:])


async def test_an_event_for_nobody_says_so_of_each_endpoint(world: World) -> None:
    event = await world.event("relay.test")
    await world.fanned_out(event, matched=0)
    assert await reasons(world, event) == {world.endpoint_id: FanoutReason.TYPE_NOT_SUBSCRIBED}


async def test_an_event_for_one_endpoint_concerns_no_other(world: World) -> None:
    target = await world.endpoint("till")
    event = await world.event(None, endpoint_id=target)
    await world.waiting(event, endpoint_id=target)
    assert await reasons(world, event) == {target: FanoutReason.MATCHED}


async def test_one_endpoint_can_be_asked_about_and_the_list_is_bounded(world: World) -> None:
    others = [await world.endpoint("till") for _ in range(3)]
    event = await world.event()
    await world.waiting(event)

    async def about(**arguments: object) -> list[FanoutDecision]:
        return await explain(world.conn, world.tenant_id, event, **arguments)  # pyright: ignore[reportArgumentType]

    assert [one.endpoint_id for one in await about(endpoint_id=others[1])] == [others[1]]
    assert [one.why for one in await about(endpoint_id=world.endpoint_id)] == [FanoutReason.MATCHED]
    assert await about(endpoint_id=uuid4()) == []
    assert [one.endpoint_id for one in await about(first=2)] == [world.endpoint_id, others[2]]


async def test_a_gate_is_told_for_matched_and_unmatched_alike(world: World) -> None:
    circuit = await world.endpoint("till")
    event = await world.event()
    await world.waiting(event)
    await world.conn.execute("UPDATE lanes SET paused = true WHERE endpoint_id = %s", (world.endpoint_id,))
    await world.conn.execute(
        "UPDATE lanes SET gate_until = now() - interval '1 s', gate_reason = 'circuit_open' WHERE endpoint_id = %s",
        (circuit,),
    )
    gates = {one.endpoint_id: one.gate for one in await explain(world.conn, world.tenant_id, event)}
    paused, opened = gates[world.endpoint_id], gates[circuit]
    assert paused is not None
    assert (paused.reason, paused.until) == (Reason.PAUSED, None)
    assert opened is not None
    assert opened.reason is Reason.CIRCUIT_OPEN


async def test_another_tenants_event_explains_nothing(world: World) -> None:
    event = await world.event()
    other = (await make_world(world.conn, "other")).tenant_id
    assert await explain(world.conn, other, event) == []
    assert await explain(world.conn, world.tenant_id, uuid4()) == []
