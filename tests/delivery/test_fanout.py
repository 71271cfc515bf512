"""Fan-out: once and only once, in order, and no event stands in another's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from random import Random
from uuid import UUID

import pytest

from relay.catalog import endpoints
from relay.catalog.endpoints import EndpointChange
from relay.db import Conn, Database
from relay.delivery.fanout import FanOut
from relay.delivery.live import Dispatched
from relay.ids import Uuid7
from relay.intake import outbox
from relay.intake.accept import NewEvent
from relay.intake.outbox import Head
from relay.settings import Settings
from tests.shop import Shop, accepted, open_shop

ALL = list(outbox.SHARDS)
NOWHERE = "http://127.0.0.1:1024/"


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings.model_copy(update={"database_max_conns": 10}))
    await database.open()
    yield database
    await database.close()


async def drain(fanout: FanOut, shards: list[int] | None = None) -> list[Dispatched]:
    """Fan out until nothing is left; return what goes out at once."""
    return [one async for batch in fanout.drain(shards or ALL) for one in batch]


async def planned(conn: Conn) -> list[tuple[str, UUID]]:
    """The deliveries as (event, endpoint), in their order."""
    rows = await conn.execute("SELECT event_id::text, endpoint_id FROM live ORDER BY id")
    return [(row[0], row[1]) for row in await rows.fetchall()]


async def test_each_event_goes_once_to_each_endpoint_in_order(shop: Shop, db: Database, conn: Conn) -> None:
    first, second = await shop.endpoint(NOWHERE), await shop.endpoint(NOWHERE)
    sent = await shop.send(700)
    fans = [FanOut(db, ids=Uuid7()) for _ in range(3)]
    await asyncio.gather(*(drain(fan) for fan in fans))
    found = await planned(conn)
    for endpoint in (first, second):
        assert [event for event, one in found if one == endpoint] == sent
    rows = await conn.execute("SELECT count(*), min(matched), max(matched) FROM fanouts")
    assert await rows.fetchall() == [(700, 2, 2)]


async def test_an_event_for_nobody_is_proven_to_be_so(shop: Shop, db: Database, conn: Conn) -> None:
    (sent,) = await shop.send(1)
    assert await drain(FanOut(db, ids=Uuid7())) == []
    rows = await conn.execute("SELECT event_id::text, matched FROM fanouts")
    assert await rows.fetchall() == [(sent, 0)]
    assert await outbox.shards_with_work(conn) == []


async def test_bells_may_ring_again_before_the_last_look_and_what_came_until_then_is_found(shop: Shop) -> None:
    looks: list[list[int]] = []

    async def let_ring(shards: Sequence[int]) -> None:
        looks.append(list(shards))
        if len(looks) == 1:
            await shop.send(1)

    await shop.endpoint(NOWHERE)
    await shop.send(2)
    fan = FanOut(shop.web.db, ids=Uuid7(), before_last_look=let_ring)
    assert len(await drain(fan)) == 3
    assert looks == [ALL, ALL]


async def test_while_each_ring_starts_a_drain_nothing_stays_though_nobody_else_looks(
    shop: Shop, db: Database, conn: Conn
) -> None:
    silent: set[int] = set()
    drains: list[asyncio.Task[list[Dispatched]]] = []
    chance = Random(8)

    async def let_ring(shards: Sequence[int]) -> None:
        await asyncio.sleep(chance.uniform(0, 0.003))
        silent.difference_update(shards)

    def ring(shard: int) -> None:
        if shard not in silent:
            silent.add(shard)
            drains.append(asyncio.create_task(drain(FanOut(db, ids=Uuid7(), before_last_look=let_ring))))

    async def produce() -> None:
        await asyncio.sleep(chance.uniform(0, 0.02))
        await shop.send(1)
        ring(shop.tenant_id.int & 15)

    await shop.endpoint(NOWHERE)
    for _ in range(60):
        await asyncio.gather(*(produce() for _ in range(4)))
        await asyncio.gather(*drains)
        assert await outbox.shards_with_work(conn) == []
    assert len(await planned(conn)) == 240


async def test_an_endpoint_made_before_an_event_was_accepted_gets_it(shop: Shop, db: Database, conn: Conn) -> None:
    fan = FanOut(db, ids=Uuid7())
    for _ in range(3):
        endpoint = await shop.endpoint(NOWHERE)
        (sent,) = await shop.send(1)
        await drain(fan)
        assert (sent, endpoint) in await planned(conn)


async def test_a_deleted_endpoint_gets_no_later_event(shop: Shop, db: Database, conn: Conn) -> None:
    fan = FanOut(db, ids=Uuid7())
    endpoint = await shop.endpoint(NOWHERE)
    await shop.send(1)
    await drain(fan)
    async with shop.web.db.transaction() as own:
        await endpoints.delete(own, shop.tenant_id, endpoint)
    await shop.send(1)
    await drain(fan)
    assert len(await planned(conn)) == 1


class Paused(FanOut):
    """Stands still between reading and committing, as a process does that lost its processor."""

    def __init__(self, db: Database) -> None:
        super().__init__(db, ids=Uuid7())
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def _fan_out(self, conn: Conn, head: Head) -> tuple[list[Dispatched], int, list[int]]:
        result = await super()._fan_out(conn, head)
        self.reached.set()
        await self.go_on.wait()
        return result


async def test_no_wake_up_is_lost_between_two_workers(shop: Shop, db: Database, conn: Conn) -> None:
    """Who finds a shard taken leaves at once, so whoever has it must look again after its commit."""
    paused = Paused(db)
    draining = asyncio.ensure_future(drain(paused))
    await paused.reached.wait()
    await shop.send(1)
    assert await drain(FanOut(db, ids=Uuid7())) == []
    assert await outbox.shards_with_work(conn) == [shop.tenant_id.int & 15]
    paused.go_on.set()
    await draining
    assert await outbox.shards_with_work(conn) == []


async def test_a_shard_that_another_drains_is_not_waited_for(
    shop: Shop, db: Database, settings: Settings, conn: Conn
) -> None:
    shard = shop.tenant_id.int & 15
    await shop.send(1)
    async with db.transaction() as holder:
        assert await outbox.lock_shards(holder, [shard]) == [shard]
        async with asyncio.timeout(2):
            assert await drain(FanOut(db, ids=Uuid7())) == []


async def poison(conn: Conn, *events: str) -> None:
    """Have Postgres refuse these events' fan-out, as a bug in matching would."""
    names = ", ".join(f"'{event}'" for event in events)
    check = f"ALTER TABLE fanouts ADD CONSTRAINT poison CHECK (event_id NOT IN ({names}))"
    await conn.execute(check.encode())


