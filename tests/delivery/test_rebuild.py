"""Redis is rebuilt from Postgres: all that waits is handed out again, and what is under way is left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from relay.broker import worker_broker
from relay.db import Conn
from relay.delivery import lanes, rebuild
from relay.delivery.live import claim, hints_for
from relay.delivery.rebuild import Rebuilt
from relay.queue import QUEUES, Hint, Queue
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, handed_out, rows
from tests.shop import Shop, open_shop


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[Queue]:
    queue = Queue(settings.redis_url, pool_size=8, timeout_s=2.0)
    yield queue
    await queue.close()


async def test_what_was_handed_out_and_not_taken_up_waits_again(shop: Shop, queue: Queue, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    await shop.send(5)
    dispatched = await fan_out(shop)
    await queue.enqueue(hints_for(dispatched))
    await claim(conn, dispatched[:2], worker=1)
    done = await rebuild.rebuild(shop.web.db, queue)
    assert done == Rebuilt(done.messages, deliveries=3, lanes=0, rung=0, shards=0)
    assert done.messages >= 1
    assert await queue.length("deliver_normal") == 0
    found = await rows(conn, "SELECT owner, fence IS NULL, due_at <= now(), count(*) FROM live GROUP BY 1, 2, 3")
    assert sorted(found, key=str) == [(1, False, None, 2), (None, True, True, 3)]
    assert await claim(conn, dispatched, worker=2) == []
    assert len(await handed_out(conn)) == 1


async def test_lanes_that_nobody_holds_are_ready_and_the_held_are_left(shop: Shop, queue: Queue, conn: Conn) -> None:
    for _ in range(2):
        await shop.endpoint(NOWHERE)
    await shop.send(1)
    await fan_out(shop, window=0)
    (lost,) = await handed_out(conn)
    (held,) = await handed_out(conn)
    assert await lanes.hold(conn, [held], worker=1)
    await queue.enqueue(lanes.hints_for([lost, held]))
    done = await rebuild.rebuild(shop.web.db, queue)
    assert (done.lanes, done.rung) == (1, 0)
    assert done.messages >= 2
    assert await queue.length("lane") == 0
    assert not await lanes.hold(conn, [lost], worker=2)
    (again,) = await handed_out(conn)
    assert again.endpoint_id == lost.endpoint_id
    assert await rows(conn, "SELECT fence FROM lanes WHERE owner = 1") == [(held.fence,)]


async def test_lanes_that_sleep_or_are_gone_wake_up_at_their_earliest_delivery(
    shop: Shop, queue: Queue, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "_BATCH", 2)
    for _ in range(5):
        await shop.endpoint(NOWHERE)
    await shop.send(3)
    await fan_out(shop, window=0)
    await rows(conn, "UPDATE live SET due_at = now() + (random() + 1) * interval '1 hour' RETURNING 1")
    await rows(conn, "UPDATE lanes SET ready_at = NULL RETURNING 1")
    await rows(conn, "DELETE FROM lanes WHERE endpoint_id = (SELECT endpoint_id FROM lanes LIMIT 1) RETURNING 1")
    assert (await rebuild.rebuild(shop.web.db, queue)).rung == 5
    assert await rows(
        conn,
        """SELECT count(*) FROM lanes l WHERE ready_at = (
               SELECT min(due_at) FROM live WHERE endpoint_id = l.endpoint_id AND lane = l.key)""",
    ) == [(5,)]
    assert (await rebuild.rebuild(shop.web.db, queue)).rung == 0


async def test_a_lane_that_is_awake_already_is_not_put_off(shop: Shop, queue: Queue, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    await shop.send(1)
    await fan_out(shop, window=0)
    await rows(conn, "UPDATE live SET due_at = now() + interval '1 hour' RETURNING 1")
    assert (await rebuild.rebuild(shop.web.db, queue)).rung == 0
    assert await rows(conn, "SELECT ready_at <= now() FROM lanes") == [(True,)]


async def test_shards_with_work_are_rung_whatever_the_bells_say(shop: Shop, queue: Queue) -> None:
    await shop.send(1)
    await shop.web.queue.ring([3])
    await queue._redis.delete(f"dramatiq:{QUEUES['fan_out']}", f"dramatiq:{QUEUES['fan_out']}.msgs")
    assert (await rebuild.rebuild(shop.web.db, queue)).shards == 1
    assert await queue.length("fan_out") == 1


async def test_only_relays_own_keys_go(settings: Settings, shop: Shop, queue: Queue) -> None:
    client: Any = redis.Redis.from_url(settings.redis_url, decode_responses=True)
    broker: Any = worker_broker(settings.redis_url, pool_size=8, middleware=[])
    others = ["mine", "dramatiq:reports", "dramatiq:__acks__.x.reports", "relay:breaker:x"]
    for key in others:
        client.set(key, "1")
    await queue.enqueue([Hint("lane", {"endpoints": ["x"], "keys": [""], "fences": [n]}) for n in range(5)])
    await queue.ring([1, 2])
    consumer = broker.consume(QUEUES["lane"], prefetch=2, timeout=100)
    message = next(consumer)
    broker.do_nack(QUEUES["lane"], message.options["redis_message_id"])
    await queue.clear()
    assert {key for key in client.keys("*") if "__heartbeats__" not in key} == set(others)
    for cached in (message, next(consumer)):
        consumer.ack(cached)
    broker.close()
    client.close()


async def test_it_is_safe_while_workers_go_on(shop: Shop, queue: Queue, conn: Conn) -> None:
    """A fan-out that commits after the messages were thrown away has its own; what it handed out is left to them."""
    await shop.endpoint(NOWHERE)
    await shop.send(2)

    dispatched = await fan_out(shop)
    await rows(conn, "UPDATE live SET sent_at = now() + interval '1 s' RETURNING 1")
    done = await rebuild.rebuild(shop.web.db, queue)
    assert done.deliveries == 0
    assert len(await claim(conn, dispatched, worker=1)) == 2
