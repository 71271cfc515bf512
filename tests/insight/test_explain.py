from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest

from relay.catalog import endpoints
from relay.catalog.endpoints import EndpointChange
from relay.db import Conn
from relay.delivery.outcomes import Reason
from relay.insight.explain import FanoutDecision, FanoutReason, explain
from tests.rows import GUARD, VAULT, World, make_world


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


async def filtered(world: World, filter: str, *, of: UUID | None = None) -> UUID:
    """Give an endpoint a filter, as one that was not changed since the last fan-out."""
    id = of or await world.endpoint("*")
    await world.conn.execute("UPDATE endpoints SET filter = %s::json WHERE id = %s", (filter, id))
    return id


async def decisions_of(world: World, event_id: UUID, **arguments: object) -> dict[UUID, FanoutDecision]:
    found = await explain(world.conn, world.tenant_id, event_id, **arguments)  # pyright: ignore[reportArgumentType]
    return {one.endpoint_id: one for one in found}


async def test_a_filter_that_refused_is_shown_with_what_the_event_had_there(world: World) -> None:
    refusing = await filtered(world, '{"and": [{"path": "$.a", "gt": 1}, {"path": "$.a", "lt": 50}]}')
    missing = await filtered(world, '{"path": "$.b", "eq": 1}')
    broken = await filtered(world, '{"of another release": 1}')
    event = await world.event()
    await world.waiting(event)
    await world.fanned_out(event, matched=1)
    found = await decisions_of(world, event)
    assert {id: one.why for id, one in found.items() if id != world.endpoint_id} == dict.fromkeys(
        (refusing, missing, broken), FanoutReason.FILTERED_OUT
    )
    clauses = {id: (one.failing.clause, one.failing.found) for id, one in found.items() if one.failing}
    assert json.loads(clauses[refusing][0]) == {"path": "$.a", "lt": 50}
    assert json.loads(clauses[refusing][1] or b"") == 100
    assert clauses[missing][1] is None
    assert b"of another release" in clauses[broken][0]
    assert not any(one.changed_since for one in found.values())


async def test_what_a_filter_found_is_shown_only_as_far_as_the_payload_is(world: World) -> None:
    refusing = await filtered(world, '{"path": "$.a", "lt": 50}')
    event = await world.event()
    await world.fanned_out(event, matched=0)
    for shown, found in ((b'{"a": "[redacted]"}', b'"[redacted]"'), (None, None)):
        decision = (await decisions_of(world, event, shown=lambda _, shown=shown: shown))[refusing]
        assert decision.failing is not None
        assert decision.failing.found == found


async def test_an_endpoint_that_was_changed_after_the_fan_out_says_so(world: World) -> None:
    fits_now, with_filter = await world.endpoint("till"), await filtered(world, '{"path": "$.a", "lt": 50}')
    untouched = await world.endpoint("till")
    event = await world.event()
    await world.fanned_out(event, matched=0)
    for id, change in ((fits_now, {"event_types": ["*"]}), (with_filter, {"timeout_ms": 500})):
        await endpoints.update(
            world.conn, world.tenant_id, id, EndpointChange.model_validate(change), vault=VAULT, guard=GUARD
        )
    found = await decisions_of(world, event)
    assert {id: one.changed_since for id, one in found.items()} == {
        world.endpoint_id: False, fits_now: True, with_filter: True, untouched: False,
    }  # fmt: skip
    assert (found[fits_now].why, found[fits_now].failing) == (FanoutReason.TYPE_NOT_SUBSCRIBED, None)
    assert found[with_filter].why is FanoutReason.FILTERED_OUT


async def test_of_an_erased_event_no_filter_can_be_asked_again(world: World) -> None:
    id = await filtered(world, '{"path": "$.a", "eq": 1}')
    event = await world.event()
    await world.fanned_out(event, matched=0)
    await world.conn.execute("UPDATE events SET payload = NULL WHERE id = %s", (event,))
    decision = (await decisions_of(world, event))[id]
    assert (decision.why, decision.failing) == (FanoutReason.FILTERED_OUT, None)


async def test_another_tenants_event_explains_nothing(world: World) -> None:
    event = await world.event()
    other = (await make_world(world.conn, "other")).tenant_id
    assert await explain(world.conn, other, event) == []
    assert await explain(world.conn, world.tenant_id, uuid4()) == []
