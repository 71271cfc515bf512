from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from relay.db import Database
from relay.delivery.deliveries import DeliveryStatus
from relay.errors import Conflict, Invalid, NotFound
from relay.recovery import batch
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.rows import World, make_world

DEAD, FAILED, CANCELLED = (
    frozenset({one}) for one in (DeliveryStatus.DEAD, DeliveryStatus.FAILED, DeliveryStatus.CANCELLED)
)


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings)
    await database.open()
    yield database
    await database.close()


async def test_each_event_is_retried_or_refused_on_its_own(world: World, db: Database) -> None:
    failed, dead, fine, cancelled = [await world.event() for _ in range(4)]
    await world.waiting(failed, attempts=1, due_s=3600)
    await world.finished(failed, "dead", endpoint_id=await world.endpoint())
    await world.finished(dead, "dead")
    await world.finished(fine)
    await world.finished(cancelled, "cancelled")
    foreign, unknown = await (await make_world(world.conn, "other")).event(), uuid4()
    wanted = [failed, dead, dead, fine, cancelled, foreign, unknown]
    results = await batch.retry_events(db, world.tenant_id, wanted, ids=world.ids)
    assert list(results) == list(dict.fromkeys(wanted))
    assert {id for id, error in results.items() if error is None} == {failed, dead}
    assert {type(results[id]) for id in (fine, cancelled)} == {Conflict}
    assert {type(results[id]) for id in (foreign, unknown)} == {NotFound}
    assert await rows(world.conn, "SELECT count(*), count(replay_of) FROM live WHERE due_at <= now()") == [(3, 2)]
    again = await batch.retry_events(db, world.tenant_id, [dead], ids=world.ids)
    assert isinstance(again[dead], Conflict)


async def test_an_event_whose_endpoint_is_gone_says_so(world: World, db: Database) -> None:
    event = await world.event()
    await world.finished(event, "dead")
    await rows(world.conn, "UPDATE endpoints SET deleted_at = now() RETURNING 1")
    (error,) = (await batch.retry_events(db, world.tenant_id, [event], ids=world.ids)).values()
    assert "deleted" in str(error)


async def test_the_oldest_come_first_and_asking_again_comes_to_an_end(world: World, db: Database) -> None:
    events = [await world.event() for _ in range(5)]
    other = await world.endpoint()
    for event in events:
        await world.finished(event, "dead")
        await world.finished(event, "dead", endpoint_id=other)
    seen = []
    while found := await batch.oldest(world.conn, world.tenant_id, DEAD, limit=2):
        assert len(found) <= 2
        results = await batch.retry_events(db, world.tenant_id, found, ids=world.ids, statuses=DEAD)
        seen += [id for id, error in results.items() if error is None]
    assert seen == events
    assert await rows(world.conn, "SELECT count(*) FROM live") == [(10,)]


async def test_each_status_finds_its_own_and_only_at_the_endpoint_that_is_asked_for(world: World) -> None:
    other = await world.endpoint()
    failed, dead, cancelled, due, elsewhere = [await world.event() for _ in range(5)]
    await world.waiting(failed, attempts=1, due_s=60)
    await world.waiting(due, attempts=1)
    await world.finished(dead, "dead")
    await world.finished(cancelled, "cancelled")
    await world.finished(elsewhere, "dead", endpoint_id=other)
    for statuses, found in (
        (FAILED, [failed]),
        (CANCELLED, [cancelled]),
        (DEAD, [dead]),
        (batch.USUAL, [failed, dead]),
    ):
        chosen = await batch.oldest(world.conn, world.tenant_id, statuses, limit=10, endpoint_id=world.endpoint_id)
        assert chosen == found
    assert await batch.oldest(world.conn, world.tenant_id, DEAD, limit=10) == [dead, elsewhere]


async def test_a_cancelled_one_is_found_until_it_is_replayed_or_its_endpoint_is_gone(
    world: World, db: Database
) -> None:
    replayed, gone = await world.event(), await world.event()
    lost = await world.endpoint()
    await world.finished(replayed, "cancelled")
    await world.finished(gone, "cancelled", endpoint_id=lost)
    await rows(world.conn, "UPDATE endpoints SET deleted_at = now() WHERE id = %s RETURNING 1", (lost,))
    assert await batch.oldest(world.conn, world.tenant_id, CANCELLED, limit=10) == [replayed]
    await batch.retry_events(db, world.tenant_id, [replayed], ids=world.ids, statuses=CANCELLED)
    assert await batch.oldest(world.conn, world.tenant_id, CANCELLED, limit=10) == []


def test_limits_name_their_field() -> None:
    assert batch.check_limit(None) == 100
    assert batch.check_limit(1000) == 1000
    for check, field in (
        (lambda: batch.check_limit(0), "limit"),
        (lambda: batch.check_limit(1001), "limit"),
        (lambda: batch.check_ids([]), "ids"),
        (lambda: batch.check_ids(["x"] * 1001), "ids"),
        (lambda: batch.check_status(DeliveryStatus.DELIVERED), "status"),
    ):
        with pytest.raises(Invalid) as refusal:
            check()
        assert refusal.value.field == field
