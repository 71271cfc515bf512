"""Whatever is done to deliveries in whatever order, each stands where a model of their states says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from relay.delivery import deliveries
from relay.delivery.deliveries import DeliveryFilter
from relay.errors import Conflict
from relay.recovery.cancel import cancel
from relay.recovery.retry import retry
from tests.delivery.crew import rows
from tests.rows import World, make_world

ACTIONS = st.sampled_from(["cancel", "retry", "take", "fail", "arrive", "die"])
STEPS = st.lists(st.tuples(ACTIONS, st.integers(0, 99)), max_size=25)
#: From which states a worker's doings lead where.
MOVES = {
    ("queued", "take"): "delivering",
    ("failed", "take"): "delivering",
    ("delivering", "fail"): "failed",
    ("delivering", "arrive"): "delivered",
    ("delivering", "die"): "dead",
}


@dataclass
class Model:
    """What is known of one delivery; `settled`: dead or cancelled, and not to be repeated any more."""

    id: UUID
    state: str = "queued"
    settled: bool = False


async def work(world: World, delivery: Model, action: str) -> None:
    """Do what a worker does with it, if it can."""
    state = MOVES.get((delivery.state, action))
    if state is None:
        return
    delivery.state = state
    if action == "take":
        query = "UPDATE live SET due_at = NULL, fence = 7, owner = 1, sent_at = now() WHERE id = %s RETURNING 1"
        await rows(world.conn, query, (delivery.id,))
    elif action == "fail":
        query = """UPDATE live SET due_at = now() + interval '1 hour', fence = NULL, owner = NULL, sent_at = NULL,
                       attempts = attempts + 1 WHERE id = %s RETURNING 1"""
        await rows(world.conn, query, (delivery.id,))
    else:
        await world.move_to_history(delivery.id, state)
        await rows(
            world.conn,
            """INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason)
               SELECT id, tenant_id, endpoint_id, event_id, reason FROM history WHERE id = %s AND state = 'dead'
               RETURNING 1""",
            (delivery.id,),
        )


async def try_cancel(world: World, delivery: Model) -> None:
    allowed = delivery.state in {"queued", "failed"} or (delivery.state == "dead" and not delivery.settled)
    try:
        await cancel(world.conn, world.tenant_id, delivery.id)
    except Conflict:
        assert not allowed
        return
    assert allowed
    if delivery.state == "dead":
        delivery.settled = True
    else:
        delivery.state = "cancelled"


async def try_retry(world: World, delivery: Model) -> Model | None:
    """Return the successor, if there is one."""
    repeats = delivery.state in {"dead", "cancelled"} and not delivery.settled
    try:
        due = await retry(world.conn, world.tenant_id, delivery.id, ids=world.ids)
    except Conflict:
        assert not repeats
        assert delivery.state != "failed"
        return None
    assert (due != delivery.id) == repeats
    assert repeats or delivery.state == "failed"
    delivery.settled = delivery.settled or repeats
    return Model(due) if repeats else None


async def play(database_url: str, steps: list[tuple[str, int]]) -> None:
    async with await AsyncConnection.connect(database_url, autocommit=True) as conn:
        world = await make_world(conn, f"client {uuid4()}")
        event = await world.event()
        known = [Model(await world.waiting(event)) for _ in range(2)]
        for action, which in steps:
            delivery = known[which % len(known)]
            async with conn.transaction():
                if action == "cancel":
                    await try_cancel(world, delivery)
                elif action == "retry":
                    successor = await try_retry(world, delivery)
                    known += [successor] if successor else []
                else:
                    await work(world, delivery, action)
        found = await deliveries.find_many(conn, world.tenant_id, [one.id for one in known])
        assert {id: one.status for id, one in found.items()} == {one.id: one.state for one in known}
        unsettled = await deliveries.count(conn, world.tenant_id, DeliveryFilter(settled=False))
        assert unsettled == sum(one.state == "dead" and not one.settled for one in known)
        assert await deliveries.count(conn, world.tenant_id, DeliveryFilter()) == len(known)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_order_of_doings_ends_as_the_model_says(database_url: str, steps: list[tuple[str, int]]) -> None:
    asyncio.run(play(database_url, steps))
