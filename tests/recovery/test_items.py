from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from relay.catalog.subscriptions import matches
from relay.delivery.deliveries import DeliveryStatus
from relay.recovery import items
from relay.recovery.items import Scope
from relay.recovery.replay_spec import ReplaySpec
from tests.delivery.crew import rows
from tests.rows import World, make_world

NOW = datetime.now(UTC)
WINDOW: dict[str, Any] = {"since": NOW - timedelta(hours=1), "until": NOW + timedelta(hours=1)}
ALL = [DeliveryStatus.DEAD, DeliveryStatus.CANCELLED, DeliveryStatus.DELIVERED]


async def all_finals(world: World, **asked: Any) -> list[UUID]:
    """Every item of a replay, one by one."""
    scope, after, found = Scope(world.tenant_id, ReplaySpec(**{**WINDOW, **asked})), None, []
    while True:
        chunk = await items.next_finals(world.conn, scope, after=after, limit=1)
        if chunk.last is None:
            return found
        assert after is None or chunk.last > after
        found, after = found + [one.id for one in chunk.items], chunk.last


async def counted(world: World, patterns: tuple[str, ...] = (), **asked: Any) -> tuple[int, int]:
    scope = Scope(world.tenant_id, ReplaySpec(**{**WINDOW, **asked}), patterns=patterns)
    last, total, skipped = await items.count_next(world.conn, scope, after=None)
    assert last is None or await items.count_next(world.conn, scope, after=last) == (None, 0, 0)
    return total, skipped


async def test_a_replay_goes_through_what_ended_in_its_window_oldest_first(world: World) -> None:
    event = await world.event()
    other = await world.endpoint()
    dead = [await world.finished(event, "dead") for _ in range(3)]
    cancelled = await world.finished(event, "cancelled")
    arrived = await world.finished(event, endpoint_id=other)
    await world.finished(event, "dead", ago=timedelta(hours=2))
    await world.waiting(event)
    foreign = await make_world(world.conn, "other")
    await foreign.finished(await foreign.event(), "dead")
    assert await all_finals(world) == dead
    assert await all_finals(world, statuses=ALL) == [*dead, cancelled, arrived]
    assert await all_finals(world, statuses=ALL, endpoint_id=other) == [arrived]
    assert await all_finals(world, until=NOW - timedelta(minutes=30)) == []
    assert await counted(world, statuses=ALL) == (5, 0)


async def test_what_ended_after_the_job_began_is_none_of_its_items(world: World) -> None:
    await world.finished(await world.event(), "dead")
    scope = Scope(world.tenant_id, ReplaySpec(**WINDOW), before=NOW - timedelta(minutes=1))
    assert (await items.next_finals(world.conn, scope, after=None, limit=9)).items == []


async def test_settled_ones_are_counted_and_told_apart(world: World) -> None:
    event = await world.event()
    dead, cancelled = await world.finished(event, "dead"), await world.finished(event, "cancelled")
    await world.finished(event, "dead")
    await rows(world.conn, "DELETE FROM dead_letters WHERE id = %s RETURNING 1", (dead,))
    assert await counted(world, statuses=ALL) == (3, 1)
    await rows(
        world.conn,
        """INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, due_at, first, replay_of)
           VALUES (%s, %s, %s, %s, 1, now(), false, %s) RETURNING 1""",
        (world.ids(), world.tenant_id, event, world.endpoint_id, cancelled),
    )
    assert await counted(world, statuses=ALL) == (3, 2)


async def test_types_mean_what_they_mean_in_subscriptions(world: World) -> None:
    names = ["order.paid", "order.paid.late", "order", "orders.x", "relay.test", "Order.paid", "a"]
    made = {name: await world.event(name) for name in names}
    dead = {await world.finished(event, "dead"): name for name, event in made.items()}
    for id in made.values():
        await world.fanned_out(id, matched=1)
    for patterns in (["*"], ["order.*"], ["order.paid"], ["order.paid", "a"], ["relay.*"], ["*", "relay.*"], ["b"]):
        wanted = [name for name in names if any(matches(pattern, name) for pattern in patterns)]
        assert [dead[id] for id in await all_finals(world, event_types=patterns)] == wanted
        target = {"to_endpoint_id": await world.endpoint("x")}
        assert await counted(world, ("*", "relay.*"), event_types=patterns, **target) == (len(wanted), 0)
        assert await counted(world, tuple(patterns), **target) == (len(wanted), 0)


async def test_a_backfill_goes_through_events_and_skips_what_its_endpoint_has_or_will_get(world: World) -> None:
    new = await world.endpoint()
    fresh, served, waiting, unfanned = [await world.event() for _ in range(4)]
    await world.event(endpoint_id=world.endpoint_id)
    await world.event(ago=timedelta(hours=2))
    for event in (fresh, served, waiting):
        await world.fanned_out(event, matched=1)
    await world.finished(served, "cancelled", endpoint_id=new)
    await world.waiting(waiting, endpoint_id=new)
    scope = Scope(world.tenant_id, ReplaySpec(**WINDOW, to_endpoint_id=new), patterns=["*"])
    chunk = await items.next_events(world.conn, scope, after=None, limit=100)
    assert [(one.event_id, one.served) for one in chunk.items] == [
        (fresh, False),
        (served, True),
        (waiting, True),
        (unfanned, True),
    ]
    assert await counted(world, ("*",), to_endpoint_id=new) == (4, 3)