async def test_an_event_that_cannot_be_fanned_out_is_set_aside_and_the_others_go_on(
    shop: Shop, db: Database, conn: Conn
) -> None:
    await shop.endpoint(NOWHERE)
    sent = await shop.send(300)
    bad = {sent[7], sent[8], sent[222]}
    await poison(conn, *bad)
    async with asyncio.timeout(20):
        await drain(FanOut(db, ids=Uuid7()))
    assert [event for event, _ in await planned(conn)] == [event for event in sent if event not in bad]
    rows = await conn.execute("SELECT event_id::text, failed_reason FROM outbox")
    aside = dict(await rows.fetchall())
    assert set(aside) == bad
    assert all("poison" in reason for reason in aside.values())


async def test_two_workers_that_meet_one_bad_event_set_no_other_aside(shop: Shop, db: Database, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    for _ in range(6):
        sent = await shop.send(6)
        await conn.execute("ALTER TABLE fanouts DROP CONSTRAINT IF EXISTS poison")
        await poison(conn, sent[0])
        async with asyncio.timeout(20):
            await asyncio.gather(*(drain(FanOut(db, ids=Uuid7())) for _ in range(3)))
        rows = await conn.execute("DELETE FROM outbox RETURNING event_id::text")
        assert [row[0] for row in await rows.fetchall()] == [sent[0]]


async def test_a_bad_event_is_found_although_other_shards_stay_busy(shop: Shop, db: Database, conn: Conn) -> None:
    fan = FanOut(db, ids=Uuid7())
    sent = await shop.send(100)
    await poison(conn, sent[50])
    other = UUID(int=shop.tenant_id.int ^ 1)
    finding = asyncio.ensure_future(drain(fan, [shop.tenant_id.int & 15]))
    async with asyncio.timeout(20):
        while not finding.done():
            accepted(await shop.accept(NewEvent(other, b"{}", "x")))
            await drain(fan, [other.int & 15])
    rows = await conn.execute("SELECT event_id::text FROM outbox WHERE failed_reason IS NOT NULL")
    assert [row[0] for row in await rows.fetchall()] == [sent[50]]


async def test_a_big_fan_out_is_stored_in_bounded_transactions(shop: Shop, db: Database, conn: Conn) -> None:
    for _ in range(60):
        await shop.endpoint(NOWHERE)
    sent = await shop.send(200)
    await drain(FanOut(db, ids=Uuid7(), window=50))
    rows = await conn.execute("SELECT count(*), count(DISTINCT event_id) FROM live GROUP BY xmin::text")
    batches = await rows.fetchall()
    assert sum(row[0] for row in batches) == 200 * 60
    assert max(row[0] for row in batches) <= 5000
    rows = await conn.execute("SELECT count(*) FROM live WHERE fence IS NOT NULL")
    assert await rows.fetchall() == [(50,)]
    assert len(sent) == 200


async def test_an_event_that_somebody_puts_back_by_hand_is_fanned_out(shop: Shop, db: Database, conn: Conn) -> None:
    """It stands before the hint by now: looked for from there, the shard would seem to have work and none for ever."""
    await shop.endpoint(NOWHERE)
    fan = FanOut(db, ids=Uuid7())
    await shop.send(1)
    await conn.execute("UPDATE outbox SET failed_reason = 'a reason'")
    for _ in range(3):
        await shop.send(1)
        await drain(fan)
    await conn.execute("UPDATE outbox SET failed_reason = NULL")
    async with asyncio.timeout(5):
        await drain(fan)
    assert await outbox.shards_with_work(conn) == []
    assert len(await planned(conn)) == 4


async def test_filters_decide_on_payload_headers_and_type(shop: Shop, db: Database, conn: Conn) -> None:
    big = await shop.endpoint(NOWHERE, filter='{"path": "$.n", "gte": 10}')
    german = await shop.endpoint(NOWHERE, filter='{"header": "x-country", "eq": "DE"}')
    typed = await shop.endpoint(NOWHERE, filter='{"not": {"field": "type", "endsWith": ".test"}}', fifo=True)
    everything = await shop.endpoint(NOWHERE)
    sent = accepted(
        await shop.accept(
            shop.event(b'{"n": 9}', "order.test", headers={"X-Country": "DE"}),
            shop.event(b'{"n": 10}', "order.paid", headers={"X-Country": "FR"}),
            shop.event(b"not JSON", "order.test", content_type="text/plain"),
        )
    )
    await drain(FanOut(db, ids=Uuid7()))
    found = await planned(conn)
    first, second, third = ({one for event, one in found if event == str(receipt.id)} for receipt in sent)
    assert first == {german, everything}
    assert second == {big, typed, everything}
    assert third == {everything}
    rows = await conn.execute("SELECT matched FROM fanouts ORDER BY event_id")
    assert await rows.fetchall() == [(2,), (3,), (1,)]


async def test_a_changed_filter_holds_for_the_next_event(shop: Shop, db: Database, conn: Conn) -> None:
    fan = FanOut(db, ids=Uuid7())
    endpoint = await shop.endpoint(NOWHERE, filter='{"path": "$.n", "eq": 1}')
    for filter, expected in (('{"path": "$.n", "eq": 0}', 1), (None, 2), ('{"path": "$.n", "gt": 0}', 2)):
        async with shop.web.db.transaction() as own:
            change = EndpointChange(filter=filter)
            await endpoints.update(own, shop.tenant_id, endpoint, change, vault=shop.web.vault, guard=shop.web.guard)
        await shop.send(1)
        await drain(fan)
        assert len(await planned(conn)) == expected


async def test_an_unusable_filter_lets_nothing_through_and_stops_nobody(
    shop: Shop, db: Database, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    costly = await shop.endpoint(NOWHERE, filter='{"path": "$..*", "eq": 1}')
    unknown = await shop.endpoint(NOWHERE)
    fine = await shop.endpoint(NOWHERE, filter='{"path": "$[0]", "eq": 0}')
    await conn.execute("""UPDATE endpoints SET filter = '{"newer": "release"}' WHERE id = %s""", (unknown,))
    (receipt,) = accepted(await shop.accept(shop.event(json.dumps([0] * 20_000).encode())))
    await drain(FanOut(db, ids=Uuid7()))
    assert await planned(conn) == [(str(receipt.id), fine)]
    assert "2 endpoints could not be evaluated" in caplog.text
    assert str(costly) in caplog.text


async def test_an_event_for_thousands_of_endpoints_becomes_a_delivery_for_each(
    shop: Shop, db: Database, conn: Conn
) -> None:
    await shop.endpoint(NOWHERE, filter='{"path": "$.n", "eq": 0}')
    await conn.execute(
        """INSERT INTO endpoints SELECT (jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid()))).*
           FROM endpoints e, generate_series(1, 1999)"""
    )
    await conn.execute(
        """INSERT INTO lanes (endpoint_id, key, tenant_id, tier) SELECT id, '', tenant_id, 1 FROM endpoints
           ON CONFLICT DO NOTHING"""
    )
    await conn.execute("UPDATE tenants SET config_version = config_version + 1")
    (sent,) = await shop.send(1)
    at_once = await drain(FanOut(db, ids=Uuid7(), window=500))
    assert len(at_once) == 500
    rows = await conn.execute("SELECT count(*), count(DISTINCT endpoint_id) FROM live WHERE event_id = %s", (sent,))
    assert await rows.fetchall() == [(2_000, 2_000)]
