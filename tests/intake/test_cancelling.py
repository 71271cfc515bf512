"""A scheduled event is taken back or goes out, never both and never neither."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from relay.db import Conn
from relay.delivery.fanout import FanOut
from relay.errors import Conflict, NotFound
from relay.insight.explain import FanoutReason, explain
from relay.intake import cancelling, events, outbox
from relay.intake.events import EventFilter, EventStatus
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, open_crew, rows
from tests.rows import make_world
from tests.running import until_true
from tests.shop import Shop, accepted, open_shop

#: How often each event is known; all three tables together must say once.
PLACES = """SELECT e.id, count(o.n) + count(s.event_id) + count(f.event_id), bool_or(f.cancelled), sum(f.matched)
            FROM events e LEFT JOIN outbox o ON o.event_id = e.id LEFT JOIN scheduled s ON s.event_id = e.id
            LEFT JOIN fanouts f ON f.event_id = e.id GROUP BY e.id"""

WAITS = """SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
           WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)"""


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        await shop.endpoint(NOWHERE)
        yield shop


async def schedule(shop: Shop, count: int = 1) -> list[UUID]:
    return [one.id for one in accepted(await shop.accept(*(shop.event(delay_s=3600) for _ in range(count))))]


async def cancel(shop: Shop, event: UUID) -> int | None:
    async with shop.web.db.transaction() as conn:
        return await cancelling.cancel(conn, shop.tenant_id, event)


async def due(conn: Conn) -> None:
    """Move everything scheduled into the outbox."""
    await conn.execute("UPDATE scheduled SET due_at = now()")
    await outbox.take_in_scheduled(conn, limit=1000)


async def test_a_scheduled_event_is_taken_back_and_never_sent(shop: Shop, conn: Conn) -> None:
    (event,) = await schedule(shop)
    assert await cancel(shop, event) is None
    await due(conn)
    assert await fan_out(shop) == []
    assert await rows(conn, PLACES) == [(event, 1, True, 0)]
    assert await rows(conn, "SELECT count(*) FROM live") == [(0,)]


async def test_an_event_that_is_due_and_not_fanned_out_is_taken_back(shop: Shop, conn: Conn) -> None:
    first, second = await schedule(shop, 2)
    await due(conn)
    assert await cancel(shop, first) == shop.tenant_id.int & 15
    assert len(await fan_out(shop)) == 1
    assert sorted(await rows(conn, PLACES)) == [(first, 1, True, 0), (second, 1, False, 1)]


async def test_once_fan_out_has_begun_or_if_it_never_was_scheduled_it_is_a_conflict(shop: Shop, conn: Conn) -> None:
    (event,) = await schedule(shop)
    await due(conn)
    await fan_out(shop)
    with pytest.raises(Conflict, match="has begun"):
        await cancel(shop, event)
    (at_once,) = await shop.send(1)
    with pytest.raises(Conflict, match="not scheduled"):
        await cancel(shop, UUID(at_once))
    assert await rows(conn, "SELECT count(*) FROM live") == [(1,)]


async def test_cancelling_twice_is_a_conflict(shop: Shop) -> None:
    (event,) = await schedule(shop)
    answers = await asyncio.gather(*(cancel(shop, event) for _ in range(3)), return_exceptions=True)
    assert len([answer for answer in answers if isinstance(answer, Conflict)]) == 2
    with pytest.raises(Conflict, match="cancelled already"):
        await cancel(shop, event)


async def test_another_clients_event_is_not_found(shop: Shop, conn: Conn) -> None:
    (event,) = await schedule(shop)
    other = (await make_world(conn, "other")).tenant_id
    for tenant_id, id in ((other, event), (shop.tenant_id, uuid4())):
        with pytest.raises(NotFound):
            await cancelling.cancel(conn, tenant_id, id)
    assert await rows(conn, "SELECT count(*) FROM scheduled") == [(1,)]


async def test_a_cancelled_event_is_cancelled_and_not_unmatched(shop: Shop, conn: Conn) -> None:
    (event,) = await schedule(shop)
    await cancel(shop, event)
    assert await events.statuses(conn, [event]) == {event: EventStatus.CANCELLED}
    for unmatched, expected in ((True, []), (False, [event])):
        page = await events.list_(conn, shop.tenant_id, EventFilter(unmatched=unmatched), first=10)
        assert [one.id for one in page.items] == expected
    (decision,) = await explain(conn, shop.tenant_id, event)
    assert decision.why is FanoutReason.NOT_FANNED_OUT_YET


async def test_a_cancel_waits_for_the_fan_out_that_is_under_way(shop: Shop, conn: Conn) -> None:
    (event,) = await schedule(shop)
    await due(conn)
    async with conn.transaction():
        shard = shop.tenant_id.int & 15
        assert await outbox.lock_shards(conn, [shard]) == [shard]
        cancelling_now = asyncio.ensure_future(cancel(shop, event))
        await until_true(conn, WAITS, 5)
        await conn.execute("DELETE FROM outbox")
    with pytest.raises(Conflict):
        await cancelling_now


async def test_events_due_now_are_each_either_cancelled_and_never_sent_or_fanned_out(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    ids = await schedule(shop, 600)
    await conn.execute("UPDATE scheduled SET due_at = now() + random() * interval '2 s'")
    async with open_crew(settings) as crew:
        fans = [FanOut(crew.db, ids=crew.ids) for _ in range(2)]
        left = True

        async def move() -> None:
            nonlocal left
            while left:
                await outbox.take_in_scheduled(conn, limit=20)
                found = await rows(conn, "SELECT EXISTS (SELECT FROM scheduled) OR EXISTS (SELECT FROM outbox)")
                left = found == [(True,)]

        async def fan(one: FanOut) -> None:
            while left:
                async for _ in one.drain(list(outbox.SHARDS)):
                    pass

        async def undo(some: list[UUID]) -> set[UUID]:
            done: set[UUID] = set()
            for id in some:
                try:
                    await cancel(shop, id)
                    done.add(id)
                except Conflict:
                    pass
            return done

        random.shuffle(ids)
        working = asyncio.gather(move(), *(fan(one) for one in fans))
        undone = await asyncio.gather(*(undo(ids[start::3]) for start in range(3)))
        await asyncio.wait_for(working, 20)
    cancelled = set[UUID]().union(*undone)
    print(f"{len(cancelled)} of 600 cancelled")
    assert 0 < len(cancelled) < 600
    expected = {(id, 1, id in cancelled, 0 if id in cancelled else 1) for id in ids}
    assert set(await rows(conn, PLACES)) == expected
    sent = {row[0] for row in await rows(conn, "SELECT event_id FROM live")}
    assert sent == set(ids) - cancelled
